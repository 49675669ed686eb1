//! Stored results -> [`Study`]. Only [`crate::store`] opens the files.

mod apart; //   distinguishes files of one model, and models of one name
mod asked; //   the request behind an attack file
mod format1; // the composed names of earlier files
mod effort; //  flags, passes and the goal's value of attacks
mod history; // history.csv
mod origin; //  what a file says about itself and its run
mod picture; // pictures in result files
mod run; //     scores and attack files
mod sizes; //   sizes, smallest first
mod sweep; //   sweep files
mod sweep_pictures; // their images
mod worst; // the samples that are hit hardest

pub(super) use sweep::evenly;

use super::study::{Study, Trial};
use super::words;
use crate::error::{Error, Result};
use crate::store::{FileKind, Reader};
use origin::origin;
use std::path::{Path, PathBuf};

/// Reads all that `inputs` hold: result files, or run folders with `*.h5` (or `.hdf5`) and `history.csv` at any depth.
pub(super) fn study(inputs: &[PathBuf]) -> Result<Study> {
    let mut results = Vec::new();
    let mut histories = Vec::new();
    for input in inputs {
        let seen = results.len() + histories.len();
        gather(input, &mut results, &mut histories)?;
        if seen == results.len() + histories.len() {
            return Err(Error::request(
                input.display().to_string(),
                "a result file (.h5), or a folder that holds some",
                "a folder without any",
            ));
        }
    }
    // The same file may be named twice, or lie in two of the named folders.
    let mut seen = std::collections::HashSet::new();
    let mut first = |path: &PathBuf| seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone()));
    results.retain(&mut first);
    histories.retain(&mut first);
    let readers = results.iter().map(|p| Reader::open_resting(p)).collect::<Result<Vec<_>>>()?;
    let mut study = Study::default();
    // The untreated model comes first, whatever its name is: the others are compared with it.
    let mut readers: Vec<&Reader> = readers.iter().collect();
    if inputs.iter().all(|i| i.is_dir()) {
        readers.sort_by_key(|r| words::model(&r.header().model) != "plain");
    }
    for reader in &readers {
        study.files.push(origin(reader));
    }
    let runs = || readers.iter().filter(|r| r.header().kind != FileKind::Sweep);
    for reader in runs() {
        run::subject(&mut study, origin(reader));
    }
    for kind in [FileKind::Attack, FileKind::Scores] {
        // Attacks are read first, because they decide which samples a gallery shows.
        for reader in runs().filter(|r| r.header().kind == kind) {
            run::add(reader, &mut study)?;
            reader.rest();
        }
    }
    for reader in readers.iter().filter(|r| r.header().kind == FileKind::Sweep) {
        study.sweeps.push(sweep::read(reader)?);
        reader.rest();
    }
    for path in &histories {
        study.histories.push(history::read(path)?);
    }
    // Pages take the first trial that fits: one of the model as it is, where there is one.
    let special = |trial: &Trial| ["through", "target", "eot"].iter().filter(|k| trial.asked.contains_key(**k)).count();
    study.subjects.iter_mut().for_each(|subject| subject.trials.sort_by_key(special));
    apart::facets(&mut study.subjects);
    apart::trials(&mut study.subjects);
    apart::subjects(&mut study.subjects);
    apart::histories(&mut study);
    Ok(study)
}

/// True for pipes and devices; a file that is not there is none.
fn is_special(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| !found.is_file())
}

/// Collects the files below `path` in the order of their names.
fn gather(path: &Path, results: &mut Vec<PathBuf>, histories: &mut Vec<PathBuf>) -> Result<()> {
    if !path.is_dir() {
        if path.file_name().is_some_and(|n| n == "history.csv") {
            histories.push(path.to_owned());
        } else {
            results.push(path.to_owned());
        }
        return Ok(());
    }
    // A sweep's file contains the data of its models' files.
    let sweep = path.join("sweep.h5");
    if sweep.is_file() {
        results.push(sweep);
        return Ok(());
    }
    let entries = std::fs::read_dir(path).map_err(|e| Error::io(path, e))?;
    let mut paths =
        entries.map(|entry| entry.map(|e| e.path()).map_err(|e| Error::io(path, e))).collect::<Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        let named = |name: &str| path.file_name().is_some_and(|n| n == name);
        if path.is_dir() && !path.is_symlink() {
            gather(&path, results, histories)?;
        } else if path.extension().is_some_and(|e| e == "h5" || e == "hdf5") && !is_special(&path) {
            // Other HDF5 files, such as data sets, may lie beside results. One that cannot be opened may be a result: it is refused by name.
            if !crate::store::is_foreign(&path) {
                results.push(path);
            }
        } else if named("history.csv") {
            histories.push(path);
        }
    }
    Ok(())
}
