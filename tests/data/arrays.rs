//! Arrays as people keep them: .npy, .npz and HDF5 of every type and layout, written by NumPy and h5py.

use super::{all, labels, pixels, text};
use pullback::data::{FullScale, Layout, Reading, Source, Split, open, open_as};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, LazyLock};

/// What Python writes; `x` [7, 6, 5, 3] bytes, channels last, of known values.
const WRITE: &str = "
import numpy as np, h5py
x = (np.arange(7 * 6 * 5 * 3) * 37 % 251).astype('u1').reshape(7, 6, 5, 3)
y = np.arange(7) % 3
c = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
np.save('last.npy', x); np.save('first.npy', c); np.save('float.npy', (x / 255).astype('f4'))
np.save('half.npy', (x / 255).astype('f2')); np.save('big.npy', (x / 255).astype('>f8')); np.save('fortran.npy', np.asfortranarray(x))
np.save('x.npy', x); np.save('y.npy', y); np.save('words.npy', (x.astype('u2') * 257)); np.save('ints.npy', x.astype('i4'))
np.save('bits.npy', x > 99); np.save('dull.npy', (x > 99).astype('u1')); np.save('twelve.npy', x.astype('u2') * 16)
np.save('tiny.npy', (x / 255 / 20).astype('f4')); np.save('records.npy', np.zeros(3, dtype=[('a', 'f4')]))
np.save('objects.npy', np.array([{}]), allow_pickle=True)
for name, save in (('stored', np.savez), ('packed', np.savez_compressed)):
    save(name + '.npz', train_images=x, train_labels=y[:, None], test_images=x[:2], test_labels=y[:2, None], val_images=x[:3], val_labels=y[:3])
    save(name + '_keras.npz', x_train=x, y_train=y, x_test=x[:2], y_test=y[:2])
np.savez('other.npz', a=x, b=x[:1]); np.savez('lone.npz', anything=x)
for images, labels in (('data', 'labels'), ('x', 'labels'), ('images', 'y'), ('X', 'y'), ('pictures', 'Y')):
    np.savez_compressed(f'{images}_{labels}.npz', **{images: x, labels: y})
np.savez('fewer.npz', images=x, y=y[:3]); np.savez('split.npz', x_train=x, y=y); np.savez('texts.npz', x=x, labels=np.array(['a'] * 7))
def put(name, **of):
    with h5py.File(name, 'w') as f:
        for key, value in of.items():
            value, options = value if isinstance(value, tuple) else (value, {})
            f.create_dataset(key, data=value, **options)
five = np.concatenate([c, c[:, :2]], 1)
put('last.h5', images=x, labels=y); put('five.h5', images=five); put('lzf.h5', images=(x, dict(chunks=(2, 6, 5, 3), compression='lzf', shuffle=True)))
put('checked.h5', images=(x, dict(chunks=(2, 6, 5, 3), compression=1, shuffle=True, fletcher32=True)))
put('ints.h5', images=x.astype('i8')); put('bits.h5', images=x > 99); put('words.h5', images=x.astype('u2') * 257)
put('pcam.h5', x=x, y=y[:, None, None, None]); put('deep.h5', **{'a/b/pictures': x})
put('chunk.h5', images=(np.zeros((70, 1, 1000, 1000), 'u1') + np.arange(70, dtype='u1')[:, None, None, None], dict(chunks=(70, 1, 1000, 1000), compression=1)))
put('ordered.h5', images=np.repeat(x, 9, 0), labels=np.repeat(np.arange(7), 9))
put('attributes.h5', images=x, labels=np.zeros((7, 4)))
put('val.h5', **{'train/images': x, 'train/labels': y, 'valid/images': x[:3]})
with h5py.File('block.h5', 'w', userblock_size=512) as f:
    f['images'], f['labels'] = x, y
