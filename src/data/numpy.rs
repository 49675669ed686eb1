//! NumPy's files: `.npy`, and the arrays of an `.npz`. If an array is not compressed, only the requested rows are read.
//!
//! Source: NEP 1, "A simple file format for NumPy arrays"; an `.npz` is a zip archive of such files.

use crate::data::array::{Axes, Numbers, class, is_one_each};
use crate::data::names;
use crate::data::rows::{self, first_line, no_split, wrong};
use crate::data::{Batch, ImageShape, Reading, Source, Split};
use crate::error::{Error, Result};
use crate::zipped;
use npyz::{DType, Endianness, NpyHeader, Order, TypeChar};
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use zip::CompressionMethod;

/// The first bytes of an `.npy` file.
const SIGNATURE: &[u8] = b"\x93NUMPY";

/// One split of an `.npy` or `.npz` file.
pub struct Numpy {
    name: String,
    format: &'static str,
    images: Array,
    labels: Option<Vec<i64>>,
    axes: Axes,
    numbers: Numbers,
    scale: f64,
    reading: Reading,
    notes: Vec<String>,
}

/// True for the first bytes of an `.npy` file.
pub fn is_npy(bytes: &[u8]) -> bool {
    bytes.starts_with(SIGNATURE)
}

/// True for a zip archive of arrays.
pub fn is_npz(path: &Path) -> bool {
    !arrays(path).is_empty()
}

/// The names of the arrays in a zip archive, without `.npy`; empty if it holds none or cannot be read.
fn arrays(path: &Path) -> Vec<String> {
    let Some(archive) = File::open(path).ok().and_then(|file| zipped::open(file).ok()) else {
        return vec![];
    };
    let names = archive.file_names().filter_map(Result::ok);
    names.filter_map(|name| name.strip_suffix(".npy").map(ToOwned::to_owned)).collect()
}

impl Numpy {
    /// Opens an `.npy` file and the labels beside it.
    pub fn open_npy(path: &Path, reading: &Reading) -> Result<Self> {
        let images = Array::of_file(path)??;
        let own = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let beside = names::of_labels(&own).into_iter().map(|name| path.with_file_name(name)).find(|p| p.is_file());
        let labels = beside.map(|p| Array::of_file(&p)).transpose()?;
        Self::of(path, "NumPy .npy", images, labels, true, reading)
    }

    /// Opens the arrays of `split` in an `.npz` file, or the one that is `named`.
    pub fn open_npz(path: &Path, split: Split, named: Option<&str>, reading: &Reading) -> Result<Self> {
        let keys = arrays(path);
        let has = |name: &str| keys.iter().find(|key| *key == name).cloned();
        let of = |split: Split| names::of_split(split).find_map(|name| has(&name));
        let usual = || ["images", "imgs", "x", "X", "data"].into_iter().find_map(has);
        let lone = || <&[String; 1]>::try_from(&keys[..]).ok().map(|[only]| only.clone());
        let parted = named.is_none() && Split::ALL.into_iter().any(|split| of(split).is_some());
        let chosen = match named {
            Some(name) => has(name),
            None if parted => of(split),
            None => usual().or_else(lone),
        };
        let Some(chosen) = chosen else {
            if parted {
                let expected = format!("{0}_images or x_{0} (or -d FILE.npz:NAME)", split.name());
                return Err(no_split(path, split, expected, keys.join(", ")));
            }
            let expected = match named {
                Some(name) => format!("an array {name}"),
                None => format!("{0}_images, x_{0} or images (or -d FILE.npz:NAME)", split.name()),
            };
            return Err(wrong(path, expected, keys.join(", ")));
        };
        let images = Array::of_archive(path, &chosen)??;
        let twin = names::of_labels(&chosen).into_iter().find_map(|name| has(&name));
        if let Some(name) = twin {
            let labels = Array::of_archive(path, &name)?;
            return Self::of(path, "NumPy .npz", images, Some(labels), true, reading);
        }
        // Labels of any usual name, if there are as many: another array of that name may belong to other images.
        let usual = names::of_any_labels(&chosen).filter_map(has);
        let mut read: Vec<Fit<Array>> = usual.filter_map(|name| Array::of_archive(path, &name).ok()).collect();
        let as_many = |a: &Fit<Array>| a.as_ref().is_ok_and(|a| a.shape.first() == images.shape.first());
        let first = read.iter().position(as_many).unwrap_or(0);
        let labels = (first < read.len()).then(|| read.swap_remove(first));
        Self::of(path, "NumPy .npz", images, labels, false, reading)
    }

