//! Checksums: of each row, of each data set, of the file's attributes and structure (docs/formats.md).
//!
//! All are CRC-32 (that of zlib and PNG) of little-endian bytes. A row's is written with the row and asked when an unfinished
//! file is resumed; the others are written when a file is complete and asked when it is read.

use super::columns::{self, Dtype, fault};
use super::header::{Header, Stored};
use super::probe::datasets;
use super::reader::DatasetInfo;
use super::{Column, Values};
use crate::error::{Error, Result};
use crc32fast::Hasher;
use hdf5::{Dataset, File};
use std::fmt::Write;
use std::path::Path;

/// The data set with a checksum per row, `[N]` i64.
pub(super) const ROWS: &str = "/checksum";
/// The attribute of each data set, and of the root.
pub(super) const ATTRIBUTE: &str = "checksum";
/// Versions of this program that wrote no checksums.
const WITHOUT: &str = "0.1.0";
/// Bytes that are read at a time where a data set is asked for its checksum.
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
                append(&column.values, first..first + inner, &mut bytes);
                hasher.update(&bytes);
            }
        }
    }
    hashers.into_iter().map(|hasher| i64::from(hasher.finalize())).collect()
}

/// The little-endian bytes of some values.
fn append(values: &Values, range: std::ops::Range<usize>, bytes: &mut Vec<u8>) {
    match values {
        Values::F64(v) => v[range].iter().for_each(|x| bytes.extend_from_slice(&x.to_le_bytes())),
        Values::F32(v) => v[range].iter().for_each(|x| bytes.extend_from_slice(&x.to_le_bytes())),
        Values::I64(v) => v[range].iter().for_each(|x| bytes.extend_from_slice(&x.to_le_bytes())),
        Values::U8(v) => bytes.extend_from_slice(&v[range]),
    }
}

/// The checksum of these values.
pub(super) fn of_values(values: &Values) -> i64 {
    let mut hasher = Hasher::new();
    let mut bytes = Vec::new();
    let mut first = 0;
    while first < values.len() {
        let end = (first + PIECE / 8).min(values.len());
        bytes.clear();
        append(values, first..end, &mut bytes);
        hasher.update(&bytes);
        first = end;
    }
    i64::from(hasher.finalize())
}

/// The checksum of a data set as it is in its file, some of it at a time.
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
        append(&part.values, 0..part.values.len(), &mut bytes);
        hasher.update(&bytes);
        first = end;
    }
    Ok(i64::from(hasher.finalize()))
}

/// Gives every data set and the root their checksums, in the places that were made for them.
///
/// The attributes are taken as they are in the file: who began it may have run elsewhere, and another version.
pub(super) fn seal(file: &File, path: &Path) -> Result<()> {
    let datasets = datasets(file, path)?;
    let mut all = Vec::with_capacity(datasets.len());
    for info in &datasets {
        let work = || -> hdf5::Result<Option<i64>> {
            let Some(dtype) = info.dtype else { return Ok(None) };
            let dataset = file.dataset(&info.path)?;
            let sum = of_dataset(&dataset, &info.path, dtype)?;
            dataset.attr(ATTRIBUTE)?.write_scalar(&sum)?;
            Ok(Some(sum))
        };
        all.push((info, work().map_err(|e| fault(path, e))?));
    }
    let Stored { header, version, libtorch, .. } = Header::read(file, path)?;
    let whole = of_structure(&header, &version, &libtorch, &all);
    let write = || file.attr(ATTRIBUTE)?.write_scalar(&whole);
    write().map_err(|e| fault(path, e))
}

/// Gives an unfinished file's root the checksum of its attributes, which are known already.
pub(super) fn begin(file: &File, path: &Path) -> Result<()> {
    let stored = Header::read(file, path)?;
    let sum = of_structure(&stored.header, &stored.version, &stored.libtorch, &[]);
    let write = || file.attr(ATTRIBUTE)?.write_scalar(&sum);
    write().map_err(|e| fault(path, e))
}

/// True where an unfinished file's attributes are as they were written: by themselves, or, just before it is complete, with all else.
pub(super) fn is_begun(file: &File, path: &Path, stored: &Stored, datasets: &[DatasetInfo]) -> bool {
    let root = file.attr(ATTRIBUTE).and_then(|a| a.read_scalar::<i64>()).ok();
    root == Some(of_structure(&stored.header, &stored.version, &stored.libtorch, &[]))
        || check(file, path, stored, datasets).is_ok_and(|sums| sums.is_some())
}

/// The root's checksum: of a line for each attribute and for each data set.
fn of_structure(header: &Header, version: &str, libtorch: &str, datasets: &[(&DatasetInfo, Option<i64>)]) -> i64 {
    let mut text = String::new();
    for (name, value) in header.attributes(version, libtorch) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name}={value}");
    }
    for (DatasetInfo { path, dtype, shape }, sum) in datasets {
        let dtype = dtype.map_or_else(|| "?".to_owned(), |d| d.to_string());
        let _ = writeln!(text, "{path} {dtype} {shape:?} {}", sum.unwrap_or(0));
    }
    i64::from(crc32fast::hash(text.as_bytes()))
}

/// Checks the root's checksum of a finished file, and gives each data set's; `None` for files of a version without.
///
/// # Errors
/// A wrong request where attributes or structure are not as they were written.
pub(super) fn check(file: &File, path: &Path, stored: &Stored, datasets: &[DatasetInfo]) -> Result<Option<Vec<i64>>> {
    let changed = |what: &str| {
        let found = format!("{what} other than it was written (damaged or changed)");
        Error::request(path.display().to_string(), "a result file as it was written", found)
    };
    let number = |attribute: hdf5::Result<hdf5::Attribute>| attribute.and_then(|a| a.read_scalar::<i64>()).ok();
    let Some(root) = number(file.attr(ATTRIBUTE)) else {
        return if stored.version == WITHOUT { Ok(None) } else { Err(changed("the root's checksum")) };
    };
    let mut sums = Vec::with_capacity(datasets.len());
    for info in datasets {
        let sum = number(file.dataset(&info.path).and_then(|d| d.attr(ATTRIBUTE)));
        sums.push(sum.ok_or_else(|| changed(&format!("the checksum of {}", info.path)))?);
    }
    let all: Vec<_> = datasets.iter().zip(sums.iter().map(|s| Some(*s))).collect();
    if of_structure(&stored.header, &stored.version, &stored.libtorch, &all) == root {
        Ok(Some(sums))
    } else {
        Err(changed("an attribute or a data set's name, type or shape"))
    }
}
