//! The unfinished file: begun, opened again, or found to be of no use.

use super::columns::{self, Dtype, fault};
use super::header::{Header, VERSION};
use super::probe::{datasets, heap_is_whole};
use super::schema::{INDEX, sample_axis};
use super::target::{Target, in_use};
use super::whole::{create, write_column};
use super::{Column, Values};
use crate::error::Result;
use hdf5::file::OpenMode;
use hdf5::{Dataset, File, MinorErrorCode};
use std::collections::BTreeMap;
use std::path::Path;

/// Whether a partial file may be continued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Partial {
    /// By the run that began it.
    Resume,
    /// By none.
    Discard,
}

/// An open file with its journal.
pub(super) struct Rows {
    pub file: File,
    pub journal: Dataset,
    /// Whether each row is done.
    pub stored: Vec<bool>,
    /// The data sets with a row per sample, by path.
    pub columns: BTreeMap<String, Dataset>,
}

/// What lies under the partial name.
pub(super) enum Found {
    Nothing,
    Rows(Rows),
    /// Something of no use.
    Useless(String),
}

impl Rows {
    /// A new file without a finished row.
    pub fn create(target: &Target, header: &Header, index: &[u64], fixed: &[Column]) -> Result<Self> {
        let path = &target.partial;
        let file = create(path)?;
        header.write(&file, path)?;
        let journal = Column {
            path: INDEX.to_owned(),
            shape: vec![index.len()],
            sample_axis: 0,
            values: Values::I64(index.iter().map(|i| -1 - *i as i64).collect()),
        };
        for column in fixed {
            write_column(&file, column).map_err(|e| fault(path, e))?;
        }
        let journal = write_column(&file, &journal).map_err(|e| fault(path, e))?;
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
    match columns::open(path, OpenMode::ReadWrite) {
        Err(error) if error.contains_minor(MinorErrorCode::CantLockFile) => Err(in_use(path)),
        Err(_) => Ok(Found::Useless("it is damaged".to_owned())),
        Ok(file) => Ok(same_run(file, path, header, index, fixed).map_or_else(Found::Useless, Found::Rows)),
    }
}

/// The rows of a partial file of the same run; else what is wrong with it.
fn same_run(file: File, path: &Path, header: &Header, index: &[u64], fixed: &[Column]) -> Result<Rows, String> {
    let damaged = || "it is damaged".to_owned();
    if !heap_is_whole(path).unwrap_or(false) {
        return Err(damaged());
    }
    let stored = Header::read(&file, path).map_err(|_| damaged())?;
    if let Some(name) = header.difference(&stored.header) {
        return Err(format!("it is of another run ({name} differs)"));
    }
    if stored.version != VERSION {
        return Err(format!("it is of version {}", stored.version));
    }
    let journal = file.dataset(INDEX).map_err(|_| damaged())?;
    if columns::dtype_of(&journal) != Some(Dtype::I64) {
        return Err(damaged());
    }
    let rows = journal.read_raw::<i64>().map_err(|_| damaged())?;
    let planned = rows.iter().map(|r| if *r < 0 { (-1 - r) as u64 } else { *r as u64 });
    if !planned.eq(index.iter().copied()) {
        return Err("it is of another run (the samples differ)".to_owned());
    }
    let stored: Vec<bool> = rows.iter().map(|r| *r >= 0).collect();
    if !stored.contains(&true) {
        return Err("it holds no finished sample".to_owned());
    }
    let mut columns = BTreeMap::new();
    let mut whole = 0;
    for info in datasets(&file, path).map_err(|_| damaged())? {
        if info.path == INDEX {
            continue;
        }
        let dataset = file.dataset(&info.path).map_err(|_| damaged())?;
        if let Some(axis) = sample_axis(header.kind, &info.path) {
            if info.shape.get(axis) != Some(&index.len()) {
                return Err(damaged());
            }
            columns.insert(info.path, dataset);
            continue;
        }
        let ours = fixed.iter().find(|c| c.path == info.path).filter(|c| c.shape == info.shape);
        let same = ours.zip(info.dtype).is_some_and(|(ours, dtype)| {
            columns::read(&dataset, &info.path, dtype, 0, None)
                .is_ok_and(|theirs| ours.values.same_bits(&theirs.values))
        });
        if !same {
            return Err(format!("it is of another run ({} differs)", info.path));
        }
        whole += 1;
    }
    if whole != fixed.len() {
        return Err("it is of another run (other data sets)".to_owned());
    }
    Ok(Rows { file, journal, stored, columns })
}
