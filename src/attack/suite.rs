//! The suite: several attacks with nothing to tune, of which the worst per sample counts. What AutoAttack is to classifiers.
//!
//! Source: Croce & Hein 2020 (an ensemble without parameters, one of them blind to gradients). Its parts are fixed by its version, so that
//! numbers of one version compare between models, papers and machines.

use super::race::{Race, RaceSpec};
use super::random::{Random, RandomSpec};
use super::spectral::Directions;
use super::square::{Square, SquareSpec};
use super::{Attack, Goal};
use serde::{Deserialize, Serialize};

/// What the parts are; another number where they change.
pub const VERSION: &str = "suite-1";

/// Under which the worst is stored.
const NAME: &str = "suite";

/// `{kind: suite}` in the YAML: nothing to tune but what is driven up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SuiteSpec {
    /// What is driven up.
    pub goal: Goal,
}

/// Directions of its spectral part.
const DIRECTIONS: usize = 5;

impl SuiteSpec {
    /// Its attacks, by name: at most 1,000 passes a sample together.
    pub(super) fn parts(&self) -> Vec<(String, Box<dyn Attack>)> {
        let goal = self.goal;
        let spectral = Directions { top: DIRECTIONS, goal };
        let race = RaceSpec { budget: 860, goal, ..RaceSpec::default() };
        let random = RandomSpec { draws: 10, goal };
        let square = SquareSpec { queries: 60, goal };
        vec![
            (format!("{NAME}-spectral"), Box::new(spectral)),
            (format!("{NAME}-random"), Box::new(Random(random))),
            (format!("{NAME}-square"), Box::new(Square(square))),
            // At a larger epsilon it begins with what the whole suite found at a smaller one.
            (format!("{NAME}-race"), Box::new(Race(race, NAME))),
        ]
    }
}
