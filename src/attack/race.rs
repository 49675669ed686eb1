//! A race: many short ascents; the best of each sample continue with shorter steps, until one is left.
//!
//! Successive halving (Jamieson & Talwalkar 2016) over the starts of a projected gradient ascent. The landscape is rugged: the worst image
//! of a sample is often found by only one start in ten, so the race first tries many starts and then improves a few. In L2 it begins in
//! larger balls, where that landscape is smoother ([`Heat::radius`]). Iterates stay on the surface of the ball ([`Budget::surface`]).

use super::best::{Best, survivors};
use super::curve::most_of;
use super::least::at_least_one;
use super::loops::Ascent;
use super::start::{Start, origins};
use super::{Attack, Budget, Curve, Family, Goal, Landing, Norm, Proposal, Victim};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

/// The default number of passes for each sample.
const BUDGET: usize = 120;

/// The least budget of passes.
pub(super) const LEAST: usize = 12;

/// The share of the previous steps' direction that a step keeps in L2 and Linf; it averages over the kinks of ReLU networks. Steps in L1
/// change few pixels and keep nothing.
const MOMENTUM: f64 = 0.3;

/// A budget below this has three heats, a larger one four.
const FEW: usize = 300;

/// `{kind: race}` in the YAML.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RaceSpec {
    /// Forward and backward passes for each sample (>= 12); the plan follows from them.
    pub budget: usize,
    /// The directions of the starts, taken in turn.
    pub starts: Vec<Start>,
    /// The plan, if it does not follow from the budget.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heats: Option<Vec<Heat>>,
    /// What is driven up.
    pub goal: Goal,
}

/// Some ascents that run together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heat {
    /// The number of ascents (>= 1). After the first heat: how many of the ascents before continue, at most all of them.
    pub rows: usize,
    /// Steps of each ascent (>= 1).
    pub steps: usize,
    /// Length of the first and of the last step, as multiples of the heat's radius; it falls in equal parts.
    pub lengths: (f64, f64),
    /// Radius of the ball in which they run, as a multiple of epsilon (>= 1, not more than before; 1 in the last heat). What is found in a
    /// larger ball is a start for the next heat, not a result.
    #[serde(default = "whole", skip_serializing_if = "is_whole")]
    pub radius: f64,
    /// How many of the rows begin anew, at those of the race's starts, on the surface of this heat's ball, that do most: what earlier heats
    /// find in larger balls may lead away from the worst image within epsilon. 0 in the first heat.
    #[serde(default, skip_serializing_if = "is_none")]
    pub anew: usize,
}

fn is_none(rows: &usize) -> bool {
    *rows == 0
}

fn whole() -> f64 {
    1.0
}

fn is_whole(radius: &f64) -> bool {
    *radius == 1.0
}

impl Default for RaceSpec {
    fn default() -> Self {
        Self {
            budget: BUDGET,
            starts: vec![Start::Spectral, Start::Others, Start::Random],
            heats: None,
            goal: Goal::default(),
        }
    }
}

impl RaceSpec {
    pub(super) fn check(&self) -> Result<()> {
        if self.budget < LEAST {
            let expected = format!("a whole number >= {LEAST}");
            return Err(Error::request("budget of the race attack", expected, self.budget.to_string()));
        }
        if self.starts.is_empty() {
            return Err(Error::request(
                "starts of the race attack",
                "at least one of random, spectral, others",
                "none",
            ));
        }
        let heats = self.heats.as_deref().unwrap_or_default();
        if self.heats.is_some() && heats.is_empty() {
            return Err(Error::request("heats of the race attack", "at least one", "none"));
        }
        for (i, heat) in heats.iter().enumerate() {
            at_least_one("rows of a heat", heat.rows)?;
            at_least_one("steps of a heat", heat.steps)?;
            let (first, last) = heat.lengths;
            if !(first.is_finite() && last.is_finite() && first > 0.0 && last > 0.0) {
                return Err(Error::request("lengths of a heat", "two finite numbers > 0", format!("{first}, {last}")));
            }
            let (most, last) = (if i == 0 { f64::INFINITY } else { heats[i - 1].radius }, i + 1 == heats.len());
            if !(heat.radius.is_finite() && heat.radius >= 1.0 && heat.radius <= most && (!last || heat.radius == 1.0))
            {
                let expected = "a finite number >= 1, at most that of the heat before, 1 in the last";
                return Err(Error::request("radius of a heat", expected, heat.radius.to_string()));
            }
            let (before, anew) =
                if i == 0 { (usize::MAX, 0) } else { (heats[i - 1].rows, heats[0].rows.min(heat.rows)) };
            if heat.anew > anew {
                let expected = format!("at most {anew}");
                return Err(Error::request("rows of a heat that begin anew", expected, heat.anew.to_string()));
            }
            if heat.rows - heat.anew > before {
                let expected = format!("at most {before}, as many as before");
                return Err(Error::request("rows of a heat", expected, (heat.rows - heat.anew).to_string()));
            }
        }
        Ok(())
    }

