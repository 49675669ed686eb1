//! The cells' files, each opened once, because opening checks the file, and the first read of a data set checks all of it.

use crate::error::{Error, Result};
use crate::store::Reader;
use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;

/// The most files that are held open: a system's usual limit is 1024 per process. Further files are opened for each use.
const OPEN: usize = 512;

/// The files of all cells.
pub(super) struct Cells<'a> {
    pub folders: &'a [PathBuf],
    /// The samples that each file must have: those of the first file.
    index: Option<Vec<u64>>,
    /// The hash of their data.
    data: Option<String>,
    open: HashMap<(usize, String), Rc<Reader>>,
    /// The last file beyond these.
    last: Option<((usize, String), Rc<Reader>)>,
}

impl<'a> Cells<'a> {
    pub fn new(folders: &'a [PathBuf]) -> Self {
        Self { folders, index: None, data: None, open: HashMap::new(), last: None }
    }

    /// A file of a cell.
    ///
    /// # Errors
    /// If it cannot be read; a wrong request if it has other samples than the first.
    pub fn reader(&mut self, cell: usize, file: &str) -> Result<Rc<Reader>> {
        let key = (cell, file.to_owned());
        let last = self.last.as_ref().filter(|(last, _)| *last == key);
        if let Some(reader) = self.open.get(&key).or(last.map(|(_, reader)| reader)) {
            return Ok(reader.clone());
        }
        let path = self.folders[cell].join(file);
        let reader = Reader::open(&path)?;
        if reader.index() != *self.index.get_or_insert_with(|| reader.index().to_vec()) {
            let found = format!("{} others", reader.index().len());
            return Err(Error::request(path.display().to_string(), "the samples of the sweep's other models", found));
        }
        let data = &reader.header().data_sha256;
        if data != self.data.get_or_insert_with(|| data.clone()) {
            let shown = path.display().to_string();
            return Err(Error::request(shown, "the data of the sweep's other models", "results on other data"));
        }
        let reader = Rc::new(reader);
        if self.open.len() < OPEN {
            self.open.insert(key, reader.clone());
        } else {
            self.last = Some((key, reader.clone()));
        }
        Ok(reader)
    }
}
