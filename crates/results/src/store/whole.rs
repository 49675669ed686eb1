//! Files and data sets that are written in one call.

use super::checksum;
use super::columns::{self, fault};
use super::header::{self, Header};
use super::target::{Overwrite, Target, in_use};
use super::{Column, schema};
use crate::error::{Error, Result};
use hdf5::file::OpenMode;
use hdf5::{Dataset, File, MinorErrorCode};
use std::collections::HashSet;
use std::path::Path;

/// Writes a complete result: for small results that are computed at once, such as sweeps.
///
/// The file appears under its final name only when it is complete.
///
/// # Errors
/// As [`Writer::create`](super::Writer::create); if much work comes before, check the path early with it.
pub fn write_whole(path: &Path, header: &Header, columns: &[Column], overwrite: Overwrite) -> Result<()> {
    let target = Target::new(path, overwrite)?;
    let mut seen = HashSet::new();
    for column in columns {
        check_whole(column)?;
        if !seen.insert(column.path.as_str()) {
            return Err(Error::request(format!("column {}", column.path), "once", "twice"));
        }
    }
    write_all(&target, header, columns).inspect_err(|_| target.discard())?;
    target.publish()
}

fn write_all(target: &Target, header: &Header, columns: &[Column]) -> Result<()> {
    let path = &target.partial;
    let file = create(path)?;
    header.write(&file, path)?;
    for column in columns {
        write_column(&file, column).map_err(|e| fault(path, e))?;
    }
    checksum::seal(&file, path)?;
    header::set_format(&file, path)?;
    file.flush().map_err(|e| fault(path, e))?;
    file.close().map_err(|e| fault(path, e))
}

/// A new HDF5 file that replaces an existing one.
pub(super) fn create(path: &Path) -> Result<File> {
    columns::open(path, OpenMode::Create).map_err(|error| match error {
        error if error.contains_minor(MinorErrorCode::CantLockFile) => in_use(path),
        error => fault(path, error),
    })
}

/// Checks a data set that is written in one call.
pub(super) fn check_whole(column: &Column) -> Result<()> {
    schema::check_path(&column.path)?;
    column.check(None)
}

/// Creates a data set and writes all of it.
pub(super) fn write_column(file: &File, column: &Column) -> hdf5::Result<Dataset> {
    let dataset = columns::create(file, &column.path, column.values.dtype(), &column.shape)?;
    columns::write(&dataset, column, None)?;
    Ok(dataset)
}
