//! Interrupted runs: dropped, killed, out of space.

use super::{CHECK, attacks, eps, header, scores};
use crate::python::python;
use pullback_results::store::*;
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
    assert_eq!(*writer.start(), Resumption::Resumed { done: 4, damaged: 0 });
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
fn what_is_made_anew_goes_on_with_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let header = header(FileKind::Attack);
    let path = folder.path().join("attack.h5");
    for _ in 0..2 {
        // The second attempt finds what the first one left.
        Writer::anew(&path, &header, 12, &[eps()]).unwrap().put(&attacks(&[0, 1])).unwrap();
        assert!(!path.exists() && partial(&path).exists());
    }
    for _ in 0..2 {
        // The second one replaces a finished file.
        let mut writer = Writer::anew(&path, &header, 12, &[eps()]).unwrap();
        writer.put(&attacks(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])).unwrap();
        writer.finish().unwrap();
    }
    assert_eq!(python(CHECK, &[&path]).unwrap(), "ok 12\n");
}

#[test]
fn finished_rows_of_another_run_are_never_lost_without_force() {
    let folder = tempfile::tempdir().unwrap();
    let own = header(FileKind::Attack);
    let path = folder.path().join("attack.h5");
    let begun = || {
        let _ = std::fs::remove_file(partial(&path));
        let mut writer = open(&path, &own);
        writer.put(&attacks(&[0, 1, 2])).unwrap();
    };
    let why = |writer: Writer| match writer.start() {
        Resumption::Replaced { why } => why.clone(),
        other => panic!("{other:?}"),
    };
    let refused = |name: &str, header: &Header, samples: usize, fixed: &[Column]| {
        let before = std::fs::read(partial(&path)).unwrap();
        let error = Writer::create(&path, header, samples, fixed, Overwrite::No).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{name}: {error}");
        for part in ["3 finished samples of another run", name, "--force", ".partial"] {
            assert!(error.to_string().contains(part), "{error} lacks {part}");
        }
        assert!(before == std::fs::read(partial(&path)).unwrap(), "{name}: the file was touched");
        let forced = Writer::create(&path, header, samples, fixed, Overwrite::Yes).unwrap();
        assert!(why(forced).contains(name), "{name}");
    };

    // Where and how it is computed, and what it is called, is no other run.
    let elsewhere = Header {
        device: "cuda:0".into(),
        model: "./runs/demo".into(),
        dataset: "other/strokes".into(),
        config: "seed: 7\ndata: ./strokes\n".into(),
        ..own.clone()
    };
    begun();
    assert_eq!(*open(&path, &elsewhere).start(), Resumption::Resumed { done: 3, damaged: 0 });

    type Change = fn(&mut Header);
    let changes: [(&str, Change); 9] = [
        ("top", |h| h.config.push_str("top: 3\n")),
        ("model_sha256", |h| h.model_sha256 = "0".repeat(64)),
        ("data_sha256", |h| h.data_sha256 = "0".repeat(64)),
        ("split", |h| h.split = "train".into()),
        ("precision", |h| h.precision = "f64".into()),
        ("seed", |h| h.seed = 0),
        ("metric", |h| h.metric = None),
        ("samples", |h| h.samples = 99),
        ("kind", |h| h.kind = FileKind::Scores),
    ];
    for (name, change) in changes {
        begun();
        let mut other = own.clone();
        change(&mut other);
        refused(name, &other, 12, &[eps()]);
    }
    begun();
    refused("samples", &own, 11, &[eps()]);
    begun();
    let other_eps = Column { values: Values::F64(vec![1.0, 2.0, 3.0]), ..eps() };
    refused("/eps", &own, 12, &[other_eps]);
    begun();
    refused("/eps", &own, 12, &[]);

    // Cut short at every kilobyte, with a hole, empty, not HDF5: never an error, never a row of a cut file believed.
    begun();
    let good = std::fs::read(partial(&path)).unwrap();
    for start in (0..good.len()).step_by(256) {
        let mut holed = good.clone();
        let end = (start + 256).min(good.len());
        holed[start..end].fill(0);
        std::fs::write(partial(&path), &holed).unwrap();
        let _ = Writer::create(&path, &own, 12, &[eps()], Overwrite::No);
    }
    for length in (8..good.len()).step_by(1024) {
        std::fs::write(partial(&path), &good[..length]).unwrap();
        let writer = open(&path, &own);
        assert!(matches!(writer.start(), Resumption::Replaced { .. }), "{length}: {:?}", writer.start());
        assert!(writer.done().is_empty());
    }
    std::fs::write(partial(&path), b"something else").unwrap();
    // What cannot be read is kept, under another name each time.
    let kept = why(open(&path, &own));
    let aside = PathBuf::from(kept.split("kept as ").nth(1).unwrap());
    assert_eq!(std::fs::read(aside).unwrap(), b"something else", "{kept}");
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
        std::thread::sleep(Duration::from_millis(1));
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
        let mut process = child(&path, &[]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        // Once it writes, strike at another moment each round.
        let output = BufReader::new(process.stdout.take().unwrap());
        assert!(output.lines().map_while(Result::ok).any(|line| line == "begun"));
        std::thread::sleep(Duration::from_micros(round * 37 % 61 * 300 + round * 2000));
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
        if kills >= 12 && stored > 0 {
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
fn after_a_restart_of_the_machine_only_synced_rows_count() {
    let folder = tempfile::tempdir().unwrap();
    let header = header(FileKind::Attack);
    let path = folder.path().join("attack.h5");
    let mut writer = open(&path, &header);
    writer.put(&attacks(&[3, 4])).unwrap();
    drop(writer);
    // Row 3 as another start of the machine left it, its values lost; row 4 as the disk confirmed it.
    let script = r#"
import sys, h5py
with h5py.File(sys.argv[1], 'r+') as f:
    i = f['index'][...]
    assert list(i[:3]) == [-1, -2, -3] and i[3] >> 62 == 1 and i[3] & (1 << 40) - 1 == 3, i
    f['index'][3] = int(i[3]) ^ 1 << 50
    f['index'][4] = 4
    f['attack/one/latent_l2'][:, 3] = 0
"#;
    python(script, &[&partial(&path)]).unwrap();
    let mut writer = open(&path, &header);
    assert_eq!(writer.done(), [4]);
    writer.put(&attacks(&[0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11])).unwrap();
    writer.finish().unwrap();
    assert_eq!(python(CHECK, &[&path]).unwrap(), "ok 12\n");
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

#[test]
fn a_passing_file_is_the_same_file_and_goes_on_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let header = header(FileKind::Attack);
    let path = folder.path().join("attack.h5");
    let mut writer = open(&path, &header).passing();
    writer.put(&attacks(&[3, 4])).unwrap();
    drop(writer);
    let mut writer = open(&path, &header).passing();
    assert_eq!(writer.done(), [3, 4]);
    writer.put(&attacks(&[0, 1, 2, 5, 6, 7, 8, 9, 10, 11])).unwrap();
    writer.finish().unwrap();
    assert_eq!(python(CHECK, &[&path]).unwrap(), "ok 12\n");
    assert!(!partial(&path).exists());
}
