//! `history.csv`, the losses of training for each epoch: a line of names, then numbers; a missing number is an empty cell.

use crate::error::{Error, Result};
use std::fmt::Write;
use std::path::Path;

/// The file's name in a run folder.
pub const FILE: &str = "history.csv";
/// The columns that training writes, the epoch first.
pub const COLUMNS: [&str; 11] = [
    "epoch",
    "beta",
    "lr",
    "loss",
    "reconstruction",
    "kl",
    "mixup",
    "valid_elbo",
    "valid_reconstruction",
    "valid_kl",
    "seconds",
];

/// Columns of numbers under their names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Names; the first is the epoch's.
    pub columns: Vec<String>,
    /// One number for each column; NaN if the file has none.
    pub rows: Vec<Vec<f64>>,
}

impl Table {
    /// Reads a file; cells that are not numbers are NaN.
    ///
    /// # Errors
    /// A wrong request if its first line has no names, or a line has more or fewer cells than the first.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(&path.display().to_string(), &Error::read_text(path)?)
    }

    /// The same for the text of `place`.
    ///
    /// # Errors
    /// As [`Table::read`].
    pub fn parse(place: &str, text: &str) -> Result<Self> {
        let mut lines = text.lines().filter(|l| !l.trim().is_empty());
        let columns: Vec<String> = lines.next().unwrap_or_default().split(',').map(|c| c.trim().to_owned()).collect();
        if columns.len() < 2 {
            return Err(Error::request(
                place,
                "a line of column names, the first of them the epoch",
                format!("{:?}", columns.join(",")),
            ));
        }
        let rows: Vec<Vec<f64>> =
            lines.map(|line| line.split(',').map(|c| c.trim().parse().unwrap_or(f64::NAN)).collect()).collect();
        if let Some((i, row)) = rows.iter().enumerate().find(|(_, r): &(usize, &Vec<f64>)| r.len() != columns.len()) {
            return Err(Error::request(
                format!("{place} line {}", i + 2),
                format!("{} columns", columns.len()),
                row.len().to_string(),
            ));
        }
        Ok(Self { columns, rows })
    }

    /// The number under `name` in a row; NaN if there is none.
    pub fn value(&self, row: &[f64], name: &str) -> f64 {
        let column = self.columns.iter().position(|c| c == name);
        column.and_then(|c| row.get(c)).copied().unwrap_or(f64::NAN)
    }

    /// The text of a file: NaN is an empty cell, seconds have three decimals.
    pub fn to_csv(&self) -> String {
        let mut text = self.columns.join(",");
        text.push('\n');
        for row in &self.rows {
            for (i, (value, name)) in row.iter().zip(&self.columns).enumerate() {
                text.push_str(if i == 0 { "" } else { "," });
                // Writing to a string cannot fail.
                let _ = match (value.is_nan(), name.as_str()) {
                    (true, _) => Ok(()),
                    (_, "seconds") => write!(text, "{value:.3}"),
                    _ => write!(text, "{value}"),
                };
            }
            text.push('\n');
        }
        text
    }
}
