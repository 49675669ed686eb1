//! The YAML of `sweep`: a grid of models, and how each is scored and attacked.
//!
//! Source: Khan & Storkey 2023, experiments: beta-VAEs on a grid of beta, without and with mixup.

use super::numbers::{maybe_numbers, numbers};
use super::precision::Precision;
use super::{AttackConfig, DataSpec, PixelBox, RunConfig, SaveImages, ScoreConfig, Together, Tree, Workers};
use crate::attack::{AttackSpec, Norm};
use crate::correlate::Bootstrap;
use crate::data::Split;
use crate::device::DeviceChoice;
use crate::error::{Error, Result};
use crate::jacobian::BatchSize;
use crate::metric::MetricKind;
use crate::model::{ModelSpec, shift};
use crate::train::TrainSpec;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

/// A study: every model of a grid trained, scored and attacked alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SweepSpec {
    /// Weights of the KL term: a list, or `{logspace: {start: -2, stop: 1, num: 50}}`.
    #[serde(deserialize_with = "numbers")]
    pub beta: Vec<f64>,
    /// Strengths of mixup; 0 means no mixup. All other strengths together form one arm, "with mixup".
    pub mixup: Vec<f64>,
    /// Seeds of everything random; for each seed the whole grid is trained.
    pub seeds: Vec<u64>,
    /// Further grids with the same settings.
    pub also: Vec<Grid>,
    /// Where to compute.
    pub device: DeviceChoice,
    /// Samples in one pass of scoring and attacking.
    pub batch: BatchSize,
    /// How many models are worked on at a time, each one separately; one on a GPU.
    pub workers: Workers,
    /// How many models are trained as one batched program, before the workers score and attack them.
    pub together: Together,
    /// What to train on. Scores and attacks take the same source.
    pub data: DataSpec,
    /// What to train.
    pub model: ModelSpec,
    /// How to train; the grid sets `beta` and `mixup.strength`.
    pub train: TrainSpec,
    /// The part of the data that is scored and attacked.
    pub split: Split,
    /// The number of samples, from the first; all if absent.
    pub samples: Option<usize>,
    /// What to score.
    pub score: SweepScore,
    /// How to attack.
    pub attack: SweepAttack,
    /// Further attacks with the same `eps`, stored under `/further/<key>/attack`: another scale, another metric.
    pub further: BTreeMap<String, SweepAttack>,
    /// Which measures of the attacks `sweep.h5` holds; the models' own files hold all.
    pub measures: Vec<String>,
    /// The number of samples for which `sweep.h5` holds images: clean, attacked along v_1, reconstructed, and directions. Of a finished
    /// sweep it may be changed: these images are made again.
    pub pictures: usize,
    /// Bootstrap of the correlations.
    pub correlate: Bootstrap,
}

impl Default for SweepSpec {
    fn default() -> Self {
        Self {
            beta: vec![1.0],
            mixup: vec![0.0, 1.0],
            seeds: vec![0],
            also: vec![],
            device: DeviceChoice::default(),
            batch: BatchSize::default(),
            workers: Workers::default(),
            together: Together::default(),
            data: DataSpec::default(),
            model: ModelSpec::default(),
            train: TrainSpec::default(),
            split: Split::default(),
            samples: None,
            score: SweepScore::default(),
            attack: SweepAttack::default(),
            further: BTreeMap::new(),
            measures: ["input_l2", "latent_l2", "latent_skl", "recon_mse"].map(str::to_owned).to_vec(),
            pictures: 4,
            correlate: Bootstrap::default(),
        }
    }
}

/// Models to train: every beta with every strength and every seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grid {
    /// Weights of the KL term.
    #[serde(deserialize_with = "numbers")]
    pub beta: Vec<f64>,
    /// Strengths of mixup.
    pub mixup: Vec<f64>,
    /// Seeds.
    pub seeds: Vec<u64>,
}

/// The `score` key of a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SweepScore {
    /// The pullback metrics; the first gives the scores their plain names, a further one `<metric>.<score>`.
    pub metrics: Vec<MetricKind>,
    /// Precision of the model's passes.
    pub precision: Precision,
}

impl Default for SweepScore {
    fn default() -> Self {
        Self { metrics: vec![MetricKind::default()], precision: Precision::default() }
    }
}

