//! `sweep`: the paper's study as one command. A grid of beta, without and with mixup: train, score, attack, correlate.
//!
//! Source: Khan & Storkey 2023, experiments; docs/reproduction.md has their protocol and the results.
//!
//! Every model of the grid is a unit of work with its own folder, `RUN/cells/<beta>-<mixup>-<seed>/`. Each of its parts (an epoch, a block
//! of samples, a file) is saved when done, so a killed sweep continues where it stopped. `RUN/sweep.h5` and `RUN/report.html` are made only
//! from the cells' files.

mod alike; //   all models are of one training data
mod cell; //    one model: train, score, attack
mod cells; //   the files of all cells, each opened once
mod fleet; //   many models trained as one
mod collect; // joins the cells' files into one
mod places; //  where models lie, and who works on them
mod relate; //  correlations over the models and over the samples
mod summary; // one cell in a few numbers
mod watch; //   reports of many cells at once for one observer

use super::done::Fingerprints;
use super::train::{self, clear};
use crate::config::{Cell, Shard, SweepSpec, Workers};
use crate::device::name;
use crate::error::{Error, Result};
use crate::event::{Event, Observer};
use crate::lock::{self, FolderLock};
use crate::model::write_atomically;
use crate::report;
use crate::store::Overwrite;
use cell::AtHand;
use places::{CELLS, claimed};
use relate::Related;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use summary::CellSummary;
use tch::Device;
use watch::{Whole, span};

/// The resolved config in a sweep's folder.
const SWEEP_CONFIG: &str = "sweep.yaml";
const SWEEP_FILE: &str = "sweep.h5";
const REPORT_FILE: &str = "report.html";
/// The most models at a time if the user did not say: each holds the training data.
const AUTO_WORKERS: usize = 8;

/// How long a part waits for others that prepare the same folder.
const PATIENCE: Duration = Duration::from_secs(60);

/// The request of `sweep`.
#[derive(Clone, Debug, PartialEq)]
pub struct SweepRequest {
    /// The study.
    pub spec: SweepSpec,
    /// Its folder.
    pub output: PathBuf,
    /// Whether all of it may be done again. What the same request left unfinished is not: it goes on after a stop.
    pub overwrite: Overwrite,
    /// One part of the models; other processes do the others in the same folder.
    pub share: Option<Shard>,
}

/// What the sweep found. Its display is a table of the models, the leading correlations, and the files' paths.
#[derive(Clone, Debug)]
pub struct SweepOutcome {
    /// `sweep.h5`.
    pub results: PathBuf,
    /// `report.html`.
    pub report: PathBuf,
    rows: Vec<CellSummary>,
    relations: Vec<Related>,
    effects: Vec<Related>,
}

