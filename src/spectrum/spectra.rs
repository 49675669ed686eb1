//! Whole spectra or leading pairs, whichever was asked for or `auto` chooses: what a user of the engine begins with.

use super::{Contest, Engine, Leading, LeadingEngine, Sizes, Spectrum, SpectrumMode, SpectrumSpec};
use crate::device;
use crate::error::{Error, Result};
use crate::jacobian::{BatchSize, Planner, Reach};
use crate::metric::{MatrixFree, MetricKind};
use crate::model::Vae;
use tch::Tensor;

/// Takes images to the spectra of one metric of one model. It remembers between calls what it learned of speed and memory.
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

/// What is known of the spectra of some images.
#[derive(Debug)]
pub enum Found {
    /// Every eigenvalue.
    Whole(Spectrum),
    /// The leading pairs, and estimates of what hangs on the rest.
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

    /// Passes through the model and back, a sample, that it takes to find it: one there, and one back for each row of the factor; for
    /// leading pairs two for each product that the space holds.
    pub fn passes(&self) -> (f64, f64) {
        let columns = |t: &Tensor| t.size().get(1).copied().unwrap_or(0) as f64;
        match self {
            Self::Whole(spectrum) => (1.0, columns(&spectrum.values)),
            Self::Leading(leading) => (1.0, 2.0 * columns(&leading.quadrature.nodes)),
        }
    }

    /// Eigenvalues and directions, as an attack along them takes them.
    pub fn into_spectrum(self) -> Spectrum {
        match self {
            Self::Whole(spectrum) => spectrum,
            Self::Leading(Leading { values, directions, .. }) => Spectrum { values, directions: Some(directions) },
        }
    }
}

/// What [`Spectra`] are asked for, besides the metric.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// How spectra are found; `auto` where nothing is said.
    pub spec: SpectrumSpec,
    /// Directions that are kept.
    pub top: usize,
    /// Leading pairs that are computed where a spectrum is not whole: these, or as many as `spec` and `top` ask for.
    pub pairs: Option<usize>,
    /// Seed of the probes of leading pairs.
    pub seed: u64,
    /// Samples a pass; measured where nothing is said.
    pub batch: BatchSize,
}

impl Spectra {
    /// Spectra of `metric` of `vae`, with the `top` leading directions; how they are found is decided here, by the sizes of the
    /// model's code and reconstruction of `sample` [N, C, H, W], of which only the first image is asked. Passes run on the device
    /// and in the precision of `sample`.
    ///
    /// # Errors
    /// Where the model cannot take `sample`; a wrong request where a whole spectrum is asked for and does not fit the memory, or
    /// more directions than there are.
    pub fn of(vae: &dyn Vae, sample: &Tensor, metric: MetricKind, top: usize) -> Result<Self> {
        Self::wanted(vae, sample, metric, &Wanted { top, ..Wanted::default() })
    }

    /// [`Spectra::of`] with all that can be wanted.
    ///
    /// # Errors
    /// As [`Spectra::of`]; a wrong request where a setting is out of range.
    pub fn wanted(vae: &dyn Vae, sample: &Tensor, metric: MetricKind, wanted: &Wanted) -> Result<Self> {
        crate::ffi::exact_math()?;
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

    /// How many eigenvalues are not 0 by the model's sizes: min(R, D).
    pub fn bound(&self) -> i64 {
        self.bound
    }

    /// The spectra of `images` [N, C, H, W], which may lie on the host; `index` holds their positions in the data set, by which
    /// probes are drawn. Once the process is asked to stop, those of the passes that had ended alone.
    ///
    /// # Errors
    /// Where samples interact in the model, where it is not finite, or where not even one sample fits the memory;
    /// [`Error::Interrupted`] where not even one pass had ended.
    pub fn find(&mut self, vae: &dyn Vae, images: &Tensor, index: &[u64]) -> Result<Found> {
        // Where the caller has switched gradients off, there would be none.
        tch::with_grad(|| {
            Ok(match &mut self.way {
                Way::Full(engine) => Found::Whole(engine.spectra(vae, images)?),
                Way::Top(engine) => Found::Leading(engine.leading(vae, images, index)?),
            })
        })
    }

    /// [`Metric::log_lengths`](crate::metric::Metric::log_lengths) of the images whose spectra were found last, [N, L] f64: of the metric
    /// `decoder`, where spectra are whole.
    pub fn log_lengths(&self) -> Option<&Tensor> {
        match &self.way {
            Way::Full(engine) => engine.log_lengths(),
            Way::Top(_) => None,
        }
    }

    /// The planner, for what it has settled on.
    pub fn planner(&self) -> &Planner {
        match &self.way {
            Way::Full(engine) => engine.planner(),
            Way::Top(engine) => engine.planner(),
        }
    }

    /// The contest that decided which eigensolver is taken, where there was one.
    pub fn contest(&self) -> Option<&Contest> {
        match &self.way {
            Way::Full(engine) => engine.contest(),
            Way::Top(_) => None,
        }
    }
}

/// How spectra of `metric` are found, and how many eigenvalues one has: decided before any work, from the sizes of the code of one
/// image, `sample` [1, C, H, W], and, where the metric reaches through the decoder, its reconstruction.
fn choose(vae: &dyn Vae, sample: &Tensor, metric: MetricKind, spec: &SpectrumSpec) -> Result<(SpectrumMode, i64)> {
    // Two alike, so that batch normalisation in training mode is met by the check that explains it.
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
        // No products with this model's Jacobian (an operation without a second derivative): whole, if it fits.
        let whole = SpectrumSpec { mode: SpectrumMode::Full, ..spec.clone() };
        mode = whole.resolve(metric, sizes, budget).map_err(|_| error)?;
    }
    Ok((mode, metric.rows(latent).min(metric.dim(sizes.dim, latent))))
}
