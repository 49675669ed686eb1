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

/// True where `folder` holds nothing but the file that a [`FolderLock`] makes.
///
/// # Errors
/// Where the folder cannot be read.
pub fn is_empty(folder: &Path) -> Result<bool> {
    let mut entries = fs::read_dir(folder).map_err(|e| Error::io(folder, e))?;
    Ok(entries.all(|entry| entry.is_ok_and(|e| e.file_name() == NAME)))
}

/// A folder in which this process works alone; its lock file goes when the work ends.
#[derive(Debug)]
pub struct FolderLock {
    path: PathBuf,
    /// True where this made the folder.
    made: bool,
    _lock: Lock,
}

impl FolderLock {
    /// Holds `folder`, which it makes where there is none.
    ///
    /// # Errors
    /// A wrong request where that is a file, or another process works in it; where it takes no files.
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
            // Who had it may have removed the name meanwhile, and somebody else have made it anew.
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
        // While it is still held.
        let _ = fs::remove_file(&self.path);
        if let (true, Some(folder)) = (self.made, self.path.parent()) {
            // Only where it is empty: nothing is left of a request that was refused.
            let _ = fs::remove_dir(folder);
        }
    }
}
