//! Perturbations that were found for some images of the data set, the same for every batch and shard. [`Pool::search`] finds them
//! (`gather.rs`), and [`super::transfer`] begins from them.

use super::{Budget, Goal, Passes};
use tch::Tensor;

/// Perturbations that were found for some images, for each goal and budget.
#[derive(Debug)]
pub struct Pool {
    /// Positions in the data set of the images that were searched.
    pub index: Vec<u64>,
    /// How many samples share its passes: all of the run.
    pub sharers: usize,
    pub(super) finds: Vec<Find>,
}

/// What was found for a goal within a budget.
#[derive(Debug)]
pub(super) struct Find {
    pub goal: Goal,
    pub budget: Budget,
    /// [M, C, H, W], of the images' kind: for the half of the images that took part to the end.
    pub perturbations: Tensor,
    /// Passes of the search, all images together.
    pub passes: Passes,
}

impl Pool {
    /// The number of images that are searched for a run of so many samples: as many, and at most 64. A single sample has no pool.
    pub fn size(samples: usize) -> usize {
        if samples < 2 { 0 } else { samples.min(64) }
    }

    /// The same pool for another thread.
    pub fn handle(&self) -> Self {
        let finds = self.finds.iter().map(|find| Find { perturbations: find.perturbations.shallow_clone(), ..*find });
        Self { index: self.index.clone(), sharers: self.sharers, finds: finds.collect() }
    }

    /// The perturbations [M, C, H, W] for a goal within a budget, and the passes for each sample that they took.
    pub fn at(&self, goal: Goal, budget: &Budget) -> Option<(&Tensor, Passes)> {
        let find = self.finds.iter().find(|find| find.goal == goal && find.budget == *budget)?;
        Some((&find.perturbations, find.passes.map(|passes| passes / self.sharers.max(1) as f64)))
    }

    /// The shape of each perturbation set.
    pub(super) fn shapes(&self) -> impl Iterator<Item = &Tensor> {
        self.finds.iter().map(|find| &find.perturbations)
    }
}
