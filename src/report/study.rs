//! What a report is made of: stored results as typed values, each arm its own.

use super::figure::Picture;
use super::law::Law;
use super::stats::Summary;

/// All that the inputs held.
#[derive(Clone, Debug, Default)]
pub struct Study {
    /// Models with scores, attacks or both, in the order of the page.
    pub arms: Vec<Arm>,
    /// Grids of beta.
    pub sweeps: Vec<Sweep>,
    /// Training runs.
    pub histories: Vec<History>,
    /// The files read.
    pub files: Vec<Origin>,
}

/// Where numbers came from: a file's name and root attributes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Origin {
    /// The file, as it was named.
    pub file: String,
    /// `scores`, `attack` or `sweep`.
    pub kind: String,
    /// Path of the model.
    pub model: String,
    /// SHA-256 of its weights.
    pub sha256: String,
    /// Data set and split.
    pub dataset: String,
    /// `train` or `test`.
    pub split: String,
    /// `cpu`, `cuda:0`.
    pub device: String,
    /// `f32` or `f64`.
    pub precision: String,
    /// Seed of the run.
    pub seed: u64,
    /// The pullback metric; empty where none was used.
    pub metric: String,
    /// Version of pullback.
    pub version: String,
    /// Version of libtorch.
    pub libtorch: String,
    /// The resolved configuration, YAML.
    pub config: String,
    /// Samples in the file.
    pub samples: usize,
}

/// A column of one number per sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// Its name in the file.
    pub name: String,
    /// \[N\]
    pub values: Vec<f64>,
}

/// Row-major numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    /// Length of a row.
    pub width: usize,
    /// Rows one after the other.
    pub values: Vec<f64>,
}

impl Matrix {
    /// The rows.
    pub fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.values.chunks_exact(self.width.max(1))
    }

    /// Column `j`.
    pub fn column(&self, j: usize) -> Vec<f64> {
        self.rows().filter_map(|row| row.get(j).copied()).collect()
    }
}

/// One model.
#[derive(Clone, Debug, Default)]
pub struct Arm {
    /// What the page calls it.
    pub name: String,
    /// Identity: path, weights, data.
    pub origin: Origin,
    /// Its spectra and scores.
    pub scores: Option<Scores>,
    /// Its attacks, one entry a file.
    pub trials: Vec<Trial>,
}

/// Spectra and scores of one model.
#[derive(Clone, Debug, Default)]
pub struct Scores {
    /// The pullback metric.
    pub metric: String,
    /// Position of each row in the data set.
    pub index: Vec<u64>,
    /// `/scores/<name>`.
    pub columns: Vec<Named>,
    /// `/spectrum/eigenvalues`, descending.
    pub eigenvalues: Option<Matrix>,
    /// `/spectrum/directions` of the samples on show.
    pub directions: Vec<Directions>,
    /// |cos| between the first directions of pairs of samples.
    pub alignment: Vec<f64>,
}

impl Scores {
    /// The column called `name`.
    pub fn column(&self, name: &str) -> Option<&[f64]> {
        self.columns.iter().find(|c| c.name == name).map(|c| c.values.as_slice())
    }
}

/// The kept directions of one sample.
#[derive(Clone, Debug)]
pub struct Directions {
    /// Position of the sample in the data set.
    pub index: u64,
    /// v_1, v_2, ...
    pub vectors: Vec<Picture>,
}

/// One attack file.
#[derive(Clone, Debug, Default)]
pub struct Trial {
    /// `l2` or `linf`; empty where the file does not say.
    pub norm: String,
    /// How the length of a step along a direction is counted.
    pub scale: StepScale,
    /// Position of each row in the data set.
    pub index: Vec<u64>,
    /// Sizes of the perturbation.
    pub eps: Vec<f64>,
    /// `/clean/<measure>`.
    pub clean: Vec<Named>,
    /// `/attack/<attack>`.
    pub attacks: Vec<Outcome>,
    /// Images, where the file holds them.
    pub gallery: Option<Gallery>,
}

impl Trial {
    /// The attack called `name`.
    pub fn attack(&self, name: &str) -> Option<&Outcome> {
        self.attacks.iter().find(|a| a.name == name)
    }
}

