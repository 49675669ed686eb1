//! What is refused: each with exit code 2 and one line that says what was expected and what was found.

use super::{golden, gzip, idx, text};
use pullback::data::{Reading, Split, open};
use pullback::pipeline::inspect::describe;
use std::path::Path;
use tempfile::TempDir;

/// Opens and reads all of a data set that must be refused, with `words` in the one line that says why.
fn refuse(spec: &str, split: Split, words: &[&str]) {
    let outcome = open(spec, split, None).and_then(|source| {
        let index: Vec<u64> = (0..source.len() as u64).collect();
        source.read(&index).map(drop)
    });
    let Err(error) = outcome else { panic!("{spec} was accepted; its fault should be named with {words:?}") };
    let line = error.to_string();
    assert_eq!(error.exit_code(), 2, "{line}");
    assert!(!line.contains('\n') && line.contains("expected") && line.contains("found"), "{line}");
    for word in words {
        assert!(line.contains(word), "no {word:?} in: {line}");
    }
}

/// A folder with these files.
fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    dir
}

fn refuse_folder(files: &[(&str, &[u8])], split: Split, words: &[&str]) {
    refuse(text(folder(files).path()), split, words);
}

#[test]
fn names_that_mean_nothing() {
    refuse("no/such/place", Split::Test, &["no/such/place", "no such file or folder"]);
    refuse("", Split::Test, &["no such file or folder"]);
    refuse("strokesy", Split::Test, &["no such file or folder"]);
    refuse("strokes:n=0", Split::Test, &["strokes: n", "found 0"]);
    refuse("strokes:n=many", Split::Test, &["strokes: n", "found many"]);
    refuse("strokes:size=7", Split::Test, &["strokes: size", "8 to 1024", "found 7"]);
    refuse("strokes:colour=1", Split::Test, &["n=COUNT", "found colour=1"]);
    refuse_folder(&[], Split::Test, &["IDX", "an empty folder"]);
    refuse_folder(&[("notes.txt", b"")], Split::Test, &["pictures", "only \"notes.txt\""]);
    refuse_folder(&[("a", b""), ("b", b"")], Split::Test, &["2 entries, \"a\" the first"]);
    refuse("/dev/null", Split::Test, &["neither"]);
    for (bytes, kind) in [
        (&b""[..], "an empty file"),
        (b"\x1f\x8b\x08\0", "a gzip file"),
        (b"\0\0\x08\x03", "an IDX file"),
        (b"model: {}", "found text (in Python: numpy.savez("),
        (b"\xfe\xed\xfa\xce and more", "an unknown kind that begins with fe ed fa ce (in Python: numpy.savez("),
    ] {
        let dir = folder(&[("file", bytes)]);
        refuse(text(&dir.path().join("file")), Split::Test, &["an HDF5 or NumPy file", kind]);
    }
    let error = open("strokes", Split::Test, Some(0)).err().unwrap();
    assert_eq!((error.exit_code(), error.to_string()), (2, "limit: expected at least 1, found 0".to_owned()));
}

