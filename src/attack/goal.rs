//! The goal of an attack: a value for each sample that the attack increases.

use super::Victim;
use super::aim::Aim;
use super::draws;
use crate::error::{Error, Result};
use crate::ffi::{self, Graph, VjpMode};
use crate::model::shift::{self, Reading};
use crate::model::{Posterior, Vae};
use crate::ops::Reduce;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, Ordering};
use tch::{Device, Kind, Tensor};

/// Damage done by x' in place of x; larger = more. Each is a measure of [`shift`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, strum::Display)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Goal {
    /// |mu(x') - mu(x)|_2, `latent_l2`.
    #[default]
    Latent,
    /// KL(q_{x'} || q_x), `latent_kl`.
    Kl,
    /// KL(q_x || q_{x'}), the other direction.
    Rkl,
    /// The mean of both, `latent_skl`.
    Skl,
    /// 2-Wasserstein distance of the posteriors, `latent_w2`.
    W2,
    /// Mean square change of the reconstruction, `recon_shift`.
    Recon,
    /// Mean square error of the attacked reconstruction against x, `recon_mse`.
    ReconMse,
    /// 1 - cos(mu(x'), mu(x)).
    Cosine,
    /// Growth of the posterior's width: mean over the latents of ln sigma(x') - ln sigma(x).
    Sigma,
    /// Growth of the posterior's variance: sum over the latents of sigma^2(x') - sigma^2(x).
    Variance,
    /// Least reconstruction error, which hides an anomaly: the mean square error of r(x) against x minus that of r(x') against x'.
    Hide,
    /// Change inside the network: the sum over the watched layers of the mean square change of their outputs.
    ///
    /// Source: GRILL (arXiv:2505.03646, 2025), which weighs layers by their condition; here all count alike.
    Layers,
    /// The change of the layers, as for `layers`, times the mean square change of the reconstruction.
    ///
    /// Source: GRILL (arXiv:2505.03646, 2025) multiplies by the output's change, so that gradients of layers count where the output's own
    /// vanishes on the way. Differs: all layers count alike, and changes are mean squares.
    Grill,
    /// What a judge says: j(x') - j(x) of its one value, or |j(x') - j(x)|_2 of its K values.
    Judge,
}

/// What a goal reads: only the posterior, so that no decoder runs, or the image and its reconstruction.
enum View {
    Latent(fn(&Posterior, &Posterior) -> Result<Tensor>),
    Image(fn(&Reading, &Tensor, &Tensor) -> Result<Tensor>),
    /// What the model's features are, here and there, and whether the goal is to come closer.
    Features(fn(&[Tensor], &[Tensor], bool) -> Result<Tensor>),
    /// The model's features there, and the reconstruction.
    Inside(fn(&Reading, &[Tensor], &Tensor) -> Result<Tensor>),
}

impl Goal {
    fn view(self) -> View {
        match self {
            Self::Latent => View::Latent(shift::latent_l2),
            Self::Kl => View::Latent(shift::latent_kl),
            Self::Rkl => View::Latent(shift::latent_reverse_kl),
            Self::Skl => View::Latent(shift::latent_skl),
            Self::W2 => View::Latent(shift::latent_w2),
            Self::Cosine => View::Latent(shift::latent_cosine),
            Self::Sigma => View::Latent(shift::latent_width),
            Self::Variance => View::Latent(shift::latent_variance),
            Self::Recon => View::Image(|clean, _, r| shift::mean_square(&clean.reconstruction, r)),
            Self::ReconMse => View::Image(|clean, _, r| shift::mean_square(&clean.images, r)),
            Self::Hide => View::Image(|clean, x, r| {
                let before = shift::mean_square(&clean.images, &clean.reconstruction)?;
                Ok(before.f_sub(&shift::mean_square(x, r)?)?)
            }),
            Self::Layers => View::Features(|clean, moved, _| inside(Self::Layers, clean, moved)),
            Self::Grill => View::Inside(|clean, moved, r| {
                let layers = inside(Self::Grill, &clean.features, moved)?;
                Ok(shift::mean_square(&clean.reconstruction, r)?.f_mul(&layers)?)
            }),
            Self::Judge => View::Features(|clean, moved, towards| match (clean, moved) {
                ([before], [after]) => judged(before, after, towards),
                _ => Err(lacks(Self::Judge)),
            }),
        }
    }

    /// Whether the goal needs the posterior's width, which not every encoder returns.
    pub fn needs_scale(self) -> bool {
        matches!(self, Self::Kl | Self::Rkl | Self::Skl | Self::W2 | Self::Sigma | Self::Variance)
    }

