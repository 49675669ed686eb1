//! Every format, good and broken; the generated digits.
#![allow(clippy::print_stdout)]

mod arrays; //  .npy, .npz, HDF5 of every kind
mod broken; //  what is refused, and how
mod elsewhere; // values in other files, or nowhere
mod folders; // pictures as people keep them
mod labels; //  which array has the labels
mod strokes; // the generated digits

use hdf5::plist::dataset_create::{AllocTime, FillTime};
use md5::{Digest, Md5};
use pullback::data::{Batch, ImageShape, Source, Split, batches, open};
use pullback::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn golden(name: &str) -> String {
    crate::files::root().join("tests/golden/data").join(name).display().to_string()
}

/// A folder of the shared data, where the machine has it.
fn shared(name: &str) -> Option<PathBuf> {
    let beside = || crate::files::root().join("../shared/data");
    let path = std::env::var_os("PULLBACK_DATA").map_or_else(beside, PathBuf::from).join(name);
    if !path.is_dir() {
        println!("skipped: no {}", path.display());
        return None;
    }
    Some(path)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn pixels(batch: &Batch) -> Vec<f32> {
    Vec::try_from(&batch.images.flatten(0, -1)).unwrap()
}

fn labels(batch: &Batch) -> Vec<i64> {
    Vec::try_from(batch.labels.as_ref().unwrap()).unwrap()
}

fn all(source: &dyn Source) -> Batch {
    let index: Vec<u64> = (0..source.len() as u64).collect();
    source.read(&index).unwrap()
}

fn gray(height: i64, width: i64) -> ImageShape {
    ImageShape { channels: 1, height, width }
}

/// An IDX file in memory.
fn idx(kind: u8, axes: &[u32], values: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, kind, axes.len() as u8];
    axes.iter().for_each(|a| bytes.extend(a.to_be_bytes()));
    bytes.extend(values);
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn mnist_has_its_official_checksums() {
    let Some(folder) = shared("mnist") else { return };
    let official = [
        (Split::Train, 60_000u32, "6bbc9ace898e44ae57da46a324031adb", [5, 0, 4, 1, 9]),
        (Split::Test, 10_000, "2646ac647ad5339dbf082846283269ea", [7, 2, 1, 0, 4]),
    ];
    for (split, count, md5, first) in official {
        let source = open(text(&folder), split, None).unwrap();
        assert_eq!((source.len(), source.shape(), source.format()), (count as usize, gray(28, 28), "IDX"));
        let batch = all(&*source);
        assert_eq!(labels(&batch)[..5], first);
        let bytes: Vec<u8> = pixels(&batch).iter().map(|p| (p * 255.0).round() as u8).collect();
        let file = idx(8, &[count, 28, 28], &bytes);
        assert_eq!(format!("{:x}", Md5::digest(&file)), md5);
        // Exact: a byte / 255 in single precision, not something close to it.
        assert!(pixels(&batch).iter().zip(&bytes).all(|(&p, &b)| p == f32::from(b) / 255.0));
    }
}

#[test]
fn idx_reads_plain_and_gzipped_alike_under_either_name() {
    let bytes: Vec<u8> = (0..7 * 3 * 2).map(|i| (i * 37 % 256) as u8).collect();
    let (images, numbers) = (idx(8, &[7, 3, 2], &bytes), idx(8, &[7], &[1, 2, 3, 4, 5, 6, 7]));
    let cases: [(&str, Vec<u8>, &str, Vec<u8>); 4] = [
        ("t10k-images-idx3-ubyte", images.clone(), "t10k-labels-idx1-ubyte", numbers.clone()),
        ("t10k-images.idx3-ubyte", images.clone(), "t10k-labels.idx1-ubyte.gz", gzip(&numbers)),
        ("t10k-images-idx3-ubyte.gz", gzip(&images), "t10k-labels-idx1-ubyte.gz", gzip(&numbers)),
        ("emnist-mnist-test-images-idx3-ubyte", images, "emnist-mnist-test-labels-idx1-ubyte", numbers),
    ];
    let order = [6, 0, 1, 2, 5, 5, 3, 3, 4];
    for (name, images, label_name, numbers) in cases {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(name), images).unwrap();
        std::fs::write(dir.path().join("train-images-idx3-ubyte"), "another split, not read").unwrap();
        let unlabelled = open(text(dir.path()), Split::Test, None).unwrap();
        assert!(!unlabelled.has_labels() && all(&*unlabelled).labels.is_none());
        std::fs::write(dir.path().join(label_name), numbers).unwrap();
        let source = open(text(dir.path()), Split::Test, None).unwrap();
        assert_eq!((source.len(), source.shape(), source.has_labels()), (7, gray(3, 2), true), "{name}");
        let batch = source.read(&order).unwrap();
        let expected: Vec<f32> =
            order.iter().flat_map(|&i| bytes[i as usize * 6..][..6].iter().map(|&b| f32::from(b) / 255.0)).collect();
        assert_eq!(pixels(&batch), expected, "{name}");
        assert_eq!(labels(&batch), order.map(|i| i as i64 + 1), "{name}");
        assert_eq!(batch.index, order);
        assert_ne!(pixels(&source.read(&[0]).unwrap()), pixels(&source.read(&[1]).unwrap()));
    }
}

