//! Draws events: a bar on a terminal, otherwise a plain line every few seconds, or JSON. Only this file and tell.rs print.

use super::args::Show;
use super::tell::{tell, warning};
use crate::error::{Error, Result};
use crate::event::{Event, Observer};
use anstream::AutoStream;
use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Time between plain lines.
const EVERY: Duration = Duration::from_secs(5);
/// Time between lines of JSON.
const EVERY_JSON: Duration = Duration::from_millis(250);

/// The unfinished work of a process that writes JSON.
static TOLD_IN_JSON: OnceLock<Tasks> = OnceLock::new();

type Tasks = Arc<Mutex<Vec<Task>>>;

/// How much to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// `-q`: warnings and errors only.
    Quiet,
    /// Progress and results.
    #[default]
    Normal,
    /// `-v`: details too.
    Verbose,
}

/// Writes a result to stdout. It is no error if the reader has stopped reading (`| head`).
///
/// # Errors
/// If the text is lost in another way: a full disk.
pub fn print(text: &str) -> Result<()> {
    let mut out = AutoStream::auto(std::io::stdout());
    match writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Error::io("stdout", e)),
        _ => Ok(()),
    }
}

/// How events are drawn.
enum Drawn {
    Bars(MultiProgress),
    Plain,
    Json,
    Nothing,
}

impl Drawn {
    fn of(show: Show, verbosity: Verbosity) -> Self {
        let bars = |target| Self::Bars(MultiProgress::with_draw_target(target));
        match show {
            Show::Auto if verbosity == Verbosity::Quiet => Self::Nothing,
            Show::Auto if std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|t| t != "dumb") => {
                bars(ProgressDrawTarget::stderr_with_hz(10))
            }
            // Unlike the target above, this one draws where there is no terminal too.
            Show::Bar => bars(ProgressDrawTarget::term_like_with_hz(Box::new(Term::stderr()), 10)),
            Show::Auto | Show::Plain => Self::Plain,
            Show::Json => Self::Json,
            Show::None => Self::Nothing,
        }
    }
}

/// One running piece of work.
struct Task {
    name: String,
    unit: String,
    total: u64,
    /// Units done, including those of an earlier run.
    position: u64,
    /// Units that an earlier run did; they do not count for the rate.
    earlier: u64,
    start: Instant,
    said: Instant,
    bar: Option<ProgressBar>,
}

impl Task {
    /// Units per second in this run.
    fn rate(&self) -> f64 {
        let seconds = self.start.elapsed().as_secs_f64();
        if seconds > 0.0 { (self.position.saturating_sub(self.earlier)) as f64 / seconds } else { 0.0 }
    }

    fn line(&self) -> String {
        let rate = self.rate();
        let left = self.total.saturating_sub(self.position) as f64;
        let eta = if rate > 0.0 { duration(left / rate) } else { "unknown".to_owned() };
        format!("{}: {}/{} {}, {}/s, ETA {eta}", self.name, self.position, self.total, self.unit, significant(rate))
    }

    /// A line of JSON; `phase` is running, done or stopped.
    fn json(&self, phase: &str) -> String {
        let rate = self.rate();
        let eta = (rate > 0.0).then(|| (self.total.saturating_sub(self.position) as f64 / rate * 10.0).round() / 10.0);
        let elapsed = (self.start.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
        json!({
            "task": self.name, "phase": phase, "done": self.position, "total": self.total, "unit": self.unit,
            "rate": (rate * 1000.0).round() / 1000.0, "eta": eta, "elapsed": elapsed,
        })
        .to_string()
    }

    fn summary(&self) -> String {
        let seconds = self.start.elapsed().as_secs_f64();
        let reused = if self.earlier > 0 { format!(", {} done before", self.earlier) } else { String::new() };
        format!(
            "{}: {} {} in {} ({}/s{reused})",
            self.name,
            self.position,
            self.unit,
            duration(seconds),
            significant(self.rate())
        )
    }
}

/// The observer of the command line.
pub struct Progress {
    verbosity: Verbosity,
    drawn: Drawn,
    tasks: Tasks,
}

/// The last lines of the work that a process leaves which ends at once.
pub fn leave() {
    // A thread that holds them may be one that no longer goes on.
    let Some(Ok(mut tasks)) = TOLD_IN_JSON.get().map(|tasks| tasks.try_lock()) else { return };
    for task in tasks.drain(..).rev() {
        tell(&task.json("stopped"));
    }
}

impl Progress {
    /// Draws on stderr.
    pub fn new(verbosity: Verbosity, show: Show) -> Self {
        let drawn = Drawn::of(show, verbosity);
        let tasks = Tasks::default();
        if matches!(drawn, Drawn::Json) {
            let _ = TOLD_IN_JSON.set(tasks.clone());
        }
        Self { verbosity, drawn, tasks }
    }

