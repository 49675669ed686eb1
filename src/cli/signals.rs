//! Signals: the first asks the work to stop, the second ends the process at once, and so does time.

use super::tell::tell;
use crate::event;
use crate::ffi::process::exit_now;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};
use signal_hook::iterator::Signals;
use std::sync::Arc;
use std::time::Duration;

/// Those that ask for a stop: a terminal's Ctrl-C and hang-up, `kill`, and what schedulers send ahead of their time limit.
const STOPPING: [i32; 5] = [SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2];

/// How long work may take to stop by itself. What is finished is in its file, which a process may leave at any moment; what
/// does not come to a pause in time is left like that.
const GRACE: Duration = Duration::from_millis(1500);

/// What an interrupted process exits with.
const INTERRUPTED: u8 = 1;

/// Watches for signals from here on. Those that whoever started the process had it ignore (`nohup`, a shell's background jobs)
/// stay ignored.
pub fn watch() {
    // A file that may not grow is an error of the write, which names it, and no end of the process.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::default());
    let ignored = ignored();
    let wanted: Vec<i32> = STOPPING.into_iter().filter(|s| ignored >> (s - 1) & 1 == 0).collect();
    // Without a watch, signals do what the system has them do: the process ends, and nothing that is finished is lost.
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

/// The signals that this process ignores, bit n - 1 for signal n; none where the system does not tell.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