/// Does the remaining work of the study in `request.output`. Of a part (`request.share`), `None` is returned as long as other parts have
/// work to do; the part that ends last puts the results together.
///
/// # Errors
/// A wrong request if the folder holds another study or other files and may not be overwritten. If models fail (a loss that is not a
/// number), the others are finished, and the error names the first that failed.
pub fn run(request: &SweepRequest, observer: &dyn Observer) -> Result<Option<SweepOutcome>> {
    let SweepRequest { spec, output, overwrite, share } = request;
    spec.validate()?;
    let device = spec.device.resolve_told(observer)?;
    let all = spec.cells();
    let folder = |cell: &Cell| output.join(CELLS).join(cell.name());
    let first = all.first().map(|cell| train::data_of(&spec.run_config(*cell)));
    // Where the data are no longer at hand, models that are done stay what they are.
    let data = &AtHand { training: first.and_then(Result::ok), prints: Fingerprints::default() };
    let Some(share) = share else {
        let _alone = FolderLock::of(output)?;
        prepare(output, spec, &all, *overwrite)?;
        alike::ensure(spec, &all, output, *overwrite, data)?;
        models(spec, &all, device, observer, &folder, data, None)?;
        return join(spec, &all, output, device, observer).map(Some);
    };
    if *overwrite == Overwrite::Yes {
        let found = format!("part {share}: it would clear what other parts do");
        return Err(Error::request("--force", "the whole sweep (--shard none)", found));
    }
    {
        let _alone = soon_alone(output, observer)?;
        prepare(output, spec, &all, *overwrite)?;
        alike::ensure(spec, &all, output, *overwrite, data)?;
    }
    // One of each N in turn comes first, because neighbours in the grid take equally long; then what others have not begun, the last ones
    // first. Models that are trained at once are begun at once.
    let mine: Vec<Cell> = all.iter().copied().skip(share.part - 1).step_by(share.of).collect();
    let claims = output.join(CELLS);
    if !mine.is_empty() {
        models(spec, &mine, device, observer, &folder, data, Some(&claims))?;
    }
    let others: Vec<Cell> = all.iter().rev().copied().filter(|cell| !mine.contains(cell)).collect();
    if !fleet::may_be(spec, device) && lock::is_shared(&claims) && unfinished(spec, &others, &folder, data)? > 0 {
        models(spec, &others, device, observer, &folder, data, Some(&claims))?;
    }
    let left = unfinished(spec, &all, &folder, data)?;
    let lock = if left > 0 { None } else { FolderLock::of(output).ok() };
    let Some(_alone) = lock else {
        let what = if left > 0 {
            format!("{left} models of other parts are left")
        } else {
            "another part joins them".to_owned()
        };
        observer.on(Event::Note(&format!("part {share} of the models is done; {what}")));
        return Ok(None);
    };
    join(spec, &all, output, device, observer).map(Some)
}

/// The lock of a folder that other parts of the sweep hold for moments.
fn soon_alone(output: &Path, observer: &dyn Observer) -> Result<FolderLock> {
    let start = Instant::now();
    loop {
        match FolderLock::of(output) {
            Err(error) if error.is_in_use() && start.elapsed() < PATIENCE => {
                observer.check()?;
                std::thread::sleep(Duration::from_millis(50));
            }
            done => return Ok(done?),
        }
    }
}

/// The number of models that are not finished.
fn unfinished(spec: &SweepSpec, cells: &[Cell], folder: &impl Fn(&Cell) -> PathBuf, data: &AtHand) -> Result<usize> {
    let states = cells.iter().map(|cell| cell::state(spec, *cell, &folder(cell), data));
    Ok(states.collect::<Result<Vec<_>>>()?.iter().filter(|state| !state.done).count())
}

/// Does the remaining work of `cells`, of those that nobody else has if there is a folder of `claims`.
fn models(
    spec: &SweepSpec,
    cells: &[Cell],
    device: Device,
    observer: &dyn Observer,
    folder: &(impl Fn(&Cell) -> PathBuf + Sync),
    data: &AtHand,
    claims: Option<&Path>,
) -> Result<()> {
    let mut pending = Vec::new();
    let mut epochs = 0;
    for cell in cells {
        let there = cell::state(spec, *cell, &folder(cell), data)?;
        epochs += there.epochs;
        if !there.done {
            pending.push((*cell, there.epochs));
        }
    }
    let workers = workers(spec.workers, device, pending.len());
    ensure_alone(device, workers)?;
    let together = fleet::size(spec, device, pending.len())?;
    let trained = if together > 1 { format!("trained {together} at once, ") } else { String::new() };
    observer.on(Event::Note(&format!(
        "{} models, {} to do, {trained}{workers} at a time on {}",
        cells.len(),
        pending.len(),
        name(device)
    )));
    let whole = Whole::new(observer);
    let total = cells.len() as u64 * u64::from(spec.train.epochs);
    observer.on(Event::Begin { task: "sweep", unit: "epochs", total, done: epochs.min(total) });
    let trained = if together > 1 { fleet::work(spec, &pending, together, &whole, folder, data) } else { Ok(vec![]) };
    let worked =
        trained.and_then(|failed| work(spec, &pending, failed, cells.len(), workers, &whole, folder, data, claims));
    observer.on(Event::End);
    worked
}

