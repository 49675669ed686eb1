//! IDX: the format of MNIST and similar data sets, plain or gzipped.
//!
//! Source: LeCun, Cortes & Burges, "The MNIST database", file formats: a big-endian header (two zero bytes, the type,
//! the number of axes, each axis as u32), then the values.

use crate::data::array::image_shape;
use crate::data::listing::Entry;
use crate::data::rows::{self, first_line, no_split, wrong};
use crate::data::{Batch, ImageShape, Source, Split};
use crate::error::{Error, Result};
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// One split of an IDX folder.
pub struct Idx {
    images: Array,
    labels: Option<Vec<i64>>,
    len: usize,
    shape: ImageShape,
    name: String,
}

/// True if a folder holds files that are named like IDX files.
pub fn recognise(entries: &[Entry]) -> bool {
    entries.iter().any(|e| ["-idx3-ubyte", "-idx1-ubyte", "-idx2-int"].iter().any(|kind| stem(&e.name).ends_with(kind)))
}

/// `Train-Images.idx3-ubyte.gz` and `train-images-idx3-ubyte` are the same name.
fn stem(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    name.strip_suffix(".gz").unwrap_or(&name).replace('.', "-")
}

impl Idx {
    /// Opens the images of `split` and their labels, if there are any.
    ///
    /// If the folder has several sets (`emnist-letters-train-images-idx3-ubyte`), opens the one that is `named`.
    pub fn open(folder: &Path, entries: &[Entry], split: Split, named: Option<&str>) -> Result<Self> {
        let own: Vec<&Entry> = entries.iter().filter(|e| named.is_none_or(|n| is_of(&stem(&e.name), n))).collect();
        if let (Some(named), true) = (named, own.is_empty()) {
            let found = format!("none among {} files", entries.len());
            return Err(wrong(folder, format!("files whose names begin with {named}-"), found));
        }
        let path = choose(folder, &own, split, "images-idx3-ubyte")?.ok_or_else(|| {
            let names = parts(split).join("-images-idx3-ubyte or ");
            let expected = format!("{names}-images-idx3-ubyte (plain or .gz)");
            no_split(folder, split, expected, format!("no such file among {}", entries.len()))
        })?;
        let images = Array::open(&path, BYTES, 3)?;
        let [count, height, width] = [images.axes[0], images.axes[1], images.axes[2]];
        if count == 0 {
            return Err(wrong(&path, "at least one image", "none"));
        }
        let shape = image_shape(&path.display().to_string(), 1, height.into(), width.into())?;
        // Labels of another set are nobody's here.
        let set = entries.iter().find(|e| e.path == path).and_then(|e| set_of(&stem(&e.name), split));
        let own: Vec<&Entry> = own.into_iter().filter(|e| set_of(&stem(&e.name), split) == set).collect();
        let labels = match choose(folder, &own, split, "labels-idx1-ubyte")? {
            Some(path) => Some(labels(&path, count)?),
            // QMNIST's labels: eight integers for each image, and the first is its class.
            None => choose(folder, &own, split, "labels-idx2-int")?.map(|p| rows_of_labels(&p, count)).transpose()?,
        };
        Ok(Self { images, labels, len: count as usize, shape, name: folder.display().to_string() })
    }
}

/// True for the files of the set `named`: `emnist-letters`, or the end of its name, `letters`.
fn is_of(stem: &str, named: &str) -> bool {
    let named = named.to_ascii_lowercase();
    let mut sets = Split::ALL.iter().filter_map(|split| set_of(stem, *split)).filter(|set| !set.is_empty());
    sets.any(|set| set == named || set.ends_with(&format!("-{named}")))
}

/// The set of a file of a split: `emnist-letters` of `emnist-letters-train-labels-idx1-ubyte`, nothing of `train-labels-idx1-ubyte`.
fn set_of(stem: &str, split: Split) -> Option<String> {
    let before = |part: &&str| {
        let (before, _) = stem.rsplit_once(&format!("{part}-"))?;
        let is_part = before.is_empty() || before.ends_with('-');
        is_part.then(|| before.trim_end_matches('-').to_owned())
    };
    parts(split).iter().find_map(before)
}

