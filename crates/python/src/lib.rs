//! `pullback._native`: the engine as Python loads it. The package around it (python/pullback) is what people import.

mod failure; // errors across the border
mod job; //     work on a thread of its own
mod results; // result files and pages
mod rows; //    samples that Python holds
mod tensor; //  tensors across the border
mod thread; //  the thread that waits from call to call
mod vae; //     models that Python holds

use failure::Failure;
use job::Stop;
use pullback::cli::{Requested, requested};
use pullback::config::Tree;
use pullback::data::{Source, of_rows, open_as};
use pullback::model::{Judge, Model, View, viewed};
use pullback::pipeline::{Provided, attack_with, score_with};
use pullback::tch::{Device, Kind};
use pyo3::prelude::*;
use rows::PythonRows;
use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::path::PathBuf;
use std::sync::Arc;
use tensor::to_python;
use vae::{PythonJudge, PythonVae};

/// Does what the arguments of `pullback score` or `pullback attack` ask for.
///
/// `model`, `rows` and `judge` stand in for the paths of model, data and judge where they are given; with `passing` the result file is gone
/// with the process.
#[pyfunction]
fn evaluate(
    py: Python<'_>,
    arguments: Vec<OsString>,
    model: Option<PyObject>,
    rows: Option<PyObject>,
    judge: Option<PyObject>,
    listener: Bound<'_, PyAny>,
    passing: bool,
) -> PyResult<()> {
    let (failure, stop) = (Failure::default(), Stop::default());
    let rows = rows.map(|rows| PythonRows::new(rows.bind(py), failure.clone())).transpose()?;
    let model = model.map(|model| Offered::new(model.bind(py), failure.clone(), stop.clone())).transpose()?;
    let of_judge = (failure.clone(), stop.clone());
    job::run(py, &listener, &failure, &stop, move |observer| {
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
        let judge = judge.map(|judge| {
            move |_, _| {
                let judge = Python::with_gil(|py| judge.clone_ref(py));
                let (failure, stop) = of_judge.clone();
                Ok(Box::new(PythonJudge::new(judge, failure, stop)) as Box<dyn Judge>)
            }
        });
        let provided = Provided {
            model: open.as_ref().map(|open| open as _),
            data: data.as_ref(),
            judge: judge.as_ref().map(|judge| judge as _),
            passing,
        };
        match &request {
            Requested::Score(request) => score_with(request, &provided, observer)?,
            Requested::Attack(request) => attack_with(request, &provided, observer)?,
        }
        Ok(())
    })
}

/// The images [N, ...] f32 in [0, 1] and the labels [N], or None, that `--data` of the arguments of `pullback score` names. What a user should
/// know of how they were read is warned of.
#[pyfunction]
fn read_images(py: Python<'_>, arguments: Vec<OsString>) -> PyResult<(PyObject, Option<PyObject>)> {
    job::ensure_own_process()?;
    let read = || -> anyhow::Result<_> {
        let Requested::Score(request) = requested(arguments)? else { anyhow::bail!("not of score") };
        let subject = &request.subject;
        let source = open_as(&subject.data, subject.split, subject.limit, &subject.reading)?;
        let batch = source.read(&(0..source.len() as u64).collect::<Vec<_>>())?;
        let axes = [&[source.len() as i64], &source.sample()[..]].concat();
        Ok((batch.images.f_reshape(axes)?, batch.labels, source.notes()))
    };
    let (images, labels, notes) = py.allow_threads(read).map_err(|error| failure::of_engine(&error))?;
    let category = py.import("pullback")?.getattr("PullbackWarning")?;
    for note in notes {
        // The public function, its caller.
        PyErr::warn(py, &category, &CString::new(note)?, 2)?;
    }
    let labels = labels.map(|labels| to_python(py, &labels)).transpose()?;
    Ok((to_python(py, &images)?, labels))
}

/// What a YAML file, and assignments `key.path=value` after it, say of how a model is read: the keys of `interface` that they have, each with
/// its value in JSON.
#[pyfunction]
fn said_of_interface(
    py: Python<'_>,
    config: Option<PathBuf>,
    assignments: Vec<String>,
) -> PyResult<BTreeMap<String, String>> {
    let said = || -> anyhow::Result<BTreeMap<String, String>> {
        let mut tree = config.as_deref().map_or_else(|| Ok(Tree::default()), Tree::read)?;
        for assignment in &assignments {
            tree.set(assignment)?;
        }
        let mut said = BTreeMap::new();
        for key in ["input_range", "posterior", "outputs"] {
            if let Some(value) = tree.get(&format!("interface.{key}")) {
                said.insert(key.to_owned(), serde_json::to_string(value)?);
            }
        }
        Ok(said)
    };
    py.allow_threads(said).map_err(|error| failure::of_engine(&error))
}

/// A model in Python that was offered to the engine.
struct Offered {
    model: PyObject,
    name: String,
    sha256: String,
    failure: Failure,
    stop: Stop,
}

impl Offered {
    fn new(model: &Bound<'_, PyAny>, failure: Failure, stop: Stop) -> PyResult<Self> {
        let (name, sha256) = (model.getattr("name")?.extract()?, model.getattr("sha256")?.extract()?);
        Ok(Self { model: model.clone().unbind(), name, sha256, failure, stop })
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
        let vae = Box::new(PythonVae::new(reader, self.name.clone(), self.failure.clone(), self.stop.clone()));
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

/// Panics on the thread that works, where tests see what becomes of it. A build for use has no such function.
#[allow(clippy::panic)] // what it is for
#[cfg(debug_assertions)]
#[pyfunction]
#[pyo3(name = "_panic")]
fn panic_at_work(py: Python<'_>, listener: Bound<'_, PyAny>) -> PyResult<()> {
    job::run(py, &listener, &Failure::default(), &Stop::default(), |_| std::panic::panic_any("as asked for"))
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
    module.add_function(wrap_pyfunction!(said_of_interface, module)?)?;
    module.add_function(wrap_pyfunction!(await_all, module)?)?;
    module.add_function(wrap_pyfunction!(read_images, module)?)?;
    #[cfg(debug_assertions)]
    module.add_function(wrap_pyfunction!(panic_at_work, module)?)?;
    results::add(module)
}
