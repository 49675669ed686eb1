//! Tests of `store`: the files as h5py reads them, and what becomes of them when things go wrong.

mod damage; //      bytes that are not as they were written
mod merge; //       shards of one run
mod refused; //     wrong requests and broken files
mod resume; //      interrupted, killed, disk full
mod tensorboard; // event files as TensorBoard reads them

use crate::python::python;
use pullback_results::store::*;

pub fn header(kind: FileKind) -> Header {
    Header {
        kind,
        config: "seed: 7\ndata: strokes # \u{3bb}\n".to_owned(),
        model: "runs/demo".to_owned(),
        model_sha256: "5e".repeat(32),
        dataset: "strokes".to_owned(),
        data_sha256: "da".repeat(32),
        samples: 0,
        split: "test".to_owned(),
        device: "cpu".to_owned(),
        precision: "f32".to_owned(),
        seed: u64::MAX - 7,
        libtorch: "2.11.0".to_owned(),
        metric: Some("stochastic".to_owned()),
        extra: [("norm".to_owned(), "l2".to_owned())].into(),
    }
}

pub fn column(path: &str, shape: Vec<usize>, sample_axis: usize, values: Values) -> Column {
    Column { path: path.to_owned(), shape, sample_axis, values }
}

fn values<T>(n: usize, f: impl Fn(usize) -> T) -> Vec<T> {
    (0..n).map(f).collect()
}

/// Scores of the samples `index`, each value a closed form of the sample's index (python checks them by the same).
pub fn scores(index: &[u64]) -> Block {
    let b = index.len();
    let i = |row: usize| index[row] as f64;
    let holed = |row: usize| {
        if index[row] % 5 == 2 { f64::NAN } else { -i(row) / 3.0 }
    };
    Block {
        index: index.to_vec(),
        labels: Some(index.iter().map(|i| (i % 10) as i64).collect()),
        columns: vec![
            column("/scores/root", vec![b], 0, Values::F64(values(b, |r| i(r).sqrt() + 0.1))),
            column("/scores/holed", vec![b], 0, Values::F64(values(b, holed))),
            column(
                "/spectrum/eigenvalues",
                vec![b, 3],
                0,
                Values::F64(values(b * 3, |k| 1.0 / (i(k / 3) + 1.0 + (k % 3) as f64))),
            ),
            column(
                "/spectrum/directions",
                vec![b, 2, 1, 2, 3],
                0,
                Values::F32(values(b * 12, |k| (index[k / 12] * 12) as f32 * 0.25 + (k % 12) as f32)),
            ),
        ],
    }
}

pub const EPS: [f64; 3] = [0.1, 1.0, 2.5];

pub fn eps() -> Column {
    column("/eps", vec![3], 0, Values::F64(EPS.to_vec()))
}

/// Attacks on the samples `index` at three sizes.
pub fn attacks(index: &[u64]) -> Block {
    let b = index.len();
    let at = |k: usize| (k / b, index[k % b] as f64);
    let pixel = |k: usize| {
        let (e, row, p) = (k / (b * 4), k / 4 % b, k % 4);
        (e * 1000 + p) as f32 + index[row] as f32 / 8.0
    };
    Block {
        index: index.to_vec(),
        labels: None,
        columns: vec![
            column("/clean/recon_mse", vec![b], 0, Values::F64(values(b, |r| index[r] as f64 * 0.5))),
            column(
                "/attack/one/latent_l2",
                vec![3, b],
                1,
                Values::F64(values(3 * b, |k| at(k).0 as f64 * 100.0 + at(k).1 / 7.0)),
            ),
            column("/attack/one/images", vec![3, b, 1, 2, 2], 1, Values::F32(values(3 * b * 4, pixel))),
            column("/attack/two/latent_l2", vec![3, b], 1, Values::F64(values(3 * b, |k| at(k).1 - at(k).0 as f64))),
        ],
    }
}

/// Python that checks a file of [`scores`] or [`attacks`] and prints `ok N`.
pub const CHECK: &str = r#"
import sys, h5py, numpy as np
def same(got, want, dtype):
    assert got.dtype == dtype, (got.name, got.dtype)
    assert got.shape == want.shape, (got.name, got.shape)
    assert np.array_equal(got[...], want.astype(dtype), equal_nan=want.dtype.kind == 'f'), got.name
