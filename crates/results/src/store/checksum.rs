//! Checksums: of each row, of each data set, of the file's attributes and structure (docs/formats.md).
//!
//! All are CRC-32 (that of zlib and PNG) of little-endian bytes. A row's checksum is written with the row and checked when an unfinished
//! file is resumed; the others are written when a file is complete and checked when it is read.

use super::columns::{self, CHECKSUM, Dtype, fault};
use super::header::{Header, Stored};
use super::probe::datasets;
use super::schema::{DatasetInfo, FileKind, sample_axis};
use super::{Column, Values};
use crate::error::{Error, Result};
use crc32fast::Hasher;
use hdf5::{Dataset, File};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::path::Path;

/// The data set with one checksum for each row, `[N]` i64.
pub(super) const ROWS: &str = "/checksum";
/// Versions of this program that wrote no checksums.
const WITHOUT: &str = "0.1.0";
/// Bytes that are read at a time to compute a data set's checksum.
const PIECE: usize = 8 << 20;

/// The checksum of each row: its index in the data set, then its values in every column, by path.
pub(super) fn of_rows(index: &[u64], columns: &[&Column]) -> Vec<i64> {
    let mut columns = columns.to_vec();
    columns.sort_by(|a, b| a.path.cmp(&b.path));
    let mut hashers: Vec<Hasher> = index
        .iter()
        .map(|i| {
            let mut hasher = Hasher::new();
            hasher.update(&i.to_le_bytes());
            hasher
        })
        .collect();
    let mut bytes = Vec::new();
    for column in columns {
        let (outer, rows, inner) = columns::split(&column.shape, column.sample_axis);
        for o in 0..outer {
            for (row, hasher) in hashers.iter_mut().enumerate().take(rows) {
                let first = (o * rows + row) * inner;
                bytes.clear();
                column.values.append_bytes(first..first + inner, &mut bytes);
                hasher.update(&bytes);
            }
        }
    }
    hashers.into_iter().map(|hasher| i64::from(hasher.finalize())).collect()
}

/// Which of the `wanted` rows of an unfinished file agree with their checksums; `None` if they cannot be read. `columns` are its data sets
/// with one row for each sample, by path.
pub(super) fn agreeing(
    columns: &BTreeMap<String, Dataset>,
    kind: FileKind,
    index: &[u64],
    wanted: &[bool],
) -> Option<Vec<bool>> {
    let described: Vec<_> = columns.values().map(|d| (columns::dtype_of(d), d.shape())).collect();
    let together = columns::rows_together(described.iter().map(|(dtype, shape)| (*dtype, &shape[..])), index.len());
    let mut agree = vec![false; index.len()];
    for first in (0..index.len()).step_by(together) {
        let rows = first..(first + together).min(index.len());
        if !wanted[rows.clone()].contains(&true) {
            continue;
        }
        let mut parts = Vec::with_capacity(columns.len());
        let mut sums = None;
        for (path, dataset) in columns {
            let (dtype, axis) = (columns::dtype_of(dataset)?, sample_axis(kind, path)?);
            let part = columns::read(dataset, path, dtype, axis, Some(rows.clone())).ok()?;
            match part.values {
                Values::I64(values) if path == ROWS => sums = Some(values),
                _ => parts.push(part),
            }
        }
        let found = of_rows(&index[rows.clone()], &parts.iter().collect::<Vec<_>>());
        for ((row, found), sum) in rows.zip(found).zip(sums?) {
            agree[row] = wanted[row] && found == sum;
        }
    }
    Some(agree)
}

/// The checksum of these values.
pub(super) fn of_values(values: &Values) -> i64 {
    let mut hasher = Hasher::new();
    let mut bytes = Vec::new();
    let mut first = 0;
    while first < values.len() {
        let end = (first + PIECE / 8).min(values.len());
        bytes.clear();
        values.append_bytes(first..end, &mut bytes);
        hasher.update(&bytes);
        first = end;
    }
    i64::from(hasher.finalize())
}

