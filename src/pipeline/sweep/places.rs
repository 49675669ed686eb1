//! Where the models of a sweep lie, and who works on them.

use crate::config::Cell;
use crate::error::Result;
use crate::ffi::process::allow_files;
use crate::lock::FolderLock;
use std::collections::BTreeSet;
use std::path::Path;

/// The folder of the cells' folders.
pub(super) const CELLS: &str = "cells";

/// The locks of all models of `cells` that exist.
///
/// # Errors
/// A wrong request if another process works on one.
pub(super) fn claimed<'a>(output: &Path, cells: impl Iterator<Item = &'a Cell>) -> Result<Vec<FolderLock>> {
    let claims = output.join(CELLS);
    let names: BTreeSet<String> = cells.map(Cell::name).filter(|name| claims.join(name).is_dir()).collect();
    allow_files(2 * names.len() as u64);
    let mut held = Vec::with_capacity(2 * names.len());
    for name in names {
        held.push(FolderLock::of_work(&claims, &name)?);
        held.push(FolderLock::of(&claims.join(name))?);
    }
    Ok(held)
}
