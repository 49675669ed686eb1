//! How far apart two inputs are: in the image, in the latent space, in the reconstruction.
//!
//! Every measure is one number for each sample, `[B]` f64, computed in double precision on the device of its arguments. The latent measures
//! are differentiable, because the attacks ascend them as goals.
//!
//! | name          | definition, with x' the moved input and r(x) = g(mu(x))                          |
//! |---------------|----------------------------------------------------------------------------------|
//! | `input_l2`    | \|x' - x\|_2                                                                     |
//! | `input_linf`  | max \|x' - x\|                                                                   |
//! | `latent_l2`   | \|mu(x') - mu(x)\|_2                                                             |
//! | `latent_kl`   | KL(q_{x'} \|\| q_x), the divergence of q_{x'} from q_x, in nats                  |
//! | `latent_skl`  | (KL(q_{x'} \|\| q_x) + KL(q_x \|\| q_{x'})) / 2, as Kuzina et al. 2021            |
//! | `latent_w2`   | 2-Wasserstein distance of the two diagonal Gaussians                             |
//! | `recon_mse`   | mean (r(x') - x)^2 over the pixels, the error of Khan & Storkey 2023             |
//! | `recon_shift` | mean (r(x') - r(x))^2 over the pixels                                            |
//! | `psnr`        | of r(x') against r(x): -10 log10 `recon_shift`, infinite where they are equal    |
//! | `ssim`        | of r(x') against r(x)                                                            |
//! | `ms_ssim`     | of r(x') against r(x), the judge of Kuzina et al. 2021                           |
//!
//! The three similarities compare the two reconstructions, so they are "equal" at x' = x, whatever the model's own reconstruction error is.
//! Both KL directions agree with half the `fisher` quadratic form to second order.

use super::{Posterior, Vae, similarity};
use crate::error::{Result, ensure_shape};
use crate::ffi::parallel;
use crate::ops::Reduce;
use tch::{Device, Kind, Tensor};

/// Names of all measures, in the order in which [`all`] gives them.
pub const NAMES: [&str; 11] = [
    "input_l2",
    "input_linf",
    "latent_l2",
    "latent_kl",
    "latent_skl",
    "latent_w2",
    "recon_mse",
    "recon_shift",
    "psnr",
    "ssim",
    "ms_ssim",
];

/// The model's outputs for a batch of images.
#[derive(Debug)]
pub struct Reading {
    /// x, [B, C, H, W].
    pub images: Tensor,
    /// q(z|x), [B, L] each.
    pub posterior: Posterior,
    /// r(x) = g(mu(x)), [B, C, H, W].
    pub reconstruction: Tensor,
    /// What [`Vae::features`] gives, [B, ...] each.
    pub features: Vec<Tensor>,
}

impl Reading {
    /// The same tensors, for another owner.
    pub fn handle(&self) -> Self {
        let Posterior { mean, log_var } = &self.posterior;
        Self {
            images: self.images.shallow_clone(),
            posterior: Posterior { mean: mean.shallow_clone(), log_var: log_var.shallow_clone() },
            reconstruction: self.reconstruction.shallow_clone(),
            features: self.features.iter().map(Tensor::shallow_clone).collect(),
        }
    }

    /// `count` samples from `start`.
    ///
    /// # Errors
    /// If there are not so many.
    pub fn narrow(&self, start: i64, count: i64) -> Result<Self> {
        let some = |t: &Tensor| -> Result<Tensor> { Ok(t.f_narrow(0, start, count)?.f_contiguous()?) };
        let Posterior { mean, log_var } = &self.posterior;
        Ok(Self {
            images: some(&self.images)?,
            posterior: Posterior { mean: some(mean)?, log_var: some(log_var)? },
            reconstruction: some(&self.reconstruction)?,
            features: self.features.iter().map(some).collect::<Result<_>>()?,
        })
    }

    /// What is measured.
    fn parts(&self) -> [&Tensor; 4] {
        [&self.images, &self.posterior.mean, &self.posterior.log_var, &self.reconstruction]
    }

