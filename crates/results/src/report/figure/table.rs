//! The numbers behind a figure: an HTML table, and the same in full precision as CSV.

use super::number;
use crate::report::markup::{Element, element};

/// Rows that the page shows; the CSV contains all rows.
const SHOWN: usize = 200;

/// One entry.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Words.
    Text(String),
    /// A measured number.
    Number(f64),
    /// A count or an index.
    Integer(i64),
}

impl From<f64> for Cell {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}
impl From<usize> for Cell {
    fn from(value: usize) -> Self {
        Self::Integer(value as i64)
    }
}
impl From<i64> for Cell {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}
impl From<&str> for Cell {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}
impl From<&String> for Cell {
    fn from(value: &String) -> Self {
        Self::Text(value.clone())
    }
}

/// A table with named columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Column names.
    pub columns: Vec<String>,
    /// Rows, each as long as `columns`.
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table.
    pub fn new(columns: &[&str]) -> Self {
        Self { columns: columns.iter().map(|c| (*c).to_owned()).collect(), rows: Vec::new() }
    }

    /// Appends a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The table as CSV (RFC 4180 with line feeds): numbers in the shortest form that reads back the same.
    pub fn csv(&self) -> String {
        let quote = |text: &str| {
            if text.contains([',', '"', '\n', '\r']) {
                format!("\"{}\"", text.replace('"', "\"\""))
            } else {
                text.to_owned()
            }
        };
        let mut out = self.columns.iter().map(|c| quote(c)).collect::<Vec<_>>().join(",");
        out.push('\n');
        for row in &self.rows {
            let cells = row.iter().map(|cell| match cell {
                Cell::Text(text) => quote(text),
                Cell::Number(value) => exact(*value),
                Cell::Integer(value) => value.to_string(),
            });
            out.push_str(&cells.collect::<Vec<_>>().join(","));
            out.push('\n');
        }
        out
    }

    /// The table as HTML: `<table>` within a box that scrolls sideways on narrow screens.
    pub fn element(&self) -> Element {
        let head = self.columns.iter().map(|c| element("th").with("scope", "col").text(c));
        let rows = self.rows.iter().take(SHOWN).map(|row| {
            element("tr").children(row.iter().map(|cell| match cell {
                Cell::Text(text) => element("td").text(text),
                Cell::Number(value) => element("td").class("n").text(number::significant(*value, 4)),
                Cell::Integer(value) => element("td").class("n").text(value),
            }))
        });
        element("div").class("scroll").with("tabindex", "0").child(
            element("table")
                .child(element("thead").child(element("tr").children(head)))
                .child(element("tbody").children(rows)),
        )
    }

    /// The table, folded, with a link that saves its CSV.
    pub fn details(&self, name: &str, of: &str) -> Element {
        let size = match self.rows.len() {
            1 => "1 row".to_owned(),
            n => format!("{} rows", number::count(n)),
        };
        let mut details = element("details")
            .class("data")
            .child(element("summary").text(format!("Numbers ({size})")))
            .child(self.download(name, of));
        if self.rows.len() > SHOWN {
            details.push(element("p").class("note").text(format!("The first {SHOWN} rows; the CSV file has all.")));
        }
        details.child(self.element())
    }

    /// A link that saves the CSV.
    pub fn download(&self, name: &str, of: &str) -> Element {
        element("a")
            .class("csv")
            .with("download", format!("{name}.csv"))
            .with("href", format!("data:text/csv;charset=utf-8,{}", percent_encoded(&self.csv())))
            .with("aria-label", format!("Download CSV: {of}"))
            .text("Download CSV")
    }
}

/// The shortest text that reads back the same; very large and small numbers with an exponent.
fn exact(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-5..1e15).contains(&size) { format!("{value:e}") } else { format!("{value}") }
}

/// Percent-encodes every character that a data URI may not contain.
fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 5 / 4);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~,;:=*()/!'".contains(&byte) {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
