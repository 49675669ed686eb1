//! The targets of attacks.

use super::job::Job;
use crate::attack::whole;
use crate::config::Target;
use crate::data;
use crate::error::{Error, Result};
use crate::model::shift::Reading;
use crate::model::{Posterior, Vae};
use crate::seed::{self, Stage};
use rand::Rng;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use tch::{Kind, Tensor};

/// A stream of [`Stage::Others`]; stream 1 belongs to the images that attacks may move towards.
const SHUFFLE: u64 = 2;

/// Codes of a file that are looked at together.
const ROWS: usize = 4096;

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
    /// One code for all samples, or one for each.
    Code {
        /// [1, L] or [N, L].
        source: Arc<dyn data::Source>,
        /// The hash of all of them.
        sha256: String,
    },
}

impl Aimed {
    /// The hash of targets that lie in a file of their own.
    pub(super) fn sha256(&self) -> Option<&str> {
        match self {
            Self::Image { sha256, .. } => sha256.as_deref(),
            Self::Code { sha256, .. } => Some(sha256),
            Self::Zero | Self::Shuffle => None,
        }
    }
}

/// The targets of some samples, one for each.
pub(super) enum Ends {
    /// [n, C, H, W].
    Images(Tensor),
    /// [n, L].
    Codes(Tensor),
}

impl Ends {
    /// Those of `count` samples from `start`.
    ///
    /// # Errors
    /// If there are fewer.
    pub(super) fn narrow(&self, start: i64, count: i64) -> Result<Self> {
        Ok(match self {
            Self::Images(images) => Self::Images(images.f_narrow(0, start, count)?),
            Self::Codes(codes) => Self::Codes(codes.f_narrow(0, start, count)?),
        })
    }
}

