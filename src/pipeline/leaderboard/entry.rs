//! An entry of a leaderboard: the suite's numbers on one model, and what a comparison needs to know of them.

use super::number;
use crate::attack::Goal;
use serde::{Deserialize, Serialize};

/// How the setting of attacks towards a target begins.
pub(super) const TOWARDS: &str = "target ";

/// The suite's numbers on one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its file, under the name that the user gave.
    pub model: String,
    /// SHA-256 of its weights; empty if they are not known.
    pub model_sha256: String,
    /// How it was read, where that is not the default: range of the input, scale of the posterior, outputs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub interface: String,
    /// Name of the data set.
    pub dataset: String,
    /// SHA-256 of the data.
    pub data_sha256: String,
    /// How many samples.
    pub samples: u64,
    /// How many of them are lost: their damage is not finite at some size, and means are over the others. Absent from entries of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
    /// The suite and its version.
    pub suite: String,
    /// The norm of the perturbations.
    pub norm: String,
    /// The goal that was increased.
    pub goal: String,
    /// What else a comparison needs, where it is not the default: target, draws, defences, judge, layers, metric and spectrum of the
    /// directions, precision, box, the samples' choice.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub setting: String,
    /// Sizes of the perturbations, ascending.
    pub eps: Vec<f64>,
    /// The goal's value at each size, mean over the samples, with its 95 % interval.
    #[serde(deserialize_with = "number::triples")]
    pub damage: Vec<[f64; 3]>,
    /// Mean error of the attacked reconstruction against x, at each size.
    #[serde(deserialize_with = "number::list")]
    pub recon_mse: Vec<f64>,
    /// The same without an attack.
    #[serde(deserialize_with = "number::one")]
    pub clean_mse: f64,
    /// Area under the mean damage over epsilon from 0, divided by the largest epsilon, with its 95 % interval; NaN where damage is not 0
    /// without an attack.
    #[serde(deserialize_with = "number::triple")]
    pub area: [f64; 3],
    /// Forward and backward passes for each sample, the most of any size.
    pub passes: [f64; 2],
    /// Seed of the run.
    pub seed: u64,
    /// Version of pullback that attacked.
    pub version: String,
}

impl Entry {
    /// What its weights are called: their hash, or the path of a model without one.
    pub(super) fn weights(&self) -> &str {
        if self.model_sha256.is_empty() { &self.model } else { &self.model_sha256 }
    }

    /// Whether damage is 0 without an attack, so that the area under it begins there. The error of a reconstruction is not, and neither is minus
    /// the distance to a target.
    pub(super) fn has_area(&self) -> bool {
        self.goal != Goal::ReconMse.to_string() && !self.setting.starts_with(TOWARDS)
    }

    /// By what it is ranked: the area, or where there is none the mean damage at the largest size.
    pub(super) fn height(&self) -> f64 {
        if self.has_area() { self.area[0] } else { self.damage.last().map_or(f64::NAN, |[mean, _, _]| *mean) }
    }

    /// Whether means are over all samples, as far as is known: only then it has a rank.
    pub(super) fn is_whole(&self) -> bool {
        self.lost.unwrap_or(0) == 0
    }
}

/// The beginning of a hash.
pub(super) fn short(hash: &str) -> String {
    hash.chars().take(8).collect()
}