# H x W x C x N, and N x H x W x C, as MATLAB 7.3 has them: axes reversed, behind a user block.
for name, stored in (('matlab.mat', x.transpose(0, 3, 2, 1)), ('first.mat', x.T)):
    with h5py.File(name, 'w', userblock_size=512) as f:
        f['X'] = np.ascontiguousarray(stored)
        f['X'].attrs['MATLAB_class'] = np.bytes_('uint8')
    with open(name, 'r+b') as f:
        f.write(b'MATLAB 7.3 MAT-file, Platform: GLNXA64 HDF5 schema 1.00 .'.ljust(116) + bytes(8) + b'\\0\\2IM')
h5py.File('matlab.h5', 'w')['images'] = h5py.File('matlab.mat')['X'][:].swapaxes(-1, -2)
h5py.File('matlab_first.h5', 'w')['images'] = h5py.File('first.mat')['X'][:].T
p = h5py.h5p.create(h5py.h5p.DATASET_CREATE); p.set_chunk((7, 6, 5, 3)); p.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (3,))
with h5py.File('zstd.h5', 'w') as f:
    h5py.h5d.create(f.id, b'images', h5py.h5t.NATIVE_UINT8, h5py.h5s.create_simple(x.shape), p)
p = h5py.h5p.create(h5py.h5p.DATASET_CREATE); p.set_chunk((7, 6, 5, 3)); p.set_fletcher32(); p.set_deflate(1)
with h5py.File('tables.h5', 'w') as f:
    h5py.h5d.create(f.id, b'images', h5py.h5t.NATIVE_UINT8, h5py.h5s.create_simple(x.shape), p).write(h5py.h5s.ALL, h5py.h5s.ALL, x)
import struct
def idx(name, kind, array, dtype):
    open(name, 'wb').write(struct.pack('>BBBB', 0, 0, kind, array.ndim) + struct.pack('>' + 'I' * array.ndim, *array.shape) + array.astype(dtype).tobytes())
import os
os.mkdir('qmnist'); os.mkdir('emnist')
idx('qmnist/qmnist-test-images-idx3-ubyte', 8, x[..., 0], 'u1')
idx('qmnist/qmnist-test-labels-idx2-int', 12, np.stack([y] + [y + 100] * 7, 1), '>i4')
for name, rows in (('emnist-letters', 7), ('emnist-digits', 4)):
    idx(f'emnist/{name}-test-images-idx3-ubyte', 8, x[:rows, ..., 0], 'u1')
    idx(f'emnist/{name}-test-labels-idx1-ubyte', 8, y[:rows], 'u1')
";

static FOLDER: LazyLock<Option<tempfile::TempDir>> = LazyLock::new(|| {
    let interpreter = crate::files::interpreter();
    if !interpreter.exists() {
        println!("skipped: no {}", interpreter.display());
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let done = Command::new(interpreter).args(["-c", WRITE]).current_dir(folder.path()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Some(folder)
});

fn folder() -> Option<&'static Path> {
    FOLDER.as_ref().map(|f| f.path())
}

fn reading(layout: Option<Layout>, full_scale: Option<FullScale>) -> Reading {
    Reading { layout, full_scale, background: None }
}

fn source(name: &str, split: Split, reading: &Reading) -> Arc<dyn Source> {
    open_as(text(&folder().unwrap().join(name)), split, None, reading).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// The byte at [n, h, w, c] of `x`.
fn x(n: usize, h: usize, w: usize, c: usize) -> usize {
    (((n * 6 + h) * 5 + w) * 3 + c) * 37 % 251
}

/// `count` of the images as [C, H, W], a pixel by `f`.
fn images(count: usize, f: impl Fn(usize) -> f32) -> Vec<f32> {
    let mut found = Vec::new();
    for n in 0..count {
        for c in 0..3 {
            found.extend((0..30).map(|p| f(x(n, p / 5, p % 5, c))));
        }
    }
    found
}

fn bytes(count: usize) -> Vec<f32> {
    images(count, |v| v as f32 / 255.0)
}

fn close(name: &str, found: &[f32], expected: &[f32], allowed: f32) {
    assert_eq!(found.len(), expected.len(), "{name}");
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= allowed, "{name}, value {i}: {a}, expected {b}");
    }
}

