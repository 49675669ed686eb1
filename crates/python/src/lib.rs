//! `pullback._native`: the engine as Python loads it. The package around it (python/pullback) is what people import.

mod failure; // errors across the border
mod job; //     work on a thread of its own
mod results; // result files and pages
mod rows; //    samples that Python holds
mod tensor; //  tensors across the border
mod vae; //     models that Python holds

use failure::Failure;
use pullback::cli::{Requested, requested};
use pullback::data::{Source, of_rows};
use pullback::model::{Model, View, viewed};
use pullback::pipeline::{Provided, attack_with, score_with};
use pullback::tch::{Device, Kind};
use pyo3::prelude::*;
use rows::PythonRows;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use vae::PythonVae;

/// Does what the arguments of `pullback score` or `pullback attack` ask for.
///
/// `model` and `rows` stand in for the paths of model and data where they are given.
#[pyfunction]
fn evaluate(
    py: Python<'_>,
    arguments: Vec<OsString>,
    model: Option<PyObject>,
    rows: Option<PyObject>,
    listener: Bound<'_, PyAny>,
) -> PyResult<()> {
    let failure = Failure::default();
    let rows = rows.map(|rows| PythonRows::new(rows.bind(py), failure.clone())).transpose()?;
    let model = model.map(|model| Offered::new(model.bind(py), failure.clone())).transpose()?;
    job::run(py, &listener, &failure, move |observer| {
        let request = requested(arguments)?;
        let subject = match &request {
            Requested::Score(request) => &request.subject,
            Requested::Attack(request) => &request.subject,
        };
        let data = rows.map(|rows| -> pullback::Result<Arc<dyn Source>> {
            let name = rows.name().to_owned();
            of_rows(&name, Box::new(rows), subject.limit, &subject.reading)
        });
        let data = data.transpose()?;
        let open = model.map(|model| move |device, kind, view| model.open(device, kind, view));
        let provided = Provided { model: open.as_ref().map(|open| open as _), data: data.as_ref() };
        match &request {
            Requested::Score(request) => score_with(request, &provided, observer)?,
            Requested::Attack(request) => attack_with(request, &provided, observer)?,
        }
        Ok(())
    })
}

/// A model in Python that was offered to the engine.
struct Offered {
    model: PyObject,
    name: String,
    sha256: String,
    failure: Failure,
}

impl Offered {
    fn new(model: &Bound<'_, PyAny>, failure: Failure) -> PyResult<Self> {
        let (name, sha256) = (model.getattr("name")?.extract()?, model.getattr("sha256")?.extract()?);
        Ok(Self { model: model.clone().unbind(), name, sha256, failure })
    }

    /// The model for samples that are seen as a view says: a reader of its own each time.
    fn open(&self, _: Device, kind: Kind, view: Option<View>) -> pullback::Result<Model> {
        let double = kind == Kind::Double;
        let reader = Python::with_gil(|py| {
            self.model.call_method1(py, "reader", (double,)).map_err(|error| {
                let text = failure::told(py, &error);
                self.failure.keep(error);
                pullback::Error::request(&self.name, "a model that can be asked", text)
            })
        })?;
        pullback::ffi::exact_math()?;
        let vae = Box::new(PythonVae::new(reader, self.name.clone(), self.failure.clone()));
        Ok(Model {
            vae: viewed(vae, view),
            image: None,
            latent: None,
            spec: None,
            sha256: self.sha256.clone(),
            path: PathBuf::from(&self.name),
        })
    }
}

/// Waits until no work is left, for at most so many seconds; what is left is told to stop.
#[pyfunction]
fn await_all(py: Python<'_>, seconds: f64) {
    job::await_all(py, seconds);
}

/// The module.
#[pymodule]
fn _native(py: Python<'_>, module: &Bound<'_, PyModule>) -> PyResult<()> {
    job::keep_panics();
    pullback::ffi::after_failure(failure::forget);
    module.add("VERSION", env!("CARGO_PKG_VERSION"))?;
    module.add("LIBTORCH", pullback::ffi::LIBTORCH)?;
    module.add("Error", py.get_type::<failure::Error>())?;
    module.add_function(wrap_pyfunction!(evaluate, module)?)?;
    module.add_function(wrap_pyfunction!(await_all, module)?)?;
    results::add(module)
}
