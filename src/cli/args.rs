//! What was typed (the low-level arguments). This file opens no file and no device; `request.rs` resolves the arguments.

use super::examples;
use crate::attack::{AttackSpec, Goal, Norm, Schedule, Start, StepScale};
use crate::config::Precision;
use crate::config::{PixelBox, ShardChoice, Target};
use crate::data::{Background, FullScale, Layout, Split};
use crate::device::DeviceChoice;
use crate::jacobian::BatchSize;
use crate::metric::MetricKind;
use crate::model::{Defence, InputRange, JudgeReads, Outputs, PosteriorScale};
use crate::pipeline::bench::Work;
use crate::spectrum::SpectrumMode;
use clap::{ArgAction, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::path::PathBuf;

const AFTER: &str = "\
DATA is recognised by what it is: `strokes` (generated digits, embedded), a folder with IDX files, a CIFAR-10 binary
folder, an HDF5 file with /images (or FILE.h5:/NAME), an .npy or .npz file, or a folder of pictures.
MODEL is a folder that `train` wrote, or a TorchScript file (*.pt) with encode(x) -> (mu, logvar), or mu alone, and
decode(z). docs/data.md and docs/models.md say what is read, and by which flag.

Exit code 0: done. 2: the request was wrong. 75: stopped by TERM, USR1 or USR2, as schedulers stop a job; the same command
goes on. 1: anything else. Nothing that exists is overwritten without --force.

Examples:
  pullback demo
  pullback inspect runs/demo
  pullback score --help";

/// How robust is a variational autoencoder? The local geometry of its encoder tells.
#[derive(Debug, Parser)]
#[command(name = "pullback", version, after_help = AFTER, max_term_width = 100, disable_help_subcommand = true)]
pub struct Args {
    /// Flags of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Clone, Debug, clap::Args)]
pub struct Global {
    /// CPU threads, for libtorch and for pullback's own loops; unless given, as many as affinity and control groups allow
    #[arg(long, value_name = "N", global = true, allow_negative_numbers = true, value_parser = count)]
    pub threads: Option<usize>,
    /// Only warnings and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Details too
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// How progress is shown on stderr [default: auto]
    #[arg(long, global = true, value_name = "HOW")]
    pub progress: Option<Show>,
    /// Record every operation, kernel and copy of a short run, for ui.perfetto.dev or chrome://tracing
    #[arg(long, global = true, value_name = "FILE.json")]
    pub trace: Option<PathBuf>,
}

/// How progress is shown on stderr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Show {
    /// A bar on a terminal, plain lines elsewhere, nothing with -q
    #[default]
    Auto,
    /// A bar
    Bar,
    /// A line every few seconds
    Plain,
    /// A JSON object a line, several times a second at most; notes and warnings too (docs/terminal.md)
    Json,
    /// Nothing; notes and warnings remain
    None,
}

/// The commands, in the order of the work.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The main job on embedded data: train two VAEs, score, attack, report
    #[command(after_help = examples::DEMO)]
    Demo(Demo),
    /// Train a VAE (beta, mixup)
    #[command(after_help = examples::TRAIN)]
    Train(Train),
    /// Spectra of the pullback metric and their scores, a row a sample
    #[command(after_help = examples::SCORE)]
    Score(Score),
    /// Attack each sample and measure the damage
    #[command(after_help = examples::ATTACK)]
    Attack(Box<Attack>),
    /// A grid of beta, with and without mixup: train, score, attack, correlate
    #[command(after_help = examples::SWEEP)]
    Sweep(Sweep),
    /// Result files to one HTML page
    #[command(after_help = examples::REPORT)]
    Report(Report),
    /// Throughput of scoring and attacking on this machine
    #[command(after_help = examples::BENCH)]
    Bench(Bench),
    /// Join result files of one job that was split over samples
    #[command(after_help = examples::MERGE)]
    Merge(Merge),
    /// What a model, data or result file holds
    #[command(after_help = examples::INSPECT)]
    Inspect(Inspect),
    /// One table of what the suite did to several models
    #[command(after_help = examples::LEADERBOARD)]
    Leaderboard(Leaderboard),
    /// The script that completes commands and flags in a shell
    #[command(after_help = examples::COMPLETIONS)]
    Completions(Completions),
    /// Manual pages, one a command
    #[command(after_help = examples::MAN, hide = true)]
    Man(Man),
}

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

/// `pullback demo`.
#[derive(Debug, clap::Args)]
pub struct Demo {
    /// Folder of the results
    #[arg(short, long, value_name = "RUN", default_value = "runs/demo")]
    pub output: PathBuf,
    /// Do it again, over what is there
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub compute: Compute,
}

/// `pullback train`.
#[derive(Debug, clap::Args)]
pub struct Train {
    /// YAML of model, data and training
    #[arg(short, long, value_name = "CONFIG")]
    pub config: PathBuf,
    /// Folder of the model; an unfinished run of the same config is resumed
    #[arg(short, long, value_name = "RUN")]
    pub output: PathBuf,
    /// Train anew, over what is there
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub read: Read,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub compute: Compute,
}

