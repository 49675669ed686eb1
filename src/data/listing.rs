//! The entries of a folder, without the files that operating systems and archivers leave there.

use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// A visible entry of a folder.
#[derive(Debug)]
pub struct Entry {
    /// Its name; bytes that are not UTF-8 are replaced.
    pub name: String,
    /// Its path.
    pub path: PathBuf,
}

/// Files that operating systems and archivers leave in folders, besides hidden files (`.DS_Store`, resource forks `._NAME`).
const LITTER: [&str; 4] = ["__MACOSX", "Thumbs.db", "desktop.ini", "@eaDir"];

/// The entries of a folder by name, without hidden ones and litter.
pub fn list(folder: &Path) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
        let entry = entry.map_err(|e| Error::io(folder, e))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && !LITTER.contains(&name.as_str()) {
            entries.push(Entry { name, path: entry.path() });
        }
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(entries)
}