    /// Images with the labels that were found, which must be as many if they are the `twin` of the images.
    fn of(
        path: &Path,
        format: &'static str,
        images: Array,
        labels: Option<Fit<Array>>,
        twin: bool,
        reading: &Reading,
    ) -> Result<Self> {
        let axes = Axes::of(&images.place, &images.shape, reading)?;
        let scale = images.numbers.full_scale(&images.place, &images.type_name(), reading)?;
        let mut notes: Vec<String> =
            axes.note(reading).map(|note| format!("{}: {note}", images.place)).into_iter().collect();
        let labels = match labels {
            Some(Err(Unfit { place, found, .. })) => {
                notes.push(format!("{place}: left out, no class of each image: {found}"));
                None
            }
            Some(Ok(labels)) if labels.shape.first() != Some(&axes.count) && twin => {
                let expected = format!("[{}], one label an image", axes.count);
                return Err(Error::request(labels.place, expected, format!("{:?}", labels.shape)));
            }
            Some(Ok(labels)) if is_one_each(&labels.shape, axes.count) && labels.numbers != Numbers::Float => {
                Some(labels.classes()?)
            }
            Some(Ok(labels)) => {
                let found = format!("{:?} of {}", labels.shape, labels.type_name());
                notes.push(format!("{}: left out, {found} is no class of each image", labels.place));
                None
            }
            None => None,
        };
        let name = path.display().to_string();
        Ok(Self { name, format, numbers: images.numbers, images, labels, axes, scale, reading: *reading, notes })
    }
}

/// Arrays of at most so many bytes are compared with their checksum when they are opened: as long as it takes to read them, after which the
/// system has them in memory. A larger one may be far longer than the rows that are wanted.
const CHECKED: u64 = 4 << 30;

/// An array that is not read although its file is sound: what it would have to hold, and what it holds.
struct Unfit {
    place: String,
    expected: &'static str,
    found: String,
}

impl From<Unfit> for Error {
    fn from(Unfit { place, expected, found }: Unfit) -> Self {
        Self::request(place, expected, found)
    }
}

/// Arrays as they are found: labels that are no numbers are left out, images are refused.
type Fit<T> = std::result::Result<T, Unfit>;

/// An array of numbers in C order: in the file if it is stored there uncompressed, otherwise unpacked into memory once.
struct Array {
    place: String,
    shape: Vec<usize>,
    numbers: Numbers,
    kind: (TypeChar, usize),
    big_endian: bool,
    values: Values,
}

enum Values {
    File { path: PathBuf, file: File, start: u64 },
    Memory(Vec<u8>),
}

impl Array {
    fn of_file(path: &Path) -> Result<Fit<Self>> {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        let size = file.metadata().map_err(|e| Error::io(path, e))?.len();
        let place = path.display().to_string();
        let begun = Self::begin(&place, BufReader::new(&file), size)?;
        Ok(begun.map(|(array, start)| Self { values: Values::File { path: path.to_owned(), file, start }, ..array }))
    }

    fn of_archive(path: &Path, name: &str) -> Result<Fit<Self>> {
        let place = format!("{}: {name}", path.display());
        let broken =
            |e: &dyn std::fmt::Display| Error::request(place.clone(), "a sound .npz file", first_line(&e.to_string()));
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        let length = file.metadata().map_err(|e| Error::io(path, e))?.len();
        let mut archive = zipped::open(file).map_err(|e| broken(&e))?;
        let mut entry = archive.by_name(&format!("{name}.npy")).map_err(|e| broken(&e))?;
        let (size, stored) = (entry.size(), entry.compression() == CompressionMethod::Stored);
        if let (true, Some(data)) = (stored, entry.data_start()) {
            // A header and an archive that agree on a size may both be wrong.
            if data.saturating_add(size) > length {
                return Err(broken(&"an array cut short"));
            }
            let begun = Self::begin(&place, &mut entry, size)?;
            if size <= CHECKED {
                // The archive's checksum is compared at the end of the entry.
                std::io::copy(&mut entry, &mut std::io::sink()).map_err(|e| broken(&e))?;
            }
            let file = File::open(path).map_err(|e| Error::io(path, e))?;
            return Ok(begun.map(|(array, start)| Self {
                values: Values::File { path: path.to_owned(), file, start: data + start },
                ..array
            }));
        }
        // The header gives the size; the length that the archive gives is not trusted for memory.
        let (array, start) = match Self::begin(&place, &mut entry, size)? {
            Ok(begun) => begun,
            Err(unfit) => return Ok(Err(unfit)),
        };
        let mut bytes = Vec::new();
        entry.take(size - start + 1).read_to_end(&mut bytes).map_err(|e| broken(&e))?;
        if bytes.len() as u64 != size - start {
            return Err(broken(&"an array cut short"));
        }
        Ok(Ok(Self { values: Values::Memory(bytes), ..array }))
    }

