//! The smallest perturbation that does a given damage: a race finds an image that does it, and bisection makes it smaller.
//!
//! For each sample the radius is bisected between one without a success and one with a success. At each radius the last successful image is
//! moved into the smaller ball and ascends again. The result is an upper bound of the smallest epsilon.

use super::best::exceeds;
use super::least::at_least_one;
use super::race::{Race, RaceSpec};
use super::{Attack, Budget, Curve, Family, Goal, Proposal, Victim};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// Bisections of the radius: the result is accurate to 1/256 of epsilon.
const HALVINGS: usize = 8;

/// `{kind: minimal, reach: 2}` in the YAML.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MinimalSpec {
    /// The required damage, in the units of the goal (> 0).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reach: Option<f64>,
    /// Forward and backward passes for each sample in the race that comes first (>= 12).
    pub budget: usize,
    /// Steps at each radius (>= 1).
    pub steps: usize,
    /// The goal that is increased.
    pub goal: Goal,
}

impl Default for MinimalSpec {
    fn default() -> Self {
        Self { reach: None, budget: RaceSpec::default().budget, steps: 10, goal: Goal::default() }
    }
}

impl MinimalSpec {
    pub(super) fn check(&self) -> Result<()> {
        at_least_one("steps of the minimal attack", self.steps)?;
        self.race().check()?;
        match self.reach {
            Some(reach) if reach > 0.0 && reach.is_finite() => Ok(()),
            other => Err(Error::request(
                "damage that the minimal attack is to reach (--reach)",
                "a number > 0, in the units of the goal",
                other.map_or_else(|| "none".to_owned(), |reach| reach.to_string()),
            )),
        }
    }

    pub(super) fn race(&self) -> RaceSpec {
        RaceSpec { budget: self.budget, goal: self.goal, ..RaceSpec::default() }
    }
}

/// The search.
pub(super) struct Minimal(pub(super) MinimalSpec);

impl Attack for Minimal {
    fn family(&self) -> Family {
        // It stops at the required damage, so it is not compared with attacks that do as much damage as they can.
        Family::Direction
    }

    fn goal(&self) -> Goal {
        self.0.goal
    }

    fn trials(&self) -> usize {
        1
    }

    fn directions(&self) -> usize {
        self.0.race().directions()
    }

    fn propose(&self, victim: &Victim, budget: &Budget, _: usize) -> Result<Proposal> {
        let MinimalSpec { reach, steps, goal, .. } = self.0;
        let reach = reach.unwrap_or(f64::INFINITY);
        let x0 = victim.images();
        let race = Race { spec: self.0.race(), name: "minimal", skipped: 0, anew: true };
        let Proposal { candidates, stalled, .. } = race.propose(victim, budget, 0)?;
        let whole = Tensor::f_full([x0.size()[0]], budget.epsilon, (Kind::Double, x0.device()))?;
        let mut best: Option<Kept> = None;
        for candidate in &candidates {
            let image = victim.fair(budget, candidate, &whole)?;
            let value = goal.value(victim, &image)?;
            let new = Kept::of(victim, budget, image, value, reach)?;
            best = Some(match best {
                Some(kept) => kept.or(&new)?,
                None => new,
            });
        }
        let Some(best) = best else {
            return Ok(Proposal { candidates, stalled, curve: Curve::default() });
        };
        // Some samples need no perturbation. Where x does less it is no result.
        let still = victim.fair(budget, x0, &whole)?;
        let value = goal.value(victim, &still)?;
        let value = value.f_masked_fill(&value.f_ge(reach)?.f_logical_not()?, f64::NAN)?;
        let best = best.or(&Kept::of(victim, budget, still, value, reach)?)?;
        let Kept { image: mut found, reached, size, .. } = best;
        let mut high = size.f_where_self(&reached, &whole)?;
        let mut low = high.f_zeros_like()?;
        for _ in 0..HALVINGS {
            crate::event::ensure_wanted()?;
            let radius = low.f_add(&high)?.f_mul_scalar(0.5)?;
            let (image, done) = self.climb(victim, budget, &shrunk(x0, &found, &radius, &high)?, &radius, steps)?;
            // If even the whole ball has no success, nothing can be made smaller.
            let done = done.f_logical_and(&reached)?;
            found = image.f_where_self(&pixels(&done)?, &found)?;
            let size = budget.measure(x0, &found)?;
            low = low.f_where_self(&done, &radius)?;
            high = size.f_where_self(&done, &high)?;
        }
        Ok(Proposal { candidates: vec![found], stalled, curve: Curve::default() })
    }