#[test]
fn broken_idx() {
    let images = "train-images-idx3-ubyte";
    let refuse_images = |bytes: &[u8], words: &[&str]| {
        refuse_folder(&[(images, bytes)], Split::Train, &[&[images], words].concat());
        // Packed, the same fault must be found, though not always in the same words.
        refuse_folder(&[("train-images-idx3-ubyte.gz", &gzip(bytes))], Split::Train, &[images]);
    };
    let good = idx(8, &[2, 3, 4], &[9; 24]);
    refuse_images(b"", &["ends too early"]);
    refuse_images(&good[..7], &["ends too early"]);
    refuse_images(&good[..39], &["40 bytes", "only 39"]);
    refuse_images(&[&good[..], b"x"].concat(), &["40 bytes", "more than that"]);
    refuse_images(&idx(8, &[2], &[1, 2]), &["3 axes", "found 00 00 08 01"]);
    refuse_images(&idx(0x0d, &[2, 1, 1], &[0; 8]), &["of bytes", "found 00 00 0d 03"]);
    refuse_images(b"\x08\x03\0\0 swapped, and of some length", &["found 08 03 00 00"]);
    refuse_images(&idx(8, &[0, 28, 28], &[]), &["at least one image", "none"]);
    refuse_images(&idx(8, &[5, 0, 28], &[]), &["images of 1 to", "1 x 0 x 28"]);
    // 2^96 bytes overflow u64; 2^62 fit, but no memory; 2^32 fit both and are not there.
    refuse_images(&idx(8, &[u32::MAX; 3], &[0; 9]), &["sensible size"]);
    refuse_images(&idx(8, &[1 << 31, 1 << 31, 1], &[0; 9]), &["sensible size"]);
    refuse_images(&idx(8, &[1 << 31, 2, 1], &[0; 9]), &["4294967312 bytes", "only 25"]);
    let packed = gzip(&good);
    refuse_folder(&[("train-images.idx3-ubyte.gz", &packed[..packed.len() - 9])], Split::Train, &["too early"]);
    let mut damaged = packed.clone();
    damaged[12] ^= 0xff;
    refuse_folder(&[("train-images-idx3-ubyte.gz", &damaged)], Split::Train, &["train-images"]);
    refuse_folder(&[(images, &good)], Split::Test, &["t10k-images-idx3-ubyte", "test split"]);
    let labels = "train-labels-idx1-ubyte";
    refuse_folder(&[(labels, &idx(8, &[1], &[1]))], Split::Train, &[images]);
    refuse_folder(&[(images, &good), (labels, &idx(8, &[3], &[1; 3]))], Split::Train, &["2 labels", "found 3"]);
    refuse_folder(&[(images, &good), (labels, &good)], Split::Train, &["1 axes", "00 00 08 03"]);
    let two = [("a-train-images-idx3-ubyte", &good[..]), ("b-train-images-idx3-ubyte", &good[..])];
    refuse_folder(&two, Split::Train, &["one file", "a-train", "b-train"]);
    let dir = folder(&[]);
    std::fs::create_dir(dir.path().join(images)).unwrap();
    let error = open(text(dir.path()), Split::Train, None).err().unwrap();
    assert_eq!(error.exit_code(), 2, "{error}");
}

#[test]
fn broken_cifar() {
    let record = [vec![3u8], vec![0; 3072]].concat();
    refuse_folder(&[("test_batch.bin", b"")], Split::Test, &["test_batch.bin", "3073", "0 bytes"]);
    refuse_folder(&[("test_batch.bin", &record[1..])], Split::Test, &["3073", "3072 bytes"]);
    refuse_folder(&[("test_batch.bin", &record)], Split::Train, &["data_batch_1.bin for the train split"]);
    let names = ["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_5.bin"];
    refuse_folder(&names.map(|name| (name, &record[..])), Split::Train, &["data_batch_4.bin", "no such file"]);
    let wrong = [record.clone(), vec![10], vec![0; 3072]].concat();
    refuse_folder(&[("test_batch.bin", &wrong)], Split::Test, &["test_batch.bin: label of sample 1", "found 10"]);
}

/// Writes an HDF5 file and expects it to be refused.
fn refuse_hdf5(write: impl Fn(&hdf5::File) -> hdf5::Result<()>, words: &[&str]) {
    let dir = folder(&[]);
    let path = dir.path().join("data.h5");
    write(&hdf5::File::create(&path).unwrap()).unwrap();
    refuse(text(&path), Split::Test, &[&["data.h5"], words].concat());
}

fn put<T: hdf5::H5Type>(file: &hdf5::Group, name: &str, shape: &[usize], values: &[T]) -> hdf5::Result<()> {
    let dataset = file.new_dataset::<T>().shape(shape).create(name)?;
    if values.is_empty() { Ok(()) } else { dataset.write_raw(values) }
}