    /// Encodes and decodes `images` [B, C, H, W] without a graph.
    ///
    /// # Errors
    /// If the model's outputs are not one posterior and one image for each sample.
    pub fn of(vae: &dyn Vae, images: &Tensor) -> Result<Self> {
        tch::no_grad(|| {
            ensure_shape("images", images, &[-1, -1, -1, -1])?;
            let posterior = vae.encode(images)?;
            let (batch, latent) = posterior.mean.size2().unwrap_or((-1, -1));
            ensure_shape("mu of the encoder", &posterior.mean, &[images.size()[0], latent])?;
            ensure_shape("logvar of the encoder", &posterior.log_var, &[batch, latent])?;
            let reconstruction = vae.decode(&posterior.mean)?;
            ensure_shape("x_hat of the decoder", &reconstruction, &images.size())?;
            Ok(Self { images: images.shallow_clone(), posterior, reconstruction, features: vae.features(images)? })
        })
    }
}

/// Bytes in f64 of the images that are measured together on a CPU: with their moments they stay in a core's cache.
const TOGETHER: i64 = 256 << 10;

/// All measures of `moved` against `clean`, in the order of [`NAMES`], `[B]` f64 each. On a CPU all cores measure, a few samples at a time.
///
/// # Errors
/// If the two have other shapes than each other.
pub fn all(clean: &Reading, moved: &Reading) -> Result<Vec<(&'static str, Tensor)>> {
    let size = clean.images.size();
    let (batch, pixels) = (size.first().copied().unwrap_or(0), size.iter().skip(1).product::<i64>());
    let (few, threads) = ((TOGETHER / (8 * pixels.max(1))).max(1), i64::from(tch::get_num_threads()).max(1));
    if clean.images.device() != Device::Cpu || batch <= few {
        return together(clean, moved);
    }
    for (clean, moved) in clean.parts().into_iter().zip(moved.parts()) {
        ensure_shape("what is moved", moved, &clean.size())?;
    }
    // As many for each thread, of equal sizes.
    let count = (((batch - 1) / few + threads) / threads * threads).min(batch);
    let part = |i: i64| -> Result<(Reading, Reading)> {
        let (begin, end) = (batch * i / count, batch * (i + 1) / count);
        Ok((clean.narrow(begin, end - begin)?, moved.narrow(begin, end - begin)?))
    };
    let parts = (0..count).map(part).collect::<Result<Vec<_>>>()?;
    let found = parallel::each(parts, |_, (clean, moved)| together(&clean, &moved))?;
    let joined = |i: usize| -> Result<Tensor> {
        Ok(Tensor::f_cat(&found.iter().filter_map(|part| part.get(i)).map(|(_, t)| t).collect::<Vec<_>>(), 0)?)
    };
    NAMES.into_iter().enumerate().map(|(i, name)| Ok((name, joined(i)?))).collect()
}

/// [`all`], in one piece.
fn together(clean: &Reading, moved: &Reading) -> Result<Vec<(&'static str, Tensor)>> {
    tch::no_grad(|| {
        let (p, q) = (&clean.posterior, &moved.posterior);
        let (r, s) = (&clean.reconstruction, &moved.reconstruction);
        let (ssim, ms_ssim) = similarity::both(r, s)?;
        let values = [
            input_l2(&clean.images, &moved.images)?,
            input_linf(&clean.images, &moved.images)?,
            latent_l2(p, q)?,
            latent_kl(p, q)?,
            latent_skl(p, q)?,
            latent_w2(p, q)?,
            mean_square(&clean.images, s)?,
            mean_square(r, s)?,
            similarity::psnr(r, s)?,
            ssim,
            ms_ssim,
        ];
        Ok(NAMES.into_iter().zip(values).collect())
    })
}

