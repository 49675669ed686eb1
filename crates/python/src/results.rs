//! Result files, and the pages made of them, for Python.

use crate::failure::{Error, of_engine};
use crate::tensor::to_python;
use pullback::report;
use pullback::store::{Column, Overwrite, Reader, Values};
use pullback::tch::{Device, Kind, Tensor};
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// An open result file, checked.
#[pyclass(frozen, module = "pullback._native")]
struct ResultFile {
    reader: Reader,
}

#[pymethods]
impl ResultFile {
    #[new]
    fn new(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let reader = py.allow_threads(|| Reader::open(&path)).map_err(raise)?;
        Ok(Self { reader })
    }

    /// What the file says of itself, by name.
    #[getter]
    fn attributes(&self) -> BTreeMap<String, String> {
        let header = self.reader.header();
        let mut told: BTreeMap<String, String> = header.extra.clone();
        told.extend(
            [
                ("kind", header.kind.name().to_owned()),
                ("model", header.model.clone()),
                ("model_sha256", header.model_sha256.clone()),
                ("dataset", header.dataset.clone()),
                ("split", header.split.clone()),
                ("device", header.device.clone()),
                ("precision", header.precision.clone()),
                ("seed", header.seed.to_string()),
                ("config", header.config.clone()),
                ("libtorch", header.libtorch.clone()),
                ("version", self.reader.version().to_owned()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        told.extend(header.metric.iter().map(|metric| ("metric".to_owned(), metric.clone())));
        told
    }

    /// The data sets and their shapes.
    #[getter]
    fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.reader.datasets().iter().map(|d| (d.path.clone(), d.shape.clone())).collect()
    }

    /// A data set as a tensor on the CPU, of the type that the file has.
    fn read(&self, py: Python<'_>, path: &str) -> PyResult<PyObject> {
        if self.reader.info(path).is_none() {
            return Err(PyKeyError::new_err(path.to_owned()));
        }
        let tensor = py.allow_threads(|| -> anyhow::Result<Tensor> { tensor_of(&self.reader.read(path)?) });
        to_python(py, &tensor.map_err(|error| of_engine(&error))?)
    }
}

/// A column as a tensor of its shape and type.
fn tensor_of(column: &Column) -> anyhow::Result<Tensor> {
    let flat = match &column.values {
        Values::F64(values) => Tensor::f_from_slice(values)?,
        Values::F32(values) => Tensor::f_from_slice(values)?,
        Values::I64(values) => Tensor::f_from_slice(values)?,
        Values::U8(values) => Tensor::f_from_slice(values)?,
    };
    let shape: Vec<i64> = column.shape.iter().map(|n| *n as i64).collect();
    Ok(flat.f_reshape(shape)?)
}

/// What an interrupted run has finished of a result: columns of these samples, by path.
#[pyfunction]
fn finished(py: Python<'_>, path: PathBuf) -> PyResult<BTreeMap<String, PyObject>> {
    let columns = py.allow_threads(|| pullback::store::finished(&path)).map_err(raise)?;
    let tensors = columns.iter().map(|column| {
        let tensor = tensor_of(column).map_err(|error| of_engine(&error))?;
        Ok((column.path.clone(), to_python(py, &tensor)?))
    });
    tensors.collect()
}

fn raise(error: pullback::error::ResultsError) -> PyErr {
    of_engine(&error.into())
}

/// Writes the page of `inputs`.
#[pyfunction]
fn write_report(py: Python<'_>, inputs: Vec<PathBuf>, output: PathBuf, force: bool) -> PyResult<()> {
    let overwrite = if force { Overwrite::Yes } else { Overwrite::No };
    py.allow_threads(|| report::write(&inputs, &output, overwrite)).map_err(raise)
}

/// The page of `inputs`.
#[pyfunction]
fn render_report(py: Python<'_>, inputs: Vec<PathBuf>) -> PyResult<String> {
    py.allow_threads(|| report::render(&inputs)).map_err(raise)
}

/// What a result file holds, in a few lines.
#[pyfunction]
fn findings(py: Python<'_>, path: PathBuf) -> PyResult<String> {
    let found = py.allow_threads(|| pullback::pipeline::inspect::findings(&path));
    found.map_err(|error| of_engine(&error.into()))
}

/// A network that `pullback train` wrote: its specification in JSON, and its tensors in f32 on the CPU by their names.
#[pyfunction]
fn run_folder(py: Python<'_>, folder: PathBuf) -> PyResult<(String, BTreeMap<String, PyObject>)> {
    let network = py.allow_threads(|| pullback::model::network(&folder, Device::Cpu, Kind::Float));
    let network = network.map_err(|error| of_engine(&error.into()))?;
    let spec = serde_json::to_string(network.spec()).map_err(|error| Error::new_err(error.to_string()))?;
    let tensors = network.parameters().iter().map(|(slot, tensor)| Ok((slot.name.clone(), to_python(py, tensor)?)));
    Ok((spec, tensors.collect::<PyResult<_>>()?))
}

pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<ResultFile>()?;
    module.add_function(wrap_pyfunction!(write_report, module)?)?;
    module.add_function(wrap_pyfunction!(render_report, module)?)?;
    module.add_function(wrap_pyfunction!(findings, module)?)?;
    module.add_function(wrap_pyfunction!(finished, module)?)?;
    module.add_function(wrap_pyfunction!(run_folder, module)?)
}
