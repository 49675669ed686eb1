//! IDX, CIFAR-10's binary version, headers of pictures.

use super::{cases, damage, is_readable, opens};
use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;
use pullback::data::{self, Split};
use std::fs;
use std::io::Write;
use std::path::Path;

/// An IDX file of bytes.
fn idx(axes: &[u32], values: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, axes.len() as u8];
    axes.iter().for_each(|axis| bytes.extend_from_slice(&axis.to_be_bytes()));
    [bytes, values.to_vec()].concat()
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Images of bytes, of which one is white, so that the scale is plain, and a class each.
fn images() -> impl Strategy<Value = ([u32; 3], Vec<u8>, Vec<u8>)> {
    (1u32..6, 1u32..7, 1u32..7).prop_flat_map(|(n, h, w)| {
        let pixels = prop::collection::vec(any::<u8>(), (n * h * w) as usize);
        (Just([n, h, w]), pixels, prop::collection::vec(0u8..10, n as usize)).prop_map(|(axes, mut pixels, classes)| {
            pixels[0] = 255;
            (axes, pixels, classes)
        })
    })
}

fn place(folder: &Path, packed: bool, axes: &[u32; 3], pixels: &[u8], classes: &[u8]) {
    let files =
        [("images-idx3-ubyte", idx(axes, pixels)), ("labels-idx1-ubyte", idx(&[classes.len() as u32], classes))];
    for (name, bytes) in files {
        let (name, bytes) = if packed { (format!("{name}.gz"), gzipped(&bytes)) } else { (name.to_owned(), bytes) };
        fs::write(folder.join(format!("t10k-{name}")), bytes).unwrap();
    }
}

/// The values of all samples, as bytes, and their classes.
fn read(folder: &Path) -> (Vec<i64>, Vec<i64>) {
    let source = data::open(&folder.display().to_string(), Split::Test, None).unwrap();
    let batch = source.read(&(0..source.len() as u64).collect::<Vec<_>>()).unwrap();
    let pixels = (batch.images * 255.0).round().to_kind(tch::Kind::Int64).flatten(0, -1);
    (Vec::try_from(pixels).unwrap(), Vec::try_from(batch.labels.unwrap()).unwrap())
}

fn wide(bytes: &[u8]) -> Vec<i64> {
    bytes.iter().copied().map(i64::from).collect()
}

/// Records of CIFAR-10: a class, then planes that begin with a white pixel.
fn records(n: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec((0u8..10, any::<u8>()), n).prop_map(|records| {
        let record = |(class, grey): &(u8, u8)| [vec![*class, 255], vec![*grey; 3071]].concat();
        records.iter().flat_map(record).collect()
    })
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn idx_comes_back((axes, pixels, classes) in images(), packed in any::<bool>()) {
        let folder = tempfile::tempdir().unwrap();
        place(folder.path(), packed, &axes, &pixels, &classes);
        prop_assert_eq!(read(folder.path()), (wide(&pixels), wide(&classes)));
    }

    #[test]
    fn damaged_idx_is_read_or_refused(
        (axes, pixels, classes) in images(),
        packed in any::<bool>(),
        of_labels in any::<bool>(),
        damage in damage(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        place(folder.path(), packed, &axes, &pixels, &classes);
        let (kind, end) = (if of_labels { "labels-idx1" } else { "images-idx3" }, if packed { ".gz" } else { "" });
        let file = folder.path().join(format!("t10k-{kind}-ubyte{end}"));
        fs::write(&file, damage.done_to(&fs::read(&file).unwrap(), 16)).unwrap();
        let answer = opens(folder.path());
        prop_assert!(is_readable(&answer), "{:?}", answer);
    }

    #[test]
    fn cifar_comes_back(bytes in (1usize..4).prop_flat_map(records)) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("test_batch.bin"), &bytes).unwrap();
        let (classes, pixels): (Vec<_>, Vec<_>) = bytes.chunks_exact(3073).map(|r| (r[0], wide(&r[1..]))).unzip();
        prop_assert_eq!(read(folder.path()), (pixels.concat(), wide(&classes)));
    }

    #[test]
    fn damaged_cifar_is_read_or_refused(bytes in records(2), damage in damage()) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("test_batch.bin"), damage.done_to(&bytes, 4)).unwrap();
        let answer = opens(folder.path());
        prop_assert!(is_readable(&answer), "{:?}", answer);
    }

    #[test]
    fn damaged_pictures_are_read_or_refused(which in 0usize..6, damage in damage(), head in prop_oneof![Just(64usize), Just(1 << 20)]) {
        let name = ["grey.png", "palette.png", "grey_alpha.png", "grey.jpg", "colour420.jpg", "progressive.jpg"][which];
        let whole = fs::read(crate::files::root().join("tests/golden/data").join(name)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let class = folder.path().join("test/0");
        fs::create_dir_all(&class).unwrap();
        fs::write(class.join(name), damage.done_to(&whole, head)).unwrap();
        let answer = opens(folder.path());
        prop_assert!(is_readable(&answer), "{:?}", answer);
    }
}
