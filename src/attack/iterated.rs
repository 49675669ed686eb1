//! The iterated spectral attack: each step goes along the leading eigenvector of the metric at the current iterate.
//!
//! One spectral step is optimal only for a small epsilon. For a larger one the metric is computed again at each iterate, the sign is the
//! one that increases the goal, and the iterate stays on the ball's surface. For the goal `latent` and the metric `mean` this is the
//! direction in which the code moves fastest; PGD takes the direction in which the code moves away fastest.

use super::best::Best;
use super::least::at_least_one;
use super::start::Origin;
use super::{Attack, Budget, Curve, Family, Goal, Proposal, Victim};
use crate::error::Result;
use crate::metric::MetricKind;
use serde::{Deserialize, Serialize};

/// `{kind: spectral-iterated}` in the YAML.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IteratedSpec {
    /// Steps; each computes its own spectrum (>= 1).
    pub steps: usize,
    /// Searches, of which the worst result is kept (>= 1): the first begins at the image, the others along noise.
    pub restarts: usize,
    /// The metric whose leading eigenvector is taken.
    pub metric: MetricKind,
    /// The goal that chooses the sign and the best iterate.
    pub goal: Goal,
}

impl Default for IteratedSpec {
    fn default() -> Self {
        Self { steps: 10, restarts: 1, metric: MetricKind::default(), goal: Goal::default() }
    }
}

impl IteratedSpec {
    pub(super) fn check(&self) -> Result<()> {
        self.metric.ensure_of_images("metric of the spectral-iterated attack")?;
        at_least_one("steps of the spectral-iterated attack", self.steps)?;
        at_least_one("restarts of the spectral-iterated attack", self.restarts)
    }

    /// Length of step `t`, as a multiple of epsilon; it falls in equal parts.
    fn length(&self, t: usize) -> f64 {
        1.0 - t as f64 / self.steps as f64
    }
}

/// The search.
pub(super) struct Iterated(pub(super) IteratedSpec);

impl Attack for Iterated {
    fn family(&self) -> Family {
        Family::Spectral
    }

    fn goal(&self) -> Goal {
        self.0.goal
    }

    fn trials(&self) -> usize {
        self.0.restarts
    }

    fn propose(&self, victim: &Victim, budget: &Budget, trial: usize) -> Result<Proposal> {
        let IteratedSpec { steps, metric, goal, .. } = self.0;
        let x0 = victim.images();
        let mut x = match trial.checked_sub(1) {
            None => x0.shallow_clone(),
            Some(k) => Origin::Noise(k).image(victim, budget, None)?,
        };
        let mut best = Best::default();
        for step in 0..steps {
            crate::event::ensure_wanted()?;
            let v = victim.leading_at(metric, &x)?;
            let way = budget.along(&v)?.f_mul_scalar(budget.epsilon * self.0.length(step))?;
            let delta = x.f_sub(x0)?;
            let mut ahead = Best::default();
            for moved in [delta.f_add(&way)?, delta.f_sub(&way)?] {
                let image = super::spectral::unless_lost(budget.surface(x0, &moved)?, &v)?;
                let value = goal.value(victim, &image)?;
                ahead.offer(image.shallow_clone(), value.shallow_clone())?;
                best.offer(image, value)?;
            }
            // The next spectra are asked of finite images; a sample without directions keeps its own.
            x = match ahead.into_images() {
                Some(images) => images.f_where_self(&images.f_isfinite()?, &x)?,
                None => x,
            };
        }
        Ok(Proposal { candidates: best.into_images().into_iter().collect(), stalled: None, curve: Curve::default() })
    }
}
