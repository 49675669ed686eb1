//! Whole spectra or leading pairs, as requested or as `auto` chooses: the entry point for users of the engine.

use super::{Contest, Engine, Leading, LeadingEngine, Sizes, Spectrum, SpectrumMode, SpectrumSpec};
use crate::device;
use crate::error::{Error, Result};
use crate::jacobian::{BatchSize, Planner, Reach};
use crate::metric::{MatrixFree, MetricKind};
use crate::model::Vae;
use tch::Tensor;

/// Finds the spectra of images for one metric of one model, and keeps between calls what it learned about speed and memory.
#[derive(Debug)]
pub struct Spectra {
    way: Way,
    bound: i64,
}

#[derive(Debug)]
enum Way {
    Full(Engine),
    Top(LeadingEngine),
}

/// The spectra that were found for some images.
#[derive(Debug)]
pub enum Found {
    /// Every eigenvalue.
    Whole(Spectrum),
    /// The leading pairs, and estimates of sums over the rest.
    Leading(Leading),
}

impl Found {
    /// Eigenvalues [B, K] f64, descending: all, or the leading ones.
    pub fn values(&self) -> &Tensor {
        match self {
            Self::Whole(spectrum) => &spectrum.values,
            Self::Leading(leading) => &leading.values,
        }
    }

    /// Forward and backward passes for each sample that finding it takes: one forward, and one backward for each row of the factor; for
    /// leading pairs two backward for each product that the space holds.
    pub fn passes(&self) -> (f64, f64) {
        let columns = |t: &Tensor| t.size().get(1).copied().unwrap_or(0) as f64;
        match self {
            Self::Whole(spectrum) => (1.0, columns(&spectrum.values)),
            Self::Leading(leading) => (1.0, 2.0 * columns(&leading.quadrature.nodes)),
        }
    }

    /// Eigenvalues and directions, in the form that attacks take.
    pub fn into_spectrum(self) -> Spectrum {
        match self {
            Self::Whole(spectrum) => spectrum,
            Self::Leading(Leading { values, directions, .. }) => Spectrum { values, directions: Some(directions) },
        }
    }
}

/// The settings of [`Spectra`], besides the metric.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// How spectra are found; `auto` if absent.
    pub spec: SpectrumSpec,
    /// The number of directions that are kept.
    pub top: usize,
    /// The number of leading pairs if a spectrum is not whole; if absent, as `spec` and `top` require.
    pub pairs: Option<usize>,
    /// Seed of the probes of leading pairs.
    pub seed: u64,
    /// Samples in a pass; measured if absent.
    pub batch: BatchSize,
}

impl Spectra {
    /// Spectra of `metric` of `vae`, with the `top` leading directions; how they are found is decided here, by the sizes of the model's
    /// code and reconstruction for the first image of `sample` [N, C, H, W]. Passes run on the device and in the precision of `sample`.
    ///
    /// # Errors
    /// If the model cannot take `sample`; a wrong request if a whole spectrum is asked for and does not fit the memory, or if there are
    /// fewer directions than asked for.
    pub fn of(vae: &dyn Vae, sample: &Tensor, metric: MetricKind, top: usize) -> Result<Self> {
        Self::wanted(vae, sample, metric, &Wanted { top, ..Wanted::default() })
    }

    /// [`Spectra::of`] with all settings.
    ///
    /// # Errors
    /// As [`Spectra::of`]; a wrong request if a setting is out of range.
    pub fn wanted(vae: &dyn Vae, sample: &Tensor, metric: MetricKind, wanted: &Wanted) -> Result<Self> {
        crate::ffi::exact_math()?;
        crate::ffi::convolution::forget_weights();
        crate::error::ensure_shape("images", sample, &[-1, -1, -1, -1])?;
        if sample.size()[0] == 0 {
            return Err(Error::request("images", "at least one", "none"));
        }
        let Wanted { spec, top, pairs, seed, batch } = wanted;
        spec.check("spectrum")?;
        let (mode, bound) = choose(vae, &sample.f_narrow(0, 0, 1)?, metric, spec)?;
        let (device, kind) = (sample.device(), sample.kind());
        let way = match mode {
            SpectrumMode::Top => {
                let pairs = pairs.unwrap_or_else(|| spec.leading(*top, bound));
                Way::Top(LeadingEngine::new(metric, spec.clone(), pairs, bound, *seed, (device, kind), *batch)?)
            }
            _ => Way::Full(Engine::new(metric, *top, device, kind, *batch)?),
        };
        Ok(Self { way, bound })
    }

