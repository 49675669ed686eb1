//! Output paths: refused before any work, published at the end.

use crate::error::{Error, Result};
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// What becomes of a file that exists under the output's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overwrite {
    /// It stays, and the request is refused.
    #[default]
    No,
    /// It is replaced once the new file is complete.
    Yes,
}

/// An output file and the name it has until it is complete.
#[derive(Debug)]
pub(super) struct Target {
    /// The final name.
    pub path: PathBuf,
    /// `<path>.partial`, in the same folder.
    pub partial: PathBuf,
    overwrite: Overwrite,
}

impl Target {
    /// Checks that `path` may be written: nothing there (or it may go), in a folder that exists.
    pub fn new(path: &Path, overwrite: Overwrite) -> Result<Self> {
        let shown = path.display().to_string();
        let Some(name) = path.file_name() else {
            return Err(Error::request(shown, "the name of a file to write", "no file name"));
        };
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => {
                return Err(Error::request(shown, "the name of a file to write", "a folder"));
            }
            // A rename would replace a device such as /dev/null for the whole system.
            Ok(found) if !found.is_file() => {
                return Err(Error::request(shown, "the name of a file to write", "a special file"));
            }
            Ok(_) if overwrite == Overwrite::No => return Err(taken(path)),
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(refused(path, e)),
        }
        let folder = folder(path);
        if !folder.is_dir() {
            let found = if folder.exists() { "a file" } else { "nothing there" };
            return Err(Error::request(shown, format!("an existing folder {}", folder.display()), found));
        }
        let mut partial = name.to_owned();
        partial.push(".partial");
        let partial = path.with_file_name(partial);
        match fs::symlink_metadata(&partial) {
            Ok(found) if !found.is_file() => {
                Err(Error::request(partial.display().to_string(), "a file or nothing", "something else"))
            }
            Ok(_) => Ok(Self { path: path.to_owned(), partial, overwrite }),
            Err(_) => {
                let target = Self { path: path.to_owned(), partial, overwrite };
                target.probe().map(|()| target)
            }
        }
    }

    /// Finds out whether the folder takes a new file, while nothing has been computed yet.
    fn probe(&self) -> Result<()> {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&self.partial)
            .and_then(|_| fs::remove_file(&self.partial))
            .map_err(|e| refused(&self.path, e))
    }

    /// Removes what an earlier run left.
    pub fn clear(&self) -> Result<()> {
        match fs::remove_file(&self.partial) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(refused(&self.partial, e)),
            _ => Ok(()),
        }
    }

    /// Puts the partial file's contents on the disk.
    pub fn sync(&self) -> Result<()> {
        OpenOptions::new()
            .write(true)
            .open(&self.partial)
            .and_then(|f| f.sync_data())
            .map_err(|e| Error::io(&self.partial, e))
    }

    /// Gives the finished file its final name in one step.
    pub fn publish(self) -> Result<()> {
        self.sync()?;
        match self.overwrite {
            Overwrite::Yes => fs::rename(&self.partial, &self.path).map_err(|e| Error::io(&self.path, e))?,
            // A link, unlike a rename, fails where a file has appeared meanwhile.
            Overwrite::No => match fs::hard_link(&self.partial, &self.path) {
                Ok(()) => fs::remove_file(&self.partial).map_err(|e| Error::io(&self.partial, e))?,
                Err(e) if e.kind() == ErrorKind::AlreadyExists => return Err(taken(&self.path)),
                // Some file systems have no hard links.
                Err(_) if self.path.exists() => return Err(taken(&self.path)),
                Err(_) => fs::rename(&self.partial, &self.path).map_err(|e| Error::io(&self.path, e))?,
            },
        }
        // The name itself must survive a power failure too; not every file system lets a folder be synced.
        if let Ok(folder) = fs::File::open(folder(&self.path)) {
            let _ = folder.sync_all();
        }
        Ok(())
    }
}

/// The folder of `path`, `.` for a bare name.
fn folder(path: &Path) -> PathBuf {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn taken(path: &Path) -> Error {
    Error::request(path.display().to_string(), "no such file yet (--force replaces it)", "a file")
}

/// A path that the system will not have written: the request's fault, unless the disk is full.
fn refused(path: &Path, error: io::Error) -> Error {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Error::io(path, error),
        _ => Error::request(path.display().to_string(), "a file that can be written", error.to_string()),
    }
}
