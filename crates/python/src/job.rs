//! The engine at work on a thread of its own, while the caller's waits, tells what happens and listens for Ctrl-C.

use crate::failure::{Error, Failure};
use pullback::event::{self, Event, Observer};
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyCFunction, PyDict, PyTuple};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often the caller's thread looks for signals.
const LOOK: Duration = Duration::from_millis(50);
/// How long work that was told to stop is waited for; what is not at a pause by then ends by itself later.
const GRACE: Duration = Duration::from_millis(1500);

/// Jobs that have not ended, those that nobody waits for any more included.
static RUNNING: AtomicUsize = AtomicUsize::new(0);

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
    stop: Arc<AtomicBool>,
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
        self.stop.load(Ordering::SeqCst) || event::stop_requested()
    }
}

/// Does `work` and raises what goes wrong. `listener` (a `pullback._progress.Listener`) hears of it on the caller's thread.
pub fn run(
    py: Python<'_>,
    listener: &Bound<'_, PyAny>,
    failure: &Failure,
    work: impl FnOnce(&dyn Observer) -> anyhow::Result<()> + Send + 'static,
) -> PyResult<()> {
    await_stopped(py)?;
    let (to, from) = channel();
    // A receiver is no thread's to share; one at a time asks it.
    let from = Mutex::new(from);
    let stop = Arc::new(AtomicBool::new(false));
    let teller = Teller { to: Mutex::new(to), stop: stop.clone() };
    RUNNING.fetch_add(1, Ordering::SeqCst);
    let body = move || {
        let done = catch_unwind(AssertUnwindSafe(|| work(&teller)));
        // Before it is told: who is told may begin the next job at once.
        if RUNNING.fetch_sub(1, Ordering::SeqCst) == 1 {
            event::withdraw_stop();
        }
        teller.tell(done.map_or_else(|_| Told::Panicked(last_panic()), Told::Done));
    };
    if let Err(error) = start(py, body) {
        RUNNING.fetch_sub(1, Ordering::SeqCst);
        return Err(error);
    }
    let listened = listen(py, listener, &from, failure);
    let Err(why) = listened else { return Ok(()) };
    if !matches!(why, Ended::Done(_)) {
        stop.store(true, Ordering::SeqCst);
        event::request_stop();
        // No job may have been left to take this back.
        if RUNNING.load(Ordering::SeqCst) == 0 {
            event::withdraw_stop();
        }
        py.allow_threads(|| wait(&from));
    }
    let (Ended::Done(error) | Ended::Left(error)) = why;
    Err(error)
}

/// Runs `body` on a thread of Python's, without the GIL.
///
/// A thread of Rust's would have a state of Python made and deleted around it. What models keep in it (dynamo keeps tensors) is freed with
/// it, and libtorch takes the GIL to free tensors, by which it deletes the state once more. The state of a thread of Python's lives on.
fn start(py: Python<'_>, body: impl FnOnce() + Send + 'static) -> PyResult<()> {
    let body = Mutex::new(Some(body));
    let target =
        PyCFunction::new_closure(py, None, None, move |args: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| {
            if let Some(body) = body.lock().unwrap_or_else(PoisonError::into_inner).take() {
                args.py().allow_threads(body);
            }
        })?;
    let options =
        [("target", target.into_any()), ("name", "pullback".into_pyobject(py)?.into_any())].into_py_dict(py)?;
    // What nobody waits for any more must not keep the interpreter from its end.
    options.set_item("daemon", true)?;
    py.import("threading")?.call_method("Thread", (), Some(&options))?.call_method0("start")?;
    Ok(())
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

/// A stop is the process's: new work waits for what was told to stop.
fn await_stopped(py: Python<'_>) -> PyResult<()> {
    while event::stop_requested() && RUNNING.load(Ordering::SeqCst) > 0 {
        py.allow_threads(|| std::thread::sleep(LOOK));
        py.check_signals()?;
    }
    Ok(())
}

/// Waits until no job is left, for at most so many seconds: an interpreter that ends must not meet one.
pub fn await_all(py: Python<'_>, seconds: f64) {
    let start = Instant::now();
    py.allow_threads(|| {
        while RUNNING.load(Ordering::SeqCst) > 0 && start.elapsed().as_secs_f64() < seconds {
            event::request_stop();
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
