//! Interrupted runs: dropped, killed, out of space.

use super::{CHECK, attacks, eps, header, python, scores};
use pullback::store::*;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

fn partial(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}.partial", path.display()))
}

fn open(path: &Path, header: &Header) -> Writer {
    Writer::create(path, header, 12, &[eps()], Overwrite::No).unwrap()
}

#[test]
fn an_unfinished_run_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let header = header(FileKind::Attack);
    let path = folder.path().join("attack.h5");
    let mut writer = open(&path, &header);
    writer.put(&attacks(&[3, 4, 5])).unwrap();
    writer.put(&attacks(&[9])).unwrap();
    drop(writer);
    assert!(!path.exists() && partial(&path).exists());
    let error = Reader::open(&partial(&path)).unwrap_err();
    assert!(error.to_string().contains("4 of 12 samples"), "{error}");
    assert_eq!(error.exit_code(), 2);

    let mut writer = open(&path, &header);
    assert_eq!(*writer.start(), Start::Resumed { done: 4 });
    assert_eq!(writer.done(), [3, 4, 5, 9]);
    assert_eq!(writer.remaining(), [0, 1, 2, 6, 7, 8, 10, 11]);
    // A row is stored once; a block of other columns does not fit.
    assert!(writer.put(&attacks(&[2, 3])).is_err());
    let mut other = attacks(&[0]);
    other.columns.pop();
    assert!(writer.put(&other).is_err());
    // Not complete: no result, and what there is stays.
    assert_eq!(writer.finish().unwrap_err().exit_code(), 1);
    assert!(!path.exists());

    // Another device of the same sort is the same run.
    let mut writer = open(&path, &header);
    writer.put(&attacks(&[11, 10, 8, 7, 6, 2, 1, 0])).unwrap();
    writer.finish().unwrap();
    assert!(!partial(&path).exists());
    assert_eq!(python(CHECK, &[&path]).unwrap(), "ok 12\n");
}

#[test]
fn a_partial_file_of_no_use_is_replaced_and_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let own = header(FileKind::Attack);
    let path = folder.path().join("attack.h5");
    let begun = || {
        let _ = std::fs::remove_file(partial(&path));
        let mut writer = open(&path, &own);
        writer.put(&attacks(&[0, 1, 2])).unwrap();
    };
    let why = |writer: Writer| match writer.start() {
        Start::Replaced { why } => why.clone(),
        other => panic!("{other:?}"),
    };

    type Change = fn(&mut Header);
    let changes: [(&str, Change); 9] = [
        ("config", |h| h.config.push_str("top: 3\n")),
        ("model_sha256", |h| h.model_sha256 = "0".repeat(64)),
        ("dataset", |h| h.dataset = "mnist".into()),
        ("split", |h| h.split = "train".into()),
        ("precision", |h| h.precision = "f64".into()),
        ("seed", |h| h.seed = 0),
        ("metric", |h| h.metric = None),
        ("device", |h| h.device = "cuda:0".into()),
        ("kind", |h| h.kind = FileKind::Scores),
    ];
    for (name, change) in changes {
        begun();
        let mut other = own.clone();
        change(&mut other);
        let why = why(open(&path, &other));
        assert!(why.contains(name), "{name}: {why}");
    }
    begun();
    let fewer = Writer::create(&path, &own, 11, &[eps()], Overwrite::No).unwrap();
    assert!(why(fewer).contains("samples"));
    begun();
    let other_eps = Column { values: Values::F64(vec![1.0, 2.0, 3.0]), ..eps() };
    assert!(why(Writer::create(&path, &own, 12, &[other_eps], Overwrite::No).unwrap()).contains("/eps"));
    begun();
    assert!(why(Writer::create(&path, &own, 12, &[], Overwrite::No).unwrap()).contains("/eps"));

    // Cut short at every kilobyte, with a hole, empty, not HDF5: never an error, never a row of a cut file believed.
    begun();
    let good = std::fs::read(partial(&path)).unwrap();
    for start in (0..good.len()).step_by(256) {
        let mut holed = good.clone();
        let end = (start + 256).min(good.len());
        holed[start..end].fill(0);
        std::fs::write(partial(&path), &holed).unwrap();
        let _ = open(&path, &own);
    }
    for length in (8..good.len()).step_by(1024) {
        std::fs::write(partial(&path), &good[..length]).unwrap();
        let writer = open(&path, &own);
        assert!(matches!(writer.start(), Start::Replaced { .. }), "{length}: {:?}", writer.start());
        assert!(writer.done().is_empty());
    }
    std::fs::write(partial(&path), b"something else").unwrap();
    assert!(why(open(&path, &own)).contains("damaged"));
    // Begun, but without a row.
    assert!(why(open(&path, &own)).contains("no finished sample"));
}

