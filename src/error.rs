//! What can go wrong, with what was expected and what was found, and the exit code that follows.

use crate::wording;
use pullback_results::error as results;
use pullback_results::error::{first_line, is_of_the_request};
use std::path::{Path, PathBuf};

/// The error of [`crate::store`], [`crate::report`] and [`crate::lock`]; `?` makes it an [`Error`] of the same cause and text.
pub use pullback_results::Error as ResultsError;
pub(crate) use pullback_results::error::one_of;

/// An error of the engine. Its display is one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request was wrong: usage, configuration, or a file that is not what it should be.
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
    /// A libtorch operation failed; only the first line of its message is shown.
    #[error("libtorch: {}", first_line(&.0.to_string()))]
    Torch(#[from] tch::TchError),
    /// The HDF5 library failed on a file that had been opened properly.
    #[error("{}: HDF5: {}", path.display(), first_line(&source.to_string()))]
    Hdf5 {
        /// The file.
        path: PathBuf,
        /// The library's reason.
        source: hdf5::Error,
    },
    /// A native routine of this crate (`kernels/`), or libtorch within it, failed.
    #[error("{routine}: {}", first_line(message))]
    Native {
        /// The routine's name.
        routine: &'static str,
        /// Its message.
        message: String,
    },
    /// Numbers are invalid: a loss that is not a number, eigenvalues that did not converge, a result beyond its budget.
    #[error("{part}: {message}")]
    Numeric {
        /// What computed them.
        part: &'static str,
        /// What is wrong with them.
        message: String,
    },
    /// A part of this crate did not do its work: a thread did not start or ended early, a setting cannot be written as YAML, or lists do
    /// not fit each other.
    #[error("{part}: {message}")]
    Internal {
        /// The part.
        part: &'static str,
        /// What happened.
        message: String,
    },
    /// The user asked to stop; what was done so far is kept.
    #[error("interrupted; what was finished is kept")]
    Interrupted,
}

/// The kind of an error, by which a program can decide what to do ([`Error::kind`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::Display, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request was wrong: another setting, file or model is needed. An error that a model raises also counts.
    Request,
    /// Reading or writing failed; the same request may succeed later.
    Io,
    /// Memory ran out, on the host or on a device: a smaller batch may fit.
    OutOfMemory,
    /// An operation of libtorch failed.
    Libtorch,
    /// A native routine of this crate failed.
    Native,
    /// Numbers are invalid.
    Numeric,
    /// A part of this crate did not do its work.
    Internal,
    /// The user asked to stop.
    Interrupted,
}

