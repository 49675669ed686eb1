//! The first minute of a stranger: what the machine lacks is said before anything is fetched.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

/// A program of a few lines on a PATH of its own.
fn stand_in(folder: &Path, name: &str, script: &str) {
    let path = folder.join(name);
    std::fs::write(&path, format!("#!/bin/bash\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// `make setup` in a checkout that has nothing yet, with these programs before all others, or in their place.
fn make(stand_ins: &[(&str, &str)], without: &[&str]) -> (Output, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let (checkout, bin) = (folder.path().join("checkout"), folder.path().join("bin"));
    for made in [&checkout.join(".ci"), &bin] {
        std::fs::create_dir_all(made).unwrap();
    }
    let root = crate::files::root();
    for file in ["Makefile", "Cargo.toml", ".ci/preflight"] {
        std::fs::copy(root.join(file), checkout.join(file)).unwrap();
    }
    // What the Makefile itself uses, and nothing else.
    for tool in [
        "bash", "sh", "env", "make", "awk", "sed", "sort", "head", "cut", "cksum", "mkdir", "touch", "ln", "rm",
        "dirname",
    ] {
        if !without.contains(&tool) {
            stand_in(
                &bin,
                tool,
                &format!(
                    "exec /usr/bin/env -S PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin {tool} \"$@\""
                ),
            );
        }
    }
    // bash and make must hand the PATH on as it is.
    for shell in ["bash", "sh", "make", "env"] {
        let real = ["/usr/bin", "/bin"].map(|at| format!("{at}/{shell}"));
        let real = real.iter().find(|path| Path::new(path).exists()).unwrap();
        let _ = std::fs::remove_file(bin.join(shell));
        std::os::unix::fs::symlink(real, bin.join(shell)).unwrap();
    }
    let good = [
        ("cargo", "echo 'cargo 1.95.0 (f2d3ce0bd 2026-03-21)'"),
        // Anything that would fetch leaves a trace.
        ("python3", "case \"$*\" in *version_info*) echo 3.11.2;; *ensurepip*) ;; *) touch ../fetched; exit 1;; esac"),
        ("c++", "echo 'c++ 12'"),
    ];
    for (name, script) in good.iter().chain(stand_ins) {
        if !without.contains(name) {
            stand_in(&bin, name, script);
        }
    }
    let out = Command::new(bin.join("make")).arg("setup").current_dir(&checkout).env_clear().env("PATH", &bin).output();
    (out.unwrap(), folder)
}

fn refused(stand_ins: &[(&str, &str)], without: &[&str], parts: &[&str]) {
    let (out, folder) = make(stand_ins, without);
    let said = String::from_utf8_lossy(&out.stderr);
    let line = said.lines().find(|l| l.starts_with("setup: ")).unwrap_or_else(|| panic!("{said}"));
    for part in parts {
        assert!(line.contains(part), "{line} lacks {part}");
    }
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(!folder.path().join("fetched").exists() && !folder.path().join("checkout/.venv").exists(), "{line}");
}

/// A bundle for a GPU machine has no set-up of its own.
fn is_checkout() -> bool {
    let there = crate::files::root().join(".ci/preflight").exists();
    if !there {
        println!("skipped: no checkout here");
    }
    there
}

#[test]
fn what_the_machine_lacks_is_said_before_anything_is_fetched() {
    if !is_checkout() {
        return;
    }
    refused(&[("cargo", "echo 'cargo 1.75.0 (1d8b05cdd 2023-11-20)'")], &[], &["cargo", "1.89", "1.75.0", "rustup"]);
    refused(&[], &["cargo"], &["cargo", "none on PATH", "rustup"]);
    let old = "case \"$*\" in *version_info*) echo 3.9.18;; *) touch ../fetched;; esac";
    refused(&[("python3", old)], &[], &["python3", "3.10", "3.9.18"]);
    let bare = "case \"$*\" in *version_info*) echo 3.12.3;; *ensurepip*) exit 1;; *) touch ../fetched;; esac";
    refused(&[("python3", bare)], &[], &["python3", "venv", "3.12.3 without", "apt install python3-venv"]);
    refused(&[], &["python3"], &["python3", "none on PATH"]);
    refused(&[], &["c++"], &["c++", "a C++ compiler", "apt install g++"]);
}

#[test]
fn a_half_made_environment_is_made_anew() {
    if !is_checkout() {
        return;
    }
    // `python3 -m venv` is interrupted: what it leaves does not count, and the next call begins again.
    let broken = "case \"$*\" in *version_info*) echo 3.11.2;; *ensurepip*) ;; *venv*) echo \"$*\" >> ../venv; \
                  /bin/mkdir -p .venv/bin; echo > .venv/bin/python; exit 1;; esac";
    let (out, folder) = make(&[("python3", broken)], &[]);
    assert!(!out.status.success());
    let again = Command::new(folder.path().join("bin/make"))
        .arg("setup")
        .current_dir(folder.path().join("checkout"))
        .env_clear()
        .env("PATH", folder.path().join("bin"))
        .output()
        .unwrap();
    assert!(!again.status.success());
    let made = std::fs::read_to_string(folder.path().join("venv")).unwrap();
    assert_eq!(made.lines().filter(|l| l.contains("venv --clear .venv")).count(), 2, "{made}");
    assert!(!folder.path().join("checkout/.venv/.made").exists());
}
