//! Starts from what was found for other images: the perturbations of a [`Pool`] that do most to a sample continue as a race.
//!
//! An encoder's landscape has summits that many images share: on a published VAE the best of the perturbations that were found for 63 other
//! images does more damage, as it is, than a race of 430 passes for the image itself (docs/evaluation.md).
//! That adversarial perturbations transfer between images is known of classifiers (Moosavi-Dezfooli, Fawzi, Fawzi & Frossard 2017).
//!
//! [`Pool`]: super::Pool

use super::curve::most_of;
use super::least::at_least_one;
use super::race::{Findings, Heat, LEAST, Race, RaceSpec, Share};
use super::start::{Start, origins};
use super::step::Landing;
use super::{Attack, Budget, Family, Goal, Norm, Proposal, Victim};
use crate::error::Result;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// The default number of passes for each sample.
const BUDGET: usize = 552;

/// A budget below this has three heats, a larger one four.
const FEW: usize = 100;

/// `{kind: transfer}` in the YAML.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TransferSpec {
    /// Forward and backward passes for each sample, without those of the pool (>= 1).
    pub budget: usize,
    /// What is driven up.
    pub goal: Goal,
}

impl Default for TransferSpec {
    fn default() -> Self {
        Self { budget: BUDGET, goal: Goal::default() }
    }
}

impl TransferSpec {
    pub(super) fn check(&self) -> Result<()> {
        at_least_one("budget of the transfer attack", self.budget)
    }

    /// The heats, with steps that suit the norm. In L2 the first ones are in a larger ball, as a race's are.
    ///
    /// Many starts with few steps each find more than few that climb for long: what a start leads to shows early (docs/evaluation.md). A
    /// search of few passes has no room for that.
    pub fn plan(&self, norm: Norm) -> Vec<Heat> {
        let whole = self.budget as f64;
        let shares: &[Share] = match (self.budget < FEW, norm) {
            (true, Norm::L2) => {
                &[(4.0, 0.25, (1.0, 0.5), 1.5), (2.0, 0.25, (1.0, 0.1), 1.0), (1.0, 0.5, (1.0, 0.02), 1.0)]
            }
            (true, Norm::Linf) => {
                &[(4.0, 0.25, (1.0, 0.5), 1.0), (2.0, 0.25, (0.6, 0.2), 1.0), (1.0, 0.5, (0.5, 0.01), 1.0)]
            }
            (true, Norm::L1) => {
                &[(4.0, 0.25, (0.5, 0.25), 1.0), (2.0, 0.25, (0.4, 0.15), 1.0), (1.0, 0.5, (0.4, 0.02), 1.0)]
            }
            (false, Norm::L2) => &[
                (20.0, 0.29, (1.0, 0.7), 1.5),
                (8.0, 0.26, (1.0, 0.3), 1.2),
                (3.0, 0.18, (1.0, 0.1), 1.0),
                (1.0, 0.27, (1.0, 0.02), 1.0),
            ],
            (false, Norm::Linf) => &[
                (20.0, 0.29, (1.0, 0.5), 1.0),
                (8.0, 0.26, (0.7, 0.3), 1.0),
                (3.0, 0.18, (0.6, 0.15), 1.0),
                (1.0, 0.27, (0.5, 0.01), 1.0),
            ],
            (false, Norm::L1) => &[
                (20.0, 0.29, (0.5, 0.3), 1.0),
                (8.0, 0.26, (0.5, 0.2), 1.0),
                (3.0, 0.18, (0.4, 0.15), 1.0),
                (1.0, 0.27, (0.4, 0.02), 1.0),
            ],
        };
        // A pool has only so many starts, so more passes are more steps rather than more ascents.
        let size = whole / if self.budget < FEW { 75.0 } else { 280.0 };
        let wider = if size < 1.0 { size.powf(0.8) } else { size.powf(0.4) };
        let heat = |&(rows, share, lengths, radius): &Share| {
            let rows = (rows * wider).round().max(1.0);
            let steps = (whole * share / rows).round().max(1.0);
            Heat { rows: rows as usize, steps: steps as usize, lengths, radius, anew: 0 }
        };
        shares.iter().map(heat).collect()
    }
}

/// The search.
pub(super) struct Transfer {
    pub spec: TransferSpec,
    /// The name under which its results at smaller budgets are found.
    pub name: &'static str,
    /// How many of the best starts another search has already used. The first search of a pool counts its passes.
    pub skipped: usize,
    /// The perturbations, [M, C, H, W]; unless given, those of the victim's pool.
    pub perturbations: Option<Tensor>,
}

