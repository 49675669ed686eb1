//! What a user reads where the NVIDIA driver is older than libtorch's CUDA: a library that stands in for the driver says that it is.

use crate::child;
use crate::files::binary;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

/// The driver's library as the CUDA runtime first asks it: of CUDA 12.4.
const OLD: &str = "int cuDriverGetVersion(int* v) { *v = 12040; return 0; }\n";
const REASON: &str = "the NVIDIA driver is too old: it is for CUDA 12.4 and older, and this libtorch needs CUDA 13.";

fn run(at: &Path, line: &str) -> Output {
    let mut command = Command::new(binary());
    command.args(line.split(' ')).current_dir(at).env("OMP_NUM_THREADS", "1").env("LD_LIBRARY_PATH", at);
    command.env_remove("CUDA_VISIBLE_DEVICES");
    child::within(Duration::from_secs(120), &mut command).unwrap_or_else(|| panic!("{line}: hangs"))
}

fn texts(out: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&out.stdout), text(&out.stderr))
}

#[test]
fn a_driver_that_is_too_old_is_one_warning_with_both_versions() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    std::fs::write(at.join("old.c"), OLD).unwrap();
    let build = ["-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", "libcuda.so.1", "old.c"];
    assert!(Command::new("cc").args(build).current_dir(at).status().unwrap().success());

    let (version, said) = texts(&run(at, "--version"));
    assert_eq!(said, "");
    if version.contains("CUDA build: no") {
        println!("CUDA: skipped, this libtorch has none");
        return;
    }
    assert!(version.contains(&format!("CUDA devices: 0 ({REASON}")), "{version}");

    let yaml = "data: {source: strokes, limit: 8}\nmodel: {kind: mlp, hidden: [4], latent: 2}\ntrain: {epochs: 1}\n";
    std::fs::write(at.join("a.yaml"), yaml).unwrap();
    let scored = "score -m run -d strokes --limit 2 -o s.h5 -q";
    let of_drivers =
        |said: &str| said.lines().filter(|line| line.contains("driver")).map(str::to_owned).collect::<Vec<_>>();
    for line in ["train -c a.yaml -o run -q", scored] {
        let out = run(at, line);
        let (_, said) = texts(&out);
        assert!(out.status.success(), "{line}: {said}");
        let [told] = &of_drivers(&said)[..] else { panic!("{line}: {said}") };
        assert!(told.starts_with("warning: ") && told.contains(REASON), "{line}: {said}");
        assert!(told.ends_with("; computing on the CPU"), "{line}: {said}");
    }

    // Who asks for a device hears why there is none; who asks for the CPU hears nothing.
    let out = run(at, &format!("{} --device cuda", scored.replace("s.h5", "t.h5")));
    let (_, said) = texts(&out);
    assert_eq!((out.status.code(), said.lines().count()), (Some(2), 1), "{said}");
    assert!(said.contains("found none (") && said.contains(REASON), "{said}");
    let out = run(at, &format!("{} --device cpu", scored.replace("s.h5", "u.h5")));
    let (_, said) = texts(&out);
    assert!(out.status.success() && of_drivers(&said).is_empty(), "{said}");
}
