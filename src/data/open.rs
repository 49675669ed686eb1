//! Decides which kind of data set a name means, and makes the checks that every kind shares.

use crate::data::listing::list;
use crate::data::rows::wrong;
use crate::data::{
    Batch, FullScale, ImageShape, Reading, Source, Split, cifar, folder, foreign, hdf5, idx, numpy, strokes,
};
use crate::error::{Error, Result};
use crate::store::superblock;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use tch::Tensor;

/// The possible kinds of data sets; shown if a name means none of them.
const KINDS: &str = "IDX files, CIFAR-10 data_batch_*.bin, train.h5 and test.h5, or pictures";

/// Opens the `split` of a data set; only its first `limit` samples if a limit is given.
///
/// `spec` is recognised by what it is: `strokes` (or `strokes:n=100000,size=32`), an HDF5 or NumPy file (or `FILE:NAME`, one of its
/// arrays), or a folder with IDX files (or `FOLDER:NAME`, one of several sets), CIFAR-10 binary batches, `train.h5` and `test.h5`, or
/// images. See docs/data.md.
///
/// # Errors
/// One line that names the file, what was expected and what was found.
pub fn open(spec: &str, split: Split, limit: Option<usize>) -> Result<Arc<dyn Source>> {
    open_as(spec, split, limit, &Reading::default())
}

/// [`open`], with data read as `reading` says.
///
/// # Errors
/// As [`open`]; a wrong request if values are so small that their scale must be another.
pub fn open_as(spec: &str, split: Split, limit: Option<usize>, reading: &Reading) -> Result<Arc<dyn Source>> {
    if limit == Some(0) {
        return Err(Error::request("limit", "at least 1", "0"));
    }
    checked(spec, recognise(spec, split, reading)?, limit, reading)
}

/// A data set under the name that the user knows, its first `limit` samples, as [`open_as`] gives it.
///
/// # Errors
/// As [`open_as`].
pub(super) fn checked(
    spec: &str,
    source: Box<dyn Source>,
    limit: Option<usize>,
    reading: &Reading,
) -> Result<Arc<dyn Source>> {
    let len = limit.map_or(source.len(), |l| l.min(source.len()));
    if len == 0 {
        return Err(Error::request(spec, "at least one image", "none"));
    }
    let mut notes = source.notes();
    if reading.full_scale.is_none() {
        notes.extend(plausible(spec, source.as_ref())?);
    }
    notes.extend(one_class(spec, source.as_ref(), len)?);
    Ok(Arc::new(Opened { source, name: spec.to_owned(), len, notes, reading: *reading }))
}

/// How many images are checked for the size of their values,
const LOOKED_AT: u64 = 1000;
/// and at most how many values.
const MOST: u64 = 1 << 24;

/// Refuses data whose first images hold only tiny values: they are 0 and 1 in bytes, or bytes that were divided by 255 twice. Pictures that
/// use few of their 16 bits cause a note.
fn plausible(spec: &str, source: &dyn Source) -> Result<Option<String>> {
    let full = source.full_scale();
    let end = (source.len() as u64).min(LOOKED_AT).min((MOST / source.shape().dim().max(1) as u64).max(1));
    let enough = if full == 255.0 {
        1.5 / 255.0
    } else if full == 65535.0 {
        0.25
    } else {
        1.0 / 16.0
    };
    let (mut first, mut largest) = (0, 0.0f64);
    // The first few images nearly always suffice.
    while first < end {
        let last = (first * 4).max(8).min(end);
        let images = source.read(&(first..last).collect::<Vec<_>>())?.images;
        largest = largest.max(images.f_max()?.f_double_value(&[])?);
        if largest > enough {
            return Ok(None);
        }
        first = last;
    }
    // The least 1, 3, 7, ... that no stored value exceeds.
    let stored = (largest * full).round();
    let bits = (stored + 1.0).log2().ceil().max(1.0);
    let most = 2f64.powf(bits) - 1.0;
    if full == 65535.0 && largest > 1.0 / 255.0 {
        let remedy = format!("--full-scale {most}, if they have {bits} bits");
        return Ok(Some(format!(
            "{spec}: no value of the first {end} images is above {largest:.3} of 65535 ({remedy})"
        )));
    }
    let found = match full {
        255.0 | 65535.0 => format!("no value above {stored} in the first {end} images"),
        _ => format!("no value above {largest:.4} in the first {end} images"),
    };
    let remedy = match full {
        255.0 | 65535.0 => format!("--full-scale {most}"),
        _ => "--full-scale V".to_owned(),
    };
    Err(Error::request(spec, format!("values up to {full} (or {remedy}, the value that means 1)"), found))
}

