//! The bodies of the kernels on real threads under ThreadSanitizer: race.cpp says what that shows.

use std::process::{Command, Output};

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

#[test]
fn no_phase_races_and_a_missing_barrier_would_be_seen() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("race");
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    let compile = |source: &str, flags: &[&str]| {
        let options = ["-std=c++20", "-O1", "-fsanitize=thread", "-pthread"];
        Command::new(&compiler).args(options).args(flags).arg(source).arg("-o").arg(&program).output().unwrap()
    };
    // Not every compiler brings the sanitizer, and not every kernel's address space suits it.
    let empty = folder.path().join("empty.cpp");
    std::fs::write(&empty, "int main() {}").unwrap();
    let usable = compile(empty.to_str().unwrap(), &[]).status.success()
        && Command::new(&program).status().is_ok_and(|status| status.success());
    if !usable {
        println!("ThreadSanitizer: skipped, {compiler} has none that runs here");
        return;
    }
    let source = crate::files::root().join("tests/kernels/race.cpp");
    let compiled = compile(source.to_str().unwrap(), &["-Wall", "-Wextra", "-Werror"]);
    assert!(compiled.status.success(), "{}", said(&compiled));

    let sound = Command::new(&program).output().unwrap();
    assert!(sound.status.success() && said(&sound).trim() == "no race", "{}", said(&sound));
    let broken = Command::new(&program).arg("broken").output().unwrap();
    assert!(!broken.status.success() && said(&broken).contains("data race"), "{}", said(&broken));
}
