//! Vector-Jacobian products with many cotangents at once.

use super::check;
use crate::error::{Error, Result, ensure_shape};
use crate::event;
use std::ffi::{c_char, c_int, c_void};
use tch::Tensor;
use torch_sys::C_tensor;

unsafe extern "C" {
    fn pb_vjp(
        result: *mut *mut c_void,
        out: *const c_void,
        input: *const c_void,
        cotangents: *const c_void,
        way: c_int,
        create_graph: c_int,
        at_stem: c_int,
        stops: extern "C" fn() -> c_int,
    ) -> *const c_char;
    fn pb_has_custom(found: *mut c_int, out: *const c_void) -> *const c_char;
    fn pb_grams(
        grams: *mut *mut c_void,
        out: *const c_void,
        input: *const c_void,
        stops: extern "C" fn() -> c_int,
    ) -> *const c_char;
    fn pb_stem(map: *mut *mut c_void, version: *mut i64, out: *const c_void, input: *const c_void) -> *const c_char;
}

/// How K cotangents are pulled back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum VjpMode {
    /// One backward pass under functorch's vmap.
    Vmapped,
    /// One backward pass for each cotangent.
    Looped,
    /// All cotangents of a few samples as one batch, by our own rules for the operations of common networks (kernels/folded.h);
    /// on the CPU, as constants.
    Folded,
}

/// Whether the products can be differentiated again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Graph {
    /// They are constants.
    Constant,
    /// They carry a graph (autograd's `create_graph`).
    Differentiable,
}

/// The variable of a derivative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// The input [B, ...].
    #[default]
    Input,
    /// h [B, H], where the graph begins with h = flatten(input) M + c: see [`stem`].
    Stem,
}

/// Pulls `cotangents` [K, B, R] of `output` [B, R] back to `input` [B, ...]: the result is [K, B, ...], zero where
/// `output` does not depend on `input`. The graph of `output` is kept for further calls.
///
/// # Errors
/// If shapes, kinds or devices disagree, or libtorch cannot differentiate an operation.
pub fn vjp(output: &Tensor, input: &Tensor, cotangents: &Tensor, mode: VjpMode, graph: Graph) -> Result<Tensor> {
    vjp_by(By::Input, output, input, cotangents, mode, graph)
}

/// [`vjp`]; if it is taken by the stem, the result is [K, B, H].
///
/// # Errors
/// As [`vjp`]; also if there is no stem.
pub fn vjp_by(
    by: By,
    output: &Tensor,
    input: &Tensor,
    cotangents: &Tensor,
    mode: VjpMode,
    graph: Graph,
) -> Result<Tensor> {
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
    pulled(by, output, input, Some(cotangents), mode, graph)
}

/// All rows of the Jacobian of `output` [B, R] by `input` [B, ...] or by the stem, [R, B, ...]: [`vjp_by`] of the unit vectors of each sample
/// by [`VjpMode::Folded`], as constants.
///
/// # Errors
/// As [`vjp_by`].
pub fn rows_folded(by: By, output: &Tensor, input: &Tensor) -> Result<Tensor> {
    ensure_shape("output of a Jacobian", output, &[input.size().first().copied().unwrap_or(0), -1])?;
    pulled(by, output, input, None, VjpMode::Folded, Graph::Constant)
}

/// The Gram matrices J J^T [B, R, R] f64 of the Jacobian J of `output` [B, R] f32 by `input` [B, ...], summed in double, by
/// [`VjpMode::Folded`]: J as a whole, [B, R, D], does not come to exist.
///
/// # Errors
/// As [`rows_folded`]; if `output` is not in single precision.
pub fn grams_folded(output: &Tensor, input: &Tensor) -> Result<Tensor> {
    ensure_shape("output of a Jacobian", output, &[input.size().first().copied().unwrap_or(0), -1])?;
    let mut result: *mut c_void = std::ptr::null_mut();
    // SAFETY: as in `pulled`.
    let message = unsafe { pb_grams(&mut result, output.as_ptr().cast(), input.as_ptr().cast(), stops) };
    check("vjp", message).or_else(|error| event::ensure_wanted().and(Err(error)))?;
    // SAFETY: the call succeeded, so `result` is an at::Tensor on the heap that nobody else owns.
    Ok(unsafe { Tensor::from_ptr(result.cast::<C_tensor>()) })
}

/// Cotangents that were checked, or all unit vectors, which only folded passes know.
fn pulled(
    by: By,
    output: &Tensor,
    input: &Tensor,
    cotangents: Option<&Tensor>,
    mode: VjpMode,
    graph: Graph,
) -> Result<Tensor> {
    let mut result: *mut c_void = std::ptr::null_mut();
    // SAFETY: the pointers come from live `Tensor`s, which tch holds as heap-allocated at::Tensor, or are null where the native side allows
    // that; it only reads them (autograd leaves the graph in place) and on success stores a new heap-allocated at::Tensor.
    let message = unsafe {
        pb_vjp(
            &mut result,
            output.as_ptr().cast(),
            input.as_ptr().cast(),
            cotangents.map_or(std::ptr::null(), |cotangents| cotangents.as_ptr().cast()),
            match mode {
                VjpMode::Looped => 0,
                VjpMode::Vmapped => 1,
                VjpMode::Folded => 2,
            },
            c_int::from(graph == Graph::Differentiable),
            c_int::from(by == By::Stem),
            stops,
        )
    };
    check("vjp", message).or_else(|error| event::ensure_wanted().and(Err(error)))?;
    // SAFETY: the call succeeded, so `result` is an at::Tensor on the heap that nobody else owns.
    Ok(unsafe { Tensor::from_ptr(result.cast::<C_tensor>()) })
}

/// Whether the graph of `output` has a function that is not libtorch's own, such as one of a `torch.autograd.Function`. Its second derivative
/// may be missing without a word.
///
/// # Errors
/// If libtorch fails.
pub fn has_custom_functions(output: &Tensor) -> Result<bool> {
    let mut found = 0;
    // SAFETY: `output` is a live tensor, which is only read; `found` is writable.
    check("graph", unsafe { pb_has_custom(&mut found, output.as_ptr().cast()) })?;
    Ok(found != 0)
}

/// Whether a pass that takes seconds should stop.
extern "C" fn stops() -> c_int {
    c_int::from(event::stop_requested())
}

/// M [D, H], without a gradient, and its version, which grows with each change in place, if all of `output` depends on the leaf `input` [B,
/// ...] only through h = flatten(input) M + c; `None` if the graph begins in another way.
///
/// # Errors
/// If libtorch has already freed M.
pub fn stem(output: &Tensor, input: &Tensor) -> Result<Option<(Tensor, i64)>> {
    let mut map: *mut c_void = std::ptr::null_mut();
    let mut version = 0;
    // SAFETY: the pointers come from live `Tensor`s, which the native side only reads; where there is a map it stores a new
    // heap-allocated at::Tensor.
    let message = unsafe { pb_stem(&mut map, &mut version, output.as_ptr().cast(), input.as_ptr().cast()) };
    check("stem", message)?;
    if map.is_null() {
        return Ok(None);
    }
    // SAFETY: the call succeeded and stored an at::Tensor on the heap that nobody else owns.
    Ok(Some((unsafe { Tensor::from_ptr(map.cast::<C_tensor>()) }, version)))
}
