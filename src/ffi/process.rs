//! The end of the process.

/// Ends the process without destructors or exit handlers, because those of libtorch and HDF5 may free what other threads still use.
/// Everything that should be written must be written before.
pub fn exit_now(code: u8) -> ! {
    use std::io::Write;
    let _ = std::io::stdout().flush();
    // SAFETY: _exit takes a number and does not return.
    unsafe { libc::_exit(i32::from(code)) }
}

/// Keeps HDF5 from loading shared libraries as filters of the files that it opens, unless the user has said where they are
/// (HDF5_PLUGIN_PATH). Its default places are folders of the machine that built it, which on another machine may be anybody's. Call it before
/// threads are started and before HDF5 is used.
pub fn load_no_plugins() {
    if std::env::var_os("HDF5_PLUGIN_PATH").is_none() {
        // SAFETY: no other thread reads or changes the environment yet. HDF5 reads the variable when it starts; `::` means none.
        unsafe { std::env::set_var("HDF5_PLUGIN_PRELOAD", "::") };
    }
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
