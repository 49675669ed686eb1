//! What two processes may not write at one time: result files and run folders.
//!
//! Locks are the system's, of the kind that HDF5's settings (`HDF5_USE_FILE_LOCKING`) do not concern and that a process that
//! ends, however it does, lets go of.

use crate::error::{Error, Result};
use crate::ffi;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file that is held against other processes as long as this value lives.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = ffi::lock::unlock(&self.file);
    }
}

/// Another process has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InUse;

impl Lock {
    /// Holds an open file. Where the file system has no locks, it is up to the user.
    pub fn of(file: File) -> std::result::Result<Self, InUse> {
        match ffi::lock::try_lock(&file) {
            Ok(false) => Err(InUse),
            Ok(true) | Err(_) => Ok(Self { file }),
        }
    }
}

/// The file in a run folder that says that a process works there.
const NAME: &str = ".lock";

/// True for the name of the file that a [`FolderLock`] makes, which is none of the folder's own.
pub fn is_lock(name: &std::ffi::OsStr) -> bool {
    name == NAME
}

/// A folder in which this process works alone; its lock file goes when the work ends.
#[derive(Debug)]
pub struct FolderLock {
    path: PathBuf,
    _lock: Lock,
}

impl FolderLock {
    /// Holds `folder`, which exists.
    ///
    /// # Errors
    /// A wrong request where another process works in it; where it takes no files.
    pub fn of(folder: &Path) -> Result<Self> {
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
            // Who had it may have removed the name meanwhile, and somebody else have made it anew.
            if let (Ok(ours), Ok(named)) = (ours, fs::metadata(&path).map(id))
                && ours == named
            {
                return Ok(Self { path, _lock: lock });
            }
        }
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // While it is still held.
        let _ = fs::remove_file(&self.path);
    }
}
