//! Files that two processes must not write at the same time: result files and run folders.
//!
//! The locks are the system's. HDF5's settings (`HDF5_USE_FILE_LOCKING`) do not affect them, and they are released when a process ends, in
//! whatever way.

use crate::error::{Error, Result};
use crate::ffi;
use std::fs::{self, File, OpenOptions};
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

/// The file in a run folder that shows that a process works there.
const NAME: &str = ".lock";

/// True if `folder` contains nothing, or only the file that a [`FolderLock`] makes.
///
/// # Errors
/// If the folder cannot be read.
pub fn is_empty(folder: &Path) -> Result<bool> {
    let mut entries = fs::read_dir(folder).map_err(|e| Error::io(folder, e))?;
    Ok(entries.all(|entry| entry.is_ok_and(|e| e.file_name() == NAME)))
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
        let path = folder.join(NAME);
        loop {
            let mut options = OpenOptions::new();
            let file = options.write(true).create(true).truncate(false).open(&path).map_err(|e| Error::io(&path, e))?;
            let id = |meta: fs::Metadata| (meta.dev(), meta.ino());
            let ours = file.metadata().map(id);
            let lock = Lock::of(file).map_err(|InUse| {
                let expected = "a folder in which no other process works";
                Error::request(folder.display().to_string(), expected, "one in use by another process")
            })?;
            // Its former owner may have removed the name meanwhile, and another process may have made it again.
            if let (Ok(ours), Ok(named)) = (ours, fs::metadata(&path).map(id))
                && ours == named
            {
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
