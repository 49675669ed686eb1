//! The engine at work on a thread of its own, while the caller's waits, tells what happens and listens for Ctrl-C.

use crate::failure::{Error, Failure};
use pullback::event::{self, Event, Observer};
use pullback::ffi::process::MemoryKept;
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyCFunction, PyDict, PyTuple};
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

/// The process that had the first job; 0 before it.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// A process that was forked from one that had a job has locks and queues of threads that it has not: it would wait for ever.
fn ensure_own_process() -> PyResult<()> {
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
    line: Mutex<Line>,
    stop: Stop,
}

/// The way to who listens. Who listens takes the GIL to hear, for which a model may have to wait, so that progress is told now and then.
struct Line {
    to: Sender<Told>,
    /// Units that are not told yet.
    untold: u64,
    told: Instant,
}

impl Teller {
    fn new(to: Sender<Told>, stop: Stop) -> Self {
        Self { line: Mutex::new(Line { to, untold: 0, told: Instant::now() }), stop }
    }

    fn tell(&self, told: Told) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        if let Told::Advance(units) = told {
            line.untold += units;
            if line.told.elapsed() >= LOOK {
                line.catch_up();
            }
        } else {
            line.catch_up();
            // Nobody listens any more to work that was left to end by itself.
            let _ = line.to.send(told);
        }
    }
}

impl Line {
    fn catch_up(&mut self) {
        if self.untold > 0 {
            let _ = self.to.send(Told::Advance(std::mem::take(&mut self.untold)));
            self.told = Instant::now();
        }
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
    let teller = Teller::new(to, stop.clone());
    let body = move || {
        let kept = MemoryKept::begin();
        let done = catch_unwind(AssertUnwindSafe(|| work(&teller)));
        drop(kept);
        // Before it is told: who is told may begin the next job at once.
        leave(&teller.stop);
        teller.tell(done.map_or_else(|_| Told::Panicked(last_panic()), Told::Done));
    };
    if let Err(error) = start(py, body) {
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

/// What a working thread is given to do.
type Body = Box<dyn FnOnce() + Send>;

/// A thread that has nothing to do.
static IDLE: Mutex<Option<Sender<Body>>> = Mutex::new(None);

fn idle() -> MutexGuard<'static, Option<Sender<Body>>> {
    IDLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `body` on a thread of Python's, without the GIL: on the one that has nothing to do, or on a new one.
///
/// A thread of Rust's would have a state of Python made and deleted around it. What models keep in it (dynamo keeps tensors) is freed with
/// it, and libtorch takes the GIL to free tensors, by which it deletes the state once more. The state of a thread of Python's lives on, and
/// so does the thread: a new one pays some milliseconds for what libtorch keeps of each, and has none of the memory that the last one freed.
fn start(py: Python<'_>, body: impl FnOnce() + Send + 'static) -> PyResult<()> {
    let mut body: Body = Box::new(body);
    if let Some(to) = idle().take() {
        match to.send(body) {
            Ok(()) => return Ok(()),
            // The thread has ended.
            Err(back) => body = back.0,
        }
    }
    let first = Mutex::new(Some(body));
    let target =
        PyCFunction::new_closure(py, None, None, move |args: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| {
            if let Some(first) = first.lock().unwrap_or_else(PoisonError::into_inner).take() {
                args.py().allow_threads(|| work_on(first));
            }
        })?;
    let options =
        [("target", target.into_any()), ("name", "pullback".into_pyobject(py)?.into_any())].into_py_dict(py)?;
    // What nobody waits for any more must not keep the interpreter from its end.
    options.set_item("daemon", true)?;
    py.import("threading")?.call_method("Thread", (), Some(&options))?.call_method0("start")?;
    Ok(())
}

/// Does one thing after another; ends once another thread is the one that waits.
fn work_on(first: Body) {
    let mut body = first;
    loop {
        body();
        let (to, from) = channel();
        {
            let mut idle = idle();
            if idle.is_some() {
                return;
            }
            *idle = Some(to);
        }
        match from.recv() {
            Ok(next) => body = next,
            Err(_) => return,
        }
    }
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