/// The measures that have a meaning without an attack: `recon_mse` of x_hat against x. The others are 0 (distances) or "equal"
/// (similarities) by definition.
pub fn clean(reading: &Reading) -> Result<Vec<(&'static str, Tensor)>> {
    tch::no_grad(|| Ok(vec![("recon_mse", mean_square(&reading.images, &reading.reconstruction)?)]))
}

/// How far `moved` is from an attack's target: distances of the codes, and of the reconstruction from the target image.
pub fn towards(target: &Reading, moved: &Reading) -> Result<Vec<(&'static str, Tensor)>> {
    tch::no_grad(|| {
        Ok(vec![
            ("target_latent_l2", latent_l2(&target.posterior, &moved.posterior)?),
            ("target_recon_mse", mean_square(&target.images, &moved.reconstruction)?),
        ])
    })
}

/// \|x' - x\|_2 of [B, ...] each, `[B]` f64.
pub fn input_l2(x: &Tensor, moved: &Tensor) -> Result<Tensor> {
    norm(&difference(x, moved)?)
}

/// max \|x' - x\| of [B, ...] each, `[B]` f64.
pub fn input_linf(x: &Tensor, moved: &Tensor) -> Result<Tensor> {
    difference(x, moved)?.f_abs()?.max_over(1)
}

/// \|mu' - mu\|_2, `[B]` f64. Its gradient at mu' = mu is taken as 0.
pub fn latent_l2(clean: &Posterior, moved: &Posterior) -> Result<Tensor> {
    norm(&difference(&clean.mean, &moved.mean)?)
}

/// [`latent_l2`], `[B]` f64, and its gradient by mu', [B, L] of mu's kind, without a graph.
///
/// # Errors
/// If the two means have other shapes than each other.
pub fn latent_l2_and_gradient(clean: &Posterior, moved: &Posterior) -> Result<(Tensor, Tensor)> {
    let (from, to) = (clean.mean.f_detach()?, moved.mean.f_detach()?);
    if to.device() != Device::Cpu {
        let apart = difference(&from, &to)?;
        let length = norm(&apart)?;
        // 0 / 0 would be NaN.
        let divisor = length.f_masked_fill(&length.f_eq(0.0)?, 1.0)?.f_unsqueeze(1)?;
        let gradient = apart.f_div(&divisor)?.f_to_kind(to.kind())?.f_view_as(&to)?;
        return Ok((length, gradient));
    }
    // A few numbers a sample: starting each of ten operations would take longer than all their work.
    ensure_shape("the moved tensor", &to, &from.size())?;
    let numbers = |t: &Tensor| -> Result<Vec<f64>> { Ok(Vec::try_from(double(t)?.f_flatten(0, -1)?)?) };
    let mut apart: Vec<f64> = numbers(&to)?.into_iter().zip(numbers(&from)?).map(|(to, from)| to - from).collect();
    let latents = to.size().iter().skip(1).product::<i64>().max(1) as usize;
    let mut lengths = Vec::with_capacity(apart.len() / latents);
    for row in apart.chunks_mut(latents) {
        let length = row.iter().map(|d| d * d).sum::<f64>().sqrt();
        let divisor = if length == 0.0 { 1.0 } else { length };
        row.iter_mut().for_each(|d| *d /= divisor);
        lengths.push(length);
    }
    Ok((Tensor::f_from_slice(&lengths)?, Tensor::f_from_slice(&apart)?.f_to_kind(to.kind())?.f_view_as(&to)?))
}

/// KL(q' || q), `[B]` f64, nats.
pub fn latent_kl(clean: &Posterior, moved: &Posterior) -> Result<Tensor> {
    divergence(moved, clean)
}

/// KL(q || q'), `[B]` f64, nats.
pub fn latent_reverse_kl(clean: &Posterior, moved: &Posterior) -> Result<Tensor> {
    divergence(clean, moved)
}

/// (KL(q' || q) + KL(q || q')) / 2, `[B]` f64, nats.
pub fn latent_skl(clean: &Posterior, moved: &Posterior) -> Result<Tensor> {
    let sum = latent_kl(clean, moved)?.f_add(&latent_reverse_kl(clean, moved)?)?;
    Ok(sum.f_mul_scalar(0.5)?)
}