    /// The array that a header describes, in `size` bytes with the header, and the position of its first value.
    fn begin(place: &str, reader: impl Read, size: u64) -> Result<Fit<(Self, u64)>> {
        let broken = |expected: &str, found: String| Error::request(place, expected, found);
        let unfit = |expected, found: String| Ok(Err(Unfit { place: place.to_owned(), expected, found }));
        let head = head(reader).map_err(|e| broken("a readable .npy header", first_line(&e)))?;
        if !is_sensible(&String::from_utf8_lossy(&head)) {
            return Err(broken("a readable .npy header", "one of no sensible shape".to_owned()));
        }
        let header = match NpyHeader::from_reader(&head[..]) {
            Ok(header) => header,
            Err(e) if e.to_string().contains("type string") => {
                return unfit("an array of numbers", "objects, or values of another type".to_owned());
            }
            Err(e) => return Err(broken("a readable .npy header", first_line(&e))),
        };
        let start = head.len() as u64;
        let DType::Plain(kind) = header.dtype() else {
            return unfit("an array of numbers", format!("records, {}", header.dtype().descr()));
        };
        let width = kind.num_bytes().unwrap_or(0);
        let numbers = match (kind.type_char(), width) {
            (TypeChar::Bool, 1) => Numbers::Bool,
            (TypeChar::Uint, 1) => Numbers::Bytes,
            (TypeChar::Uint, 2) => Numbers::Words,
            (TypeChar::Uint | TypeChar::Int, 1 | 2 | 4 | 8) => Numbers::Whole,
            (TypeChar::Float, 2 | 4 | 8) => Numbers::Float,
            _ => return unfit("an array of numbers", format!("values of type {kind}")),
        };
        if header.order() == Order::Fortran && header.shape().len() > 1 {
            let found = "Fortran order (in Python: numpy.save(FILE, numpy.ascontiguousarray(array)))";
            return unfit("values in C order", found.to_owned());
        }
        let shape: Vec<usize> = header.shape().iter().map(|n| usize::try_from(*n).unwrap_or(usize::MAX)).collect();
        let bytes = shape.iter().try_fold(width, |n, d| n.checked_mul(*d)).map(|n| n as u64);
        let held = size.saturating_sub(start);
        if bytes != Some(held) || start > size {
            return Err(broken(&format!("the values of {shape:?}, {width} bytes each"), format!("{held} bytes")));
        }
        let big_endian = kind.endianness() == Endianness::Big;
        let kind = (kind.type_char(), width);
        let values = Values::Memory(vec![]);
        Ok(Ok((Self { place: place.to_owned(), shape, numbers, kind, big_endian, values }, start)))
    }

    fn type_name(&self) -> String {
        let (char, width) = self.kind;
        let name = match char {
            TypeChar::Bool => return "bool".to_owned(),
            TypeChar::Uint => "uint",
            TypeChar::Int => "int",
            _ => "float",
        };
        format!("{name}{}", width * 8)
    }

    /// Bytes of the rows at `index`.
    fn bytes(&self, index: &[u64]) -> Result<Vec<u8>> {
        let row = self.shape[1..].iter().product::<usize>() * self.kind.1;
        rows::gather(index, row, |range, out: &mut [u8]| match &self.values {
            Values::File { path, file, start } => {
                file.read_exact_at(out, start + range.start * row as u64).map_err(|e| Error::io(path, e))
            }
            Values::Memory(bytes) => {
                let from = range.start as usize * row;
                out.copy_from_slice(&bytes[from..from + out.len()]);
                Ok(())
            }
        })
    }

    /// Little-endian bytes of the rows at `index`.
    fn little(&self, index: &[u64]) -> Result<Vec<u8>> {
        let mut bytes = self.bytes(index)?;
        if self.big_endian {
            bytes.chunks_exact_mut(self.kind.1).for_each(<[u8]>::reverse);
        }
        Ok(bytes)
    }