with h5py.File(sys.argv[1], 'r') as f:
    assert f.attrs['pullback_format'] == 2
    i = f['index'][...]
    assert f['index'].dtype == np.int64 and len(set(i)) == len(i)
    x = i.astype(float)
    if f.attrs['kind'] == 'scores':
        assert set(f) == {'index', 'label', 'scores', 'spectrum', 'checksum'}
        same(f['label'], i % 10, np.int64)
        same(f['scores/root'], np.sqrt(x) + 0.1, np.float64)
        same(f['scores/holed'], np.where(i % 5 == 2, np.nan, -x / 3), np.float64)
        same(f['spectrum/eigenvalues'], 1 / (x[:, None] + 1 + np.arange(3)), np.float64)
        d = x[:, None] * 3 + np.arange(12)
        same(f['spectrum/directions'], d.reshape(-1, 2, 1, 2, 3), np.float32)
    else:
        assert set(f) == {'index', 'eps', 'clean', 'attack', 'checksum'}
        e = np.arange(3.0)[:, None]
        same(f['eps'], np.array([0.1, 1.0, 2.5]), np.float64)
        same(f['clean/recon_mse'], x / 2, np.float64)
        same(f['attack/one/latent_l2'], e * 100 + x / 7, np.float64)
        same(f['attack/two/latent_l2'], x - e, np.float64)
        p = (e * 1000 + x / 8)[..., None] + np.arange(4)
        same(f['attack/one/images'], p.reshape(3, -1, 1, 2, 2), np.float32)
    print('ok', len(i))
"#;

#[test]
fn h5py_reads_scores_and_attributes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scores.h5");
    let mut writer = Writer::create(&path, &header(FileKind::Scores), 10, &[], Overwrite::No).unwrap();
    assert_eq!(*writer.start(), Resumption::New);
    for index in [[0, 1, 2, 3].as_slice(), &[4, 5, 6], &[7, 8, 9]] {
        assert!(!path.exists(), "a result appears only when it is complete");
        writer.put(&scores(index)).unwrap();
    }
    let sink: Box<dyn Sink> = Box::new(writer);
    sink.finish().unwrap();
    assert!(!folder.path().join("scores.h5.partial").exists());
    assert_eq!(python(CHECK, &[&path]).unwrap(), "ok 10\n");

    let attributes = r#"
import sys, h5py
a = dict(h5py.File(sys.argv[1], 'r').attrs)
text = {k: v for k, v in a.items() if k not in ('pullback_format', 'seed', 'samples', 'checksum')}
assert all(type(v) is str for v in text.values()), text
assert int(a['pullback_format']) == 2 and int(a['seed']) == 2**64 - 8
assert a['config'] == 'seed: 7\ndata: strokes # \u03bb\n'
assert set(a) == {'pullback_format', 'kind', 'version', 'config', 'model', 'model_sha256', 'dataset', 'split',
                  'data_sha256', 'samples', 'checksum', 'device', 'precision', 'seed', 'libtorch', 'metric', 'norm'}, sorted(a)
print(*(a[k] for k in ('kind', 'model', 'dataset', 'split', 'device', 'precision', 'metric', 'norm', 'version')))
"#;
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!("scores runs/demo strokes test cpu f32 stochastic l2 {version}\n");
    assert_eq!(python(attributes, &[&path]).unwrap(), expected);

    // The check can fail: one value moved by an ulp, one row exchanged, NaN made 0.
    for spoil in [
        "f['scores/root'][3] = np.nextafter(f['scores/root'][3], 9)",
        "f['spectrum/eigenvalues'][4] = f['spectrum/eigenvalues'][5]",
        "f['scores/holed'][2] = 0",
    ] {
        let copy = folder.path().join("spoilt.h5");
        std::fs::copy(&path, &copy).unwrap();
        python(&format!("import sys, h5py, numpy as np\nwith h5py.File(sys.argv[1], 'r+') as f: {spoil}"), &[&copy])
            .unwrap();
        assert!(python(CHECK, &[&copy]).unwrap_err().contains("AssertionError"), "{spoil}");
    }
}

