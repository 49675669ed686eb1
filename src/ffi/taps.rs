//! Outputs of the layers inside a TorchScript module.

use super::module::Module;
use crate::error::{Error, Result};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;
use tch::Tensor;

unsafe extern "C" {
    fn pb_module_watch(found: *mut c_int, module: *mut c_void, name: *const c_char) -> *const c_char;
    fn pb_module_layers(names: *mut *const c_char, module: *mut c_void) -> *const c_char;
    fn pb_taps_open();
    fn pb_taps_close();
    fn pb_taps_take(result: *mut *mut c_void, module: *mut c_void, name: *const c_char, number: i64) -> *const c_char;
}

/// The routine's name in errors.
const ROUTINE: &str = "TorchScript";

/// What [`watch`] found at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// There is no such layer.
    Nothing,
    /// It is a layer that does not return one tensor, or is not called by the module's methods.
    Other,
    /// Its outputs are kept from now on.
    Layer,
}

/// Makes the layer at a path of names (`encoder.0`) keep what it returns while [`Taps`] are open. A method that was called before is
/// not changed any more.
pub fn watch(module: &Module, name: &str) -> Result<Found> {
    let name = c_string(name)?;
    let mut found = 0;
    // SAFETY: the module lives, `name` is NUL-terminated, `found` writable.
    super::check(ROUTINE, unsafe { pb_module_watch(&mut found, module.as_ptr(), name.as_ptr()) })?;
    Ok(match found {
        0 => Found::Nothing,
        1 => Found::Other,
        _ => Found::Layer,
    })
}

/// The paths of all layers.
pub fn layers(module: &Module) -> Result<Vec<String>> {
    let mut names = ptr::null();
    // SAFETY: the module lives, `names` is writable.
    super::check(ROUTINE, unsafe { pb_module_layers(&mut names, module.as_ptr()) })?;
    // SAFETY: a NUL-terminated string that lives until this thread's next call.
    let names = unsafe { CStr::from_ptr(names) }.to_string_lossy().into_owned();
    Ok(names.lines().map(str::to_owned).collect())
}

/// While it lives, outputs of watched layers are kept for this thread.
#[derive(Debug)]
pub struct Taps(());

impl Taps {
    /// Begins with nothing.
    pub fn open() -> Self {
        // SAFETY: no arguments; the state is the thread's own.
        unsafe { pb_taps_open() };
        Self(())
    }

    /// What the layer at this path has returned, call by call.
    pub fn of(&self, module: &Module, name: &str) -> Result<Vec<Tensor>> {
        let name = c_string(name)?;
        let mut outputs = Vec::new();
        loop {
            let mut raw = ptr::null_mut();
            let number = outputs.len() as i64;
            // SAFETY: the module lives, `name` is NUL-terminated; `raw` receives an owned pointer or null.
            super::check(ROUTINE, unsafe { pb_taps_take(&mut raw, module.as_ptr(), name.as_ptr(), number) })?;
            if raw.is_null() {
                return Ok(outputs);
            }
            // SAFETY: a heap-allocated tensor that belongs to us.
            outputs.push(unsafe { Tensor::from_ptr(raw.cast()) });
        }
    }
}

impl Drop for Taps {
    fn drop(&mut self) {
        // SAFETY: as in `open`.
        unsafe { pb_taps_close() }
    }
}

fn c_string(name: &str) -> Result<CString> {
    CString::new(name).map_err(|_| Error::request("layers", "names without NUL", name))
}
