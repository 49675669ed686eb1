//! The unfinished file: created, resumed, or found to be useless.

use super::Column;
use super::checksum;
use super::columns::{self, fault};
use super::header::Header;
use super::journal::Journal;
use super::probe::{datasets, heap_is_whole};
use super::schema::{INDEX, sample_axis};
use super::target::{Target, in_use};
use super::whole::{create, write_column};
use crate::error::Result;
use hdf5::file::OpenMode;
use hdf5::{Dataset, File, MinorErrorCode};
use std::collections::BTreeMap;
use std::path::Path;

/// Whether a partial file may be continued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Partial {
    /// Yes, by the run that began it.
    Resume,
    /// No.
    Discard,
}

/// An open file with its journal.
pub(super) struct Rows {
    pub file: File,
    pub journal: Journal,
    /// Whether each row is done.
    pub stored: Vec<bool>,
    /// The data sets with one row for each sample, by path.
    pub columns: BTreeMap<String, Dataset>,
}

/// The contents of the file under the partial name.
pub(super) enum Found {
    Nothing,
    /// Rows of this run, and the number of damaged rows, which count as missing.
    Rows(Rows, usize),
    /// A file without a finished row.
    Useless(String),
    /// A file that cannot be read, or whose contents cannot be trusted.
    Damaged,
    /// Finished rows of another run: their number, and the difference.
    Others(usize, String),
}

impl Rows {
    /// A new file without a finished row.
    pub fn create(target: &Target, header: &Header, index: &[u64], fixed: &[Column]) -> Result<Self> {
        let path = &target.partial;
        let file = create(path)?;
        header.write(&file, path)?;
        for column in fixed {
            write_column(&file, column).map_err(|e| fault(path, e))?;
        }
        let journal = Journal::create(&file, index).map_err(|e| fault(path, e))?;
        file.flush().map_err(|e| fault(path, e))?;
        Ok(Self { file, journal, stored: vec![false; index.len()], columns: BTreeMap::new() })
    }
}

/// Opens the partial file of an earlier run.
pub(super) fn resume(
    target: &Target,
    header: &Header,
    index: &[u64],
    fixed: &[Column],
    partial: Partial,
) -> Result<Found> {
    let path = &target.partial;
    if !target.is_begun() {
        return Ok(Found::Nothing);
    }
    if partial == Partial::Discard {
        return Ok(Found::Useless("it is not needed".to_owned()));
    }
    let look = |mode: OpenMode, rows: Believe| match columns::open(path, mode) {
        Err(error) if error.contains_minor(MinorErrorCode::CantLockFile) => Err(in_use(path)),
        Err(_) => Ok(Found::Damaged),
        Ok(file) => Ok(same_run(file, path, header, index, fixed, rows).unwrap_or(Found::Damaged)),
    };
    // HDF5 changes a file that it opens for writing, so another run's file is opened only for reading.
    let found = look(OpenMode::Read, Believe::All)?;
    if !matches!(found, Found::Rows(..)) {
        return Ok(found);
    }
    // The file is closed before it is opened again.
    drop(found);
    look(OpenMode::ReadWrite, Believe::Checked)
}

/// Whether rows are compared with their checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Believe {
    All,
    Checked,
}

/// What a partial file is for a run; `None` if it is damaged.
fn same_run(file: File, path: &Path, header: &Header, index: &[u64], fixed: &[Column], rows: Believe) -> Option<Found> {
    if !heap_is_whole(path).unwrap_or(false) {
        return None;
    }
    let others = |file: &File, name: &str| match Journal::finished(file) {
        0 => Found::Useless("it holds no finished sample".to_owned()),
        done => Found::Others(done, name.to_owned()),
    };
    let stored = Header::read(&file, path).ok()?;
    if checksum::is_without(&file, &stored) {
        return Some(others(&file, "version"));
    }
    let datasets = datasets(&file, path).ok()?;
    if !checksum::is_begun(&file, path, &stored, &datasets) {
        return None;
    }
    if let Some(difference) = header.difference(&stored.header) {
        return Some(others(&file, &difference.name));
    }
    let Some((journal, mut stored)) = Journal::open(&file, index).ok()? else {
        return Some(others(&file, "samples"));
    };
    if !stored.contains(&true) {
        return Some(Found::Useless("it holds no finished sample".to_owned()));
    }
    let mut columns = BTreeMap::new();
    let mut whole = 0;
    for info in datasets {
        if info.path == INDEX {
            continue;
        }
        let dataset = file.dataset(&info.path).ok()?;
        if let Some(axis) = sample_axis(header.kind, &info.path) {
            if info.shape.get(axis) != Some(&index.len()) {
                return None;
            }
            columns.insert(info.path, dataset);
            continue;
        }
        let ours = fixed.iter().find(|c| c.path == info.path).filter(|c| c.shape == info.shape);
        let same = ours.zip(info.dtype).is_some_and(|(ours, dtype)| {
            columns::read(&dataset, &info.path, dtype, 0, None)
                .is_ok_and(|theirs| ours.values.agree(&info.path, &theirs.values))
        });
        if !same {
            return Some(others(&file, &info.path));
        }
        whole += 1;
    }
    if whole != fixed.len() {
        return Some(others(&file, "the data sets"));
    }
    let mut damaged = 0;
    if rows == Believe::Checked {
        let agree = checksum::agreeing(&columns, header.kind, index, &stored)?;
        damaged = stored.iter().zip(&agree).filter(|(stored, agrees)| **stored && !**agrees).count();
        stored = agree;
    }
    Some(if stored.contains(&true) {
        Found::Rows(Rows { file, journal, stored, columns }, damaged)
    } else {
        Found::Damaged
    })
}