/// sqrt(|mu' - mu|^2 + |sigma' - sigma|^2), `[B]` f64. Its gradient at q' = q is taken as 0.
pub fn latent_w2(clean: &Posterior, moved: &Posterior) -> Result<Tensor> {
    let means = difference(&clean.mean, &moved.mean)?;
    // sigma' - sigma = sigma (e^{delta/2} - 1) stays accurate if the two are close.
    let half_delta = difference(&clean.log_var, &moved.log_var)?.f_mul_scalar(0.5)?;
    let stds = double(&clean.log_var)?.f_mul_scalar(0.5)?.f_exp()?.f_mul(&half_delta.f_expm1()?)?;
    norm(&Tensor::f_cat(&[means, stds], 1)?)
}

/// 1 - cos(mu', mu), `[B]` f64, as half of the squared distance of the two unit vectors, which stays accurate if they are close; 1/2 if one
/// of them is 0.
pub fn latent_cosine(clean: &Posterior, moved: &Posterior) -> Result<Tensor> {
    let unit = |mean: &Tensor| -> Result<Tensor> {
        let mean = double(mean)?.f_flatten(1, -1)?;
        let length = mean.norm_kept(2, 1)?;
        // 0 / 0 would be NaN.
        Ok(mean.f_div(&length.f_masked_fill(&length.f_eq(0.0)?, 1.0)?)?)
    };
    let apart = unit(&moved.mean)?.f_sub(&unit(&clean.mean)?)?;
    Ok(apart.f_square()?.sum_over([1])?.f_mul_scalar(0.5)?)
}

/// Mean over the latents of ln sigma' - ln sigma, `[B]` f64.
pub fn latent_width(clean: &Posterior, moved: &Posterior) -> Result<Tensor> {
    let grown = difference(&clean.log_var, &moved.log_var)?.f_mul_scalar(0.5)?;
    grown.mean_over([1])
}

/// Sum over the latents of sigma'^2 - sigma^2, `[B]` f64.
pub fn latent_variance(clean: &Posterior, moved: &Posterior) -> Result<Tensor> {
    let delta = difference(&clean.log_var, &moved.log_var)?;
    let grown = double(&clean.log_var)?.f_exp()?.f_mul(&delta.f_expm1()?)?;
    grown.sum_over([1])
}

/// Mean over the pixels of (b - a)^2 of [B, ...] each, `[B]` f64.
pub fn mean_square(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let d = difference(a, b)?;
    d.f_square()?.mean_over([1])
}

/// KL(p || q) = 1/2 sum [e^delta - 1 - delta + (mu_p - mu_q)^2 / sigma_q^2], delta = ln sigma_p^2 - ln sigma_q^2.
fn divergence(p: &Posterior, q: &Posterior) -> Result<Tensor> {
    let delta = difference(&q.log_var, &p.log_var)?;
    let means = difference(&q.mean, &p.mean)?;
    let precision = double(&q.log_var)?.f_neg()?.f_exp()?;
    let spread = delta.f_expm1()?.f_sub(&delta)?;
    let terms = means.f_square()?.f_mul(&precision)?.f_add(&spread)?;
    Ok(terms.sum_over([1])?.f_mul_scalar(0.5)?)
}

/// b - a, flattened to [B, n] f64.
fn difference(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    ensure_shape("the moved tensor", b, &a.size())?;
    Ok(double(b)?.f_sub(&double(a)?)?.f_flatten(1, -1)?)
}

fn double(t: &Tensor) -> Result<Tensor> {
    Ok(t.f_to_kind(Kind::Double)?)
}

/// Euclidean norm of each row; libtorch's derivative of it is 0, not NaN, at a row of zeros.
fn norm(rows: &Tensor) -> Result<Tensor> {
    rows.norm_over(2, 1)
}
