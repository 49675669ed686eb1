//! Reads files: they are checked when opened, then read whole or by rows.

use super::checksum;
use super::columns::{self, Dtype, fault, size_of_shape};
use super::header::{Header, Stored};
use super::journal::is_settled;
use super::probe::{datasets, heap_is_whole, starts_as_hdf5, superblock};
use super::schema::{self, DatasetInfo, INDEX, sample_axis};
use super::{Column, FileKind, Values};
use crate::error::{Error, Result};
use hdf5::File;
use hdf5::file::OpenMode;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// An open result file.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    /// `None` while it rests.
    file: Mutex<Option<File>>,
    /// Which file it is: another may get its name.
    identity: Identity,
    stored: Stored,
    datasets: Vec<DatasetInfo>,
    index: Vec<u64>,
    /// The checksums, by path, of data sets whose values have not been compared with them yet.
    unasked: Mutex<HashMap<String, i64>>,
}

/// Deflate shrinks data at most by about this factor; a data set that claims more than its file can hold is damaged.
const MOST_COMPRESSION: u64 = 1100;

/// True for an HDF5 file that can be opened and does not say that it is a pullback result, such as a data set.
pub fn is_foreign(path: &Path) -> bool {
    let opens = superblock(path).is_ok_and(|found| found.is_some()) && heap_is_whole(path).unwrap_or(false);
    opens
        && columns::open(path, OpenMode::Read)
            .and_then(|file| file.attr_names())
            .is_ok_and(|names| names.iter().all(|name| name != "pullback_format"))
}

/// True for a file that says it is a pullback result, finished or not, with any format number.
pub fn is_result(path: &Path) -> bool {
    starts_as_hdf5(path).unwrap_or(false)
        && columns::open(path, OpenMode::Read).is_ok_and(|f| f.attr("pullback_format").is_ok())
}

/// Device, number and length of a file.
type Identity = (u64, u64, u64);

fn identity(path: &Path) -> Result<Identity> {
    let found = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
    Ok((found.dev(), found.ino(), found.len()))
}

/// Opens a file for reading. Where too many are open, the file is not to blame.
fn open(path: &Path) -> Result<File> {
    let no_room = |source: &std::io::Error| matches!(source.raw_os_error(), Some(libc::EMFILE | libc::ENFILE));
    columns::open(path, OpenMode::Read).map_err(|error| match fault(path, error) {
        Error::Io { path, source } if no_room(&source) => Error::Io { path, source },
        _ => Error::request(
            path.display().to_string(),
            "a readable HDF5 file",
            "one that is cut short, damaged or being written",
        ),
    })
}

