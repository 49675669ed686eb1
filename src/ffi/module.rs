//! TorchScript modules: load and convert them, ask for methods, and call methods without graph rewriting.

use crate::error::{Error, Result};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::ptr::{self, NonNull};
use tch::{Device, Kind, Tensor};

unsafe extern "C" {
    fn pb_module_load(
        result: *mut *mut c_void,
        tf32: *mut i64,
        path: *const c_char,
        cuda_device: i64,
        use_double: c_int,
    ) -> *const c_char;
    fn pb_module_free(module: *mut c_void);
    fn pb_module_share(result: *mut *mut c_void, module: *mut c_void) -> *const c_char;
    fn pb_module_has(result: *mut c_int, module: *mut c_void, method: *const c_char) -> *const c_char;
    fn pb_module_non_finite(name: *mut *const c_char, module: *mut c_void) -> *const c_char;
    fn pb_module_call(
        results: *mut *mut c_void,
        capacity: i64,
        count: *mut i64,
        kind: *mut *const c_char,
        module: *mut c_void,
        method: *const c_char,
        input: *const c_void,
    ) -> *const c_char;
}

/// The routine's name in errors.
const ROUTINE: &str = "TorchScript";
/// The most tensors that a method may return.
const CAPACITY: usize = 8;

/// What a method returned.
#[derive(Debug)]
pub enum Returned {
    /// One tensor, or the tensors of a tuple.
    Tensors(Vec<Tensor>),
    /// Something else, and its name.
    Other(String),
}

/// A TorchScript module whose floating-point tensors have one kind and need no gradient.
#[derive(Debug)]
pub struct Module {
    raw: NonNull<c_void>,
    /// Number of traced convolutions that had allowed TF32 themselves and no longer do.
    pub tf32: i64,
}

// SAFETY: the module is owned by this value alone and libtorch ties it to no thread.
unsafe impl Send for Module {}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: `raw` came from pb_module_load and is freed once.
        unsafe { pb_module_free(self.raw.as_ptr()) }
    }
}

impl Module {
    /// Another handle on the same module, for another thread.
    ///
    /// # Errors
    /// If its code assigns to its own attributes: two threads would do so at the same time.
    pub fn share(&self) -> Result<Self> {
        let mut raw = ptr::null_mut();
        // SAFETY: `self.raw` lives through the call; `raw` receives an owned pointer on success.
        succeed(unsafe { pb_module_share(&mut raw, self.raw.as_ptr()) })?;
        let raw = NonNull::new(raw).ok_or_else(|| native("no module".to_owned()))?;
        Ok(Self { raw, tf32: self.tf32 })
    }

    /// Loads a TorchScript file. All floating-point tensors become `kind` (f32 or f64) on `device`.
    ///
    /// The error's message is libtorch's, several lines long.
    pub fn load(path: &Path, device: Device, kind: Kind) -> Result<Self> {
        let name = c_string(path.as_os_str().as_encoded_bytes())?;
        let cuda = match device {
            Device::Cuda(n) => n as i64,
            _ => -1,
        };
        let (mut raw, mut tf32) = (ptr::null_mut(), 0);
        // SAFETY: `name` is NUL-terminated and outlives the call; `raw` receives an owned pointer on success, `tf32` is writable.
        succeed(unsafe {
            pb_module_load(&mut raw, &mut tf32, name.as_ptr(), cuda, c_int::from(kind == Kind::Double))
        })?;
        let raw = NonNull::new(raw).ok_or_else(|| native("no module".to_owned()))?;
        Ok(Self { raw, tf32 })
    }

    /// The module, for routines that borrow it.
    pub(super) fn as_ptr(&self) -> *mut c_void {
        self.raw.as_ptr()
    }

    /// True if the module has the method.
    pub fn has(&self, method: &str) -> Result<bool> {
        let name = c_string(method.as_bytes())?;
        let mut found = 0;
        // SAFETY: `raw` is alive, `name` NUL-terminated, `found` writable.
        succeed(unsafe { pb_module_has(&mut found, self.raw.as_ptr(), name.as_ptr()) })?;
        Ok(found != 0)
    }

    /// Name of a tensor that holds a NaN or an infinity.
    pub fn non_finite(&self) -> Result<Option<String>> {
        let mut name = ptr::null();
        // SAFETY: `raw` is alive, `name` writable.
        succeed(unsafe { pb_module_non_finite(&mut name, self.raw.as_ptr()) })?;
        // SAFETY: null or a NUL-terminated string that lives until this thread's next call.
        Ok((!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()))
    }

    /// Calls a method that takes one tensor.
    pub fn call(&self, method: &str, input: &Tensor) -> Result<Returned> {
        let name = c_string(method.as_bytes())?;
        let mut results = [ptr::null_mut(); CAPACITY];
        let (mut count, mut kind) = (0i64, ptr::null());
        // SAFETY: `raw`, `name` and `input` live through the call; `results` has CAPACITY places.
        succeed(unsafe {
            pb_module_call(
                results.as_mut_ptr(),
                CAPACITY as i64,
                &mut count,
                &mut kind,
                self.raw.as_ptr(),
                name.as_ptr(),
                input.as_ptr().cast(),
            )
        })?;
        if !kind.is_null() {
            // SAFETY: a NUL-terminated string that lives until this thread's next call.
            return Ok(Returned::Other(unsafe { CStr::from_ptr(kind) }.to_string_lossy().into_owned()));
        }
        // SAFETY: the first `count` entries are heap-allocated tensors that now belong to us.
        let tensors = results.iter().take(count.max(0) as usize).map(|p| unsafe { Tensor::from_ptr(p.cast()) });
        Ok(Returned::Tensors(tensors.collect()))
    }
}

fn succeed(message: *const c_char) -> Result<()> {
    super::check(ROUTINE, message)
}

fn native(message: String) -> Error {
    Error::Native { routine: ROUTINE, message }
}

fn c_string(bytes: &[u8]) -> Result<CString> {
    let wrong = || Error::request(String::from_utf8_lossy(bytes), "a name without NUL", "one with");
    CString::new(bytes).map_err(|_| wrong())
}