#[test]
fn broken_hdf5() {
    let shape = &[2, 1, 2, 2][..];
    refuse_hdf5(|_| Ok(()), &["/images", "an empty file"]);
    refuse_hdf5(|f| put(f, "scores", &[2], &[0f32; 2]), &["a dataset /images", "found /scores"]);
    refuse_hdf5(|f| f.create_group("images").map(drop), &["a dataset /images"]);
    refuse_hdf5(|f| put(f, "images", shape, &[0i32; 8]), &["uint8, uint16, bool", "--full-scale V", "found int32"]);
    refuse_hdf5(|f| put(f, "images", shape, &[0i8; 8]), &["found int8"]);
    refuse_hdf5(|f| put(f, "images", &[8], &[0u8; 8]), &["[N, C, H, W]", "found [8]"]);
    refuse_hdf5(|f| put::<u8>(f, "images", &[0, 2, 2], &[]), &["at least one image", "found [0, 2, 2]"]);
    refuse_hdf5(|f| put::<u8>(f, "images", &[2, 0, 2], &[]), &["images of 1 to", "1 x 0 x 2 (C x H x W)"]);
    // Nothing is stored of these; memory must not be asked for them either.
    refuse_hdf5(|f| put::<u8>(f, "images", &[1, 3, 1 << 20, 1 << 20], &[]), &["1 to 268435456 values", "1048576"]);
    refuse_hdf5(|f| put::<u8>(f, "images", &[1, 1 << 31, 1 << 30], &[]), &["1 to 268435456 values"]);
    let words = ["/images", "17592186044416 bytes of values", "found 0 in the file (damaged, or never written?)"];
    refuse_hdf5(|f| put::<u8>(f, "images", &[1 << 40, 4, 4], &[]), &words);
    let crumbs = |f: &hdf5::File| f.new_dataset::<u8>().chunk((1, 1, 1, 1)).shape((1, 1, 512, 512)).create("images");
    refuse_hdf5(|f| crumbs(f).map(drop), &["/images", "65536 chunks for each sample", "found 262144"]);
    for (value, shown) in [(1.5f32, "1.5"), (-1e-6, "-0.000001"), (f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        let mut values = [0.5f32; 8];
        values[6] = value;
        let words = ["/images, sample 1", "pixels in [0, 1]", &format!("found {shown}")];
        refuse_hdf5(|f| put(f, "images", shape, &values), &words);
        let wide = values.map(f64::from);
        refuse_hdf5(|f| put(f, "images", shape, &wide), &["/images, sample 1", "pixels in [0, 1]"]);
    }
    // One past the end in double is 1 in single: the stored value counts.
    refuse_hdf5(|f| put(f, "images", shape, &[1.0 + f64::EPSILON; 8]), &["sample 0", "1.0000000000000002"]);
    let labelled = |f: &hdf5::File| put(f, "images", shape, &[9u8; 8]);
    refuse_hdf5(|f| labelled(f).and_then(|()| put(f, "labels", &[3], &[0i64; 3])), &["/labels", "[2]", "found [3]"]);
    let only_train = |f: &hdf5::File| put(&f.create_group("train")?, "images", shape, &[0u8; 8]);
    refuse_hdf5(only_train, &["/test/images", "only the other split"]);
}

/// Images of one grey, of which gzip leaves a thousandth: what the file holds is enough.
#[test]
fn what_is_packed_is_there() {
    let dir = folder(&[]);
    let path = dir.path().join("data.h5");
    {
        let file = hdf5::File::create(&path).unwrap();
        let images = file.new_dataset::<u8>().chunk((256, 1, 28, 28)).deflate(9).shape((8192, 1, 28, 28));
        images.create("images").unwrap().write_raw(&vec![200u8; 8192 * 28 * 28]).unwrap();
    }
    assert!(std::fs::metadata(&path).unwrap().len() < 20_000);
    assert_eq!(open(text(&path), Split::Test, None).unwrap().len(), 8192);
}

#[test]
fn damaged_hdf5() {
    let whole = std::fs::read(golden("u8.h5")).unwrap();
    refuse_folder(&[("test.h5", &whole[..600])], Split::Test, &["test.h5", "a readable HDF5 file", "truncated"]);
    refuse_folder(&[("test.h5", &whole)], Split::Train, &["train.h5", "only \"test.h5\""]);
    // The packed pixels overwritten: the file opens, a read fails. Deflate streams begin with 78.
    let mut damaged = whole.clone();
    let mut spoilt = 0;
    for i in 0..damaged.len() - 2 {
        if whole[i] == 0x78 && u16::from_be_bytes([whole[i], whole[i + 1]]).is_multiple_of(31) {
            damaged[i..i + 2].fill(0xee);
            spoilt += 1;
        }
    }
    assert!(spoilt >= 3, "{spoilt}");
    refuse_folder(&[("test.h5", &damaged)], Split::Test, &["test.h5: /images", "readable rows"]);
}

/// An archive that tells of more than is there: 2 GiB in its directory and in the array's header, which agree.
#[test]
fn an_archive_is_not_believed() {
    use std::io::{Cursor, Write};
    use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (33554432, 8, 8), }";
    let array =
        [b"\x93NUMPY\x01\x00", &118u16.to_le_bytes()[..], format!("{header:<117}\n").as_bytes(), &[255; 64 * 1000]]
            .concat();
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    archive
        .start_file("images.npy", SimpleFileOptions::default().compression_method(CompressionMethod::Stored))
        .unwrap();
    archive.write_all(&array).unwrap();
    let mut bytes = archive.finish().unwrap().into_inner();
    let told = (128u32 + 33_554_432 * 64).to_le_bytes();
    // Packed and unpacked size, in the entry's own header and in the directory.
    let directory = bytes.windows(4).rposition(|w| w == b"PK\x01\x02").unwrap();
    for place in [18, 22, directory + 20, directory + 24] {
        bytes[place..place + 4].copy_from_slice(&told);
    }
    let dir = folder(&[("vast.npz", &bytes)]);
    refuse(text(&dir.path().join("vast.npz")), Split::Test, &["vast.npz: images", "a sound .npz file", "cut short"]);
}

