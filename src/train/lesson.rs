//! One pass over the data of S models that are trained together: their batches, noise, mixup, Adam's steps and losses.
//!
//! Each model has the order, the noise and the mixes of its own seed; models with one seed share the draws.

use super::feed::{self, Feed, Noise, Pass};
use super::history::{Epoch, Valid};
use super::loss::{Mixing, loss};
use super::mixup::{Mix, Mixes, MixupSpec};
use super::run::Run;
use super::spec::TrainSpec;
use super::state::Adam;
use super::times::Times;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::ffi::Replay;
use crate::ffi::adam::{AdamStep, changed, lr_kind};
use crate::model::{Phase, Stack};
use crate::ops::Reduce;
use crate::seed::Stage;
use std::ops::Range;
use tch::{Device, Kind, Tensor};

/// Replaces the epoch in the keys of the validation's noise, which is the same in every epoch.
const VALIDATION: u32 = u32::MAX;
/// Most samples in a validation step.
const VALIDATION_BATCH: usize = 512;
/// Steps between two checks of the loss: a check makes a GPU wait.
const LOOK_EVERY: usize = 50;
/// Adam's term in the denominator.
const ADAM_EPS: f64 = 1e-8;

/// The models and their training settings. Models with mixup come first.
pub(super) struct Lesson<'a, 'r> {
    pub(super) stack: &'a Stack,
    pub(super) adam: &'a Adam,
    pub(super) runs: &'a [&'a Run<'r>],
    pub(super) steps: &'a [Range<usize>],
    pub(super) batch: usize,
}

/// The buffers of steps on whole batches, kept from epoch to epoch, so that a step is captured only once.
#[derive(Default)]
pub(super) struct Bench(Option<Kept>);

struct Kept {
    buffers: Inputs,
    /// Losses of the epoch so far, times samples, [S, 4] f64.
    sums: Tensor,
    step: Replay,
}

impl Bench {
    /// Clears it for another epoch of batches such as `first`.
    fn cleared(&mut self, first: &Inputs, (device, models): (Device, i64)) -> Result<&mut Kept> {
        let kept = match self.0.take() {
            Some(kept) => kept,
            None => Kept {
                buffers: Inputs::empty(first)?,
                sums: Tensor::f_empty([models, 4], (Kind::Double, device))?,
                step: Replay::new(device),
            },
        };
        let _ = kept.sums.shallow_clone().f_zero_()?;
        Ok(self.0.insert(kept))
    }
}

/// The draws from one seed in an epoch.
struct Draws<'a> {
    pass: Pass<'a>,
    noise: Noise<'a>,
    mixed_noise: Noise<'a>,
}

