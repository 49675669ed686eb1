//! A model in Python as the engine asks it.

use crate::failure::{Failure, told};
use crate::job::Stop;
use crate::tensor::{of_python, to_python};
use pullback::model::Judge;
use pullback::tch::Tensor;
use pullback::{Error, Posterior, Vae};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::cell::Cell;

/// A `pullback.Model`'s reader: `encode(x)` gives mu and ln sigma^2 or None, [B, L] each; `decode(z)` gives images [B, ...].
///
/// Each pass calls Python once and holds the GIL for that call alone. It is not shared between threads: code that somebody else wrote
/// may keep state.
pub struct PythonVae {
    reader: PyObject,
    /// For messages.
    name: String,
    failure: Failure,
    stop: Stop,
    lone: Cell<bool>,
    /// Whether layers are watched; if not, Python is not asked for what they give.
    watched: bool,
}

impl PythonVae {
    /// The model behind `reader`; what it raises is kept in `failure`, and it is asked until `stop`.
    pub fn new(reader: PyObject, name: String, failure: Failure, stop: Stop) -> Self {
        Self { reader, name, failure, stop, lone: Cell::new(false), watched: false }
    }

    fn call<T>(
        &self,
        method: &'static str,
        input: &Tensor,
        read: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<T>,
    ) -> pullback::Result<T> {
        ask(&self.reader, &self.name, method, input, &self.failure, &self.stop, read)
    }
}

/// What a method of an object in Python says of a tensor. What it raises is kept in `failure`; `name` is the object's in messages.
fn ask<T>(
    object: &PyObject,
    name: &str,
    method: &'static str,
    input: &Tensor,
    failure: &Failure,
    stop: &Stop,
    read: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<T>,
) -> pullback::Result<T> {
    // Who waited has perhaps put the model back into training mode: nothing is asked, and no answer is taken, from then on.
    stop.ensure_wanted()?;
    let answer = Python::with_gil(|py| {
        let answer = to_python(py, input)
            .and_then(|input| object.bind(py).call_method1(method, (input,)))
            .and_then(|answer| read(&answer));
        answer.map_err(|error| {
            let text = told(py, &error);
            failure.keep(error);
            let native = Error::Native { routine: "the model", message: text.clone() };
            // Memory that ran out is told apart, so that a smaller batch may be tried.
            if native.is_out_of_memory() {
                return native;
            }
            let expected = format!("to take {:?} {:?}", input.kind(), input.size());
            Error::request(format!("{name}: {method}"), expected, text)
        })
    });
    stop.ensure_wanted().and(answer)
}

/// A `pullback._judge.Judge`. Like a model it is not shared between threads.
pub struct PythonJudge {
    judge: PyObject,
    failure: Failure,
    stop: Stop,
}

impl PythonJudge {
    /// The judge in Python; what it raises is kept in `failure`, and it is asked until `stop`.
    pub fn new(judge: PyObject, failure: Failure, stop: Stop) -> Self {
        Self { judge, failure, stop }
    }
}

impl Judge for PythonJudge {
    fn of(&self, output: &Tensor) -> pullback::Result<Tensor> {
        ask(&self.judge, "judge", "answer", output, &self.failure, &self.stop, of_python)
    }
}

impl Vae for PythonVae {
    fn encode(&self, x: &Tensor) -> pullback::Result<Posterior> {
        let (mean, log_var) = self.call("encode", x, |answer| {
            let pair = answer.downcast::<PyTuple>()?;
            let (mean, scale) = (pair.get_item(0)?, pair.get_item(1)?);
            let log_var = if scale.is_none() { None } else { Some(of_python(&scale)?) };
            Ok((of_python(&mean)?, log_var))
        })?;
        self.lone.set(log_var.is_none());
        let log_var = log_var.map_or_else(|| mean.f_zeros_like(), Ok)?;
        Ok(Posterior { mean, log_var })
    }

    fn decode(&self, z: &Tensor) -> pullback::Result<Tensor> {
        self.call("decode", z, of_python)
    }

    fn has_scale(&self) -> bool {
        !self.lone.get()
    }

    fn watch(&mut self, layers: &[String]) -> pullback::Result<()> {
        Python::with_gil(|py| {
            let watched = self.reader.call_method1(py, "watch", (layers.to_vec(),));
            watched.map(|_| ()).map_err(|error| {
                let text = told(py, &error);
                self.failure.keep(error);
                Error::request("layers", "names of the model's layers", text)
            })
        })?;
        self.watched = true;
        Ok(())
    }

    fn features(&self, x: &Tensor) -> pullback::Result<Vec<Tensor>> {
        if !self.watched {
            return Ok(Vec::new());
        }
        self.call("features", x, |answer| answer.try_iter()?.map(|output| of_python(&output?)).collect())
    }
}
