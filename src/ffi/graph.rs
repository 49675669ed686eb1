//! Device work that is repeated on fixed buffers: on CUDA captured once as a graph and then launched whole, so that a step
//! costs one launch in place of hundreds; elsewhere simply done again.

use super::check;
use crate::error::Result;
use std::ffi::{c_char, c_void};
use std::ptr::{self, NonNull};
use tch::Device;

unsafe extern "C" {
    fn pb_graph_new(result: *mut *mut c_void, device: i64) -> *const c_char;
    fn pb_graph_begin(graph: *mut c_void) -> *const c_char;
    fn pb_graph_end(graph: *mut c_void) -> *const c_char;
    fn pb_graph_abandon(graph: *mut c_void) -> *const c_char;
    fn pb_graph_replay(graph: *mut c_void) -> *const c_char;
    fn pb_graph_free(graph: *mut c_void);
}

/// Runs before the capture, so that libraries have made their handles and workspaces, as PyTorch's guide has it.
const WARM_UP: usize = 3;

/// A piece of work to repeat.
///
/// The body reads its inputs from, and leaves its results in, tensors that stay where they are: the caller fills and
/// reads them between runs. It must not wait for the device, and must not touch anything of the host's that changes: of
/// a capture the host part runs once and the device part not at all. On CUDA the thread's current stream is one of this
/// value's own as long as it lives.
pub struct Replay<'a> {
    body: Box<dyn FnMut() -> Result<()> + 'a>,
    way: Way,
}

enum Way {
    /// The body, run again; and why it is not a graph.
    Plain(String),
    /// The body on the stream of the capture to come, so often before it.
    WarmUp(Session, usize),
    /// The captured work.
    Graph(Session),
}

impl<'a> Replay<'a> {
    /// Work on `device`; nothing is run yet.
    pub fn new(device: Device, body: impl FnMut() -> Result<()> + 'a) -> Self {
        let way = match device {
            Device::Cuda(n) => match Session::new(n) {
                Ok(session) => Way::WarmUp(session, WARM_UP),
                Err(error) => Way::Plain(error.to_string()),
            },
            _ => Way::Plain("a CPU has none".to_owned()),
        };
        Self { body: Box::new(body), way }
    }

    /// Does the work once on what the buffers hold now.
    pub fn run(&mut self) -> Result<()> {
        match &mut self.way {
            Way::Plain(_) => (self.body)(),
            Way::WarmUp(_, left) if *left > 0 => {
                *left -= 1;
                (self.body)()
            }
            Way::WarmUp(session, _) => match session.capture(&mut self.body) {
                Ok(()) => {
                    session.replay()?;
                    if let Way::WarmUp(session, _) = std::mem::replace(&mut self.way, Way::Plain(String::new())) {
                        self.way = Way::Graph(session);
                    }
                    Ok(())
                }
                Err(error) => {
                    self.way = Way::Plain(error.to_string());
                    (self.body)()
                }
            },
            Way::Graph(session) => session.replay(),
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

/// A stream, current on this thread, and what was captured on it. Not `Send`: streams are current thread by thread.
struct Session {
    raw: NonNull<c_void>,
}

impl Session {
    fn new(device: usize) -> Result<Self> {
        let mut raw = ptr::null_mut();
        // SAFETY: `raw` is writable and receives an owned pointer on success.
        check("CUDA graph", unsafe { pb_graph_new(&mut raw, device as i64) })?;
        let none = || crate::Error::Native { routine: "CUDA graph", message: "no session".to_owned() };
        Ok(Self { raw: NonNull::new(raw).ok_or_else(none)? })
    }

    fn capture(&self, body: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        let raw = self.raw.as_ptr();
        // SAFETY: `raw` is alive until drop; a capture that began is ended or abandoned on this thread below.
        let begun = check("CUDA graph", unsafe { pb_graph_begin(raw) });
        // SAFETY: as above, and the capture has begun.
        let captured = begun.and_then(|()| body()).and_then(|()| check("CUDA graph", unsafe { pb_graph_end(raw) }));
        if captured.is_err() {
            // SAFETY: as above; abandoning is allowed in any state. Its own error would hide the first.
            let _ = unsafe { pb_graph_abandon(raw) };
        }
        captured
    }

    fn replay(&self) -> Result<()> {
        // SAFETY: `raw` is alive until drop; called only after a capture succeeded. The buffers it works on belong to the
        // body, which lives beside this value in `Replay`.
        check("CUDA graph", unsafe { pb_graph_replay(self.raw.as_ptr()) })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: `raw` came from pb_graph_new and is freed once; the former stream becomes current again.
        unsafe { pb_graph_free(self.raw.as_ptr()) }
    }
}
