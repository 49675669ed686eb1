//! Device work that is repeated on fixed buffers: on CUDA captured once as a graph and then launched whole, so that a step
//! costs one launch in place of hundreds; elsewhere simply done again.

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

/// Runs before the capture, so that libraries have made their handles and workspaces, as PyTorch's guide has it.
const WARM_UP: usize = 3;

/// A piece of work to repeat, which the caller passes anew each time: on CUDA the first runs carry it out, the fourth captures
/// it, and from then on the capture stands for it.
///
/// The work is always the same, on the same memory: it reads its inputs from, and leaves its results in, tensors that the
/// caller keeps as long as this value, and fills and reads between runs; what else it reads (a model's parameters) stays
/// where it is as well. It must not wait for the device, and must not touch anything of the host's that changes: of a capture
/// the host part runs once and the device part not at all. Runs are ordered with what the thread queues before and after.
pub struct Replay {
    way: Way,
}

enum Way {
    /// The work itself; and why it is not a graph.
    Plain(String),
    /// The work on the stream of the capture to come, so often before it.
    WarmUp(CudaGraph, usize),
    /// The captured work.
    Captured(CudaGraph),
}

impl Replay {
    /// For work on `device`; nothing is run yet.
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

    /// Does the work once on what its buffers hold now.
    ///
    /// # Errors
    /// Those of the work; where a replay fails.
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

    /// Why the work is not, and will not be, a graph.
    pub fn refusal(&self) -> Option<&str> {
        match &self.way {
            Way::Plain(reason) => Some(reason),
            _ => None,
        }
    }
}

/// What is, or will be, captured. Not `Send`: streams are current thread by thread.
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

    /// Carries out `work` on the stream of captures.
    fn aside(&self, work: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        // SAFETY: `raw` is alive until drop; left again below, on this thread.
        check("CUDA graph", unsafe { pb_graph_enter(self.raw.as_ptr()) })?;
        let inside = Inside(self);
        let done = work(self);
        done.and(inside.leave())
    }

    /// Captures `work`; within [`CudaGraph::aside`].
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
        // SAFETY: `raw` is alive until drop; called only after a capture succeeded. The memory it works on is kept by the
        // caller of `Replay::run`, as that asks.
        check("CUDA graph", unsafe { pb_graph_replay(self.raw.as_ptr()) })
    }
}

/// One capture at a time: the default generator's word that it is being captured is the device's, not the graph's.
static CAPTURES: Mutex<()> = Mutex::new(());

/// The stream of captures is current; the former one is again at the end, also where the work unwinds.
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

/// A capture that has not ended: abandoned where it does not come to its end.
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