/// `pullback leaderboard`.
#[derive(Debug, clap::Args)]
pub struct Leaderboard {
    /// Attack files with the suite, and JSON that this command wrote
    #[arg(required = true, value_name = "FILE")]
    pub inputs: Vec<PathBuf>,
    /// The table: .html, .md or .json
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Replace it where it is there
    #[arg(long)]
    pub force: bool,
}

/// Flags that `score` and `attack` share.
#[derive(Debug, clap::Args)]
pub struct Evaluate {
    /// A folder that `train` wrote, or a TorchScript file
    #[arg(short, long, value_name = "MODEL")]
    pub model: PathBuf,
    /// Images (see `pullback --help`)
    #[arg(short, long, value_name = "DATA")]
    pub data: String,
    /// The result, HDF5
    #[arg(short, long, value_name = "FILE.h5")]
    pub output: PathBuf,
    /// YAML to start from
    #[arg(short, long, value_name = "CONFIG")]
    pub config: Option<PathBuf>,
    /// The pullback metric [default: stochastic]
    #[arg(long, value_name = "METRIC")]
    pub metric: Option<MetricKind>,
    /// Every eigenvalue, or the top ones by products with the Jacobian and estimates of the rest: auto asks whether the
    /// factor fits the memory (see docs/mathematics.md, section 8) [default: auto]
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

/// `pullback score`.
#[derive(Debug, clap::Args)]
pub struct Score {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub evaluate: Evaluate,
    /// Keep the first K eigenvectors as images [default: 0]
    #[arg(long, value_name = "K", allow_negative_numbers = true, value_parser = whole)]
    pub top: Option<usize>,
    /// With the metric mean: how far images may move, to first order, before reconstructions are likely to change by more than R in L2
    #[arg(long, value_name = "R", allow_negative_numbers = true, value_parser = positive)]
    pub margin: Option<f64>,
}

/// `pullback attack`.
#[derive(Debug, clap::Args)]
pub struct Attack {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub evaluate: Evaluate,
    /// The attacks, comma-separated [default: spectral,random,race]
    #[arg(long, value_name = "ATTACK,...", value_delimiter = ',', value_parser = parsed::<AttackSpec>)]
    pub attack: Option<Vec<AttackSpec>>,
    /// The norm that bounds a perturbation [default: l2]
    #[arg(long, value_name = "NORM")]
    pub norm: Option<Norm>,
    /// Sizes of the perturbation, comma-separated [default: 0.5,1,2,4 in l2, 0.05,0.1,0.2 in linf, 5,10,20,40 in l1]
    #[arg(long, value_name = "E1,E2,...", value_delimiter = ',', allow_negative_numbers = true, value_parser = positive)]
    pub eps: Option<Vec<f64>>,
    /// Eigenvectors that the spectral attack tries [default: 1]
    #[arg(long, value_name = "K", allow_negative_numbers = true, value_parser = count)]
    pub top: Option<usize>,
    /// Spectral attack: step epsilon, or epsilon times the eigenvalue (l2 only) [default: unit]
    #[arg(long, value_name = "SCALE")]
    pub scale: Option<StepScale>,
    /// What counts as damage [default: latent]
    #[arg(long, value_name = "GOAL")]
    pub goal: Option<Goal>,
    /// Steps of the attacks pgd [default: 40] and universal [default: 100]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = count)]
    pub steps: Option<usize>,
    /// Ascents of pgd from different starts, of which the worst counts [default: 1]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = count)]
    pub restarts: Option<usize>,
    /// What an ascent of pgd begins along [default: random]
    #[arg(long, value_name = "START")]
    pub start: Option<Start>,
    /// How the steps of pgd change on the way [default: constant]
    #[arg(long, value_name = "SCHEDULE")]
    pub schedule: Option<Schedule>,
    /// What the steps of pgd keep of the direction of those before, 0 to 1 [default: 0]
    #[arg(long, value_name = "M", allow_negative_numbers = true)]
    pub momentum: Option<f64>,
    /// Forward and backward passes a sample, of the attacks race and minimal [default: 120]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = count)]
    pub budget: Option<usize>,
    /// Damage, in units of the goal, that the attack minimal does with as small a perturbation as it can
    #[arg(long, value_name = "DAMAGE", allow_negative_numbers = true)]
    pub reach: Option<f64>,
    /// Samples that the attack universal is fitted on; the others judge it [default: half, at most 512]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = count)]
    pub universal_on: Option<usize>,
    /// Lead towards the code 0, another image for each, the image at a position, or the first of a data set
    #[arg(long, value_name = "zero|shuffle|N|DATA", value_parser = parsed::<Target>)]
    pub target: Option<Target>,
    /// Draws of the latent code over which goals of the reconstruction take the mean; unless given, the code is mu
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = count)]
    pub eot: Option<usize>,
    /// Defences in front of the model, which clean and attacked images go through
    #[arg(long, value_name = "jpeg[:Q],resize[:S]", value_delimiter = ',', value_parser = parsed::<Defence>)]
    pub through: Option<Vec<Defence>>,
    /// A TorchScript file whose forward judges codes or reconstructions; the goal is then what it says (goal judge)
    #[arg(long, value_name = "FILE")]
    pub judge: Option<PathBuf>,
    /// What the judge is given [default: reconstruction]
    #[arg(long, value_name = "OUTPUT", requires = "judge")]
    pub judge_reads: Option<JudgeReads>,
    /// Layers of the model, by name; the goal is then the change of their outputs (goal layers)
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', conflicts_with = "judge")]
    pub layers: Option<Vec<String>>,
    /// Clip attacked images to [0, 1] [default: on]
    #[arg(long = "box", value_name = "on|off")]
    pub pixels: Option<PixelBox>,
    /// Keep the attacked images
    #[arg(long)]
    pub save_images: bool,
    /// Write the attacked images as 8-bit PNG files; they are judged as rounded
    #[arg(long, value_name = "DIR")]
    pub save_png: Option<PathBuf>,
}

