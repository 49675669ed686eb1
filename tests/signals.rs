//! Stopping the program: soon, wherever it is, and without losing what is finished.

use crate::child;
use crate::files::{binary, on_cpu};
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The program with signals as a terminal has them, whatever the test's own parent ignores.
fn begun(folder: &Path, args: &str, ignoring: &str) -> Child {
    let mut command = Command::new("env");
    command.arg("--default-signal=INT,TERM,HUP,USR1,USR2");
    if !ignoring.is_empty() {
        command.arg(format!("--ignore-signal={ignoring}"));
    }
    on_cpu(&mut command).arg(binary()).args(args.split_whitespace()).current_dir(folder).env("OMP_NUM_THREADS", "1");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// A folder with a model, `run`.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let config = "data: {source: strokes, limit: 32, valid: 0}\nmodel: {kind: conv, channels: [16, 32], latent: 24}\n\
                  train: {epochs: 1, batch: 16}\n";
    std::fs::write(folder.path().join("a.yaml"), config).unwrap();
    let mut trained = begun(folder.path(), "train -c a.yaml -o run -q", "");
    assert!(trained.wait().unwrap().success());
    folder
}

/// Minutes of work.
const LONG: &str = "score -m run -d strokes --limit 1000000 --metric output --top 3 -o long.h5";

