//! Damaged files: refused or read right, resumed to equal numbers; never other values, a crash or a hang.

use super::{EPS, attacks, column, eps, header, scores};
use crate::child;
use crate::dice::Dice;
use crate::python::python;
use pullback_results::store::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Files of each kind, small and whole.
fn whole(folder: &Path, what: &str) -> PathBuf {
    let path = folder.join(format!("{what}.h5"));
    let all: Vec<u64> = (0..12).collect();
    match what {
        "scores" => {
            let mut writer = Writer::create(&path, &header(FileKind::Scores), 12, &[], Overwrite::No).unwrap();
            writer.put(&scores(&all)).unwrap();
            writer.finish().unwrap();
        }
        "attack" | "partial" => {
            let mut writer = Writer::create(&path, &header(FileKind::Attack), 12, &[eps()], Overwrite::No).unwrap();
            writer.put(&attacks(&all)).unwrap();
            writer.finish().unwrap();
        }
        _ => {
            let grid = |n: usize| Values::F64((0..n).map(|k| k as f64 * 0.37).collect());
            let columns = [
                column("/beta", vec![2], 0, Values::F64(vec![0.01, 10.0])),
                column("/mixup", vec![2], 0, Values::U8(vec![0, 1])),
                column("/eps", vec![3], 0, Values::F64(EPS.to_vec())),
                column("/scores/root", vec![2, 5], 1, grid(10)),
                column("/attack/one/latent_l2", vec![2, 3, 5], 2, grid(30)),
            ];
            write_whole(&path, &Header { metric: None, ..header(FileKind::Sweep) }, &columns, Overwrite::No).unwrap();
        }
    }
    path
}

/// A file as it is read: what it says of itself, and the bits of every data set.
fn reading(path: &Path) -> pullback_results::Result<(Header, BTreeMap<String, String>)> {
    let reader = Reader::open(path)?;
    let mut all = BTreeMap::new();
    for info in reader.datasets().to_vec() {
        let Column { shape, values, .. } = reader.read(&info.path)?;
        let bits = match values {
            Values::F64(v) => format!("{:?}", v.iter().map(|x| x.to_bits()).collect::<Vec<_>>()),
            Values::F32(v) => format!("{:?}", v.iter().map(|x| x.to_bits()).collect::<Vec<_>>()),
            other => format!("{other:?}"),
        };
        all.insert(info.path, format!("{shape:?} {bits}"));
    }
    Ok((reader.header().clone(), all))
}

/// Not a test of its own: mutants of one kind of file, in a process that may be killed.
#[test]
#[ignore = "run by the tests beside it"]
fn child_reads_mutants() {
    let Ok(job) = std::env::var("PULLBACK_TEST_MUTANTS") else { return };
    let mut words = job.split(' ');
    let (what, count) = (words.next().unwrap(), words.next().unwrap().parse::<u64>().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = whole(folder.path(), what);
    let expected = reading(&path).unwrap();
    let mutant = folder.path().join("mutant.h5");
    let under = if what == "partial" { folder.path().join("mutant.h5.partial") } else { mutant.clone() };
    let good = if what == "partial" {
        let mut writer = Writer::create(&mutant, &header(FileKind::Attack), 12, &[eps()], Overwrite::No).unwrap();
        writer.put(&attacks(&[3, 4, 5, 6, 7, 8])).unwrap();
        drop(writer);
        std::fs::read(&under).unwrap()
    } else {
        std::fs::read(&path).unwrap()
    };
    let (mut refused, mut right) = (0, 0);
    for seed in 0..count {
        let bytes = Dice(seed * 7919 + 17).mutant(&good);
        println!("mutant {seed}");
        let _ = std::fs::remove_file(&mutant);
        std::fs::write(&under, &bytes).unwrap();
        let found = if what == "partial" {
            // The run goes on, to the same file as if nothing had happened, or refuses to.
            Writer::create(&mutant, &header(FileKind::Attack), 12, &[eps()], Overwrite::No).and_then(|mut writer| {
                let left = writer.remaining();
                if !left.is_empty() {
                    writer.put(&attacks(&left))?;
                }
                writer.finish()?;
                reading(&mutant)
            })
        } else {
            reading(&mutant)
        };
        match found {
            Ok(found) if bytes == good || found == expected => right += 1,
            Ok(_) => panic!("mutant {seed} of {what} was read with other values"),
            Err(_) => refused += 1,
        }
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let name = entry.unwrap().path();
            if name.to_string_lossy().contains(".damaged") {
                std::fs::remove_file(name).unwrap();
            }
        }
        let _ = std::fs::remove_file(&under);
    }
    println!("\nall read: {refused} refused, {right} right");
}

