//! The attack along an eigenvector of the pullback metric.
//!
//! Source: Khan & Storkey 2023: x' = x + s lambda_i v_i, unclipped, s from 0.1 to 10 ([`StepScale::Eigen`]; their
//! code takes singular values for lambda_i, [`StepScale::Singular`]).
//! Differs: both signs are tried and the worse by the goal is kept; by default the attack moves by epsilon, so that samples and models are
//! compared at equal size; in Linf it moves by epsilon sign(v_i), the steepest step for the linear function v_i ([`Budget::along`]).

use super::least::at_least_one;
use super::{Attack, Budget, Curve, Family, Goal, Norm, Proposal, Victim};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// How far a spectral attack moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum StepScale {
    /// By epsilon.
    #[default]
    Unit,
    /// By epsilon * lambda_i, the authors' scale in the paper; L2 only.
    Eigen,
    /// By epsilon * sqrt(lambda_i), a singular value of the factor, the scale of the authors' code; L2 only.
    Singular,
}

impl StepScale {
    /// As in the YAML.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// `{kind: spectral}` in the YAML.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpectralSpec {
    /// K: directions v_1 to v_K are tried (>= 1).
    pub top: usize,
    /// How far to move.
    pub scale: StepScale,
    /// The goal that chooses the worse sign.
    pub goal: Goal,
}

impl Default for SpectralSpec {
    fn default() -> Self {
        Self { top: 1, scale: StepScale::Unit, goal: Goal::default() }
    }
}

impl SpectralSpec {
    pub(super) fn check(&self, norm: Norm) -> Result<()> {
        at_least_one("top of the spectral attack", self.top)?;
        if self.scale != StepScale::Unit && norm != Norm::L2 {
            return Err(Error::request("scale eigen or singular", "norm l2", format!("norm {norm}")));
        }
        Ok(())
    }

    /// One attack for each direction.
    pub(super) fn parts(&self) -> Vec<(String, Box<dyn Attack>)> {
        let family = if self.top == 1 { Family::Spectral } else { Family::Direction };
        let part = |i| Box::new(Spectral { i, scale: self.scale, goal: self.goal, family });
        (1..=self.top).map(|i| (format!("u{i}"), part(i) as Box<dyn Attack>)).collect()
    }
}

/// Moves along +-v_i.
struct Spectral {
    /// The number of the direction, from 1.
    i: usize,
    scale: StepScale,
    goal: Goal,
    family: Family,
}

impl Attack for Spectral {
    fn family(&self) -> Family {
        self.family
    }

    fn goal(&self) -> Goal {
        self.goal
    }

    fn trials(&self) -> usize {
        1
    }

    fn propose(&self, victim: &Victim, budget: &Budget, _: usize) -> Result<Proposal> {
        let (v, _) = victim.direction(self.i)?;
        let step = match self.radius(victim, budget)? {
            Some(size) => v.f_mul(&size.f_to_kind(v.kind())?.f_reshape([-1, 1, 1, 1])?)?,
            None => unless_lost(budget.along(&v)?.f_mul_scalar(budget.epsilon)?, &v)?,
        };
        Ok(Proposal { candidates: both_signs(victim.images(), &step)?, stalled: None, curve: Curve::default() })
    }

    fn directions(&self) -> usize {
        self.i
    }

    /// epsilon * lambda_i at the eigen scale, epsilon * sqrt(lambda_i) at the singular scale.
    fn radius(&self, victim: &Victim, budget: &Budget) -> Result<Option<Tensor>> {
        let size = match self.scale {
            StepScale::Unit => return Ok(None),
            StepScale::Eigen => victim.direction(self.i)?.1,
            StepScale::Singular => victim.direction(self.i)?.1.f_sqrt()?,
        };
        Ok(Some(size.f_mul_scalar(budget.epsilon)?.f_to_kind(Kind::Double)?))
    }
}

/// Moves along each of +-v_1 to +-v_K, or fewer if there are not so many, and keeps the worst.
pub(super) struct Directions {
    pub top: usize,
    pub goal: Goal,
}

impl Attack for Directions {
    fn family(&self) -> Family {
        Family::Spectral
    }

    fn goal(&self) -> Goal {
        self.goal
    }

    fn trials(&self) -> usize {
        self.top
    }

    fn propose(&self, victim: &Victim, budget: &Budget, trial: usize) -> Result<Proposal> {
        if trial >= victim.held_directions() {
            return Ok(Proposal { candidates: vec![], stalled: None, curve: Curve::default() });
        }
        let (v, _) = victim.direction(trial + 1)?;
        let images = victim.images();
        let ends = [budget.surface(images, &v)?, budget.surface(images, &v.f_neg()?)?];
        let candidates = ends.into_iter().map(|end| unless_lost(end, &v)).collect::<Result<Vec<_>>>()?;
        Ok(Proposal { candidates, stalled: None, curve: Curve::default() })
    }

    fn directions(&self) -> usize {
        self.top
    }
}

/// x + step and x - step.
pub(super) fn both_signs(x: &Tensor, step: &Tensor) -> Result<Vec<Tensor>> {
    Ok(vec![x.f_add(step)?, x.f_sub(step)?])
}

/// `moved` [B, C, H, W], NaN for the samples whose direction `v` is not finite: what has no spectrum has no damage along it, not the damage
/// 0.
pub(super) fn unless_lost(moved: Tensor, v: &Tensor) -> Result<Tensor> {
    let lost = v.f_isfinite()?.f_flatten(1, -1)?.f_logical_not()?.f_any_dim(1, false)?;
    Ok(moved.f_masked_fill(&lost.f_view([-1, 1, 1, 1])?, f64::NAN)?)
}
