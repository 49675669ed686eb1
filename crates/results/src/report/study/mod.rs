//! The contents of a report: stored results as typed values; each model is a subject, each metric a facet of it.

mod question; // what two files asked of their models
mod run; //      one model: scores, attacks, images
mod step; //     sets of attacks, lengths of steps
mod sweep; //    grids of beta

pub use run::{
    AttackedImages, Directions, Effort, Gallery, Matrix, Measure, Named, Origin, Outcome, Raised, Sample, Scores,
    Smallest, Subject, Trial, Worst,
};
pub use step::{StepScale, StepSet};
pub use sweep::{Agreement, Interval, OutcomeSummary, Sweep, SweepModel, SweepPoint, Within};

/// The contents of all inputs.
#[derive(Clone, Debug, Default)]
pub struct Study {
    /// Models with scores, attacks or both, in the order of the page.
    pub subjects: Vec<Subject>,
    /// Grids of beta.
    pub sweeps: Vec<Sweep>,
    /// Training runs.
    pub histories: Vec<History>,
    /// The files that were read.
    pub files: Vec<Origin>,
}

impl Study {
    /// The facets of all subjects, each once: facets with the same name are compared across models.
    pub fn facets(&self) -> Vec<&str> {
        let mut facets: Vec<&str> = Vec::new();
        for scores in self.subjects.iter().flat_map(|a| &a.scores) {
            if !facets.contains(&scores.facet.as_str()) {
                facets.push(&scores.facet);
            }
        }
        facets.sort_by_key(|f| super::words::facet_order(f));
        facets
    }

    /// The number of models, with those of sweeps; a model in several subjects, on several data sets, counts once.
    pub fn models(&self) -> usize {
        let weights: std::collections::HashSet<&str> = self.subjects.iter().map(|a| a.origin.identity()).collect();
        weights.len() + self.sweeps.iter().map(|s| s.models.len()).sum::<usize>()
    }
}

/// A training run.
#[derive(Clone, Debug)]
pub struct History {
    /// Its name on the page.
    pub name: String,
    /// The folder that holds it.
    pub folder: String,
    /// Names of the columns; the first is the epoch.
    pub columns: Vec<String>,
    /// One row for each epoch; NaN if the file has no number.
    pub rows: Vec<Vec<f64>>,
}
