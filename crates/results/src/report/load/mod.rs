//! Stored results -> [`Study`]. Only [`crate::store`] opens the files.

mod apart; //   what tells files of one model, and models of one name, apart
mod history; // history.csv
mod run; //     scores and attack files
mod sweep; //   sweep files
mod sweep_pictures; // their images

pub(super) use sweep::evenly;

use super::study::{Origin, StepScale, Study};
use super::words;
use crate::error::{Error, Result};
use crate::store::{FileKind, Reader};
use std::path::{Path, PathBuf};

/// Samples on show in galleries.
pub(super) const ON_SHOW: usize = 8;

/// Reads all that `inputs` hold: result files, or run folders with `*.h5` and `history.csv` at any depth.
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
    // The same file may be named twice, or lie in two of the folders named.
    let mut seen = std::collections::HashSet::new();
    let mut first = |path: &PathBuf| seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone()));
    results.retain(&mut first);
    histories.retain(&mut first);
    let readers = results.iter().map(|p| Reader::open(p)).collect::<Result<Vec<_>>>()?;
    let mut study = Study::default();
    // The untreated model first, whatever its name sorts as: the others are read against it.
    let mut readers: Vec<&Reader> = readers.iter().collect();
    if inputs.iter().all(|i| i.is_dir()) {
        readers.sort_by_key(|r| words::model(&r.header().model) != "plain");
    }
    for reader in &readers {
        study.files.push(origin(reader));
    }
    let runs = || readers.iter().filter(|r| r.header().kind != FileKind::Sweep);
    for reader in runs() {
        run::arm(&mut study, origin(reader));
    }
    for kind in [FileKind::Attack, FileKind::Scores] {
        // Attacks first: they say which samples a gallery shows.
        for reader in runs().filter(|r| r.header().kind == kind) {
            run::add(reader, &mut study)?;
        }
    }
    for reader in readers.iter().filter(|r| r.header().kind == FileKind::Sweep) {
        study.sweeps.push(sweep::read(reader)?);
    }
    for path in &histories {
        study.histories.push(history::read(path)?);
    }
    apart::facets(&mut study.arms);
    apart::trials(&mut study.arms);
    apart::arms(&mut study.arms);
    apart::histories(&mut study);
    Ok(study)
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
    // A sweep's file holds what its models' files hold.
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
        } else if path.extension().is_some_and(|e| e == "h5") && crate::store::is_result(&path) {
            // HDF5 files that are no results, such as data sets, may lie beside them.
            results.push(path);
        } else if named("history.csv") {
            histories.push(path);
        }
    }
    Ok(())
}

/// What a file says of itself.
pub(super) fn origin(reader: &Reader) -> Origin {
    let header = reader.header();
    Origin {
        file: reader.path().display().to_string(),
        kind: header.kind.name().to_owned(),
        model: header.model.clone(),
        sha256: header.model_sha256.clone(),
        dataset: header.dataset.clone(),
        data: header.data_sha256.clone(),
        split: header.split.clone(),
        device: header.device.clone(),
        precision: header.precision.clone(),
        seed: header.seed,
        metric: header.metric.clone().unwrap_or_default(),
        version: reader.version().to_owned(),
        libtorch: reader.libtorch().to_owned(),
        config: header.config.clone(),
        samples: reader.samples(),
    }
}

/// A setting of the run: a root attribute, or the first key of that name in the stored configuration.
pub(super) fn setting(reader: &Reader, key: &str) -> String {
    let header = reader.header();
    header.extra.get(key).cloned().unwrap_or_else(|| find_setting(&header.config, &[], key))
}

/// The first text under a key of that name in a YAML document, below the keys `path`; empty where there is none.
pub(super) fn find_setting(config: &str, path: &[&str], key: &str) -> String {
    fn find(value: &serde_yaml::Value, key: &str) -> Option<String> {
        if let Some(list) = value.as_sequence() {
            return list.iter().find_map(|v| find(v, key));
        }
        let map = value.as_mapping()?;
        if let Some(found) = map.get(key).and_then(|v| v.as_str()) {
            return Some(found.to_owned());
        }
        map.values().find_map(|v| find(v, key))
    }
    let document: serde_yaml::Value = serde_yaml::from_str(config).unwrap_or_default();
    let place = path.iter().try_fold(&document, |value, key| value.as_mapping()?.get(*key));
    place.and_then(|value| find(value, key)).unwrap_or_default()
}

/// How the length of a step along a direction is counted, as files say it.
pub(super) fn step_scale(name: &str) -> StepScale {
    match name {
        "eigen" => StepScale::Eigen,
        "singular" => StepScale::Singular,
        _ => StepScale::Unit,
    }
}
