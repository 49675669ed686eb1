//! The command line: what was typed ([`args`]) becomes a request (`request`), which a pipeline carries out.

pub mod args;
mod attack; // the flags of one command
mod examples;
mod flags; //  what several commands share
mod launch;
mod pages;
mod progress;
mod request;
mod signals;
mod tell;
mod threads;
mod usage;

use crate::config::{HandOut, ShardChoice};
use crate::error::{Error, ResultsError};
use crate::event::{Event, Observer};
use crate::ffi::Trace;
use crate::pipeline::{self, Subject};
use args::{Args, Command, Global};
use clap::Parser;
use clap::error::ErrorKind;
use progress::{Progress, Verbosity, print};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub use tell::{tell, tell_error};

/// Does what the arguments (the program's name first) ask for.
pub fn run(args: impl IntoIterator<Item = OsString>) -> anyhow::Result<()> {
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(e) if e.kind() == ErrorKind::DisplayHelp => {
            print(&e.render().ansi().to_string())?;
            return Ok(());
        }
        Err(e) if e.kind() == ErrorKind::DisplayVersion => {
            print(&version())?;
            return Ok(());
        }
        Err(e) => return Err(e.into()),
    };
    threads::set(args.global.threads)?;
    signals::watch();
    let trace = args.global.trace.as_deref().map(Trace::begin).transpose()?;
    let done = carry_out(args);
    // The record up to an error may explain the error.
    let traced = trace.map_or(Ok(()), Trace::finish);
    done?;
    Ok(traced?)
}

/// What `score` or `attack` is asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Requested {
    /// `pullback score`.
    Score(crate::pipeline::ScoreRequest),
    /// `pullback attack`.
    Attack(crate::pipeline::AttackRequest),
}

/// What the arguments (the program's name first) of `score` or `attack` ask for, without doing it: for whoever carries it out with a
/// model or data of their own ([`pipeline::Provided`]).
///
/// # Errors
/// As [`run`], where the arguments are wrong; where they are of another command.
pub fn requested(args: impl IntoIterator<Item = OsString>) -> anyhow::Result<Requested> {
    let one_file = |typed: &args::Evaluate| match typed.shard {
        Some(ShardChoice::Any(_) | ShardChoice::Rank) => {
            Err(Error::request("shard", "I/N or none: one file is made here", "any or rank"))
        }
        _ => Ok(()),
    };
    match Args::try_parse_from(args)?.command {
        Command::Score(typed) => {
            one_file(&typed.evaluate)?;
            Ok(Requested::Score(request::score(&typed)?))
        }
        Command::Attack(typed) => {
            one_file(&typed.evaluate)?;
            Ok(Requested::Attack(request::attack(&typed)?))
        }
        _ => Err(Error::request("command", "score or attack", "another").into()),
    }
}

