//! Signals: the first asks the work to stop; the second, or a time limit after the first, ends the process at once.

use super::tell::tell;
use crate::event;
use crate::ffi::process::exit_now;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};
use signal_hook::iterator::Signals;
use std::sync::Arc;
use std::time::Duration;

/// The signals that ask for a stop: a terminal's Ctrl-C and hang-up, `kill`, and the signals that schedulers send before their time limit.
const STOPPING: [i32; 5] = [SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2];

/// How long work may take to stop by itself. Finished work is already in its file, so the process may end at any moment; work that does not
/// pause in time is ended.
const GRACE: Duration = Duration::from_millis(1500);

/// The exit code of an interrupted process.
const INTERRUPTED: u8 = 1;

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
        for _ in signals.forever() {
            if event::stop_requested() {
                exit_now(INTERRUPTED);
            }
            event::request_stop();
            tell("\npullback: stopping; press Ctrl-C again to stop at once");
            let _ = std::thread::Builder::new().name("pullback-grace".to_owned()).spawn(|| {
                std::thread::sleep(GRACE);
                tell(&format!("pullback: {}", crate::Error::Interrupted));
                exit_now(INTERRUPTED);
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
