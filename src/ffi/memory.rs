//! How much memory a piece of work takes, and how much is available.

use super::check;
use crate::error::Result;
use std::ffi::c_char;

unsafe extern "C" {
    fn pb_memory_begin() -> *const c_char;
    fn pb_memory_end(peak: *mut i64) -> *const c_char;
    fn pb_cuda_memory(free: *mut i64, total: *mut i64, device: i64) -> *const c_char;
}

/// Runs `work`; returns its result and the largest number of bytes that libtorch held for it at one time, beyond what it held before.
/// Counts this thread's allocations and those of the backward pass, on any device. Not nestable.
pub fn peak_bytes<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, u64)> {
    /// Ends the count also when `work` unwinds.
    struct Count;
    impl Drop for Count {
        fn drop(&mut self) {
            let mut peak = 0;
            // SAFETY: writes one i64; ending a count that has already ended returns an error, which is ignored here.
            unsafe { pb_memory_end(&mut peak) };
        }
    }
    // SAFETY: takes no argument; starts a count on this thread.
    check("memory_begin", unsafe { pb_memory_begin() })?;
    let guard = Count;
    let result = work();
    std::mem::forget(guard);
    let mut peak = 0i64;
    // SAFETY: `peak` is a live i64 that the call writes.
    check("memory_end", unsafe { pb_memory_end(&mut peak) })?;
    Ok((result?, peak.max(0) as u64))
}

/// (free, total) bytes of CUDA device `device`; idle memory of libtorch's allocator counts as free.
///
/// # Errors
/// If there is no such device.
pub fn cuda_memory(device: usize) -> Result<(u64, u64)> {
    let (mut free, mut total) = (0i64, 0i64);
    // SAFETY: both are live i64s that the call writes; it checks the device.
    check("cuda_memory", unsafe { pb_cuda_memory(&mut free, &mut total, device as i64) })?;
    Ok((free.max(0) as u64, total.max(0) as u64))
}
