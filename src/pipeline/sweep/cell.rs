//! One model of the grid: train, score by every metric, attack; each part is done once.

use crate::attack::{AttackSpec, SpectralSpec};
use crate::config::Precision;
use crate::config::{AttackConfig, Cell, HandOut, SaveImages, SweepSpec};
use crate::data::Reading;
use crate::error::{Error, Result};
use crate::event::Observer;
use crate::metric::MetricKind;
use crate::model::{self, Interface, WEIGHTS_FILE};
use crate::pipeline::done::{Fingerprints, is_done};
use crate::pipeline::job::Subject;
use crate::pipeline::train::{self, Progress, TrainRequest};
use crate::pipeline::{AttackRequest, ScoreRequest, attack, score};
use crate::spectrum::SpectrumSpec;
use crate::store::Overwrite;
use serde_json::Value;
use std::path::Path;

/// The data of a sweep as they are now.
pub(super) struct AtHand {
    /// What its models train on; `None` where that is no longer at hand.
    pub training: Option<Value>,
    /// What they are evaluated on.
    pub prints: Fingerprints,
}

/// The progress of a cell.
pub(super) struct State {
    /// Epochs that are done.
    pub epochs: u64,
    /// Nothing is left to do.
    pub done: bool,
}

/// Finds out what a cell's folder holds.
///
/// # Errors
/// A wrong request if it holds something else than this cell.
pub(super) fn state(spec: &SweepSpec, cell: Cell, folder: &Path, data: &AtHand) -> Result<State> {
    let epochs = train::epochs(folder).unwrap_or(0) as u64;
    let mut done = is_trained(spec, cell, folder, data)?;
    if done {
        let sha256 = model::sha256(&folder.join(WEIGHTS_FILE))?;
        for request in scores(spec, cell, folder) {
            done &= is_done(&request, &request.subject, &sha256, "sweep", &data.prints)?;
        }
        for request in attacks(spec, cell, folder) {
            done &= is_done(&request, &request.subject, &sha256, "sweep", &data.prints)?;
        }
    }
    Ok(State { epochs, done })
}

/// The file of the images.
pub(super) const PICTURES_FILE: &str = "pictures.h5";
/// The file of the directions as images.
pub(super) const DIRECTIONS_FILE: &str = "directions.h5";
/// Directions that are kept as images, or fewer if the model has fewer.
const DIRECTIONS: usize = 5;

/// Does the remaining work of a cell.
pub(super) fn work(spec: &SweepSpec, cell: Cell, folder: &Path, data: &AtHand, observer: &dyn Observer) -> Result<()> {
    if !is_trained(spec, cell, folder, data)? {
        train::run(&training(spec, cell, folder), observer)?;
    }
    let sha256 = model::sha256(&folder.join(WEIGHTS_FILE))?;
    for request in scores(spec, cell, folder) {
        if !is_done(&request, &request.subject, &sha256, "sweep", &data.prints)? {
            score::score(&request, observer)?;
        }
    }
    for request in attacks(spec, cell, folder) {
        if !is_done(&request, &request.subject, &sha256, "sweep", &data.prints)? {
            attack::attack(&request, observer)?;
        }
    }
    train::drop_state(folder)
}

/// True if nothing is left to train; compared with the data where they are at hand.
///
/// # Errors
/// As [`state`]; a wrong request if the model was trained on other data, however far.
pub(super) fn is_trained(spec: &SweepSpec, cell: Cell, folder: &Path, data: &AtHand) -> Result<bool> {
    let finished = train::progress(folder, &spec.run_config(cell))? == Progress::Finished;
    if let (Some(now), true) = (&data.training, folder.exists())
        && train::trained_on(folder)?.is_some_and(|there| there != *now)
    {
        let expected = "a model trained on the data as they are now, or --force";
        return Err(Error::request(folder.display().to_string(), expected, "one trained on other data"));
    }
    Ok(finished)
}

/// The request to train a cell's model.
pub(super) fn training(spec: &SweepSpec, cell: Cell, folder: &Path) -> TrainRequest {
    TrainRequest { config: spec.run_config(cell), output: folder.to_owned(), overwrite: Overwrite::No }
}

