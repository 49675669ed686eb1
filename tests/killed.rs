//! Commands that are killed (SIGKILL) at random moments: going on gives what a run gives that nobody kills, and what stands under a final
//! name is whole at every moment.
//!
//! The suite kills some commands once. Many kills, a hundred of each command (PULLBACK_KILLS and PULLBACK_KILLED say otherwise: a number, and
//! names of commands): `cargo test --test tests -- --ignored --nocapture killed::`. PULLBACK_SEED=N draws the moments of an earlier run again,
//! which told its seed; where within the work a moment falls depends on the machine still.

pub mod files; // what is whole, and what is the same

use crate::child;
use crate::dice::Dice;
use crate::files::program;
use files::{finals, same, torn};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A command, in a folder that [`desk`] made. Its output goes below the folder `{o}`.
struct Job {
    name: &'static str,
    line: &'static str,
    /// True once the output `{o}` is complete, so that the same command would refuse it.
    done: fn(&Path) -> bool,
}

const EPOCHS: usize = 12;

const JOBS: [Job; 5] = [
    Job { name: "train", line: "train -c train.yaml -o {o}/run", done: |o| epochs(&o.join("run")) == EPOCHS },
    Job {
        name: "score",
        line: "score -m model -d strokes --limit 1500 --metric output --precision f64 --top 2 --batch 4 -o {o}/s.h5",
        done: |o| o.join("s.h5").exists(),
    },
    Job {
        name: "attack",
        line: "attack -m model -d strokes --limit 160 --attack random,pgd --steps 6 --eps 0.5,1 --precision f64 --batch 8 \
               --save-images -o {o}/a.h5",
        done: |o| o.join("a.h5").exists(),
    },
    // It may be asked for again at any time.
    Job { name: "sweep", line: "sweep -c sweep.yaml -o {o}/sweep", done: |_| false },
    Job { name: "merge", line: "merge 1.h5 2.h5 -o {o}/m.h5", done: |o| o.join("m.h5").exists() },
];

const TRAIN: &str = "
data: {source: strokes, limit: 96, valid: 16}
model: {kind: mlp, hidden: [24], latent: 3}
train: {epochs: 12, batch: 16}
";

const SWEEP: &str = "
beta: [0.1, 8]
mixup: [0, 1]
device: cpu
batch: 8
workers: 1
data: {source: strokes, limit: 96, valid: 0}
model: {kind: mlp, hidden: [12], latent: 3}
train: {epochs: 2, batch: 32}
samples: 24
score: {metrics: [stochastic, output], precision: f64}
attack: {attacks: [{kind: spectral}, {kind: random}], eps: [0.5, 1], precision: f64}
correlate: {resamples: 200}
";

/// The number of epochs that a run folder's table has.
fn epochs(run: &Path) -> usize {
    std::fs::read_to_string(run.join("history.csv")).map_or(0, |text| text.lines().count().saturating_sub(1))
}

fn command(at: &Path, line: &str, output: &str) -> Command {
    let mut command = program();
    command.args(line.replace("{o}", output).split_whitespace()).args(["--threads", "1", "-q"]);
    command.current_dir(at).env("OMP_NUM_THREADS", "1").stdin(Stdio::null());
    command
}

fn succeeds(at: &Path, line: &str, output: &str) {
    let done = child::within(Duration::from_secs(300), &mut command(at, line, output));
    let done = done.unwrap_or_else(|| panic!("{line}: hangs"));
    assert!(done.status.success(), "{line}: {:?} {}", done.status, String::from_utf8_lossy(&done.stderr));
}

/// A folder with a model, two parts of a run (for `merge`) and the settings of the jobs.
fn desk() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    std::fs::write(at.join("train.yaml"), TRAIN).unwrap();
    std::fs::write(at.join("sweep.yaml"), SWEEP).unwrap();
    succeeds(at, "train -c train.yaml -o model --set train.epochs=1", "");
    for part in 1..=2 {
        succeeds(at, &format!("score -m model -d strokes --limit 1500 --top 3 --shard {part}/2 -o {part}.h5"), "");
    }
    folder
}

/// What became of a job that was killed so many times.
#[derive(Debug, Default)]
struct Tally {
    kills: usize,
    /// Kills that found something of the output under way or done.
    working: usize,
    /// Times that the output was completed, by a process that was killed afterwards or by one that was not.
    completed: usize,
    /// Final files that were looked at after a kill.
    looked_at: usize,
}

