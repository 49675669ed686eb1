//! What the time of training is spent on.

use crate::error::Result;
use std::fmt;
use std::time::{Duration, Instant};

/// The parts of the training thread's time. They follow each other and add up to at most the whole time.
pub(super) struct Times {
    start: Instant,
    /// Reading images, drawing noise and mixes, sending them to the device.
    pub(super) draw: Spent,
    /// Steps; on CUDA only their queueing.
    pub(super) step: Spent,
    /// Reading the losses; on CUDA this is mostly waiting for the steps.
    pub(super) look: Spent,
    pub(super) validate: Spent,
    pub(super) save: Spent,
}

/// Time that one kind of work took.
#[derive(Clone, Copy, Default)]
pub(super) struct Spent(Duration);

impl Spent {
    /// Does the work and adds its time.
    pub(super) fn of<T>(&mut self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let start = Instant::now();
        let done = work();
        self.0 += start.elapsed();
        done
    }
}

impl Times {
    pub(super) fn start() -> Self {
        let [draw, step, look, validate, save] = [Spent::default(); 5];
        Self { start: Instant::now(), draw, step, look, validate, save }
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [whole, draw, step, look, validate, save] =
            [self.start.elapsed(), self.draw.0, self.step.0, self.look.0, self.validate.0, self.save.0]
                .map(|time| format!("{:.2} s", time.as_secs_f64()));
        write!(
            f,
            "training, {whole}: drawing batches {draw}, steps {step}, waiting for losses {look}, validation {validate}, \
             saving {save}"
        )
    }
}
