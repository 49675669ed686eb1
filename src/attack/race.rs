//! A race: many short ascents, of which the best of each sample go on with shorter steps, until one is left.
//!
//! Successive halving (Jamieson & Talwalkar 2016) over the starts of a projected gradient ascent. The landscape is rugged: the
//! worst image of a sample is often found by one start in ten, so that breadth comes first, then depth. Within 120 passes a sample it
//! finds about what PGD finds in 1,200 from noise. Iterates stay on the surface of the ball ([`Budget::surface`]).

use super::best::{Best, survivors};
use super::least::at_least_one;
use super::loops::Ascent;
use super::start::{Start, origins};
use super::{Attack, Budget, Family, Goal, Landing, Norm, Proposal, Victim};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

/// Passes a sample where nothing is said.
const BUDGET: usize = 120;

/// Fewer passes are no race.
const LEAST: usize = 12;

/// Fewer passes make three heats, more four.
const FEW: usize = 300;

/// `{kind: race}` in the YAML.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RaceSpec {
    /// Forward and backward passes a sample (>= 12), from which the plan follows.
    pub budget: usize,
    /// What its ascents begin along, in turn.
    pub starts: Vec<Start>,
    /// The plan, where it is not to follow from the budget.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heats: Option<Vec<Heat>>,
    /// What is driven up.
    pub goal: Goal,
}

/// Some ascents, side by side.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heat {
    /// How many (>= 1); after the first heat: of how many of those before, not more than there were.
    pub rows: usize,
    /// Steps of each (>= 1).
    pub steps: usize,
    /// Length of the first and of the last step, as multiples of epsilon; it falls in equal parts.
    pub lengths: (f64, f64),
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
            if i > 0 && heat.rows > heats[i - 1].rows {
                let expected = format!("at most {}, as many as before", heats[i - 1].rows);
                return Err(Error::request("rows of a heat", expected, heat.rows.to_string()));
            }
        }
        Ok(())
    }

    /// Its heats, with steps that suit the norm.
    pub fn plan(&self, norm: Norm) -> Vec<Heat> {
        self.heats.clone().unwrap_or_else(|| plan(self.budget, norm))
    }

    /// How many directions v_i it begins along.
    pub(super) fn directions(&self) -> usize {
        if !self.starts.contains(&Start::Spectral) {
            return 0;
        }
        // Both signs of each.
        let rows = self.plan(Norm::L2)[0].rows;
        rows.div_ceil(self.starts.len()).div_ceil(2)
    }
}

/// The heats of a budget: the more passes, the more of everything.
///
/// Found by trial on published VAEs (docs/evaluation.md): with few passes, one long last ascent is worth more than many starts; with many,
/// both pay.
fn plan(budget: usize, norm: Norm) -> Vec<Heat> {
    let lengths = match norm {
        Norm::L2 | Norm::L1 => [(1.5, 0.7), (1.0, 0.4), (0.8, 0.2), (1.0, 0.02)],
        Norm::Linf => [(1.0, 0.5), (0.6, 0.3), (0.5, 0.15), (0.5, 0.01)],
    };
    let whole = budget as f64;
    // 8 at 120 passes, 40 at 840.
    let starts = 8.0 * (whole / 120.0).powf(0.827);
    let (rows, shares): (&[f64], &[f64]) = if budget < FEW {
        (&[starts, starts / 3.0], &[0.27, 0.2])
    } else {
        (&[starts, starts / 4.0, starts / 13.0], &[0.38, 0.24, 0.22])
    };
    let mut left = budget;
    let mut heats = Vec::with_capacity(rows.len() + 1);
    for ((rows, share), lengths) in rows.iter().zip(shares).zip(lengths) {
        let rows = (rows.round() as usize).max(1);
        let steps = ((whole * share / rows as f64).round() as usize).max(1);
        left = left.saturating_sub(rows * steps);
        heats.push(Heat { rows, steps, lengths });
    }
    heats.push(Heat { rows: 1, steps: left.max(1), lengths: lengths[3] });
    heats
}

