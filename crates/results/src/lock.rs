//! Files that two processes must not write at the same time: result files and run folders.
//!
//! The locks are the system's. HDF5's settings (`HDF5_USE_FILE_LOCKING`) do not affect them, and they are released when a process ends, in
//! whatever way.

use crate::error::{Error, IN_USE, Result};
use crate::ffi;
use std::fs::{self, DirEntry, File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file that is locked against other processes while this value lives.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = ffi::lock::unlock(&self.file);
    }
}

/// Another process has the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InUse;

impl Lock {
    /// Locks an open file. If the file system has no locks, the user must prevent conflicts.
    pub fn of(file: File) -> std::result::Result<Self, InUse> {
        match ffi::lock::try_lock(&file) {
            Ok(false) => Err(InUse),
            Ok(true) | Err(_) => Ok(Self { file }),
        }
    }
}

/// True if `path` is the name of the open file, and not of another that took its place.
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    let id = |meta: fs::Metadata| (meta.dev(), meta.ino());
    matches!((file.metadata().map(id), fs::metadata(path).map(id)), (Ok(ours), Ok(named)) if ours == named)
}

/// True if files in `folder` can be locked against processes on every machine that sees it: not where the file system has no locks, and not
/// where it is mounted from a server with locks that hold on one machine only.
pub fn is_shared(folder: &Path) -> bool {
    let locked = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(folder);
    let works = locked.is_ok_and(|file| ffi::lock::try_lock(file.as_file()).is_ok_and(|locked| locked));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let whole = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    works && !is_local_only(&mounts, &whole)
}

/// Options of mounts (NFS, Lustre) that say so.
const LOCAL_ONLY: [&str; 4] = ["nolock", "local_lock=all", "local_lock=posix", "localflock"];

/// True if the mount that holds `folder`, by the lines of /proc/self/mountinfo, has locks that hold on this machine only.
fn is_local_only(mounts: &str, folder: &Path) -> bool {
    // Fields: the fifth is the mount point; the options of the file system are the last. A later mount covers an earlier one.
    let of = |line: &str| -> Option<(usize, bool)> {
        let point = line.split(' ').nth(4)?.replace("\\040", " ");
        let options = line.rsplit(' ').next()?;
        let holds = folder.starts_with(&point);
        holds.then(|| (Path::new(&point).components().count(), options.split(',').any(|o| LOCAL_ONLY.contains(&o))))
    };
    mounts.lines().filter_map(of).max_by_key(|(depth, _)| *depth).is_some_and(|(_, local)| local)
}

/// The file in a run folder that shows that a process works there.
const NAME: &str = ".lock";

/// What the names of files begin with that get their own name when they are complete. A process that is killed leaves them.
pub const TEMPORARY: &str = ".pullback-";

/// True if `folder` contains nothing, or only the file that a [`FolderLock`] makes and what killed processes had not completed.
///
/// # Errors
/// If the folder cannot be read.
pub fn is_empty(folder: &Path) -> Result<bool> {
    let mut entries = fs::read_dir(folder).map_err(|e| Error::io(folder, e))?;
    Ok(entries.all(|entry| entry.is_ok_and(|e| e.file_name() == NAME || is_temporary(&e))))
}

fn is_temporary(entry: &DirEntry) -> bool {
    entry.file_name().to_string_lossy().starts_with(TEMPORARY)
}

/// Removes what killed processes had not completed; nobody else may be writing in `folder`.
fn tidy(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries.filter(is_temporary) {
        let _ = fs::remove_file(entry.path());
    }
}

/// A folder in which only this process works; its lock file is removed when the work ends.
#[derive(Debug)]
pub struct FolderLock {
    path: PathBuf,
    /// True if this value made the folder.
    made: bool,
    _lock: Lock,
}

impl FolderLock {
    /// Locks `folder`, and makes it if it does not exist.
    ///
    /// # Errors
    /// A wrong request if it is a file, or another process works in it; also if no file can be written there.
    pub fn of(folder: &Path) -> Result<Self> {
        if folder.exists() && !folder.is_dir() {
            return Err(Error::request(folder.display().to_string(), "a folder", "a file"));
        }
        let made = !folder.exists();
        fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        let lock = Self::named(folder, folder.join(NAME), made)?;
        tidy(folder);
        Ok(lock)
    }

    /// Locks one of several pieces of work in `folder`, which exists; the lock is the file `.NAME.lock`.
    ///
    /// # Errors
    /// A wrong request if another process has the work; also if no file can be written there.
    pub fn of_work(folder: &Path, name: &str) -> Result<Self> {
        Self::named(folder, folder.join(format!(".{name}{NAME}")), false)
    }

    fn named(folder: &Path, path: PathBuf, made: bool) -> Result<Self> {
        loop {
            let mut options = OpenOptions::new();
            let file = options.write(true).create(true).truncate(false).open(&path).map_err(|e| Error::io(&path, e))?;
            let named = file.try_clone().map_err(|e| Error::io(&path, e))?;
            let lock = Lock::of(file).map_err(|InUse| {
                let expected = "a folder in which no other process works";
                Error::request(folder.display().to_string(), expected, format!("{IN_USE} by another process"))
            })?;
            // Its former owner may have removed the name meanwhile, and another process may have made it again.
            if is_at(&named, &path) {
                return Ok(Self { path, made, _lock: lock });
            }
        }
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // This happens while the lock is still held.
        let _ = fs::remove_file(&self.path);
        if let (true, Some(folder)) = (self.made, self.path.parent()) {
            // The folder is removed only if it is empty, so that a refused request leaves nothing.
            let _ = fs::remove_dir(folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_tell_how_far_locks_reach() {
        let mounts = "\
22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
40 22 0:40 / /home rw - nfs4 server:/home rw,vers=4.2,local_lock=none,addr=10.0.0.1
41 22 0:41 / /old rw - nfs server:/old rw,vers=3,nolock,local_lock=all,addr=10.0.0.1
42 22 0:42 / /scratch rw - lustre mds:/scratch rw,flock
43 22 0:43 / /scratch/my\\040own rw - lustre mds:/own rw,localflock
";
        for (folder, local) in [
            ("/tmp", false),
            ("/home/me", false),
            ("/old/runs", true),
            ("/older", false),
            ("/scratch/x", false),
            ("/scratch/my own/x", true),
        ] {
            assert_eq!(is_local_only(mounts, Path::new(folder)), local, "{folder}");
        }
    }
}