/// The names of a split in file names.
fn parts(split: Split) -> &'static [&'static str] {
    match split {
        Split::Train => &["train"],
        Split::Test => &["t10k", "test"],
        Split::Val => &["val", "valid", "validation"],
    }
}

/// The file of a split and kind: an exact name comes before a prefixed one (`emnist-digits-train-...`), plain before gzipped.
fn choose(folder: &Path, entries: &[&Entry], split: Split, kind: &str) -> Result<Option<PathBuf>> {
    let wanted: Vec<String> = parts(split).iter().map(|part| format!("{part}-{kind}")).collect();
    let named = |exact: bool| {
        let fits = |e: &&&Entry| {
            let stem = stem(&e.name);
            wanted.iter().any(|w| if exact { stem == *w } else { stem.ends_with(&format!("-{w}")) })
        };
        let mut found: Vec<&Entry> = entries.iter().filter(fits).copied().collect();
        found.sort_by_key(|e| e.name.to_ascii_lowercase().ends_with(".gz"));
        found
    };
    let exact = named(true);
    let found = if exact.is_empty() { named(false) } else { exact };
    let Some(first) = found.first() else { return Ok(None) };
    match found.iter().find(|e| stem(&e.name) != stem(&first.name)) {
        None => Ok(Some(first.path.clone())),
        Some(other) => {
            let both = format!("{:?} and {:?}", first.name, other.name);
            let set = stem(&first.name);
            let set = wanted.iter().find_map(|w| set.strip_suffix(&format!("-{w}"))).unwrap_or(&set).to_owned();
            let named = format!("{}:{set}", folder.display());
            let expected = format!("one file *{kind} for the {} split (or -d {named} for that one)", split.name());
            Err(wrong(folder, expected, both))
        }
    }
}

/// All labels of a file; there must be `count` of them.
fn labels(path: &Path, count: u32) -> Result<Vec<i64>> {
    let array = Array::open(path, BYTES, 1)?;
    if array.axes[0] != count {
        return Err(wrong(path, format!("{count} labels, one an image"), array.axes[0].to_string()));
    }
    let mut bytes = vec![0u8; count as usize];
    array.read(0, &mut bytes)?;
    Ok(bytes.into_iter().map(i64::from).collect())
}

/// The first of each image's integers.
fn rows_of_labels(path: &Path, count: u32) -> Result<Vec<i64>> {
    let array = Array::open(path, INTEGERS, 2)?;
    let [rows, columns] = [array.axes[0], array.axes[1]];
    if rows != count || columns == 0 {
        return Err(wrong(path, format!("{count} rows of labels, one an image"), format!("{rows} x {columns}")));
    }
    let mut bytes = vec![0u8; rows as usize * columns as usize * 4];
    array.read(0, &mut bytes)?;
    let first = |row: &[u8]| i64::from(i32::from_be_bytes([row[0], row[1], row[2], row[3]]));
    Ok(bytes.chunks_exact(columns as usize * 4).map(first).collect())
}

impl Source for Idx {
    fn name(&self) -> &str {
        &self.name
    }
    fn format(&self) -> &'static str {
        "IDX"
    }
    fn len(&self) -> usize {
        self.len
    }
    fn shape(&self) -> ImageShape {
        self.shape
    }
    fn has_labels(&self) -> bool {
        self.labels.is_some()
    }
    fn read(&self, index: &[u64]) -> Result<Batch> {
        let row = self.shape.dim() as u64;
        let bytes = rows::gather(index, row as usize, |r, out| self.images.read(r.start * row, out))?;
        let labels = self.labels.as_ref().map(|all| index.iter().map(|&i| all[i as usize]).collect::<Vec<_>>());
        rows::batch(rows::from_bytes(&bytes, self.shape)?, labels.as_deref(), index)
    }
}

/// Type codes of a header.
const BYTES: u8 = 8;
const INTEGERS: u8 = 12;

/// An array of bytes or integers: a plain file is read where needed, a gzipped one is unpacked into memory once.
struct Array {
    path: PathBuf,
    axes: Vec<u32>,
    values: Values,
}

