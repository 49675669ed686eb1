//! What was typed (the low-level arguments). This file opens no file and no device; `request.rs` resolves the arguments.

use super::examples;
use super::flags::{count, name, parsed, path, positive, whole};
use crate::config::ShardChoice;
use crate::metric::MetricKind;
use crate::pipeline::bench::Work;
use clap::{Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::path::PathBuf;

pub use super::attack::Attack;
pub use super::flags::{Compute, Evaluate, Read};

const AFTER: &str = "\
DATA is recognised by what it is: `strokes` (generated digits, embedded), a folder with IDX files, a CIFAR-10 binary
folder, an HDF5 file with /images (or FILE.h5:/NAME), an .npy or .npz file, or a folder of pictures.
MODEL is a folder that `train` wrote, or a TorchScript file (*.pt) with encode(x) -> (mu, logvar), or mu alone, and
decode(z). docs/data.md and docs/models.md say what is read, and by which flag.

Exit code 0: done. 2: the request was wrong. 75: stopped by TERM, USR1 or USR2, as schedulers stop a job; the same command
goes on. 1: anything else. Nothing that exists is overwritten without --force, but for the summaries and pages that `sweep`
and `demo` make anew of the results in their own folder.

Examples:
  pullback demo
  pullback inspect runs/demo/plain
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

/// `pullback demo`.
#[derive(Debug, clap::Args)]
pub struct Demo {
    /// Folder of the results
    #[arg(short, long, value_name = "RUN", default_value = "runs/demo", value_parser = path())]
    pub output: PathBuf,
    /// Do it again, over what is there; what this left unfinished is resumed
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
    #[arg(short, long, value_name = "RUN", value_parser = path())]
    pub output: PathBuf,
    /// Train anew, over what is there; a run that this left unfinished is resumed
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
    #[arg(required = true, value_name = "FILE", value_parser = path())]
    pub inputs: Vec<PathBuf>,
    /// The table: .html, .md or .json
    #[arg(short, long, value_name = "FILE", value_parser = path())]
    pub output: PathBuf,
    /// Replace it where it is there
    #[arg(long)]
    pub force: bool,
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

/// `pullback sweep`.
#[derive(Debug, clap::Args)]
#[command(mut_arg("seed", |seed| seed.help("In place of `seeds`; the grids of `also` keep their own")))]
pub struct Sweep {
    /// YAML of the grid
    #[arg(short, long, value_name = "CONFIG")]
    pub config: PathBuf,
    /// Folder of the results; an unfinished sweep of the same config is resumed
    #[arg(short, long, value_name = "RUN", value_parser = path())]
    pub output: PathBuf,
    /// Do part I of N of the models only, in the same folder; the last part to end joins all. Unless given, the part of what launched
    /// the process, as in `score`; none: all models
    #[arg(long, value_name = "I/N|rank|none", value_parser = parsed::<ShardChoice>)]
    pub shard: Option<ShardChoice>,
    /// Do it again, over what is there; what this left unfinished is resumed
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
    #[arg(required = true, value_name = "RUN|FILE.h5", value_parser = path())]
    pub inputs: Vec<PathBuf>,
    /// The page
    #[arg(short, long, value_name = "FILE.html", value_parser = path())]
    pub output: PathBuf,
    /// Overwrite the page
    #[arg(long)]
    pub force: bool,
}

/// `pullback bench`.
#[derive(Debug, clap::Args)]
#[command(mut_arg("split", |split| split.hide(true)))]
pub struct Bench {
    /// YAML of the model to time, besides the built-in ones
    #[arg(short, long, value_name = "CONFIG")]
    pub config: Option<PathBuf>,
    /// A run folder or TorchScript file to time in place of the built-in models
    #[arg(short, long, value_name = "MODEL", conflicts_with = "config", value_parser = path())]
    pub model: Option<PathBuf>,
    /// Its images; by default generated digits
    #[arg(short, long, value_name = "DATA", value_parser = name())]
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
    #[arg(required = true, value_name = "SHARD.h5", value_parser = path())]
    pub shards: Vec<PathBuf>,
    /// The whole
    #[arg(short, long, value_name = "FILE.h5", value_parser = path())]
    pub output: PathBuf,
    /// Overwrite the whole
    #[arg(long)]
    pub force: bool,
}

/// `pullback inspect`.
#[derive(Debug, clap::Args)]
pub struct Inspect {
    /// A model, data or result file or folder
    #[arg(value_name = "FILE", value_parser = name())]
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
