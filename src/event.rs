//! How the lower layers report without printing: they send events to an [`Observer`], and the command line draws them.

use crate::error::{Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};

/// Set once the process was told to stop.
static STOP: AtomicBool = AtomicBool::new(false);

/// Asks all work of this process to stop: running work ends with [`Error::Interrupted`] before its next backward pass.
pub fn request_stop() {
    STOP.store(true, Ordering::SeqCst);
}

/// Takes [`request_stop`] back: for a process that goes on to other work once what ran has ended.
pub fn withdraw_stop() {
    STOP.store(false, Ordering::SeqCst);
}

/// True once the process was asked to stop.
pub fn stop_requested() -> bool {
    STOP.load(Ordering::SeqCst)
}

/// [`Error::Interrupted`] once the process was asked to stop, for work in low layers that has no [`Observer`]. Passes, and steps of attacks
/// and training, call it.
///
/// # Errors
/// [`Error::Interrupted`].
pub fn ensure_wanted() -> Result<()> {
    if stop_requested() { Err(Error::Interrupted) } else { Ok(()) }
}

/// Something to report while work goes on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A piece of work of `total` units begins; `done` of them were finished by an earlier run.
    Begin {
        /// What is being done ("scoring").
        task: &'a str,
        /// What one unit is, in the plural ("images").
        unit: &'a str,
        /// How many units there are.
        total: u64,
        /// How many are already done.
        done: u64,
    },
    /// Training begins, a piece of work of `total` batches; `done` of them were finished by an earlier run.
    Training {
        /// How many batches there are.
        total: u64,
        /// How many are already done.
        done: u64,
    },
    /// `0` more units are done.
    Advance(u64),
    /// The piece of work that began last ends.
    End,
    /// A line of result or state, such as an epoch's losses.
    Note(&'a str),
    /// Something doubtful that the user should see.
    Warning(&'a str),
    /// Detail for `--verbose`.
    Detail(&'a str),
}

/// Receives events and says whether to stop.
pub trait Observer: Sync {
    /// Receives one event.
    fn on(&self, event: Event<'_>);
    /// True once the user has asked to stop.
    fn interrupted(&self) -> bool {
        stop_requested()
    }
    /// [`Error::Interrupted`] once the user has asked to stop; call it between units of work.
    fn check(&self) -> Result<()> {
        if self.interrupted() { Err(Error::Interrupted) } else { Ok(()) }
    }
}

/// Ignores all events.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn on(&self, _: Event<'_>) {}
}
