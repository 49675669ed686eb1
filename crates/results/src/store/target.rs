//! Output paths: refused before any work, or published at the end.

use crate::error::{Error, IN_USE, Result};
use crate::lock::{self, Lock};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What happens to an existing file under the output's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overwrite {
    /// It is kept, and the request is refused.
    #[default]
    No,
    /// It is replaced once the new file is complete.
    Yes,
}

/// What the name of an unfinished result ends with.
pub(super) const UNFINISHED: &str = ".partial";

/// The name of an output until it is complete, in the same folder.
pub(super) fn until_complete(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

/// Checks that `path` may be written: it does not exist (or may be replaced), and its folder exists. For work that comes long before the
/// file is begun.
///
/// # Errors
/// A wrong request if it may not.
pub fn ensure_free(path: &Path, overwrite: Overwrite) -> Result<()> {
    let shown = path.display().to_string();
    if path.file_name().is_none() {
        return Err(Error::request(shown, "the name of a file to write", "no file name"));
    }
    // A path forgets that it ended so, and the system does not.
    let end = path.as_os_str().as_bytes();
    if end.ends_with(b"/") || end.ends_with(b"/.") {
        return Err(Error::request(shown, "the name of a file to write", "the name of a folder"));
    }
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
        Err(e) if e.kind() == ErrorKind::NotFound => {
            if overwrite == Overwrite::No && fs::symlink_metadata(path).is_ok() {
                return Err(Error::request(shown, "no such file yet (--force replaces it)", "a link to nothing"));
            }
        }
        Err(e) => return Err(refused(path, e)),
    }
    let folder = folder(path);
    if !folder.is_dir() {
        let found = if folder.exists() { "a file" } else { "nothing there" };
        return Err(Error::request(shown, format!("an existing folder {}", folder.display()), found));
    }
    Ok(())
}

/// Checks that an output is none of the files that its run reads, under whatever names: it would take their place.
///
/// # Errors
/// A wrong request if it is.
pub fn ensure_apart<'a>(output: &Path, inputs: impl IntoIterator<Item = &'a Path>) -> Result<()> {
    let id = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    let Some(own) = id(output) else { return Ok(()) };
    match inputs.into_iter().find(|input| id(input) == Some(own)) {
        None => Ok(()),
        Some(input) => {
            let expected = "another file than those that are read";
            Err(Error::request(output.display().to_string(), expected, input.display().to_string()))
        }
    }
}

/// Removes the unfinished file of the result `path`, which nobody goes on with.
///
/// # Errors
/// A wrong request if another process writes it, or no file could be written there.
pub fn discard_unfinished(path: &Path) -> Result<()> {
    Target::new(path, Overwrite::Yes)?.discard();
    Ok(())
}

/// An output file and its name until it is complete, locked against other processes.
#[derive(Debug)]
pub(super) struct Target {
    /// The final name.
    pub path: PathBuf,
    /// `<path>.partial`, in the same folder; it exists, and may be empty.
    pub partial: PathBuf,
    pub overwrite: Overwrite,
    /// False where the file need not outlast the machine's next stop, so that the disk is never waited for.
    pub lasting: bool,
    /// The partial file, open for its lock.
    file: File,
    /// The lock against other processes.
    _lock: Lock,
}

impl Target {
    /// Checks that `path` may be written: it does not exist (or may be replaced), and its folder exists.
    pub fn new(path: &Path, overwrite: Overwrite) -> Result<Self> {
        Self::called(path, overwrite, UNFINISHED)
    }

    /// [`Target::new`], with the name `<path><suffix>` until it is complete.
    pub fn called(path: &Path, overwrite: Overwrite, suffix: &str) -> Result<Self> {
        ensure_free(path, overwrite)?;
        let partial = until_complete(path, suffix);
        if fs::symlink_metadata(&partial).is_ok_and(|found| !found.is_file()) {
            return Err(Error::request(partial.display().to_string(), "a file or nothing", "something else"));
        }
        // Opened now, so that a folder that accepts no new file is noticed before any computation.
        let (file, lock) = loop {
            let file = OpenOptions::new().write(true).create(true).truncate(false).open(&partial);
            let file = file.map_err(|e| refused(path, e))?;
            let lock = Lock::of(file.try_clone().map_err(|e| refused(path, e))?).map_err(|_| in_use(&partial))?;
            // Another process may have published or removed it between the two.
            if lock::is_at(&file, &partial) {
                break (file, lock);
            }
        };
        refuse_readers(&file, &partial)?;
        let target = Self { path: path.to_owned(), partial, overwrite, lasting: true, file, _lock: lock };
        ensure_free(path, overwrite)?;
        Ok(target)
    }

