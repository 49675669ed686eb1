//! Attacks on the encoder: an [`Attack`] proposes images; only [`run`] projects, measures and judges them.
//!
//! A new attack is one file with an `impl Attack`, one variant of [`AttackSpec`] and one row in tests/attack.rs.

mod aim;
mod apgd;
mod step;
mod best;
mod broken; // images with pixels that are not finite
mod budget;
mod crew;
mod curve; //  damage over passes
mod doubt;
mod draws; //  of the latent code
mod fitted; // the perturbation of `universal` on a sample
mod gather; // the search of a pool
mod goal;
mod grid;
mod iterated;
mod least;
mod minimal; // the smallest perturbation that does a given damage
mod loops;
mod others;
mod passes;
mod pgd;
mod pool; //    what was found for some images of the data set
mod race;
mod random;
mod run;
mod spec;
mod spectral;
mod square;
mod start;
mod suite;
mod surface;
mod transfer;
mod universal; // one perturbation for all images, as it is fitted
mod victim;

pub use apgd::ApgdSpec;
pub use broken::whole;
pub use budget::{Budget, Norm, TOLERANCE};
pub use crew::Crew;
pub use curve::{BUDGETS, Curve};
pub use doubt::{Doubts, Flag, signs};
pub use gather::Gathering;
pub use goal::Goal;
pub use iterated::IteratedSpec;
pub use loops::Loops;
pub use minimal::MinimalSpec;
pub use others::Others;
pub use passes::Passes;
pub use pgd::{PgdSpec, Schedule};
pub use pool::Pool;
pub use race::{Heat, RaceSpec};
pub use random::RandomSpec;
pub use run::{Attacked, judge, run, worst};
pub use spec::{AttackSpec, Knob, distinct, told};
pub use spectral::{SpectralSpec, StepScale};
pub use square::SquareSpec;
pub use start::Start;
pub use step::Landing;
pub use suite::{SuiteSpec, VERSION as SUITE};
pub use transfer::TransferSpec;
pub use universal::{Fit, Ground, Universal, UniversalSpec};
pub use victim::Victim;

use crate::error::Result;
use tch::Tensor;

/// The kind of search of an attack; it decides which other attacks must not do more damage ([`Doubts`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Directions without knowledge of the model.
    Noise,
    /// One perturbation for all samples, which knows the model but not the sample.
    Universal,
    /// A search that sees only the goal's values.
    Blind,
    /// Directions from the spectrum.
    Spectral,
    /// One direction of several, reported separately.
    Direction,
    /// Ascent along the goal's gradient.
    Gradient,
}

/// One image x' for every sample.
pub struct Proposal {
    /// Images [B, C, H, W]; the judge keeps the worst of them by the goal for each sample.
    pub candidates: Vec<Tensor>,
    /// `[B]` bool: the search met a gradient that was 0 or not a number.
    pub stalled: Option<Tensor>,
    /// What was found after how many passes; empty if the candidates are all there is to tell.
    pub curve: Curve,
}

/// A way to search for a harmful x'. It may exceed the budget: the judge projects its proposals.
pub trait Attack {
    /// What kind of search it is.
    fn family(&self) -> Family;
    /// Its goal.
    fn goal(&self) -> Goal;
    /// How many proposals it has. Restarts are trials, so that no attack implements its own restarts.
    fn trials(&self) -> usize;
    /// Proposal `trial` < [`Attack::trials`]. It runs without a graph; its noise depends on (seed, index, trial) only.
    fn propose(&self, victim: &Victim, budget: &Budget, trial: usize) -> Result<Proposal>;
    /// The size `[B]` f64 that the attack's own definition allows, in place of the budget's epsilon.
    fn radius(&self, _victim: &Victim, _budget: &Budget) -> Result<Option<Tensor>> {
        Ok(None)
    }
    /// How many directions v_i of the spectrum it moves along.
    fn directions(&self) -> usize {
        0
    }
    /// The damage at which it stops, if it does not do as much as it can.
    fn reach(&self) -> Option<f64> {
        None
    }
}
