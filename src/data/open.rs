//! Which kind of data set a name means, and the checks that every kind shares.

use crate::data::rows::wrong;
use crate::data::{Batch, ImageShape, Source, Split, cifar, folder, hdf5, idx, strokes};
use crate::error::{Error, Result};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a data set may be; shown where a name means none of it.
const KINDS: &str = "IDX files, CIFAR-10 data_batch_*.bin, train.h5 and test.h5, or PNG and JPEG images";

/// Opens the `split` of a data set, its first `limit` samples only where a limit is given.
///
/// `spec` is recognised by what it is: `strokes` (or `strokes:n=100000,size=32`), an HDF5 file, or a folder with IDX
/// files, CIFAR-10 binary batches, `train.h5` and `test.h5`, or images. See docs/formats.md.
pub fn open(spec: &str, split: Split, limit: Option<usize>) -> Result<Arc<dyn Source>> {
    if limit == Some(0) {
        return Err(Error::request("limit", "at least 1", "0"));
    }
    let source = recognise(spec, split)?;
    let len = limit.map_or(source.len(), |l| l.min(source.len()));
    if len == 0 {
        return Err(Error::request(spec, "at least one image", "none"));
    }
    Ok(Arc::new(Opened { source, name: spec.to_owned(), len }))
}

fn recognise(spec: &str, split: Split) -> Result<Box<dyn Source>> {
    if let Some(options) = strokes::options(spec) {
        return Ok(Box::new(strokes::Strokes::new(options, split)?));
    }
    let path = Path::new(spec);
    let meta = match std::fs::metadata(path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::request(
                format!("data {spec:?}"),
                "`strokes`, an HDF5 file or a folder",
                "no such file or folder",
            ));
        }
        Err(e) => return Err(Error::io(path, e)),
    };
    if meta.is_dir() {
        return recognise_folder(path, split);
    }
    if !meta.is_file() {
        return Err(wrong(path, "a file or folder", "neither"));
    }
    if !hdf5::has_signature(path)? {
        return Err(wrong(path, "an HDF5 file, or the folder that holds the data", opening(path)?));
    }
    Ok(Box::new(hdf5::Hdf5::open(path, split)?))
}

fn recognise_folder(path: &Path, split: Split) -> Result<Box<dyn Source>> {
    let entries = list(path)?;
    if idx::recognise(&entries) {
        return Ok(Box::new(idx::Idx::open(path, &entries, split)?));
    }
    if cifar::recognise(&entries) {
        return Ok(Box::new(cifar::Cifar::open(path, &entries, split)?));
    }
    if let Some(file) = hdf5::of_split(path, &entries, split)? {
        return Ok(Box::new(hdf5::Hdf5::open(&file, split)?));
    }
    if let Some(images) = folder::Folder::open(path, split)? {
        return Ok(Box::new(images));
    }
    let found = match entries.as_slice() {
        [] => "an empty folder".to_owned(),
        [one] => format!("only {:?}", one.name),
        [first, ..] => format!("{} entries, {:?} the first", entries.len(), first.name),
    };
    Err(wrong(path, KINDS, found))
}

/// Values in one image at most: a header that tells more is damaged, and memory must not be asked for it.
const LARGEST: u64 = 1 << 28;

/// The shape of an image whose axes a file tells; `place` names the file.
pub fn image_shape(place: &str, channels: u64, height: u64, width: u64) -> Result<ImageShape> {
    let dim = height.checked_mul(width).and_then(|plane| plane.checked_mul(channels));
    if dim.is_none_or(|d| d == 0 || d > LARGEST) {
        let expected = format!("images of 1 to {LARGEST} values");
        return Err(Error::request(place, expected, format!("{channels} x {height} x {width} (C x H x W)")));
    }
    Ok(ImageShape { channels: channels as i64, height: height as i64, width: width as i64 })
}

/// A visible entry of a folder.
#[derive(Debug)]
pub struct Entry {
    /// Its name; what is not UTF-8 is replaced.
    pub name: String,
    /// Its path.
    pub path: PathBuf,
}

/// The entries of a folder by name, hidden ones (`.DS_Store`) left out.
pub fn list(folder: &Path) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
        let entry = entry.map_err(|e| Error::io(folder, e))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            entries.push(Entry { name, path: entry.path() });
        }
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(entries)
}

/// How a file that is no HDF5 file begins, for the error that says so.
fn opening(path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
    file.take(4).read_to_end(&mut bytes).map_err(|e| Error::io(path, e))?;
    Ok(match bytes.as_slice() {
        [] => "an empty file".to_owned(),
        [0x1f, 0x8b, ..] => "a gzip file".to_owned(),
        [0, 0, 8, 1..=4] => "an IDX file".to_owned(),
        [0x89, b'P', b'N', b'G'] => "a PNG image".to_owned(),
        [0xff, 0xd8, ..] => "a JPEG image".to_owned(),
        _ => format!("a file that begins with bytes {bytes:02x?}"),
    })
}

/// A data set under the name that the user gave it, cut to its limit, its indices checked.
struct Opened {
    source: Box<dyn Source>,
    name: String,
    len: usize,
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
    fn has_labels(&self) -> bool {
        self.source.has_labels()
    }
    fn read(&self, index: &[u64]) -> Result<Batch> {
        if let Some(i) = index.iter().find(|&&i| i >= self.len as u64) {
            let expected = format!("less than {}", self.len);
            return Err(Error::request(format!("sample index of {}", self.name), expected, i.to_string()));
        }
        self.source.read(index)
    }
}
