//! The engine at work on a thread of its own, while the caller's waits, tells what happens and listens for Ctrl-C.

use crate::failure::{Error, Failure};
use crate::thread::{self, Telling};
use pullback::event::{self, Event, Observer};
use pullback::ffi::process::MemoryKept;
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often the caller's thread looks for signals.
const LOOK: Duration = Duration::from_millis(50);
/// How long work that was told to stop is waited for; what is not at a pause by then ends by itself later.
const GRACE: Duration = Duration::from_millis(1500);

/// Whether a job was told to stop.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    fn request(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn requested(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// [`pullback::Error::Interrupted`] once the job was told to stop.
    pub fn ensure_wanted(&self) -> pullback::Result<()> {
        if self.requested() { Err(pullback::Error::Interrupted) } else { Ok(()) }
    }
}

/// The stops of jobs that have not ended, those that nobody waits for any more included. While the process is told to stop, each of them is.
static RUNNING: Mutex<Vec<Stop>> = Mutex::new(Vec::new());

fn running() -> MutexGuard<'static, Vec<Stop>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The process that was the first to start the engine's threads; 0 before it.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// Refuses to work in a process that was forked from the first: it has locks and queues of threads that it has not, and would wait for ever.
pub fn ensure_own_process() -> PyResult<()> {
    let own = std::process::id();
    match PROCESS.compare_exchange(0, own, Ordering::SeqCst, Ordering::SeqCst) {
        Err(first) if first != own => Err(Error::new_err(
            "expected the process that used pullback first, found one that was forked from it \
             (multiprocessing.set_start_method(\"spawn\"))",
        )),
        _ => Ok(()),
    }
}

/// Puts a job among those that run, once all that were told to stop have ended: they may still ask the same model.
fn enter(py: Python<'_>, stop: &Stop) -> PyResult<()> {
    while !entered(stop) {
        py.allow_threads(|| std::thread::sleep(LOOK));
        py.check_signals()?;
    }
    Ok(())
}

fn entered(stop: &Stop) -> bool {
    let mut running = running();
    let free = !running.iter().any(Stop::requested);
    if free {
        running.push(stop.clone());
    }
    free
}

/// Takes a job from among those that run; the last takes the process's stop back.
fn leave(stop: &Stop) {
    let mut running = running();
    running.retain(|other| !Arc::ptr_eq(&other.0, &stop.0));
    if running.is_empty() {
        event::withdraw_stop();
    }
}

/// Tells all jobs to stop, also in the engine's low layers, which know of the process alone.
fn stop_all() {
    let running = running();
    running.iter().for_each(Stop::request);
    if !running.is_empty() {
        event::request_stop();
    }
}

/// What a thread tells the one that waits.
enum Told {
    Begin { task: String, unit: String, total: u64, done: u64 },
    Advance(u64),
    End,
    Note(String),
    Warning(String),
    Detail(String),
    Done(anyhow::Result<()>),
    Panicked(String),
}

/// The observer of a job.
struct Teller {
    to: Mutex<Sender<Told>>,
    stop: Stop,
}

impl Teller {
    fn tell(&self, told: Told) {
        // Nobody listens any more to work that was left to end by itself.
        let _ = self.to.lock().unwrap_or_else(PoisonError::into_inner).send(told);
    }
}

impl Observer for Teller {
    fn on(&self, event: Event<'_>) {
        match event {
            Event::Begin { task, unit, total, done } => {
                self.tell(Told::Begin { task: task.to_owned(), unit: unit.to_owned(), total, done });
            }
            Event::Advance(units) => self.tell(Told::Advance(units)),
            Event::End => self.tell(Told::End),
            Event::Note(line) => self.tell(Told::Note(line.to_owned())),
            Event::Warning(line) => self.tell(Told::Warning(line.to_owned())),
            Event::Detail(line) => self.tell(Told::Detail(line.to_owned())),
            _ => {}
        }
    }

    fn interrupted(&self) -> bool {
        self.stop.requested()
    }
}