impl Lesson<'_, '_> {
    /// One pass over the training data; the caller sets `valid` and `seconds`.
    ///
    /// # Errors
    /// Inner: of a model whose loss is not a number. Outer: what stops all models.
    pub(super) fn epoch(
        &self,
        feed: &Feed,
        epoch: u32,
        bench: &mut Bench,
        times: &mut Times,
    ) -> Result<Vec<Result<Epoch>>> {
        let (device, kind) = self.place()?;
        let (seeds, which) = self.seeds();
        let orders: Vec<Vec<u64>> = seeds.iter().map(|&seed| feed::order(seed, epoch, feed.len())).collect();
        let mut draws = Vec::with_capacity(seeds.len());
        for (&seed, order) in seeds.iter().zip(&orders) {
            let noise = |stage| self.noise(seed, stage, epoch, order, (device, kind));
            let (noise, mixed_noise) = (noise(Stage::Reparameterize), noise(Stage::Mixup));
            draws.push(Draws { pass: feed.pass(order, self.batch)?, noise, mixed_noise });
        }
        let spec = &self.runs[0].spec;
        let mixed = self.runs.iter().filter(|run| run.spec.mixup.is_on()).count();
        let params = self.stack.trained();
        for p in &params {
            let _ = p.f_set_requires_grad(true)?;
        }
        let (per_epoch, all) = (self.steps.len() as u64, u64::from(spec.epochs) * self.steps.len() as u64);
        let step_of = |i: usize| u64::from(epoch) * per_epoch + i as u64;
        let mut inputs = |i: usize, range: &Range<usize>| -> Result<Inputs> {
            let mixing = if mixed > 0 {
                let mixes = self.mixes(mixed, u64::from(epoch) << 32 | i as u64, range.len(), (device, kind))?;
                let noise = spread(&which[..mixed], |u| draws[u].mixed_noise.rows(range.clone()))?;
                Some(Mixed { strength: self.strengths(mixed, (device, kind))?, mixes, noise })
            } else {
                None
            };
            Ok(Inputs {
                x: spread(&which, |u| draws[u].pass.images(range.clone()))?,
                noise: spread(&which, |u| draws[u].noise.rows(range.clone()))?,
                beta: self.betas(step_of(i), (device, kind))?,
                lr: Tensor::f_full([1i64; 0], spec.lr_at(step_of(i), all), (lr_kind(device), device))?,
                mixing,
            })
        };
        let mut failures: Vec<Option<Error>> = self.runs.iter().map(|_| None).collect();
        // Whole batches use fixed buffers; a last batch that is shorter or longer does not.
        let whole = self.steps.first().map_or(0, Range::len);
        let first = times.draw.of(|| inputs(0, &self.steps[0]))?;
        let Kept { buffers, sums, step } = bench.cleared(&first, (device, self.stack.models()))?;
        let mut first = Some(first);
        for (i, range) in self.steps.iter().enumerate() {
            self.runs.iter().try_for_each(|run| run.member.observer.check())?;
            let drawn = first.take().map_or_else(|| times.draw.of(|| inputs(i, range)), Ok)?;
            times.step.of(|| {
                if range.len() != whole {
                    return self.step(&params, &drawn, sums, spec);
                }
                buffers.load(&drawn)?;
                step.run(|| self.step(&params, buffers, sums, spec))?;
                // The replay of a captured step changes them unseen.
                changed(&params)
            })?;
            if (i + 1) % LOOK_EVERY == 0 || i + 1 == self.steps.len() {
                times.look.of(|| self.look(sums, epoch, i, &mut failures))?;
                if failures.iter().all(Option::is_some) {
                    break;
                }
            }
            self.runs.iter().for_each(|run| run.member.observer.on(Event::Advance(1)));
        }

        if let (0, Some(reason)) = (epoch, step.refusal()) {
            let text = format!("training steps run one kernel after another, not as a CUDA graph: {reason}");
            self.runs[0].member.observer.on(Event::Detail(&text));
        }
        let last = step_of(self.steps.len() - 1);
        let entry = |(run, [loss, reconstruction, kl, mixup]): (&&Run<'_>, [f64; 4])| {
            let (lr, beta) = (spec.lr_at(last, all), run.spec.beta_at(last, per_epoch));
            Epoch { epoch: epoch + 1, beta, lr, loss, reconstruction, kl, mixup, valid: None, seconds: 0.0 }
        };
        let entries = self.runs.iter().zip(host(&sums.f_div_scalar(feed.len() as f64)?)?).map(entry);
        Ok(failures.into_iter().zip(entries).map(|(failure, entry)| failure.map_or(Ok(entry), Err)).collect())
    }

    /// Losses of the validation data, with running statistics and the same noise in every epoch.
    pub(super) fn validate(&self, feed: &Feed) -> Result<Vec<Valid>> {
        let ((device, kind), n) = (self.place()?, feed.len());
        let (seeds, which) = self.seeds();
        let order: Vec<u64> = (0..n as u64).collect();
        let noise = |&seed: &u64| self.noise(seed, Stage::Reparameterize, VALIDATION, &order, (device, kind));
        let mut noises: Vec<Noise<'_>> = seeds.iter().map(noise).collect();
        let beta = Tensor::f_ones([self.stack.models()], (kind, device))?;
        let mut sums = Tensor::f_zeros([self.stack.models(), 4], (Kind::Double, device))?;
        let _no_grad = tch::no_grad_guard();
        let batch = self.validation_batch();
        let mut pass = feed.pass(&order, batch)?;
        let shared = vec![0; self.runs.len()];
        for range in feed::steps(n, batch, 1) {
            self.runs.iter().try_for_each(|run| run.member.observer.check())?;
            let x = spread(&shared, |_| pass.images(range.clone()))?;
            let eps = spread(&which, |u| noises[u].rows(range.clone()))?;
            let loss = loss(self.stack, &x, &eps, &beta, None, Phase::Eval)?;
            sums = sums.f_add(&loss.parts()?.f_mul_scalar(range.len() as f64)?)?;
        }
        let valid = |[_, reconstruction, kl, _]: [f64; 4]| Valid { elbo: -reconstruction - kl, reconstruction, kl };
        Ok(host(&sums.f_div_scalar(n as f64)?)?.into_iter().map(valid).collect())
    }