impl Job<'_> {
    /// Looks a target up; a `directed` goal needs codes that have a direction.
    ///
    /// # Errors
    /// A wrong request if there is no such image, or it has another shape, or the code has no direction.
    pub(super) fn aimed(&self, target: &Target, directed: bool) -> Result<Aimed> {
        match target {
            Target::Zero if directed => Err(undirected("target zero")),
            Target::Zero => Ok(Aimed::Zero),
            Target::Shuffle if self.source.len() < 2 => {
                Err(Error::request("target shuffle", "at least two images", self.source.len().to_string()))
            }
            Target::Shuffle => Ok(Aimed::Shuffle),
            Target::Index(index) if *index >= self.source.len() as u64 => {
                let last = self.source.len().saturating_sub(1);
                Err(Error::request("target", format!("a position from 0 to {last}"), index.to_string()))
            }
            Target::Index(index) => {
                let image = self.read(&[*index])?;
                ensure_whole(&image, || index.to_string())?;
                Ok(Aimed::Image { image, sha256: None })
            }
            Target::File(file) => {
                let subject = self.subject();
                let source = data::open_as(file, subject.split, Some(1), &subject.reading)?;
                let (found, wanted) = (source.shape(), self.shape);
                if found != wanted {
                    let told = |s: data::ImageShape| format!("{}x{}x{}", s.channels, s.height, s.width);
                    return Err(Error::request(format!("target {file}"), told(wanted), told(found)));
                }
                let image = source.read(&[0])?.images.f_to_device(self.device)?.f_to_kind(self.kind)?;
                ensure_whole(&image, || file.clone())?;
                Ok(Aimed::Image { image, sha256: Some(data::fingerprint(source.as_ref())?) })
            }
            Target::Code(file) => self.codes(file, directed),
        }
    }

    /// The codes of a file, all of which are checked and hashed: a part of a run reads some of them only.
    fn codes(&self, file: &str, directed: bool) -> Result<Aimed> {
        let (subject, named) = (self.subject(), format!("target code:{file}"));
        // A code has values of any size.
        let reading = data::Reading { full_scale: Some(data::FullScale::None), ..data::Reading::default() };
        let source = data::open_as(file, subject.split, None, &reading)?;
        let latents = tch::no_grad(|| self.model.vae.encode(&self.sample()?))?.mean.size()[1];
        let (count, samples, axes) = (source.len(), self.source.len(), source.sample());
        // With --limit the data set, and so the file, may be longer.
        let enough = count == 1 || count == samples || (subject.limit.is_some() && count > samples);
        if axes != [latents] || !enough {
            let expected = format!("[1, {latents}], or [{samples}, {latents}] with a code for each sample");
            let found: Vec<i64> = std::iter::once(count as i64).chain(axes).collect();
            return Err(Error::request(named, expected, format!("{found:?}")));
        }
        let mut hash = Sha256::new();
        hash.update((count as i64).to_le_bytes());
        for start in (0..count as u64).step_by(ROWS) {
            let index: Vec<u64> = (start..(start + ROWS as u64).min(count as u64)).collect();
            let values = Vec::<f32>::try_from(source.read(&index)?.images.f_to_kind(Kind::Float)?.f_flatten(0, -1)?)?;
            if let Some(wrong) = values.iter().find(|value| !value.is_finite()) {
                return Err(Error::request(named, "finite numbers", wrong.to_string()));
            }
            if directed && values.chunks_exact(latents.max(1) as usize).any(|code| code.iter().all(|v| *v == 0.0)) {
                return Err(undirected(&named));
            }
            values.iter().for_each(|value| hash.update(value.to_le_bytes()));
        }
        let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Aimed::Code { source, sha256 })
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

    /// The targets for the samples at positions `index`; `None` for the code 0.
    ///
    /// # Errors
    /// If they cannot be read.
    pub(super) fn target_images(&self, aimed: &Aimed, index: &[u64]) -> Result<Option<Ends>> {
        match aimed {
            Aimed::Zero => Ok(None),
            Aimed::Image { image, .. } => {
                let mut size = image.size();
                size[0] = index.len() as i64;
                Ok(Some(Ends::Images(image.f_expand(size.as_slice(), false)?.f_contiguous()?)))
            }
            Aimed::Shuffle => {
                let partners = self.partners(aimed, index).unwrap_or_default();
                let images = self.source.read(&partners)?.images;
                Ok(Some(Ends::Images(images.f_to_device(self.device)?.f_to_kind(self.kind)?)))
            }
            Aimed::Code { source, .. } => {
                let rows = if source.len() == 1 { source.read(&[0]) } else { source.read(index) };
                let codes = rows?.images.f_flatten(1, -1)?.f_to_device(self.device)?.f_to_kind(self.kind)?;
                let size = [index.len() as i64, codes.size()[1]];
                Ok(Some(Ends::Codes(codes.f_expand(size, false)?.f_contiguous()?)))
            }
        }
    }
}

fn undirected(target: &str) -> Error {
    Error::request(
        format!("{target} with goal cosine"),
        "a code with a direction (or another goal)",
        "0, which has none",
    )
}

/// Refuses a target that no image can be led towards.
fn ensure_whole(image: &Tensor, name: impl Fn() -> String) -> Result<()> {
    if whole(image)?.f_all()?.f_int64_value(&[])? == 1 {
        return Ok(());
    }
    Err(Error::request(format!("pixels of target {}", name()), "finite numbers", "NaN or infinity"))
}

/// The model's outputs for the targets of the samples `x` [B, C, H, W]: for `ends`, or for the code 0.
///
/// # Errors
/// If the model cannot take them.
pub(super) fn reading(vae: &dyn Vae, x: &Tensor, ends: Option<&Ends>) -> Result<Reading> {
    let codes = match ends {
        Some(Ends::Images(images)) => return Reading::of(vae, images),
        Some(Ends::Codes(codes)) => Some(codes),
        None => None,
    };
    tch::no_grad(|| {
        let posterior = vae.encode(x)?;
        let mean = match codes {
            Some(codes) => codes.shallow_clone(),
            None => posterior.mean.f_zeros_like()?,
        };
        let reconstruction = vae.decode(&mean)?;
        let images = reconstruction.shallow_clone();
        // The prior's variance.
        let log_var = posterior.log_var.f_zeros_like()?;
        Ok(Reading { images, posterior: Posterior { mean, log_var }, reconstruction, features: Vec::new() })
    })
}