/// Result with the engine's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A wrong request: `subject` names the file, key or value.
    pub fn request(subject: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Request { subject: subject.into(), expected: expected.into(), found: found.into() }
    }

    /// An I/O failure on `path`. It is a wrong request if the user named the path wrongly (a missing file, a folder in place of a file, no
    /// permission), otherwise an I/O error.
    pub fn io(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        results::Error::io(path, source).into()
    }

    /// The text of a file.
    ///
    /// # Errors
    /// A wrong request if it is not UTF-8; otherwise as [`Error::io`].
    pub fn read_text(path: &Path) -> Result<String> {
        Ok(results::Error::read_text(path)?)
    }

    /// An HDF5 failure on `path`.
    pub fn hdf5(path: impl AsRef<Path>, source: hdf5::Error) -> Self {
        Self::Hdf5 { path: path.as_ref().to_owned(), source }
    }

    /// Invalid numbers from `part`.
    pub(crate) fn numeric(part: &'static str, message: impl Into<String>) -> Self {
        Self::Numeric { part, message: message.into() }
    }

    /// `part` of this crate that did not do its work.
    pub(crate) fn internal(part: &'static str, message: impl Into<String>) -> Self {
        Self::Internal { part, message: message.into() }
    }

    /// A value that cannot be written as YAML.
    pub(crate) fn yaml(error: serde_yaml::Error) -> Self {
        Self::internal("config", error.to_string())
    }

    /// The kind of this error. Memory that ran out has one kind, whichever library reports it.
    pub fn kind(&self) -> ErrorKind {
        if self.is_out_of_memory() {
            return ErrorKind::OutOfMemory;
        }
        match self {
            Self::Request { .. } => ErrorKind::Request,
            Self::Io { .. } | Self::Hdf5 { .. } => ErrorKind::Io,
            Self::Torch(_) => ErrorKind::Libtorch,
            Self::Native { .. } => ErrorKind::Native,
            Self::Numeric { .. } => ErrorKind::Numeric,
            Self::Internal { .. } => ErrorKind::Internal,
            Self::Interrupted => ErrorKind::Interrupted,
        }
    }

    /// True if memory ran out: the messages of libtorch, on the CPU and on CUDA, and of its libraries for a failed allocation.
    pub fn is_out_of_memory(&self) -> bool {
        // Of a failure within TorchScript the first line, which is shown, says only that something failed.
        match self {
            Self::Native { message, .. } => wording::OUT_OF_MEMORY.is_in(message),
            Self::Torch(error) => wording::OUT_OF_MEMORY.is_in(&error.to_string()),
            other => wording::OUT_OF_MEMORY.is_in(&other.to_string()),
        }
    }

    /// True if one way of computing something was refused or gave wrong numbers, so that another way may succeed.
    pub fn is_of_the_way(&self) -> bool {
        matches!(self, Self::Native { .. } | Self::Torch(_) | Self::Numeric { .. }) && !self.is_out_of_memory()
    }

    /// True if a native routine met an operation without a second derivative.
    pub(crate) fn is_once_differentiable(&self) -> bool {
        matches!(self, Self::Native { message, .. } if wording::ONCE_DIFFERENTIABLE.is_in(message))
    }

    /// The same error with `place`, one of many, if the message does not name it.
    pub(crate) fn at(self, place: &str) -> Self {
        let told = |message: String| format!("{place}: {message}");
        match self {
            Self::Native { routine, message } => Self::Native { routine, message: told(message) },
            Self::Numeric { part, message } => Self::Numeric { part, message: told(message) },
            Self::Internal { part, message } => Self::Internal { part, message: told(message) },
            other => other,
        }
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

/// An error about results, by its cause.
impl From<results::Error> for Error {
    fn from(error: results::Error) -> Self {
        match error {
            results::Error::Request { subject, expected, found } => Self::Request { subject, expected, found },
            results::Error::Io { path, source } => Self::Io { path, source },
            results::Error::Hdf5 { path, source } => Self::Hdf5 { path, source },
            results::Error::Internal { part, message } => Self::Internal { part, message },
        }
    }
}

/// Checks a tensor's shape and names the tensor if the shape is wrong.
///
/// `expected` may hold `-1` for a free axis.
pub fn ensure_shape(name: &str, tensor: &tch::Tensor, expected: &[i64]) -> Result<()> {
    let found = tensor.size();
    let fits = found.len() == expected.len() && found.iter().zip(expected).all(|(f, e)| *e < 0 || f == e);
    if fits {
        Ok(())
    } else {
        Err(Error::request(format!("shape of {name}"), format!("{expected:?}"), format!("{found:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_ran_out_is_told_from_other_failures() {
        let native = |message: &str| Error::Native { routine: "vjp", message: message.to_owned() };
        for message in [
            "CUDA out of memory. Tried to allocate 20.00 GiB.",
            "GET was unable to find an engine to execute this computation",
            "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
            "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
            "DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.",
            "The following operation failed in the TorchScript interpreter.\nTraceback:\nRuntimeError: CUDA out of memory.",
        ] {
            let error = native(&format!("{message}\nException raised from somewhere"));
            assert!(error.is_out_of_memory() && !error.is_of_the_way(), "{message}");
        }
        let error = native("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`");
        assert!(!error.is_out_of_memory() && error.is_of_the_way());
    }
    #[test]
    fn an_error_of_results_keeps_its_words_and_its_exit_code() {
        use std::io::ErrorKind as K;
        let io = |kind: K| results::Error::io("a/b.h5", kind.into());
        let same = || {
            [
                results::Error::request("eps", "one", "none"),
                results::Error::hdf5("a.h5", "no such thing\nstack".into()),
                results::Error::Internal { part: "PNG encoder", message: "no".to_owned() },
                io(K::NotFound),
                io(K::PermissionDenied),
                io(K::StorageFull),
            ]
        };
        for (theirs, ours) in same().into_iter().zip(same().map(Error::from)) {
            assert_eq!((theirs.to_string(), theirs.exit_code()), (ours.to_string(), ours.exit_code()));
        }
    }
}