    /// Whether the goal reads what a model has only if its layers are watched or it has a judge.
    pub fn needs_features(self) -> bool {
        matches!(self, Self::Layers | Self::Grill | Self::Judge)
    }

    /// Whether it is a distance between two readings, which can be made small as well as large; what a judge says is one if it is led to a
    /// target.
    pub fn is_distance(self) -> bool {
        !matches!(self, Self::Sigma | Self::Variance | Self::Hide)
    }

    /// Whether the goal is at its minimum, with gradient 0, at the clean image; a judge of one value is not.
    pub fn starts_flat(self) -> bool {
        self.is_distance() && self != Self::ReconMse
    }

    /// The value at `x` [B, C, H, W] in place of the victim's images, `[B]` f64, differentiable in `x`.
    ///
    /// At x' = x most goals have their minimum 0 with gradient 0, so an ascent must start elsewhere.
    pub fn value(self, victim: &Victim, x: &Tensor) -> Result<Tensor> {
        victim.passes().note(x, self.draws(victim.aim()), 0);
        self.value_at(victim.vae(), victim.aim(), x)
    }

    /// Whether it reads the reconstruction, so that draws of the code have a meaning.
    pub fn reads_reconstruction(self) -> bool {
        matches!(self.view(), View::Image(_))
    }

    /// How often the goal runs the model.
    pub(super) fn draws(self, aim: Aim<'_>) -> usize {
        // Once for the layers, once for the reconstruction.
        if matches!(self.view(), View::Inside(_)) {
            return 2;
        }
        let draws = aim.draws.filter(|_| self.reads_reconstruction());
        draws.map_or(1, |draws| draws.size()[0].max(1) as usize)
    }

    /// [`Goal::value`] for the given aim.
    pub(super) fn value_at(self, vae: &dyn Vae, aim: Aim<'_>, x: &Tensor) -> Result<Tensor> {
        let value = match self.view() {
            View::Latent(distance) => distance(&aim.reference.posterior, &vae.encode(x)?)?,
            View::Image(damage) => {
                let posterior = vae.encode(x)?;
                let seen = |z: &Tensor| damage(aim.reference, x, &vae.decode(z)?);
                let drawn = draws::mean(aim.each_draw()?.into_iter().map(Ok), |noise| seen(&posterior.sample(noise)?))?;
                drawn.map_or_else(|| seen(&posterior.mean), Ok)?
            }
            View::Features(change) => change(&aim.reference.features, &vae.features(x)?, aim.towards)?,
            View::Inside(change) => change(aim.reference, &vae.features(x)?, &vae.decode(&vae.encode(x)?.mean)?)?,
        };
        aim.signed(value)
    }

    /// The value of an existing reading, `[B]` f64; of a victim whose code is drawn, the mean over draws that no search has seen.
    pub fn of(self, victim: &Victim, moved: &Reading) -> Result<Tensor> {
        let aim = victim.aim();
        let value = match self.view() {
            View::Latent(distance) => distance(&aim.reference.posterior, &moved.posterior)?,
            View::Image(damage) => {
                let drawn = draws::mean(victim.fresh_draws(), |noise| {
                    damage(aim.reference, &moved.images, &victim.vae().decode(&moved.posterior.sample(noise)?)?)
                })?;
                drawn.map_or_else(|| damage(aim.reference, &moved.images, &moved.reconstruction), Ok)?
            }
            View::Features(change) => change(&aim.reference.features, &moved.features, aim.towards)?,
            View::Inside(change) => change(aim.reference, &moved.features, &moved.reconstruction)?,
        };
        aim.signed(value)
    }

    /// The value at `x` and its gradient there, `[B]` f64 and [B, C, H, W], both without a graph. One forward and one backward pass serve
    /// the whole batch, since no sample depends on another.
    pub fn value_and_gradient(self, victim: &Victim, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let draws = self.draws(victim.aim());
        victim.passes().note(x, draws, draws);
        self.value_and_gradient_at(victim.vae(), victim.aim(), x, &Folding::on(x.device()))
    }