#[test]
fn every_type_and_layout_gives_the_same_pixels() {
    let Some(_) = folder() else { return };
    let of = |layout, scale: Option<f64>| reading(layout, scale.map(FullScale::Value));
    let last = Some(Layout::Nhwc);
    for (name, reading, allowed) in [
        ("last.npy", of(None, None), 0.0),
        ("last.npy", of(last, None), 0.0),
        ("first.npy", of(None, None), 0.0),
        ("float.npy", of(None, None), 0.0),
        // Half precision has 11 bits.
        ("half.npy", of(None, None), 2f32.powi(-12)),
        ("big.npy", of(None, None), 0.0),
        ("words.npy", of(None, None), f32::EPSILON),
        ("ints.npy", of(None, Some(255.0)), 0.0),
        ("lone.npz", of(None, None), 0.0),
        ("other.npz:a", of(None, None), 0.0),
        ("last.h5", of(None, None), 0.0),
        ("block.h5", of(None, None), 0.0),
        ("matlab.h5", of(None, None), 0.0),
        ("matlab_first.h5", of(None, None), 0.0),
        ("lzf.h5", of(None, None), 0.0),
        ("checked.h5", of(None, None), 0.0),
        ("ints.h5", of(None, Some(255.0)), 0.0),
        ("words.h5", of(None, None), f32::EPSILON),
        ("pcam.h5:/x", of(None, None), 0.0),
        ("pcam.h5:x", of(None, None), 0.0),
        ("deep.h5:/a/b/pictures", of(None, None), 0.0),
    ] {
        let source = source(name, Split::Test, &reading);
        let found = all(&*source);
        assert_eq!(found.images.size(), [7, 3, 6, 5], "{name}");
        close(name, &pixels(&found), &bytes(7), allowed);
        // Scattered rows too, backwards.
        let some = source.read(&[5, 0, 1]).unwrap();
        assert!(some.images.get(1).equal(&found.images.get(0)) && some.images.get(0).equal(&found.images.get(5)));
    }
    for name in ["bits.npy", "bits.h5"] {
        let found = all(&*source(name, Split::Test, &Reading::default()));
        close(name, &pixels(&found), &images(7, |v| f32::from(u8::from(v > 99))), 0.0);
    }
    let five = source("five.h5", Split::Test, &Reading::default());
    assert_eq!(five.shape().channels, 5);
    // The stored values themselves.
    let free = source("last.npy", Split::Test, &reading(None, Some(FullScale::None)));
    close("free", &pixels(&all(&*free)), &images(7, |v| v as f32), 0.0);
    let half = source("dull.npy", Split::Test, &of(None, Some(1.0)));
    close("dull.npy", &pixels(&all(&*half)), &images(7, |v| f32::from(u8::from(v > 99))), 0.0);
}