    /// [`SpectrumMode::Full`] or [`SpectrumMode::Top`].
    pub fn mode(&self) -> SpectrumMode {
        match self.way {
            Way::Full(_) => SpectrumMode::Full,
            Way::Top(_) => SpectrumMode::Top,
        }
    }

    /// How many eigenvalues can differ from 0 by the model's sizes: min(R, D).
    pub fn bound(&self) -> i64 {
        self.bound
    }

    /// The spectra of `images` [N, C, H, W], which may lie on the host; `index` holds their positions in the data set, from which probes
    /// are drawn. If the process is asked to stop, only the finished passes are returned.
    ///
    /// # Errors
    /// If samples interact in the model, if it is not finite, or if not even one sample fits the memory; [`Error::Interrupted`] if no pass
    /// had finished.
    pub fn find(&mut self, vae: &dyn Vae, images: &Tensor, index: &[u64]) -> Result<Found> {
        // If the caller has switched gradients off, they must be switched on here.
        tch::with_grad(|| {
            Ok(match &mut self.way {
                Way::Full(engine) => Found::Whole(engine.spectra(vae, images)?),
                Way::Top(engine) => Found::Leading(engine.leading(vae, images, index)?),
            })
        })
    }

    /// [`Metric::log_lengths`](crate::metric::Metric::log_lengths) of the images whose spectra were found last, [N, L] f64: for the metric
    /// `decoder`, if spectra are whole.
    pub fn log_lengths(&self) -> Option<&Tensor> {
        match &self.way {
            Way::Full(engine) => engine.log_lengths(),
            Way::Top(_) => None,
        }
    }

    /// The planner, with the pass that it chose.
    pub fn planner(&self) -> &Planner {
        match &self.way {
            Way::Full(engine) => engine.planner(),
            Way::Top(engine) => engine.planner(),
        }
    }

    /// The contest that decided which eigensolver is used, if there was one.
    pub fn contest(&self) -> Option<&Contest> {
        match &self.way {
            Way::Full(engine) => engine.contest(),
            Way::Top(_) => None,
        }
    }
}

/// How spectra of `metric` are found, and how many eigenvalues one has. Both are decided before any work, from the sizes of the code of one
/// image, `sample` [1, C, H, W], and, if the metric uses the decoder, of its reconstruction.
fn choose(vae: &dyn Vae, sample: &Tensor, metric: MetricKind, spec: &SpectrumSpec) -> Result<(SpectrumMode, i64)> {
    // Two equal images, so that the check that explains batch normalisation in training mode finds it.
    let pair = sample.f_repeat([2, 1, 1, 1])?;
    let (latent, outputs) = tch::no_grad(|| -> Result<_> {
        let mean = vae.encode(&pair)?.mean;
        let outputs = match metric.reach() {
            Reach::Encoder => 0,
            Reach::EncoderAndDecoder => vae.decode(&mean)?.numel() as i64 / 2,
        };
        Ok((mean.numel() as i64 / 2, outputs))
    })?;
    let sizes = Sizes { dim: sample.numel() as i64, latent, outputs };
    let budget = spec.budget(device::memory_budget(sample.device())?);
    let mut mode = spec.resolve(metric, sizes, budget)?;
    if mode == SpectrumMode::Top
        && spec.mode == SpectrumMode::Auto
        && let Err(error) = MatrixFree::footprint(vae, sample, metric)
    {
        if error.is_out_of_memory() || matches!(error, Error::Interrupted) {
            return Err(error);
        }
        // This model's Jacobian has no products (an operation lacks a second derivative), so the spectrum is found whole, if it fits.
        let whole = SpectrumSpec { mode: SpectrumMode::Full, ..spec.clone() };
        mode = whole.resolve(metric, sizes, budget).map_err(|_| error)?;
    }
    Ok((mode, metric.rows(latent).min(metric.dim(sizes.dim, latent))))
}
