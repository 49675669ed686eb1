//! How a spectrum is found: `spectrum: {mode: top, pairs: 10}` in the YAML.

use crate::error::{Error, Result};
use crate::metric::MetricKind;
use serde::{Deserialize, Serialize};

/// Whether the whole spectrum is computed or only its top.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, strum::Display, strum::IntoStaticStr)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum SpectrumMode {
    /// `full` if the factor is small enough, by the model's sizes only, so that it is the same on every machine; otherwise `top`.
    #[default]
    Auto,
    /// Every eigenvalue, from the Gram matrix of the factor.
    Full,
    /// The leading eigenpairs by products with the Jacobian; scores of the rest are estimates.
    Top,
}

impl SpectrumMode {
    /// As in the YAML.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// The `spectrum` key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpectrumSpec {
    /// Whole or top.
    pub mode: SpectrumMode,
    /// `top`: leading eigenpairs that are reported, at least as many as directions are kept (>= 1).
    pub pairs: usize,
    /// `top`: random vectors for each sample. They start its Krylov space, which grows by this number at each step, and give the estimates,
    /// whose standard errors fall with the square root of the number (2 to 256).
    pub probes: usize,
    /// `top`: the most steps (2 to 1024). With more steps, pairs that lie close together converge.
    pub steps: usize,
    /// `top`: a pair is found once |G v - lambda v| is at most this share of lambda_1 (> 0, at most 0.1).
    pub tolerance: f64,
    /// `top`, metric `output-stochastic`: the most products with the decoder for diag M, one for each latent (>= 1).
    pub columns: usize,
    /// Memory that a pass may take, in MiB (>= 1); if absent, what the device can spare.
    pub memory: Option<u64>,
}

impl Default for SpectrumSpec {
    fn default() -> Self {
        Self {
            mode: SpectrumMode::default(),
            pairs: 10,
            probes: 9,
            steps: 24,
            tolerance: 1e-6,
            columns: 16384,
            memory: None,
        }
    }
}

/// Sizes of a model, which decide the memory of its factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// D, the length of an image.
    pub dim: i64,
    /// L, the length of a code.
    pub latent: i64,
    /// O, the length of the decoder's output.
    pub outputs: i64,
}

/// With more rows the backward passes and the Gram matrix of a sample take minutes; its leading pairs take a few hundred passes.
const FULL_ROWS: i64 = 2048;
/// With more bytes for each sample, not every machine can compute the whole spectrum.
const FULL_BYTES: u64 = 1 << 30;

impl SpectrumSpec {
    /// True for the default; such a spec is left out of a stored request.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The number of leading pairs that are computed if `top` directions are kept and at most `bound` eigenvalues are not 0.
    pub fn leading(&self, top: usize, bound: i64) -> usize {
        top.max(self.pairs.min(bound.max(1) as usize))
    }

    /// Checks every range; `key` is the place of the spec (`score.spectrum`).
    ///
    /// # Errors
    /// A wrong request that names the first key that is out of range.
    pub fn check(&self, key: &str) -> Result<()> {
        let whole = |name: &str, value: usize, low: usize, high: usize| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            let expected = match high {
                usize::MAX => format!("a whole number >= {low}"),
                _ => format!("a whole number from {low} to {high}"),
            };
            Err(Error::request(format!("{key}.{name}"), expected, value.to_string()))
        };
        whole("pairs", self.pairs, 1, usize::MAX)?;
        whole("probes", self.probes, 2, 256)?;
        whole("steps", self.steps, 2, 1024)?;
        whole("columns", self.columns, 1, usize::MAX)?;
        whole("memory", self.memory.map_or(1, |mib| mib as usize), 1, 1 << 40)?;
        if !(self.tolerance > 0.0 && self.tolerance <= 0.1) {
            let found = self.tolerance.to_string();
            return Err(Error::request(format!("{key}.tolerance"), "a number > 0, at most 0.1", found));
        }
        Ok(())
    }

    /// Bytes that a pass may take; `spare` is what the device has for it.
    pub fn budget(&self, spare: u64) -> u64 {
        self.memory.map_or(spare, |mib| mib.saturating_mul(1 << 20))
    }

    /// `Full` or `Top` for a metric of a model with these sizes.
    ///
    /// # Errors
    /// A wrong request if `full` is asked for and one sample does not fit `budget` bytes, or diag M takes too many products.
    pub fn resolve(&self, metric: MetricKind, sizes: Sizes, budget: u64) -> Result<SpectrumMode> {
        let rows = metric.rows(sizes.latent);
        let bytes = dense_bytes(metric, sizes);
        let mode = match self.mode {
            // This machine's free memory does not count: a run can continue on another machine, and its shards must have one layout.
            SpectrumMode::Auto if bytes > self.budget(FULL_BYTES) || rows > FULL_ROWS => SpectrumMode::Top,
            SpectrumMode::Auto | SpectrumMode::Full if bytes > budget => {
                return Err(Error::request(
                    "spectrum full",
                    format!("a factor that fits the memory of a pass, {} MiB (or --spectrum top)", budget >> 20),
                    format!("{} MiB a sample for {rows} rows of {}", bytes >> 20, metric.dim(sizes.dim, sizes.latent)),
                ));
            }
            SpectrumMode::Auto | SpectrumMode::Full => SpectrumMode::Full,
            SpectrumMode::Top => SpectrumMode::Top,
        };
        if mode == SpectrumMode::Top && metric == MetricKind::OutputStochastic && sizes.latent > self.columns as i64 {
            return Err(Error::request(
                "spectrum top of the metric output-stochastic",
                format!("at most {} latents, each a product with the decoder (spectrum.columns)", self.columns),
                sizes.latent.to_string(),
            ));
        }
        Ok(mode)
    }
}

/// The least memory of the dense path for one sample: the factor, the rows and columns from which it is made, and three matrices of the
/// Gram matrix's size for its eigenvalues.
fn dense_bytes(metric: MetricKind, sizes: Sizes) -> u64 {
    let Sizes { dim, latent, outputs } = sizes;
    let (rows, dim) = (metric.rows(latent), metric.dim(dim, latent));
    let decoder = match metric {
        MetricKind::Output | MetricKind::OutputStochastic | MetricKind::Decoder => rows * dim + 2 * outputs * latent,
        MetricKind::Mean | MetricKind::Stochastic | MetricKind::Fisher => 0,
    };
    8 * (rows * dim + decoder + 3 * rows * rows) as u64
}
