//! Projected gradient ascent on the goal.
//!
//! Source: Madry, Makelov, Schmidt, Tsipras & Vladu 2018, eq. 3 and section 4 (step 2.5 epsilon / steps).
//! Differs: the best iterate is kept, not the last; pixels held by the box take no part in the step's direction, so that
//! an L2 step is not spent on them; the L2 start lies on the sphere, since the goals vanish at its centre.
//!
//! For a small epsilon and the goal `latent` the ascent is a power iteration on the `mean` metric, and converges to v_1.

use super::spec::at_least_one;
use super::{Attack, Budget, Family, Goal, Norm, Proposal, Victim};
use crate::error::{Error, Result};
use crate::seed::{self, Stage};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// Where the ascent begins; never at x itself, where the gradient of a distance is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// A random point: on the sphere in L2, uniform in the cube in Linf.
    #[default]
    Random,
    /// The spectral attack along v_i, the worse sign; restart i takes direction i.
    Spectral,
}

/// `{kind: pgd}` in the YAML.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PgdSpec {
    /// Gradient steps (>= 1).
    pub steps: usize,
    /// Length of a step as a multiple of epsilon (> 0); 2.5 / steps where not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<f64>,
    /// Ascents from different starts, of which the worst is kept (>= 1).
    pub restarts: usize,
    /// Where an ascent begins.
    pub start: Start,
    /// What is driven up.
    pub goal: Goal,
}

impl Default for PgdSpec {
    fn default() -> Self {
        Self {
            steps: 40,
            step: None,
            restarts: 1,
            start: Start::default(),
            goal: Goal::default(),
        }
    }
}

impl PgdSpec {
    pub(super) fn check(&self) -> Result<()> {
        at_least_one("steps of the pgd attack", self.steps)?;
        at_least_one("restarts of the pgd attack", self.restarts)?;
        match self.step {
            Some(step) if !(step.is_finite() && step > 0.0) => Err(Error::request(
                "step of the pgd attack",
                "a finite number > 0",
                step.to_string(),
            )),
            _ => Ok(()),
        }
    }
}

/// The ascent. Nothing in its loop visits the host.
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
        let x0 = victim.images();
        let length = budget.epsilon * self.0.step.unwrap_or(2.5 / self.0.steps as f64);
        let mut x = match self.0.start {
            Start::Random => random_start(victim, budget, trial)?,
            Start::Spectral => spectral_start(victim, budget, trial, self.0.goal)?,
        };
        let mut best = Best::default();
        let mut stalled = Tensor::f_zeros([x0.size()[0]], (Kind::Bool, x0.device()))?;
        for _ in 0..self.0.steps {
            let (value, gradient) = self.0.goal.ascend(victim, &x)?;
            stalled = stalled.f_logical_or(&vanishes(&gradient)?)?;
            let direction = budget.steepest(&budget.admissible(&x, &gradient)?)?;
            let next = budget.contract(x0, &x.f_add(&(direction * length))?)?;
            best.offer(x, value)?;
            x = next;
        }
        let value = self.0.goal.value(victim, &x)?;
        best.offer(x, value)?;
        Ok(Proposal {
            candidates: best.images.into_iter().collect(),
            stalled: Some(stalled),
        })
    }
}

/// The most harmful images met so far, sample by sample.
#[derive(Default)]
pub(super) struct Best {
    pub(super) images: Option<Tensor>,
    damage: Option<Tensor>,
}

impl Best {
    /// Takes `images` [B, C, H, W] where their `damage` [B] is larger, or a number where none was before.
    pub(super) fn offer(&mut self, images: Tensor, damage: Tensor) -> Result<()> {
        (self.images, self.damage) = match (self.images.take(), self.damage.take()) {
            (Some(old_images), Some(old)) => {
                let better = exceeds(&damage, &old)?;
                let pixels = better.f_reshape([-1, 1, 1, 1])?;
                let images = images.f_where_self(&pixels, &old_images)?;
                (Some(images), Some(damage.f_where_self(&better, &old)?))
            }
            _ => (Some(images), Some(damage)),
        };
        Ok(())
    }
}

/// [B] bool: `a` > `b`, or `a` is a number where `b` is not.
pub(super) fn exceeds(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let rescues = b.f_isnan()?.f_logical_and(&a.f_isnan()?.f_logical_not()?)?;
    Ok(a.f_gt_tensor(b)?.f_logical_or(&rescues)?)
}

/// [B] bool: nothing of the gradient is a nonzero finite number, or some of it is not a number.
fn vanishes(gradient: &Tensor) -> Result<Tensor> {
    let peak = gradient
        .f_flatten(1, -1)?
        .f_abs()?
        .f_amax([1i64].as_slice(), false)?;
    // amax carries NaN through, and no comparison holds for it.
    Ok(peak
        .f_gt(0.0)?
        .f_logical_and(&peak.f_isfinite()?)?
        .f_logical_not()?)
}

fn random_start(victim: &Victim, budget: &Budget, trial: usize) -> Result<Tensor> {
    let (seed, index, dim) = (victim.seed(), victim.index(), victim.dim());
    let noise = seed::normal_stream(seed, Stage::AttackStart, trial as u64, index, dim)?;
    let step = match budget.norm {
        Norm::L2 => budget.steepest(&victim.shaped(&noise)?)?,
        // The error function makes a uniform number on (-1, 1) of a normal one.
        Norm::Linf => victim.shaped(&(noise * std::f64::consts::FRAC_1_SQRT_2).f_erf()?)?,
    };
    budget.contract(
        victim.images(),
        &victim.images().f_add(&(step * budget.epsilon))?,
    )
}

fn spectral_start(victim: &Victim, budget: &Budget, trial: usize, goal: Goal) -> Result<Tensor> {
    let (v, _) = victim.direction(trial + 1)?;
    let step = budget.steepest(&v)? * budget.epsilon;
    let mut best = Best::default();
    for x in super::spectral::both_signs(victim.images(), &step)? {
        let x = budget.contract(victim.images(), &x)?;
        let value = goal.value(victim, &x)?;
        best.offer(x, value)?;
    }
    Ok(best
        .images
        .unwrap_or_else(|| victim.images().shallow_clone()))
}