    /// [`Goal::value_and_gradient`] for the given aim; `folding` is kept from step to step.
    pub(super) fn value_and_gradient_at(
        self,
        vae: &dyn Vae,
        aim: Aim<'_>,
        x: &Tensor,
        folding: &Folding,
    ) -> Result<(Tensor, Tensor)> {
        tch::with_grad(|| {
            let x = leaf(x)?;
            match self.view() {
                View::Features(change) => {
                    let value = |seen: &[Tensor]| aim.signed(change(&aim.reference.features, seen, aim.towards)?);
                    joint(&vae.features(&x)?, &x, folding, value)
                }
                View::Inside(change) => {
                    let mut outputs = vae.features(&x)?;
                    outputs.push(vae.decode(&vae.encode(&x)?.mean)?);
                    joint(&outputs, &x, folding, |seen| match seen {
                        [features @ .., image] => aim.signed(change(aim.reference, features, image)?),
                        [] => Err(lacks(self)),
                    })
                }
                // In closed form, without a graph of its own: small steps of large loops are mostly the starting of operations.
                View::Latent(_) if self == Self::Latent => {
                    let posterior = vae.encode(&x)?;
                    let (value, along) = shift::latent_l2_and_gradient(&aim.reference.posterior, &posterior)?;
                    let gradient = folding.pull_back(&posterior.mean, &x, &aim.signed(along)?)?;
                    Ok((aim.signed(value)?, gradient.f_detach()?))
                }
                View::Latent(distance) => {
                    let posterior = vae.encode(&x)?;
                    let seen = Posterior { mean: leaf(&posterior.mean)?, log_var: leaf(&posterior.log_var)? };
                    let value = aim.signed(distance(&aim.reference.posterior, &seen)?)?;
                    let [mean, log_var] = gradients(&value, [&seen.mean, &seen.log_var])?;
                    let gradient = folding.through(&posterior, &x, mean, log_var)?;
                    let gradient = gradient.map_or_else(|| x.f_zeros_like(), Ok)?;
                    Ok((value.f_detach()?, gradient.f_detach()?))
                }
                View::Image(damage) if aim.draws.is_some() => drawn(damage, vae, aim, &x, folding),
                View::Image(damage) => {
                    let image = vae.decode(&vae.encode(&x)?.mean)?;
                    let (seen, itself) = (leaf(&image)?, leaf(&x)?);
                    let value = aim.signed(damage(aim.reference, &itself, &seen)?)?;
                    let [through, direct] = gradients(&value, [&seen, &itself])?;
                    let through = through
                        .map(|g| folding.pull_back(&image.f_flatten(1, -1)?, &x, &g.f_flatten(1, -1)?))
                        .transpose()?;
                    let gradient = match (through, direct) {
                        (Some(through), Some(direct)) => through.f_add(&direct)?,
                        (Some(gradient), None) | (None, Some(gradient)) => gradient,
                        (None, None) => x.f_zeros_like()?,
                    };
                    Ok((value.f_detach()?, gradient.f_detach()?))
                }
            }
        })
    }
}

/// What `value` says of several outputs of the model at `x`, a leaf, and its gradient there.
fn joint(
    outputs: &[Tensor],
    x: &Tensor,
    folding: &Folding,
    value: impl Fn(&[Tensor]) -> Result<Tensor>,
) -> Result<(Tensor, Tensor)> {
    let seen: Vec<Tensor> = outputs.iter().map(leaf).collect::<Result<_>>()?;
    let value = value(&seen)?;
    // All outputs are one, for one backward pass.
    let mut rows = (Vec::new(), Vec::new());
    let found = each_gradient(&value, &seen.iter().collect::<Vec<_>>())?;
    for (output, cotangent) in outputs.iter().zip(found) {
        if let Some(cotangent) = cotangent {
            rows.0.push(output.f_reshape([x.size()[0], -1])?);
            rows.1.push(cotangent.f_reshape([x.size()[0], -1])?);
        }
    }
    let gradient = if rows.0.is_empty() {
        x.f_zeros_like()?
    } else {
        folding.pull_back(&Tensor::f_cat(&rows.0, 1)?, x, &Tensor::f_cat(&rows.1, 1)?)?
    };
    Ok((value.f_detach()?, gradient.f_detach()?))
}

/// The sum over the layers of the mean square change of their outputs, `[B]` f64.
fn inside(goal: Goal, clean: &[Tensor], moved: &[Tensor]) -> Result<Tensor> {
    let changes = clean.iter().zip(moved).map(|(a, b)| shift::mean_square(a, b));
    changes.reduce(|sum, change| Ok(sum?.f_add(&change?)?)).unwrap_or_else(|| Err(lacks(goal)))
}

