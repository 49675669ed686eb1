//! The run on a GPU machine (benches/gpu.py): its rows are stored as they come, its parts end in time, and a stop loses none.

use crate::child;
use crate::files::{interpreter, root};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Two parts in place of the real ones: a row, a child that never ends, another row; and a row.
const PARTS: &str = r#"
import argparse, pathlib, sys
sys.path.insert(0, sys.argv[1])
import gpu
from gpu_journal import row

class Setup:
    def __init__(self, options, folder, processes, journal):
        self.processes, self.journal, self.rehearse = processes, journal, False

def hangs(setup):
    yield row("quick", "pullback", [0.001, 0.002], 3.0, 2.0)
    setup.processes.run(["sh", "-c", "echo $$ > %s/child; sleep 600 & wait" % sys.argv[2]], 500)
    yield row("never", "pullback")

def fails(setup):
    yield row("short", "pullback", [0.001], 1.0, 2.0)
    raise RuntimeError("this part fails")

gpu.Setup, gpu.PARTS, gpu.versions = Setup, dict(hangs=hangs, fails=fails), lambda *_: dict(pullback="x", torch="y")
output = pathlib.Path(sys.argv[2])
sys.exit(gpu.run(argparse.Namespace(output=output, rehearse=False, only=["hangs", "fails"], limit=float(sys.argv[3]), binary="x")))
"#;

