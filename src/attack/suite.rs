//! The suite: several attacks without settings to tune; the worst result for each sample counts. AutoAttack is the like for classifiers.
//!
//! Source: Croce & Hein 2020 (an ensemble without parameters, one of them blind to gradients). Its version fixes its parts, so that numbers
//! of one version can be compared between models, papers and machines.

use super::race::{Race, RaceSpec};
use super::random::{Random, RandomSpec};
use super::spectral::Directions;
use super::square::{Square, SquareSpec};
use super::transfer::{Transfer, TransferSpec};
use super::{Attack, Goal, Norm};
use serde::{Deserialize, Serialize};

/// Names the set of parts; the number changes when they change.
pub const VERSION: &str = "suite-4";

/// The name under which the worst is stored.
const NAME: &str = "suite";

/// `{kind: suite}` in the YAML; the goal is the only setting.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SuiteSpec {
    /// The goal that is increased.
    pub goal: Goal,
}

/// Its two searches from what was found for other images.
pub(super) const SHORT: &str = "suite-short";
pub(super) const LONG: &str = "suite-transfer";

/// Number of directions in its spectral part.
const DIRECTIONS: usize = 5;

impl SuiteSpec {
    /// Its attacks, by name; together at most 1,000 passes for each sample.
    pub(super) fn parts(&self) -> Vec<(String, Box<dyn Attack>)> {
        let goal = self.goal;
        let spectral = Directions { top: DIRECTIONS, goal };
        // At a larger epsilon the searches begin with the result of the whole suite at a smaller one.
        let race =
            Race { spec: RaceSpec { budget: 120, goal, ..RaceSpec::default() }, name: NAME, skipped: 0, anew: false };
        let short = TransferSpec { budget: 132, goal };
        // The plans of all norms have as many rows.
        let skipped = short.plan(Norm::L2)[0].rows;
        let transfer = |spec, skipped| Box::new(Transfer { spec, name: NAME, skipped, perturbations: None });
        let random = RandomSpec { draws: 10, goal };
        let square = SquareSpec { queries: 60, restarts: 1, goal };
        vec![
            (format!("{NAME}-spectral"), Box::new(spectral)),
            (format!("{NAME}-random"), Box::new(Random(random))),
            (format!("{NAME}-square"), Box::new(Square(square))),
            (format!("{NAME}-race"), Box::new(race)),
            // Two searches from different starts: if the longer one finds much more, damage still grows with passes.
            (SHORT.to_owned(), transfer(short, 0)),
            (LONG.to_owned(), transfer(TransferSpec { budget: 270, goal }, skipped)),
        ]
    }
}
