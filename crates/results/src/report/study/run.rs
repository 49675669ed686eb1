//! The report's data about one model: its origin, its scores, the results of attacks, images.

use super::step::StepScale;
use crate::report::figure::Picture;
use crate::report::words;
use std::collections::BTreeMap;

/// The origin of numbers: a file's name and root attributes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Origin {
    /// The file, under the name that the user gave.
    pub file: String,
    /// `scores`, `attack` or `sweep`.
    pub kind: String,
    /// Path of the model.
    pub model: String,
    /// SHA-256 of its weights.
    pub sha256: String,
    /// Data set, under the name that the user gave.
    pub dataset: String,
    /// SHA-256 of its samples; empty if the file does not say.
    pub data: String,
    /// The number of samples from the first that the run was limited to: the hash is of these alone.
    pub limit: Option<u64>,
    /// `train` or `test`.
    pub split: String,
    /// `cpu`, `cuda:0`.
    pub device: String,
    /// `f32` or `f64`.
    pub precision: String,
    /// Seed of the run.
    pub seed: u64,
    /// The pullback metric; empty if none was used.
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

impl Origin {
    /// Distinguishes models: their weights, wherever they lie; the path if a file does not contain their hash.
    pub fn identity(&self) -> &str {
        if self.sha256.is_empty() { &self.model } else { &self.sha256 }
    }

    /// Whether both files are of the same part of a data set: by its name, or by the last part of a path and the contents.
    pub fn same_data(&self, other: &Self) -> bool {
        let alike = words::dataset(&self.dataset) == words::dataset(&other.dataset);
        let same = alike && !self.data.is_empty() && self.data == other.data;
        self.split == other.split && (same || self.dataset == other.dataset && !self.other_contents(other))
    }

    /// Whether both files are known to be of other contents. Hashes of runs with other limits tell nothing.
    pub fn other_contents(&self, other: &Self) -> bool {
        let known = !self.data.is_empty() && !other.data.is_empty();
        known && self.limit == other.limit && self.data != other.data
    }
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

/// One model on its data.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// Its name on the page.
    pub name: String,
    /// Its identity, weights and data, and the path by which the model was first found.
    pub origin: Origin,
    /// What its other files say of themselves.
    pub others: Vec<Origin>,
    /// Its spectra and scores, one entry for each facet.
    pub scores: Vec<Scores>,
    /// Its attacks, one entry for each file.
    pub trials: Vec<Trial>,
}

impl Subject {
    /// Whether a file belongs to it: the same weights and the same data, whatever their names.
    pub fn has(&self, file: &Origin) -> bool {
        self.origin.identity() == file.identity()
            && self.origin.same_data(file)
            && !self.others.iter().any(|other| other.other_contents(file))
    }

    /// Its spectra and scores of one facet.
    pub fn facet(&self, facet: &str) -> Option<&Scores> {
        self.scores.iter().find(|s| s.facet == facet)
    }
}

