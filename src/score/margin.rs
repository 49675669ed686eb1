//! A margin of robustness: how far an image may move before its reconstruction is more likely to change by more than r than by less.
//!
//! Source: Camuto, Willetts, Roberts, Holmes & Rainforth 2021 (arXiv:2007.07365). A model is r-robust to a perturbation delta where
//! p(|f(x + delta) - f(x)|_2 <= r) > 1/2. Their bound, to first order in the size of the perturbation, for perturbations that move mu alone:
//! the model is r-robust to every delta with |delta|_2 below min_i sigma_i(x) Phi^-1(p(|Delta(x)|_2 <= r)) / |J_mu(x)|_F, where Delta(x) =
//! g(z) - g(mu(x)) for z ~ q(z|x) is what the encoder's own noise does. The bound drops terms of higher order, and is no certificate.

use crate::device;
use crate::error::{Error, Result};
use crate::ffi::memory::peak_bytes;
use crate::model::{Posterior, Vae};
use crate::ops::Reduce;
use crate::seed::{self, Stage};
use tch::{Kind, Tensor};

/// Draws of the code for each sample, by which p is estimated; its standard error is at most 0.022.
pub const MARGIN_DRAWS: usize = 512;

/// The margin of some samples, `[B]` f64 each; both are NaN for a sample without a spectrum or with a reconstruction that is not finite.
#[derive(Debug)]
pub struct Margin {
    /// p(|g(z) - g(mu(x))|_2 <= r), z ~ q(z|x): (k + 1/2) / (n + 1) of k draws of n, so that the margin stays finite where none is beyond r.
    pub probability: Tensor,
    /// The bound on |delta|_2, in pixel units; 0 where p is 1/2 or less: there the noise alone breaks the criterion.
    pub radius: Tensor,
}

/// Finds the margins of a job's samples in pieces that fit the memory, and keeps between calls what it learned about that.
#[derive(Debug)]
pub struct Margins {
    seed: u64,
    r: f64,
    /// The most samples that fit, once it is known.
    fitting: Option<usize>,
}

impl Margins {
    /// Margins for reconstructions that may change by `r` > 0; noise is drawn from `seed` and the samples' positions.
    pub fn new(seed: u64, r: f64) -> Self {
        Self { seed, r, fitting: None }
    }

    /// [`margin`] of the first of `images` [N, C, H, W], as many as `squares` has, at most `most` at a time; `index` holds their positions.
    /// If the process is asked to stop, only the margins of the finished pieces are returned.
    ///
    /// # Errors
    /// As [`margin`]; [`Error::Interrupted`] if no piece had finished.
    pub fn at(
        &mut self,
        vae: &dyn Vae,
        images: &Tensor,
        index: &[u64],
        squares: &Tensor,
        most: usize,
    ) -> Result<Margin> {
        let total = squares.size().first().copied().unwrap_or(0) as usize;
        if index.len() < total {
            return Err(Error::request("positions of samples", format!("at least {total}"), index.len().to_string()));
        }
        let mut fitting = self.fitting.map_or_else(|| room(vae, images), Ok)?;
        let mut parts = Vec::new();
        let mut first = 0;
        while first < total {
            let size = most.min(fitting).clamp(1, total - first);
            let piece = |t: &Tensor| t.f_narrow(0, first as i64, size as i64);
            let index = &index[first..first + size];
            match margin(vae, &piece(images)?, index, self.seed, &piece(squares)?, self.r) {
                Ok(part) => {
                    parts.push(part);
                    first += size;
                }
                Err(error) if error.is_out_of_memory() && size > 1 => fitting = size / 2,
                Err(Error::Interrupted) if first > 0 => break,
                Err(error) => return Err(error),
            }
        }
        self.fitting = Some(fitting);
        let joined = |field: fn(&Margin) -> &Tensor| -> Result<Tensor> {
            Ok(Tensor::f_cat(&parts.iter().map(field).collect::<Vec<_>>(), 0)?)
        };
        Ok(Margin { probability: joined(|m| &m.probability)?, radius: joined(|m| &m.radius)? })
    }
}

