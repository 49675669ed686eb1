//! Whether all models of a sweep were trained on the same data, and what `--force` does to those that were not.

use super::cell::{self, AtHand};
use super::places::{CELLS, claimed};
use crate::config::{Cell, SweepSpec};
use crate::error::{Error, Result};
use crate::pipeline::train::{self, Progress};
use crate::store::Overwrite;
use std::path::{Path, PathBuf};

/// Checks before any work that all models in `output` will be of one training data: that of `data`, where they are at hand. Where the sweep may be
/// done again, models that do not fit are cleared instead.
///
/// A model of version 0.1.0 does not say what it was trained on. It stays among others of its kind; no new one is joined to it.
///
/// # Errors
/// A wrong request if models do not fit.
pub(super) fn ensure(
    spec: &SweepSpec,
    cells: &[Cell],
    output: &Path,
    overwrite: Overwrite,
    data: &AtHand,
) -> Result<()> {
    let folder = |cell: &Cell| output.join(CELLS).join(cell.name());
    let again = overwrite == Overwrite::Yes;
    let _theirs = if again { claimed(output, cells.iter())? } else { vec![] };
    let mut unknown = Vec::new();
    for cell in cells {
        let folder = folder(cell);
        if !again {
            cell::is_trained(spec, *cell, &folder, data)?;
        } else if let Err(error) = cell::state(spec, *cell, &folder, data) {
            match error {
                Error::Request { .. } => cell::clear(&folder, spec)?,
                other => return Err(other),
            }
        }
        let finished = train::progress(&folder, &spec.run_config(*cell))? == Progress::Finished;
        if finished && train::trained_on(&folder)?.is_none() {
            unknown.push(folder);
        }
    }
    match &unknown[..] {
        [first, ..] if unknown.len() < cells.len() => {
            if again {
                return unknown.iter().try_for_each(|folder| cell::clear(folder, spec));
            }
            let expected = "a model that says what it was trained on, or --force, which trains it anew";
            Err(Error::request(first.display().to_string(), expected, "one of version 0.1.0 beside others"))
        }
        _ => Ok(()),
    }
}

/// Checks that models that are done were trained on the same data, before they are joined.
///
/// # Errors
/// A wrong request if they were not.
pub(super) fn ensure_done(cells: &[Cell], folder: &impl Fn(&Cell) -> PathBuf) -> Result<()> {
    let mut first = None;
    for cell in cells {
        let there = train::trained_on(&folder(cell))?;
        if *first.get_or_insert_with(|| there.clone()) != there {
            let shown = folder(cell).display().to_string();
            return Err(Error::request(
                shown,
                "a model trained as the sweep's others were",
                "one trained on other data",
            ));
        }
    }
    Ok(())
}
