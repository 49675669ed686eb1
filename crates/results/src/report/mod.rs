//! Stored results -> one HTML page: self-contained, readable on a phone and a desk, in light and dark.
//!
//! [`write()`] reads result files (docs/formats.md) into a [`study::Study`], turns each part of it into figures ([`section`]) drawn by a
//! small plotting layer ([`figure`]), and composes the page.

pub mod figure; //  values -> SVG, table, CSV
pub mod law; //     what theory predicts
mod load; //        result files -> Study
pub mod markup; //  well-formed HTML and SVG
mod page; //        sections -> one HTML file
pub mod section; // Study -> figures with their findings
pub mod stats; //   quartiles, counts, ranks
pub mod study; //   the contents of a report
pub mod words; //   names in files -> words

use crate::error::{Error, Result};
use crate::lock::TEMPORARY;
use crate::store::{self, Overwrite, ensure_free};
use section::{
    Section, classes, compare, damage, directions, gallery, overview, prediction, scores, smallest, spectra, sweep,
    training, trust, worst,
};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Writes the report of `inputs` (result files, or run folders with `*.h5` and `history.csv` at any depth) to `output`.
///
/// The page appears under its name only when it is complete.
///
/// # Errors
/// [`Error::Request`] if `output` exists and may not be overwritten, or is no regular file, if its folder does not exist, or an input holds
/// no result or a damaged one; [`Error::Io`] if reading or writing fails.
pub fn write(inputs: &[PathBuf], output: &Path, overwrite: Overwrite) -> Result<()> {
    // This is checked before any work.
    ensure_free(output, overwrite)?;
    publish(&render(inputs)?, output, overwrite)
}

/// Writes a complete text: it appears under its name only when it is complete.
///
/// # Errors
/// As [`write()`].
pub fn publish(page: &str, output: &Path, overwrite: Overwrite) -> Result<()> {
    ensure_free(output, overwrite)?;
    let folder = store::folder(output);
    let mut file = builder().tempfile_in(&folder).map_err(|e| Error::io(&folder, e))?;
    file.write_all(page.as_bytes()).map_err(|e| Error::io(output, e))?;
    // A name that survives a power failure must not be that of an empty file.
    file.as_file().sync_data().map_err(|e| Error::io(output, e))?;
    let kept = match overwrite {
        Overwrite::Yes => file.persist(output),
        Overwrite::No => file.persist_noclobber(output),
    };
    kept.map_err(|e| match ensure_free(output, overwrite) {
        // Another process has made it meanwhile.
        Err(taken) if e.error.kind() == ErrorKind::AlreadyExists => taken,
        _ => Error::io(output, e.error),
    })?;
    store::sync_name(output);
    Ok(())
}

/// Temporary files are private by default; others may read a report, within the user's umask.
fn builder() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder
}

/// The page of `inputs` as a string.
///
/// # Errors
/// As [`write()`], except for the output.
pub fn render(inputs: &[PathBuf]) -> Result<String> {
    let study = load::study(inputs)?;
    let mut sections: Vec<Section> = [
        compare::section(&study),
        overview::section(&study),
        gallery::section(&study)?,
        damage::section(&study),
        worst::section(&study)?,
        classes::section(&study),
        smallest::section(&study),
        trust::section(&study),
        spectra::section(&study),
        scores::section(&study),
        prediction::section(&study),
        directions::section(&study)?,
    ]
    .into_iter()
    .flatten()
    .collect();
    sections.extend(sweep::sections(&study)?);
    sections.extend(training::section(&study));
    sections.push(overview::sources(&study));
    Ok(page::compose(&study, &sections))
}