/// The race, and the name under which its results at smaller budgets are found.
pub(super) struct Race(pub(super) RaceSpec, pub(super) &'static str);

impl Attack for Race {
    fn family(&self) -> Family {
        Family::Gradient
    }

    fn goal(&self) -> Goal {
        self.0.goal
    }

    fn trials(&self) -> usize {
        1
    }

    fn directions(&self) -> usize {
        self.0.directions()
    }

    fn propose(&self, victim: &Victim, budget: &Budget, _: usize) -> Result<Proposal> {
        let heats = self.0.plan(budget.norm);
        let smaller = victim.smaller(self.1, budget);
        let origins = origins(victim, &self.0.starts, heats[0].rows, smaller.is_some());
        let starts = origins.into_iter().map(|origin| origin.image(victim, budget, smaller.as_ref()));
        let mut iterates = starts.collect::<Result<Vec<_>>>()?;
        let mut found = Findings::default();
        let passes: usize = heats.iter().map(|heat| heat.rows * heat.steps).sum();
        let mut earlier = None;
        for (i, heat) in heats.iter().enumerate() {
            let lengths: Vec<f64> = (0..heat.steps).map(|t| budget.epsilon * heat.length(t)).collect();
            let Some(following) = heats.get(i + 1) else {
                // The last tenth of all passes by itself, to see whether damage still grows.
                let tenth = passes.div_ceil(10 * heat.rows).min(heat.steps);
                let (most, rest) = lengths.split_at(heat.steps - tenth);
                if !most.is_empty() {
                    (iterates, _) = found.heat(victim, budget, self.0.goal, &iterates, most, false)?;
                    earlier = found.best.damage();
                }
                found.heat(victim, budget, self.0.goal, &iterates, rest, true)?;
                break;
            };
            let (ends, damages) = found.heat(victim, budget, self.0.goal, &iterates, &lengths, false)?;
            iterates = survivors(&ends, &damages, following.rows)?;
        }
        // What a smaller budget allows, this one does as well.
        let candidates = found.best.into_images().into_iter().chain(smaller).collect();
        Ok(Proposal { candidates, stalled: found.stalled, earlier })
    }
}

/// What a race has found so far.
#[derive(Default)]
struct Findings {
    best: Best,
    stalled: Option<Tensor>,
}

impl Findings {
    /// Ascends from each of `iterates` [B, C, H, W]: where each ends, and the most damage on its way, `[B]` f64.
    fn heat(
        &mut self,
        victim: &Victim,
        budget: &Budget,
        goal: Goal,
        iterates: &[Tensor],
        lengths: &[f64],
        finish: bool,
    ) -> Result<(Vec<Tensor>, Vec<Tensor>)> {
        let ascent = Ascent { goal, landing: Landing::Surface, momentum: 0.0 };
        let (mut ends, mut damages) = (vec![], vec![]);
        for group in iterates.chunks(rows_at_once(victim)) {
            let start = Tensor::f_cat(group, 0)?;
            let reached = victim.loops().ascend(victim, ascent, budget, &start, lengths, finish)?;
            for part in reached.by_start(group.len() as i64)? {
                self.best.offer(part.best, part.damage.shallow_clone())?;
                self.stalled = Some(match self.stalled.take() {
                    Some(before) => before.f_logical_or(&part.stalled)?,
                    None => part.stalled,
                });
                ends.push(part.last);
                damages.push(part.damage);
            }
        }
        Ok((ends, damages))
    }
}

impl Heat {
    /// Of step `t`, as a multiple of epsilon.
    fn length(&self, t: usize) -> f64 {
        let (first, last) = self.lengths;
        first + (last - first) * t as f64 / (self.steps.max(2) - 1) as f64
    }
}

/// How many ascents of all samples go through the model together: as many images as keep the device busy.
fn rows_at_once(victim: &Victim) -> usize {
    let images = if victim.images().device() == Device::Cpu { 128 } else { 2048 };
    (images / victim.index().len().max(1)).max(1)
}
