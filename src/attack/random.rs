//! The attack that uses no knowledge of the model: random directions of the allowed size. Every other attack must do more damage.

use super::least::at_least_one;
use super::spectral::both_signs;
use super::{Attack, Budget, Curve, Family, Goal, Proposal, Victim};
use crate::error::Result;
use crate::seed::{self, Stage};
use serde::{Deserialize, Serialize};

/// `{kind: random}` in the YAML.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RandomSpec {
    /// How many directions are drawn for each sample (>= 1); both signs of each are tried, as for a spectral attack.
    pub draws: usize,
    /// The goal that chooses the worst.
    pub goal: Goal,
}

impl Default for RandomSpec {
    fn default() -> Self {
        Self { draws: 1, goal: Goal::default() }
    }
}

impl RandomSpec {
    pub(super) fn check(&self) -> Result<()> {
        at_least_one("draws of the random attack", self.draws)
    }
}

/// In L2 epsilon n / |n|, in L1 epsilon n / |n|_1, in Linf epsilon sign(n), with n ~ N(0, I). A sample has the same directions for every
/// epsilon.
pub(super) struct Random(pub(super) RandomSpec);

impl Attack for Random {
    fn family(&self) -> Family {
        Family::Noise
    }

    fn goal(&self) -> Goal {
        self.0.goal
    }

    fn trials(&self) -> usize {
        self.0.draws
    }

    fn propose(&self, victim: &Victim, budget: &Budget, trial: usize) -> Result<Proposal> {
        let noise =
            seed::normal_stream(victim.seed(), Stage::RandomDirection, trial as u64, victim.index(), victim.dim())?;
        let step = budget.along(&victim.shaped(&noise)?)?.f_mul_scalar(budget.epsilon)?;
        Ok(Proposal { candidates: both_signs(victim.images(), &step)?, stalled: None, curve: Curve::default() })
    }
}
