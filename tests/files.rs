//! Where the tests find what is not compiled into them: paths of the build, unless the environment says that the
//! executable was carried elsewhere (`make gpu-bundle`).

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

fn named(variable: &str) -> Option<OsString> {
    std::env::var_os(variable).filter(|value| !value.is_empty())
}

/// The file of a `sweep` of one small model.
pub const ONE_MODEL: &str = "\
beta: [1]
mixup: [0]
device: cpu
workers: 1
data: {source: strokes, limit: 32, valid: 0}
model: {kind: mlp, hidden: [12], latent: 3}
train: {epochs: 1, batch: 16}
samples: 8
score: {metrics: [stochastic], precision: f64}
attack: {attacks: [{kind: random}], eps: [1], precision: f64}
correlate: {resamples: 100}
";

/// The checkout, or what stands in for it: PULLBACK_TESTS_ROOT.
pub fn root() -> PathBuf {
    named("PULLBACK_TESTS_ROOT").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into()).into()
}

/// The program: PULLBACK_BINARY, or what cargo built beside the tests.
pub fn binary() -> PathBuf {
    named("PULLBACK_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_pullback").into()).into()
}

/// The program, on the CPU whatever `auto` would find: what a test asks of its output and its bytes is the CPU's, and a CUDA context a
/// run would cost seconds. Tests of a device ask for [`binary`].
pub fn program() -> Command {
    let mut command = Command::new(binary());
    on_cpu(&mut command);
    command
}

/// Hides CUDA devices from a command that starts the program.
pub fn on_cpu(command: &mut Command) -> &mut Command {
    command.env("CUDA_VISIBLE_DEVICES", "")
}

/// An interpreter with numpy and h5py: PULLBACK_PYTHON, or the one that `make test` sets up.
pub fn interpreter() -> PathBuf {
    named("PULLBACK_PYTHON").map_or_else(|| root().join(".venv/bin/python"), PathBuf::from)
}