/// Does `work` and raises what goes wrong. `listener` (a `pullback._progress.Listener`) hears of it on the caller's thread. `stop`, a new
/// one, tells `work` that nobody waits for it any more.
pub fn run(
    py: Python<'_>,
    listener: &Bound<'_, PyAny>,
    failure: &Failure,
    stop: &Stop,
    work: impl FnOnce(&dyn Observer) -> anyhow::Result<()> + Send + 'static,
) -> PyResult<()> {
    ensure_own_process()?;
    enter(py, stop)?;
    let (to, from) = channel();
    // A receiver is no thread's to share; one at a time asks it.
    let from = Mutex::new(from);
    let teller = Teller { to: Mutex::new(to), stop: stop.clone() };
    let body = move || {
        let kept = MemoryKept::begin();
        let done = catch_unwind(AssertUnwindSafe(|| work(&teller)));
        drop(kept);
        // Before it is told: who is told may begin the next job at once.
        leave(&teller.stop);
        let ended = done.map_or_else(|_| Told::Panicked(last_panic()), Told::Done);
        Box::new(move || teller.tell(ended)) as Telling
    };
    if let Err(error) = thread::start(py, body) {
        leave(stop);
        return Err(error);
    }
    let error = match listen(py, listener, &from, failure) {
        Ok(()) => return Ok(()),
        Err(Ended::Done(error)) => return Err(error),
        Err(Ended::Left(error)) => error,
    };
    stop.request();
    // Ctrl-C is for the whole process; a warning that is an error, or what another signal's handler raises, is for its caller.
    if error.is_instance_of::<PyKeyboardInterrupt>(py) {
        stop_all();
    }
    py.allow_threads(|| wait(&from));
    Err(error)
}

/// Why a job is not waited for any more.
enum Ended {
    /// It ended with an error.
    Done(PyErr),
    /// The caller is to hear of something else: a signal, a warning that is an error.
    Left(PyErr),
}

fn listen(
    py: Python<'_>,
    listener: &Bound<'_, PyAny>,
    from: &Mutex<Receiver<Told>>,
    failure: &Failure,
) -> Result<(), Ended> {
    loop {
        let received = py.allow_threads(|| next(from, LOOK));
        py.check_signals().map_err(Ended::Left)?;
        let heard = match received {
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Ended::Done(Error::new_err("the working thread ended early")));
            }
            Ok(Told::Done(Ok(()))) => return Ok(()),
            Ok(Told::Done(Err(error))) => return Err(Ended::Done(failure.raise(py, &error))),
            Ok(Told::Panicked(message)) => return Err(Ended::Done(Error::new_err(message))),
            Ok(Told::Begin { task, unit, total, done }) => listener.call_method1("begin", (task, unit, total, done)),
            Ok(Told::Advance(units)) => listener.call_method1("advance", (units,)),
            Ok(Told::End) => listener.call_method0("end"),
            Ok(Told::Note(line)) => listener.call_method1("note", (line,)),
            Ok(Told::Warning(line)) => listener.call_method1("warning", (line,)),
            Ok(Told::Detail(line)) => listener.call_method1("detail", (line,)),
        };
        heard.map_err(Ended::Left)?;
    }
}

fn next(from: &Mutex<Receiver<Told>>, timeout: Duration) -> Result<Told, RecvTimeoutError> {
    from.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(timeout)
}

/// Waits for a job that was told to stop.
fn wait(from: &Mutex<Receiver<Told>>) {
    let start = Instant::now();
    while let Some(left) = GRACE.checked_sub(start.elapsed()) {
        match next(from, left) {
            Ok(Told::Done(_) | Told::Panicked(_)) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

/// Waits until no job is left, for at most so many seconds: an interpreter that ends must not meet one.
pub fn await_all(py: Python<'_>, seconds: f64) {
    let start = Instant::now();
    py.allow_threads(|| {
        while !running().is_empty() && start.elapsed().as_secs_f64() < seconds {
            stop_all();
            std::thread::sleep(LOOK);
        }
    });
}

/// What the last panic said.
static PANIC: Mutex<String> = Mutex::new(String::new());

fn last_panic() -> String {
    let said = PANIC.lock().unwrap_or_else(PoisonError::into_inner).clone();
    format!("a fault of pullback's own, please report it: {said}")
}

/// Panics are kept for the exception that is made of them; nothing is printed.
pub fn keep_panics() {
    std::panic::set_hook(Box::new(|info| {
        let said = info.to_string().lines().map(str::trim).collect::<Vec<_>>().join(" ");
        *PANIC.lock().unwrap_or_else(PoisonError::into_inner) = said;
    }));
}