/// The number of samples whose margins fit the memory, by what the first of `images` takes. On a CPU memory that runs out is no error that
/// one could go on from.
fn room(vae: &dyn Vae, images: &Tensor) -> Result<usize> {
    let one = images.f_narrow(0, 0, 1)?;
    let draw = || {
        let centre = Centre::of(vae, &one)?;
        centre.shift(vae, &centre.posterior.mean.f_zeros_like()?)
    };
    let (_, bytes) = tch::no_grad(|| peak_bytes(draw))?;
    let budget = device::memory_budget(images.device())?;
    Ok(usize::try_from(budget / bytes.max(1)).unwrap_or(usize::MAX))
}

/// What the draws of a sample's code have in common.
struct Centre {
    posterior: Posterior,
    /// g(mu(x)).
    image: Tensor,
}

impl Centre {
    fn of(vae: &dyn Vae, images: &Tensor) -> Result<Self> {
        let posterior = vae.encode(images)?;
        let image = vae.decode(&posterior.mean)?;
        Ok(Self { posterior, image })
    }

    /// |g(z) - g(mu(x))|_2 for z = mu + sigma * noise, \[B\] f64.
    fn shift(&self, vae: &dyn Vae, noise: &Tensor) -> Result<Tensor> {
        let moved = vae.decode(&self.posterior.sample(noise)?)?.f_sub(&self.image)?;
        moved.f_flatten(1, -1)?.f_to_kind(Kind::Double)?.norm_over(2, 1)
    }
}

/// The margin at `images` [B, C, H, W] for reconstructions that may change by `r` > 0; `index` holds the samples' positions, from which the
/// noise is drawn, and `squares` `[B]` f64 is |J_mu|_F^2, the trace of the metric `mean`. 0 eigenvalues give an infinite margin.
///
/// # Errors
/// If the model fails, or memory runs out.
pub fn margin(vae: &dyn Vae, images: &Tensor, index: &[u64], seed: u64, squares: &Tensor, r: f64) -> Result<Margin> {
    tch::no_grad(|| {
        let centre = Centre::of(vae, images)?;
        let mean = &centre.posterior.mean;
        let latents = mean.size()[1].max(0) as usize;
        let squares = squares.f_to_device(images.device())?.f_to_kind(Kind::Double)?;
        let mut within = Tensor::f_zeros([images.size()[0]], (Kind::Double, images.device()))?;
        let mut known = squares.f_isfinite()?;
        for draw in 0..MARGIN_DRAWS {
            crate::event::ensure_wanted()?;
            let noise = seed::normal_stream(seed, Stage::Margin, draw as u64, index, latents)?;
            let noise = noise.f_to_device(images.device())?.f_to_kind(mean.kind())?;
            let size = centre.shift(vae, &noise)?;
            within = within.f_add(&size.f_le(r)?)?;
            known = known.f_logical_and(&size.f_isfinite()?)?;
        }
        let probability = within.f_add_scalar(0.5)?.f_div_scalar(MARGIN_DRAWS as f64 + 1.0)?;
        let (narrowest, _) = centre.posterior.std()?.f_to_kind(Kind::Double)?.f_min_dim(1, false)?;
        let radius = probability.f_special_ndtri()?.f_clamp_min(0.0)?.f_mul(&narrowest)?.f_div(&squares.f_sqrt()?)?;
        // Where the noise is too wide the margin is 0, however flat mu is.
        let radius = radius.f_masked_fill(&probability.f_le(0.5)?, 0.0)?;
        let lost = known.f_logical_not()?;
        Ok(Margin {
            probability: probability.f_masked_fill(&lost, f64::NAN)?,
            radius: radius.f_masked_fill(&lost, f64::NAN)?,
        })
    })
}
