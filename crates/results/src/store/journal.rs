//! The journal of the finished rows of an unfinished file, kept in `/index` itself.
//!
//! The row of sample i holds
//! - `-1 - i` while its values are missing;
//! - `2^62 + (boot << 40) + i` once they are written: a killed process loses nothing that was written, but a power failure
//!   may, so the row counts as done only until the machine restarts;
//! - `i` once they are known to be on the disk. The disk is synced every [`INTERVAL`], because that is slow
//!   (100 ms a block with images where this was measured).

use super::columns::{self, Dtype, fault};
use super::schema::INDEX;
use super::target::Target;
use super::whole::write_column;
use super::{Column, Values};
use crate::error::Result;
use hdf5::{Dataset, File};
use std::ops::Range;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// The most work, as time, that a power failure may cost.
const INTERVAL: Duration = Duration::from_secs(2);
const WRITTEN: i64 = 1 << 62;
const INDEX_BITS: u32 = 40;
/// The largest position of a sample in its data set.
pub(super) const MOST: u64 = (1 << INDEX_BITS) - 1;

/// 22 bits that change with the machine's next start; none if the system does not say.
static BOOT: LazyLock<Option<i64>> = LazyLock::new(|| {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    i64::from_str_radix(text.get(..6)?, 16).ok().map(|bits| bits >> 2)
});

/// The journal of one unfinished file.
#[derive(Debug)]
pub(super) struct Journal {
    dataset: Dataset,
    /// (row, sample) of the rows that are written but not known to be on the disk, sorted by row before use.
    written: Vec<(usize, u64)>,
    asked: Instant,
}

/// True if the values of an entry's row are stored, as far as this machine knows while it runs.
pub(super) fn is_stored(entry: i64) -> bool {
    match entry {
        ..0 => false,
        0..WRITTEN => true,
        _ => BOOT.is_some_and(|boot| (entry - WRITTEN) >> INDEX_BITS == boot),
    }
}

/// True for an entry as in a finished file.
pub(super) fn is_settled(entry: i64) -> bool {
    (0..WRITTEN).contains(&entry)
}

/// The sample of an entry.
pub(super) fn sample_of(entry: i64) -> u64 {
    (if entry < 0 { -1 - entry } else { entry & MOST as i64 }) as u64
}

impl Journal {
    /// Creates `/index` for a run over the samples `index`.
    pub fn create(file: &File, index: &[u64]) -> hdf5::Result<Self> {
        let dataset = write_column(file, &entries(index.iter().map(|i| -1 - *i as i64).collect()))?;
        Ok(Self { dataset, written: vec![], asked: Instant::now() })
    }

    /// Reads `/index` of an earlier run over the same samples: the journal and whether each row is stored. `None` if it belongs to another
    /// run. A few entries of other samples are damage: those rows count as missing.
    pub fn open(file: &File, index: &[u64]) -> hdf5::Result<Option<(Self, Vec<bool>)>> {
        let dataset = file.dataset(INDEX)?;
        if columns::dtype_of(&dataset) != Some(Dtype::I64) || dataset.get_shape()? != [index.len()] {
            return Ok(None);
        }
        let found = dataset.read_raw::<i64>()?;
        let own = |row: usize| sample_of(found[row]) == index[row];
        let strange = (0..index.len()).filter(|row| !own(*row)).count();
        if strange > index.len() / 4 {
            return Ok(None);
        }
        let stored: Vec<bool> = (0..index.len()).map(|row| own(row) && is_stored(found[row])).collect();
        let written = found.iter().enumerate().filter(|(row, entry)| stored[*row] && !is_settled(**entry));
        let written = written.map(|(row, entry)| (row, sample_of(*entry))).collect();
        Ok(Some((Self { dataset, written, asked: Instant::now() }, stored)))
    }

    /// Notes that the values of `rows`, (row, sample) by row, are written. The file must be flushed before.
    pub fn note(&mut self, rows: &[(usize, u64)], file: &File, target: &Target) -> Result<()> {
        self.written.extend(rows);
        match *BOOT {
            Some(boot) => {
                let entry = |i: u64| WRITTEN + (boot << INDEX_BITS) + i as i64;
                self.write(rows, entry).and_then(|()| file.flush()).map_err(|e| fault(&target.partial, e))?;
                if self.asked.elapsed() < INTERVAL { Ok(()) } else { self.settle(file, target) }
            }
            None => self.settle(file, target),
        }
    }

    /// Makes the disk store what is written, then notes that.
    pub fn settle(&mut self, file: &File, target: &Target) -> Result<()> {
        target.sync()?;
        self.written.sort_unstable();
        self.write(&self.written, |i| i as i64).and_then(|()| file.flush()).map_err(|e| fault(&target.partial, e))?;
        self.written.clear();
        self.asked = Instant::now();
        Ok(())
    }

    /// The number of finished rows in an unfinished file of any run.
    pub fn finished(file: &File) -> usize {
        let entries = file.dataset(INDEX).and_then(|d| d.read_raw::<i64>()).unwrap_or_default();
        entries.into_iter().filter(|entry| is_stored(*entry)).count()
    }

    fn write(&self, rows: &[(usize, u64)], entry: impl Fn(u64) -> i64) -> hdf5::Result<()> {
        for run in rows.chunk_by(|a, b| a.0 + 1 == b.0) {
            let Some((first, _)) = run.first() else { continue };
            let place: Range<usize> = *first..first + run.len();
            columns::write(&self.dataset, &entries(run.iter().map(|(_, i)| entry(*i)).collect()), Some(place))?;
        }
        Ok(())
    }
}

fn entries(values: Vec<i64>) -> Column {
    Column { path: INDEX.to_owned(), shape: vec![values.len()], sample_axis: 0, values: Values::I64(values) }
}