/// What one attack did.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Its name in the file.
    pub name: String,
    /// Its measures.
    pub measures: Vec<Measure>,
}

impl Outcome {
    /// The measure called `name`.
    pub fn measure(&self, name: &str) -> Option<&Measure> {
        self.measures.iter().find(|m| m.name == name)
    }
}

/// One measure of one attack.
#[derive(Clone, Debug, PartialEq)]
pub struct Measure {
    /// Its name in the file.
    pub name: String,
    /// \[E\]\[N\]
    pub by_eps: Vec<Vec<f64>>,
}

/// Images of a few samples, before and after the attacks.
#[derive(Clone, Debug, Default)]
pub struct Gallery {
    /// Which samples.
    pub samples: Vec<Sample>,
    /// The inputs.
    pub originals: Vec<Picture>,
    /// Their reconstructions; empty where not stored.
    pub recon: Vec<Picture>,
    /// The attacks, each with its images by size.
    pub attacks: Vec<AttackedImages>,
}

/// A sample on show.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Its row in the file.
    pub row: usize,
    /// Its position in the data set.
    pub index: u64,
    /// Its class.
    pub label: Option<i64>,
}

/// Images of one attack.
#[derive(Clone, Debug, Default)]
pub struct AttackedImages {
    /// Its name in the file.
    pub name: String,
    /// Attacked inputs, \[E\]\[samples\].
    pub images: Vec<Vec<Picture>>,
    /// Their reconstructions, \[E\]\[samples\]; empty where not stored.
    pub recon: Vec<Vec<Picture>>,
}

/// A training run.
#[derive(Clone, Debug)]
pub struct History {
    /// What the page calls it.
    pub name: String,
    /// Names of the columns; the first is the epoch.
    pub columns: Vec<String>,
    /// One row an epoch; NaN where the file has no number.
    pub rows: Vec<Vec<f64>>,
}

/// A grid of beta, with and without mixup.
#[derive(Clone, Debug, Default)]
pub struct Sweep {
    /// Where it came from.
    pub origin: Origin,
    /// Its models, as the file has them.
    pub models: Vec<SweepModel>,
    /// Which losses [`SweepModel::losses`] are: `/training/<loss>`.
    pub losses: Vec<String>,
    /// The sets of attacks, the main one first.
    pub sets: Vec<StepSet>,
    /// Sizes of the perturbation, the same in every set.
    pub eps: Vec<f64>,
    /// One entry a beta and strength of mixup, by strength, then ascending in beta. Models that differ in their seed
    /// alone are one point: their samples are pooled.
    pub points: Vec<SweepPoint>,
    /// Places in `eps` of the few sizes that galleries show.
    pub shown_eps: Vec<usize>,
    /// `/correlation/...`.
    pub correlations: Vec<Interval>,
    /// `/effect/...`: what mixup changes.
    pub effects: Vec<Interval>,
    /// `/within/...`: correlations over the samples of each model.
    pub within: Vec<Within>,
}

impl Sweep {
    /// The same sweep with the attacks of one set, named without its key.
    pub fn only(&self, set: &StepSet) -> Self {
        let of_set = |point: &SweepPoint| {
            let attacks = point.attacks.iter().filter_map(|a| {
                let (key, name) = StepSet::split(&a.name);
                (key == set.key).then(|| OutcomeSummary { name: name.to_owned(), measures: a.measures.clone() })
            });
            let agreements = point.agreements.iter().filter(|(key, _)| *key == set.key).cloned();
            SweepPoint { attacks: attacks.collect(), agreements: agreements.collect(), ..point.clone() }
        };
        Self { points: self.points.iter().map(of_set).collect(), sets: vec![set.clone()], ..self.clone() }
    }
}

/// One model of a sweep.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SweepModel {
    /// Weight of the KL term.
    pub beta: f64,
    /// Strength of mixup, 0 without.
    pub mixup: f64,
    /// Seed of its training; `None` where the file does not say.
    pub seed: Option<i64>,
    /// What training ended with.
    pub losses: Vec<f64>,
}

/// Attacks that were asked for together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepSet {
    /// What the names of its attacks begin with, a hyphen last; empty in the main set.
    pub key: String,
    /// `l2` or `linf`; empty where the file does not say.
    pub norm: String,
    /// How the length of a step along a direction is counted.
    pub scale: StepScale,
    /// The metric whose directions are taken.
    pub metric: String,
}

