//! The targets of attacks.

use super::job::Job;
use crate::config::Target;
use crate::data;
use crate::error::{Error, Result};
use crate::model::shift::Reading;
use crate::model::{Posterior, Vae};
use crate::seed::{self, Stage};
use rand::Rng;
use tch::Tensor;

/// A stream of [`Stage::Others`]; stream 1 belongs to the images that attacks may move towards.
const SHUFFLE: u64 = 2;

/// A target after look-up: the source of the target images.
pub(super) enum Aimed {
    Zero,
    Shuffle,
    /// One for all samples.
    Image {
        /// [1, C, H, W].
        image: Tensor,
        /// The hash of one in a file of its own: a run that goes on, and every part of it, must have the same one.
        sha256: Option<String>,
    },
}

impl Job<'_> {
    /// Looks a target up.
    ///
    /// # Errors
    /// A wrong request if there is no such image, or it has another shape.
    pub(super) fn aimed(&self, target: &Target) -> Result<Aimed> {
        match target {
            Target::Zero => Ok(Aimed::Zero),
            Target::Shuffle if self.source.len() < 2 => {
                Err(Error::request("target shuffle", "at least two images", self.source.len().to_string()))
            }
            Target::Shuffle => Ok(Aimed::Shuffle),
            Target::Index(index) if *index >= self.source.len() as u64 => {
                let last = self.source.len().saturating_sub(1);
                Err(Error::request("target", format!("a position from 0 to {last}"), index.to_string()))
            }
            Target::Index(index) => Ok(Aimed::Image { image: self.read(*index)?, sha256: None }),
            Target::File(file) => {
                let subject = self.subject();
                let source = data::open_as(file, subject.split, Some(1), &subject.reading)?;
                let (found, wanted) = (source.shape(), self.shape);
                if found != wanted {
                    let told = |s: data::ImageShape| format!("{}x{}x{}", s.channels, s.height, s.width);
                    return Err(Error::request(format!("target {file}"), told(wanted), told(found)));
                }
                let image = source.read(&[0])?.images.f_to_device(self.device)?.f_to_kind(self.kind)?;
                Ok(Aimed::Image { image, sha256: Some(data::fingerprint(source.as_ref())?) })
            }
        }
    }

    /// The positions of the target images, one for each sample at the positions `index`, if samples have targets of their own.
    pub(super) fn partners(&self, aimed: &Aimed, index: &[u64]) -> Option<Vec<u64>> {
        let total = self.source.len() as u64;
        // Any other image, each with the same probability.
        let partner = |i: &u64| {
            let step = seed::generator(self.subject().seed, Stage::Others, *i, SHUFFLE).random_range(1..total);
            (i + step) % total
        };
        matches!(aimed, Aimed::Shuffle).then(|| index.iter().map(partner).collect())
    }

    /// The target images for the samples at positions `index`, [n, C, H, W]; `None` for the code 0.
    ///
    /// # Errors
    /// If they cannot be read.
    pub(super) fn target_images(&self, aimed: &Aimed, index: &[u64]) -> Result<Option<Tensor>> {
        match aimed {
            Aimed::Zero => Ok(None),
            Aimed::Image { image, .. } => {
                let mut size = image.size();
                size[0] = index.len() as i64;
                Ok(Some(image.f_expand(size.as_slice(), false)?.f_contiguous()?))
            }
            Aimed::Shuffle => {
                let partners = self.partners(aimed, index).unwrap_or_default();
                let images = self.source.read(&partners)?.images;
                Ok(Some(images.f_to_device(self.device)?.f_to_kind(self.kind)?))
            }
        }
    }
}

/// The model's outputs for the targets of the samples `x` [B, C, H, W]: for `images`, or for the code 0.
///
/// # Errors
/// If the model cannot take them.
pub(super) fn reading(vae: &dyn Vae, x: &Tensor, images: Option<&Tensor>) -> Result<Reading> {
    if let Some(images) = images {
        return Reading::of(vae, images);
    }
    tch::no_grad(|| {
        let posterior = vae.encode(x)?;
        let mean = posterior.mean.f_zeros_like()?;
        let reconstruction = vae.decode(&mean)?;
        let images = reconstruction.shallow_clone();
        // The prior's variance.
        let log_var = posterior.log_var.f_zeros_like()?;
        Ok(Reading { images, posterior: Posterior { mean, log_var }, reconstruction, features: Vec::new() })
    })
}
