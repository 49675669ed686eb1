//! Signals: the first asks the work to stop; the second, or a time limit after the first, ends the process at once.

use super::progress;
use super::tell::{tell, tell_error};
use crate::event;
use crate::ffi::process::exit_now;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};
use signal_hook::iterator::Signals;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

/// The signals that ask for a stop: a terminal's Ctrl-C and hang-up, `kill`, and the signals that schedulers send before their time limit.
const STOPPING: [i32; 5] = [SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2];

/// How long work may take to stop by itself. Finished work is already in its file, so the process may end at any moment; work that does not
/// pause in time is ended.
const GRACE: Duration = Duration::from_millis(1500);

/// The exit code after a person's stop: Ctrl-C, or a terminal that is closed.
const INTERRUPTED: u8 = 1;

/// The exit code after a scheduler's stop, EX_TEMPFAIL of sysexits.h: the same command goes on, so a batch script can requeue the job.
const TRY_AGAIN: u8 = 75;

/// The last signal that asked for a stop; 0: none.
static ASKED: AtomicI32 = AtomicI32::new(0);

/// The exit code of a process that stopped because it was asked to.
pub fn exit_code() -> u8 {
    match ASKED.load(Ordering::SeqCst) {
        SIGTERM | SIGUSR1 | SIGUSR2 => TRY_AGAIN,
        _ => INTERRUPTED,
    }
}

/// Watches for signals from now on. Signals that were ignored when the process was started (`nohup`, a shell's background jobs) stay
/// ignored.
pub fn watch() {
    // At a file size limit the write returns an error that names the file, and the process does not end.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::default());
    let ignored = ignored();
    let wanted: Vec<i32> = STOPPING.into_iter().filter(|s| ignored >> (s - 1) & 1 == 0).collect();
    // Without a watch, signals have the system's default effect: the process ends, and finished work is not lost.
    let Ok(mut signals) = Signals::new(wanted) else { return };
    let watch = move || {
        for signal in signals.forever() {
            ASKED.store(signal, Ordering::SeqCst);
            if event::stop_requested() {
                exit_now(exit_code());
            }
            event::request_stop();
            tell(match signal {
                SIGINT => "\npullback: stopping; press Ctrl-C again to stop at once",
                _ => "pullback: stopping, as a signal asks",
            });
            let _ = std::thread::Builder::new().name("pullback-grace".to_owned()).spawn(|| {
                std::thread::sleep(GRACE);
                progress::leave();
                tell_error(&crate::Error::Interrupted.to_string());
                exit_now(exit_code());
            });
        }
    };
    let _ = std::thread::Builder::new().name("pullback-signals".to_owned()).spawn(watch);
}

/// The signals that this process ignores, bit n - 1 for signal n; 0 if the system does not say.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
