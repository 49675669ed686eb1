//! Vector-Jacobian products with many cotangents at once.

use super::check;
use crate::error::{Error, Result};
use std::ffi::{c_char, c_int, c_void};
use tch::Tensor;
use torch_sys::C_tensor;

unsafe extern "C" {
    fn pb_vjp(
        result: *mut *mut c_void,
        out: *const c_void,
        input: *const c_void,
        cotangents: *const c_void,
        vmapped: c_int,
        create_graph: c_int,
    ) -> *const c_char;
}

/// How K cotangents are pulled back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum VjpMode {
    /// One backward pass under functorch's vmap.
    Vmapped,
    /// One backward pass a cotangent.
    Looped,
}

/// Whether the products can be differentiated again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Graph {
    /// They are constants.
    Constant,
    /// They carry a graph (autograd's `create_graph`).
    Differentiable,
}

/// Pulls `cotangents` [K, B, R] of `output` [B, R] back to `input` [B, ...]: the result is [K, B, ...], zero where
/// `output` does not depend on `input`. The graph of `output` is kept for further calls.
///
/// # Errors
/// Where shapes, kinds or devices disagree, or libtorch cannot differentiate an operation.
pub fn vjp(output: &Tensor, input: &Tensor, cotangents: &Tensor, mode: VjpMode, graph: Graph) -> Result<Tensor> {
    let shape = output.size();
    let batch = input.size().first().copied();
    let fits = shape.len() == 2
        && cotangents.dim() == 3
        && cotangents.size()[1..] == shape[..]
        && batch == Some(shape[0])
        && cotangents.kind() == output.kind()
        && cotangents.device() == output.device();
    if !fits {
        return Err(Error::request(
            "cotangents of a vector-Jacobian product",
            format!("[K, B, R] for an output [B, R] = {shape:?} of kind {:?}", output.kind()),
            format!("{:?} of kind {:?}", cotangents.size(), cotangents.kind()),
        ));
    }
    let mut result: *mut c_void = std::ptr::null_mut();
    // SAFETY: the pointers come from live `Tensor`s, which tch holds as heap-allocated at::Tensor; the native side
    // only reads them (autograd leaves the graph in place) and on success stores a new heap-allocated at::Tensor.
    let message = unsafe {
        pb_vjp(
            &mut result,
            output.as_ptr().cast(),
            input.as_ptr().cast(),
            cotangents.as_ptr().cast(),
            c_int::from(mode == VjpMode::Vmapped),
            c_int::from(graph == Graph::Differentiable),
        )
    };
    check("vjp", message)?;
    // SAFETY: the call succeeded, so `result` is an at::Tensor on the heap that nobody else owns.
    Ok(unsafe { Tensor::from_ptr(result.cast::<C_tensor>()) })
}