#[test]
fn archives_have_splits_and_labels() {
    let Some(_) = folder() else { return };
    for name in ["stored.npz", "packed.npz", "stored_keras.npz", "packed_keras.npz"] {
        for (split, count) in [(Split::Train, 7), (Split::Test, 2), (Split::Val, 3)] {
            if name.contains("keras") && split == Split::Val {
                continue;
            }
            let found = all(&*source(name, split, &Reading::default()));
            close(name, &pixels(&found), &bytes(count), 0.0);
            assert_eq!(labels(&found), [0, 1, 2, 0, 1, 2, 0][..count], "{name}");
        }
    }
    for (name, split) in
        [("x.npy", Split::Test), ("last.h5", Split::Test), ("val.h5", Split::Train), ("pcam.h5:x", Split::Test)]
    {
        assert_eq!(labels(&all(&*source(name, split, &Reading::default()))), [0, 1, 2, 0, 1, 2, 0], "{name}");
    }
    assert_eq!(source("val.h5", Split::Val, &Reading::default()).len(), 3);
    for name in ["data_labels.npz", "x_labels.npz", "images_y.npz", "X_y.npz", "pictures_Y.npz:pictures"] {
        let found = all(&*source(name, Split::Train, &Reading::default()));
        assert_eq!(labels(&found), [0, 1, 2, 0, 1, 2, 0], "{name}");
    }
    // Of another number, of another split, of no numbers.
    for name in ["fewer.npz", "split.npz", "texts.npz"] {
        assert!(!source(name, Split::Train, &Reading::default()).has_labels(), "{name}");
    }
    let none = source("attributes.h5", Split::Test, &Reading::default());
    assert!(
        !none.has_labels() && none.notes().iter().any(|n| n.contains("no class of each image")),
        "{:?}",
        none.notes()
    );
    // Channels were found last by the shape alone: that is said.
    let notes = source("last.h5", Split::Test, &Reading::default()).notes();
    assert!(notes.iter().any(|n| n.contains("read as [N, H, W, C], 3x6x5 (--layout nchw if it is not)")), "{notes:?}");
}

#[test]
fn an_archive_of_arrays_is_inspected_as_data() {
    use pullback::pipeline::inspect::describe;
    let Some(folder) = folder() else { return };
    for (name, lines) in [
        ("stored.npz", &["NumPy .npz", "train         7 images 3x6x5, labelled", "val           3 images"][..]),
        ("lone.npz", &["kind          data", "test          7 images 3x6x5, no labels"]),
        ("x.npy", &["NumPy .npy"]),
    ] {
        let told = describe(text(&folder.join(name)), &Reading::default()).unwrap();
        assert!(lines.iter().all(|line| told.contains(line)), "{name}: {told}");
    }
    let model = crate::files::root().join("tests/models/flat.pt");
    assert!(describe(text(&model), &Reading::default()).unwrap().contains("TorchScript VAE"));
}

#[test]
fn idx_files_of_every_kind() {
    let Some(_) = folder() else { return };
    assert_eq!(labels(&all(&*source("qmnist", Split::Test, &Reading::default()))), [0, 1, 2, 0, 1, 2, 0]);
    assert_eq!(source("emnist:emnist-letters", Split::Test, &Reading::default()).len(), 7);
    assert_eq!(source("emnist:emnist-digits", Split::Test, &Reading::default()).len(), 4);
    let error = open(text(&folder().unwrap().join("emnist")), Split::Test, None).err().unwrap();
    assert!(error.to_string().contains("emnist:emnist-digits for that one"), "{error}");
    let error = open(text(&folder().unwrap().join("emnist:kanji")), Split::Test, None).err().unwrap();
    assert_eq!((error.exit_code(), error.to_string().contains("kanji")), (2, true), "{error}");
}

#[test]
fn a_chunk_beyond_the_usual_cache_is_read_by_rows() {
    let Some(_) = folder() else { return };
    // 70 MB, for which the file is opened anew with a larger cache.
    let source = source("chunk.h5", Split::Test, &reading(None, Some(FullScale::Value(255.0))));
    for n in [0u64, 69, 35, 1, 68] {
        let image = source.read(&[n]).unwrap().images;
        let expected = f64::from(n as f32 / 255.0);
        assert_eq!((image.min().double_value(&[]), image.max().double_value(&[])), (expected, expected));
    }
}

#[test]
fn a_part_of_ordered_classes_is_said() {
    let Some(folder) = folder() else { return };
    let notes = |limit| open(text(&folder.join("ordered.h5")), Split::Test, limit).unwrap().notes().join("; ");
    assert!(
        notes(Some(8)).contains("its first 8 samples are all of class 0 (--sample 8 draws from all)"),
        "{}",
        notes(Some(8))
    );
    assert!(!notes(Some(20)).contains("class") && !notes(None).contains("class"));
}

