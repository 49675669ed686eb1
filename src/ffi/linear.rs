//! Linear layers, by the fastest way for their sizes on a CPU.

use super::check;
use crate::error::{Result, ensure_shape};
use std::ffi::{c_char, c_int, c_void};
use tch::Tensor;
use torch_sys::C_tensor;

unsafe extern "C" {
    fn pb_linear(
        result: *mut *mut c_void,
        x: *const c_void,
        weight: *const c_void,
        bias: *const c_void,
        rectifies: c_int,
    ) -> *const c_char;
}

/// `x` [B, I] times the transpose of `weight` [O, I], plus `bias` \[O\]: [B, O]. If the weight needs no gradient, a few f32 rows on a CPU take
/// a copy of it that is laid out for them.
///
/// # Errors
/// If shapes, kinds or devices do not fit.
pub fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    multiplied(x, weight, bias, false)
}

/// The ReLU of [`linear`], which autograd records as both.
///
/// # Errors
/// As [`linear`].
pub fn linear_relu(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    multiplied(x, weight, bias, true)
}

fn multiplied(x: &Tensor, weight: &Tensor, bias: &Tensor, rectifies: bool) -> Result<Tensor> {
    ensure_shape("rows of a linear layer", x, &[-1, -1])?;
    let mut result: *mut c_void = std::ptr::null_mut();
    // SAFETY: the pointers come from live `Tensor`s, which the native side only reads; on success it stores a new at::Tensor.
    check("linear", unsafe {
        pb_linear(&mut result, x.as_ptr().cast(), weight.as_ptr().cast(), bias.as_ptr().cast(), rectifies.into())
    })?;
    // SAFETY: the call succeeded, so `result` is an at::Tensor on the heap that nobody else owns.
    Ok(unsafe { Tensor::from_ptr(result.cast::<C_tensor>()) })
}