#[test]
fn no_damaged_file_is_read_with_other_values() {
    let count = std::env::var("PULLBACK_MUTANTS").unwrap_or_else(|_| "200".to_owned());
    for what in ["scores", "attack", "sweep", "partial"] {
        let mut command = child::test("store::damage::child_reads_mutants");
        command.env("PULLBACK_TEST_MUTANTS", format!("{what} {count}"));
        let done = child::within(Duration::from_secs(300), &mut command).unwrap_or_else(|| panic!("{what}: hangs"));
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        let tail: Vec<&str> = said.lines().rev().take(6).collect();
        assert!(
            done.status.success() && said.contains("all read"),
            "{what}: {tail:?}\n{}",
            String::from_utf8_lossy(&done.stderr)
        );
        println!("{what}: {}", said.lines().find(|l| l.contains("all read")).unwrap());
    }
}

#[test]
fn a_damaged_row_is_computed_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("attack.h5");
    let begin = || Writer::create(&path, &header(FileKind::Attack), 12, &[eps()], Overwrite::No).unwrap();
    begin().put(&attacks(&[0, 1, 2, 3])).unwrap();
    let spoil = "import sys, h5py\nwith h5py.File(sys.argv[1], 'r+') as f: f['attack/one/latent_l2'][1, 2] += 1e-9";
    python(spoil, &[&folder.path().join("attack.h5.partial")]).unwrap();
    let mut writer = begin();
    assert_eq!(*writer.start(), Resumption::Resumed { done: 3, damaged: 1 });
    assert_eq!(writer.remaining(), [2, 4, 5, 6, 7, 8, 9, 10, 11]);
    writer.put(&attacks(&writer.remaining())).unwrap();
    writer.finish().unwrap();
    assert_eq!(python(super::CHECK, &[&path]).unwrap(), "ok 12\n");
}

#[test]
fn python_checks_a_file_as_the_documents_say() {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(crate::files::root().join("docs/formats.md")).unwrap();
    let begin = text.find("```python\n# checksums").expect("the lines of docs/formats.md") + "```python\n".len();
    let script = &text[begin..begin + text[begin..].find("```").unwrap()];
    for what in ["scores", "attack", "sweep"] {
        let path = whole(folder.path(), what);
        assert!(python(script, &[&path]).unwrap().contains("as written"), "{what}");
        let spoil = "import sys, h5py\nwith h5py.File(sys.argv[1], 'r+') as f:\n    d = f['eps' if 'eps' in f else 'scores/root']\n    d[0] += 1";
        python(spoil, &[&path]).unwrap();
        assert!(python(script, &[&path]).is_err(), "{what}");
        let error = reading(&path).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains("checksum disagrees"), "{error}");
    }
}

#[test]
fn files_of_the_first_version_have_no_checksums_and_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = whole(folder.path(), "scores");
    let strip = "
import sys, h5py
with h5py.File(sys.argv[1], 'r+') as f:
    f.visititems(lambda _, x: isinstance(x, h5py.Dataset) and x.attrs.__delitem__('checksum'))
    for name in ('checksum', 'data_sha256', 'samples'): del f.attrs[name]
    del f['checksum']
    f.attrs['version'] = sys.argv[2]
";
    python(strip, &[&path, Path::new("0.1.0")]).unwrap();
    assert_eq!(reading(&path).unwrap().1.len(), 6);
    // A later one without is no file as it was written.
    let later = whole(&folder.path().join("."), "attack");
    python(strip, &[&later, Path::new("0.2.0")]).unwrap();
    assert!(reading(&later).unwrap_err().to_string().contains("checksum"));
}