/// One byte of an array that is not compressed: only the archive's checksum tells.
#[test]
fn a_stored_array_is_compared_with_its_checksum() {
    use std::io::{Cursor, Write};
    use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (10, 8, 8), }";
    let head = [b"\x93NUMPY\x01\x00", &118u16.to_le_bytes()[..], format!("{header:<117}\n").as_bytes()].concat();
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for name in ["images.npy", "other.npy"] {
        archive.start_file(name, stored).unwrap();
        archive.write_all(&[&head[..], &[200; 640]].concat()).unwrap();
    }
    let mut bytes = archive.finish().unwrap().into_inner();
    let dir = folder(&[("sound.npz", &bytes)]);
    assert_eq!(open(text(&dir.path().join("sound.npz")), Split::Test, None).unwrap().len(), 10);
    let values = bytes.windows(640).position(|w| w == [200; 640]).unwrap();
    bytes[values + 639] ^= 1;
    let dir = folder(&[("damaged.npz", &bytes)]);
    let path = dir.path().join("damaged.npz");
    refuse(text(&path), Split::Test, &["damaged.npz: images", "a sound .npz file", "checksum"]);
    assert_eq!(open(&format!("{}:other", text(&path)), Split::Test, None).unwrap().len(), 10);
}

#[test]
fn broken_images() {
    let read = |name: &str| std::fs::read(golden(name)).unwrap();
    let (small, large, jpeg) = (read("grey.png"), read("grey.jpg"), read("colour444.jpg"));
    let sizes = ["b.jpg", "7 x 9 pixels", "\"a.png\"", "20 x 24"];
    refuse_folder(&[("a.png", &small), ("b.jpg", &large)], Split::Test, &sizes);
    refuse_folder(&[("a.png", b"")], Split::Test, &["a.png", "ends in its header"]);
    refuse_folder(&[("a.png", &small[..20])], Split::Test, &["a.png", "ends in its header"]);
    refuse_folder(&[("a.png", &small[..small.len() - 20])], Split::Test, &["a.png", "a readable PNG"]);
    refuse_folder(&[("a.jpeg", &jpeg[..30])], Split::Test, &["a.jpeg", "ends in its header"]);
    // The decoder itself would fill the missing part with grey.
    refuse_folder(&[("a.jpg", &jpeg[..jpeg.len() - 60])], Split::Test, &["a.jpg", "ends too early"]);
    refuse_folder(&[("a.png", b"GIF89a, or so it says")], Split::Test, &["a readable GIF image"]);
    refuse_folder(&[("a.png", b"text that is long enough")], Split::Test, &["a picture (PNG, JPEG,", "bytes [74, 65"]);
    refuse_folder(&[("clear.png", &read("clear.png"))], Split::Test, &["opaque pixels", "at pixel 31"]);
    refuse_folder(&[("a.png", &small), ("class/b.png", &small)], Split::Test, &["or in its subfolders", "both"]);
    refuse_folder(&[("train/a.png", &small)], Split::Test, &["a subfolder \"test\""]);
    refuse_folder(&[("class/deeper/a.txt", &small)], Split::Test, &["IDX", "only \"class\""]);
    // A class may be called train, or a third folder lie beside one split: nobody knows.
    let two = [("train/a.png", &small[..]), ("bus/b.png", &small[..])];
    refuse_folder(&two, Split::Train, &["\"train\" beside \"bus\"", "rename the folder"]);
    refuse_folder(
        &[("train/a.png", &small), ("test/b.png", &small)],
        Split::Val,
        &["a subfolder \"val\"", "train, test"],
    );
    // Four components: the third byte before the end of the frame header's first six counts them.
    let frame = jpeg.windows(2).position(|w| w[0] == 0xff && (0xc0..=0xc2).contains(&w[1])).unwrap();
    let mut inks = jpeg.clone();
    inks[frame + 9] = 4;
    refuse_folder(&[("a.jpg", &inks)], Split::Test, &["a.jpg", "grey or RGB", "CMYK", "-colorspace sRGB"]);
    let mut damaged = small.clone();
    let middle = damaged.len() - 25;
    damaged[middle] ^= 0xff;
    refuse_folder(&[("a.png", &damaged)], Split::Test, &["a.png", "a readable PNG"]);
    let mut vast = small.clone();
    vast[16..24].fill(0x7f);
    refuse_folder(&[("a.png", &vast)], Split::Test, &["a.png", "images of 1 to"]);
    let mut nonsense = small;
    nonsense[25] = 9;
    refuse_folder(&[("a.png", &nonsense)], Split::Test, &["makes no sense"]);
    assert!(Path::new(&golden("grey.png")).is_file());
}

