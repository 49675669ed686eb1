//! What is made of other results: a study of several runs, and parts that are joined.

use super::{Disk, command, desk, stderr, succeeds};
use crate::child;
use crate::files::ONE_MODEL;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// The lines of an error's output that are no warnings.
fn errors(said: &str) -> Vec<&str> {
    said.lines().filter(|line| !line.starts_with("warning: ")).collect()
}

#[test]
fn a_study_on_a_full_disk_is_an_error_in_one_line_and_goes_on_later() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    std::fs::write(at.join("study.yaml"), ONE_MODEL).unwrap();
    let line = "sweep -c study.yaml -o disk/o -q";
    // Full at the training, at its table, at the measured results.
    let mut full = 0;
    for kilobytes in [12, 300, 360, 430] {
        let Some(disk) = Disk::of(at, kilobytes) else {
            println!("skipped: this user may mount no file system");
            return;
        };
        let out = super::run(at, line);
        let said = stderr(&out);
        if out.status.success() {
            continue;
        }
        full += 1;
        assert_eq!(out.status.code(), Some(1), "{kilobytes} KB: {said}");
        let [error] = errors(&said)[..] else { panic!("{kilobytes} KB: {said}") };
        assert!(error.contains("No space left") && error.contains("disk/o"), "{kilobytes} KB: {error}");
        for name in ["sweep.h5", "report.html"] {
            assert!(!disk.0.join("o").join(name).exists(), "{kilobytes} KB: {name} of a study that is not done");
        }
        disk.grow();
        succeeds(at, line);
        for name in ["o/sweep.h5", "o/cells/1-0-0/scores.h5", "o/cells/1-0-0/attack.h5"] {
            pullback::store::Reader::open(&disk.0.join(name)).unwrap_or_else(|e| panic!("{kilobytes} KB: {e}"));
        }
    }
    assert!(full > 1, "only {full} were full");
}

#[test]
fn two_processes_do_not_join_parts_into_one_file() {
    let folder = desk();
    let at = folder.path();
    // So much that joining takes a while.
    for part in ["1/2", "2/2"] {
        succeeds(at, &format!("score -m run -d strokes --limit 1500 --top 3 --shard {part} -o {}.h5 -q", &part[..1]));
    }
    let line = "merge 1.h5 2.h5 -o m.h5";
    let (sign, done) = (at.join("m.h5.merging"), at.join("m.h5"));
    let start = Instant::now();
    // One that is stopped on its way, and holds its file: it writes there once it does.
    let begun = || std::fs::metadata(&sign).is_ok_and(|found| found.len() > 0);
    let mut first = loop {
        assert!(start.elapsed() < Duration::from_secs(60), "none was stopped on its way");
        let mut first = command(at, line).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while !begun() && first.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        if first.try_wait().unwrap().is_none() {
            child::signal(first.id(), "STOP");
            if begun() {
                break first;
            }
            first.kill().unwrap();
            first.wait().unwrap();
        }
        let _ = std::fs::remove_file(&done);
    };
    let second = super::run(at, line);
    let said = stderr(&second);
    let held = (second.status.code(), said.contains("m.h5.merging") && said.contains("in use"), done.exists());
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(held, (Some(2), true, false), "{said}");
    // Whoever was killed holds nothing any more.
    succeeds(at, line);
    assert_eq!(pullback::store::Reader::open(&done).unwrap().samples(), 1500);
}
