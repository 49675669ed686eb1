//! Attacks on the encoder: an [`Attack`] proposes, [`run`] alone projects, measures and judges.
//!
//! A new attack is one file with an `impl Attack`, one variant of [`AttackSpec`] and one row in tests/attack.rs.

mod aim;
mod apgd;
mod step;
mod best;
mod budget;
mod crew;
mod doubt;
mod goal;
mod grid;
mod iterated;
mod least;
mod minimal; // the smallest that does a given damage
mod loops;
mod others;
mod passes;
mod pgd;
mod race;
mod random;
mod run;
mod spec;
mod spectral;
mod square;
mod start;
mod suite;
mod surface;
mod victim;

pub use apgd::ApgdSpec;
pub use budget::{Budget, Norm, TOLERANCE};
pub use crew::Crew;
pub use doubt::{Doubts, Flag, signs};
pub use goal::Goal;
pub use iterated::IteratedSpec;
pub use loops::Loops;
pub use minimal::MinimalSpec;
pub use others::Others;
pub use passes::Passes;
pub use pgd::{PgdSpec, Schedule};
pub use race::{Heat, RaceSpec};
pub use random::RandomSpec;
pub use run::{Attacked, judge, run, worst};
pub use spec::{AttackSpec, Knob, distinct, told};
pub use spectral::{SpectralSpec, StepScale};
pub use square::SquareSpec;
pub use start::Start;
pub use step::Landing;
pub use suite::{SuiteSpec, VERSION as SUITE};
pub use victim::Victim;

use crate::error::Result;
use tch::Tensor;

/// What kind of search an attack is: decides which others it must not fall behind ([`Doubts`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Directions without knowledge of the model.
    Noise,
    /// A search that sees the goal's values alone.
    Blind,
    /// Directions from the spectrum.
    Spectral,
    /// One direction of several, reported by itself.
    Direction,
    /// Ascent along the goal's gradient.
    Gradient,
}

/// Some x' for every sample.
pub struct Proposal {
    /// Images [B, C, H, W] of which the judge keeps, per sample, the worst by the goal.
    pub candidates: Vec<Tensor>,
    /// `[B]` bool: the search met a gradient that was 0 or not a number.
    pub stalled: Option<Tensor>,
}

/// A way to look for a harmful x'. It need not obey the budget: the judge sees to that.
pub trait Attack {
    /// What kind of search it is.
    fn family(&self) -> Family;
    /// What it wants.
    fn goal(&self) -> Goal;
    /// How many proposals it has; restarts are trials, so that no attack codes its own.
    fn trials(&self) -> usize;
    /// Proposal `trial` < [`Attack::trials`]. It runs without a graph; noise depends on (seed, index, trial) alone.
    fn propose(&self, victim: &Victim, budget: &Budget, trial: usize) -> Result<Proposal>;
    /// The size `[B]` f64 that the attack is allowed by its own definition in place of the budget's epsilon.
    fn radius(&self, _victim: &Victim, _budget: &Budget) -> Result<Option<Tensor>> {
        Ok(None)
    }
    /// How many directions v_i of the spectrum it moves along.
    fn directions(&self) -> usize {
        0
    }
    /// The damage at which it stops, where it does not do all that it can.
    fn reach(&self) -> Option<f64> {
        None
    }
}
