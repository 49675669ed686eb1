//! Tensors across the border: the same storage and the same graph on both sides.
#![allow(unsafe_code)]

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use std::ffi::c_void;
use tch::Tensor;
use torch_sys::C_tensor;

unsafe extern "C" {
    fn pb_tensor_of(object: *mut pyo3::ffi::PyObject) -> *mut c_void;
    fn pb_object_of(tensor: *const c_void) -> *mut pyo3::ffi::PyObject;
}

/// The tensor that a Python object is.
pub fn of_python(object: &Bound<'_, PyAny>) -> PyResult<Tensor> {
    // SAFETY: the object lives and the GIL is held, as `Bound` proves; what is not null is an at::Tensor on the heap that we own.
    let raw = unsafe { pb_tensor_of(object.as_ptr()) };
    if raw.is_null() {
        return Err(PyTypeError::new_err(format!("expected a torch.Tensor, found {}", object.get_type().name()?)));
    }
    // SAFETY: as above; tch holds tensors in the same way.
    Ok(unsafe { Tensor::from_ptr(raw.cast::<C_tensor>()) })
}

/// Empties what Python keeps for this thread, where the thread is not Python's own.
///
/// Its state is deleted when the GIL is let go. Tensors in it (a data set's `threading.local`) would be freed only then, for which libtorch
/// takes the GIL again and deletes the state twice.
pub fn forget_thread(_: Python<'_>) {
    // SAFETY: the GIL is held; the dictionary, borrowed from the thread's state, is null or lives as long as it.
    unsafe {
        let kept = pyo3::ffi::PyThreadState_GetDict();
        if !kept.is_null() {
            pyo3::ffi::PyDict_Clear(kept);
        }
    }
}

/// The Python object that a tensor is.
pub fn to_python(py: Python<'_>, tensor: &Tensor) -> PyResult<PyObject> {
    // SAFETY: the tensor lives and the GIL is held; the result is a new reference, or null with an error set.
    unsafe { PyObject::from_owned_ptr_or_err(py, pb_object_of(tensor.as_ptr().cast())) }
}
