//! Projected gradient ascent on the goal.
//!
//! Source: Madry, Makelov, Schmidt, Tsipras & Vladu 2018, eq. 3 and section 4 (step 2.5 epsilon / steps).
//! Differs: the best iterate is kept, not the last; pixels that the box holds take no part in the step's direction, so that an L2 step is
//! not spent on them; the L2 start lies on the sphere, because the goals are 0 at its centre.
//!
//! For a small epsilon and the goal `latent` the ascent is a power iteration on the `mean` metric and converges to v_1.

use super::best::Best;
use super::least::at_least_one;
use super::loops::Ascent;
use super::start::{self, Origin, Start};
use super::{Attack, Budget, Curve, Family, Goal, Landing, Norm, Proposal, Victim};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// How the length of a step changes during the ascent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// It does not change.
    #[default]
    Constant,
    /// It falls to 0 in equal parts: long steps find the summit, short steps settle on it. In L2 on an MNIST MLP, 40 such steps reach what
    /// five starts of 400 steps reach, which is 1 % more than constant steps.
    Linear,
}

/// `{kind: pgd}` in the YAML.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PgdSpec {
    /// Gradient steps (>= 1).
    pub steps: usize,
    /// Length of the first step as a multiple of epsilon (> 0). Where not given: 2.5 / steps if constant, 2 if linear.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<f64>,
    /// What the later steps are.
    pub schedule: Schedule,
    /// Ascents from different starts, of which the worst is kept (>= 1).
    pub restarts: usize,
    /// What an ascent begins along.
    pub start: Start,
    /// What is kept of the direction of earlier steps (0 <= m < 1).
    #[serde(skip_serializing_if = "is_zero")]
    pub momentum: f64,
    /// What is driven up.
    pub goal: Goal,
}

impl Default for PgdSpec {
    fn default() -> Self {
        Self {
            steps: 40,
            step: None,
            schedule: Schedule::default(),
            restarts: 1,
            start: Start::default(),
            momentum: 0.0,
            goal: Goal::default(),
        }
    }
}

impl PgdSpec {
    pub(super) fn check(&self) -> Result<()> {
        at_least_one("steps of the pgd attack", self.steps)?;
        at_least_one("restarts of the pgd attack", self.restarts)?;
        if !(0.0..1.0).contains(&self.momentum) {
            let found = self.momentum.to_string();
            return Err(Error::request("momentum of the pgd attack", "a number >= 0 and < 1", found));
        }
        match self.step {
            // A ball is two epsilon wide; what is far beyond is a slip, or overflows.
            Some(step) if !(step > 0.0 && step <= 1e6) => {
                Err(Error::request("step of the pgd attack", "a number > 0, at most 1e6", step.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// Length of step `t` < `steps`, as a multiple of epsilon.
    fn length(&self, t: usize) -> f64 {
        let steps = self.steps as f64;
        match self.schedule {
            Schedule::Constant => self.step.unwrap_or(2.5 / steps),
            Schedule::Linear => self.step.unwrap_or(2.0) * (1.0 - t as f64 / steps),
        }
    }
}

/// The ascent. Nothing in its loop visits the host, and its step works on buffers that stay where they are ([`Loops`]): on
/// CUDA it is a graph.
///
/// [`Loops`]: super::Loops
pub(super) struct Pgd(pub(super) PgdSpec);

impl Attack for Pgd {
    fn family(&self) -> Family {
        Family::Gradient
    }

    fn goal(&self) -> Goal {
        self.0.goal
    }

    fn trials(&self) -> usize {
        self.0.restarts
    }

    fn propose(&self, victim: &Victim, budget: &Budget, trial: usize) -> Result<Proposal> {
        let smaller = start::carried(victim, budget, "pgd", trial, self.0.restarts);
        let start = match self.0.start {
            // What was found is a better beginning than any draw.
            _ if smaller.is_some() => Origin::Smaller.image(victim, budget, smaller.as_ref())?,
            Start::Random => random_start(victim, budget, trial)?,
            Start::Spectral => spectral_start(victim, budget, trial, self.0.goal)?,
            Start::Others => Origin::Other(trial).image(victim, budget, None)?,
        };
        let lengths: Vec<_> = (0..self.0.steps).map(|t| budget.epsilon * self.0.length(t)).collect();
        let ascent = Ascent { goal: self.0.goal, landing: Landing::Ball, momentum: self.0.momentum };
        let reached = victim.loops().ascend(victim, ascent, budget, &start, &lengths, true)?;
        let mut curve = Curve::default();
        curve.follow(0.0, self.0.goal.draws(victim.aim()) as f64, &reached.trace)?;
        let candidates = std::iter::once(reached.best).chain(smaller).collect();
        Ok(Proposal { candidates, stalled: Some(reached.stalled), curve })
    }

    fn directions(&self) -> usize {
        if self.0.start == Start::Spectral { self.0.restarts } else { 0 }
    }
}

/// A setting that is not used is not written.
fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

fn random_start(victim: &Victim, budget: &Budget, trial: usize) -> Result<Tensor> {
    let noise = start::noise(victim, trial)?;
    let step = match budget.norm {
        Norm::L2 | Norm::L1 => budget.along(&noise)?,
        // The error function makes a uniform number on (-1, 1) of a normal one.
        Norm::Linf => noise.f_mul_scalar(std::f64::consts::FRAC_1_SQRT_2)?.f_erf()?,
    };
    budget.contract(victim.images(), &victim.images().f_add(&step.f_mul_scalar(budget.epsilon)?)?)
}

fn spectral_start(victim: &Victim, budget: &Budget, trial: usize, goal: Goal) -> Result<Tensor> {
    let v = Origin::Eigen(trial + 1, true).direction(victim, None)?;
    let step = budget.along(&v)?.f_mul_scalar(budget.epsilon)?;
    let mut best = Best::default();
    for x in super::spectral::both_signs(victim.images(), &step)? {
        let x = budget.contract(victim.images(), &x)?;
        let value = goal.value(victim, &x)?;
        best.offer(x, value)?;
    }
    Ok(best.into_images().unwrap_or_else(|| victim.images().shallow_clone()))
}
