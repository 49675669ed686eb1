//! The process: its memory, the libraries that it loads, its end.

use std::sync::{Mutex, PoisonError};

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

/// Lets the process open `more` files than a process usually does, as far as the system allows it: shells often allow 1024 where a process may
/// ask for many times that.
pub fn allow_files(more: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls read or write the structure that they are given, and nothing else. Where they fail, the limit stays.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            let wanted = (more as libc::rlim_t).saturating_add(USUAL).min(limit.rlim_max);
            if wanted > limit.rlim_cur {
                limit.rlim_cur = wanted;
                libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
            }
        }
    }
}

/// Files that are open beside those that a caller counts: the libraries, data, results, and a few for each thread.
const USUAL: libc::rlim_t = 512;

/// Makes the process's allocator keep the memory that is freed: every pass needs the same memory again, and pages that the system must
/// clear again cost a third of a short pass.
pub fn keep_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: sets numbers of the C library's allocator; if it refuses one, it works as before.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED);
        libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
        // Threads but the first have memory in pieces of this size, and keep a free piece only if as much is to be in reserve.
        libc::mallopt(libc::M_TOP_PAD, 2 * MAPPED);
    }
}

/// The size from which the allocator asks the system for each piece of memory by itself: the largest that it accepts, and what it comes to
/// by itself where such a piece is freed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED: libc::c_int = 32 << 20;

/// What may be left free in a process of somebody else's, in bytes. The next call needs it again.
const LEFT: u64 = 256 << 20;

/// How many [`MemoryKept`] there are, and the process's resident bytes before the first.
static KEEPERS: Mutex<(usize, u64)> = Mutex::new((0, 0));

/// [`keep_memory`] in a process of somebody else's, until the last of these is dropped. The allocator is then what it would be had it never
/// been told, and gives back what is free, unless that is little.
#[derive(Debug)]
pub struct MemoryKept(());

impl MemoryKept {
    /// From now on.
    pub fn begin() -> Self {
        let mut keepers = KEEPERS.lock().unwrap_or_else(PoisonError::into_inner);
        if keepers.0 == 0 {
            keepers.1 = crate::memory::resident().unwrap_or(0);
            keep_memory();
        }
        keepers.0 += 1;
        Self(())
    }
}

impl Drop for MemoryKept {
    fn drop(&mut self) {
        let mut keepers = KEEPERS.lock().unwrap_or_else(PoisonError::into_inner);
        keepers.0 -= 1;
        if keepers.0 > 0 {
            return;
        }
        let more = crate::memory::resident().unwrap_or(u64::MAX).saturating_sub(keepers.1);
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        // SAFETY: sets numbers of the C library's allocator, to which it comes by itself, and has it give back what is free.
        unsafe {
            libc::mallopt(libc::M_TRIM_THRESHOLD, 2 * MAPPED);
            libc::mallopt(libc::M_TOP_PAD, 128 << 10);
            if more > LEFT {
                libc::malloc_trim(0);
            }
        }
    }
}