    /// The heats, with steps that suit the norm.
    pub fn plan(&self, norm: Norm) -> Vec<Heat> {
        self.heats_of(norm, true)
    }

    /// [`RaceSpec::plan`]; `anew` says whether ascents begin anew within epsilon.
    fn heats_of(&self, norm: Norm, anew: bool) -> Vec<Heat> {
        self.heats.clone().unwrap_or_else(|| plan(self.budget, norm, anew))
    }

    /// How many directions v_i are starts.
    pub(super) fn directions(&self) -> usize {
        if !self.starts.contains(&Start::Spectral) {
            return 0;
        }
        // Both signs of each direction.
        let rows = self.plan(Norm::L2)[0].rows;
        rows.div_ceil(self.starts.len()).div_ceil(2)
    }
}

/// A heat of a plan: its ascents, their share of the passes, lengths of their steps, and their radius. The last heat of a race takes what is left.
pub(super) type Share = (f64, f64, (f64, f64), f64);

/// The heats for a budget: more passes give more ascents and more steps.
///
/// Found by trial on published VAEs (docs/evaluation.md). In L2 the first heats run in larger balls, where the landscape is smoother and every
/// step is longer; what they find is drawn into smaller and smaller ones. Croce & Hein 2021 do so for L1 attacks on classifiers. In Linf this
/// gains nothing on average and loses on some images. On other models larger balls only lead away from what is within epsilon, most where four
/// epsilon is half of the image: with `anew` one ascent begins anew there, and the best of all goes on.
fn plan(budget: usize, norm: Norm, anew: bool) -> Vec<Heat> {
    let whole = budget as f64;
    // 8 starts at 120 passes, 40 at 840.
    let starts = 8.0 * (whole / 120.0).powf(0.827);
    let (heats, last): (&[Share], _) = match norm {
        Norm::L2 if budget < FEW && !anew => (
            &[
                (starts, 0.27, (1.5, 0.7), 4.0),
                (starts / 3.0, 0.2, (1.0, 0.5), 2.5),
                (starts / 4.0, 0.167, (1.0, 0.5), 1.5),
            ],
            (1.0, 0.02),
        ),
        Norm::L2 if !anew => (
            &[
                (starts, 0.38, (1.5, 0.7), 4.0),
                (starts / 4.0, 0.24, (1.0, 0.5), 2.5),
                (starts / 13.0, 0.22, (1.0, 0.5), 1.5),
            ],
            (1.0, 0.02),
        ),
        Norm::L2 if budget < FEW => (
            &[
                (starts, 0.2, (1.5, 0.7), 4.0),
                (starts / 3.0, 0.2, (1.0, 0.5), 2.5),
                (starts / 4.0, 0.133, (1.0, 0.5), 1.5),
                (0.0, 0.125, (1.0, 0.7), 1.0),
            ],
            (0.9, 0.02),
        ),
        Norm::L2 => (
            &[
                (starts, 0.333, (1.5, 0.7), 4.0),
                (starts / 4.0, 0.214, (1.0, 0.5), 2.5),
                (starts / 13.0, 0.179, (1.0, 0.5), 1.5),
                (0.0, 0.0714, (1.0, 0.7), 1.0),
            ],
            (0.9, 0.02),
        ),
        // The ball takes from a start what a step in L1 adds: one of epsilon or more leaves nothing of it.
        Norm::L1 if budget < FEW => {
            (&[(starts, 0.27, (0.5, 0.25), 1.0), (starts / 3.0, 0.2, (0.4, 0.2), 1.0)], (0.5, 0.02))
        }
        Norm::L1 => (
            &[
                (starts, 0.38, (0.5, 0.25), 1.0),
                (starts / 4.0, 0.24, (0.4, 0.2), 1.0),
                (starts / 13.0, 0.22, (0.3, 0.1), 1.0),
            ],
            (0.5, 0.02),
        ),
        Norm::Linf if budget < FEW => {
            (&[(starts, 0.27, (1.0, 0.5), 1.0), (starts / 3.0, 0.2, (0.6, 0.3), 1.0)], (0.5, 0.01))
        }
        Norm::Linf => (
            &[
                (starts, 0.38, (1.0, 0.5), 1.0),
                (starts / 4.0, 0.24, (0.6, 0.3), 1.0),
                (starts / 13.0, 0.22, (0.5, 0.15), 1.0),
            ],
            (0.5, 0.01),
        ),
    };
    let mut left = budget;
    let mut plan: Vec<Heat> = Vec::with_capacity(heats.len() + 1);
    for (rows, share, lengths, radius) in heats {
        // The heat that is the first within epsilon: all ascents before it, and one that begins anew.
        let joins =
            plan.last().filter(|before| before.radius > *radius && *radius == 1.0).map(|before| before.rows + 1);
        let rows = joins.unwrap_or((rows.round() as usize).max(1));
        let steps = ((whole * share / rows as f64).round() as usize).max(1);
        let asked = if joins.is_some() { plan[0].rows } else { 0 };
        left = left.saturating_sub(rows * steps + asked);
        plan.push(Heat { rows, steps, lengths: *lengths, radius: *radius, anew: usize::from(joins.is_some()) });
    }
    plan.push(Heat { rows: 1, steps: left.max(1), lengths: last, radius: 1.0, anew: 0 });
    plan
}