/// Puts the results of all models together, and makes the page.
fn join(
    spec: &SweepSpec,
    cells: &[Cell],
    output: &Path,
    device: Device,
    observer: &dyn Observer,
) -> Result<SweepOutcome> {
    let folder = |cell: &Cell| output.join(CELLS).join(cell.name());
    alike::ensure_done(cells, &folder)?;
    let rows: Vec<CellSummary> =
        cells.iter().map(|cell| CellSummary::read(spec, *cell, &folder(cell))).collect::<Result<_>>()?;
    observer.check()?;
    observer.on(Event::Note("correlating"));
    let relations = relate::across(&rows, &spec.correlate)?;
    let effects = relate::effects(&rows, &spec.correlate)?;
    let within = relate::within(spec, cells, &folder)?;
    observer.check()?;
    let results = output.join(SWEEP_FILE);
    collect::write(&results, spec, &rows, &[&relations, &effects], &within, &folder, device)?;
    let page = output.join(REPORT_FILE);
    report::write(std::slice::from_ref(&results), &page, Overwrite::Yes)?;
    Ok(SweepOutcome { results, report: page, rows, relations, effects })
}

/// Only one worker for each GPU: a worker plans with most of the device's memory, trains with settings for the whole process, and can keep
/// the device busy alone.
fn ensure_alone(device: Device, workers: usize) -> Result<()> {
    if device.is_cuda() && workers > 1 {
        let expected = "1 on a GPU (together trains many models there at once)";
        return Err(Error::request("workers", expected, workers.to_string()));
    }
    Ok(())
}

/// Checks that the folder holds this study or nothing, and writes the study into it.
fn prepare(output: &Path, spec: &SweepSpec, cells: &[Cell], overwrite: Overwrite) -> Result<()> {
    let shown = output.display().to_string();
    let config = output.join(SWEEP_CONFIG);
    if config.exists() {
        let there = match SweepSpec::read(&config) {
            // A study that cannot be read is another one, of which only what this one would replace is known.
            Err(Error::Request { .. }) if overwrite == Overwrite::Yes => None,
            there => Some(there?),
        };
        let difference = match &there {
            Some(there) => there.difference(spec)?,
            None => Some("study".to_owned()),
        };
        match (difference, overwrite) {
            (Some(key), Overwrite::No) => {
                let found = format!("another {key} there");
                return Err(Error::request(
                    config.display().to_string(),
                    "the config of this sweep, or --force",
                    found,
                ));
            }
            // The same command goes on after a stop: only a sweep that is done is done again.
            (None, Overwrite::Yes) if !output.join(SWEEP_FILE).exists() => {}
            (_, Overwrite::Yes) => {
                // Parts of the sweep hold its folder for moments only, and their models while they work on them.
                let theirs = there.as_ref().map(SweepSpec::cells).unwrap_or_default();
                let _theirs = claimed(output, theirs.iter().chain(cells))?;
                for cell in theirs.iter().chain(cells) {
                    if let Some(there) = &there {
                        cell::clear(&output.join(CELLS).join(cell.name()), there)?;
                    }
                    cell::clear(&output.join(CELLS).join(cell.name()), spec)?;
                }
                // Last, because without it a sweep goes on.
                clear(output, &[REPORT_FILE, SWEEP_FILE])?;
            }
            (None, Overwrite::No) => {}
        }
    } else if overwrite == Overwrite::No && !lock::is_empty(output)? {
        return Err(Error::request(shown, "a new, empty or sweep folder, or --force", "a folder with other files"));
    }
    // First the study: a folder without it, in which a killed process left other things, is nobody's.
    write_atomically(&config, spec.to_yaml()?.as_bytes())?;
    std::fs::create_dir_all(output.join(CELLS)).map_err(|e| Error::io(output, e))
}
/// How many models are worked on at a time.
fn workers(asked: Workers, device: Device, pending: usize) -> usize {
    let wanted = match asked {
        Workers::Fixed(n) => n,
        Workers::Auto if device == Device::Cpu => (tch::get_num_threads().max(1) as usize).min(AUTO_WORKERS),
        Workers::Auto => 1,
    };
    wanted.min(pending).max(1)
}