    /// True if an earlier run left something.
    pub fn is_begun(&self) -> bool {
        self.file.metadata().is_ok_and(|m| m.len() > 0)
    }

    /// Renames a partial file that cannot be read, and returns its new name: a user may still recover data from it.
    pub fn put_aside(self) -> Result<(Self, String)> {
        let (path, overwrite) = (self.path.clone(), self.overwrite);
        let named = |n: usize| {
            let mut name = self.partial.clone().into_os_string();
            name.push(if n == 1 { ".damaged".to_owned() } else { format!(".damaged.{n}") });
            PathBuf::from(name)
        };
        let aside = (1..).map(named).find(|name| !name.exists()).unwrap_or_else(|| named(1));
        fs::rename(&self.partial, &aside).map_err(|e| Error::io(&aside, e))?;
        drop(self);
        let why = format!("it is damaged, and kept as {}", aside.display());
        Ok((Self::new(&path, overwrite)?, why))
    }

    /// Removes a partial file without useful contents.
    pub fn discard(&self) {
        let _ = fs::remove_file(&self.partial);
    }

    /// Makes the disk store the partial file's contents, if they are to last.
    pub fn sync(&self) -> Result<()> {
        if !self.lasting {
            return Ok(());
        }
        self.file.sync_data().map_err(|e| Error::io(&self.partial, e))
    }

    /// Gives the finished file its final name in one step.
    pub fn publish(self) -> Result<()> {
        self.sync()?;
        match self.overwrite {
            Overwrite::Yes => fs::rename(&self.partial, &self.path).map_err(|e| Error::io(&self.path, e))?,
            // A link, unlike a rename, fails if a file has appeared meanwhile.
            Overwrite::No => match fs::hard_link(&self.partial, &self.path) {
                Ok(()) => fs::remove_file(&self.partial).map_err(|e| Error::io(&self.partial, e))?,
                Err(e) if e.kind() == ErrorKind::AlreadyExists => return Err(taken(&self.path)),
                // Some file systems have no hard links.
                Err(_) if self.path.exists() => return Err(taken(&self.path)),
                Err(_) => fs::rename(&self.partial, &self.path).map_err(|e| Error::io(&self.path, e))?,
            },
        }
        if self.lasting {
            sync_name(&self.path);
        }
        Ok(())
    }
}

/// Makes the disk store the name of a file: it must also survive a power failure. Not every file system can sync a folder.
pub(crate) fn sync_name(path: &Path) {
    if let Ok(folder) = File::open(folder(path)) {
        let _ = folder.sync_all();
    }
}

/// Other programs that have the file open through HDF5 hold HDF5's own lock on it. If HDF5 takes locks in this process too, it notices them
/// itself, and our lock would conflict with its own.
fn refuse_readers(file: &File, path: &Path) -> Result<()> {
    let told = std::env::var("HDF5_USE_FILE_LOCKING").is_ok_and(|v| !matches!(v.as_str(), "FALSE" | "0"));
    match file.try_lock() {
        Err(TryLockError::WouldBlock) if !told => Err(in_use(path)),
        Ok(()) if told => file.unlock().map_err(|e| Error::io(path, e)),
        // Some file systems have no locks; there the user must prevent conflicts.
        _ => Ok(()),
    }
}

/// The error of a file that another process is writing.
pub(super) fn in_use(path: &Path) -> Error {
    Error::request(path.display().to_string(), "a file that no other process uses", IN_USE)
}

impl Drop for Target {
    /// A partial file to which nothing was written is removed.
    fn drop(&mut self) {
        if !self.is_begun() {
            self.discard();
        }
        // Closing is not enough: a process that is being started shares the lock until it has closed its copy.
        let _ = self.file.unlock();
    }
}

/// The folder of `path`, `.` for a bare name.
pub(crate) fn folder(path: &Path) -> PathBuf {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn taken(path: &Path) -> Error {
    Error::request(path.display().to_string(), "no such file yet (--force replaces it)", "a file")
}

/// The error for a path that the system refuses to write: the request's fault, unless the disk is full.
fn refused(path: &Path, error: io::Error) -> Error {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Error::io(path, error),
        _ => Error::request(path.display().to_string(), "a file that can be written", error.to_string()),
    }
}