/// Not a test of its own: the process that the next test kills.
#[test]
#[ignore = "run by the tests beside it"]
fn child_writes() {
    let Some(path) = std::env::var_os("PULLBACK_TEST_STORE").map(PathBuf::from) else {
        return;
    };
    let mut writer = Writer::create(&path, &header(FileKind::Scores), 400, &[], Overwrite::No).unwrap();
    // Backwards, so that neither end of the file is written first.
    let remaining: Vec<u64> = writer.remaining().into_iter().rev().collect();
    println!("\nbegun");
    for index in remaining.chunks(3) {
        if let Err(error) = writer.put(&scores(index)) {
            println!("exit code {}: {error}", error.exit_code());
            std::process::exit(3);
        }
    }
    writer.finish().unwrap();
}

fn child(path: &Path, wrapper: &[&str]) -> Command {
    let exe = std::env::current_exe().unwrap();
    let mut command = match wrapper {
        [program, args @ ..] => {
            let mut command = Command::new(program);
            command.args(args).arg(exe);
            command
        }
        [] => Command::new(exe),
    };
    command.args(["--exact", "store::resume::child_writes", "--ignored", "--nocapture", "--test-threads", "1"]);
    command.env("PULLBACK_TEST_STORE", path);
    command
}

#[test]
fn a_killed_run_loses_nothing_that_it_had_stored() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scores.h5");
    let mut stored = 0;
    let mut kills = 0;
    for round in 0u64.. {
        let mut process = child(&path, &[]).stdout(Stdio::piped()).spawn().unwrap();
        // Once it writes, strike at another moment each round.
        let output = BufReader::new(process.stdout.take().unwrap());
        assert!(output.lines().map_while(Result::ok).any(|line| line == "begun"));
        std::thread::sleep(Duration::from_micros(round * 37 % 61 * 500));
        process.kill().unwrap();
        process.wait().unwrap();
        if path.exists() {
            break;
        }
        kills += 1;
        // Never fewer rows than before.
        let writer = Writer::create(&path, &header(FileKind::Scores), 400, &[], Overwrite::No).unwrap();
        assert!(writer.done().len() >= stored, "{} rows after {stored}: {:?}", writer.done().len(), writer.start());
        stored = writer.done().len();
        drop(writer);
        if kills == 12 {
            assert!(child(&path, &[]).stdout(Stdio::null()).status().unwrap().success());
            break;
        }
    }
    println!("killed {kills} times, the last time with {stored} of 400 samples stored");
    assert!(kills > 0 && stored > 0);
    assert_eq!(python(CHECK, &[&path]).unwrap(), "ok 400\n");
    assert!(!partial(&path).exists());
}

#[test]
fn a_full_disk_is_an_error_and_leaves_what_fits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scores.h5");
    let mut writer = Writer::create(&path, &header(FileKind::Scores), 400, &[], Overwrite::No).unwrap();
    writer.put(&scores(&[0, 1])).unwrap();
    drop(writer);
    // No file may grow beyond 16 blocks of 512 or 1024 bytes: the system refuses the write, as a full disk does.
    let limited = ["bash", "-c", "trap '' XFSZ; ulimit -f 16; exec \"$@\"", "limited"];
    let output = child(&path, &limited).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("exit code 1") && text.contains("File too large"), "{text}");
    assert!(!path.exists());
    // With room again, it goes on.
    assert!(child(&path, &[]).stdout(Stdio::null()).status().unwrap().success());
    assert_eq!(python(CHECK, &[&path]).unwrap(), "ok 400\n");
}