/// Works on the pending cells, except those that `failed` and those that others have, until none is left or the user stops.
#[allow(clippy::too_many_arguments)]
fn work(
    spec: &SweepSpec,
    pending: &[(Cell, u64)],
    failed: Vec<(usize, Error)>,
    total: usize,
    workers: usize,
    whole: &Whole,
    folder: &(impl Fn(&Cell) -> PathBuf + Sync),
    data: &AtHand,
    claims: Option<&Path>,
) -> Result<()> {
    let threads = (tch::get_num_threads().max(1) as usize / workers).max(1) as i32;
    let (next, start) = (AtomicUsize::new(0), Instant::now());
    let finished = AtomicUsize::new(0);
    let places: Vec<usize> = (0..pending.len()).filter(|place| failed.iter().all(|(f, _)| f != place)).collect();
    let failures: Mutex<Vec<(usize, Error)>> = Mutex::new(failed);
    let one = |place: usize| -> Result<()> {
        let (cell, epochs) = pending[place];
        let _claim = match claims.map(|claims| FolderLock::of_work(claims, &cell.name())).transpose() {
            Err(error) if error.is_in_use() => return Ok(()),
            claim => claim?,
        };
        // Another part may have done it meanwhile.
        if claims.is_some() && cell::state(spec, cell, &folder(&cell), data)?.done {
            return Ok(());
        }
        let began = Instant::now();
        let listener = whole.cell(cell, epochs, spec.train.epochs);
        cell::work(spec, cell, &folder(&cell), data, &listener)?;
        let summary = CellSummary::read(spec, cell, &folder(&cell))?;
        let done = finished.fetch_add(1, Ordering::Relaxed) + 1;
        let left = places.len() - done;
        let eta = start.elapsed().as_secs_f64() / done as f64 * left as f64;
        let place = total - left;
        let ending = if left > 0 { format!("; {left} to go, about {}", span(eta)) } else { String::new() };
        whole.note(&format!("{place} of {total}: {summary}; {}{ending}", span(began.elapsed().as_secs_f64())));
        Ok(())
    };
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                tch::set_num_threads(threads);
                while let Some(&place) = places.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if whole.check().is_err() {
                        break;
                    }
                    if let Err(error) = one(place) {
                        // A wrong request would fail for the next model too.
                        if error.exit_code() == 2 {
                            whole.stop();
                        } else if !matches!(error, Error::Interrupted) {
                            whole.note(&format!("{}: {error}", pending[place].0.name()));
                        }
                        failures.lock().unwrap_or_else(|e| e.into_inner()).push((place, error));
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap_or_else(|e| e.into_inner());
    // An error is reported before the stops that it caused.
    failures.sort_by_key(|(place, error)| (matches!(error, Error::Interrupted), *place));
    let count = failures.len();
    match failures.into_iter().next() {
        None => whole.check(),
        Some((place, error)) => {
            Err(error.at(&format!("model {} ({count} of {total} failed)", pending[place].0.name())))
        }
    }
}

impl fmt::Display for SweepOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        summary::table(f, &self.rows)?;
        relate::leading(f, &self.relations, &self.effects)?;
        writeln!(f, "results: {}", self.results.display())?;
        write!(f, "report: {}", self.report.display())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_what_others_hold_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let start = Instant::now();
        let error = soon_alone(&file, &crate::event::Silent).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains("a folder"), "{error}");
        assert!(start.elapsed() < PATIENCE / 2);
    }

    #[test]
    fn a_gpu_has_one_worker() {
        let gpu = Device::Cuda(0);
        assert_eq!((workers(Workers::Auto, gpu, 9), workers(Workers::Fixed(4), gpu, 1)), (1, 1));
        let error = ensure_alone(gpu, workers(Workers::Fixed(4), gpu, 9)).unwrap_err();
        assert_eq!(
            (error.exit_code(), error.to_string().contains("workers: expected 1 on a GPU")),
            (2, true),
            "{error}"
        );
        ensure_alone(gpu, 1).unwrap();
        ensure_alone(Device::Cpu, 4).unwrap();
    }
}
