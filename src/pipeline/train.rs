//! `train`: a config to a run folder with a model.

use crate::config::{DataSpec, RunConfig};
use crate::data::{self, ImageShape, Source, Split};
use crate::error::{Error, Result};
use crate::event::{Event, Observer};
use crate::lock::{self, FolderLock};
use crate::model::{self, CONFIG_FILE, Network, WEIGHTS_FILE};
use crate::pipeline::train_log::TrainLog;
use crate::store::Overwrite;
use crate::train::{self, HISTORY_FILE, History, Keep, Member, STATE_FILE, TrainSpec};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tch::Kind;

/// What is left of a state in the folder of a finished run that needs it no more: what the run's data are.
const DATA_FILE: &str = "data.json";

/// The request of `train`.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainRequest {
    /// The model, the data and how to train.
    pub config: RunConfig,
    /// The run folder.
    pub output: PathBuf,
    /// Whether an existing run may be replaced. One that [`run`] would go on with is not: the same command goes on after a stop.
    pub overwrite: Overwrite,
}

/// The progress of the run in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is no run.
    New,
    /// An unfinished run of the same config.
    Unfinished,
    /// All its epochs are done.
    Finished,
}

/// Trains into `request.output`: `config.yaml`, `model.safetensors`, `history.csv`, `tensorboard/` and the
/// state for a resume.
///
/// An unfinished run of an equal config continues where it stopped, on the same data wherever they lie, also where a run may be replaced.
///
/// # Errors
/// A wrong request if the config does not fit the data, or the folder holds a finished run, a run of another config or other files, and may
/// not be overwritten.
pub fn run(request: &TrainRequest, observer: &dyn Observer) -> Result<History> {
    request.config.validate()?;
    let (source, valid) = sources(&request.config)?;
    source.notes().iter().for_each(|note| observer.on(Event::Warning(note)));
    tell_if_same(&source, valid.as_ref(), observer)?;
    let (config, mut network, _alone) = prepare(request, &source, valid.as_ref(), observer)?;
    let mut log = log(request, &config, &source, valid.as_ref())?;
    let keep = Keep { folder: Some(&request.output), follower: Some(&mut log) };
    let history = train::fit(&mut network, source, valid, &config.train, config.seed, keep, observer)?;
    write_config(&request.output, &config)?;
    Ok(history)
}

/// [`run`] for several models as one batched program: requests that differ only in seed, `train.beta` and `train.mixup`. Each folder then
/// holds the same as after a separate run, within rounding.
///
/// # Errors
/// Inner: of a model whose loss is not a number. Outer: what stops all models, as for [`run`]; also requests that differ in more.
pub fn together(requests: &[(TrainRequest, &dyn Observer)]) -> Result<Vec<Result<History>>> {
    let Some((first, observer)) = requests.first() else {
        return Ok(vec![]);
    };
    first.config.validate()?;
    for (request, _) in requests {
        let (own, &TrainSpec { beta, mixup, .. }) = (&request.config, &first.config.train);
        let alike =
            RunConfig { seed: first.config.seed, train: TrainSpec { beta, mixup, ..own.train.clone() }, ..own.clone() };
        if let Some(key) = first.config.difference(&alike)? {
            return Err(Error::request("models trained together", "one config but for seed, beta and mixup", key));
        }
    }
    let (source, valid) = sources(&first.config)?;
    tell_if_same(&source, valid.as_ref(), *observer)?;
    let mut prepared = Vec::with_capacity(requests.len());
    for (request, observer) in requests {
        prepared.push(prepare(request, &source, valid.as_ref(), *observer)?);
    }
    let (mut configs, mut networks, mut locks) = (Vec::new(), Vec::new(), Vec::new());
    for (config, network, lock) in prepared {
        configs.push(config);
        networks.push(network);
        locks.push(lock);
    }
    let mut logs = Vec::with_capacity(requests.len());
    for ((request, _), config) in requests.iter().zip(&configs) {
        logs.push(log(request, config, &source, valid.as_ref())?);
    }
    let mut members = Vec::with_capacity(requests.len());
    for (((config, network), log), (request, observer)) in
        configs.iter().zip(&mut networks).zip(&mut logs).zip(requests)
    {
        let TrainSpec { beta, mixup, .. } = config.train;
        let keep = Keep { folder: Some(&request.output), follower: Some(log) };
        members.push(Member { network, beta, mixup, seed: config.seed, keep, observer: *observer });
    }
    let histories = train::together(members, source, valid, &first.config.train)?;
    for ((request, _), config) in requests.iter().zip(&configs) {
        write_config(&request.output, config)?;
    }
    Ok(histories)
}

