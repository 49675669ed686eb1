//! CIFAR-10's binary version: records of a label byte and 3072 pixel bytes (red, green, blue planes of 32 x 32).
//!
//! Source: Krizhevsky, "The CIFAR-10 dataset", binary version.

use crate::data::listing::Entry;
use crate::data::rows::{self, no_split, wrong};
use crate::data::{Batch, ImageShape, Source, Split};
use crate::error::{Error, Result};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const SHAPE: ImageShape = ImageShape { channels: 3, height: 32, width: 32 };
const PIXELS: usize = 3 * 32 * 32;
const RECORD: usize = 1 + PIXELS;
const CLASSES: u8 = 10;

/// One split of a CIFAR-10 binary folder.
pub struct Cifar {
    parts: Vec<Part>,
    len: usize,
    name: String,
}

/// One file and the position of its first record in the split.
struct Part {
    path: PathBuf,
    file: File,
    start: u64,
    count: u64,
}

fn names(split: Split) -> Vec<String> {
    match split {
        Split::Train => (1..=5).map(|i| format!("data_batch_{i}.bin")).collect(),
        Split::Test => vec!["test_batch.bin".to_owned()],
        Split::Val => vec![],
    }
}

/// True if a folder holds any file of CIFAR-10's binary version.
pub fn recognise(entries: &[Entry]) -> bool {
    let known = [names(Split::Train), names(Split::Test)].concat();
    entries.iter().any(|e| known.contains(&e.name))
}

impl Cifar {
    /// Opens the five training files or the test file; all must exist.
    pub fn open(folder: &Path, entries: &[Entry], split: Split) -> Result<Self> {
        if split == Split::Val {
            return Err(no_split(folder, split, "files", "training and test files, as CIFAR-10 has them"));
        }
        let mut parts = Vec::new();
        let mut start = 0;
        let is_there = |name: &str| entries.iter().any(|e| e.name == name);
        let missing = |name: &str| match names(split).iter().any(|name| is_there(name)) {
            true => wrong(folder, format!("{name} beside the others"), "no such file"),
            false => no_split(folder, split, name, "no such file"),
        };
        for name in names(split) {
            let entry = entries.iter().find(|e| e.name == name).ok_or_else(|| missing(&name))?;
            let path = entry.path.clone();
            let file = File::open(&path).map_err(|e| Error::io(&path, e))?;
            let size = file.metadata().map_err(|e| Error::io(&path, e))?.len();
            if size == 0 || size % RECORD as u64 != 0 {
                let expected = format!("records of {RECORD} bytes");
                return Err(wrong(&path, expected, format!("{size} bytes")));
            }
            let count = size / RECORD as u64;
            parts.push(Part { path, file, start, count });
            start += count;
        }
        Ok(Self { parts, len: start as usize, name: folder.display().to_string() })
    }

    /// Fills `out` with the records of a range, which may extend over several files.
    fn records(&self, range: std::ops::Range<u64>, out: &mut [u8]) -> Result<()> {
        for part in &self.parts {
            let from = range.start.max(part.start);
            let to = range.end.min(part.start + part.count);
            if from >= to {
                continue;
            }
            let place = (from - range.start) as usize * RECORD..(to - range.start) as usize * RECORD;
            let offset = (from - part.start) * RECORD as u64;
            part.file.read_exact_at(&mut out[place], offset).map_err(|e| Error::io(&part.path, e))?;
        }
        Ok(())
    }

    fn check_label(&self, index: u64, label: u8) -> Result<i64> {
        if label < CLASSES {
            return Ok(i64::from(label));
        }
        let part = self.parts.iter().rfind(|p| p.start <= index);
        let (path, record) = part.map_or((Path::new(&self.name), index), |p| (&*p.path, index - p.start));
        let subject = format!("{}: label of sample {record}", path.display());
        Err(Error::request(subject, "0 to 9", label.to_string()))
    }
}

impl Source for Cifar {
    fn name(&self) -> &str {
        &self.name
    }
    fn format(&self) -> &'static str {
        "CIFAR-10 binary"
    }
    fn len(&self) -> usize {
        self.len
    }
    fn shape(&self) -> ImageShape {
        SHAPE
    }
    fn has_labels(&self) -> bool {
        true
    }
    fn read(&self, index: &[u64]) -> Result<Batch> {
        let records = rows::gather(index, RECORD, |range, out| self.records(range, out))?;
        let mut labels = Vec::with_capacity(index.len());
        let mut pixels = Vec::with_capacity(index.len() * PIXELS);
        for (record, &i) in records.chunks_exact(RECORD).zip(index) {
            labels.push(self.check_label(i, record[0])?);
            pixels.extend_from_slice(&record[1..]);
        }
        rows::batch(rows::from_bytes(&pixels, SHAPE)?, Some(&labels), index)
    }
}