/// The command itself.
fn carry_out(args: Args) -> anyhow::Result<()> {
    let verbosity = verbosity(&args.global);
    let progress = Progress::new(verbosity, args.global.progress.unwrap_or_default());
    progress.on(Event::Detail(&format!("{} CPU threads", tch::get_num_threads())));
    let show = |subject: &Subject| -> anyhow::Result<()> {
        // Parts in turn have files of their own: what is at the output is another run's. A part of a launcher's may have no samples, and
        // no file then.
        let own = !matches!(subject.hand_out, HandOut::InTurn { .. });
        if verbosity > Verbosity::Quiet && own && subject.output.exists() {
            print(&pipeline::inspect::findings(&subject.output)?)?;
        }
        Ok(())
    };
    match args.command {
        Command::Demo(typed) => {
            let outcome = pipeline::demo::run(&request::demo(&typed)?, &progress)?;
            print(&outcome.to_string())?;
        }
        Command::Train(typed) => {
            pipeline::train::run(&request::train(&typed)?, &progress)?;
        }
        Command::Score(typed) => {
            let mut request = request::score(&typed)?;
            launch::subject(&mut request.subject, typed.evaluate.shard, true, &progress)?;
            pipeline::score(&request, &progress)?;
            show(&request.subject)?;
        }
        Command::Attack(typed) => {
            let mut request = request::attack(&typed)?;
            let in_turn = request.pictures.is_none();
            let share = launch::subject(&mut request.subject, typed.evaluate.shard, in_turn, &progress)?;
            request.pictures = request.pictures.map(|folder| share.map_or(folder.clone(), |s| s.file(&folder)));
            pipeline::attack(&request, &progress)?;
            show(&request.subject)?;
        }
        Command::Sweep(typed) => {
            let mut request = request::sweep(&typed)?;
            launch::sweep(&mut request, typed.shard, &progress)?;
            if let Some(outcome) = pipeline::sweep::run(&request, &progress)? {
                print(&outcome.to_string())?;
            }
        }
        Command::Report(typed) => {
            apart(&typed.output, &typed.inputs)?;
            // Of a folder it may be one of those that are read.
            if crate::store::is_result(&typed.output) {
                let shown = typed.output.display().to_string();
                return Err(Error::request(shown, "the name of a page", "a result file").into());
            }
            crate::report::write(&typed.inputs, &typed.output, request::overwrite(typed.force))?;
        }
        Command::Bench(typed) => {
            let report = pipeline::bench::run(&request::bench(&typed)?, &progress)?;
            print(&if typed.json { serde_json::to_string(&report)? } else { report.to_string() })?;
        }
        Command::Merge(typed) => {
            apart(&typed.output, &typed.shards)?;
            crate::store::merge(&typed.shards, &typed.output, request::overwrite(typed.force))?;
        }
        Command::Leaderboard(typed) => {
            apart(&typed.output, &typed.inputs)?;
            let overwrite = request::overwrite(typed.force);
            pipeline::leaderboard::leaderboard(&typed.inputs, &typed.output, overwrite, &progress)?;
        }
        Command::Completions(typed) => print(&pages::completions(typed.shell))?,
        Command::Man(typed) => pages::man(&typed.output, request::overwrite(typed.force))?,
        Command::Inspect(typed) => print(&pipeline::inspect::describe(&typed.file, &request::reading(&typed.read))?)?,
    }
    Ok(())
}

/// Refuses an output that is one of the files that are read.
fn apart(output: &Path, inputs: &[PathBuf]) -> anyhow::Result<()> {
    Ok(crate::store::ensure_apart(output, inputs.iter().map(PathBuf::as_path))?)
}

fn verbosity(global: &Global) -> Verbosity {
    match global {
        Global { quiet: true, .. } => Verbosity::Quiet,
        Global { verbose: true, .. } => Verbosity::Verbose,
        _ => Verbosity::Normal,
    }
}

/// What `--version` prints: this program and the libraries that its numbers come from.
fn version() -> String {
    let crate::ffi::cuda::Found { devices, trouble } = crate::ffi::cuda::found();
    let trouble = trouble.as_ref().map(|trouble| format!(" ({trouble})")).unwrap_or_default();
    let hdf5 = hdf5::library_version();
    format!(
        "pullback {}\nlibtorch {}\nCUDA build: {}\nCUDA kernels: {}\nCUDA devices: {devices}{trouble}\nCPU threads: {}\nHDF5 {}.{}.{}",
        env!("CARGO_PKG_VERSION"),
        env!("PULLBACK_LIBTORCH"),
        if cfg!(pullback_cuda) { "yes" } else { "no" },
        env!("PULLBACK_KERNELS"),
        threads::default(),
        hdf5.0,
        hdf5.1,
        hdf5.2,
    )
}

/// The error and its causes on one line; a cause whose text is already part of its parent's text is left out.
pub fn one_line(error: &anyhow::Error) -> String {
    if let Some(usage) = error.downcast_ref::<clap::Error>() {
        return usage::one_line(usage);
    }
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        let text = text.trim();
        if line.is_empty() {
            line = text.to_owned();
        } else if !text.is_empty() && !line.contains(text) {
            line = format!("{line}: {text}");
        }
    }
    line.split(['\n', '\r']).map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join(" ")
}

/// 2 if the request was wrong, 75 if a scheduler's signal stopped the work, 1 for any other error.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<clap::Error>() {
        return 2;
    }
    let of_ours = |e: &Error| if matches!(e, Error::Interrupted) { signals::exit_code() } else { e.exit_code() };
    let ours = |e: &(dyn std::error::Error + 'static)| e.downcast_ref::<Error>().map(of_ours);
    let of_results =
        |e: &(dyn std::error::Error + 'static)| e.downcast_ref::<ResultsError>().map(ResultsError::exit_code);
    error.chain().find_map(|e| ours(e).or_else(|| of_results(e))).unwrap_or(1)
}
