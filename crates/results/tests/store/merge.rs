//! Shards of one run joined into one file.

use super::{CHECK, attacks, eps, header, scores};
use crate::python::python;
use pullback_results::store::*;
use std::path::{Path, PathBuf};

fn shard(folder: &Path, name: &str, header: &Header, index: &[u64]) -> PathBuf {
    let path = folder.join(name);
    let attack = header.kind == FileKind::Attack;
    let fixed = if attack { vec![eps()] } else { vec![] };
    let mut writer = Writer::create(&path, header, index.to_vec(), &fixed, Overwrite::No).unwrap();
    writer.put(&if attack { attacks(index) } else { scores(index) }).unwrap();
    writer.finish().unwrap();
    path
}

#[test]
fn merged_shards_equal_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    for kind in [FileKind::Scores, FileKind::Attack] {
        let header = header(kind);
        let whole = shard(folder.path(), &format!("{kind}-whole.h5"), &header, &(0..23).collect::<Vec<_>>());
        // Interleaved, neighbouring and unsorted shards.
        let shards = [
            (0..12).step_by(2).collect::<Vec<u64>>(),
            (1..12).step_by(2).collect(),
            vec![22, 21, 14],
            vec![12, 13, 20, 19, 15, 16, 17, 18],
        ];
        let shards: Vec<PathBuf> = shards
            .iter()
            .enumerate()
            .map(|(n, index)| shard(folder.path(), &format!("{kind}-{n}.h5"), &header, index))
            .collect();
        let output = folder.path().join(format!("{kind}.h5"));
        // What an interrupted merge left is of no interest.
        std::fs::write(folder.path().join(format!("{kind}.h5.partial")), b"left over").unwrap();
        merge(&shards, &output, Overwrite::No).unwrap();
        assert_eq!(python(CHECK, &[&output]).unwrap(), "ok 23\n");
        let (a, b) = (std::fs::read(&whole).unwrap(), std::fs::read(&output).unwrap());
        assert!(a == b, "a merged {kind} file differs from the whole run's");

        let error = merge(&shards, &output, Overwrite::No).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
        // Over one of its own shards, when asked.
        merge(&shards, &shards[1], Overwrite::Yes).unwrap();
        assert_eq!(python(CHECK, &[&shards[1]]).unwrap(), "ok 23\n");
    }
}

#[test]
fn shards_of_another_run_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let own = header(FileKind::Attack);
    let first = shard(folder.path(), "first.h5", &own, &[0, 1, 2]);
    let output = folder.path().join("merged.h5");
    let refused = |other: &Path, parts: &[&str]| {
        let error = merge(&[first.clone(), other.to_owned()], &output, Overwrite::No).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
        for part in parts {
            assert!(error.to_string().contains(part), "{error} lacks {part}");
        }
        assert!(!output.exists());
    };
    let overlap = shard(folder.path(), "overlap.h5", &own, &[3, 2, 4]);
    refused(&overlap, &["sample 2", "first.h5", "overlap.h5"]);
    refused(&first.clone(), &["sample 0"]);

    type Change = fn(&mut Header);
    let changes: [(&str, Change); 6] = [
        ("model_sha256", |h| h.model_sha256 = "0".repeat(64)),
        ("data_sha256", |h| h.data_sha256 = "0".repeat(64)),
        ("split", |h| h.split = "train".into()),
        ("precision", |h| h.precision = "f64".into()),
        ("metric", |h| h.metric = None),
        ("seed", |h| h.seed = 1),
    ];
    for (name, change) in changes {
        let mut other = own.clone();
        change(&mut other);
        let path = shard(folder.path(), &format!("{name}.h5"), &other, &[5, 6]);
        refused(&path, &[name, "expected", "first.h5"]);
    }
    let kind = shard(folder.path(), "kind.h5", &header(FileKind::Scores), &[5, 6]);
    refused(&kind, &["kind", "attack", "scores"]);

    let write = |name: &str, fixed: Column, block: Block| {
        let path = folder.path().join(name);
        let mut writer = Writer::create(&path, &own, block.index.clone(), &[fixed], Overwrite::No).unwrap();
        writer.put(&block).unwrap();
        writer.finish().unwrap();
        path
    };
    let other_eps = Column { values: Values::F64(vec![0.1, 1.0, 3.0]), ..eps() };
    refused(&write("eps.h5", other_eps, attacks(&[7])), &["eps.h5: /eps"]);
    let mut fewer = attacks(&[8]);
    fewer.columns.pop();
    refused(&write("fewer.h5", eps(), fewer), &["/attack/two/latent_l2", "no such data set"]);
    let mut labelled = attacks(&[9]);
    labelled.labels = Some(vec![1]);
    refused(&write("labelled.h5", eps(), labelled), &["/label"]);

    assert_eq!(merge(&[], &output, Overwrite::No).unwrap_err().exit_code(), 2);
    // Another device is no obstacle, and is named.
    let other = Header { device: "cuda:0".into(), ..own.clone() };
    let cuda = shard(folder.path(), "cuda.h5", &other, &[3]);
    merge(&[first.clone(), cuda], &output, Overwrite::No).unwrap();
    assert_eq!(Reader::open(&output).unwrap().header().device, "cpu, cuda:0");
}

