//! Locks on open files that hold between processes (Linux's open file description locks).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Locks the whole of `file` for this open description, or not: `false` where another has it.
///
/// They do not meet the locks of `flock`, which HDF5 takes where its environment asks for it.
///
/// # Errors
/// The system's, where the file's file system has no locks among others.
pub fn try_lock(file: &File) -> io::Result<bool> {
    set(file, libc::F_WRLCK)
}

/// Lets go of the lock, also for a child process that is just being started and has a copy of the description.
///
/// # Errors
/// The system's.
pub fn unlock(file: &File) -> io::Result<()> {
    set(file, libc::F_UNLCK).map(drop)
}

fn set(file: &File, kind: libc::c_int) -> io::Result<bool> {
    // SAFETY: flock is a plain struct of integers, for which zeros are a value: from the beginning to the end, no process named.
    let mut asked: libc::flock = unsafe { std::mem::zeroed() };
    asked.l_type = kind as libc::c_short;
    asked.l_whence = libc::SEEK_SET as libc::c_short;
    // SAFETY: the descriptor is open as long as `file` lives, and `asked` outlives the call, which only reads it.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &asked) } == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EACCES) => Ok(false),
        _ => Err(error),
    }
}