#[test]
fn idx_labels_are_those_of_the_images_own_set() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: Vec<u8>| std::fs::write(dir.path().join(name), bytes).unwrap();
    write("t10k-images-idx3-ubyte", idx(8, &[2, 1, 1], &[1, 2]));
    write("emnist-letters-test-labels-idx1-ubyte", idx(8, &[2], &[8, 9]));
    assert!(!open(text(dir.path()), Split::Test, None).unwrap().has_labels());
    write("test-labels-idx1-ubyte", idx(8, &[2], &[3, 4]));
    let source = open(text(dir.path()), Split::Test, None).unwrap();
    assert_eq!(labels(&source.read(&[0, 1]).unwrap()), [3, 4]);
}

#[test]
fn cifar_files_follow_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let value = |i: usize, p: usize| ((i * 89 + p * 7) % 256) as u8;
    let record =
        |i: usize| -> Vec<u8> { std::iter::once(i as u8 % 10).chain((0..3072).map(|p| value(i, p))).collect() };
    let mut next = 0;
    for (file, count) in [(1, 3), (2, 1), (3, 4), (4, 2), (5, 2)] {
        let bytes: Vec<u8> = (next..next + count).flat_map(record).collect();
        std::fs::write(dir.path().join(format!("data_batch_{file}.bin")), bytes).unwrap();
        next += count;
    }
    std::fs::write(dir.path().join("test_batch.bin"), record(77)).unwrap();
    let source = open(text(dir.path()), Split::Train, None).unwrap();
    assert_eq!((source.len(), source.shape()), (12, ImageShape { channels: 3, height: 32, width: 32 }));
    let order = [2, 3, 4, 5, 11, 0, 7, 8];
    let batch = source.read(&order).unwrap();
    assert_eq!(batch.images.size(), [8, 3, 32, 32]);
    assert_eq!(labels(&batch), order.map(|i| i as i64 % 10));
    let expected: Vec<f32> =
        order.iter().flat_map(|&i| (0..3072).map(move |p| f32::from(value(i as usize, p)) / 255.0)).collect();
    assert_eq!(pixels(&batch), expected);
    let test = all(&*open(text(dir.path()), Split::Test, None).unwrap());
    assert_eq!((labels(&test), pixels(&test)[1]), (vec![7], f32::from(value(77, 1)) / 255.0));
}

