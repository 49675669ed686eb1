//! Nothing that this crate uses, for itself, its build or its tests, leads to libtorch or to the engine.

use crate::child::within;
use std::process::Command;
use std::time::Duration;

#[test]
fn no_dependency_leads_to_libtorch() {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["tree", "--package", "pullback-results", "--all-features", "--edges", "all", "--prefix", "none"]);
    command.args(["--format", "{p}", "--locked", "--offline"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    let done = within(Duration::from_secs(120), &mut command).expect("within two minutes");
    let (tree, said) = (String::from_utf8(done.stdout).unwrap(), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success() && tree.contains("hdf5-metno v"), "{said}");
    let engines =
        tree.lines().filter(|line| ["tch ", "torch-sys ", "pullback "].iter().any(|name| line.starts_with(name)));
    assert_eq!(engines.collect::<Vec<_>>(), Vec::<&str>::new());
}
