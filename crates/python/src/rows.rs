//! Samples that Python holds: a tensor, an array, a data set.

use crate::failure::{Failure, told};
use crate::tensor::{forget_thread, of_python};
use pullback::Error;
use pullback::data::{Numbers, Rows};
use pullback::tch::Tensor;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// A `pullback._data.Rows`.
pub struct PythonRows {
    rows: PyObject,
    name: String,
    axes: Vec<usize>,
    numbers: Numbers,
    type_name: String,
    has_labels: bool,
    failure: Failure,
}

impl PythonRows {
    /// Asks `rows` once for what it is of; what it raises later is kept in `failure`.
    pub fn new(rows: &Bound<'_, PyAny>, failure: Failure) -> PyResult<Self> {
        let kind: String = rows.getattr("numbers")?.extract()?;
        let numbers = match kind.as_str() {
            "bool" => Numbers::Bool,
            "bytes" => Numbers::Bytes,
            "words" => Numbers::Words,
            "whole" => Numbers::Whole,
            "float" => Numbers::Float,
            other => return Err(PyValueError::new_err(format!("numbers: {other}"))),
        };
        Ok(Self {
            name: rows.getattr("name")?.extract()?,
            axes: rows.getattr("axes")?.extract()?,
            numbers,
            type_name: rows.getattr("type_name")?.extract()?,
            has_labels: rows.getattr("has_labels")?.extract()?,
            rows: rows.clone().unbind(),
            failure,
        })
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Rows for PythonRows {
    fn axes(&self) -> Vec<usize> {
        self.axes.clone()
    }
    fn numbers(&self) -> Numbers {
        self.numbers
    }
    fn type_name(&self) -> String {
        self.type_name.clone()
    }
    fn has_labels(&self) -> bool {
        self.has_labels
    }
    fn read(&self, index: &[u64]) -> pullback::Result<(Tensor, Option<Vec<i64>>)> {
        Python::with_gil(|py| {
            let read = || -> PyResult<_> {
                let answer = self.rows.bind(py).call_method1("read", (index.to_vec(),))?;
                let (values, labels): (Bound<'_, PyAny>, Option<Vec<i64>>) = answer.extract()?;
                Ok((of_python(&values)?, labels))
            };
            let answer = read().map_err(|error| {
                let text = told(py, &error);
                self.failure.keep(error);
                Error::request(&self.name, "samples that can be read", text)
            });
            forget_thread(py);
            answer
        })
    }
}
