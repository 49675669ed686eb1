//! What an interrupted run has finished, read from the file that it left.

use super::columns::{self, fault};
use super::header::Header;
use super::journal::{is_stored, sample_of};
use super::probe::datasets;
use super::schema::{INDEX, sample_axis};
use super::target::{UNFINISHED, until_complete};
use super::{Column, Values, checksum};
use crate::error::{Error, Result};
use hdf5::file::OpenMode;
use std::path::Path;

/// The finished samples of the unfinished file of the result `path`, and the paths of its data sets.
///
/// # Errors
/// Where there is no such file, or it cannot be read.
pub fn begun(path: &Path) -> Result<(Vec<u64>, Vec<String>)> {
    let path = until_complete(path, UNFINISHED);
    let file = columns::open(&path, OpenMode::Read).map_err(|e| fault(&path, e))?;
    let journal = file.dataset(INDEX).and_then(|index| index.read_raw::<i64>()).map_err(|e| fault(&path, e))?;
    let samples = journal.into_iter().filter(|entry| is_stored(*entry)).map(sample_of).collect();
    Ok((samples, datasets(&file, &path)?.into_iter().map(|info| info.path).collect()))
}

/// The finished rows of the unfinished file of the result `path`: every column, `/index` among them, with these rows alone. Nothing where
/// no row is finished.
///
/// # Errors
/// Where there is no such file, or it cannot be read.
pub fn finished(path: &Path) -> Result<Vec<Column>> {
    let path = until_complete(path, UNFINISHED);
    let file = columns::open(&path, OpenMode::Read).map_err(|e| fault(&path, e))?;
    let kind = Header::read(&file, &path)?.header.kind;
    let read = |name: &str, dtype, axis: Option<usize>| {
        let dataset = file.dataset(name).map_err(|e| fault(&path, e))?;
        columns::read(&dataset, name, dtype, axis.unwrap_or(0), None).map_err(|e| fault(&path, e))
    };
    let Values::I64(journal) = read(INDEX, columns::Dtype::I64, Some(0))?.values else {
        return Err(Error::internal("store", "an index that holds no integers"));
    };
    let rows: Vec<usize> = (0..journal.len()).filter(|row| is_stored(journal[*row])).collect();
    if rows.is_empty() {
        return Ok(vec![]);
    }
    let index = rows.iter().map(|row| sample_of(journal[*row]) as i64).collect();
    let mut found =
        vec![Column { path: INDEX.to_owned(), shape: vec![rows.len()], sample_axis: 0, values: Values::I64(index) }];
    for info in datasets(&file, &path)? {
        let Some(dtype) = info.dtype.filter(|_| info.path != INDEX && info.path != checksum::ROWS) else { continue };
        let axis = sample_axis(kind, &info.path);
        let column = read(&info.path, dtype, axis)?;
        found.push(if axis.is_some() { column.take(&rows) } else { column });
    }
    Ok(found)
}
