//! The loops of iterative attacks: their buffers and, on CUDA, their captured graphs, which are kept from batch to batch.

use super::aim::Aim;
use super::goal::Folding;
use super::step::{Landing, keep_best, vanishes};
use super::{Budget, Goal, Norm, Passes, Victim};
use crate::error::{Error, Result};
use crate::ffi::Replay;
use crate::ffi::step::Iterate;
use crate::metric::MetricKind;
use crate::model::shift::Reading;
use crate::model::{Posterior, Vae};
use crate::spectrum::{Spectra, SpectrumSpec, Wanted};
use std::cell::RefCell;
use tch::{Device, Kind, Tensor};

/// What the attacks on one model keep between batches, epsilons and restarts: one step is captured for all that differ only in numbers.
pub struct Loops<'a> {
    vae: &'a dyn Vae,
    kept: RefCell<Vec<Loop>>,
    /// How leading eigenvectors at iterates are found.
    spec: SpectrumSpec,
    /// The solvers that find the leading eigenvectors at iterates, one for each metric.
    spectra: RefCell<Vec<(MetricKind, Spectra)>>,
}

impl<'a> Loops<'a> {
    /// An empty store of loops for the model `vae`.
    pub fn on(vae: &'a dyn Vae) -> Self {
        Self { vae, kept: RefCell::default(), spec: SpectrumSpec::default(), spectra: RefCell::default() }
    }

    /// The same, where the leading eigenvectors at iterates are found as `spec` says; by default as the model's sizes suggest.
    pub fn finding(self, spec: &SpectrumSpec) -> Self {
        Self { spec: spec.clone(), ..self }
    }

    /// The model.
    pub fn vae(&self) -> &'a dyn Vae {
        self.vae
    }

    /// The leading eigenvector of `metric` at each of `images` [B, C, H, W], [B, 1, D], and the passes that this took; `index` holds their
    /// positions, from which probes are drawn.
    pub(super) fn leading(
        &self,
        metric: MetricKind,
        images: &Tensor,
        index: &[u64],
        seed: u64,
    ) -> Result<(Tensor, Passes)> {
        let mut kept = self.spectra.borrow_mut();
        let at = match kept.iter().position(|(kind, _)| *kind == metric) {
            Some(at) => at,
            None => {
                let wanted = Wanted { spec: self.spec.clone(), top: 1, pairs: Some(1), seed, ..Wanted::default() };
                kept.push((metric, Spectra::wanted(self.vae, images, metric, &wanted)?));
                kept.len() - 1
            }
        };
        let found = kept[at].1.find(self.vae, images, index)?;
        let (forward, backward) = found.passes();
        let spectrum = found.into_spectrum();
        // A stop leaves the passes that are finished, and this step needs all.
        if spectrum.values.size()[0] < images.size()[0] {
            return Err(Error::Interrupted);
        }
        let lacking = || Error::internal("attack::loops", "a spectrum without directions");
        Ok((spectrum.directions.ok_or_else(lacking)?, Passes { forward, backward }))
    }

    /// Ascends a goal within the budget from `start` [S B, C, H, W], S starts of the B samples one after the other, by steps of these
    /// lengths. With `finish`, the iterate after the last step is judged as well.
    pub(super) fn ascend(
        &self,
        victim: &Victim,
        ascent: Ascent,
        budget: &Budget,
        start: &Tensor,
        lengths: &[f64],
        finish: bool,
    ) -> Result<Reached> {
        let key = Key::of(ascent, victim, budget, start);
        let mut kept = self.kept.borrow_mut();
        // All batches have one size, except the last.
        kept.retain(|other| other.key.samples == key.samples);
        let at = match kept.iter().position(|other| other.key == key) {
            Some(at) => at,
            None => {
                kept.push(Loop::new(key, victim.aim().reference)?);
                kept.len() - 1
            }
        };
        let found = kept[at].ascend(self.vae, victim, budget.epsilon, start, lengths, finish);
        if found.is_err() {
            // The contents of the new buffer are undefined.
            kept.remove(at);
        }
        found
    }
}

/// How an ascent moves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ascent {
    pub goal: Goal,
    pub landing: Landing,
    /// The share of the previous steps' direction that is kept; 0 for none.
    pub momentum: f64,
}

/// The result of an ascent of R rows.
pub(super) struct Reached {
    /// The best iterates, [R, C, H, W], and their damage, `[R]` f64.
    pub best: Tensor,
    pub damage: Tensor,
    /// The iterates after the last step, [R, C, H, W].
    pub last: Tensor,
    /// `[R]` bool: a gradient was 0 or not a number.
    pub stalled: Tensor,
    /// The best damage of each row after each evaluation of the goal, [T, R] f64.
    pub trace: Tensor,
}