enum Values {
    File { file: File, start: u64 },
    Memory(Vec<u8>),
}

impl Array {
    /// Reads the header, which must state values of the type `code` with `rank` axes, and checks that the values are there.
    fn open(path: &Path, code: u8, rank: u8) -> Result<Self> {
        let mut file = File::open(path).map_err(|e| Error::io(path, e))?;
        let size = file.metadata().map_err(|e| Error::io(path, e))?.len();
        let mut magic = [0u8; 2];
        let gzipped = size >= 2 && file.read_exact_at(&mut magic, 0).is_ok() && magic == [0x1f, 0x8b];
        let start = 4 + 4 * u64::from(rank);
        if gzipped {
            let mut stream = flate2::bufread::MultiGzDecoder::new(BufReader::new(file));
            let (axes, length) = header(path, &mut stream, code, rank)?;
            let mut bytes = Vec::new();
            // Reads at most one byte more than there should be, to notice a surplus.
            let read = stream.take(length.saturating_add(1)).read_to_end(&mut bytes);
            read.map_err(|e| broken(path, e))?;
            check_length(path, start + length, start + bytes.len() as u64, "bytes when unpacked")?;
            return Ok(Self { path: path.to_owned(), axes, values: Values::Memory(bytes) });
        }
        let (axes, length) = header(path, &mut file, code, rank)?;
        check_length(path, start.saturating_add(length), size, "bytes")?;
        Ok(Self { path: path.to_owned(), axes, values: Values::File { file, start } })
    }

    /// Fills `out` from byte `offset` of the values.
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        match &self.values {
            Values::File { file, start } => file.read_exact_at(out, start + offset).map_err(|e| broken(&self.path, e)),
            Values::Memory(bytes) => {
                let from = offset as usize;
                out.copy_from_slice(&bytes[from..from + out.len()]);
                Ok(())
            }
        }
    }
}

/// The axes that a header states, and how many bytes they take.
fn header(path: &Path, stream: &mut impl Read, code: u8, rank: u8) -> Result<(Vec<u32>, u64)> {
    let mut magic = [0u8; 4];
    stream.read_exact(&mut magic).map_err(|e| broken(path, e))?;
    if magic != [0, 0, code, rank] {
        let values = if code == BYTES { "bytes" } else { "integers" };
        let expected = format!("an IDX file of {values} with {rank} axes (it begins with 00 00 {code:02x} {rank:02x})");
        let [a, b, c, d] = magic;
        return Err(wrong(path, expected, format!("{a:02x} {b:02x} {c:02x} {d:02x}")));
    }
    let mut axes = vec![0u32; usize::from(rank)];
    for axis in &mut axes {
        let mut bytes = [0u8; 4];
        stream.read_exact(&mut bytes).map_err(|e| broken(path, e))?;
        *axis = u32::from_be_bytes(bytes);
    }
    let width = if code == BYTES { 1u64 } else { 4 };
    let length = axes.iter().try_fold(width, |product, &axis| product.checked_mul(u64::from(axis)));
    // A length that memory cannot address means a broken header, not a large file.
    match length.filter(|&l| l < isize::MAX as u64 / 8) {
        Some(length) => Ok((axes, length)),
        None => Err(wrong(path, "a sensible size in the header", format!("axes {axes:?}"))),
    }
}

fn check_length(path: &Path, expected: u64, found: u64, unit: &str) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    let more = if found > expected { "more" } else { "only" };
    let found = if found > expected { format!("{more} than that") } else { format!("{more} {found}") };
    Err(wrong(path, format!("{expected} {unit}, as its header says"), found))
}

/// The error of a failed read: an early end and damage are the file's faults; other errors are the system's.
fn broken(path: &Path, e: std::io::Error) -> Error {
    match e.kind() {
        ErrorKind::UnexpectedEof => wrong(path, "a whole IDX file", "one that ends too early"),
        ErrorKind::InvalidData | ErrorKind::InvalidInput => wrong(path, "a sound gzip file", first_line(&e)),
        _ => Error::io(path, e),
    }
}