/// A note if the first `len` samples are of one class and later ones of others: a part of ordered data is not representative.
fn one_class(spec: &str, source: &dyn Source, len: usize) -> Result<Option<String>> {
    if len >= source.len() || len < 2 || !source.has_labels() {
        return Ok(None);
    }
    let spread = len.min(32);
    let mut index: Vec<u64> = (0..spread).map(|k| (k * (len - 1) / (spread - 1)) as u64).collect();
    index.push(source.len() as u64 - 1);
    let Some(labels) = source.read(&index)?.labels else { return Ok(None) };
    let labels = Vec::<i64>::try_from(labels)?;
    let (first, others) = (labels[0], &labels[..spread]);
    let ordered = others.iter().all(|l| *l == first) && labels[spread] != first;
    let text = format!("{spec}: its first {len} samples are all of class {first} (--sample {len} draws from all)");
    Ok(ordered.then_some(text))
}

fn recognise(spec: &str, split: Split, reading: &Reading) -> Result<Box<dyn Source>> {
    if let Some(options) = strokes::options(spec) {
        return Ok(Box::new(strokes::Strokes::new(options, split)?));
    }
    let (path, named) = parted(spec);
    let meta = match std::fs::metadata(path) {
        Ok(meta) => meta,
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Err(Error::request(
                format!("data {spec:?}"),
                "`strokes`, an HDF5 or NumPy file, or a folder",
                "no such file or folder",
            ));
        }
        Err(e) => return Err(Error::io(path, e)),
    };
    if meta.is_dir() {
        return recognise_folder(path, split, named, reading);
    }
    if !meta.is_file() {
        return Err(wrong(path, "a file or folder", "neither"));
    }
    if superblock(path)?.is_some() {
        return Ok(Box::new(hdf5::Hdf5::open(path, split, named, reading)?));
    }
    let head = opening(path)?;
    if numpy::is_npy(&head) {
        if let Some(named) = named {
            let expected = format!("an HDF5 or .npz file for {named:?} to name an array of");
            return Err(wrong(path, expected, "an .npy file, which is one array"));
        }
        return Ok(Box::new(numpy::Numpy::open_npy(path, reading)?));
    }
    if head.starts_with(b"PK") && numpy::is_npz(path) {
        return Ok(Box::new(numpy::Numpy::open_npz(path, split, named, reading)?));
    }
    let found = foreign::file(path).map_err(|e| Error::io(path, e))?;
    Err(wrong(path, "an HDF5 or NumPy file, or the folder that holds the data", found))
}

/// The parts of `FILE:NAME` or `FOLDER:NAME`, if the whole name does not exist as a path and the first part does.
fn parted(spec: &str) -> (&Path, Option<&str>) {
    let whole = Path::new(spec);
    if whole.exists() {
        return (whole, None);
    }
    match spec.rsplit_once(':').map(|(path, name)| (Path::new(path), name)) {
        Some((path, name)) if path.exists() && !name.is_empty() => (path, Some(name)),
        _ => (whole, None),
    }
}

