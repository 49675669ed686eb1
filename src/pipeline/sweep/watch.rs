//! Several cells report at once; one observer receives whole epochs, and the messages of each cell under the cell's name.

use crate::config::Cell;
use crate::error::Result;
use crate::event::{Event, Observer};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// The sweep's observer, shared by its workers.
pub(super) struct Whole<'a> {
    observer: &'a dyn Observer,
    stopped: AtomicBool,
}

impl<'a> Whole<'a> {
    pub fn new(observer: &'a dyn Observer) -> Self {
        Self { observer, stopped: AtomicBool::new(false) }
    }

    /// Makes every worker stop at its next check.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub fn note(&self, text: &str) {
        self.observer.on(Event::Note(text));
    }

    /// An error once the user or a worker has asked to stop.
    pub fn check(&self) -> Result<()> {
        if self.stopped.load(Ordering::Relaxed) { Err(crate::Error::Interrupted) } else { self.observer.check() }
    }

    /// The observer for one cell; `told` of its `epochs` were counted as done before.
    pub fn cell(&self, cell: Cell, told: u64, epochs: u32) -> CellObserver<'_> {
        let training = Mutex::new(Training { per_epoch: 0, batches: 0, told });
        CellObserver { whole: self, name: cell.name(), epochs: u64::from(epochs), training }
    }
}

/// The progress of a cell's training.
struct Training {
    /// Batches in an epoch; 0 outside training.
    per_epoch: u64,
    batches: u64,
    /// Epochs that the sweep's observer has received.
    told: u64,
}

pub(super) struct CellObserver<'a> {
    whole: &'a Whole<'a>,
    name: String,
    epochs: u64,
    training: Mutex<Training>,
}

impl CellObserver<'_> {
    /// Reports the epochs that have ended since.
    fn tell(&self, change: impl FnOnce(&mut Training)) {
        let mut training = self.training.lock().unwrap_or_else(|e| e.into_inner());
        change(&mut training);
        if training.per_epoch == 0 {
            return;
        }
        let ended = training.batches / training.per_epoch;
        if ended > training.told {
            self.whole.observer.on(Event::Advance(ended - training.told));
            training.told = ended;
        }
    }
}

impl Observer for CellObserver<'_> {
    fn on(&self, event: Event<'_>) {
        let named = |text: &str| format!("{}: {text}", self.name);
        match event {
            Event::Training { total, done } => self.tell(|t| {
                t.per_epoch = total / self.epochs.max(1);
                t.batches = done;
            }),
            Event::Begin { task, .. } => {
                self.tell(|t| t.per_epoch = 0);
                self.whole.observer.on(Event::Detail(&named(task)));
            }
            Event::Advance(n) => self.tell(|t| t.batches += n),
            Event::Note(text) | Event::Detail(text) => self.whole.observer.on(Event::Detail(&named(text))),
            Event::Warning(text) => self.whole.observer.on(Event::Warning(&named(text))),
            Event::End => {}
        }
    }

    fn interrupted(&self) -> bool {
        self.whole.check().is_err()
    }
}

/// `50 s`, `12 min`, `3.4 h`.
pub(super) fn span(seconds: f64) -> String {
    match seconds {
        s if s < 99.5 => format!("{s:.0} s"),
        s if s < 99.5 * 60.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}