#[test]
fn rows_do_not_depend_on_the_order_of_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let orders: [&[&[u64]]; 4] = [
        &[&[0, 1, 2, 3, 4, 5, 6, 7]],
        &[&[6, 7], &[3, 4, 5], &[0, 1, 2]],
        &[&[5, 0, 7, 1], &[2], &[6, 3, 4]],
        &[&[7], &[6], &[5], &[4], &[3], &[2], &[1], &[0]],
    ];
    let mut first: Option<Vec<u8>> = None;
    for (n, blocks) in orders.iter().enumerate() {
        let path = folder.path().join(format!("{n}.h5"));
        let mut writer = Writer::create(&path, &header(FileKind::Attack), 8, &[eps()], Overwrite::No).unwrap();
        for index in *blocks {
            writer.put(&attacks(index)).unwrap();
        }
        writer.finish().unwrap();
        assert_eq!(python(CHECK, &[&path]).unwrap(), "ok 8\n");
        assert_eq!(Reader::open(&path).unwrap().index(), [0, 1, 2, 3, 4, 5, 6, 7]);
        let bytes = std::fs::read(&path).unwrap();
        let first = first.get_or_insert_with(|| bytes.clone());
        assert!(*first == bytes, "another order made another file");
    }
}

#[test]
fn listed_samples_keep_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("listed.h5");
    let listed = vec![40, 2, 17, 3, u32::MAX as u64 + 5];
    let mut writer = Writer::create(&path, &header(FileKind::Scores), listed.clone(), &[], Overwrite::No).unwrap();
    assert_eq!(writer.remaining(), listed);
    writer.put(&scores(&[17, u32::MAX as u64 + 5])).unwrap();
    assert!(writer.is_done(17) && !writer.is_done(2) && !writer.is_done(999));
    assert_eq!(writer.remaining(), [40, 2, 3]);
    writer.put(&scores(&[3, 40, 2])).unwrap();
    writer.finish().unwrap();
    let reader = Reader::open(&path).unwrap();
    assert_eq!(reader.index(), listed);
    assert_eq!(reader.read_i64("/label").unwrap(), (vec![5], vec![0, 2, 7, 3, 0]));
}