impl Reached {
    /// The results split by start, one for each of `starts`.
    pub(super) fn by_start(&self, starts: i64) -> Result<Vec<Self>> {
        let split = |t: &Tensor| -> Result<Vec<Tensor>> { Ok(t.f_chunk(starts, 0)?) };
        let (best, damage, last, stalled) =
            (split(&self.best)?, split(&self.damage)?, split(&self.last)?, split(&self.stalled)?);
        let traces = self.trace.f_chunk(starts, 1)?;
        let parts = best.into_iter().zip(damage).zip(last.into_iter().zip(stalled)).zip(traces);
        let part = |(((best, damage), (last, stalled)), trace)| Self { best, damage, last, stalled, trace };
        Ok(parts.map(part).collect())
    }
}

/// What is fixed in a captured step.
#[derive(Clone, Debug, PartialEq)]
struct Key {
    samples: i64,
    images: (Vec<i64>, Kind, Device),
    ascent: Ascent,
    towards: bool,
    /// Draws of the code; 0 if it is mu.
    draws: i64,
    norm: Norm,
    pixels: Option<(f64, f64)>,
}

impl Key {
    fn of(ascent: Ascent, victim: &Victim, budget: &Budget, x: &Tensor) -> Self {
        Self {
            samples: victim.images().size()[0],
            images: (x.size(), x.kind(), x.device()),
            ascent,
            towards: victim.aim().towards,
            draws: victim.aim().draws.map_or(0, |draws| draws.size()[0]),
            norm: budget.norm,
            pixels: budget.pixels,
        }
    }
}

/// The loop of one attack over batches of one shape.
struct Loop {
    key: Key,
    step: Replay,
    held: Buffers,
    folding: Folding,
}

/// What a step reads and writes; every tensor has R rows.
struct Buffers {
    /// The clean images, [R, C, H, W].
    origin: Tensor,
    /// What the model computes for the aim's images.
    reference: Reading,
    /// Noise of the draws of the code, [N, R, L], if it is drawn.
    draws: Option<Tensor>,
    /// The iterate, [R, C, H, W].
    x: Tensor,
    /// The best iterates, [R, C, H, W], and their damage, `[R]` f64. The damage is NaN at first; any number is larger.
    best: Tensor,
    damage: Tensor,
    /// The direction of the steps so far, [R, C, H, W], if there is momentum.
    velocity: Option<Tensor>,
    /// `[R]` bool: a gradient was 0 or not a number.
    stalled: Tensor,
    /// The length of the next step and the ball's radius, `[2]` f64.
    lengths: Tensor,
}

impl Loop {
    fn new(key: Key, reference: &Reading) -> Result<Self> {
        let (_, _, device) = key.images;
        Ok(Self { step: Replay::new(device), held: Buffers::new(&key, reference)?, folding: Folding::on(device), key })
    }

    fn ascend(
        &mut self,
        vae: &dyn Vae,
        victim: &Victim,
        radius: f64,
        start: &Tensor,
        lengths: &[f64],
        finish: bool,
    ) -> Result<Reached> {
        let Self { key, step, held, folding } = self;
        held.begin(victim, start, radius)?;
        let looks = lengths.len() + usize::from(finish);
        let trace = Tensor::f_empty([looks as i64, start.size()[0]], (Kind::Double, start.device()))?;
        let mut next = held.lengths.f_narrow(0, 0, 1)?;
        for (t, length) in lengths.iter().enumerate() {
            crate::event::ensure_wanted()?;
            let _ = next.f_fill_(*length)?;
            step.run(|| held.take_step(vae, key, folding))?;
            trace.f_get(t as i64)?.f_copy_(&held.damage)?;
        }
        let draws = key.ascent.goal.draws(victim.aim());
        victim.passes().note(start, draws * lengths.len(), draws * lengths.len());
        if let Some(reason) = step.refusal() {
            victim.refused(reason);
        }
        if finish {
            let aim = held.aim(key);
            let value = key.ascent.goal.value_at(vae, aim, &held.x)?;
            victim.passes().note(start, draws, 0);
            keep_best(&mut held.best.shallow_clone(), &mut held.damage.shallow_clone(), &held.x, &value)?;
            trace.f_get(lengths.len() as i64)?.f_copy_(&held.damage)?;
        }
        Ok(Reached {
            best: held.best.f_detach_copy()?,
            damage: held.damage.f_detach_copy()?,
            last: held.x.f_detach_copy()?,
            stalled: held.stalled.f_detach_copy()?,
            trace,
        })
    }
}