#[test]
fn what_would_be_wrong_is_refused_with_its_remedy() {
    let Some(folder) = folder() else { return };
    for (name, words) in [
        ("dull.npy", &["no value above 1", "--full-scale 1"][..]),
        ("tiny.npy", &["no value above 0.04", "--full-scale V"]),
        ("ints.npy", &["--full-scale V", "int32"]),
        ("ints.h5", &["--full-scale V", "int64"]),
        ("fortran.npy", &["Fortran order", "ascontiguousarray"]),
        ("records.npy", &["an array of numbers", "records"]),
        ("objects.npy", &["objects.npy", "numbers"]),
        ("other.npz", &["-d FILE.npz:NAME", "a, b"]),
        ("other.npz:c", &["an array c", "a, b"]),
        ("pcam.h5", &["-d FILE.h5:/NAME", "/x, /y"]),
        ("pcam.h5:/z", &["a dataset /z", "/x, /y"]),
        ("last.npy:pictures", &["an HDF5 or .npz file for \"pictures\"", "an .npy file, which is one array"]),
        (
            "matlab.mat",
            &["MATLAB", "['images'] = h5py.File('OLD.mat')[NAME][:].swapaxes(-1, -2) of H x W x C x N, or [:].T"],
        ),
        ("matlab.mat:/X", &["MATLAB", "swapaxes(-1, -2)"]),
        ("zstd.h5", &["h5repack"]),
        ("tables.h5", &["fletcher32", "h5repack"]),
    ] {
        let error = open(text(&folder.join(name)), Split::Test, None).map(drop).unwrap_err();
        let line = error.to_string();
        assert_eq!((error.exit_code(), line.lines().count()), (2, 1), "{name}: {line}");
        for word in words {
            assert!(line.contains(word), "{name}: no {word:?} in {line}");
        }
    }
    let notes = source("twelve.npy", Split::Test, &Reading::default()).notes();
    assert!(notes.iter().any(|n| n.contains("--full-scale 4095, if they have 12 bits")), "{notes:?}");
    // A scale that is too small for the values.
    let reading = reading(None, Some(FullScale::Value(100.0)));
    let error =
        open_as(text(&folder.join("last.npy")), Split::Test, None, &reading).unwrap().read(&[0, 1, 2]).unwrap_err();
    assert!(error.to_string().contains("values from 0 to 100, as --full-scale says"), "{error}");
}

#[test]
fn files_that_are_not_read_say_what_to_type() {
    let dir = tempfile::tempdir().unwrap();
    let tar = [vec![b'a'; 257], b"ustar\x0000".to_vec(), vec![0; 300]].concat();
    for (name, content, words) in [
        (
            "svhn.mat",
            &b"MATLAB 5.0 MAT-file, Platform: GLNXA64"[..],
            &["MATLAB 5", "scipy.io.loadmat", "numpy.savez"][..],
        ),
        ("d.parquet", b"PAR1\x15\x04", &["Parquet", "datasets.load_dataset", "numpy.savez"]),
        ("shard-000.tar", &tar, &["tar archive", "WebDataset", "tar xf"]),
        ("cifar.tar.gz", b"\x1f\x8b\x08\0\0", &["tar xzf"]),
        ("train_X.bin", &vec![7; 27_648], &["STL-10", "numpy.fromfile", "reshape(-1, 3, 96, 96)"]),
        ("test_batch", b"\x80\x02}q\0", &["a pickle", "pickle.load", "numpy.savez"]),
        ("model.zip", b"PK\x03\x04 and no more", &["zip archive"]),
        ("x.csv", b"1,2,3\n4,5,6\n", &["text", "numpy.savez"]),
        ("a.jpg", b"\xff\xd8\xff\xe0", &["a JPEG image", "give the folder"]),
    ] {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        let line = open(text(&path), Split::Test, None).map(drop).unwrap_err().to_string();
        for word in words {
            assert!(line.contains(word) && line.lines().count() == 1, "{name}: no {word:?} in {line}");
        }
    }
}