type Data = Arc<dyn Source>;

/// As many samples tell whether two parts are the same.
const COMPARED: usize = 8;

/// The data to train on and to validate on.
fn sources(config: &RunConfig) -> Result<(Data, Option<Data>)> {
    if !config.interface.is_default() {
        let expected = "none: what is trained here sees pixels in [0, 1] and gives logvar";
        return Err(Error::request("interface", expected, "one of another model"));
    }
    let (spec, reading) = (&config.data, &config.reading);
    if reading.is_free() {
        return Err(Error::request("reading.full_scale", "a number: training is on pixels in [0, 1]", "none"));
    }
    let source = data::open_as(&spec.source, spec.split, spec.limit, reading)?;
    let valid = match spec.valid {
        0 => None,
        n => Some(data::open_as(&spec.source, Split::Test, Some(n), reading)?),
    };
    Ok((source, valid))
}

/// Tells where the validation samples are those of training, by the first of them.
///
/// # Errors
/// If they cannot be read.
fn tell_if_same(train: &Data, valid: Option<&Data>, observer: &dyn Observer) -> Result<()> {
    let Some(valid) = valid else { return Ok(()) };
    let first: Vec<u64> = (0..train.len().min(valid.len()).min(COMPARED) as u64).collect();
    if train.read(&first)?.images.f_equal(&valid.read(&first)?.images)? {
        let line = "the validation samples are those of training: these data have no test part, or it is the one to train on (valid: 0 \
                    validates on none)";
        observer.on(Event::Warning(line));
    }
    Ok(())
}

/// Shape of the training images.
pub(super) fn shape(spec: &DataSpec) -> Result<ImageShape> {
    Ok(data::open(&spec.source, spec.split, spec.limit)?.shape())
}

/// Prepares the run folder; returns the whole config, a fresh network, and the lock on the folder.
fn prepare(
    request: &TrainRequest,
    source: &Data,
    valid: Option<&Data>,
    observer: &dyn Observer,
) -> Result<(RunConfig, Network, FolderLock)> {
    let mut config = request.config.clone();
    config.model.resolve(source.shape())?;
    config.validate()?;
    let device = config.device.resolve_told(observer)?;
    let folder = &request.output;
    // Locked before the folder's contents are checked: another process may be working there.
    let lock = FolderLock::of(folder)?;
    if request.overwrite == Overwrite::No && progress(folder, &config)? == Progress::Finished {
        let found = "a finished one of this config".to_owned();
        return Err(Error::request(folder.display().to_string(), "a new or unfinished run, or --force", found));
    }
    let network = Network::new(&config.model, config.seed, device, Kind::Float)?;
    if request.overwrite == Overwrite::Yes && !goes_on(folder, &config, &network, source, valid)? {
        clear_run(folder)?;
    }
    // A state says whether it goes on with this config; until it has, the one that is there is not replaced.
    if !folder.join(STATE_FILE).exists() {
        write_config(folder, &config)?;
    }
    Ok((config, network, lock))
}