    /// Samples in a validation step. The number of models that are trained together is what fits the memory in a training step, so with
    /// several models a validation step is no larger.
    fn validation_batch(&self) -> usize {
        if self.runs.len() > 1 { VALIDATION_BATCH.min(self.batch) } else { VALIDATION_BATCH }
    }

    fn place(&self) -> Result<(Device, Kind)> {
        let network = &self.runs[0].member.network;
        Ok((network.device(), network.kind()))
    }

    /// The distinct seeds, and for each model the position of its seed.
    fn seeds(&self) -> (Vec<u64>, Vec<usize>) {
        let mut seeds: Vec<u64> = self.runs.iter().map(|run| run.member.seed).collect();
        seeds.sort_unstable();
        seeds.dedup();
        let which = self.runs.iter().map(|run| seeds.partition_point(|&seed| seed < run.member.seed)).collect();
        (seeds, which)
    }

    fn noise<'a>(
        &self,
        seed: u64,
        stage: Stage,
        epoch: u32,
        order: &'a [u64],
        (device, kind): (Device, Kind),
    ) -> Noise<'a> {
        Noise::new(seed, stage, epoch, order, self.stack.architecture().latent() as usize, device, kind)
    }

    /// Weights of the KL terms in a step, \[S\].
    fn betas(&self, step: u64, place: (Device, Kind)) -> Result<Tensor> {
        let per_epoch = self.steps.len() as u64;
        uploaded(&self.runs.iter().map(|run| run.spec.beta_at(step, per_epoch)).collect::<Vec<_>>(), place)
    }

    /// How images and latents of the first models are mixed; `key` is epoch << 32 | step.
    fn mixes(&self, models: usize, key: u64, batch: usize, (device, kind): (Device, Kind)) -> Result<(Mixes, Mixes)> {
        let mut drawn: Vec<(MixupSpec, u64, (Mix, Mix))> = Vec::new();
        let mut which = Vec::with_capacity(models);
        for run in &self.runs[..models] {
            let (spec, seed) = (MixupSpec { strength: 1.0, ..run.spec.mixup }, run.member.seed);
            let place = drawn.iter().position(|(other, its, _)| *other == spec && *its == seed);
            which.push(place.unwrap_or(drawn.len()));
            if place.is_none() {
                drawn.push((spec, seed, Mix::draw(&spec, seed, key, batch)?));
            }
        }
        let of = |side: fn(&(Mix, Mix)) -> &Mix| {
            let mixes: Vec<&Mix> = which.iter().map(|&i| side(&drawn[i].2)).collect();
            Mixes::of(&mixes, device, kind)
        };
        Ok((of(|pair| &pair.0)?, of(|pair| &pair.1)?))
    }

    /// The strengths of mixup for the first models.
    fn strengths(&self, models: usize, place: (Device, Kind)) -> Result<Tensor> {
        uploaded(&self.runs[..models].iter().map(|run| run.spec.mixup.strength).collect::<Vec<_>>(), place)
    }

    /// One step of each model on a batch; adds its losses, times samples, to `sums` [S, 4]. Never waits for the device.
    fn step(&self, params: &[Tensor], inputs: &Inputs, sums: &Tensor, spec: &TrainSpec) -> Result<()> {
        let Inputs { x, noise, beta, lr, mixing } = inputs;
        let mixing = mixing.as_ref().map(|m| Mixing { strength: &m.strength, mixes: &m.mixes, noise: &m.noise });
        let loss = loss(self.stack, x, noise, beta, mixing.as_ref(), Phase::Train)?;
        self.descend(params, &loss.total, spec, lr)?;
        let _ = sums.shallow_clone().f_add_(&loss.parts()?.f_mul_scalar(x.size()[1] as f64)?)?;
        Ok(())
    }

    /// One step of each model down the gradient of its own loss; `losses` is \[S\].
    fn descend(&self, params: &[Tensor], losses: &Tensor, spec: &TrainSpec, lr: &Tensor) -> Result<()> {
        // No loss depends on another model's parameters, so the gradient of the sum contains each model's own gradient.
        let mut grads = Tensor::f_run_backward(&[losses.f_sum(None)?], params, false, false)?;
        for g in &mut grads {
            // The gradient of a stack's last weight is transposed, and the fused step needs contiguous memory.
            *g = g.f_contiguous()?;
        }
        if let Some(longest) = spec.grad_clip {
            clip(&mut grads, longest)?;
        }
        let TrainSpec { beta1, beta2, weight_decay, .. } = *spec;
        self.adam.step(params, &grads, lr, AdamStep { beta1, beta2, weight_decay, eps: ADAM_EPS })
    }

    /// Notes the models whose loss is no longer a number.
    fn look(&self, sums: &Tensor, epoch: u32, step: usize, failures: &mut [Option<Error>]) -> Result<()> {
        for (failure, sums) in failures.iter_mut().zip(host(sums)?) {
            if failure.is_none() && !sums.iter().all(|x| x.is_finite()) {
                *failure = Some(Error::Numeric {
                    part: "training",
                    message: format!(
                        "expected a finite loss, found {} in epoch {}, by step {} of {}: a lower train.lr or train.grad_clip helps",
                        sums[0],
                        epoch + 1,
                        step + 1,
                        self.steps.len()
                    ),
                });
            }
        }
        Ok(())
    }
}