/// The mean over draws of the code of what `damage` says of the reconstruction, and its gradient at `x`, a leaf.
fn drawn(
    damage: fn(&Reading, &Tensor, &Tensor) -> Result<Tensor>,
    vae: &dyn Vae,
    aim: Aim<'_>,
    x: &Tensor,
    folding: &Folding,
) -> Result<(Tensor, Tensor)> {
    let posterior = vae.encode(x)?;
    let seen = Posterior { mean: leaf(&posterior.mean)?, log_var: leaf(&posterior.log_var)? };
    let itself = leaf(x)?;
    let draws = aim.each_draw()?;
    let (mut values, mut sums) = (vec![], [const { None }; 3]);
    // Draw after draw, so that the activations of one decoder are held at a time; the encoder goes back once.
    for noise in &draws {
        let value = aim.signed(damage(aim.reference, &itself, &vae.decode(&seen.sample(noise)?)?)?)?;
        let found = gradients(&value, [&seen.mean, &seen.log_var, &itself])?;
        for (sum, found) in sums.iter_mut().zip(found) {
            *sum = draws::plus(sum.take(), found)?;
        }
        values.push(value.f_detach()?);
    }
    let [mean, log_var, direct] = sums;
    let gradient = draws::plus(folding.through(&posterior, x, mean, log_var)?, direct)?;
    let gradient = match gradient {
        Some(gradient) => gradient.f_div_scalar(draws.len() as f64)?,
        None => x.f_zeros_like()?,
    };
    Ok((Tensor::f_stack(&values, 0)?.mean_over([0])?, gradient.f_detach()?))
}

/// The same values without their graph, to be derived by.
fn leaf(t: &Tensor) -> Result<Tensor> {
    Ok(t.f_detach()?.f_set_requires_grad(true)?)
}

/// What a judge's answers before and after say, `[B]` f64. Towards a target every answer counts as a distance.
fn judged(before: &Tensor, after: &Tensor, towards: bool) -> Result<Tensor> {
    let rows = |t: &Tensor| -> Result<Tensor> { Ok(t.f_to_kind(Kind::Double)?.f_reshape([t.size()[0], -1])?) };
    let change = rows(after)?.f_sub(&rows(before)?)?;
    if change.size()[1] == 1 && !towards { Ok(change.f_squeeze_dim(1)?) } else { change.norm_over(2, 1) }
}

fn lacks(goal: Goal) -> Error {
    let expected = if goal == Goal::Judge { "a judge (--judge FILE)" } else { "layers to watch (--layers A,B)" };
    Error::request(format!("goal {goal}"), expected, "none")
}

/// The gradients of the sum of `value` by some leaves; `None` for a leaf that the value does not depend on.
fn gradients<const N: usize>(value: &Tensor, leaves: [&Tensor; N]) -> Result<[Option<Tensor>; N]> {
    let mut found = each_gradient(value, &leaves)?.into_iter();
    Ok(std::array::from_fn(|_| found.next().flatten()))
}

fn each_gradient(value: &Tensor, leaves: &[&Tensor]) -> Result<Vec<Option<Tensor>>> {
    if !value.requires_grad() {
        return Ok(leaves.iter().map(|_| None).collect());
    }
    // A leaf that the value does not depend on has no gradient.
    let found = Tensor::f_run_backward(&[value], leaves, false, false)?;
    Ok(found.into_iter().map(|gradient| Some(gradient).filter(Tensor::defined)).collect())
}

/// Whether the engine's own backward pass knows all operations of a model, as far as is known.
pub(super) struct Folding(AtomicBool);

impl Folding {
    /// It is tried on a CPU only.
    pub(super) fn on(device: Device) -> Self {
        Self(AtomicBool::new(device == Device::Cpu))
    }

    /// The cotangents of mu and logvar at `x`; terms that do not count are not pulled back.
    fn through(
        &self,
        posterior: &Posterior,
        x: &Tensor,
        mean: Option<Tensor>,
        log_var: Option<Tensor>,
    ) -> Result<Option<Tensor>> {
        Ok(match (mean, log_var) {
            (Some(mean), Some(log_var)) => {
                let output = Tensor::f_cat(&[&posterior.mean, &posterior.log_var], 1)?;
                Some(self.pull_back(&output, x, &Tensor::f_cat(&[mean, log_var], 1)?)?)
            }
            (Some(mean), None) => Some(self.pull_back(&posterior.mean, x, &mean)?),
            (None, Some(log_var)) => Some(self.pull_back(&posterior.log_var, x, &log_var)?),
            (None, None) => None,
        })
    }

    /// The cotangent [B, R] of `output` [B, R] at `x` [B, ...]: one backward pass, the engine's own (kernels/folded.h) or autograd's.
    fn pull_back(&self, output: &Tensor, x: &Tensor, cotangent: &Tensor) -> Result<Tensor> {
        let cotangents = cotangent.f_unsqueeze(0)?;
        if self.0.load(Ordering::Relaxed) {
            match ffi::vjp(output, x, &cotangents, VjpMode::Folded, Graph::Constant) {
                Err(error) if error.is_of_the_way() => self.0.store(false, Ordering::Relaxed),
                folded => return Ok(folded?.f_squeeze_dim(0)?),
            }
        }
        Ok(ffi::vjp(output, x, &cotangents, VjpMode::Looped, Graph::Constant)?.f_squeeze_dim(0)?)
    }
}
