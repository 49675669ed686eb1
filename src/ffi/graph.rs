//! Device work that is repeated on fixed buffers. On CUDA it is captured once as a graph and then launched whole, so that a step costs one
//! launch in place of hundreds; elsewhere it is simply done again.

use super::check;
use crate::error::Result;
use std::ffi::{c_char, c_void};
use std::ptr::{self, NonNull};
use std::sync::{Mutex, PoisonError};
use tch::Device;

unsafe extern "C" {
    fn pb_graph_new(result: *mut *mut c_void, device: i64) -> *const c_char;
    fn pb_graph_enter(graph: *mut c_void) -> *const c_char;
    fn pb_graph_leave(graph: *mut c_void) -> *const c_char;
    fn pb_graph_begin(graph: *mut c_void) -> *const c_char;
    fn pb_graph_end(graph: *mut c_void) -> *const c_char;
    fn pb_graph_abandon(graph: *mut c_void) -> *const c_char;
    fn pb_graph_replay(graph: *mut c_void) -> *const c_char;
    fn pb_graph_free(graph: *mut c_void);
}

/// Runs before the capture, in which libraries create their handles and workspaces, as PyTorch's guide recommends.
const WARM_UP: usize = 3;

/// A piece of work to repeat, which the caller passes each time. On CUDA the first three runs carry it out, the fourth captures it, and
/// later runs replay the capture.
///
/// The work is always the same, on the same memory: it reads its inputs from tensors, and leaves its results in tensors, that the caller
/// keeps as long as this value, and fills and reads between runs. Other memory that it reads (a model's parameters) must not move either.
/// The work must not wait for the device and must not change anything on the host: in a capture the host part runs once and the device part
/// does not run. Runs are ordered with the work that the thread queues before and after.
pub struct Replay {
    way: Way,
}

enum Way {
    /// The work without a graph, and the reason why it is not a graph.
    Plain(String),
    /// The work on the stream of the later capture, and the number of runs so far.
    WarmUp(CudaGraph, usize),
    /// The captured work.
    Captured(CudaGraph),
}

impl Replay {
    /// A replay for work on `device`; nothing is run yet.
    pub fn new(device: Device) -> Self {
        let way = match device {
            Device::Cuda(n) => match CudaGraph::new(n) {
                Ok(graph) => Way::WarmUp(graph, WARM_UP),
                Err(error) => Way::Plain(error.to_string()),
            },
            _ => Way::Plain("a CPU has none".to_owned()),
        };
        Self { way }
    }

    /// Does the work once on the present contents of its buffers.
    ///
    /// # Errors
    /// The errors of the work; also if a replay fails.
    pub fn run(&mut self, mut work: impl FnMut() -> Result<()>) -> Result<()> {
        match &mut self.way {
            Way::Plain(_) => work(),
            Way::WarmUp(graph, left) if *left > 0 => {
                *left -= 1;
                graph.aside(|_| work())
            }
            Way::WarmUp(graph, _) => match graph.aside(|graph| graph.capture(&mut work)) {
                Ok(()) => {
                    graph.replay()?;
                    if let Way::WarmUp(graph, _) = std::mem::replace(&mut self.way, Way::Plain(String::new())) {
                        self.way = Way::Captured(graph);
                    }
                    Ok(())
                }
                Err(error) => {
                    self.way = Way::Plain(error.to_string());
                    work()
                }
            },
            Way::Captured(graph) => graph.replay(),
        }
    }

    /// Why the work is not a graph, and will not be one.
    pub fn refusal(&self) -> Option<&str> {
        match &self.way {
            Way::Plain(reason) => Some(reason),
            _ => None,
        }
    }
}

/// A graph that is, or will be, captured. Not `Send`: each thread has its own current stream.
struct CudaGraph {
    raw: NonNull<c_void>,
}

impl CudaGraph {
    fn new(device: usize) -> Result<Self> {
        let mut raw = ptr::null_mut();
        // SAFETY: `raw` is writable and receives an owned pointer on success.
        check("CUDA graph", unsafe { pb_graph_new(&mut raw, device as i64) })?;
        let none = || crate::Error::Native { routine: "CUDA graph", message: "none was made".to_owned() };
        Ok(Self { raw: NonNull::new(raw).ok_or_else(none)? })
    }

    /// Carries out `work` on the stream that is used for captures.
    fn aside(&self, work: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        // SAFETY: `raw` is alive until drop; left again below, on this thread.
        check("CUDA graph", unsafe { pb_graph_enter(self.raw.as_ptr()) })?;
        let inside = Inside(self);
        let done = work(self);
        done.and(inside.leave())
    }

    /// Captures `work`; call it within [`CudaGraph::aside`].
    fn capture(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        let _alone = CAPTURES.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = Begun(self);
        // SAFETY: `raw` is alive until drop; a capture that began is ended or abandoned on this thread below.
        check("CUDA graph", unsafe { pb_graph_begin(self.raw.as_ptr()) })?;
        work()?;
        // SAFETY: as above, and the capture has begun.
        check("CUDA graph", unsafe { pb_graph_end(self.raw.as_ptr()) })?;
        std::mem::forget(begun);
        Ok(())
    }

    fn replay(&self) -> Result<()> {
        // SAFETY: `raw` is alive until drop; called only after a capture succeeded. The caller of `Replay::run` keeps the memory that it
        // works on, as that function requires.
        check("CUDA graph", unsafe { pb_graph_replay(self.raw.as_ptr()) })
    }
}

/// Only one capture at a time: the default generator notes for the device, not for the graph, that it is being captured.
static CAPTURES: Mutex<()> = Mutex::new(());

/// Makes the stream of captures current, and the former one at the end, also if the work panics.
struct Inside<'a>(&'a CudaGraph);

impl Inside<'_> {
    fn leave(self) -> Result<()> {
        let raw = self.0.raw.as_ptr();
        std::mem::forget(self);
        // SAFETY: `raw` is alive until drop and was entered on this thread.
        check("CUDA graph", unsafe { pb_graph_leave(raw) })
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        // SAFETY: as in `leave`. Its own error would hide the panic.
        let _ = unsafe { pb_graph_leave(self.0.raw.as_ptr()) };
    }
}

/// A capture that has not ended; it is abandoned if it does not reach its end.
struct Begun<'a>(&'a CudaGraph);

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        // SAFETY: `raw` is alive until drop; abandoning is allowed in any state. Its own error would hide the first.
        let _ = unsafe { pb_graph_abandon(self.0.raw.as_ptr()) };
    }
}

impl Drop for CudaGraph {
    fn drop(&mut self) {
        // SAFETY: `raw` came from pb_graph_new and is freed once, after the device is done with it.
        unsafe { pb_graph_free(self.raw.as_ptr()) }
    }
}