#[test]
fn a_draw_that_lacks_samples_says_how_many() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("merged.h5");
    let refused = |header: &Header, index: &[u64]| {
        let path = shard(folder.path(), "shard.h5", header, index);
        let error = merge(std::slice::from_ref(&path), &output, Overwrite::No).unwrap_err();
        std::fs::remove_file(path).unwrap();
        assert_eq!(error.exit_code(), 2);
        error.to_string()
    };
    let of = |config: &str| Header { config: config.to_owned(), samples: 6, ..header(FileKind::Scores) };
    let all = "shards to merge: expected every sample of the run, 6 in all, found ";
    // Positions that the draw never had are not missing, whether some lie beyond its size or none.
    assert_eq!(refused(&of("sample: 6\n"), &[3, 900, 20_000]), format!("{all}3 missing"));
    assert_eq!(refused(&of("sample: 6\n"), &[0, 3, 4]), format!("{all}3 missing"));
    assert_eq!(refused(&of("of a version that wrote another request"), &[3, 900]), format!("{all}4 missing"));
    assert_eq!(refused(&of("sample: null\n"), &[0, 3, 4]), format!("{all}3 missing: 1 to 2, 5"));
}

#[test]
fn large_shards_are_joined_in_pieces() {
    // 3 MB a row: a piece of 32 MiB holds 10 of the 24 rows.
    let folder = tempfile::tempdir().unwrap();
    let own = header(FileKind::Attack);
    let pixels = 250_000;
    let shards: Vec<PathBuf> = (0..2)
        .map(|s| {
            let index: Vec<u64> = (0..12).map(|i| 2 * i + s).collect();
            let values = index.iter().flat_map(|i| (0..pixels).map(move |p| (i * 7 + p as u64) as f32));
            let row: Vec<f32> = values.collect();
            let images = Column {
                path: "/attack/one/images".into(),
                shape: vec![3, 12, 1, 500, 500],
                sample_axis: 1,
                values: Values::F32([row.as_slice(), &row, &row].concat()),
            };
            let path = folder.path().join(format!("{s}.h5"));
            let mut writer = Writer::create(&path, &own, index.clone(), &[eps()], Overwrite::No).unwrap();
            writer.put(&Block { index, labels: None, columns: vec![images] }).unwrap();
            writer.finish().unwrap();
            path
        })
        .collect();
    let output = folder.path().join("merged.h5");
    merge(&shards, &output, Overwrite::No).unwrap();
    let script = r#"
import sys, h5py, numpy as np
f = h5py.File(sys.argv[1], 'r')
assert list(f['index']) == list(range(24))
want = (np.arange(24)[:, None] * 7 + np.arange(250000)).astype('f4').reshape(24, 1, 500, 500)
assert all(np.array_equal(f['attack/one/images'][e], want) for e in range(3))
print('ok')
"#;
    assert_eq!(python(script, &[&output]).unwrap(), "ok\n");
}

#[test]
fn a_resting_file_is_closed_and_must_stay_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = shard(folder.path(), "scores.h5", &header(FileKind::Scores), &[0, 1, 2]).canonicalize().unwrap();
    let is_open = || {
        let mut open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        open.any(|entry| std::fs::read_link(entry.path()).is_ok_and(|to| to == path))
    };
    let reader = Reader::open(&path).unwrap();
    assert!(is_open());
    reader.rest();
    assert!(!is_open());
    let before = reader.read_f64("/scores/root").unwrap();
    assert!(is_open());
    reader.rest();
    assert_eq!(reader.read_f64("/scores/root").unwrap(), before);
    reader.rest();
    let other = folder.path().join("other.h5");
    std::fs::copy(&path, &other).unwrap();
    std::fs::rename(&other, &path).unwrap();
    let error = reader.read_f64("/scores/root").unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("another in its place"), "{error}");
}

/// More than a process may have open where the test below limits it.
const MANY: usize = 60;

/// Not a test of its own: the process whose open files the next test limits.
#[test]
#[ignore = "run by the test below"]
fn child_reads_many() {
    let Some(folder) = std::env::var_os("PULLBACK_TEST_MANY").map(PathBuf::from) else {
        return;
    };
    let shards: Vec<PathBuf> = (0..MANY).map(|n| folder.join(format!("{n}.h5"))).collect();
    merge(&shards, &folder.join("whole.h5"), Overwrite::No).unwrap();
    pullback_results::report::render(&shards).unwrap();
}

#[test]
fn more_files_are_joined_and_reported_than_may_be_open() {
    let folder = tempfile::tempdir().unwrap();
    for n in 0..MANY {
        // Interleaved, so that neighbours lie in different files.
        let mut block = scores(&[n as u64, (MANY + n) as u64]);
        block.columns.truncate(1);
        let path = folder.path().join(format!("{n}.h5"));
        let mut writer =
            Writer::create(&path, &header(FileKind::Scores), block.index.clone(), &[], Overwrite::No).unwrap();
        writer.put(&block).unwrap();
        writer.finish().unwrap();
    }
    let limited = ["-c", "ulimit -n 40; exec \"$@\"", "limited"];
    let output = std::process::Command::new("bash")
        .args(limited)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "store::merge::child_reads_many", "--ignored", "--nocapture", "--test-threads", "1"])
        .env("PULLBACK_TEST_MANY", folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let whole = Reader::open(&folder.path().join("whole.h5")).unwrap();
    let (_, root) = whole.read_f64("/scores/root").unwrap();
    assert_eq!(whole.index(), (0..2 * MANY as u64).collect::<Vec<_>>());
    assert!(root.iter().enumerate().all(|(i, value)| *value == (i as f64).sqrt() + 0.1), "{root:?}");
}