#[test]
fn hdf5_reads_what_h5py_wrote() {
    let value = |n: usize, c: usize, h: usize, w: usize| ((31 * n + 17 * c + 5 * h + 3 * w) % 256) as u8;
    let image = |n: usize, channels: usize| -> Vec<u8> {
        (0..channels * 20).map(|i| value(n, i / 20, i / 5 % 4, i % 5)).collect()
    };
    let order = [4u64, 5, 0, 2, 2];
    // Half precision keeps 11 bits: half a unit in its last place below 1 is 2^-12.
    let half = 0.5f32.powi(12) + f32::EPSILON;
    let files =
        [("u8.h5", 3, true, 0.0), ("f16.h5", 3, true, half), ("f32.h5", 3, false, 0.0), ("f64be.h5", 1, true, 0.0)];
    for (name, channels, labelled, tolerance) in files {
        let source = open(&golden(name), Split::Test, None).unwrap();
        let shape = ImageShape { channels: channels as i64, height: 4, width: 5 };
        assert_eq!((source.len(), source.shape(), source.has_labels()), (6, shape, labelled), "{name}");
        let batch = source.read(&order).unwrap();
        let expected: Vec<u8> = order.iter().flat_map(|&n| image(n as usize, channels)).collect();
        for (found, &byte) in pixels(&batch).iter().zip(&expected) {
            assert!((found - f32::from(byte) / 255.0).abs() <= tolerance, "{name}: {found} for {byte} / 255");
        }
        if labelled {
            assert_eq!(labels(&batch), [5, 9, 3, 4, 4], "{name}");
        }
        // Without groups the same images serve for both splits.
        assert_eq!(pixels(&open(&golden(name), Split::Train, None).unwrap().read(&order).unwrap()), pixels(&batch));
    }
    let train = open(&golden("groups.h5"), Split::Train, None).unwrap();
    let test = open(&golden("groups.h5"), Split::Test, None).unwrap();
    assert_eq!((train.len(), test.len()), (6, 2));
    let first = test.read(&[1]).unwrap();
    assert_eq!((labels(&first), pixels(&first)[0]), (vec![1], f32::from(value(1, 0, 0, 0) + 1) / 255.0));
}

/// 92 GB of images in a file with holes in place of all but three: only the rows asked for may be touched.
#[test]
fn hdf5_far_larger_than_memory_is_read_by_rows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large.h5");
    let file = hdf5::File::create(&path).unwrap();
    let whole = file.new_dataset::<u8>().alloc_time(Some(AllocTime::Early)).fill_time(FillTime::Never);
    let images = whole.shape([30_000_000, 3, 32, 32]).create("images").unwrap();
    let grey = ndarray::Array4::from_elem((1, 3, 32, 32), 51u8);
    for row in [0, 15_000_000, 29_999_999] {
        images.write_slice(&grey, (row..row + 1, .., .., ..)).unwrap();
    }
    drop((images, file));
    let source = open(text(&path), Split::Train, None).unwrap();
    assert_eq!(source.len(), 30_000_000);
    let batch = source.read(&[29_999_999, 0, 15_000_000]).unwrap();
    assert!(pixels(&batch).iter().all(|&p| p == 51.0 / 255.0));
    assert_eq!(batch.images.size(), [3, 3, 32, 32]);
}

/// Readers of two batches at once share one file handle.
#[test]
fn sources_are_read_by_several_threads() {
    let source = open(&golden("u8.h5"), Split::Train, None).unwrap();
    let expected = pixels(&all(&*source));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..50).for_each(|_| assert_eq!(pixels(&all(&*source)), expected)));
        }
    });
}

#[test]
fn hdf5_pair_in_a_folder_is_picked_by_split() {
    let Some(folder) = shared("cifar10") else { return };
    // Sums of pixels and single values as h5py reads them.
    for (split, count, sums, pixel) in [
        (Split::Train, 10_000, [456_420, 317_988, 488_063], 102),
        (Split::Test, 2_000, [475_641, 233_260, 421_867], 148),
    ] {
        let source = open(text(&folder), split, None).unwrap();
        assert_eq!((source.len(), source.shape().dim(), source.format()), (count, 3072, "HDF5"));
        let batch = source.read(&[0, 1, 1234]).unwrap();
        let bytes: Vec<u32> = pixels(&batch).iter().map(|p| (p * 255.0).round() as u32).collect();
        assert_eq!(bytes.chunks(3072).map(|image| image.iter().sum()).collect::<Vec<u32>>(), sums);
        assert_eq!(bytes[2 * 3072 + 2 * 1024 + 5 * 32 + 7], pixel);
        assert_eq!(labels(&batch), [0, 1, 4]);
    }
}