/// Kills `job` so many times, going on each time; whenever its output is complete it must be that of `whole`, and the job begins anew.
fn survive(job: &Job, at: &Path, kills: usize, dice: &mut Dice) -> Tally {
    let (whole, output) = (at.join("whole"), at.join("killed"));
    let clear = |folder: &Path| {
        let _ = std::fs::remove_dir_all(folder);
        std::fs::create_dir(folder).unwrap();
    };
    clear(&whole);
    let start = Instant::now();
    succeeds(at, job.line, "whole");
    let mut takes = start.elapsed();
    clear(&output);
    let complete = |tally: &mut Tally| {
        // A process that is killed after its last step leaves the file whose lock it held; the lock itself went with it.
        let _ = std::fs::remove_file(output.join("run/.lock"));
        if let Some(difference) = same(&whole, &output) {
            panic!("{} after {tally:?}: {difference}", job.name);
        }
        tally.completed += 1;
        clear(&output);
    };
    let mut tally = Tally::default();
    while tally.kills < kills {
        if (job.done)(&output) {
            complete(&mut tally);
        }
        let moment = takes.mul_f64(1.05 * dice.roll());
        let mut child = command(at, job.line, "killed");
        let mut child = child.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let since = Instant::now();
        while since.elapsed() < moment && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1).min(moment.saturating_sub(since.elapsed())));
        }
        if child.try_wait().unwrap().is_some() {
            let done = child.wait_with_output().unwrap();
            assert!(done.status.success(), "{}: {tally:?} {}", job.name, String::from_utf8_lossy(&done.stderr));
            complete(&mut tally);
            // On a machine that does other work too, the least time is the work's own.
            takes = takes.min(since.elapsed());
            continue;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        tally.kills += 1;
        tally.working += usize::from(std::fs::read_dir(&output).unwrap().next().is_some());
        let found = finals(&output);
        tally.looked_at += found.len();
        for file in found {
            if let Some(what) = torn(&whole, &output, &file) {
                panic!("{} after {tally:?}: {} {what}", job.name, file.display());
            }
        }
    }
    if !(job.done)(&output) {
        succeeds(at, job.line, "killed");
    }
    complete(&mut tally);
    tally
}

/// Fewer kills than this say little of how many find work.
const MANY: usize = 20;

fn all(kills: usize, wanted: &str) {
    let folder = desk();
    let seed = std::env::var("PULLBACK_SEED").ok().map(|seed| seed.parse::<u64>().expect("PULLBACK_SEED: a number"));
    let mut dice = Dice(seed.unwrap_or_else(|| std::process::id().into()));
    // The output of a test that fails is shown.
    println!("PULLBACK_SEED={}", dice.0);
    assert!(wanted.split(',').all(|name| JOBS.iter().any(|job| job.name == name)), "{wanted}: an unknown command");
    for job in JOBS.iter().filter(|job| wanted.split(',').any(|name| name == job.name)) {
        let start = Instant::now();
        let tally = survive(job, folder.path(), kills, &mut dice);
        println!("{}: {tally:?} in {:.0} s", job.name, start.elapsed().as_secs_f64());
        assert_eq!(tally.kills, kills, "{}", job.name);
        assert!(kills < MANY || interrupts(&tally), "{}: {tally:?}: few kills found work under way", job.name);
    }
}

/// Whether at least half of the kills found work under way: those that come before it begins show nothing.
fn interrupts(tally: &Tally) -> bool {
    tally.working * 2 >= tally.kills
}

#[test]
fn kills_before_the_work_begins_do_not_count() {
    let of = |working| Tally { kills: 100, working, ..Tally::default() };
    assert!(interrupts(&of(50)) && !interrupts(&of(49)));
}

#[test]
fn whoever_is_killed_goes_on_to_the_same_result() {
    all(1, "train,merge");
}

#[test]
#[ignore = "minutes; see the head of this file"]
fn a_hundred_times() {
    let asked = |name: &str, unless: &str| std::env::var(name).unwrap_or_else(|_| unless.to_owned());
    all(asked("PULLBACK_KILLS", "100").parse().unwrap(), &asked("PULLBACK_KILLED", "train,score,attack,sweep,merge"));
}