    /// Progress is still shown after a panic elsewhere.
    fn tasks(&self) -> MutexGuard<'_, Vec<Task>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line on stderr, above the bars.
    fn say(&self, line: &str) {
        match &self.drawn {
            Drawn::Bars(bars) => bars.suspend(|| tell(line)),
            _ => tell(line),
        }
    }

    /// A note, warning or detail.
    fn message(&self, phase: &str, text: &str) {
        match (&self.drawn, phase) {
            (Drawn::Json, _) => self.say(&json!({"phase": phase, "message": text.trim()}).to_string()),
            (_, "warning") => self.say(&warning(text)),
            _ => self.say(text),
        }
    }

    fn begin(&self, name: &str, unit: &str, total: u64, done: u64) {
        let bar = match &self.drawn {
            Drawn::Bars(bars) => {
                let bar = bars.add(ProgressBar::new(total).with_position(done).with_message(name.to_owned()));
                bar.set_style(style(unit));
                bar.reset_eta();
                bar.enable_steady_tick(Duration::from_millis(250));
                Some(bar)
            }
            _ => None,
        };
        let now = Instant::now();
        let (name, unit) = (name.to_owned(), unit.to_owned());
        let task = Task { name, unit, total, position: done, earlier: done, start: now, said: now, bar };
        if matches!(self.drawn, Drawn::Json) {
            self.say(&task.json("running"));
        }
        self.tasks().push(task);
    }

    fn advance(&self, units: u64) {
        let mut tasks = self.tasks();
        let Some(task) = tasks.last_mut() else { return };
        task.position += units;
        if let Some(bar) = &task.bar {
            bar.inc(units);
        }
        let line = match &self.drawn {
            Drawn::Plain if task.said.elapsed() >= EVERY => task.line(),
            Drawn::Json if task.said.elapsed() >= EVERY_JSON => task.json("running"),
            _ => return,
        };
        task.said = Instant::now();
        drop(tasks);
        self.say(&line);
    }

    fn end(&self) {
        let Some(task) = self.tasks().pop() else { return };
        if let Some(bar) = &task.bar {
            bar.finish_and_clear();
        }
        match self.drawn {
            Drawn::Json => self.say(&task.json("done")),
            Drawn::Nothing => {}
            _ => self.say(&task.summary()),
        }
    }
}

impl Observer for Progress {
    fn on(&self, event: Event<'_>) {
        let normal = self.verbosity > Verbosity::Quiet;
        match event {
            Event::Begin { task, unit, total, done } => self.begin(task, unit, total, done),
            Event::Training { total, done } => self.begin("training", "batches", total, done),
            Event::Advance(units) => self.advance(units),
            Event::End => self.end(),
            Event::Note(line) if normal => self.message("note", line),
            Event::Warning(line) => self.message("warning", line),
            Event::Detail(line) if self.verbosity == Verbosity::Verbose => self.message("detail", line),
            _ => {}
        }
    }
}

impl Drop for Progress {
    /// Clears the bars that an error left, so that the error's line stands alone; in JSON, such work has a last line too.
    fn drop(&mut self) {
        let left: Vec<Task> = self.tasks().drain(..).rev().collect();
        for task in left {
            match task.bar {
                Some(bar) => bar.finish_and_clear(),
                None if matches!(self.drawn, Drawn::Json) => self.say(&task.json("stopped")),
                None => {}
            }
        }
    }
}

fn style(unit: &str) -> ProgressStyle {
    // A brace in a unit would be taken for a placeholder.
    let unit = unit.replace(['{', '}'], "");
    let template = format!("{{msg}} [{{bar:30}}] {{human_pos}}/{{human_len}} {unit} {{per_sec}} ETA {{eta}}");
    ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

/// Seconds in readable form: `0.8 s`, `42 s`, `3 min 05 s`, `2 h 10 min`.
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() {
        return "unknown".to_owned();
    }
    let whole = seconds.round() as u64;
    match whole {
        0..10 => format!("{seconds:.1} s"),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// Three significant digits.
pub fn significant(value: f64) -> String {
    let digits = if value.abs() >= 100.0 {
        0
    } else if value.abs() >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        assert_eq!(duration(0.84), "0.8 s");
        assert_eq!(duration(42.4), "42 s");
        assert_eq!(duration(185.0), "3 min 05 s");
        assert_eq!(duration(7800.0), "2 h 10 min");
        assert_eq!(duration(f64::INFINITY), "unknown");
    }

    #[test]
    fn an_earlier_run_is_no_part_of_the_rate() {
        let now = Instant::now() - Duration::from_secs(2);
        let (name, unit) = ("scoring".to_owned(), "images".to_owned());
        let task = Task { name, unit, total: 100, position: 50, earlier: 50, start: now, said: now, bar: None };
        assert_eq!(task.rate(), 0.0);
        assert!(task.line().ends_with("ETA unknown"), "{}", task.line());
        assert!(task.summary().contains("50 done before"), "{}", task.summary());
        assert!(task.json("running").contains("\"eta\":null"), "{}", task.json("running"));
    }
}