/// A few bytes changed, or the end missing, anywhere: read as well as may be or refused, never a panic, never more than a line.
#[test]
fn damage_is_survived() {
    use pullback::seed::{Stage, generator};
    use rand::Rng;
    let mut files: Vec<(&str, Vec<u8>)> = vec![
        ("train-images-idx3-ubyte", idx(8, &[3, 4, 5], &[7; 60])),
        ("train-images-idx3-ubyte.gz", gzip(&idx(8, &[3, 4, 5], &[7; 60]))),
    ];
    for name in ["grey.png", "palette.png", "grey16.png", "colour420.jpg", "progressive.jpg", "grey.jpg"] {
        files.push((name, std::fs::read(golden(name)).unwrap()));
    }
    for name in ["u8.h5", "f16.h5", "groups.h5"] {
        files.push(("train.h5", std::fs::read(golden(name)).unwrap()));
    }
    let rounds = std::env::var("PULLBACK_FUZZ").map_or(60, |n| n.parse().unwrap());
    let (mut accepted, mut refused) = (0, 0);
    for (kind, (name, whole)) in files.iter().enumerate() {
        for round in 0..rounds {
            let mut rng = generator(7, Stage::Probe, round, kind as u64);
            let mut bytes = whole.clone();
            // Headers are short: without this weight most damage would fall on pixels.
            let reach = if rng.random_bool(0.5) { bytes.len().min(64) } else { bytes.len() };
            for _ in 0..rng.random_range(1..4) {
                bytes[rng.random_range(0..reach)] = rng.random();
            }
            if rng.random_bool(0.2) {
                bytes.truncate(rng.random_range(0..bytes.len()));
            }
            let dir = folder(&[(name, &bytes)]);
            let outcome = open(text(dir.path()), Split::Train, Some(3)).and_then(|source| {
                let index: Vec<u64> = (0..source.len() as u64).collect();
                source.read(&index).map(|batch| batch.images.isnan().any().int64_value(&[]))
            });
            match outcome {
                Ok(nan) => {
                    assert_eq!(nan, 0, "{name}, round {round}");
                    accepted += 1;
                }
                Err(error) => {
                    let line = error.to_string();
                    assert!(error.exit_code() == 2 && !line.contains('\n'), "{name}, round {round}: {line}");
                    refused += 1;
                }
            }
        }
    }
    println!("{accepted} read, {refused} refused");
    assert!(accepted > 20 && refused > 100, "{accepted} {refused}");
}