/// Removes a cell's files.
pub(super) fn clear(folder: &Path, spec: &SweepSpec) -> Result<()> {
    train::clear_run(folder)?;
    let names = (0..spec.score.metrics.len()).map(|i| score_file(spec, i));
    let pictures = [PICTURES_FILE, DIRECTIONS_FILE].map(str::to_owned);
    for name in names.chain(spec.attacks().iter().map(|(key, _)| attack_file(key))).chain(pictures) {
        train::clear(folder, &[&name, &format!("{name}.partial")])?;
    }
    Ok(())
}

/// The file of the scores by metric `i`.
pub(super) fn score_file(spec: &SweepSpec, i: usize) -> String {
    match spec.score.metrics.get(i) {
        Some(metric) if i > 0 => format!("scores-{metric}.h5"),
        _ => "scores.h5".to_owned(),
    }
}

/// The file of a set of attacks, named by its key.
pub(super) fn attack_file(set: &str) -> String {
    if set.is_empty() { "attack.h5".to_owned() } else { format!("attack-{set}.h5") }
}

/// The requests to score: one for each metric, and one for the directions of a few samples.
fn scores(spec: &SweepSpec, cell: Cell, folder: &Path) -> Vec<ScoreRequest> {
    let one = |(i, metric): (usize, &MetricKind)| ScoreRequest {
        subject: subject(spec, cell, folder, spec.score.precision, score_file(spec, i)),
        metric: *metric,
        top: 0,
        spectrum: SpectrumSpec::default(),
        margin: None,
    };
    let mut requests: Vec<ScoreRequest> = spec.score.metrics.iter().enumerate().map(one).collect();
    if spec.pictures > 0 {
        let mut subject = subject(spec, cell, folder, spec.attack.precision, DIRECTIONS_FILE.to_owned());
        subject.limit = Some(pictures(spec));
        // Made again where the number of images has changed: it takes no time, and the models' results are not touched.
        subject.overwrite = Overwrite::Yes;
        let top = DIRECTIONS.min(spec.model.latent().max(0) as usize);
        let spectrum = SpectrumSpec::default();
        requests.push(ScoreRequest { subject, metric: spec.attack.metric, top, spectrum, margin: None });
    }
    requests
}

/// The requests to attack: one for the main attacks and one for each further key, and one for the images of a few samples.
fn attacks(spec: &SweepSpec, cell: Cell, folder: &Path) -> Vec<AttackRequest> {
    let one = |(key, attack): (String, AttackConfig)| {
        let attack = AttackConfig { images: SaveImages::No, ..attack };
        AttackRequest::of(subject(spec, cell, folder, attack.precision, attack_file(&key)), &attack)
    };
    let mut requests: Vec<AttackRequest> = spec.attacks().into_iter().map(one).collect();
    let shown = spec.attack.attacks.iter().find_map(|attack| match attack {
        AttackSpec::Spectral(s) => Some(AttackSpec::Spectral(SpectralSpec { top: 1, ..s.clone() })),
        _ => None,
    });
    if let (Some(shown), Some(main)) = (shown, requests.first().filter(|_| spec.pictures > 0)) {
        let mut request = AttackRequest { attacks: vec![shown], images: SaveImages::Yes, ..main.clone() };
        request.subject.limit = Some(pictures(spec));
        request.subject.overwrite = Overwrite::Yes;
        request.subject.output = folder.join(PICTURES_FILE);
        requests.push(request);
    }
    requests
}

/// The number of samples whose images are kept.
fn pictures(spec: &SweepSpec) -> usize {
    spec.pictures.min(spec.samples.unwrap_or(usize::MAX))
}

fn subject(spec: &SweepSpec, cell: Cell, folder: &Path, precision: Precision, file: String) -> Subject {
    Subject {
        model: folder.to_owned(),
        data: spec.data.source.clone(),
        split: spec.split,
        limit: spec.samples,
        sample: None,
        reading: Reading::default(),
        interface: Interface::default(),
        shard: None,
        precision,
        seed: cell.seed,
        device: spec.device,
        batch: spec.batch,
        output: folder.join(file),
        overwrite: Overwrite::No,
        hand_out: HandOut::default(),
    }
}
