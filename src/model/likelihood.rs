//! p(x|z): from the decoder's last layer to the mean g(z) and to -ln p(x|z).

use crate::error::{Error, Result};
use crate::ops::Reduce;
use serde::{Deserialize, Deserializer, Serialize};
use tch::{Reduction, Tensor};

/// The observation model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Likelihood {
    /// Independent Bernoulli pixels, on grey values in [0, 1] as usual; g(z) = sigmoid(decoder).
    #[default]
    #[serde(deserialize_with = "no_keys")]
    Bernoulli,
    /// Independent Gaussian pixels with one variance; g(z) as [`Gaussian::mean`] says.
    Gaussian(Gaussian),
}

/// Deserialises a kind that has no settings. Of such a kind serde passes over keys, so that settings of another kind would be ignored.
fn no_keys<'de, D: Deserializer<'de>>(from: D) -> Result<(), D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}
    Nothing::deserialize(from).map(|Nothing {}| ())
}

/// Independent Gaussian pixels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gaussian {
    /// Whether sigma stays at its initial value.
    pub scale: Sigma,
    /// Standard deviation of a pixel, or its initial value if it is learned. The default, sqrt(1/2), makes -ln p(x|z) the squared error
    /// plus a constant.
    pub sigma: f64,
    /// The function from the decoder's last layer to g(z).
    pub mean: Mean,
}

impl Default for Gaussian {
    fn default() -> Self {
        Self { scale: Sigma::Fixed, sigma: std::f64::consts::FRAC_1_SQRT_2, mean: Mean::Sigmoid }
    }
}

/// Whether the Gaussian's sigma is trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sigma {
    /// It keeps its value.
    #[default]
    Fixed,
    /// ln sigma is a parameter (`log_sigma`), one for all pixels.
    Learned,
}

/// The function from the decoder's last layer to g(z).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mean {
    /// g(z) = sigmoid(decoder), in (0, 1) as the pixels are.
    #[default]
    Sigmoid,
    /// g(z) = decoder.
    Identity,
}

impl Likelihood {
    /// Checks every value; errors name the key.
    pub fn validate(self) -> Result<()> {
        match self {
            Self::Gaussian(g) if !(1e-4..=1e4).contains(&g.sigma) => {
                Err(Error::request("model.likelihood.sigma", "1e-4 to 1e4", g.sigma.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// ln sigma at the start, if sigma is learned.
    pub fn learned_log_sigma(self) -> Option<f64> {
        match self {
            Self::Gaussian(g) if g.scale == Sigma::Learned => Some(g.sigma.ln()),
            _ => None,
        }
    }

    /// g(z) from the decoder's last layer, any shape.
    pub fn mean(self, logits: &Tensor) -> Result<Tensor> {
        match self {
            Self::Gaussian(Gaussian { mean: Mean::Identity, .. }) => Ok(logits.shallow_clone()),
            _ => Ok(logits.f_sigmoid()?),
        }
    }

    /// -ln p(x|z) of each sample, \[B\]: summed over pixels, with all constants.
    ///
    /// `logits` is the decoder's last layer and `x` the images, of one shape [B, C, H, W]; `log_sigma`, \[1\], exists if sigma is learned.
    /// For S models at once: [S, B], [S, B, C, H, W] and [S, 1].
    pub fn nll(self, logits: &Tensor, x: &Tensor, log_sigma: Option<&Tensor>) -> Result<Tensor> {
        crate::error::ensure_shape("the decoder's output", logits, &x.size())?;
        let g = match self {
            Self::Bernoulli => {
                let pixels = logits.f_binary_cross_entropy_with_logits::<Tensor>(x, None, None, Reduction::None)?;
                return sum_pixels(&pixels);
            }
            Self::Gaussian(g) => g,
        };
        let pixels = x.size().iter().rev().take(3).product::<i64>() as f64;
        let squares = sum_pixels(&self.mean(logits)?.f_sub(x)?.f_square()?)?;
        let half_ln_2pi = 0.5 * (2.0 * std::f64::consts::PI).ln();
        Ok(match log_sigma {
            None => {
                squares.f_mul_scalar(0.5 / (g.sigma * g.sigma))?.f_add_scalar(pixels * (g.sigma.ln() + half_ln_2pi))?
            }
            Some(log_sigma) => {
                let precision = log_sigma.f_mul_scalar(-2.0)?.f_exp()?;
                squares
                    .f_mul(&precision)?
                    .f_mul_scalar(0.5)?
                    .f_add(&log_sigma.f_mul_scalar(pixels)?)?
                    .f_add_scalar(pixels * half_ln_2pi)?
            }
        })
    }
}

/// [..., C, H, W] to [...].
fn sum_pixels(pixels: &Tensor) -> Result<Tensor> {
    pixels.sum_alike([-3, -2, -1])
}
