//! Auto-PGD on the goal: a projected gradient ascent that adapts its step length.
//!
//! Source: Croce & Hein 2020, algorithm 1 and its constants (momentum 0.75, first step 2 epsilon, rho 0.75). At a checkpoint, a sample's
//! step is halved and the ascent returns to its best iterate if too few steps increased the goal, or if neither the step nor the best value
//! has changed since the last checkpoint.
//! Differs: the start lies on the ball's surface, since goals that are distances vanish at its centre.

use super::best::exceeds;
use super::least::at_least_one;
use super::start::{Origin, Start, carried, origins};
use super::step::vanishes;
use super::{Attack, Budget, Curve, Family, Goal, Proposal, Victim};
use crate::error::Result;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// The new step's weight; the previous move has the weight 1 - ALPHA.
const ALPHA: f64 = 0.75;
/// Share of the steps between two checkpoints that must increase the goal.
const RHO: f64 = 0.75;

/// `{kind: apgd}` in the YAML.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApgdSpec {
    /// Gradient steps (>= 1).
    pub steps: usize,
    /// Ascents from different starts; the worst result is kept (>= 1).
    pub restarts: usize,
    /// The direction of the start.
    pub start: Start,
    /// The goal that is increased.
    pub goal: Goal,
}

impl Default for ApgdSpec {
    fn default() -> Self {
        Self { steps: 100, restarts: 1, start: Start::default(), goal: Goal::default() }
    }
}

impl ApgdSpec {
    pub(super) fn check(&self) -> Result<()> {
        at_least_one("steps of the apgd attack", self.steps)?;
        at_least_one("restarts of the apgd attack", self.restarts)
    }
}

/// The numbers of steps, out of `steps`, after which the step length is checked.
fn checkpoints(steps: usize) -> Vec<usize> {
    let (mut before, mut at) = (0.0f64, 0.22f64);
    let mut all = vec![];
    while at <= 1.0 {
        all.push((at * steps as f64).ceil() as usize);
        (before, at) = (at, at + (at - before - 0.03).max(0.06));
    }
    all
}

/// The ascent.
pub(super) struct Apgd(pub(super) ApgdSpec);

impl Attack for Apgd {
    fn family(&self) -> Family {
        Family::Gradient
    }

    fn goal(&self) -> Goal {
        self.0.goal
    }

    fn trials(&self) -> usize {
        self.0.restarts
    }

    fn directions(&self) -> usize {
        if self.0.start == Start::Spectral { self.0.restarts.div_ceil(2) } else { 0 }
    }

    fn propose(&self, victim: &Victim, budget: &Budget, trial: usize) -> Result<Proposal> {
        let ApgdSpec { steps, goal, start, restarts } = self.0;
        let smaller = carried(victim, budget, "apgd", trial, restarts);
        let origin = match smaller {
            Some(_) => Origin::Smaller,
            None => origins(victim, &[start], trial + 1, 0, false)[trial],
        };
        let mut state = State::at(origin.image(victim, budget, smaller.as_ref())?, goal, victim, budget)?;
        let (checkpoints, mut curve) = (checkpoints(steps), Curve::default());
        let each = goal.draws(victim.aim()) as f64;
        curve.note(each, state.damage.shallow_clone());
        for step in 1..=steps {
            crate::event::ensure_wanted()?;
            state.take_step(goal, victim, budget, step == 1)?;
            curve.note(each * (step + 1) as f64, state.damage.shallow_clone());
            if let Some(place) = checkpoints.iter().position(|c| *c == step) {
                let since = step - if place == 0 { 0 } else { checkpoints[place - 1] };
                state.look(since)?;
            }
        }
        let candidates = std::iter::once(state.best).chain(smaller).collect();
        Ok(Proposal { candidates, stalled: Some(state.stalled), curve })
    }
}

/// State of an ascent of B samples; all fields are `[B]` f64 except the images.
struct State {
    x: Tensor,
    before: Tensor,
    value: Tensor,
    gradient: Tensor,
    best: Tensor,
    damage: Tensor,
    /// The gradient at the best iterate.
    slope: Tensor,
    step: Tensor,
    /// Steps that increased the goal since the last checkpoint.
    rises: Tensor,
    /// The damage, and whether the step was halved, at the last checkpoint.
    damage_then: Tensor,
    halved_then: Tensor,
    stalled: Tensor,
}

impl State {
    fn at(x: Tensor, goal: Goal, victim: &Victim, budget: &Budget) -> Result<Self> {
        let (value, gradient) = goal.value_and_gradient(victim, &x)?;
        Ok(Self {
            before: x.shallow_clone(),
            best: x.shallow_clone(),
            damage: value.shallow_clone(),
            damage_then: value.shallow_clone(),
            step: value.f_full_like(2.0 * budget.epsilon)?,
            rises: value.f_zeros_like()?,
            halved_then: value.f_zeros_like()?.f_to_kind(Kind::Bool)?,
            stalled: vanishes(&gradient)?,
            slope: gradient.shallow_clone(),
            x,
            value,
            gradient,
        })
    }

    fn take_step(&mut self, goal: Goal, victim: &Victim, budget: &Budget, first: bool) -> Result<()> {
        let x0 = victim.images();
        let length = pixels(&self.step)?.f_to_kind(self.x.kind())?;
        let direction = budget.steepest(&self.gradient)?;
        let mut next = budget.contract(x0, &self.x.f_add(&direction.f_mul(&length)?)?)?;
        if !first {
            let ahead = next.f_sub(&self.x)?.f_mul_scalar(ALPHA)?;
            let moved = ahead.f_add(&self.x.f_sub(&self.before)?.f_mul_scalar(1.0 - ALPHA)?)?;
            next = budget.contract(x0, &self.x.f_add(&moved)?)?;
        }
        let (value, gradient) = goal.value_and_gradient(victim, &next)?;
        self.stalled = self.stalled.f_logical_or(&vanishes(&gradient)?)?;
        self.rises = self.rises.f_add(&value.f_gt_tensor(&self.value)?)?;
        let better = exceeds(&value, &self.damage)?;
        let wide = pixels(&better)?;
        self.best = next.f_where_self(&wide, &self.best)?;
        self.slope = gradient.f_where_self(&wide, &self.slope)?;
        self.damage = value.f_where_self(&better, &self.damage)?;
        self.before = std::mem::replace(&mut self.x, next);
        (self.value, self.gradient) = (value, gradient);
        Ok(())
    }

    /// A checkpoint that comes `since` steps after the last one.
    fn look(&mut self, since: usize) -> Result<()> {
        let few = self.rises.f_lt(RHO * since as f64)?;
        let still = self.damage.f_le_tensor(&self.damage_then)?;
        let halved = few.f_logical_or(&still.f_logical_and(&self.halved_then.f_logical_not()?)?)?;
        self.step = self.step.f_div_scalar(2.0)?.f_where_self(&halved, &self.step)?;
        let wide = pixels(&halved)?;
        self.x = self.best.f_where_self(&wide, &self.x)?;
        self.gradient = self.slope.f_where_self(&wide, &self.gradient)?;
        self.value = self.damage.f_where_self(&halved, &self.value)?;
        self.damage_then = self.damage.shallow_clone();
        self.halved_then = halved;
        self.rises = self.rises.f_zeros_like()?;
        Ok(())
    }
}

/// Reshapes `[B]` to [B, 1, 1, 1].
fn pixels(t: &Tensor) -> Result<Tensor> {
    Ok(t.f_view([-1, 1, 1, 1])?)
}
