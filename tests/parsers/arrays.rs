//! NumPy's files and safetensors.

use super::{cases, damage, is_readable, opens};
use proptest::prelude::*;
use pullback::data::{self, Split};
use pullback::model::{read_tensors, write_tensors};
use std::fs;
use std::io::{Cursor, Write};
use tch::{Kind, Tensor};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// An `.npy` file of version 1.0.
fn npy(descr: &str, shape: &[usize], values: &[u8]) -> Vec<u8> {
    let shape: String = shape.iter().map(|n| format!("{n}, ")).collect();
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}");
    // Six bytes of signature, two of version, two of length; 64 bytes or a multiple in all.
    while !(10 + header.len() + 1).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let length = (header.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), values].concat()
}

/// A zip archive of one array.
fn npz(array: &[u8], method: CompressionMethod) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    archive.start_file("images.npy", SimpleFileOptions::default().compression_method(method)).unwrap();
    archive.write_all(array).unwrap();
    archive.finish().unwrap().into_inner()
}

/// Type, numbers from 0 to 255 as they are stored, and their value 1.
fn stored(kind: usize, numbers: &[u8]) -> (&'static str, Vec<u8>, f64) {
    let each = |bytes: fn(u8) -> Vec<u8>| numbers.iter().flat_map(|n| bytes(*n)).collect();
    match kind {
        0 => ("|u1", numbers.to_vec(), 255.0),
        1 => ("<f4", each(|n| (f32::from(n) / 255.0).to_le_bytes().to_vec()), 1.0),
        2 => (">f8", each(|n| (f64::from(n) / 255.0).to_be_bytes().to_vec()), 1.0),
        _ => ("<u2", each(|n| (u16::from(n) * 257).to_le_bytes().to_vec()), 65535.0),
    }
}

fn images() -> impl Strategy<Value = ([usize; 3], Vec<u8>)> {
    (1usize..5, 5usize..8, 5usize..8).prop_flat_map(|(n, h, w)| {
        let numbers = prop::collection::vec(any::<u8>(), n * h * w).prop_map(|mut numbers| {
            numbers[0] = 255;
            numbers
        });
        (Just([n, h, w]), numbers)
    })
}

fn tensor() -> impl Strategy<Value = Tensor> {
    let kinds = prop::sample::select(vec![Kind::Float, Kind::Double, Kind::Int64, Kind::Uint8]);
    (prop::collection::vec(0i64..4, 0..4), kinds).prop_map(|(shape, kind)| {
        let count: i64 = shape.iter().product();
        Tensor::arange(count, (Kind::Double, tch::Device::Cpu)).sin().multiply_scalar(90.0).to_kind(kind).reshape(shape)
    })
}

/// Where an array lies.
#[derive(Clone, Copy, Debug)]
enum Case {
    Plain,
    Stored,
    Packed,
}

fn case() -> impl Strategy<Value = Case> {
    prop::sample::select(vec![Case::Plain, Case::Stored, Case::Packed])
}

fn file(case: Case, array: &[u8]) -> (&'static str, Vec<u8>) {
    match case {
        Case::Plain => ("x.npy", array.to_vec()),
        Case::Stored => ("x.npz", npz(array, CompressionMethod::Stored)),
        Case::Packed => ("x.npz", npz(array, CompressionMethod::Deflated)),
    }
}

proptest! {
    #![proptest_config(cases(96))]

    #[test]
    fn arrays_come_back((shape, numbers) in images(), kind in 0usize..4, case in case()) {
        let folder = tempfile::tempdir().unwrap();
        let (descr, bytes, scale) = stored(kind, &numbers);
        let (name, bytes) = file(case, &npy(descr, &shape, &bytes));
        fs::write(folder.path().join(name), bytes).unwrap();
        let source = data::open(&folder.path().join(name).display().to_string(), Split::Test, None).unwrap();
        prop_assert_eq!((source.len(), source.full_scale()), (shape[0], scale));
        let images = source.read(&(0..shape[0] as u64).collect::<Vec<_>>()).unwrap().images;
        let found = Vec::<i64>::try_from((images * 255.0).round().to_kind(Kind::Int64).flatten(0, -1)).unwrap();
        prop_assert_eq!(found, numbers.iter().copied().map(i64::from).collect::<Vec<_>>());
    }

    #[test]
    fn damaged_arrays_are_read_or_refused(
        (shape, numbers) in images(),
        kind in 0usize..4,
        case in case(),
        damage in damage(),
        inside in any::<bool>(),
        head in prop_oneof![Just(128usize), Just(1 << 20)],
    ) {
        let folder = tempfile::tempdir().unwrap();
        let (descr, bytes, _) = stored(kind, &numbers);
        let array = npy(descr, &shape, &bytes);
        // The array is damaged and packed soundly, or what holds it is damaged.
        let (name, bytes) = file(case, &if inside { damage.done_to(&array, head) } else { array });
        let bytes = if inside { bytes } else { damage.done_to(&bytes, head) };
        fs::write(folder.path().join(name), bytes).unwrap();
        let answer = opens(&folder.path().join(name));
        prop_assert!(is_readable(&answer), "{:?}", answer);
    }

    #[test]
    fn headers_of_any_shape_and_type_are_read_or_refused(
        shape in prop::collection::vec(prop_oneof![0usize..9, any::<usize>()], 0..6),
        descr in "[<>|=]?[buifcOSUV]?[0-9]{0,3}",
        held in prop::collection::vec(any::<u8>(), 0..64),
        case in case(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let (name, bytes) = file(case, &npy(&descr, &shape, &held));
        fs::write(folder.path().join(name), bytes).unwrap();
        let answer = opens(&folder.path().join(name));
        prop_assert!(is_readable(&answer), "{:?}", answer);
    }

    #[test]
    fn tensors_come_back(tensors in prop::collection::btree_map("[a-z.]{1,12}", tensor(), 1..5), text in "\\PC{0,30}") {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let named: Vec<(String, Tensor)> = tensors.iter().map(|(name, t)| (name.clone(), t.shallow_clone())).collect();
        write_tensors(&path, &named, Some([("note".to_owned(), text.clone())].into())).unwrap();
        let found = read_tensors(&path).unwrap();
        prop_assert_eq!(&found.metadata["note"], &text);
        prop_assert_eq!(found.tensors.len(), tensors.len());
        for (name, tensor) in &found.tensors {
            prop_assert_eq!((tensor.size(), tensor.kind()), (tensors[name].size(), tensors[name].kind()));
            prop_assert!(tensor == &tensors[name]);
        }
    }

    #[test]
    fn damaged_tensors_are_read_or_refused(tensor in tensor(), damage in damage()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        write_tensors(&path, &[("a", tensor.shallow_clone()), ("b.weight", tensor)], None).unwrap();
        fs::write(&path, damage.done_to(&fs::read(&path).unwrap(), 160)).unwrap();
        let answer = read_tensors(&path);
        prop_assert!(is_readable(&answer), "{:?}", answer);
    }
}
