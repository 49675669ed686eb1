//! The YAML of a run; it consists of the specs that stand beside the code that they configure.
//!
//! Every key has a default, except for `kind` and the keys of an image's shape, of a further grid and of a race's heats. Unknown keys are
//! refused, and errors name the file and key. Precedence: defaults, the file, `--set`, flags.

mod evaluate;
pub mod launcher; // the part of this process, by what launched it
mod numbers; // lists that may be written as a range
mod parallel;
mod precision;
mod samples; // how many of them
mod shard;
mod sweep;
mod target;
mod tree;

pub use evaluate::{AttackConfig, PixelBox, SaveImages, ScoreConfig};
pub use parallel::{Together, Workers};
pub use precision::Precision;
pub use shard::{HandOut, Shard, ShardChoice};
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

/// A whole run: the model and the data it is trained on, and how it is scored and attacked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunConfig {
    /// Seed of everything random.
    pub seed: u64,
    /// Where to compute.
    pub device: DeviceChoice,
    /// Samples in one pass of scoring and attacking; training has its own number, `train.batch`.
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
    /// How data are read, if the data do not say it.
    #[serde(skip_serializing_if = "Reading::is_default")]
    pub reading: Reading,
    /// How a model from another program is read.
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
    /// The number of samples, from the first; all if absent.
    pub limit: Option<usize>,
    /// The number of samples of the test part on which the ELBO is reported after each epoch; 0: none.
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

    /// As YAML, with every default written out.
    pub fn to_yaml(&self) -> Result<String> {
        serde_yaml::to_string(self).map_err(Error::yaml)
    }

    /// The first key in which `other` computes something different (the device, the batch size and the memory for data do not count).
    pub fn difference(&self, other: &Self) -> Result<Option<String>> {
        let what = |config: &Self| -> Result<Tree> {
            let train = TrainSpec { hold_mib: 0, ..config.train.clone() };
            let config = Self { device: DeviceChoice::Auto, batch: BatchSize::Auto, train, ..config.clone() };
            Tree::of("config", &config)
        };
        Ok(what(self)?.difference(&what(other)?))
    }
}
