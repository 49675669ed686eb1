//! The metrics by name.

use crate::error::{Error, Result};
use crate::jacobian::Reach;
use serde::{Deserialize, Serialize};

/// Which pullback metric.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, strum::Display, strum::IntoStaticStr,
)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum MetricKind {
    /// J_mu^T J_mu; A = J_mu, R = L.
    Mean,
    /// J_mu^T J_mu + J_sigma^T J_sigma = E_eps[J_eps^T J_eps]; A = [J_mu; J_sigma], R = 2L.
    #[default]
    Stochastic,
    /// J_mu^T diag(1/sigma^2) J_mu + 1/2 J_logvar^T J_logvar; KL(q_x || q_{x+d}) ~ 1/2 d^T G d. R = 2L.
    Fisher,
    /// J_mu^T M J_mu with M = J_g^T J_g at z = mu(x): the metric of x -> g(mu(x)). R = L.
    Output,
    /// J_mu^T M J_mu + J_sigma^T diag(diag M) J_sigma. R = 2L.
    OutputStochastic,
    /// J_g^T J_g at z = mu(x): the metric of the decoder, on codes and not on images. R = D = L.
    Decoder,
}

impl MetricKind {
    /// The metrics of images, in the order of the documentation; [`MetricKind::Decoder`] is the metric of codes.
    pub const ALL: [Self; 5] = [Self::Mean, Self::Stochastic, Self::Fisher, Self::Output, Self::OutputStochastic];

    /// Its name in commands and files.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// R, the rows of its factor, for L latents.
    pub fn rows(self, latent: i64) -> i64 {
        match self {
            Self::Mean | Self::Output | Self::Decoder => latent,
            Self::Stochastic | Self::Fisher | Self::OutputStochastic => 2 * latent,
        }
    }

    /// Which Jacobians it needs.
    pub fn reach(self) -> Reach {
        match self {
            Self::Mean | Self::Stochastic | Self::Fisher => Reach::Encoder,
            Self::Output | Self::OutputStochastic | Self::Decoder => Reach::EncoderAndDecoder,
        }
    }

    /// Refuses the metric of codes if `what` needs directions of images.
    ///
    /// # Errors
    /// A wrong request for [`MetricKind::Decoder`].
    pub fn ensure_of_images(self, what: &str) -> Result<()> {
        if Self::ALL.contains(&self) {
            return Ok(());
        }
        let names = Self::ALL.map(Self::name).join(", ");
        Err(Error::request(what, format!("one of images: {names}"), format!("{self}, which is of codes")))
    }

    /// D, the length of its directions, for images of `dim` numbers and L latents.
    pub fn dim(self, dim: i64, latent: i64) -> i64 {
        if self == Self::Decoder { latent } else { dim }
    }
}
