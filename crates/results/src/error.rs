//! What can go wrong with results, with what was expected and what was found, and the exit code that follows.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// An error about files or their contents. Its display is one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request was wrong: usage, or a file that is not what it should be.
    #[error("{subject}: expected {expected}, found {found}")]
    Request {
        /// The file, key or value in question.
        subject: String,
        /// What would have been right.
        expected: String,
        /// What was found instead.
        found: String,
    },
    /// Reading or writing failed during the work.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The HDF5 library failed on a file that had been opened properly.
    #[error("{}: HDF5: {}", path.display(), first_line(&source.to_string()))]
    Hdf5 {
        /// The file.
        path: PathBuf,
        /// The library's reason.
        source: hdf5::Error,
    },
    /// A part of this crate did not do its work.
    #[error("{part}: {message}")]
    Internal {
        /// The part.
        part: &'static str,
        /// What happened.
        message: String,
    },
}

/// What is found where another process writes the file; the beginning of what is found where one works in the folder.
pub(crate) const IN_USE: &str = "one in use";

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A wrong request: `subject` names the file, key or value.
    pub fn request(subject: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Request { subject: subject.into(), expected: expected.into(), found: found.into() }
    }

    /// An I/O failure on `path`. It is a wrong request if the user named the path wrongly (a missing file, a folder in place of a file, no
    /// permission), otherwise an I/O error.
    pub fn io(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        let path = path.as_ref().to_owned();
        match source.kind() {
            ErrorKind::NotFound => {
                Self::request(path.display().to_string(), "a file or folder that exists", "nothing there")
            }
            _ => Self::Io { path, source },
        }
    }

    /// The text of a file.
    ///
    /// # Errors
    /// A wrong request if it is not UTF-8; otherwise as [`Error::io`].
    pub fn read_text(path: &Path) -> Result<String> {
        std::fs::read_to_string(path).map_err(|error| match error.kind() {
            ErrorKind::InvalidData => {
                Self::request(path.display().to_string(), "text in UTF-8", "bytes that are none (damaged?)")
            }
            _ => Self::io(path, error),
        })
    }

    /// An HDF5 failure on `path`.
    pub fn hdf5(path: impl AsRef<Path>, source: hdf5::Error) -> Self {
        Self::Hdf5 { path: path.as_ref().to_owned(), source }
    }

    /// `part` of this crate that did not do its work.
    pub(crate) fn internal(part: &'static str, message: impl Into<String>) -> Self {
        Self::Internal { part, message: message.into() }
    }

    /// True if another process writes the file, or works in the folder.
    pub fn is_in_use(&self) -> bool {
        matches!(self, Self::Request { found, .. } if found.starts_with(IN_USE))
    }

    /// The process exit code: 2 if the request was wrong, 1 for any other error.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Request { .. } => 2,
            Self::Io { source, .. } if is_of_the_request(source) => 2,
            _ => 1,
        }
    }
}

/// True if the system refuses the path that the user named, so that a second try cannot succeed.
pub fn is_of_the_request(source: &std::io::Error) -> bool {
    use ErrorKind as K;
    matches!(source.kind(), K::PermissionDenied | K::NotADirectory | K::IsADirectory | K::ReadOnlyFilesystem)
}

/// `a, b or c`: the possible values of a choice.
pub fn one_of(names: impl IntoIterator<Item = &'static str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    match names.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => names.concat(),
    }
}

/// The first line of a message: libraries append stack traces.
pub fn first_line(message: &str) -> &str {
    message.lines().next().unwrap_or_default().trim_end()
}
