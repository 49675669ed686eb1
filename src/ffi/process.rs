//! The end of the process.

/// Ends the process without destructors or exit handlers: those of libtorch and HDF5 may not run beside threads that still use
/// what they take down. Everything that should be written must have been.
pub fn exit_now(code: u8) -> ! {
    use std::io::Write;
    let _ = std::io::stdout().flush();
    // SAFETY: _exit takes a number and does not return.
    unsafe { libc::_exit(i32::from(code)) }
}

/// Lets the allocator of a process keep what it is given back: every pass needs the same memory again, and pages that the system has to
/// clear anew cost a third of a short pass. To be called before threads are started.
pub fn keep_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: sets two numbers of the C library's allocator; where it refuses, it goes on as before.
    unsafe {
        // The largest that it takes.
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
    }
}