/// The inputs of a step.
struct Inputs {
    /// [S, B, C, H, W]
    x: Tensor,
    /// [S, B, L]
    noise: Tensor,
    /// \[S\]
    beta: Tensor,
    /// One number, see [`lr_kind`].
    lr: Tensor,
    mixing: Option<Mixed>,
}

/// The inputs of mixup, for the first M models.
struct Mixed {
    /// \[M\]
    strength: Tensor,
    mixes: (Mixes, Mixes),
    /// [M, B, L]
    noise: Tensor,
}

impl Inputs {
    /// Buffers for the inputs of steps of the same batch size.
    fn empty(like: &Self) -> Result<Self> {
        let mixing = match &like.mixing {
            Some(m) => Some(Mixed {
                strength: room(&m.strength)?,
                mixes: (m.mixes.0.empty()?, m.mixes.1.empty()?),
                noise: room(&m.noise)?,
            }),
            None => None,
        };
        let Self { x, noise, beta, lr, .. } = like;
        Ok(Self { x: room(x)?, noise: room(noise)?, beta: room(beta)?, lr: room(lr)?, mixing })
    }

    /// Copies another value's numbers, in place.
    fn load(&self, from: &Self) -> Result<()> {
        let pairs = [(&self.x, &from.x), (&self.noise, &from.noise), (&self.beta, &from.beta), (&self.lr, &from.lr)];
        pairs.into_iter().try_for_each(|(to, from)| fill(to, from))?;
        if let (Some(to), Some(from)) = (&self.mixing, &from.mixing) {
            fill(&to.strength, &from.strength)?;
            fill(&to.noise, &from.noise)?;
            to.mixes.0.load(&from.mixes.0)?;
            to.mixes.1.load(&from.mixes.1)?;
        }
        Ok(())
    }
}

/// A tensor of the same shape, kind and device with its own memory; one copy for all models if they share the values.
fn room(like: &Tensor) -> Result<Tensor> {
    let mut size = like.size();
    if is_shared(like) {
        size[0] = 1;
    }
    Ok(Tensor::f_empty(&size, (like.f_kind()?, like.device()))?.f_expand(like.size(), false)?)
}

/// Copies `from` into a tensor that [`room`] made for tensors like it.
fn fill(to: &Tensor, from: &Tensor) -> Result<()> {
    match (is_shared(to), is_shared(from)) {
        (false, _) => to.shallow_clone().f_copy_(from)?,
        (true, true) => to.f_narrow(0, 0, 1)?.f_copy_(&from.f_narrow(0, 0, 1)?)?,
        (true, false) => {
            return Err(Error::internal("training", "models that shared their images no longer do"));
        }
    }
    Ok(())
}