    fn reach(&self) -> Option<f64> {
        self.0.reach
    }
}

impl Minimal {
    /// The first image on the way from `start` that does the damage within `radius` `[B]`, and for which samples there is one.
    fn climb(
        &self,
        victim: &Victim,
        budget: &Budget,
        start: &Tensor,
        radius: &Tensor,
        steps: usize,
    ) -> Result<(Tensor, Tensor)> {
        let (x0, goal) = (victim.images(), self.0.goal);
        let reach = self.0.reach.unwrap_or(f64::INFINITY);
        let wide = radius.f_to_kind(x0.kind())?.f_view([-1, 1, 1, 1])?;
        let mut x = victim.fair(budget, start, radius)?;
        let mut kept = x.shallow_clone();
        let mut done = Tensor::f_zeros([x0.size()[0]], (Kind::Bool, x0.device()))?;
        for step in 0..=steps {
            let (value, gradient) = if step < steps {
                let (value, gradient) = goal.value_and_gradient(victim, &x)?;
                (value, Some(gradient))
            } else {
                (goal.value(victim, &x)?, None)
            };
            let value = victim.counted(budget, &x, radius, value)?;
            // NaN is not a success.
            let first = value.f_ge(reach)?.f_logical_and(&done.f_logical_not()?)?;
            kept = x.f_where_self(&pixels(&first)?, &kept)?;
            done = done.f_logical_or(&first)?;
            let Some(gradient) = gradient else { break };
            let length = 0.5 * (1.0 - step as f64 / steps as f64);
            let way = budget.along(&budget.admissible(&x, &gradient)?)?.f_mul_scalar(length)?;
            x = victim.fair(budget, &x.f_add(&way.f_mul(&wide)?)?, radius)?;
        }
        Ok((kept, done))
    }
}

/// One image of each sample, [B, C, H, W]; the rest is `[B]`.
struct Kept {
    image: Tensor,
    value: Tensor,
    /// Whether it does the damage.
    reached: Tensor,
    size: Tensor,
}

impl Kept {
    fn of(victim: &Victim, budget: &Budget, image: Tensor, value: Tensor, reach: f64) -> Result<Self> {
        Ok(Self { reached: value.f_ge(reach)?, size: budget.measure(victim.images(), &image)?, image, value })
    }

    /// The smaller of both where both do the damage; the only one that does; the one that does more where none does.
    fn or(&self, other: &Self) -> Result<Self> {
        let both = self.reached.f_logical_and(&other.reached)?;
        let none = self.reached.f_logical_or(&other.reached)?.f_logical_not()?;
        let smaller = both.f_logical_and(&other.size.f_lt_tensor(&self.size)?)?;
        let only = other.reached.f_logical_and(&self.reached.f_logical_not()?)?;
        let more = none.f_logical_and(&exceeds(&other.value, &self.value)?)?;
        let better = smaller.f_logical_or(&only)?.f_logical_or(&more)?;
        Ok(Self {
            image: other.image.f_where_self(&pixels(&better)?, &self.image)?,
            value: other.value.f_where_self(&better, &self.value)?,
            reached: self.reached.f_logical_or(&other.reached)?,
            size: other.size.f_where_self(&better, &self.size)?,
        })
    }
}

/// x0 + (x - x0) radius / size, for `radius` and `size` `[B]`.
fn shrunk(x0: &Tensor, x: &Tensor, radius: &Tensor, size: &Tensor) -> Result<Tensor> {
    let share = radius.f_div(&size.f_clamp_min(f64::MIN_POSITIVE)?)?.f_clamp_max(1.0)?;
    let share = share.f_to_kind(x0.kind())?.f_view([-1, 1, 1, 1])?;
    Ok(x0.f_add(&x.f_sub(x0)?.f_mul(&share)?)?)
}

/// Reshapes `[B]` to [B, 1, 1, 1].
fn pixels(mask: &Tensor) -> Result<Tensor> {
    Ok(mask.f_view([-1, 1, 1, 1])?)
}
