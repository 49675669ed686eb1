//! Flags that several commands share, and how values are read.

use crate::config::{Precision, ShardChoice};
use crate::data::{Background, FullScale, Layout, Split};
use crate::device::DeviceChoice;
use crate::jacobian::BatchSize;
use crate::metric::MetricKind;
use crate::model::{InputRange, Outputs, PosteriorScale};
use crate::spectrum::SpectrumMode;
use clap::ArgAction;
use clap::builder::{OsStringValueParser, PathBufValueParser, TypedValueParser};
use std::ffi::OsString;
use std::path::PathBuf;

/// How data are read, where they do not say it.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Read {
    /// Order of the axes of an array of images; found by its shape unless given
    #[arg(long, value_name = "nchw|nhwc")]
    pub layout: Option<Layout>,
    /// The stored value that means 1 (by type unless given: 255, 65535, 1), or none: values as they are, no box
    #[arg(long, value_name = "V|none", allow_negative_numbers = true, value_parser = parsed::<FullScale>)]
    pub full_scale: Option<FullScale>,
    /// What lies under transparent pixels
    #[arg(long, value_name = "black|white")]
    pub background: Option<Background>,
}

/// Flags of every command that computes.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Compute {
    /// Where to compute: auto, cpu, cuda, cuda:N
    #[arg(long, value_name = "DEVICE", value_parser = parsed::<DeviceChoice>)]
    pub device: Option<DeviceChoice>,
    /// Samples a pass: auto (measured) or a number; in training, samples a step
    #[arg(long, value_name = "auto|N", allow_negative_numbers = true, value_parser = parsed::<BatchSize>)]
    pub batch: Option<BatchSize>,
    /// Use the first N samples only
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = count)]
    pub limit: Option<usize>,
    /// Which part of the data
    #[arg(long, value_name = "SPLIT")]
    pub split: Option<Split>,
    /// Seed of everything random
    #[arg(long, value_name = "S", allow_negative_numbers = true, value_parser = seed)]
    pub seed: Option<u64>,
    /// Override a key of the YAML, as in --set train.epochs=3 (repeatable; flags win over it)
    #[arg(long, value_name = "KEY.PATH=VALUE", action = ArgAction::Append)]
    pub set: Vec<String>,
}

/// Flags that `score` and `attack` share.
#[derive(Debug, clap::Args)]
pub struct Evaluate {
    /// A folder that `train` wrote, or a TorchScript file
    #[arg(short, long, value_name = "MODEL", value_parser = path())]
    pub model: PathBuf,
    /// Images (see `pullback --help`)
    #[arg(short, long, value_name = "DATA", value_parser = name())]
    pub data: String,
    /// The result, HDF5
    #[arg(short, long, value_name = "FILE.h5", value_parser = path())]
    pub output: PathBuf,
    /// YAML to start from
    #[arg(short, long, value_name = "CONFIG")]
    pub config: Option<PathBuf>,
    /// The pullback metric [default: stochastic]
    #[arg(long, value_name = "METRIC")]
    pub metric: Option<MetricKind>,
    /// Every eigenvalue, or the top ones by products with the Jacobian and estimates of the rest; auto decides by the model's sizes
    /// alone, the same on every machine (see docs/mathematics.md, section 8) [default: auto]
    #[arg(long, value_name = "SPECTRUM")]
    pub spectrum: Option<SpectrumMode>,
    /// Floating-point precision of the pass [default: f32]
    #[arg(long, value_name = "PRECISION")]
    pub precision: Option<Precision>,
    /// Do part I of N of the samples only; any/N: parts of N that no other process has, one after another; `merge` joins the parts.
    /// Unless given, in turn with the ranks that srun, mpirun or torchrun started, or the part of a job array (docs/cluster.md); rank: the
    /// launcher's part, fixed; none: all samples
    #[arg(long, value_name = "I/N|any/N|rank|none", value_parser = parsed::<ShardChoice>)]
    pub shard: Option<ShardChoice>,
    /// A draw of N samples, by the seed, in place of the first N
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = count, conflicts_with = "limit")]
    pub sample: Option<usize>,
    /// What the model sees for pixels of 0 and 1 [default: 0,1]
    #[arg(long, value_name = "LOW,HIGH", allow_hyphen_values = true, value_parser = parsed::<InputRange>)]
    pub input_range: Option<InputRange>,
    /// What the encoder's second output is [default: logvar]
    #[arg(long, value_name = "KIND")]
    pub posterior: Option<PosteriorScale>,
    /// Which of the encoder's outputs are mean and scale, from 0; or the mean alone
    #[arg(long, value_name = "I,J", value_parser = parsed::<Outputs>)]
    pub outputs: Option<Outputs>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub read: Read,
    /// Overwrite the result
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub compute: Compute,
}

/// A value by its own `FromStr`.
pub(super) fn parsed<T: std::str::FromStr<Err = crate::Error>>(text: &str) -> Result<T, crate::Error> {
    text.parse()
}

/// A path that HDF5 opens, or that files and messages name: those are text.
pub(super) fn path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| text(path.into_os_string()).map(PathBuf::from))
}

/// A name that may be a path.
pub(super) fn name() -> impl TypedValueParser<Value = String> {
    OsStringValueParser::new().try_map(text)
}

fn text(typed: OsString) -> Result<String, String> {
    typed.into_string().map_err(|typed| format!("expected a name in UTF-8, found {typed:?}"))
}

pub(super) fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err(format!("expected a whole number >= 1, found {text:?}")),
    }
}

pub(super) fn whole(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("expected a whole number >= 0, found {text:?}"))
}

fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("expected a whole number from 0 to {}, found {text:?}", u64::MAX))
}

pub(super) fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if x.is_finite() && x > 0.0 => Ok(x),
        _ => Err(format!("expected a number > 0, found {text:?}")),
    }
}