/// Spectra and scores of one model under one metric.
#[derive(Clone, Debug, Default)]
pub struct Scores {
    /// Their name on the page: the metric and, if a model has several files of it, what distinguishes them.
    pub facet: String,
    /// The pullback metric.
    pub metric: String,
    /// What may distinguish two files of one metric, the most informative first.
    pub aspects: Vec<String>,
    /// Position of each row in the data set.
    pub index: Vec<u64>,
    /// Samples whose gradient is masked: their scores and eigenvalues are NaN here.
    pub masked: usize,
    /// `/scores/<name>`.
    pub columns: Vec<Named>,
    /// `/scores_se/<name>`: standard errors, if scores are estimates.
    pub errors: Vec<Named>,
    /// `/spectrum/eigenvalues`, descending.
    pub eigenvalues: Option<Matrix>,
    /// `/spectrum/directions` of the samples in galleries.
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

/// The smallest perturbations that an attack found.
#[derive(Clone, Debug)]
pub struct Smallest {
    /// The attack.
    pub attack: String,
    /// `/smallest/<attack>`, in the norm of the file, one number for each sample; NaN if the damage was not reached.
    pub values: Vec<f64>,
}

/// One attack file.
#[derive(Clone, Debug, Default)]
pub struct Trial {
    /// If a model has several files of one norm, what distinguishes this one; otherwise empty.
    pub label: String,
    /// The metric whose directions a spectral attack took; empty if the file does not say.
    pub metric: String,
    /// What may distinguish two files of one norm, the most informative first.
    pub aspects: Vec<String>,
    /// The rest of the request, by key: what is the same for all attacks of a trial.
    pub asked: BTreeMap<String, String>,
    /// `l2`, `linf` or `l1`; empty if the file does not say.
    pub norm: String,
    /// The scale of a step along a direction.
    pub scale: StepScale,
    /// What the attacks drive up; several goals with commas between them.
    pub goal: String,
    /// Position of each row in the data set.
    pub index: Vec<u64>,
    /// Class of each row; empty if not known.
    pub labels: Vec<i64>,
    /// Names of the classes 0, 1, ..., where they are known.
    pub classes: Vec<String>,
    /// Sizes of the perturbation, ascending.
    pub eps: Vec<f64>,
    /// `/clean/<measure>`.
    pub clean: Vec<Named>,
    /// `/attack/<attack>`.
    pub attacks: Vec<Outcome>,
    /// Its flags.
    pub flags: Vec<Raised>,
    /// The damage and the cost of each attack.
    pub efforts: Vec<Effort>,
    /// For attacks that stop at a given damage: their results at the largest size.
    pub smallest: Vec<Smallest>,
    /// Whether the samples are not pictures, so that they cannot be shown.
    pub shapeless: bool,
    /// Images, if the file contains them.
    pub gallery: Option<Gallery>,
    /// The images on which attacks did most, if the file contains images.
    pub worst: Option<Worst>,
}

impl Trial {
    /// The attack called `name`.
    pub fn attack(&self, name: &str) -> Option<&Outcome> {
        self.attacks.iter().find(|a| a.name == name)
    }

    /// Position of the largest size.
    pub fn largest(&self) -> Option<usize> {
        (0..self.eps.len()).max_by(|a, b| self.eps[*a].total_cmp(&self.eps[*b]))
    }

    /// The attacks that do as much damage as they can, and tell it at every size; `minimal` stops at the damage that was asked for.
    pub fn searches(&self) -> impl Iterator<Item = &Effort> {
        self.efforts.iter().filter(|e| e.damage.len() == self.eps.len() && e.attack != "minimal")
    }

    /// For each sample the largest damage of all attacks at the size `at`, and which attack did it; `None` for a sample that no attack has a
    /// value for, or whose worst case is not finite. Nothing if the file does not tell the damage, or by several goals. An attack that stops at a given damage does not count.
    pub fn worst_case(&self, at: usize) -> Option<Vec<Option<(f64, &str)>>> {
        let efforts: Vec<&Effort> = self.searches().collect();
        if efforts.is_empty() || self.goal.is_empty() || self.goal.contains(',') {
            return None;
        }
        let most = |row: usize| {
            if self.breaks_down(at, row) {
                return None;
            }
            let all = efforts.iter().filter_map(|e| Some((*e.damage.get(at)?.get(row)?, e.attack.as_str())));
            all.filter(|(damage, _)| damage.is_finite()).max_by(|a, b| a.0.total_cmp(&b.0))
        };
        Some((0..self.index.len()).map(most).collect())
    }

    /// Whether the worst case of a sample at the size `at` is not finite: a search met a goal that is none, whatever others found. One that had
    /// nothing to propose tells nothing.
    pub fn breaks_down(&self, at: usize, row: usize) -> bool {
        let value = |e: &Effort| e.damage.get(at).and_then(|d| d.get(row)).copied().unwrap_or(f64::NAN);
        self.searches().any(|e| value(e).is_nan() && e.is_endless(row))
    }

