//! A margin of robustness: how far an image may move before its reconstruction is more likely to change by more than r than by less.
//!
//! Source: Camuto, Willetts, Roberts, Holmes & Rainforth 2021 (arXiv:2007.07365). A model is r-robust to a perturbation delta where
//! p(|f(x + delta) - f(x)|_2 <= r) > 1/2. Their bound, to first order in the size of the perturbation, for perturbations that move mu alone:
//! the model is r-robust to every delta with |delta|_2 below min_i sigma_i(x) Phi^-1(p(|Delta(x)|_2 <= r)) / |J_mu(x)|_F, where Delta(x) =
//! g(z) - g(mu(x)) for z ~ q(z|x) is what the encoder's own noise does. The bound drops terms of higher order, and is no certificate.

use crate::error::Result;
use crate::model::Vae;
use crate::ops::Reduce;
use crate::seed::{self, Stage};
use tch::{Kind, Tensor};

/// Draws of the code for each sample, by which p is estimated; its standard error is at most 0.022.
pub const MARGIN_DRAWS: usize = 512;

/// The margin of some samples, `[B]` f64 each.
#[derive(Debug)]
pub struct Margin {
    /// p(|g(z) - g(mu(x))|_2 <= r), z ~ q(z|x): (k + 1/2) / (n + 1) of k draws of n, so that the margin stays finite where none is beyond r.
    pub probability: Tensor,
    /// The bound on |delta|_2, in pixel units; 0 where p is 1/2 or less: there the noise alone breaks the criterion.
    pub radius: Tensor,
}

/// The margin at `images` [B, C, H, W] for reconstructions that may change by `r` > 0; `index` holds the samples' positions, from which the
/// noise is drawn, and `squares` `[B]` f64 is |J_mu|_F^2, the trace of the metric `mean`. 0 eigenvalues give an infinite margin.
///
/// # Errors
/// If the model fails, or memory runs out.
pub fn margin(vae: &dyn Vae, images: &Tensor, index: &[u64], seed: u64, squares: &Tensor, r: f64) -> Result<Margin> {
    tch::no_grad(|| {
        let posterior = vae.encode(images)?;
        let still = vae.decode(&posterior.mean)?;
        let latents = posterior.mean.size()[1].max(0) as usize;
        let mut within = Tensor::f_zeros([images.size()[0]], (Kind::Double, images.device()))?;
        for draw in 0..MARGIN_DRAWS {
            crate::event::ensure_wanted()?;
            let noise = seed::normal_stream(seed, Stage::Margin, draw as u64, index, latents)?;
            let noise = noise.f_to_device(images.device())?.f_to_kind(posterior.mean.kind())?;
            let moved = vae.decode(&posterior.sample(&noise)?)?.f_sub(&still)?;
            let size = moved.f_flatten(1, -1)?.f_to_kind(Kind::Double)?.norm_over(2, 1)?;
            within = within.f_add(&size.f_le(r)?)?;
        }
        let probability = within.f_add_scalar(0.5)?.f_div_scalar(MARGIN_DRAWS as f64 + 1.0)?;
        let (narrowest, _) = posterior.std()?.f_to_kind(Kind::Double)?.f_min_dim(1, false)?;
        let slope = squares.f_to_device(images.device())?.f_to_kind(Kind::Double)?.f_sqrt()?;
        let radius = probability.f_special_ndtri()?.f_clamp_min(0.0)?.f_mul(&narrowest)?.f_div(&slope)?;
        // A sample without a spectrum has no margin; one whose noise is too wide has the margin 0, however flat mu is.
        let none = probability.f_le(0.5)?.f_logical_and(&slope.f_isnan()?.f_logical_not()?)?;
        Ok(Margin { radius: radius.f_masked_fill(&none, 0.0)?, probability })
    })
}