/// A part that is not there is nothing to tell of; one that cannot be read is.
#[test]
fn inspect_tells_of_parts_that_cannot_be_read() {
    let told = |files: &[(&str, &[u8])]| describe(text(folder(files).path()), &Reading::default());
    let (train, test) = ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte");
    let good = idx(8, &[2, 3, 4], &[9; 24]);
    let record = [vec![3u8], vec![99; 3072]].concat();
    let shown = told(&[(train, &good)]).unwrap();
    assert!(shown.contains("train         2 images 1x3x4") && !shown.contains("cannot"), "{shown}");
    let shown = told(&[("test_batch.bin", &record)]).unwrap();
    assert!(shown.contains("1 images 3x32x32") && !shown.contains("cannot"), "{shown}");
    let shown = told(&[(train, &good), (test, &good[..39])]).unwrap();
    assert!(shown.contains("test          cannot be read: ") && shown.contains("only 39"), "{shown}");
    let shown = told(&[("test_batch.bin", &record), ("data_batch_1.bin", &record)]).unwrap();
    assert!(shown.contains("train         cannot be read: ") && shown.contains("data_batch_2.bin"), "{shown}");
    // If it is the only one, it is the error.
    let error = told(&[(train, &good[..39])]).unwrap_err();
    assert!(error.exit_code() == 2 && error.to_string().contains(train), "{error}");

    let dir = tempfile::tempdir().unwrap();
    for file in ["parted.h5", "folder/train.h5"].map(|name| dir.path().join(name)) {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let group = hdf5::File::create(&file).unwrap();
        let group = if file.ends_with("parted.h5") { group.create_group("train").unwrap() } else { (*group).clone() };
        group.new_dataset::<f32>().shape([2, 1, 2, 2]).create("images").unwrap().write_raw(&[0.5f32; 8]).unwrap();
    }
    for place in ["parted.h5", "folder"] {
        let shown = describe(text(&dir.path().join(place)), &Reading::default()).unwrap();
        assert!(shown.contains("train         2 images 1x2x2") && !shown.contains("cannot"), "{shown}");
    }
}