#[derive(serde::Deserialize)]
struct Decoded {
    shape: Vec<usize>,
    top: f32,
    pixels: Vec<f32>,
}

impl Decoded {
    /// [C, H, W] in [0, 1], grey spread over `channels`.
    fn planes(&self, channels: usize) -> Vec<f32> {
        let depth = self.shape.get(2).copied().unwrap_or(1);
        let plane = self.shape[0] * self.shape[1];
        (0..channels * plane).map(|i| self.pixels[i % plane * depth + i / plane % depth] / self.top).collect()
    }
}

#[test]
fn images_match_pillow() {
    let file = std::fs::read_to_string(golden("expected.json")).unwrap();
    let expected: std::collections::BTreeMap<String, Decoded> = serde_json::from_str(&file).unwrap();
    assert_eq!(expected.len(), 13);
    for (name, decoded) in expected.iter().filter(|(name, _)| *name != "clear.png") {
        let dir = tempfile::tempdir().unwrap();
        std::fs::copy(golden(name), dir.path().join(name)).unwrap();
        let source = open(text(dir.path()), Split::Train, None).unwrap();
        let channels = if name.starts_with("grey") { 1 } else { 3 };
        let found = all(&*source);
        assert_eq!(found.images.size()[1..], [channels, decoded.shape[0] as i64, decoded.shape[1] as i64], "{name}");
        // PNG is exact. JPEG decoders round differently, and spread halved colour planes by other filters.
        let tolerance = match name.as_str() {
            n if n.ends_with(".png") => 0.0,
            "colour420.jpg" | "progressive.jpg" => 6.0 / 255.0,
            _ => 2.5 / 255.0,
        };
        let pairs: Vec<(f32, f32)> = pixels(&found).into_iter().zip(decoded.planes(channels as usize)).collect();
        assert_eq!(pairs.len(), source.shape().dim() as usize);
        let worst = pairs.iter().map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("{name}: within {:.2}/255 of Pillow", worst * 255.0);
        assert!(pairs.iter().all(|(a, b)| (a - b).abs() <= tolerance), "{name}: {worst}");
        assert!(!pairs.iter().all(|(a, _)| *a == pairs[0].0), "{name}: a picture of one value tests nothing");
    }
}

#[test]
fn folders_have_classes_and_splits() {
    let file = std::fs::read_to_string(golden("expected.json")).unwrap();
    let expected: std::collections::BTreeMap<String, Decoded> = serde_json::from_str(&file).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let put = |from: &str, to: &str| {
        let to = dir.path().join(to);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(golden(from), to).unwrap();
    };
    put("grey.png", "train/ant/1.PNG");
    put("grey16.png", "train/ant/2.png");
    put("grey.png", "train/cat/1.png");
    put("grey.png", "test/ant/1.png");
    put("colour.png", "test/bee/1.png");
    std::fs::create_dir(dir.path().join("test/cat")).unwrap();
    std::fs::write(dir.path().join("test/ant/notes.txt"), "not an image").unwrap();
    std::fs::write(dir.path().join("test/ant/.hidden.png"), "not an image").unwrap();
    let train = open(text(dir.path()), Split::Train, None).unwrap();
    assert_eq!((train.len(), train.shape(), labels(&all(&*train))), (3, gray(9, 7), vec![0, 0, 1]));
    // One picture in colour makes all of them colour.
    let test = open(text(dir.path()), Split::Test, None).unwrap();
    let batch = test.read(&[1, 0]).unwrap();
    assert_eq!((test.shape().channels, labels(&batch)), (3, vec![1, 0]));
    assert_eq!(pixels(&batch), [expected["colour.png"].planes(3), expected["grey.png"].planes(3)].concat());
    let flat = open(text(&dir.path().join("train/ant")), Split::Test, None).unwrap();
    assert_eq!((flat.len(), flat.has_labels()), (2, false));
}