    /// Whether some attack took the metric's directions.
    pub fn is_directed(&self) -> bool {
        self.attacks.iter().any(|a| a.name == "spectral" || words::direction(&a.name).is_some())
    }
}

/// A flag of an attack, `/flags/<attack>.<flag>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Raised {
    /// The attack, or `model`.
    pub attack: String,
    /// Which flag.
    pub flag: String,
    /// The number of flagged samples,
    pub count: usize,
    /// and the number of all samples.
    pub of: usize,
}

/// The goal's value that an attack reached, and the passes that it took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effort {
    /// The attack.
    pub attack: String,
    /// `/damage/<attack>`, \[E\]\[N\].
    pub damage: Vec<Vec<f64>>,
    /// `/flags/<attack>.not-a-number`, \[N\]: samples for which the goal is not finite at some size; empty if the file does not tell.
    pub endless: Vec<bool>,
    /// Forward passes for each sample, \[E\], of the sample that took the most; empty if the file does not tell,
    pub forward: Vec<f64>,
    /// and backward passes.
    pub backward: Vec<f64>,
    /// `/curve/passes`, \[P\]; empty if the file does not tell.
    pub budgets: Vec<f64>,
    /// `/curve/<attack>`, the most damage within so many passes, \[E\]\[N P\]; empty if the file does not tell.
    pub curve: Vec<Vec<f64>>,
}

impl Effort {
    /// Whether a sample without a value has none because the goal is not finite there. Where a file does not tell, the worst of several parts
    /// has no value for this reason alone.
    fn is_endless(&self, row: usize) -> bool {
        self.endless.get(row).copied().unwrap_or(matches!(self.attack.as_str(), "suite" | "spectral"))
    }

    /// Forward and backward passes for each sample at the size `at`; NaN if the file does not tell.
    pub fn passes(&self, at: usize) -> (f64, f64) {
        let of = |way: &[f64]| way.get(at).copied().unwrap_or(f64::NAN);
        (of(&self.forward), of(&self.backward))
    }
}

/// The results of one attack.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Its name in the file.
    pub name: String,
    /// Its own settings, in one text; empty if the file does not say.
    pub asked: String,
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
    /// The samples.
    pub samples: Vec<Sample>,
    /// The inputs.
    pub originals: Vec<Picture>,
    /// Their reconstructions; empty if not stored.
    pub recon: Vec<Picture>,
    /// The attacks, each with its images by size.
    pub attacks: Vec<AttackedImages>,
}

/// A sample in a gallery.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Its row in the file.
    pub row: usize,
    /// Its position in the data set.
    pub index: u64,
    /// Its class.
    pub label: Option<i64>,
}

/// The samples on which attacks did most, the worst first, each after the attack that did most to it.
#[derive(Clone, Debug, Default)]
pub struct Worst {
    /// The samples.
    pub samples: Vec<Sample>,
    /// For each the attack,
    pub attacks: Vec<String>,
    /// and its damage.
    pub damage: Vec<f64>,
    /// The inputs.
    pub originals: Vec<Picture>,
    /// Their reconstructions; empty if not stored.
    pub recon: Vec<Picture>,
    /// The attacked inputs.
    pub attacked: Vec<Picture>,
    /// Their reconstructions.
    pub attacked_recon: Vec<Picture>,
}

/// Images of one attack.
#[derive(Clone, Debug, Default)]
pub struct AttackedImages {
    /// Its name in the file.
    pub name: String,
    /// Attacked inputs, \[E\]\[samples\].
    pub images: Vec<Vec<Picture>>,
    /// Their reconstructions, \[E\]\[samples\]; empty if not stored.
    pub recon: Vec<Vec<Picture>>,
}
