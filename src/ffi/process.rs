//! The end of the process.

/// Ends the process without destructors or exit handlers: those of libtorch and HDF5 may not run beside threads that still use
/// what they take down. Everything that should be written must have been.
pub fn exit_now(code: u8) -> ! {
    use std::io::Write;
    let _ = std::io::stdout().flush();
    // SAFETY: _exit takes a number and does not return.
    unsafe { libc::_exit(i32::from(code)) }
}
