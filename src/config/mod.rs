//! The YAML that a run is made of: composes the specs that live beside the code they configure.
//!
//! Every key has a default, unknown keys are refused, and errors name the file and key. Precedence: defaults, the file,
//! `--set`, flags.

mod evaluate;
mod numbers; // lists that may be said as a range
mod parallel;
mod precision;
mod samples; // how many of them
mod sweep;
mod target;
mod tree;

pub use evaluate::{AttackConfig, PixelBox, SaveImages, ScoreConfig};
pub use parallel::{Together, Workers};
pub use precision::Precision;
pub use sweep::{Cell, Grid, SweepAttack, SweepScore, SweepSpec};
pub use target::Target;
pub use tree::Tree;

use crate::data::{Reading, Split};
use crate::device::DeviceChoice;
use crate::error::{Error, Result};
use crate::jacobian::BatchSize;
use crate::model::{Interface, ModelSpec};
use crate::train::TrainSpec;
use samples::at_least_one;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A whole run: what to train on what, how to score and attack it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunConfig {
    /// Seed of everything random.
    pub seed: u64,
    /// Where to compute.
    pub device: DeviceChoice,
    /// Samples a pass of scoring and attacking; training has its own, `train.batch`.
    pub batch: BatchSize,
    /// What to train on.
    pub data: DataSpec,
    /// What to train.
    pub model: ModelSpec,
    /// How to train.
    pub train: TrainSpec,
    /// What to score.
    pub score: ScoreConfig,
    /// How to attack.
    pub attack: AttackConfig,
    /// How data are read, where they do not say it.
    #[serde(skip_serializing_if = "Reading::is_default")]
    pub reading: Reading,
    /// How a model of others is read.
    #[serde(skip_serializing_if = "Interface::is_default")]
    pub interface: Interface,
}

/// What a model is trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataSpec {
    /// A data set, as `--data` takes it; paths are relative to the working directory.
    pub source: String,
    /// Which part to train on.
    pub split: Split,
    /// The first so many samples; all where absent.
    pub limit: Option<usize>,
    /// The first so many samples of the test part, on which the ELBO is told after each epoch; 0: none.
    pub valid: usize,
}

impl Default for DataSpec {
    fn default() -> Self {
        Self { source: "strokes".to_owned(), split: Split::Train, limit: None, valid: 1000 }
    }
}

impl DataSpec {
    fn validate(&self) -> Result<()> {
        at_least_one("data.limit", self.limit)
    }
}

impl RunConfig {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(&Tree::read(path)?)
    }

    /// The typed config of a tree, every value checked.
    pub fn parse(tree: &Tree) -> Result<Self> {
        tree.parse(Self::validate)
    }

    /// Checks every range; errors name the key (`train.lr`).
    pub fn validate(&self) -> Result<()> {
        self.data.validate()?;
        self.model.validate()?;
        self.train.validate()?;
        self.score.validate()?;
        self.attack.validate()
    }

    /// As YAML, every default spelled out.
    pub fn to_yaml(&self) -> Result<String> {
        serde_yaml::to_string(self).map_err(Error::yaml)
    }

    /// The first key in which `other` differs in what is computed (where and in which pieces does not count).
    pub fn difference(&self, other: &Self) -> Result<Option<String>> {
        let what = |config: &Self| -> Result<Tree> {
            let config = Self { device: DeviceChoice::Auto, batch: BatchSize::Auto, ..config.clone() };
            Tree::of("config", &config)
        };
        Ok(what(self)?.difference(&what(other)?))
    }
}