impl StepSet {
    /// An attack's name as key and name: `unit-u1` is (`unit-`, `u1`).
    pub fn split(name: &str) -> (&str, &str) {
        name.rfind('-').map_or(("", name), |at| name.split_at(at + 1))
    }
}

/// How the length of a step along the i-th direction is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StepScale {
    /// The step's length is epsilon.
    #[default]
    Unit,
    /// The step's length is epsilon lambda_i, the scale of the authors' paper.
    Eigen,
    /// The step's length is epsilon sqrt(lambda_i), the scale of the authors' code.
    Singular,
}

impl StepScale {
    /// The length of a step of size `eps` along a direction of eigenvalue `lambda`.
    pub fn length(self, eps: f64, lambda: f64) -> f64 {
        match self {
            Self::Unit => eps,
            Self::Eigen => eps * lambda,
            Self::Singular => eps * lambda.max(0.0).sqrt(),
        }
    }
}

/// The models of one beta and strength of mixup.
#[derive(Clone, Debug, Default)]
pub struct SweepPoint {
    /// Weight of the KL term.
    pub beta: f64,
    /// Strength of mixup, 0 without.
    pub mixup: f64,
    /// Models pooled.
    pub models: usize,
    /// `/scores/<name>`.
    pub scores: Vec<Named>,
    /// `/clean/<measure>` in short.
    pub clean: Vec<(String, Summary)>,
    /// Each eigenvalue in short: the spectra themselves stay in the file.
    pub spectrum: Vec<Summary>,
    /// The attacks in short: the samples stay in the file.
    pub attacks: Vec<OutcomeSummary>,
    /// Theory against what happened along the first direction, by the key of the set.
    pub agreements: Vec<(String, Agreement)>,
    /// Images, where the file holds them and the page shows this model.
    pub gallery: Option<Gallery>,
    /// Directions of the samples on show, where the page shows this model.
    pub directions: Vec<Directions>,
}

impl SweepPoint {
    /// The score called `name`.
    pub fn score(&self, name: &str) -> Option<&[f64]> {
        self.scores.iter().find(|c| c.name == name).map(|c| c.values.as_slice())
    }

    /// The clean measure called `name`.
    pub fn clean(&self, name: &str) -> Option<&Summary> {
        self.clean.iter().find(|(n, _)| n == name).map(|(_, s)| s)
    }

    /// The measure of an attack, by size.
    pub fn measure(&self, attack: &str, measure: &str) -> Option<&[Summary]> {
        let outcome = self.attacks.iter().find(|a| a.name == attack)?;
        outcome.measures.iter().find(|(n, _)| n == measure).map(|(_, s)| s.as_slice())
    }

    /// Theory against what happened, in a sweep of one set.
    pub fn agreement(&self) -> Option<&Agreement> {
        self.agreements.first().map(|(_, a)| a)
    }
}

/// What one attack did to the models of one point, in short.
#[derive(Clone, Debug)]
pub struct OutcomeSummary {
    /// Its name in the file: `u1` to `u5`, `random`, `pgd`, or the same after a set's key.
    pub name: String,
    /// Its measures, each by size.
    pub measures: Vec<(String, Vec<Summary>)>,
}

/// Predicted and measured damage of steps along the first direction.
#[derive(Clone, Debug)]
pub struct Agreement {
    /// The measure that the metric predicts.
    pub law: Law,
    /// By size: measured over predicted.
    pub ratio: Vec<Summary>,
    /// Predictions at the smallest size, a number per sample.
    pub predicted: Vec<f64>,
    /// What was measured there.
    pub actual: Vec<f64>,
}

/// A number with its interval.
#[derive(Clone, Debug, PartialEq)]
pub struct Interval {
    /// Of what, as the file names it.
    pub name: String,
    /// The estimate.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// A rank correlation over the samples of each model.
#[derive(Clone, Debug, PartialEq)]
pub struct Within {
    /// Of what, as the file names it.
    pub name: String,
    /// Estimate, lower and upper end of each point (the median over its models).
    pub by_point: Vec<[f64; 3]>,
}
