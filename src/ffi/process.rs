//! The end of the process.

/// Ends the process without destructors or exit handlers, because those of libtorch and HDF5 may free what other threads still use.
/// Everything that should be written must be written before.
pub fn exit_now(code: u8) -> ! {
    use std::io::Write;
    let _ = std::io::stdout().flush();
    // SAFETY: _exit takes a number and does not return.
    unsafe { libc::_exit(i32::from(code)) }
}

/// Makes the process's allocator keep the memory that is freed: every pass needs the same memory again, and pages that the system must
/// clear again cost a third of a short pass. Call it before threads are started.
pub fn keep_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: sets two numbers of the C library's allocator; if it refuses, it works as before.
    unsafe {
        // The largest value that it accepts.
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
    }
}