/// The `attack` key of a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SweepAttack {
    /// The attacks, each once.
    pub attacks: Vec<AttackSpec>,
    /// The norm in which epsilon counts.
    pub norm: Norm,
    /// Sizes of the perturbation: a list, or `{logspace: ...}`. Further attacks have those of the main one.
    #[serde(deserialize_with = "maybe_numbers")]
    pub eps: Option<Vec<f64>>,
    /// The metric whose eigenvectors the spectral attack takes.
    pub metric: MetricKind,
    /// Clip to [0, 1] or not.
    #[serde(rename = "box")]
    pub pixels: PixelBox,
    /// Precision of the model's passes.
    pub precision: Precision,
}

impl Default for SweepAttack {
    fn default() -> Self {
        let AttackConfig { attacks, norm, eps, metric, pixels, precision, .. } = AttackConfig::default();
        Self { attacks, norm, eps, metric, pixels, precision }
    }
}

impl SweepAttack {
    /// The same settings as the `attack` key of a run.
    fn config(&self, eps: Option<&Vec<f64>>) -> AttackConfig {
        AttackConfig {
            attacks: self.attacks.clone(),
            norm: self.norm,
            eps: eps.cloned(),
            metric: self.metric,
            pixels: self.pixels,
            images: SaveImages::No,
            precision: self.precision,
            ..AttackConfig::default()
        }
    }
}

/// One model of the grid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell {
    /// Weight of the KL term.
    pub beta: f64,
    /// Strength of mixup; 0 means no mixup.
    pub mixup: f64,
    /// Seed of everything random.
    pub seed: u64,
}

impl Cell {
    /// The name of its folder: `<beta>-<mixup>-<seed>`, beta and mixup to six digits.
    pub fn name(&self) -> String {
        format!("{}-{}-{}", six_digits(self.beta), six_digits(self.mixup), self.seed)
    }
}

fn six_digits(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}

/// The most models in a grid.
const MOST_CELLS: usize = 100_000;