impl Attack for Transfer {
    fn family(&self) -> Family {
        Family::Gradient
    }

    fn goal(&self) -> Goal {
        self.spec.goal
    }

    fn trials(&self) -> usize {
        1
    }

    fn propose(&self, victim: &Victim, budget: &Budget, trial: usize) -> Result<Proposal> {
        let (goal, heats) = (self.spec.goal, self.spec.plan(budget.norm));
        let (rows, first) = (heats[0].rows, heats[0].ball(budget));
        let mut found = Findings::default();
        let given = match (&self.perturbations, victim.pooled(goal, budget)) {
            (Some(given), _) => given.shallow_clone(),
            (None, Some((given, share))) => {
                if self.skipped == 0 {
                    victim.passes().add(share);
                    found.spend(share.larger());
                }
                given.shallow_clone()
            }
            (None, None) => return self.alone().propose(victim, budget, trial),
        };
        let of_pool = self.perturbations.is_none();
        let screened = match victim.screened(goal, budget).filter(|_| of_pool) {
            Some(values) => Screened { perturbations: &given, values },
            None => {
                found.spend((given.size()[0] as usize * goal.draws(victim.aim())) as f64);
                let screened = Screened::of(victim, budget, goal, &given)?;
                if of_pool {
                    victim.know_screened(goal, budget, &screened.values);
                }
                screened
            }
        };
        let worst = screened.images(victim, budget, 1)?.into_iter().next();
        if let Some(worst) = worst {
            found.know(worst, most_of(&screened.values)?)?;
        }
        let mut starts = screened.images(victim, &first, self.skipped + rows)?;
        starts.drain(..self.skipped.min(starts.len()));
        // What a small pool lacks.
        let more = origins(victim, &[Start::Others, Start::Random], rows - starts.len(), self.skipped, false);
        for origin in more {
            starts.push(origin.image(victim, &first, None)?);
        }
        let smaller = victim.smaller(self.name, budget);
        if let Some(smaller) = &smaller {
            // It takes the place of the last one.
            if starts.len() > 1 {
                starts.pop();
            }
            starts.push(first.surface(victim.images(), &smaller.f_sub(victim.images())?)?);
        }
        found.race(victim, budget, goal, &heats, starts, &|_| Ok(Vec::new()))?;
        found.proposal(smaller)
    }
}

impl Transfer {
    /// What it is without a pool: towards a target, each sample has a way of its own. The passes of the pool are the race's.
    fn alone(&self) -> Race {
        let spec =
            RaceSpec { budget: (self.spec.budget * 9 / 5).max(LEAST), goal: self.spec.goal, ..RaceSpec::default() };
        Race { spec, name: self.name, skipped: self.skipped + LEFT_OUT, anew: false }
    }
}

/// Starts of each family that a race beside it in the suite has already used.
const LEFT_OUT: usize = 4;

/// What each of `perturbations` [M, C, H, W] does to each sample within a budget.
struct Screened<'a> {
    perturbations: &'a Tensor,
    /// [M, B] f64.
    values: Tensor,
}

impl<'a> Screened<'a> {
    /// One forward pass for each perturbation.
    fn of(victim: &Victim, budget: &Budget, goal: Goal, perturbations: &'a Tensor) -> Result<Self> {
        let x = victim.images();
        let value = |one: Tensor| -> Result<Tensor> {
            crate::event::ensure_wanted()?;
            goal.value(victim, &budget.land(x, &x.f_add(&one)?, Landing::Surface)?)
        };
        let values = perturbations.f_split(1, 0)?.into_iter().map(value).collect::<Result<Vec<_>>>()?;
        Ok(Self { perturbations, values: Tensor::f_stack(&values, 0)? })
    }

    /// The images [B, C, H, W] within `ball` of the `count` perturbations that do most to each sample, the worst first.
    fn images(&self, victim: &Victim, ball: &Budget, count: usize) -> Result<Vec<Tensor>> {
        let x = victim.images();
        let known = self.values.f_masked_fill(&self.values.f_isnan()?, f64::NEG_INFINITY)?;
        let (_, places) = known.f_topk((count as i64).min(known.size()[0]), 0, true, true)?;
        let image =
            |places: Tensor| ball.land(x, &x.f_add(&self.perturbations.f_index_select(0, &places)?)?, Landing::Surface);
        places.f_unbind(0)?.into_iter().map(image).collect()
    }
}
