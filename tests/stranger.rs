//! A crate of somebody else's, outside of this folder, that takes this one as a library.
//!
//! It is built in the target folder of this crate, in the same profile, so that what both depend on is there already; this crate
//! itself is built again for it, native code included, once for each change: minutes, so `make test-stranger` runs it.

use crate::child::within;
use crate::files::root;
use pullback::{MetricKind, Spectra, score};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;
use tch::{Device, Kind, Tensor};

/// Scores and attacks a TorchScript VAE.
const MAIN: &str = r#"
use pullback::attack::{self, AttackSpec, Budget, Norm, Victim};
use pullback::tch::{Device, Kind, Tensor};
use pullback::{MetricKind, Spectra, score};

fn main() -> pullback::Result<()> {
    let path = std::env::args().nth(1).unwrap_or_default();
    let vae = pullback::open(path, Device::Cpu, Kind::Float)?;
    let images = Tensor::arange(24, (Kind::Float, Device::Cpu)).sin().abs().reshape([4, 1, 2, 3]);
    let mut spectra = Spectra::of(&vae, &images, MetricKind::Stochastic, 1)?;
    let found = spectra.find(&vae, &images, &[0, 1, 2, 3])?;
    for (score, values) in score::of(&found)? {
        println!("{score} {:e}", values.f_double_value(&[2])?);
    }
    let spectrum = found.into_spectrum();
    let victim = Victim::of(&vae, &images)?.along(&spectrum)?;
    let budget = Budget::new(Norm::L2, 0.25, None)?;
    for attacked in attack::run(&"spectral".parse::<AttackSpec>()?, &victim, &budget)? {
        println!("damage {:e}", attacked.damage.f_double_value(&[2])?);
    }
    Ok(())
}
"#;

/// What lets a program find libtorch when it is started by itself (README, "As a library").
const BUILD: &str = r#"
fn main() {
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", std::env::var("DEP_PULLBACK_LIBTORCH_LIB").unwrap());
}
"#;

/// Runs cargo in the stranger's folder, without the network and without what the cargo of this test has told the loader.
fn cargo(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).arg("--offline").current_dir(folder);
    command.env("CARGO_TARGET_DIR", root().join("target")).env_remove("LD_LIBRARY_PATH");
    command.env("LIBTORCH", root().join(".deps/libtorch")).env("CMAKE", root().join(".deps/cmake"));
    within(Duration::from_secs(3600), &mut command).expect("within an hour")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn succeeded(done: &Output) -> String {
    assert!(done.status.success(), "{}{}", text(&done.stdout), text(&done.stderr));
    text(&done.stdout)
}

/// `name value` lines.
fn numbers(said: &str) -> BTreeMap<String, f64> {
    let line = |line: &str| line.split_once(' ').map(|(name, value)| (name.to_owned(), value.parse().unwrap()));
    said.lines().filter_map(line).collect()
}

#[test]
#[ignore = "builds this crate again: make test-stranger"]
fn a_crate_of_others_builds_links_and_runs() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    std::fs::create_dir(folder.join("src")).unwrap();
    std::fs::write(folder.join("src/main.rs"), MAIN).unwrap();
    let ours = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let profile = &ours[ours.find("[profile.dev]").unwrap()..ours.find("[profile.release]").unwrap()];
    let own = "[profile.dev.package.pullback]\nopt-level = 0\n[profile.dev.package.pullback-results]\nopt-level = 0\n";
    let manifest = format!("[package]\nname = \"stranger\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n{profile}{own}");
    std::fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    std::fs::copy(root().join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    let path = root().display().to_string();
    succeeded(&cargo(folder, &["add", "--path", &path, "--no-default-features"]));

    // As it is: cargo finds libtorch for what it runs.
    let model = root().join("tests/models/flat.pt").display().to_string();
    let found = numbers(&succeeded(&cargo(folder, &["run", "--quiet", "--", &model])));

    // The same numbers as here.
    let vae = pullback::open(&model, Device::Cpu, Kind::Float).unwrap();
    let images = Tensor::arange(24, (Kind::Float, Device::Cpu)).sin().abs().reshape([4, 1, 2, 3]);
    let mut spectra = Spectra::of(&vae, &images, MetricKind::Stochastic, 1).unwrap();
    let scores = score::of(&spectra.find(&vae, &images, &[0, 1, 2, 3]).unwrap()).unwrap();
    assert_eq!(found.len(), scores.len() + 1, "{found:?}");
    for (score, values) in scores {
        let (theirs, ours) = (found[score.name()], values.double_value(&[2]));
        assert!((theirs - ours).abs() <= 1e-6 * ours.abs(), "{score}: {theirs}, not {ours}");
    }
    assert!(found["damage"] > 0.0 && found["damage"] < 10.0, "{found:?}");

    // With three lines of its own the program runs by itself.
    std::fs::write(folder.join("build.rs"), BUILD).unwrap();
    succeeded(&cargo(folder, &["build"]));
    let program = root().join("target/debug/stranger");
    let mut alone = Command::new(&program);
    let done = within(Duration::from_secs(120), alone.arg(&model).env_remove("LD_LIBRARY_PATH")).unwrap();
    assert_eq!(numbers(&succeeded(&done)), found);

    // Half of libtorch is registered by a library that no code names: it must be there all the same.
    let dynamic = succeeded(&Command::new("readelf").arg("-d").arg(&program).output().unwrap());
    let needed = |name: &str| dynamic.lines().any(|line| line.contains("NEEDED") && line.contains(name));
    let cuda = root().join(".deps/libtorch/lib/libtorch_cuda.so").exists();
    assert!(needed("[libtorch_cpu.so]"), "{dynamic}");
    assert_eq!(needed("[libtorch_cuda.so]"), cuda, "{dynamic}");
    // The kernels' own CUDA runtime is not shown to libtorch, which would bind to it.
    let symbols = Command::new("nm").args(["-D", "--defined-only"]).arg(&program).output().unwrap();
    let shown = succeeded(&symbols);
    assert!(!shown.lines().any(|line| line.contains(" cuda") || line.contains(" __cuda")), "{shown}");
}
