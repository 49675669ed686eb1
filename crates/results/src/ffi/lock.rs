//! Locks on open files that hold between processes (Linux's open file description locks).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Locks the whole of `file` for this open description; returns `false` if another description has the lock.
///
/// These locks are independent of `flock`'s, which HDF5 takes if its environment asks for it.
///
/// # Errors
/// The system's error, for example if the file system has no locks.
pub fn try_lock(file: &File) -> io::Result<bool> {
    set(file, libc::F_WRLCK)
}

/// Releases the lock, also for a child process that is being started and has a copy of the description.
///
/// # Errors
/// The system's error.
pub fn unlock(file: &File) -> io::Result<()> {
    set(file, libc::F_UNLCK).map(drop)
}

fn set(file: &File, kind: libc::c_int) -> io::Result<bool> {
    // SAFETY: flock is a plain struct of integers, for which zeros are valid: from the beginning to the end, no process named.
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
