//! Errors of the engine as Python's, and errors of Python on their way through the engine.

use pullback::{Error as EngineError, ErrorKind};
use pyo3::exceptions::{
    PyFileExistsError, PyFileNotFoundError, PyKeyboardInterrupt, PyMemoryError, PyOSError, PyRuntimeError, PyValueError,
};
use pyo3::prelude::*;
use std::sync::{Arc, Mutex, PoisonError};

pyo3::create_exception!(
    pullback,
    Error,
    PyRuntimeError,
    "What went wrong and is neither the caller's request (ValueError) nor files (OSError)."
);

/// The last exception that a model or data set in Python raised: the cause of what the engine then says.
#[derive(Clone, Default)]
pub struct Failure(Arc<Mutex<Option<PyErr>>>);

impl Failure {
    /// Keeps it.
    pub fn keep(&self, error: PyErr) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    fn take(&self) -> Option<PyErr> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The exception to raise for an error of the engine.
    ///
    /// What the package itself raised (its class says so) is raised as it is; what a model raised is the cause of the engine's words.
    pub fn raise(&self, py: Python<'_>, error: &anyhow::Error) -> PyErr {
        let cause = self.take();
        if let Some(own) = cause.as_ref().filter(|e| is_own(py, e)) {
            return own.clone_ref(py);
        }
        let raised = of_engine(error);
        // Only what the message tells of: an earlier exception may have been dealt with.
        if let Some(cause) = cause.filter(|cause| error.to_string().contains(&told(py, cause))) {
            raised.set_cause(py, Some(cause));
        }
        raised
    }
}

/// Forgets what a backward pass in Python's code has raised, such as a compiled one under vmap: libtorch leaves it set on the thread, where
/// the next call would meet it, and the engine goes another way.
pub fn forget() {
    Python::with_gil(|py| drop(PyErr::take(py)));
}

fn is_own(py: Python<'_>, error: &PyErr) -> bool {
    error.value(py).getattr("_of_pullback").is_ok_and(|own| own.is_truthy().unwrap_or(false))
}

/// `RuntimeError: mat1 and mat2 shapes cannot be multiplied`: an exception on one line.
pub fn told(py: Python<'_>, error: &PyErr) -> String {
    let kind = error.get_type(py).name().map_or_else(|_| "an exception".to_owned(), |name| name.to_string());
    let text = error.value(py).to_string();
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    if line.is_empty() { kind } else { format!("{kind}: {line}") }
}

/// The exception that an error of the engine is, with the command line's words.
pub fn of_engine(error: &anyhow::Error) -> PyErr {
    let line = pullback::cli::one_line(error);
    let engine = error.chain().find_map(|cause| cause.downcast_ref::<EngineError>());
    let results = error.chain().find_map(|cause| cause.downcast_ref::<pullback::error::ResultsError>());
    let request = |expected: &str, found: &str| match found {
        "nothing there" | "no such file or folder" => PyFileNotFoundError::new_err(line.clone()),
        // Everything that may not be overwritten says by which flag it may.
        _ if expected.contains("--force") => PyFileExistsError::new_err(line.clone()),
        _ => PyValueError::new_err(line.clone()),
    };
    match (engine, results) {
        (Some(EngineError::Request { expected, found, .. }), _) => request(expected, found),
        (_, Some(pullback::error::ResultsError::Request { expected, found, .. })) => request(expected, found),
        (Some(engine), _) => match engine.kind() {
            ErrorKind::Request => PyValueError::new_err(line),
            ErrorKind::Io => PyOSError::new_err(line),
            ErrorKind::OutOfMemory => PyMemoryError::new_err(line),
            ErrorKind::Interrupted => PyKeyboardInterrupt::new_err(line),
            _ => Error::new_err(line),
        },
        (_, Some(pullback::error::ResultsError::Internal { .. })) => Error::new_err(line),
        (_, Some(_)) => PyOSError::new_err(line),
        // What is of neither is clap's: the options were wrong.
        _ => PyValueError::new_err(line),
    }
}
