//! A grid of models over beta, with and without mixup.

use super::run::{Directions, Gallery, Named, Origin};
use super::step::StepSet;
use crate::report::law::Law;
use crate::report::stats::Quartiles;
use crate::report::words;
use crate::store::Relation;

/// A grid of beta, with and without mixup.
#[derive(Clone, Debug, Default)]
pub struct Sweep {
    /// Its file.
    pub origin: Origin,
    /// Its models, in the order of the file.
    pub models: Vec<SweepModel>,
    /// The names of [`SweepModel::losses`]: `/training/<loss>`.
    pub losses: Vec<String>,
    /// The sets of attacks, the main one first.
    pub sets: Vec<StepSet>,
    /// Sizes of the perturbation, ascending, the same in every set.
    pub eps: Vec<f64>,
    /// One entry for each beta and strength of mixup, by strength, then ascending in beta. Models that differ only in their seed are one
    /// point: their samples are pooled.
    pub points: Vec<SweepPoint>,
    /// Positions in `eps` of the few sizes that galleries show.
    pub shown_eps: Vec<usize>,
    /// `/correlation/...`: Spearman's rho over the models.
    pub correlations: Vec<Interval>,
    /// `/kendall/...`: Kendall's tau-b for the same pairs.
    pub taus: Vec<Interval>,
    /// `/effect/...`: the effect of mixup.
    pub effects: Vec<Interval>,
    /// `/within/...`: Spearman's rho over the samples of each model.
    pub within: Vec<Within>,
    /// `/kendall_within/...`: Kendall's tau-b for the same pairs.
    pub taus_within: Vec<Within>,
}

impl Sweep {
    /// The same sweep with the attacks of one set.
    pub fn only(&self, set: &StepSet) -> Self {
        let of_set = |point: &SweepPoint| {
            let attacks = point.attacks.iter().filter(|a| a.set == set.key).cloned();
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
    /// Strength of mixup; 0 means no mixup.
    pub mixup: f64,
    /// Seed of its training; `None` if the file does not say.
    pub seed: Option<i64>,
    /// The final losses of training.
    pub losses: Vec<f64>,
}

/// The models of one beta and strength of mixup.
#[derive(Clone, Debug, Default)]
pub struct SweepPoint {
    /// Weight of the KL term.
    pub beta: f64,
    /// Strength of mixup; 0 means no mixup.
    pub mixup: f64,
    /// Number of pooled models.
    pub models: usize,
    /// `/scores/<name>`.
    pub scores: Vec<Named>,
    /// Summaries of `/clean/<measure>`.
    pub clean: Vec<(String, Quartiles)>,
    /// Summaries of each eigenvalue: the spectra themselves stay in the file.
    pub spectrum: Vec<Quartiles>,
    /// Summaries of the attacks: the samples stay in the file.
    pub attacks: Vec<OutcomeSummary>,
    /// Theory against measurement along the first direction, by the key of the set.
    pub agreements: Vec<(String, Agreement)>,
    /// Images, if the file contains them and the page shows this model.
    pub gallery: Option<Gallery>,
    /// Directions of the samples in galleries, if the page shows this model.
    pub directions: Vec<Directions>,
}

impl SweepPoint {
    /// The score called `name`.
    pub fn score(&self, name: &str) -> Option<&[f64]> {
        self.scores.iter().find(|c| c.name == name).map(|c| c.values.as_slice())
    }

    /// The clean measure called `name`.
    pub fn clean(&self, name: &str) -> Option<&Quartiles> {
        self.clean.iter().find(|(n, _)| n == name).map(|(_, s)| s)
    }

    /// The measure of an attack, by size.
    pub fn measure(&self, attack: &str, measure: &str) -> Option<&[Quartiles]> {
        let outcome = self.attacks.iter().find(|a| a.name == attack)?;
        outcome.measures.iter().find(|(n, _)| n == measure).map(|(_, s)| s.as_slice())
    }

    /// Theory against measurement, in a sweep of one set.
    pub fn agreement(&self) -> Option<&Agreement> {
        self.agreements.first().map(|(_, a)| a)
    }
}

/// A summary of one attack on the models of one point.
#[derive(Clone, Debug)]
pub struct OutcomeSummary {
    /// The key of its set.
    pub set: String,
    /// Its name in the file: `u1` to `u5`, `random`, `pgd`.
    pub name: String,
    /// k if it steps along the k-th direction.
    pub direction: Option<usize>,
    /// Its measures, each by size.
    pub measures: Vec<(String, Vec<Quartiles>)>,
}

/// Predicted and measured damage of steps along the first direction.
#[derive(Clone, Debug)]
pub struct Agreement {
    /// The measure that the metric predicts.
    pub law: Law,
    /// By size: measured over predicted.
    pub ratio: Vec<Quartiles>,
    /// Predictions at the smallest size, one number for each sample.
    pub predicted: Vec<f64>,
    /// The measured values there.
    pub actual: Vec<f64>,
}

impl OutcomeSummary {
    /// Its name in words.
    pub fn words(&self) -> String {
        words::attack_along(&self.name, self.direction)
    }
}

/// A number with its interval.
#[derive(Clone, Debug, PartialEq)]
pub struct Interval {
    /// Its name in the file.
    pub name: String,
    /// What the name means, if it is known.
    pub about: Option<Relation>,
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
    /// Its name in the file.
    pub name: String,
    /// What the name means, if it is known.
    pub about: Option<Relation>,
    /// Estimate, lower and upper end of each point (the median over its models).
    pub by_point: Vec<[f64; 3]>,
}