/// `pullback sweep`.
#[derive(Debug, clap::Args)]
pub struct Sweep {
    /// YAML of the grid
    #[arg(short, long, value_name = "CONFIG")]
    pub config: PathBuf,
    /// Folder of the results; an unfinished sweep of the same config is resumed
    #[arg(short, long, value_name = "RUN")]
    pub output: PathBuf,
    /// Do part I of N of the models only, in the same folder; the last part to end joins all. Unless given, the part of what launched
    /// the process, as in `score`; none: all models
    #[arg(long, value_name = "I/N|rank|none", value_parser = parsed::<ShardChoice>)]
    pub shard: Option<ShardChoice>,
    /// Do it again, over what is there
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub compute: Compute,
}

/// `pullback report`.
#[derive(Debug, clap::Args)]
pub struct Report {
    /// Run folders and result files
    #[arg(required = true, value_name = "RUN|FILE.h5")]
    pub inputs: Vec<PathBuf>,
    /// The page
    #[arg(short, long, value_name = "FILE.html")]
    pub output: PathBuf,
    /// Overwrite the page
    #[arg(long)]
    pub force: bool,
}

/// `pullback bench`.
#[derive(Debug, clap::Args)]
pub struct Bench {
    /// YAML of the model to time, besides the built-in ones
    #[arg(short, long, value_name = "CONFIG")]
    pub config: Option<PathBuf>,
    /// A run folder or TorchScript file to time in place of the built-in models
    #[arg(short, long, value_name = "MODEL", conflicts_with = "config")]
    pub model: Option<PathBuf>,
    /// Its images; by default generated digits
    #[arg(short, long, value_name = "DATA")]
    pub data: Option<String>,
    /// Metric to time (repeatable); by default mean, stochastic and output
    #[arg(long, value_name = "METRIC")]
    pub metric: Vec<MetricKind>,
    /// What to time (repeatable); by default spectra, and PGD on the built-in models
    #[arg(long, value_name = "WORK")]
    pub work: Vec<Work>,
    /// Steps of the timed attack
    #[arg(long, value_name = "N", default_value_t = 10, allow_negative_numbers = true, value_parser = count)]
    pub steps: usize,
    /// Repetitions, after warming up
    #[arg(long, value_name = "N", default_value_t = 5, allow_negative_numbers = true, value_parser = count)]
    pub repeat: usize,
    /// Machine-readable result on stdout
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub compute: Compute,
}

/// `pullback merge`.
#[derive(Debug, clap::Args)]
pub struct Merge {
    /// The parts
    #[arg(required = true, value_name = "SHARD.h5")]
    pub shards: Vec<PathBuf>,
    /// The whole
    #[arg(short, long, value_name = "FILE.h5")]
    pub output: PathBuf,
    /// Overwrite the whole
    #[arg(long)]
    pub force: bool,
}

/// `pullback inspect`.
#[derive(Debug, clap::Args)]
pub struct Inspect {
    /// A model, data or result file or folder
    #[arg(value_name = "FILE")]
    pub file: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub read: Read,
}

/// `pullback completions`.
#[derive(Debug, clap::Args)]
pub struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// `pullback man`.
#[derive(Debug, clap::Args)]
pub struct Man {
    /// Folder of the pages
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// Overwrite pages
    #[arg(long)]
    pub force: bool,
}

/// A value by its own `FromStr`.
fn parsed<T: std::str::FromStr<Err = crate::Error>>(text: &str) -> Result<T, crate::Error> {
    text.parse()
}

fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err(format!("expected a whole number >= 1, found {text:?}")),
    }
}

fn whole(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("expected a whole number >= 0, found {text:?}"))
}

fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("expected a whole number from 0 to {}, found {text:?}", u64::MAX))
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if x.is_finite() && x > 0.0 => Ok(x),
        _ => Err(format!("expected a number > 0, found {text:?}")),
    }
}