fn wait_for(path: &Path, child: &mut Child) {
    let start = Instant::now();
    while !path.exists() {
        assert!(child.try_wait().unwrap().is_none() && start.elapsed() < Duration::from_secs(60), "{}", path.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until a process catches TERM: before that a signal ends it as it ends any other.
fn wait_for_handlers(child: &mut Child) {
    let start = Instant::now();
    let catches = |status: String| -> Option<bool> {
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?.trim().to_owned();
        Some(u64::from_str_radix(&mask, 16).ok()? & (1 << 14) != 0)
    };
    let path = format!("/proc/{}/status", child.id());
    while std::fs::read_to_string(&path).ok().and_then(catches) != Some(true) {
        assert!(child.try_wait().unwrap().is_none() && start.elapsed() < Duration::from_secs(60), "no handlers");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// (exit code, seconds after the signal, what stood on stderr).
fn ended(mut child: Child, since: Instant) -> (Option<i32>, f64, String) {
    let mut said = String::new();
    let status = child.wait().unwrap();
    let took = since.elapsed().as_secs_f64();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (status.code(), took, said)
}

#[test]
fn every_stopping_signal_stops_soon_and_keeps_what_is_finished() {
    let folder = folder();
    let partial = folder.path().join("long.h5.partial");
    let mut done = 0;
    for (n, signal) in ["TERM", "INT", "HUP", "USR1", "USR2"].into_iter().enumerate() {
        let mut child = begun(folder.path(), LONG, "");
        wait_for(&partial, &mut child);
        wait_for_handlers(&mut child);
        // The first one has nothing to go on from, so it is given time to store something.
        std::thread::sleep(Duration::from_millis(if n == 0 { 2500 } else { 700 + 150 * n as u64 }));
        let since = Instant::now();
        child::signal(child.id(), signal);
        let (code, took, said) = ended(child, since);
        // What schedulers send says: run it again.
        let wanted = if matches!(signal, "INT" | "HUP") { 1 } else { 75 };
        assert_eq!(code, Some(wanted), "{signal}: {said}");
        assert!(took < 2.0, "{signal}: {took} s");
        assert!(said.trim_end().ends_with("interrupted; what was finished is kept"), "{signal}: {said}");
        // Each goes on after what the one before had finished.
        let resumed =
            said.lines().find_map(|l| l.split("goes on after ").nth(1)?.split(' ').next()?.parse::<u64>().ok());
        if n > 0 {
            assert!(resumed.is_some_and(|now| now >= done), "{signal}: {said}");
            done = resumed.unwrap();
        }
    }
    assert!(done > 0);
}

/// Commands beside `score`, each with minutes of work: the line, and what exists once it works.
const OTHERS: [(&str, &str, &str); 3] = [
    ("TERM", "train -c a.yaml --set train.epochs=100000 -o long", "long/history.csv"),
    ("USR1", "attack -m run -d strokes --attack pgd --steps 400 --eps 1 -o a.h5", "a.h5.partial"),
    ("USR2", "sweep -c study.yaml -o study", "study/cells/1-0-0/history.csv"),
];

#[test]
fn every_command_that_schedulers_stop_says_that_it_goes_on_later() {
    let folder = folder();
    let at = folder.path();
    let config = std::fs::read_to_string(at.join("a.yaml")).unwrap().replace("epochs: 1", "epochs: 100000");
    std::fs::write(at.join("study.yaml"), format!("{config}beta: [1]\nmixup: [0]\n")).unwrap();
    for (signal, line, sign) in OTHERS {
        let mut child = begun(at, line, "");
        wait_for(&at.join(sign), &mut child);
        wait_for_handlers(&mut child);
        let since = Instant::now();
        child::signal(child.id(), signal);
        let (code, took, said) = ended(child, since);
        assert_eq!(code, Some(75), "{line}: {said}");
        assert!(took < 2.0, "{line}: {took} s");
        assert!(said.trim_end().ends_with("interrupted; what was finished is kept"), "{line}: {said}");
    }
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    let folder = folder();
    for pause in [1, 20, 20, 50] {
        let _ = std::fs::remove_file(folder.path().join("long.h5.partial"));
        let mut child = begun(folder.path(), LONG, "");
        wait_for(&folder.path().join("long.h5.partial"), &mut child);
        std::thread::sleep(Duration::from_millis(300));
        child::signal(child.id(), "INT");
        std::thread::sleep(Duration::from_millis(pause));
        let since = Instant::now();
        child::signal(child.id(), "INT");
        let (code, took, said) = ended(child, since);
        // Not by a fault, and without a word from libtorch's inside.
        assert_eq!(code, Some(1), "{pause} ms: {said}");
        assert!(took < 1.0 && !said.contains("INTERNAL ASSERT") && !said.contains("terminate"), "{took}: {said}");
    }
}

#[test]
fn a_signal_that_is_ignored_from_outside_stays_ignored() {
    let folder = folder();
    let mut child = begun(folder.path(), LONG, "HUP,INT");
    wait_for(&folder.path().join("long.h5.partial"), &mut child);
    child::signal(child.id(), "HUP");
    child::signal(child.id(), "INT");
    std::thread::sleep(Duration::from_millis(2500));
    assert!(child.try_wait().unwrap().is_none(), "ended by a signal that nohup has it ignore");
    child::signal(child.id(), "TERM");
    assert_eq!(ended(child, Instant::now()).0, Some(75));
}

#[test]
fn progress_in_json_has_a_last_line() {
    let folder = folder();
    let mut child = begun(folder.path(), &format!("{LONG} --progress json"), "");
    wait_for(&folder.path().join("long.h5.partial"), &mut child);
    wait_for_handlers(&mut child);
    std::thread::sleep(Duration::from_millis(700));
    child::signal(child.id(), "USR1");
    let (code, _, said) = ended(child, Instant::now());
    assert_eq!(code, Some(75), "{said}");
    let lines: Vec<serde_json::Value> = said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let last = lines.iter().rfind(|line| line["task"] == "scoring").unwrap();
    assert_eq!((&last["phase"], &last["total"]), (&"stopped".into(), &10_000.into()), "{said}");
    // At most one line each quarter of a second, besides the first and the last.
    let elapsed = last["elapsed"].as_f64().unwrap();
    let count = lines.iter().filter(|line| line["task"] == "scoring").count();
    assert!(count as f64 <= elapsed / 0.25 + 2.0, "{count} lines in {elapsed} s");
}