impl Buffers {
    fn new(key: &Key, reference: &Reading) -> Result<Self> {
        let (size, kind, device) = &key.images;
        let rows = size[0];
        let many = |t: &Tensor| -> Result<Tensor> {
            let mut size = t.size();
            size[0] = rows;
            Ok(Tensor::f_empty(size, (t.kind(), t.device()))?)
        };
        let images = || -> Result<Tensor> { Ok(Tensor::f_empty(size.as_slice(), (*kind, *device))?) };
        let Reading { images: aimed_at, posterior, reconstruction, features } = reference;
        let posterior = Posterior { mean: many(&posterior.mean)?, log_var: many(&posterior.log_var)? };
        let noise = [key.draws, rows, posterior.mean.size()[1]];
        let draws = match key.draws {
            0 => None,
            _ => Some(Tensor::f_empty(noise, (posterior.mean.kind(), *device))?),
        };
        let features = features.iter().map(many).collect::<Result<_>>()?;
        Ok(Self {
            draws,
            origin: images()?,
            reference: Reading { images: many(aimed_at)?, posterior, reconstruction: many(reconstruction)?, features },
            x: images()?,
            best: images()?,
            damage: Tensor::f_empty([rows], (Kind::Double, *device))?,
            velocity: if key.ascent.momentum > 0.0 { Some(images()?) } else { None },
            stalled: Tensor::f_empty([rows], (Kind::Bool, *device))?,
            lengths: Tensor::f_empty([2], (Kind::Double, *device))?,
        })
    }

    fn aim(&self, key: &Key) -> Aim<'_> {
        Aim { reference: &self.reference, towards: key.towards, draws: self.draws.as_ref() }
    }

    /// Copies a batch into the buffers.
    fn begin(&self, victim: &Victim, start: &Tensor, radius: f64) -> Result<()> {
        let reference = victim.aim().reference;
        let starts = start.size()[0] / victim.images().size()[0].max(1);
        // All starts have the samples in the same order.
        let fill = |to: &Tensor, from: &Tensor| -> Result<()> {
            let mut size = from.size();
            size.insert(0, starts);
            to.f_view(size.as_slice())?.f_copy_(from)?;
            Ok(())
        };
        fill(&self.origin, victim.images())?;
        fill(&self.reference.images, &reference.images)?;
        fill(&self.reference.posterior.mean, &reference.posterior.mean)?;
        fill(&self.reference.posterior.log_var, &reference.posterior.log_var)?;
        fill(&self.reference.reconstruction, &reference.reconstruction)?;
        if let (Some(to), Some(from)) = (&self.draws, victim.aim().draws) {
            let (count, samples, latents) = from.size3()?;
            to.f_view([count, starts, samples, latents])?.f_copy_(&from.f_unsqueeze(1)?)?;
        }
        for (to, from) in self.reference.features.iter().zip(&reference.features) {
            fill(to, from)?;
        }
        for to in [&self.x, &self.best] {
            to.shallow_clone().f_copy_(start)?;
        }
        if let Some(velocity) = &self.velocity {
            let _ = velocity.shallow_clone().f_zero_()?;
        }
        let _ = self.damage.shallow_clone().f_fill_(f64::NAN)?;
        let _ = self.stalled.shallow_clone().f_zero_()?;
        let _ = self.lengths.f_narrow(0, 1, 1)?.f_fill_(radius)?;
        Ok(())
    }

    /// One step, in place; it can run inside a graph.
    fn take_step(&self, vae: &dyn Vae, key: &Key, folding: &Folding) -> Result<()> {
        let aim = self.aim(key);
        let (value, gradient) = key.ascent.goal.value_and_gradient_at(vae, aim, &self.x, folding)?;
        let gradient = match &self.velocity {
            Some(velocity) => {
                let _ = self.stalled.shallow_clone().f_logical_or_(&vanishes(&gradient)?)?;
                accelerated(velocity, &gradient, key.ascent.momentum)?
            }
            None => gradient,
        };
        // The radius is one of the lengths.
        let budget = Budget { norm: key.norm, epsilon: f64::NAN, pixels: key.pixels };
        let iterate = Iterate {
            x: &mut self.x.shallow_clone(),
            best: &mut self.best.shallow_clone(),
            damage: &mut self.damage.shallow_clone(),
            stalled: &mut self.stalled.shallow_clone(),
        };
        budget.take_step(iterate, &self.origin, &gradient, &value, &self.lengths, key.ascent.landing)
    }
}

/// The velocity, in place: `momentum` times its old value, plus the gradient divided by the mean of its absolute values.
///
/// Source: Dong et al. 2018, algorithm 1. A gradient that is 0 or not a number adds nothing.
fn accelerated(velocity: &Tensor, gradient: &Tensor, momentum: f64) -> Result<Tensor> {
    let mean = gradient.f_flatten(1, -1)?.f_abs()?.f_mean_dim([1i64].as_slice(), false, gradient.kind())?;
    let mut size = vec![1; gradient.dim()];
    size[0] = -1;
    let unit = gradient.f_div(&mean.f_view(size.as_slice())?)?.f_nan_to_num(0.0, 0.0, 0.0)?;
    let _ = velocity.shallow_clone().f_mul_scalar_(momentum)?.f_add_(&unit)?;
    Ok(velocity.shallow_clone())
}