    /// Eight little-endian bytes of a value of as many or fewer.
    fn widened(&self, chunk: &[u8]) -> [u8; 8] {
        let (char, width) = self.kind;
        let fill = if char == TypeChar::Int && chunk[width - 1] >= 0x80 { 0xff } else { 0 };
        let mut eight = [fill; 8];
        eight[..width].copy_from_slice(chunk);
        eight
    }

    /// The rows at `index` in double precision.
    fn rows(&self, index: &[u64]) -> Result<Vec<f64>> {
        let (char, width) = self.kind;
        let value = |chunk: &[u8]| match (char, width) {
            (TypeChar::Float, 2) => half(u16::from_le_bytes([chunk[0], chunk[1]])),
            (TypeChar::Float, 4) => f64::from(f32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]])),
            (TypeChar::Float, _) => f64::from_le_bytes(self.widened(chunk)),
            (TypeChar::Int, _) => i64::from_le_bytes(self.widened(chunk)) as f64,
            _ => u64::from_le_bytes(self.widened(chunk)) as f64,
        };
        Ok(self.little(index)?.chunks_exact(width).map(value).collect())
    }

    /// All values of an array of whole numbers, each a class.
    fn classes(&self) -> Result<Vec<i64>> {
        let (char, width) = self.kind;
        let all: Vec<u64> = (0..self.shape.first().copied().unwrap_or(0) as u64).collect();
        let value = |chunk: &[u8]| match char {
            TypeChar::Int => Ok(i64::from_le_bytes(self.widened(chunk))),
            _ => class(&self.place, u64::from_le_bytes(self.widened(chunk))),
        };
        self.little(&all)?.chunks_exact(width).map(value).collect()
    }
}

/// A number in half precision.
fn half(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    match exponent {
        0 => sign * fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => sign * f64::INFINITY,
        31 => f64::NAN,
        _ => sign * (1024.0 + fraction) * 2f64.powi(exponent - 25),
    }
}

/// The longest header that is read; NumPy's headers have some hundred bytes.
const LONGEST: u64 = 1 << 20;
/// The deepest nesting of brackets in a header; the types of records have a depth of four, of records in records six. The parser takes twice as
/// long and more for each level, because it tries several meanings of a bracket.
const DEEPEST: usize = 6;

/// Signature, version, length and text of a header, as far as they exist.
fn head(mut reader: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.by_ref().take(8).read_to_end(&mut bytes)?;
    let width = if bytes.get(6) == Some(&1) { 2 } else { 4 };
    reader.by_ref().take(width).read_to_end(&mut bytes)?;
    let length = bytes.get(8..).unwrap_or_default().iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte));
    reader.take(length.min(LONGEST)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// False for a header that the parser cannot handle: nested too deeply for the stack, or with a shape whose product overflows.
fn is_sensible(head: &str) -> bool {
    let mut depth = 0usize;
    let deepest = head.chars().map(|c| {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth
    });
    let shape = head.split_once("shape").and_then(|(_, rest)| rest.split_once('(')?.1.split_once(')'));
    let axes = shape.map_or("", |(axes, _)| axes).split(',');
    let mut numbers = axes.filter_map(|axis| axis.trim().trim_end_matches('L').parse::<u64>().ok());
    deepest.max() <= Some(DEEPEST) && numbers.try_fold(8u64, |product, n| product.checked_mul(n.max(1))).is_some()
}

impl Source for Numpy {
    fn name(&self) -> &str {
        &self.name
    }
    fn format(&self) -> &'static str {
        self.format
    }
    fn len(&self) -> usize {
        self.axes.count
    }
    fn shape(&self) -> ImageShape {
        self.axes.shape
    }
    fn sample(&self) -> Vec<i64> {
        self.axes.sample.clone()
    }
    fn full_scale(&self) -> f64 {
        self.scale
    }
    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }
    fn has_labels(&self) -> bool {
        self.labels.is_some()
    }
    fn read(&self, index: &[u64]) -> Result<Batch> {
        let (place, reading) = (&self.images.place, &self.reading);
        let pixels = match self.numbers {
            Numbers::Bytes => self.numbers.pixels(place, index, &self.images.bytes(index)?, self.scale, reading)?,
            _ => self.numbers.pixels(place, index, &self.images.rows(index)?, self.scale, reading)?,
        };
        let labels = self.labels.as_ref().map(|all| index.iter().map(|&i| all[i as usize]).collect::<Vec<_>>());
        rows::batch(self.axes.images(&pixels)?, labels.as_deref(), index)
    }
}
