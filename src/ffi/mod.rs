//! The only unsafe code: safe wrappers around the native routines of `kernels/pullback.h`, which check their arguments first.
#![allow(unsafe_code)]

pub mod adam;
pub mod step;
pub mod autograd;
pub mod convolution;
pub mod cuda;
pub mod finite;
pub mod graph;
pub mod kernels;
pub mod lane;
pub mod module;
pub mod memory;
pub mod lapack;
pub mod linear;
pub mod parallel;
pub mod process;
pub mod taps;
pub mod trace;

use crate::error::{Error, Result};
use std::ffi::{CStr, c_char};
use std::sync::OnceLock;

pub use autograd::{By, Graph, VjpMode, grams_folded, has_custom_functions, rows_folded, stem, vjp, vjp_by};
pub use finite::all_finite;
pub use graph::Replay;
pub use lane::Lane;
pub use pullback_results::ffi::lock;
pub use trace::Trace;

/// The version of the libtorch that this crate was built with.
pub const LIBTORCH: &str = env!("PULLBACK_LIBTORCH");

unsafe extern "C" {
    fn pb_exact_math() -> *const c_char;
    fn pb_allow_tf32(allow: i32) -> *const c_char;
    fn pb_deterministic(always: i32) -> *const c_char;
    fn pb_settings(tf32: *mut i32, deterministic: *mut i32) -> *const c_char;
    fn pb_device_wait(device: i64) -> *const c_char;
    fn pb_has_cuda_build() -> i32;
}

/// What is to be done after a native routine has failed.
static AFTER_FAILURE: OnceLock<fn()> = OnceLock::new();

/// Has `done` called after each native routine that fails, on the thread of that routine: for a program whose interpreter keeps what was
/// raised, and would raise it again in the next routine. Only the first call counts.
pub fn after_failure(done: fn()) {
    let _ = AFTER_FAILURE.set(done);
}

/// Turns a native routine's message into a `Result`.
pub(crate) fn check(routine: &'static str, message: *const c_char) -> Result<()> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: the native side returns null or a NUL-terminated string that lives until this thread's next call.
    let message = unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned();
    AFTER_FAILURE.get().into_iter().for_each(|done| done());
    Err(Error::Native { routine, message })
}

/// Process-wide settings for exact derivatives: attention by its math backend (the fused ones have no double
/// backward), no TF32 in convolutions and matrix products, and on CPUs no bfloat16 in them.
pub fn exact_math() -> Result<()> {
    keep_cuda();
    // SAFETY: takes no argument; sets flags of libtorch's global context.
    check("exact_math", unsafe { pb_exact_math() })
}

/// While this value lives, models learn on CUDA devices, in the whole process, with convolutions that give the same bits each time, in TF32
/// or in single precision. Afterwards computations are exact, with any convolution. libtorch's own default is TF32 in convolutions but not
/// in matrix products.
#[derive(Debug)]
pub struct Products(());

impl Products {
    /// In TF32 (ten bits of mantissa, several times the rate), or in single precision.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn new(tf32: bool) -> Result<Self> {
        // Its drop restores the settings, at whatever point this function stops.
        let products = Self(());
        // SAFETY: takes a flag; sets flags of libtorch's global context.
        check("allow_tf32", unsafe { pb_allow_tf32(tf32.into()) })?;
        // SAFETY: as above.
        check("deterministic", unsafe { pb_deterministic(1) })?;
        Ok(products)
    }
}

impl Drop for Products {
    fn drop(&mut self) {
        // SAFETY: as above. A failure to restore a flag cannot be reported.
        let _ = unsafe { (pb_allow_tf32(0), pb_deterministic(0)) };
    }
}

/// Names a symbol of libtorch's CUDA half, so that the linker of the final program keeps it. Every function that opens a device or a model
/// calls it.
#[cfg(pullback_cuda)]
fn keep_cuda() {
    unsafe extern "C" {
        #[link_name = "_ZN2at4cuda9warp_sizeEv"]
        fn warp_size() -> i32;
    }
    std::hint::black_box(warp_size as unsafe extern "C" fn() -> i32);
}

#[cfg(not(pullback_cuda))]
fn keep_cuda() {}

/// The settings that [`exact_math`] and [`Products`] change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Convolutions or matrix products on CUDA are rounded to TF32.
    pub tf32: bool,
    /// Convolutions on CUDA give the same bits each time.
    pub deterministic: bool,
}

/// The present process-wide settings.
///
/// # Errors
/// If libtorch refuses.
pub fn settings() -> Result<Settings> {
    let (mut tf32, mut deterministic) = (0, 0);
    // SAFETY: both are writable; reads flags of libtorch's global context.
    check("settings", unsafe { pb_settings(&mut tf32, &mut deterministic) })?;
    Ok(Settings { tf32: tf32 != 0, deterministic: deterministic != 0 })
}

/// Waits for the work that this thread queued on its current stream of CUDA device `device`.
///
/// # Errors
/// The errors of that work; also if there is no such device.
pub fn wait(device: usize) -> Result<()> {
    // SAFETY: takes a number, which it checks.
    check("CUDA", unsafe { pb_device_wait(device as i64) })
}

/// True if the CUDA half of libtorch is linked into this process.
pub fn has_cuda_build() -> bool {
    keep_cuda();
    // SAFETY: takes no argument and only reads.
    unsafe { pb_has_cuda_build() != 0 }
}
