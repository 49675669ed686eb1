//! Training curves: a CSV file whose first column is the epoch.

use crate::error::{Error, Result};
use crate::report::study::History;
use std::path::Path;

/// Reads `path`; cells that are no numbers are NaN.
pub(super) fn read(path: &Path) -> Result<History> {
    let text = Error::read_text(path)?;
    let mut lines = text.lines().filter(|l| !l.trim().is_empty());
    let columns: Vec<String> = lines.next().unwrap_or_default().split(',').map(|c| c.trim().to_owned()).collect();
    if columns.len() < 2 {
        return Err(Error::request(
            path.display().to_string(),
            "a line of column names, the first of them the epoch",
            format!("{:?}", columns.join(",")),
        ));
    }
    let rows: Vec<Vec<f64>> =
        lines.map(|line| line.split(',').map(|c| c.trim().parse().unwrap_or(f64::NAN)).collect()).collect();
    if let Some((i, row)) = rows.iter().enumerate().find(|(_, r): &(usize, &Vec<f64>)| r.len() != columns.len()) {
        return Err(Error::request(
            format!("{} line {}", path.display(), i + 2),
            format!("{} columns", columns.len()),
            row.len().to_string(),
        ));
    }
    let folder = path.parent().unwrap_or(Path::new("")).display().to_string();
    Ok(History { name: String::new(), folder, columns, rows })
}
