//! Draws events: a bar on a terminal, otherwise a plain line every few seconds. Only this file and tell.rs print.

use super::tell::tell;
use crate::event::{Event, Observer};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Time between plain lines where stderr is not a terminal.
const EVERY: Duration = Duration::from_secs(5);

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
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush());
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
    /// `None` if stderr is not a terminal, or with `-q`.
    bars: Option<MultiProgress>,
    tasks: Mutex<Vec<Task>>,
}

impl Progress {
    /// Draws on stderr.
    pub fn new(verbosity: Verbosity) -> Self {
        let draws = verbosity > Verbosity::Quiet && std::io::stderr().is_terminal();
        let bars = draws.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)));
        Self { verbosity, bars, tasks: Mutex::new(Vec::new()) }
    }

    /// Progress is still shown after a panic elsewhere.
    fn tasks(&self) -> MutexGuard<'_, Vec<Task>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line on stderr, above the bars.
    fn say(&self, line: &str) {
        match &self.bars {
            Some(bars) => bars.suspend(|| tell(line)),
            None => tell(line),
        }
    }

    fn begin(&self, name: &str, unit: &str, total: u64, done: u64) {
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new(total).with_position(done).with_message(name.to_owned()));
            bar.set_style(style(unit));
            bar.reset_eta();
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        });
        let now = Instant::now();
        let (name, unit) = (name.to_owned(), unit.to_owned());
        self.tasks().push(Task { name, unit, total, position: done, earlier: done, start: now, said: now, bar });
    }

    fn advance(&self, units: u64) {
        let mut tasks = self.tasks();
        let Some(task) = tasks.last_mut() else { return };
        task.position += units;
        match &task.bar {
            Some(bar) => bar.inc(units),
            None if self.verbosity > Verbosity::Quiet && task.said.elapsed() >= EVERY => {
                task.said = Instant::now();
                let line = task.line();
                drop(tasks);
                self.say(&line);
            }
            None => {}
        }
    }

    fn end(&self) {
        let Some(task) = self.tasks().pop() else { return };
        if let Some(bar) = &task.bar {
            bar.finish_and_clear();
        }
        if self.verbosity > Verbosity::Quiet {
            self.say(&task.summary());
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
            Event::Note(line) if normal => self.say(line),
            Event::Warning(line) => self.say(&format!("warning: {line}")),
            Event::Detail(line) if self.verbosity == Verbosity::Verbose => self.say(line),
            _ => {}
        }
    }
}

impl Drop for Progress {
    /// Clears the bars that an error left, so that the error's line stands alone.
    fn drop(&mut self) {
        for task in self.tasks().drain(..) {
            if let Some(bar) = task.bar {
                bar.finish_and_clear();
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
    }
}