#[test]
fn limit_keeps_the_first_samples() {
    let whole = open("strokes:n=30", Split::Test, None).unwrap();
    let cut = open("strokes:n=30", Split::Test, Some(12)).unwrap();
    assert_eq!((cut.len(), cut.name()), (12, "strokes:n=30"));
    assert_eq!(pixels(&all(&*cut)), pixels(&all(&*whole))[..12 * 784]);
    assert_eq!(open("strokes:n=30", Split::Test, Some(99)).unwrap().len(), 30);
    let error = cut.read(&[3, 12]).unwrap_err();
    assert_eq!((error.exit_code(), error.to_string().contains("12")), (2, true));
}

#[test]
fn batches_drop_nothing_and_keep_the_order() {
    let source = open("strokes:n=50,size=8", Split::Train, None).unwrap();
    let order: Vec<u64> = (0..50).rev().chain([7, 7]).collect();
    let read: Vec<Batch> = batches(source.clone(), order.clone(), 16).collect::<Result<_>>().unwrap();
    assert_eq!(read.iter().map(|b| b.images.size()[0]).collect::<Vec<_>>(), [16, 16, 16, 4]);
    assert_eq!(read.iter().flat_map(|b| b.index.clone()).collect::<Vec<_>>(), order);
    let together: Vec<f32> = read.iter().flat_map(pixels).collect();
    assert_eq!(together, pixels(&source.read(&order).unwrap()));
    assert_eq!(batches(source.clone(), Vec::new(), 4).count(), 0);
    // An iterator left half-way ends its thread instead of waiting for ever.
    let mut some = batches(source.clone(), (0..50).collect(), 1);
    assert!(some.next().unwrap().is_ok());
    drop(some);
    let empty = source.read(&[]).unwrap();
    assert_eq!((empty.images.size(), empty.labels.unwrap().size()), (vec![0, 1, 8, 8], vec![0]));
}

/// Fails, or panics, at a given sample.
struct Faulty {
    at: u64,
    panics: bool,
}

impl Source for Faulty {
    fn name(&self) -> &str {
        "faulty"
    }
    fn len(&self) -> usize {
        10
    }
    fn shape(&self) -> ImageShape {
        gray(1, 1)
    }
    fn has_labels(&self) -> bool {
        false
    }
    fn read(&self, index: &[u64]) -> Result<Batch> {
        if index.contains(&self.at) {
            assert!(!self.panics, "a panic that the test wants");
            return Err(Error::request("faulty", "a sound sample", self.at.to_string()));
        }
        let images = tch::Tensor::zeros([index.len() as i64, 1, 1, 1], (tch::Kind::Float, tch::Device::Cpu));
        Ok(Batch { images, labels: None, index: index.to_vec() })
    }
}

#[test]
fn batches_end_with_the_error_that_stopped_them() {
    for (panics, code) in [(false, 2), (true, 1)] {
        let source = Arc::new(Faulty { at: 5, panics });
        let mut all: Vec<Result<Batch>> = batches(source, (0..10).collect(), 2).collect();
        assert_eq!(all.len(), 3);
        assert_eq!(all.pop().unwrap().unwrap_err().exit_code(), code);
        assert!(all.iter().all(Result::is_ok));
    }
    let none: Vec<Result<Batch>> = batches(Arc::new(Faulty { at: 0, panics: false }), vec![1], 0).collect();
    assert_eq!((none.len(), none[0].as_ref().unwrap_err().exit_code()), (1, 2));
}
