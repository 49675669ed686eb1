//! The thread on which the engine works for Python: one that waits from call to call.
#![allow(unsafe_code)]

use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyCFunction, PyDict, PyTuple};
use std::ffi::c_void;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};

unsafe extern "C" {
    fn pb_thread_as_new() -> *mut c_void;
    fn pb_thread_as_before(guard: *mut c_void);
}

/// What is told once the thread waits again.
pub type Telling = Box<dyn FnOnce() + Send>;
/// What a thread is given to do.
type Body = Box<dyn FnOnce() -> Telling + Send>;

/// A thread that has nothing to do.
static IDLE: Mutex<Option<Sender<Body>>> = Mutex::new(None);

fn idle() -> MutexGuard<'static, Option<Sender<Body>>> {
    IDLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `body` on a thread of Python's, without the GIL: on the one that has nothing to do, or on a new one. What it returns is called when
/// the thread is free again, so that whoever is told finds it so.
///
/// A thread of Rust's would have a state of Python made and deleted around it. What models keep in it (dynamo keeps tensors) is freed with
/// it, and libtorch takes the GIL to free tensors, by which it deletes the state once more. The state of a thread of Python's lives on, and
/// so does the thread: a new one pays some milliseconds for what libtorch keeps of each, and has none of the memory that the last one freed.
pub fn start(py: Python<'_>, body: impl FnOnce() -> Telling + Send + 'static) -> PyResult<()> {
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
        let tell = {
            let _fresh = AsNew::begin();
            body()
        };
        let next = offered();
        tell();
        match next.map(|next| next.recv()) {
            Some(Ok(next)) => body = next,
            _ => return,
        }
    }
}

/// Where the next body will come from, now that this thread is the one that waits; `None` if another is.
fn offered() -> Option<Receiver<Body>> {
    let mut idle = idle();
    if idle.is_some() {
        return None;
    }
    let (to, from) = channel();
    *idle = Some(to);
    Some(from)
}

/// While it lives, the thread is to libtorch as a new one is: a model that has left autocast on, or gradients off, is not the next one's.
struct AsNew(*mut c_void);

impl AsNew {
    fn begin() -> Self {
        // SAFETY: changes this thread's state alone, until it is dropped on the same thread (it cannot be sent).
        Self(unsafe { pb_thread_as_new() })
    }
}

impl Drop for AsNew {
    fn drop(&mut self) {
        // SAFETY: what pb_thread_as_new returned on this thread, or null, which may be deleted.
        unsafe { pb_thread_as_before(self.0) }
    }
}