/// True if the folder holds an unfinished run of this config on these data.
///
/// # Errors
/// If the system does not allow reading.
fn goes_on(folder: &Path, config: &RunConfig, network: &Network, source: &Data, valid: Option<&Data>) -> Result<bool> {
    match progress(folder, config) {
        Ok(Progress::Unfinished) if folder.join(STATE_FILE).exists() => {
            let data = train::data(source.as_ref(), valid.map(AsRef::as_ref))?;
            let settings = train::settings(network, &config.train, config.seed, &data);
            train::goes_on(&folder.join(STATE_FILE), &settings)
        }
        Ok(_) | Err(Error::Request { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What the data of a config are by their contents, as [`trained_on`] gives it.
///
/// # Errors
/// If they cannot be read.
pub(super) fn data_of(config: &RunConfig) -> Result<Value> {
    let (source, valid) = sources(config)?;
    train::contents(source.as_ref(), valid.as_deref())
}

/// The data that the run in `folder` was begun on, as its state says it, or [`DATA_FILE`] without one; `None` where neither does.
///
/// # Errors
/// If a file is damaged, or the system does not allow reading.
pub(super) fn trained_on(folder: &Path) -> Result<Option<Value>> {
    let (state, kept) = (folder.join(STATE_FILE), folder.join(DATA_FILE));
    match train::data_in(&state) {
        // Another part of a sweep may have removed it just now.
        Err(_) if !state.exists() => {}
        there => return there,
    }
    if !kept.exists() {
        return Ok(None);
    }
    let wrong = |e: serde_json::Error| Error::request(kept.display().to_string(), "what data are", e.to_string());
    serde_json::from_str(&Error::read_text(&kept)?).map(Some).map_err(wrong)
}

/// Removes the state of a finished run from its folder: it is twice the model's size. What it says of the data stays, in [`DATA_FILE`].
pub(super) fn drop_state(folder: &Path) -> Result<()> {
    if !folder.join(STATE_FILE).exists() {
        return Ok(());
    }
    if let Some(data) = trained_on(folder)? {
        model::write_atomically(&folder.join(DATA_FILE), format!("{data}\n").as_bytes())?;
    }
    clear(folder, &[STATE_FILE])
}

/// Writes the config into a run folder that does not have it yet.
fn write_config(folder: &Path, config: &RunConfig) -> Result<()> {
    let (path, text) = (folder.join(CONFIG_FILE), config.to_yaml()?);
    if std::fs::read(&path).is_ok_and(|there| there == text.as_bytes()) {
        return Ok(());
    }
    model::write_atomically(&path, text.as_bytes())
}

/// The log of a run. It shows validation images if there are any, otherwise training images.
fn log<'a>(request: &TrainRequest, config: &'a RunConfig, source: &Data, valid: Option<&Data>) -> Result<TrainLog<'a>> {
    TrainLog::new(&request.output, valid.unwrap_or(source).as_ref(), &config.train, config.seed)
}

/// The progress of the run in `folder`.
///
/// # Errors
/// A wrong request if the folder holds a run of another config, or files that are not a run.
pub fn progress(folder: &Path, config: &RunConfig) -> Result<Progress> {
    let shown = folder.display().to_string();
    match std::fs::metadata(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Progress::New),
        Err(e) => return Err(Error::io(folder, e)),
        Ok(meta) if !meta.is_dir() => return Err(Error::request(shown, "a folder", "a file")),
        Ok(_) => {}
    }
    let file = folder.join(CONFIG_FILE);
    if !file.exists() && lock::is_empty(folder)? {
        return Ok(Progress::New);
    }
    // The config is a run's first file: another process may have begun the run since the question above.
    if !file.exists() {
        return Err(Error::request(shown, "a new, empty or run folder, or --force", "a folder with other files"));
    }
    let there = RunConfig::read(&file)?;
    let mut config = config.clone();
    if let (None, Some(image)) = (config.model.image(), there.model.image()) {
        config.model.resolve(image)?;
    }
    let done = epochs(folder)?;
    let finished = done >= config.train.epochs as usize && folder.join(WEIGHTS_FILE).exists();
    // A state knows its data by their contents, so that a run goes on where they were moved.
    if !finished && folder.join(STATE_FILE).exists() {
        config.data.source.clone_from(&there.data.source);
    }
    if let Some(key) = there.difference(&config)? {
        let found = format!("another {key} there");
        return Err(Error::request(file.display().to_string(), "the config of this run, or --force", found));
    }
    Ok(if finished { Progress::Finished } else { Progress::Unfinished })
}

/// Epochs that the run in `folder` has done; `history.csv` is written completely or not at all.
///
/// # Errors
/// If the system does not allow reading. A damaged file counts as no epochs, and the run's state writes it again.
pub(super) fn epochs(folder: &Path) -> Result<usize> {
    match History::read(&folder.join(HISTORY_FILE)) {
        Ok(history) => Ok(history.epochs.len()),
        Err(Error::Request { .. }) => Ok(0),
        Err(error) => Err(error),
    }
}

/// The epochs that the run in `folder` has done, and those that its config asks for, if it has done fewer; `None` for any other folder.
pub(super) fn half_way(folder: &Path) -> Option<(usize, usize)> {
    let asked = RunConfig::read(&folder.join(CONFIG_FILE)).ok()?.train.epochs as usize;
    let done = History::read(&folder.join(HISTORY_FILE)).ok()?.epochs.len();
    (done < asked).then_some((done, asked))
}

/// Removes the files of a run from its folder.
pub(super) fn clear_run(folder: &Path) -> Result<()> {
    clear(folder, &[CONFIG_FILE, WEIGHTS_FILE, STATE_FILE, DATA_FILE, HISTORY_FILE])?;
    TrainLog::clear(folder)
}

/// Removes the files of `names` that are in `folder`.
pub(super) fn clear(folder: &Path, names: &[&str]) -> Result<()> {
    for name in names {
        let path = folder.join(name);
        match std::fs::remove_file(&path) {
            Err(e) if !matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                return Err(Error::io(&path, e));
            }
            _ => {}
        }
    }
    Ok(())
}