/// The checksum of a data set in its file, computed piece by piece.
pub(super) fn of_dataset(dataset: &Dataset, path: &str, dtype: Dtype) -> hdf5::Result<i64> {
    let shape = dataset.shape();
    let (Some(&length), Some(inner)) = (shape.first(), columns::size_of_shape(shape.get(1..).unwrap_or_default()))
    else {
        return Ok(of_values(&columns::read(dataset, path, dtype, 0, None)?.values));
    };
    let step = (PIECE / 8 / inner.max(1)).max(1);
    let mut hasher = Hasher::new();
    let mut bytes = Vec::new();
    let mut first = 0;
    while first < length && inner > 0 {
        let end = (first + step).min(length);
        let part = columns::read(dataset, path, dtype, 0, Some(first..end))?;
        bytes.clear();
        part.values.append_bytes(0..part.values.len(), &mut bytes);
        hasher.update(&bytes);
        first = end;
    }
    Ok(i64::from(hasher.finalize()))
}

/// Writes the checksums of every data set and of the root into the places that were reserved for them.
///
/// The attributes are taken from the file: its run may have begun on another machine, with another version.
pub(super) fn seal(file: &File, path: &Path) -> Result<()> {
    let stored = Header::read(file, path)?;
    let datasets = datasets(file, path)?;
    let work = || -> hdf5::Result<()> {
        let mut sums = Vec::with_capacity(datasets.len());
        for info in &datasets {
            let dtype = info.dtype.ok_or("a data set of another type than was written")?;
            let dataset = file.dataset(&info.path)?;
            let sum = of_dataset(&dataset, &info.path, dtype)?;
            dataset.attr(CHECKSUM)?.write_scalar(&sum)?;
            sums.push(sum);
        }
        file.attr(CHECKSUM)?.write_scalar(&of_structure(&stored, &datasets, &sums))
    };
    work().map_err(|e| fault(path, e))
}

/// True for a file of a version that wrote no checksums.
pub(super) fn is_without(file: &File, stored: &Stored) -> bool {
    stored.version == WITHOUT && file.attr(CHECKSUM).is_err()
}

/// True if an unfinished file's attributes are as written: their own checksum agrees or, in a nearly complete file, that of the whole.
pub(super) fn is_begun(file: &File, path: &Path, stored: &Stored, datasets: &[DatasetInfo]) -> bool {
    number(file.attr(CHECKSUM)) == Some(stored.header.checksum(&stored.version))
        || check(file, path, stored, datasets).is_ok()
}

/// The root's checksum of a finished file, over one line for each attribute, by name, and for each data set, by path.
fn of_structure(stored: &Stored, datasets: &[DatasetInfo], sums: &[i64]) -> i64 {
    let mut text = stored.header.lines(&stored.version);
    for (DatasetInfo { path, dtype, shape }, sum) in datasets.iter().zip(sums) {
        let dtype = dtype.map_or_else(|| "?".to_owned(), |d| d.to_string());
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{path} {dtype} {shape:?} {sum}");
    }
    i64::from(crc32fast::hash(text.as_bytes()))
}

/// Checks the root's checksum of a finished file, and returns each data set's, by path; none for files of a version without checksums.
///
/// # Errors
/// A wrong request if attributes or structure are not as they were written.
pub(super) fn check(
    file: &File,
    path: &Path,
    stored: &Stored,
    datasets: &[DatasetInfo],
) -> Result<HashMap<String, i64>> {
    let changed = |what: &str| {
        let found = format!("{what} other than it was written (damaged or changed)");
        Error::request(path.display().to_string(), "a result file as it was written", found)
    };
    if is_without(file, stored) {
        return Ok(HashMap::new());
    }
    let root = number(file.attr(CHECKSUM)).ok_or_else(|| changed("the root's checksum"))?;
    let mut sums = Vec::with_capacity(datasets.len());
    for info in datasets {
        let sum = number(file.dataset(&info.path).and_then(|d| d.attr(CHECKSUM)));
        sums.push(sum.ok_or_else(|| changed(&format!("the checksum of {}", info.path)))?);
    }
    if of_structure(stored, datasets, &sums) != root {
        return Err(changed("an attribute or a data set's name, type or shape"));
    }
    Ok(datasets.iter().map(|info| info.path.clone()).zip(sums).collect())
}

fn number(attribute: hdf5::Result<hdf5::Attribute>) -> Option<i64> {
    attribute.and_then(|a| a.read_scalar::<i64>()).ok()
}