impl Reader {
    /// Opens a result file and checks that it is one: HDF5, of this format, finished, its rows of one length.
    pub fn open(path: &Path) -> Result<Self> {
        let shown = path.display().to_string();
        if path.is_dir() {
            return Err(Error::request(shown, "a result file", "a folder"));
        }
        // A pipe would keep who opens it waiting.
        if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            return Err(Error::request(shown, "a result file", "neither a file nor a folder"));
        }
        if !starts_as_hdf5(path)? {
            return Err(Error::request(shown, "a result file (HDF5)", "a file of another kind"));
        }
        if !heap_is_whole(path)? {
            return Err(Error::request(shown, "a readable HDF5 file", "one that is damaged"));
        }
        let (file, identity) = (open(path)?, identity(path)?);
        let broken = |error| match error {
            Error::Hdf5 { .. } => Error::request(&shown, "a readable HDF5 file", "one that is damaged"),
            other => other,
        };
        let stored = Header::read(&file, path).map_err(broken)?;
        let datasets = datasets(&file, path).map_err(broken)?;
        let unasked = Mutex::default();
        let held = Mutex::new(Some(file.clone()));
        let mut reader = Self { path: path.to_owned(), file: held, identity, stored, datasets, index: vec![], unasked };
        let journal = match reader.info(INDEX) {
            Some(_) => reader.read_i64(INDEX)?.1,
            None => vec![],
        };
        let (done, all) = (journal.iter().filter(|i| **i >= 0).count(), journal.len());
        if reader.stored.format == 0 || !journal.iter().all(|i| is_settled(*i)) {
            return Err(Error::request(
                shown,
                "a finished result file",
                format!("an unfinished one ({done} of {all} samples); the command that began it goes on with it"),
            ));
        }
        reader.index = journal.iter().map(|i| *i as u64).collect();
        reader.check()?;
        let mut sums = checksum::check(&file, path, &reader.stored, &reader.datasets)?;
        // It was read before its checksum was known.
        if sums.remove(INDEX).is_some_and(|sum| sum != checksum::of_values(&Values::I64(journal))) {
            return Err(reader.disagrees(INDEX));
        }
        reader.unasked = Mutex::new(sums);
        Ok(reader)
    }

    /// [`Reader::open`], then [`Reader::rest`]: for one of many files.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn open_resting(path: &Path) -> Result<Self> {
        let reader = Self::open(path)?;
        reader.rest();
        Ok(reader)
    }

    /// Closes the file until something is read again. A process may have only so many files open, usually 1024.
    pub fn rest(&self) {
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The file, which is opened again if it rests.
    fn awake(&self) -> Result<File> {
        let mut held = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = held.as_ref() {
            return Ok(file.clone());
        }
        let file = open(&self.path)?;
        if identity(&self.path)? != self.identity {
            let found = "another in its place";
            return Err(Error::request(self.path.display().to_string(), "the file that was there before", found));
        }
        *held = Some(file.clone());
        Ok(file)
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's contents and its run.
    pub fn header(&self) -> &Header {
        &self.stored.header
    }

    /// The number of the file's format, at most [`FORMAT`](super::FORMAT).
    pub fn format(&self) -> i64 {
        self.stored.format
    }

    /// The version of pullback that wrote the file.
    pub fn version(&self) -> &str {
        &self.stored.version
    }

    /// The libtorch that computed the file.
    pub fn libtorch(&self) -> &str {
        &self.stored.header.libtorch
    }

    /// Model, data, machine and versions in one line.
    pub fn provenance(&self) -> String {
        format!("{}; pullback {}, libtorch {}", self.header().provenance(), self.version(), self.libtorch())
    }

    /// Position of each row's sample in the data set; empty in a sweep.
    pub fn index(&self) -> &[u64] {
        &self.index
    }

    /// Number of samples: rows of a scores or attack file, samples per point of a sweep.
    pub fn samples(&self) -> usize {
        if !self.index.is_empty() {
            return self.index.len();
        }
        let kind = self.header().kind;
        let counted = self.datasets.iter().find_map(|d| d.shape.get(sample_axis(kind, &d.path)?).copied());
        counted.unwrap_or(0)
    }

    /// Every data set, by path.
    pub fn datasets(&self) -> &[DatasetInfo] {
        &self.datasets
    }

    /// One data set's type and shape.
    pub fn info(&self, path: &str) -> Option<&DatasetInfo> {
        self.datasets.iter().find(|d| d.path == path)
    }

    /// Names of the scores, sorted.
    pub fn scores(&self) -> Vec<String> {
        self.below("/scores/")
    }

    /// Names of the attacks, sorted.
    pub fn attacks(&self) -> Vec<String> {
        self.below("/attack/")
    }

    /// Names of an attack's data sets, sorted: its measures and `images`.
    pub fn measures(&self, attack: &str) -> Vec<String> {
        self.below(&format!("/attack/{attack}/"))
    }

    /// Names of the measures of the unattacked samples, sorted.
    pub fn clean(&self) -> Vec<String> {
        self.below("/clean/")
    }

    /// Keys of the further sets of attacks, sorted (sweeps); the main set has none.
    pub fn sets(&self) -> Vec<String> {
        self.below("/further/")
    }

    /// Names that follow `prefix` (which ends in `/`) in the paths of data sets, sorted, each once.
    pub fn below(&self, prefix: &str) -> Vec<String> {
        let rest = self.datasets.iter().filter_map(|d| d.path.strip_prefix(prefix));
        let mut names: Vec<String> = rest.filter_map(|r| r.split('/').next()).map(str::to_owned).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Reads a whole data set.
    pub fn read(&self, path: &str) -> Result<Column> {
        self.fetch(path, None)
    }

    /// Reads the rows `rows` of a data set: this part of its sample axis, and everything on the other axes.
    pub fn read_rows(&self, path: &str, rows: Range<usize>) -> Result<Column> {
        self.fetch(path, Some(rows))
    }

    /// Reads a whole f64 data set: shape, values.
    pub fn read_f64(&self, path: &str) -> Result<(Vec<usize>, Vec<f64>)> {
        let column = self.read(path)?;
        match column.values {
            Values::F64(values) => Ok((column.shape, values)),
            other => Err(self.wrong_type(path, Dtype::F64, &other.dtype().to_string())),
        }
    }

    /// Reads a whole f32 data set: shape, values.
    pub fn read_f32(&self, path: &str) -> Result<(Vec<usize>, Vec<f32>)> {
        let column = self.read(path)?;
        match column.values {
            Values::F32(values) => Ok((column.shape, values)),
            other => Err(self.wrong_type(path, Dtype::F32, &other.dtype().to_string())),
        }
    }

    /// Reads a whole i64 data set: shape, values.
    pub fn read_i64(&self, path: &str) -> Result<(Vec<usize>, Vec<i64>)> {
        let column = self.read(path)?;
        match column.values {
            Values::I64(values) => Ok((column.shape, values)),
            other => Err(self.wrong_type(path, Dtype::I64, &other.dtype().to_string())),
        }
    }

    /// Reads a whole u8 data set: shape, values.
    pub fn read_u8(&self, path: &str) -> Result<(Vec<usize>, Vec<u8>)> {
        let column = self.read(path)?;
        match column.values {
            Values::U8(values) => Ok((column.shape, values)),
            other => Err(self.wrong_type(path, Dtype::U8, &other.dtype().to_string())),
        }
    }

    fn fetch(&self, path: &str, rows: Option<Range<usize>>) -> Result<Column> {
        let subject = || format!("{}: {path}", self.path.display());
        let Some(info) = self.info(path) else {
            return Err(Error::request(subject(), "a data set of this name", "none"));
        };
        let Some(dtype) = info.dtype else {
            return Err(Error::request(subject(), "numbers (f64, f32, i64 or u8)", "another type"));
        };
        let axis = sample_axis(self.header().kind, path);
        if let Some(rows) = &rows {
            let Some(length) = axis.and_then(|a| info.shape.get(a)) else {
                return Err(Error::request(subject(), "a data set with a row per sample", "one without"));
            };
            if rows.start > rows.end || rows.end > *length {
                return Err(Error::request(subject(), format!("rows below {length}"), format!("{rows:?}")));
            }
        }
        let file = self.awake()?;
        self.check_size(&file, info, dtype)?;
        let dataset = file.dataset(path).map_err(|e| fault(&self.path, e))?;
        let unreadable = |_| Error::request(subject(), "readable values", "a data set that is damaged or cut short");
        let in_part = rows.is_some();
        let column = columns::read(&dataset, path, dtype, axis.unwrap_or(0), rows).map_err(unreadable)?;
        // Compared with its checksum once; other readers wait for the result meanwhile.
        let mut unasked = self.unasked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sum) = unasked.get(path) {
            let found = match in_part {
                true => checksum::of_dataset(&dataset, path, dtype).map_err(unreadable)?,
                false => checksum::of_values(&column.values),
            };
            if found != *sum {
                return Err(self.disagrees(path));
            }
            unasked.remove(path);
        }
        Ok(column)
    }

    fn disagrees(&self, path: &str) -> Error {
        let found = "others (damaged or changed): the checksum disagrees";
        Error::request(format!("{}: {path}", self.path.display()), "values as they were written", found)
    }

    /// Refuses a data set that cannot fit in its file, before memory is requested for it.
    fn check_size(&self, file: &File, info: &DatasetInfo, dtype: Dtype) -> Result<()> {
        let bytes = size_of_shape(&info.shape).and_then(|n| n.checked_mul(dtype.width()));
        let most = file.size().saturating_mul(MOST_COMPRESSION);
        match bytes {
            Some(bytes) if bytes as u64 <= most => Ok(()),
            _ => Err(Error::request(
                format!("{}: {}", self.path.display(), info.path),
                "a data set that fits in its file",
                format!("shape {:?}", info.shape),
            )),
        }
    }

    /// Checks the parts on which every reader of the format depends.
    fn check(&self) -> Result<()> {
        let kind = self.header().kind;
        let wrong = |path: &str, expected: String, found: String| {
            Err(Error::request(format!("{}: {path}", self.path.display()), expected, found))
        };
        if kind != FileKind::Sweep && self.index.is_empty() {
            return wrong(INDEX, "the position of each sample".to_owned(), "none".to_owned());
        }
        let mut seen = HashSet::new();
        if let Some(twice) = self.index.iter().find(|i| !seen.insert(**i)) {
            return wrong(INDEX, "each sample once".to_owned(), format!("sample {twice} twice"));
        }
        let samples = self.samples();
        for info in &self.datasets {
            let Some(axis) = sample_axis(kind, &info.path) else {
                continue;
            };
            if info.shape.get(axis) != Some(&samples) {
                let expected = format!("{samples} samples on axis {axis}");
                return wrong(&info.path, expected, format!("shape {:?}", info.shape));
            }
            // Scores and measures are f64; images and directions are f32.
            let expected = match info.shape.len() {
                _ if [INDEX, schema::LABEL, schema::TARGET, checksum::ROWS].contains(&info.path.as_str()) => Dtype::I64,
                _ if info.path.starts_with("/scores/") => Dtype::F64,
                _ if info.path.starts_with("/flags/") => Dtype::U8,
                n if n == axis + 1 => Dtype::F64,
                _ => continue,
            };
            if info.dtype != Some(expected) {
                let found = info.dtype.map_or_else(|| "another type".to_owned(), |d| d.to_string());
                return Err(self.wrong_type(&info.path, expected, &found));
            }
        }
        Ok(())
    }

    fn wrong_type(&self, path: &str, expected: Dtype, found: &str) -> Error {
        Error::request(format!("{}: {path}", self.path.display()), expected.to_string(), found)
    }
}