/// True if all of several models have the same memory.
fn is_shared(t: &Tensor) -> bool {
    t.size().first().is_some_and(|models| *models > 1) && t.stride().first() == Some(&0)
}

/// Numbers on a device, without waiting for it: libtorch has copied them when the call returns.
fn uploaded(numbers: &[f64], (device, kind): (Device, Kind)) -> Result<Tensor> {
    Ok(Tensor::f_from_slice(numbers)?.f_to_device_(device, kind, true, false)?)
}

/// The draws for each model's seed, [S, ...]: one draw for each seed, and no copy if all models have the same seed.
fn spread(which: &[usize], mut draw: impl FnMut(usize) -> Result<Tensor>) -> Result<Tensor> {
    let mut drawn: Vec<(usize, Tensor)> = Vec::with_capacity(1);
    for &u in which {
        if drawn.iter().all(|(known, _)| *known != u) {
            drawn.push((u, draw(u)?));
        }
    }
    if let [(_, only)] = &drawn[..] {
        let mut shape = only.size();
        shape.insert(0, which.len() as i64);
        return Ok(only.f_unsqueeze(0)?.f_expand(shape, false)?);
    }
    let of = |u: &usize| drawn.iter().find(|(known, _)| known == u).map(|(_, tensor)| tensor);
    Ok(Tensor::f_stack(&which.iter().filter_map(of).collect::<Vec<_>>(), 0)?)
}

/// [S, 4] f64 on the host.
fn host(tensor: &Tensor) -> Result<Vec<[f64; 4]>> {
    let mut numbers = vec![0f64; tensor.numel()];
    tensor.f_to_device(Device::Cpu)?.f_contiguous()?.f_copy_data(&mut numbers, tensor.numel())?;
    Ok(numbers.as_chunks::<4>().0.to_vec())
}

/// Scales each model's gradients, [S, ...], down to a common L2 norm of at most `longest`, as
/// `torch.nn.utils.clip_grad_norm_` does.
fn clip(grads: &mut [Tensor], longest: f64) -> Result<()> {
    let _no_grad = tch::no_grad_guard();
    let mut squares = Vec::with_capacity(grads.len());
    for g in grads.iter() {
        squares.push(g.f_square()?.f_flatten(1, -1)?.sum_over([1])?);
    }
    let norm = Tensor::f_stack(&squares, 0)?.sum_alike([0])?.f_sqrt()?;
    let factor = norm.f_add_scalar(1e-6)?.f_reciprocal()?.f_mul_scalar(longest)?.f_clamp_max(1.0)?;
    for g in grads {
        let mut shape = vec![1; g.dim()];
        shape[0] = -1;
        *g = g.f_mul(&factor.f_to_kind(g.f_kind()?)?.f_reshape(shape)?)?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_models_share_is_held_and_copied_once() {
        let place = (Kind::Float, Device::Cpu);
        let drawn = |seed: i64| Ok(Tensor::arange(6, place).view([3, 2]) + seed);
        let (shared, own) = (spread(&[4; 50], |_| drawn(1)).unwrap(), spread(&[0, 1], |u| drawn(u as i64)).unwrap());
        let (for_shared, for_own) = (room(&shared).unwrap(), room(&own).unwrap());
        assert_eq!((for_shared.size(), for_shared.stride()[0]), (vec![50, 3, 2], 0));
        assert_eq!((for_own.size(), for_own.stride()), (vec![2, 3, 2], vec![6, 2, 1]));
        fill(&for_shared, &shared).unwrap();
        fill(&for_own, &own).unwrap();
        assert!(for_shared.equal(&shared) && for_own.equal(&own));
        assert!(fill(&for_shared, &shared.contiguous()).is_err());
        // One model shares with nobody; a number has no models.
        assert!(!is_shared(&spread(&[0], drawn_once).unwrap()) && !is_shared(&Tensor::from(1.0)));
    }

    fn drawn_once(_: usize) -> Result<Tensor> {
        Ok(Tensor::zeros([3, 2], (Kind::Float, Device::Cpu)))
    }
}
