//! A trace of libtorch's work: operations of every thread, and on CUDA kernels and copies with their bytes.

use super::check;
use crate::error::{Error, Result};
use std::ffi::{CString, c_char, c_int};
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

unsafe extern "C" {
    fn pb_trace_begin(cuda: c_int) -> *const c_char;
    fn pb_trace_end(path: *const c_char) -> *const c_char;
}

/// A trace that is being recorded; there is one at a time. All events are held in memory until [`Trace::finish`].
#[derive(Debug)]
pub struct Trace {
    path: PathBuf,
}

impl Trace {
    /// Begins to record for the file `path`, which is created at once.
    ///
    /// # Errors
    /// If the file exists or cannot be created; if another trace is being recorded.
    pub fn begin(path: &Path) -> Result<Self> {
        OpenOptions::new().write(true).create_new(true).open(path).map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists => {
                Error::request("--trace", "a file that is not there yet", path.display().to_string())
            }
            _ => Error::io(path, e),
        })?;
        // SAFETY: takes a flag; for a second profiler libtorch throws an exception.
        let begun = check("trace", unsafe { pb_trace_begin((super::cuda::found().devices > 0).into()) });
        if begun.is_err() {
            // The file was created above and is empty.
            let _ = std::fs::remove_file(path);
        }
        begun.map(|()| Self { path: path.to_owned() })
    }

    /// Ends the recording and writes the file: JSON in Chrome's trace format.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn finish(self) -> Result<()> {
        let shown = || self.path.display().to_string();
        let path = CString::new(self.path.as_os_str().as_bytes())
            .map_err(|_| Error::request(shown(), "a path without NUL", "one with"))?;
        // SAFETY: `path` is NUL-terminated and alive; the recording was begun and is ended once.
        check("trace", unsafe { pb_trace_end(path.as_ptr()) })?;
        // libtorch only logs a failure to write.
        match std::fs::metadata(&self.path).map_err(|e| Error::io(&self.path, e))?.len() {
            0 => Err(Error::io(&self.path, std::io::Error::other("libtorch wrote nothing"))),
            _ => Ok(()),
        }
    }
}