impl SweepSpec {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(&Tree::read(path)?)
    }

    /// The typed config of a tree, every value checked.
    pub fn parse(tree: &Tree) -> Result<Self> {
        tree.parse(Self::validate)
    }

    /// As YAML, with every default written out.
    pub fn to_yaml(&self) -> Result<String> {
        serde_yaml::to_string(self).map_err(Error::yaml)
    }

    /// Checks every range; errors name the key (`beta`, `train.lr`).
    pub fn validate(&self) -> Result<()> {
        let main = [("", Grid { beta: self.beta.clone(), mixup: self.mixup.clone(), seeds: self.seeds.clone() })];
        let also = self.also.iter().map(|grid| ("also: ", grid.clone()));
        let mut total = 0usize;
        for (place, grid) in main.into_iter().chain(also) {
            let list = |key: &str, values: &[f64]| {
                let wrong = values.iter().find(|v| !(v.is_finite() && **v >= 0.0));
                match wrong {
                    Some(wrong) => {
                        Err(Error::request(format!("{place}{key}"), "numbers, 0 or more", wrong.to_string()))
                    }
                    None if values.is_empty() => {
                        Err(Error::request(format!("{place}{key}"), "at least one number", "none"))
                    }
                    None => Ok(()),
                }
            };
            list("beta", &grid.beta)?;
            list("mixup", &grid.mixup)?;
            if let Some(seed) = grid.seeds.iter().find(|seed| i64::try_from(**seed).is_err()) {
                return Err(Error::request(format!("{place}seeds"), "whole numbers below 2^63", seed.to_string()));
            }
            if grid.seeds.is_empty() {
                return Err(Error::request(format!("{place}seeds"), "at least one whole number", "none"));
            }
            total =
                total.saturating_add(grid.beta.len().saturating_mul(grid.mixup.len()).saturating_mul(grid.seeds.len()));
        }
        if total > MOST_CELLS {
            return Err(Error::request(
                "beta, mixup, seeds",
                format!("at most {MOST_CELLS} models"),
                total.to_string(),
            ));
        }
        let mut names = BTreeMap::new();
        for cell in self.cells() {
            if let Some(other) = names.insert(cell.name(), cell) {
                let found = format!("{other:?} and {cell:?}");
                return Err(Error::request("beta, mixup", "values that differ in their first six digits", found));
            }
        }
        if self.samples == Some(0) {
            return Err(Error::request("samples", "a whole number >= 1", "0"));
        }
        if self.score.metrics.is_empty() {
            return Err(Error::request("score.metrics", "at least one metric", "none"));
        }
        if self.score.metrics.iter().collect::<HashSet<_>>().len() < self.score.metrics.len() {
            let found = self.score.metrics.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(Error::request("score.metrics", "each metric once", found));
        }
        if let Some(unknown) = self.measures.iter().find(|m| !shift::NAMES.contains(&m.as_str())) {
            return Err(Error::request("measures", shift::NAMES.join(", "), unknown.as_str()));
        }
        for (key, attack) in &self.further {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
            if key.is_empty() || !key.bytes().all(plain) {
                return Err(Error::request("further", "names of letters, digits and _", format!("{key:?}")));
            }
            if attack.eps.is_some() {
                return Err(Error::request(
                    format!("further.{key}.eps"),
                    "nothing: attack.eps is that of all",
                    "numbers",
                ));
            }
        }
        self.correlate.check().map_err(|e| match e {
            Error::Request { subject, expected, found } => {
                Error::request(format!("correlate.{subject}"), expected, found)
            }
            other => other,
        })?;
        self.run_config(Cell { beta: self.beta[0], mixup: self.mixup[0], seed: self.seeds[0] }).validate()?;
        self.attacks()
            .iter()
            .try_for_each(|(_, attack)| RunConfig { attack: attack.clone(), ..RunConfig::default() }.validate())
    }

    /// The models, each once: ordered by seed, then without mixup first, then by beta; the models of `also` follow.
    pub fn cells(&self) -> Vec<Cell> {
        let main = Grid { beta: self.beta.clone(), mixup: self.mixup.clone(), seeds: self.seeds.clone() };
        let mut cells: Vec<Cell> = Vec::new();
        let mut seen = BTreeSet::new();
        for grid in std::iter::once(&main).chain(&self.also) {
            for &seed in &grid.seeds {
                for &mixup in &grid.mixup {
                    for &beta in &grid.beta {
                        if seen.insert((seed, mixup.to_bits(), beta.to_bits())) {
                            cells.push(Cell { beta, mixup, seed });
                        }
                    }
                }
            }
        }
        cells
    }

    /// The config that trains one model; scores and attacks have their own requests.
    pub fn run_config(&self, cell: Cell) -> RunConfig {
        let mut train = self.train.clone();
        train.beta = cell.beta;
        train.mixup.strength = cell.mixup;
        RunConfig {
            seed: cell.seed,
            device: self.device,
            batch: self.batch,
            data: self.data.clone(),
            model: self.model.clone(),
            train,
            score: ScoreConfig::default(),
            attack: AttackConfig::default(),
            ..RunConfig::default()
        }
    }

    /// The sets of attacks, each with its key; the main one, whose key is empty, comes first.
    pub fn attacks(&self) -> Vec<(String, AttackConfig)> {
        let eps = self.attack.config(self.attack.eps.as_ref()).eps();
        let main = (String::new(), self.attack.config(Some(&eps)));
        let further = self.further.iter().map(|(key, attack)| (key.clone(), attack.config(Some(&eps))));
        std::iter::once(main).chain(further).collect()
    }

    /// The first key in which `other` computes something different for a model; the choice of models, the device, how many at a time,
    /// the memory for data, the bootstrap, and what of the models' results `sweep.h5` holds do not count.
    pub fn difference(&self, other: &Self) -> Result<Option<String>> {
        let what = |spec: &Self| -> Result<Tree> {
            let of_models = Self {
                data: spec.data.clone(),
                model: spec.model.clone(),
                train: TrainSpec { beta: 1.0, hold_mib: 0, ..spec.train.clone() },
                split: spec.split,
                samples: spec.samples,
                score: spec.score.clone(),
                attack: spec.attack.clone(),
                further: spec.further.clone(),
                ..Self::default()
            };
            Tree::of("config", &of_models)
        };
        Ok(what(self)?.difference(&what(other)?))
    }
}
