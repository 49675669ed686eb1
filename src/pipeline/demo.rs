//! `demo`: the paper on generated digits, from training to the report. Finished parts are not done again.

use super::done::{Fingerprints, is_done};
use super::train::{self, Progress, TrainRequest};
use super::{AttackRequest, ScoreRequest, Subject};
use crate::config::{HandOut, RunConfig};
use crate::error::{Error, Result};
use crate::event::{Event, Observer};
use crate::lock::FolderLock;
use crate::model::{self, Interface, WEIGHTS_FILE};
use crate::report;
use crate::store::{Overwrite, Reader, ScoreSummary};
use std::fmt;
use std::path::{Path, PathBuf};

/// The arms: the same VAE trained without and with mixup.
const ARMS: [&str; 2] = ["plain", "mixup"];
const SCORES_FILE: &str = "scores.h5";
const ATTACK_FILE: &str = "attack.h5";
const REPORT_FILE: &str = "report.html";

/// The request of `demo`.
#[derive(Clone, Debug, PartialEq)]
pub struct DemoRequest {
    /// Both arms' config; the plain arm drops its mixup.
    pub config: RunConfig,
    /// The folder of both arms and the report.
    pub output: PathBuf,
    /// Whether all of it may be done again. What the same request left unfinished is not: it goes on after a stop.
    pub overwrite: Overwrite,
}

/// What the demo found. Its display is a small table and the report's path.
#[derive(Clone, Debug, PartialEq)]
pub struct DemoOutcome {
    /// The page.
    pub report: PathBuf,
    /// What was measured: a name, and a value for each arm.
    pub rows: Vec<(String, [f64; 2])>,
    /// True if everything existed from an earlier run.
    pub reused: bool,
}

/// Trains, scores and attacks both arms and writes the report; parts that an earlier run finished are kept.
///
/// # Errors
/// The errors of the parts; a wrong request if the folder holds a demo of another config and may not be overwritten.
pub fn run(request: &DemoRequest, observer: &dyn Observer) -> Result<DemoOutcome> {
    request.config.validate()?;
    let output = &request.output;
    let _alone = FolderLock::of(output)?;
    // The same command goes on after a stop: only a demo that is done is done again.
    if request.overwrite == Overwrite::Yes && output.join(REPORT_FILE).exists() {
        for arm in ARMS {
            train::clear_run(&request.output.join(arm))?;
            for file in [SCORES_FILE, ATTACK_FILE] {
                train::clear(&request.output.join(arm), &[file, &format!("{file}.partial")])?;
            }
        }
        // Last, because without it a demo goes on.
        train::clear(&request.output, &[REPORT_FILE])?;
    }
    let mut reused = true;
    for arm in ARMS {
        reused &= run_arm(request, arm, observer)?;
    }
    let report = request.output.join(REPORT_FILE);
    if !(reused && report.exists()) {
        // The page is made only from these results, so an old page is replaced.
        report::write(std::slice::from_ref(&request.output), &report, Overwrite::Yes)?;
        reused = false;
    }
    Ok(DemoOutcome { rows: rows(&request.output)?, report, reused })
}

/// Runs one arm; true if nothing was left to do.
fn run_arm(request: &DemoRequest, arm: &str, observer: &dyn Observer) -> Result<bool> {
    let folder = request.output.join(arm);
    let mut config = request.config.clone();
    if arm == "plain" {
        config.train.mixup.strength = 0.0;
    }
    let again = request.overwrite == Overwrite::Yes;
    let mut reused = match train::progress(&folder, &config) {
        Err(Error::Request { .. }) if again => false,
        progress => progress? == Progress::Finished,
    };
    if !reused {
        observer.on(Event::Note(&format!("{arm}: {}", folder.display())));
        let (config, output) = (config.clone(), folder.clone());
        train::run(&TrainRequest { config, output, overwrite: request.overwrite }, observer)?;
    }
    let sha256 = model::sha256(&folder.join(WEIGHTS_FILE))?;
    let subject = |split, limit, precision, name: &str| Subject {
        model: folder.clone(),
        data: config.data.source.clone(),
        split,
        limit,
        sample: None,
        reading: config.reading,
        interface: Interface::default(),
        shard: None,
        precision,
        seed: config.seed,
        device: config.device,
        batch: config.batch,
        output: folder.join(name),
        overwrite: request.overwrite,
        hand_out: HandOut::default(),
    };
    let prints = Fingerprints::default();
    let done = |there: Result<bool>| match there {
        Err(Error::Request { .. }) if again => Ok(false),
        there => there,
    };
    let spec = &config.score;
    let scores = ScoreRequest {
        subject: subject(spec.split, spec.limit, spec.precision, SCORES_FILE),
        metric: spec.metric,
        top: spec.top,
        spectrum: spec.spectrum.clone(),
        margin: spec.margin,
    };
    if !done(is_done(&scores, &scores.subject, &sha256, "demo", &prints))? {
        super::score(&scores, observer)?;
        reused = false;
    }
    let spec = &config.attack;
    let attacks = AttackRequest::of(subject(spec.split, spec.limit, spec.precision, ATTACK_FILE), spec);
    if !done(is_done(&attacks, &attacks.subject, &sha256, "demo", &prints))? {
        super::attack(&attacks, observer)?;
        reused = false;
    }
    Ok(reused)
}

/// What the table shows: the middle sample's scores, and the mean damage at the largest epsilon.
fn rows(output: &Path) -> Result<Vec<(String, [f64; 2])>> {
    let mut rows: Vec<(String, [f64; 2])> = Vec::new();
    for (a, arm) in ARMS.iter().enumerate() {
        let mut add = |name: String, value: f64| match rows.iter_mut().find(|(n, _)| *n == name) {
            Some((_, values)) => values[a] = value,
            None => {
                let mut values = [f64::NAN; 2];
                values[a] = value;
                rows.push((name, values));
            }
        };
        let scores = Reader::open(&output.join(arm).join(SCORES_FILE))?;
        for name in ["spectral_radius", "von_neumann_entropy", "effective_rank"] {
            let (_, values) = scores.read_f64(&format!("/scores/{name}"))?;
            add(format!("{} (median)", name.replace('_', " ")), ScoreSummary::of(name, &values).median);
        }
        let attacks = Reader::open(&output.join(arm).join(ATTACK_FILE))?;
        let (_, eps) = attacks.read_f64("/eps")?;
        for name in attacks.attacks() {
            let (shape, values) = attacks.read_f64(&format!("/attack/{name}/latent_l2"))?;
            let samples = shape.last().copied().unwrap_or(0);
            let Some((e, largest)) = eps.iter().enumerate().max_by(|x, y| x.1.total_cmp(y.1)) else { continue };
            let at = values.get(e * samples..(e + 1) * samples).unwrap_or_default();
            add(format!("latent shift, {name}, eps {largest} (mean)"), ScoreSummary::of(&name, at).mean);
        }
    }
    Ok(rows)
}

impl fmt::Display for DemoOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        writeln!(f, "{:<width$}  {:>10}  {:>10}", "", ARMS[0], ARMS[1])?;
        for (name, [plain, mixup]) in &self.rows {
            writeln!(f, "{name:<width$}  {plain:>10.4}  {mixup:>10.4}")?;
        }
        let state = if self.reused { "up to date (--force does it again): " } else { "" };
        write!(f, "report: {state}{}", self.report.display())
    }
}