fn begin(folder: &Path, limit: &str) -> std::process::Child {
    let mut command = Command::new(interpreter());
    command.arg("-c").arg(PARTS).arg(root().join("benches")).arg(folder).arg(limit);
    command
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What is stored with this ending, where there is such a file.
fn stored(folder: &Path, ending: &str) -> String {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let file = files.into_iter().find(|path| path.extension().is_some_and(|e| e == ending));
    file.map_or_else(String::new, |file| fs::read_to_string(file).unwrap())
}

/// Whether the process is there, and no zombie.
fn lives(id: &str) -> bool {
    fs::read_to_string(format!("/proc/{}/stat", id.trim())).is_ok_and(|stat| !stat.contains(") Z "))
}

fn usable() -> bool {
    if interpreter().exists() {
        return true;
    }
    println!("skipped: {} is not there", interpreter().display());
    false
}

#[test]
fn a_part_ends_in_time_and_the_next_begins() {
    if !usable() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let out = child::wait(begin(folder.path(), "2.5"), Duration::from_secs(60)).unwrap();
    let (text, lines) = (stored(folder.path(), "txt"), stored(folder.path(), "jsonl"));
    // A target was missed and a part failed.
    assert_eq!(out.status.code(), Some(1), "{text}");
    for part in ["quick ", "CUT OFF: ended after", "short ", "MISSED", "FAILED: this part fails"] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    assert!(!text.contains("never"), "{text}");
    // What is stored is what is shown.
    let shown = String::from_utf8(out.stdout).unwrap();
    assert!(text.lines().all(|line| shown.contains(line)), "{shown}");
    let cases: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(cases[1]["seconds"], serde_json::json!([0.001, 0.002]));
    assert_eq!(cases.len(), 5, "{lines}");
    assert!(!lives(&fs::read_to_string(folder.path().join("child")).unwrap()));
}

#[test]
fn a_stop_loses_no_row_and_leaves_no_child() {
    if !usable() {
        return;
    }
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let folder = tempfile::tempdir().unwrap();
        let run = begin(folder.path(), "500");
        let start = Instant::now();
        while fs::read_to_string(folder.path().join("child")).unwrap_or_default().trim().is_empty() {
            assert!(start.elapsed() < Duration::from_secs(60), "no child");
            std::thread::sleep(Duration::from_millis(20));
        }
        // Stored before the part, let alone the run, has ended.
        assert!(stored(folder.path(), "txt").contains("quick ") && stored(folder.path(), "jsonl").contains("quick"));
        child::signal(run.id(), signal);
        let out = child::wait(run, Duration::from_secs(30)).unwrap();
        let text = stored(folder.path(), "txt");
        assert_eq!(out.status.code(), Some(code), "{text}");
        let told = format!("STOPPED by SIG{signal}: hangs, fails not finished");
        assert!(text.contains("quick ") && text.contains(&told), "{text}");
        // The system ends a process some time after its signal.
        let (child, start) = (fs::read_to_string(folder.path().join("child")).unwrap(), Instant::now());
        while lives(&child) {
            assert!(start.elapsed() < Duration::from_secs(30), "{signal}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A function of a file of tests, with all that follows it up to the next one.
struct Function {
    /// With its module: `kernels::step::name`.
    path: String,
    name: String,
    test: bool,
    text: String,
}

fn functions(module: &str, text: &str) -> Vec<Function> {
    let mut found: Vec<Function> = Vec::new();
    let mut test = false;
    for line in text.lines() {
        test |= line == "#[test]";
        if let Some(rest) = line.strip_prefix("pub ").unwrap_or(line).strip_prefix("fn ") {
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            found.push(Function { path: format!("{module}::{name}"), name, test, text: String::new() });
            test = false;
        }
        if let Some(last) = found.last_mut() {
            last.text.push_str(line);
            last.text.push('\n');
        }
    }
    found
}

/// Every file of tests below `folder`, as its functions.
fn files(folder: &Path) -> Vec<Vec<Function>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            let below = path.strip_prefix(root().join("tests")).unwrap().with_extension("");
            let module: Vec<&str> = below.iter().map(|part| part.to_str().unwrap()).collect();
            found.push(functions(&module.join("::"), &fs::read_to_string(&path).unwrap()));
        }
    }
    found
}

/// The tests of a file that ask for a device, by themselves or by another function of the file.
fn on_devices(file: &[Function]) -> Vec<&Function> {
    let calls = |text: &str, name: &str| {
        let begins = |at: usize| !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        text.match_indices(&format!("{name}(")).any(|(at, _)| begins(at))
    };
    let mut asking: BTreeSet<&str> = ["on_each_device", "devices", "device::cuda"].into();
    loop {
        let found = file.iter().filter(|f| asking.iter().any(|name| calls(&f.text, name)));
        let more: BTreeSet<&str> = found.map(|f| f.name.as_str()).chain(asking.iter().copied()).collect();
        if more.len() == asking.len() {
            break;
        }
        asking = more;
    }
    file.iter().filter(|f| f.test && asking.contains(f.name.as_str())).collect()
}

/// The strings that `name = ` gives in a file of Python's: a list on some lines, or one string.
fn given(text: &str, name: &str) -> Vec<String> {
    let after = text.split_once(&format!("\n{name} = ")).unwrap().1;
    let end = if after.starts_with('[') { ']' } else { '\n' };
    let listed = after.split(end).next().unwrap();
    listed.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_test_of_a_device_is_among_those_that_are_run_on_one() {
    let text = fs::read_to_string(root().join("benches/gpu_first.py")).unwrap();
    let (modules, sanitized) = (given(&text, "MODULES"), given(&text, "SANITIZED"));
    assert!(modules.len() > 10 && sanitized.len() == 1, "{modules:?} {sanitized:?}");
    let all: Vec<Vec<Function>> = files(&root().join("tests"));
    let tests = || all.iter().flatten().filter(|f| f.test);
    // The tests are filtered by these names, so that one that nobody has would run none.
    for module in &modules {
        assert!(tests().any(|f| f.path.contains(module)), "{module}: no test has this name");
    }
    assert!(tests().any(|f| f.path == sanitized[0]), "{sanitized:?}: no test has this name");
    let mut count = 0;
    for file in all.iter().filter(|file| file.first().is_none_or(|f| !f.path.starts_with("device::"))) {
        for test in on_devices(file) {
            assert!(modules.iter().any(|module| test.path.contains(module)), "{} runs on no device", test.path);
            count += 1;
        }
    }
    assert!(count > 40, "{count}: the reader of these files sees too few");
}
