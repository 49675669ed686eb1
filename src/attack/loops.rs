//! The loops of iterative attacks: their buffers, and on CUDA the graphs captured over them, kept from batch to batch.

use super::ascent::keep_best;
use super::goal::Folding;
use super::{Budget, Goal, Norm, Victim};
use crate::error::Result;
use crate::ffi::Replay;
use crate::ffi::ascent::Stand;
use crate::model::shift::Reading;
use crate::model::{Posterior, Vae};
use std::cell::RefCell;
use tch::{Device, Kind, Tensor};

/// What the attacks on one model keep between batches, epsilons and restarts: a step is captured once for all that differ in
/// numbers only.
pub struct Loops<'a> {
    vae: &'a dyn Vae,
    kept: RefCell<Vec<Loop>>,
}

impl<'a> Loops<'a> {
    /// None as yet, on `vae`.
    pub fn on(vae: &'a dyn Vae) -> Self {
        Self { vae, kept: RefCell::default() }
    }

    /// The model.
    pub fn vae(&self) -> &'a dyn Vae {
        self.vae
    }

    /// Ascends `goal` from `start` within the budget, by steps of these lengths. The best iterate of each sample, and `[B]`
    /// bool: a gradient was 0 or not a number.
    pub(super) fn ascend(
        &self,
        victim: &Victim,
        goal: Goal,
        budget: &Budget,
        start: &Tensor,
        lengths: impl Iterator<Item = f64>,
    ) -> Result<(Tensor, Tensor)> {
        let key = Key::of(goal, budget, start);
        let mut kept = self.kept.borrow_mut();
        // Batches are of one size but for the last.
        kept.retain(|other| other.key.images == key.images);
        let at = match kept.iter().position(|other| other.key == key) {
            Some(at) => at,
            None => {
                kept.push(Loop::new(key, victim.clean())?);
                kept.len() - 1
            }
        };
        let found = kept[at].ascend(self.vae, victim, budget.epsilon, start, lengths);
        if found.is_err() {
            // What it holds, no one knows.
            kept.remove(at);
        }
        found
    }
}

/// What a captured step has in it for good.
#[derive(Clone, Debug, PartialEq)]
struct Key {
    images: (Vec<i64>, Kind, Device),
    goal: Goal,
    norm: Norm,
    pixels: Option<(f64, f64)>,
}

impl Key {
    fn of(goal: Goal, budget: &Budget, x: &Tensor) -> Self {
        Self { images: (x.size(), x.kind(), x.device()), goal, norm: budget.norm, pixels: budget.pixels }
    }
}

/// An ascent on buffers that stay where they are.
struct Loop {
    key: Key,
    step: Replay,
    held: Buffers,
    folding: Folding,
}

/// What a step reads and leaves.
struct Buffers {
    /// What the model makes of the clean images.
    clean: Reading,
    /// The iterate, [B, C, H, W].
    x: Tensor,
    /// The best one, [B, C, H, W], and its damage, `[B]` f64: NaN before the first, which any number beats.
    best: Tensor,
    damage: Tensor,
    /// `[B]` bool: a gradient was 0 or not a number.
    stalled: Tensor,
    /// Of the next step and of the ball's radius, `[2]` f64.
    lengths: Tensor,
}

impl Loop {
    fn new(key: Key, clean: &Reading) -> Result<Self> {
        let folding = Folding::of(&clean.images);
        Ok(Self { step: Replay::new(clean.images.device()), held: Buffers::like(clean)?, key, folding })
    }

    fn ascend(
        &mut self,
        vae: &dyn Vae,
        victim: &Victim,
        radius: f64,
        start: &Tensor,
        lengths: impl Iterator<Item = f64>,
    ) -> Result<(Tensor, Tensor)> {
        let Self { key, step, held, folding } = self;
        held.begin(victim.clean(), start, radius)?;
        for length in lengths {
            crate::event::ensure_wanted()?;
            let _ = held.lengths.f_narrow(0, 0, 1)?.f_fill_(length)?;
            step.run(|| held.advance(vae, key, folding))?;
        }
        if let Some(reason) = step.refusal() {
            victim.refused(reason);
        }
        let value = key.goal.value_at(vae, &held.clean, &held.x)?;
        keep_best(&mut held.best.shallow_clone(), &mut held.damage.shallow_clone(), &held.x, &value)?;
        Ok((held.best.f_detach_copy()?, held.stalled.f_detach_copy()?))
    }
}

impl Buffers {
    fn like(clean: &Reading) -> Result<Self> {
        let like = |t: &Tensor| -> Result<Tensor> { Ok(Tensor::f_empty(t.size(), (t.kind(), t.device()))?) };
        let Reading { images, posterior, reconstruction } = clean;
        let (batch, device) = (images.size()[0], images.device());
        let posterior = Posterior { mean: like(&posterior.mean)?, log_var: like(&posterior.log_var)? };
        Ok(Self {
            clean: Reading { images: like(images)?, posterior, reconstruction: like(reconstruction)? },
            x: like(images)?,
            best: like(images)?,
            damage: Tensor::f_empty([batch], (Kind::Double, device))?,
            stalled: Tensor::f_empty([batch], (Kind::Bool, device))?,
            lengths: Tensor::f_empty([2], (Kind::Double, device))?,
        })
    }

    /// Takes over a batch.
    fn begin(&self, clean: &Reading, start: &Tensor, radius: f64) -> Result<()> {
        let pairs = [
            (&self.clean.images, &clean.images),
            (&self.clean.posterior.mean, &clean.posterior.mean),
            (&self.clean.posterior.log_var, &clean.posterior.log_var),
            (&self.clean.reconstruction, &clean.reconstruction),
            (&self.x, start),
            (&self.best, start),
        ];
        pairs.into_iter().try_for_each(|(to, from)| to.shallow_clone().f_copy_(from))?;
        let _ = self.damage.shallow_clone().f_fill_(f64::NAN)?;
        let _ = self.stalled.shallow_clone().f_zero_()?;
        let _ = self.lengths.f_narrow(0, 1, 1)?.f_fill_(radius)?;
        Ok(())
    }

    /// One step, in place; allowed in a graph.
    fn advance(&self, vae: &dyn Vae, key: &Key, folding: &Folding) -> Result<()> {
        let (value, gradient) = key.goal.ascend_at(vae, &self.clean, &self.x, folding)?;
        // Its radius is among the lengths.
        let budget = Budget { norm: key.norm, epsilon: f64::NAN, pixels: key.pixels };
        let stand = Stand {
            x: &mut self.x.shallow_clone(),
            best: &mut self.best.shallow_clone(),
            damage: &mut self.damage.shallow_clone(),
            stalled: &mut self.stalled.shallow_clone(),
        };
        budget.advance(stand, &self.clean.images, &gradient, &value, &self.lengths)
    }
}