/// The race.
pub(super) struct Race {
    pub spec: RaceSpec,
    /// The name under which its results at smaller budgets are found.
    pub name: &'static str,
    /// How many starts of each family another race has already used.
    pub skipped: usize,
    /// Whether an ascent begins anew within epsilon. Those of the suite and of its pool do not: their plans belong to a version.
    pub anew: bool,
}

impl Attack for Race {
    fn family(&self) -> Family {
        Family::Gradient
    }

    fn goal(&self) -> Goal {
        self.spec.goal
    }

    fn trials(&self) -> usize {
        1
    }

    fn directions(&self) -> usize {
        self.spec.directions() + self.skipped.div_ceil(2)
    }

    fn propose(&self, victim: &Victim, budget: &Budget, _: usize) -> Result<Proposal> {
        let heats = self.spec.heats_of(budget.norm, self.anew);
        let smaller = victim.smaller(self.name, budget);
        let origins = origins(victim, &self.spec.starts, heats[0].rows, self.skipped, smaller.is_some());
        let first = heats[0].ball(budget);
        let starts = |ball: &Budget| -> Result<Vec<Tensor>> {
            origins.iter().map(|origin| origin.image(victim, ball, smaller.as_ref())).collect()
        };
        let mut found = Findings::default();
        found.race(victim, budget, self.spec.goal, &heats, starts(&first)?, &starts)?;
        found.proposal(smaller)
    }
}

/// What a race has found so far.
#[derive(Default)]
pub(super) struct Findings {
    best: Best,
    stalled: Option<Tensor>,
    /// Damage over passes, and the passes so far.
    curve: Curve,
    passes: f64,
}

impl Findings {
    /// Counts passes for each sample that were no heat's.
    pub(super) fn spend(&mut self, passes: f64) {
        self.passes += passes;
    }

    /// Takes images [B, C, H, W] within epsilon, whose damage `[B]` is known.
    pub(super) fn know(&mut self, images: Tensor, damage: Tensor) -> Result<()> {
        self.curve.note(self.passes, damage.shallow_clone());
        self.best.offer(images, damage)
    }

