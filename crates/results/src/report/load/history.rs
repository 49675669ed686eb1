//! Training curves: a CSV file whose first column is the epoch.

use crate::error::Result;
use crate::history::Table;
use crate::report::study::History;
use std::path::Path;

/// Reads `path`; cells that are not numbers are NaN.
pub(super) fn read(path: &Path) -> Result<History> {
    let Table { columns, rows } = Table::read(path)?;
    let folder = path.parent().unwrap_or(Path::new("")).display().to_string();
    Ok(History { name: String::new(), folder, columns, rows })
}