#[test]
fn reader_gives_names_rows_and_types() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("attack.h5");
    let mut writer = Writer::create(&path, &header(FileKind::Attack), 9, &[eps()], Overwrite::No).unwrap();
    writer.put(&attacks(&[0, 1, 2, 3, 4, 5, 6, 7, 8])).unwrap();
    writer.finish().unwrap();

    let reader = Reader::open(&path).unwrap();
    assert_eq!(*reader.header(), header(FileKind::Attack));
    assert_eq!(reader.samples(), 9);
    assert_eq!(reader.attacks(), ["one", "two"]);
    assert_eq!(reader.measures("one"), ["images", "latent_l2"]);
    assert_eq!(reader.clean(), ["recon_mse"]);
    assert!(reader.scores().is_empty());
    assert_eq!(reader.read_f64("/eps").unwrap(), (vec![3], EPS.to_vec()));
    // Rows of a [E, N] data set and of images, against the block made of those samples alone.
    let part = attacks(&[4, 5, 6]);
    for column in &part.columns {
        assert_eq!(reader.read_rows(&column.path, 4..7).unwrap(), *column);
    }
    assert_eq!(reader.read_rows("/clean/recon_mse", 9..9).unwrap().shape, [0]);
    assert_eq!(reader.read_f32("/attack/one/images").unwrap().0, [3, 9, 1, 2, 2]);
    for (error, part) in [
        (reader.read_f64("/attack/one/images").unwrap_err(), "expected f64, found f32"),
        (reader.read_i64("/eps").unwrap_err(), "expected i64, found f64"),
        (reader.read_f64("/attack/three/x").unwrap_err(), "/attack/three/x: expected a data set"),
        (reader.read_rows("/eps", 0..1).map(|_| ()).unwrap_err(), "a row per sample"),
        (reader.read_rows("/clean/recon_mse", 3..10).map(|_| ()).unwrap_err(), "rows below 9"),
    ] {
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
    let line = reader.provenance();
    for part in ["runs/demo", "5e5e5e5e5e5e", "strokes", "test", "f32 on cpu", "stochastic", "libtorch "] {
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn sweeps_are_written_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sweep.h5");
    let grid = |n: usize| Values::F64(values(n, |k| k as f64));
    let columns = [
        column("/beta", vec![2], 0, Values::F64(vec![0.01, 10.0])),
        column("/mixup", vec![2], 0, Values::U8(vec![0, 1])),
        column("/eps", vec![3], 0, Values::F64(EPS.to_vec())),
        column("/scores/root", vec![2, 5], 1, grid(10)),
        column("/clean/recon_mse", vec![2, 5], 1, grid(10)),
        column("/attack/one/latent_l2", vec![2, 3, 5], 2, grid(30)),
        column("/correlation/root", vec![3], 0, Values::F64(vec![-0.5, -0.75, f64::NAN])),
    ];
    let header = Header { metric: None, ..header(FileKind::Sweep) };
    write_whole(&path, &header, &columns, Overwrite::No).unwrap();
    let script = r#"
import sys, h5py, numpy as np
with h5py.File(sys.argv[1], 'r') as f:
    assert f.attrs['kind'] == 'sweep' and 'metric' not in f.attrs
    assert f['mixup'].dtype == np.uint8 and list(f['mixup']) == [0, 1]
    assert list(f['beta']) == [0.01, 10.0]
    assert np.array_equal(f['scores/root'], np.arange(10.).reshape(2, 5))
    assert np.array_equal(f['attack/one/latent_l2'], np.arange(30.).reshape(2, 3, 5))
    assert np.array_equal(f['correlation/root'], [-0.5, -0.75, np.nan], equal_nan=True)
print('ok')
"#;
    assert_eq!(python(script, &[&path]).unwrap(), "ok\n");
    let reader = Reader::open(&path).unwrap();
    assert_eq!((reader.samples(), reader.below("/correlation/")), (5, vec!["root".to_owned()]));
    assert_eq!(reader.read_u8("/mixup").unwrap(), (vec![2], vec![0, 1]));
    let rows = reader.read_rows("/attack/one/latent_l2", 1..3).unwrap();
    let expected = [1, 2, 6, 7, 11, 12, 16, 17, 21, 22, 26, 27].map(f64::from).to_vec();
    assert_eq!((rows.shape, rows.values), (vec![2, 3, 2], Values::F64(expected)));

    // What is there stays, unless asked; nothing is left beside it.
    let error = write_whole(&path, &header, &columns, Overwrite::No).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    write_whole(&path, &header, &columns[..2], Overwrite::Yes).unwrap();
    assert_eq!(Reader::open(&path).unwrap().datasets().len(), 2);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn summary_counts_nan_and_leaves_it_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scores.h5");
    let mut writer = Writer::create(&path, &header(FileKind::Scores), 10, &[], Overwrite::No).unwrap();
    writer.put(&scores(&values(10, |i| i as u64))).unwrap();
    writer.finish().unwrap();
    let summary = inspect(&path).unwrap();
    assert_eq!((summary.kind, summary.samples, summary.datasets.len()), (FileKind::Scores, 10, 7));
    // holed: -i/3 for i in 0, 1, 3, 4, 5, 6, 8, 9: sum of i = 36, middle (4 + 5) / 2.
    let holed = summary.scores.iter().find(|s| s.name == "holed").unwrap();
    assert_eq!((holed.counted, holed.nan), (8, 2));
    // A sum of 8 numbers, each rounded, is off by at most 8 u of their magnitudes.
    let allowed = 1.5 * 8.0 * 2f64.powi(-53);
    assert!((holed.mean + 36.0 / 24.0).abs() < allowed, "{}", holed.mean);
    assert!((holed.median + 1.5).abs() < allowed, "{}", holed.median);
    let text = summary.to_string();
    assert!(text.contains("2 of 10 NaN, left out") && text.contains("/spectrum/directions"), "{text}");

    let odd = ScoreSummary::of("x", &[3.0, f64::NAN, 1.0, f64::INFINITY]);
    assert_eq!((odd.median, odd.mean, odd.nan), (3.0, f64::INFINITY, 1));
    let none = ScoreSummary::of("x", &[f64::NAN]);
    assert!(none.mean.is_nan() && none.median.is_nan() && none.counted == 0);
}