fn recognise_folder(path: &Path, split: Split, named: Option<&str>, reading: &Reading) -> Result<Box<dyn Source>> {
    let entries = list(path)?;
    if idx::recognise(&entries) {
        return Ok(Box::new(idx::Idx::open(path, &entries, split, named)?));
    }
    if let Some(named) = named {
        return Err(wrong(path, format!("a folder of IDX files for {named:?} to name one set of"), "none of them"));
    }
    if cifar::recognise(&entries) {
        return Ok(Box::new(cifar::Cifar::open(path, &entries, split)?));
    }
    if let Some(file) = hdf5::of_split(path, &entries, split)? {
        return Ok(Box::new(hdf5::Hdf5::open(&file, split, None, reading)?));
    }
    if let Some(images) = folder::Folder::open(path, split, reading)? {
        return Ok(Box::new(images));
    }
    let names: Vec<&str> = entries.iter().map(|e| e.name.as_str()).collect();
    let found = match (foreign::folder(&names), entries.as_slice()) {
        (Some(known), _) => known.to_owned(),
        (None, []) => "an empty folder".to_owned(),
        (None, [one]) => format!("only {:?}", one.name),
        (None, [first, ..]) => format!("{} entries, {:?} the first", entries.len(), first.name),
    };
    Err(wrong(path, KINDS, found))
}

/// The first bytes of a file.
fn opening(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
    file.take(8).read_to_end(&mut bytes).map_err(|e| Error::io(path, e))?;
    Ok(bytes)
}

/// A data set under the name that the user gave it, cut to its limit, with its indices checked.
struct Opened {
    source: Box<dyn Source>,
    name: String,
    len: usize,
    notes: Vec<String>,
    reading: Reading,
}

impl Opened {
    /// Pixels on the requested scale, from those on the type's scale.
    fn rescaled(&self, images: Tensor) -> Result<Tensor> {
        let own = self.source.full_scale();
        let wanted = match self.reading.full_scale {
            None => return Ok(images),
            Some(FullScale::Value(value)) => value,
            Some(FullScale::None) => 1.0,
        };
        let stored = if own == 1.0 { images } else { whole_again(&images, own)? };
        let images = if wanted == 1.0 { stored } else { stored.f_div_scalar(wanted)? };
        let (low, high) = (images.f_min()?.f_double_value(&[])?, images.f_max()?.f_double_value(&[])?);
        let inside = low >= 0.0 && high <= 1.0;
        if !inside && !self.reading.is_free() {
            let expected = format!("values from 0 to {wanted}, as --full-scale says");
            return Err(Error::request(&self.name, expected, format!("{} to {}", low * wanted, high * wanted)));
        }
        Ok(images)
    }
}

/// The stored values of pixels that were divided by their `scale`. Whole numbers are restored exactly; what was blended with a background is
/// none.
fn whole_again(pixels: &Tensor, scale: f64) -> Result<Tensor> {
    let stored = pixels.f_mul_scalar(scale)?;
    let whole = stored.f_round()?;
    // A division and a product round by half a unit in the last place each.
    let near = stored.f_sub(&whole)?.f_abs()?.f_le(scale * f64::from(f32::EPSILON))?;
    Ok(whole.f_where_self(&near, &stored)?)
}

impl Source for Opened {
    fn name(&self) -> &str {
        &self.name
    }
    fn format(&self) -> &'static str {
        self.source.format()
    }
    fn len(&self) -> usize {
        self.len
    }
    fn shape(&self) -> ImageShape {
        self.source.shape()
    }
    fn sample(&self) -> Vec<i64> {
        self.source.sample()
    }
    fn full_scale(&self) -> f64 {
        self.source.full_scale()
    }
    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }
    fn has_labels(&self) -> bool {
        self.source.has_labels()
    }
    fn classes(&self) -> Option<&[String]> {
        self.source.classes()
    }
    fn read(&self, index: &[u64]) -> Result<Batch> {
        if let Some(i) = index.iter().find(|&&i| i >= self.len as u64) {
            let expected = format!("less than {}", self.len);
            return Err(Error::request(format!("sample index of {}", self.name), expected, i.to_string()));
        }
        let batch = self.source.read(index)?;
        Ok(Batch { images: self.rescaled(batch.images)?, ..batch })
    }
}