    /// Runs all `heats` from the starts `iterates` [B, C, H, W]; `starts` has those of the ascents that begin anew in a ball.
    pub(super) fn race(
        &mut self,
        victim: &Victim,
        budget: &Budget,
        goal: Goal,
        heats: &[Heat],
        mut iterates: Vec<Tensor>,
        starts: &dyn Fn(&Budget) -> Result<Vec<Tensor>>,
    ) -> Result<()> {
        for (i, heat) in heats.iter().enumerate() {
            let following = heats.get(i + 1);
            let ball = heat.ball(budget);
            let (ends, damages) = self.heat(victim, &ball, goal, &iterates, heat, following.is_none())?;
            if let Some(following) = following {
                let next = following.ball(budget);
                iterates = survivors(&ends, &damages, following.rows - following.anew)?;
                if following.radius < heat.radius {
                    let inside = |x: &Tensor| next.land(victim.images(), x, Landing::Surface);
                    iterates = iterates.iter().map(inside).collect::<Result<_>>()?;
                }
                if following.anew > 0 {
                    iterates.extend(self.begin(victim, goal, starts(&next)?, following)?);
                }
            }
        }
        Ok(())
    }

    /// Those of `starts` [B, C, H, W] in the ball of the heat where ascents begin anew: one pass for each start.
    fn begin(&mut self, victim: &Victim, goal: Goal, starts: Vec<Tensor>, heat: &Heat) -> Result<Vec<Tensor>> {
        let mut damages = Vec::with_capacity(starts.len());
        for start in &starts {
            let damage = goal.value(victim, start)?;
            self.spend(goal.draws(victim.aim()) as f64);
            if heat.radius <= 1.0 {
                self.know(start.shallow_clone(), damage.shallow_clone())?;
            }
            damages.push(damage);
        }
        survivors(&starts, &damages, heat.anew)
    }

    /// What was found, and the image `smaller` that a smaller budget allows, so that this budget allows it as well.
    pub(super) fn proposal(self, smaller: Option<Tensor>) -> Result<Proposal> {
        let candidates = self.best.into_images().into_iter().chain(smaller).collect();
        Ok(Proposal { candidates, stalled: self.stalled, curve: self.curve })
    }

    /// Ascends from each of `iterates` [B, C, H, W] in the ball of the heat; returns where each ends, and the most damage on its way, `[B]` f64.
    fn heat(
        &mut self,
        victim: &Victim,
        budget: &Budget,
        goal: Goal,
        iterates: &[Tensor],
        heat: &Heat,
        finish: bool,
    ) -> Result<(Vec<Tensor>, Vec<Tensor>)> {
        let lengths: Vec<f64> = (0..heat.steps).map(|t| budget.epsilon * heat.length(t)).collect();
        // What lies beyond epsilon is no result.
        let counts = heat.radius <= 1.0;
        let momentum = if budget.norm == Norm::L1 { 0.0 } else { MOMENTUM };
        let ascent = Ascent { goal, landing: Landing::Surface, momentum };
        let (mut ends, mut damages, mut traces) = (vec![], vec![], vec![]);
        for group in iterates.chunks(rows_at_once(victim)) {
            let start = Tensor::f_cat(group, 0)?;
            let reached = victim.loops().ascend(victim, ascent, budget, &start, &lengths, finish)?;
            for part in reached.by_start(group.len() as i64)? {
                if counts {
                    self.best.offer(part.best, part.damage.shallow_clone())?;
                    // Where a larger ball is flat says nothing of what is within epsilon.
                    self.stalled = Some(match self.stalled.take() {
                        Some(before) => before.f_logical_or(&part.stalled)?,
                        None => part.stalled,
                    });
                }
                ends.push(part.last);
                damages.push(part.damage);
                traces.push(part.trace);
            }
        }
        // The ascents of a heat run side by side.
        let each = (goal.draws(victim.aim()) * iterates.len()) as f64;
        if counts {
            self.curve.follow(self.passes, each, &most_of(&Tensor::f_stack(&traces, 0)?)?)?;
        }
        self.passes += each * lengths.len() as f64;
        Ok((ends, damages))
    }
}

impl Heat {
    /// The ball in which the heat runs.
    pub(super) fn ball(&self, budget: &Budget) -> Budget {
        Budget { epsilon: budget.epsilon * self.radius, ..*budget }
    }

    /// Length of step `t`, as a multiple of the radius.
    fn length(&self, t: usize) -> f64 {
        let (first, last) = self.lengths;
        first + (last - first) * t as f64 / (self.steps.max(2) - 1) as f64
    }
}

/// How many ascents of all samples go through the model together: enough images to keep the device busy.
fn rows_at_once(victim: &Victim) -> usize {
    let images = if victim.images().device() == Device::Cpu { 128 } else { 2048 };
    (images / victim.index().len().max(1)).max(1)
}
