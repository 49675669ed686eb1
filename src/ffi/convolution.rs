//! Convolutions of images, by the fastest way for their sizes on a CPU.

use super::check;
use crate::error::{Result, ensure_shape};
use std::ffi::{c_char, c_int, c_void};
use tch::Tensor;
use torch_sys::C_tensor;

unsafe extern "C" {
    fn pb_conv2d(
        result: *mut *mut c_void,
        x: *const c_void,
        weight: *const c_void,
        bias: *const c_void,
        stride: i64,
        padding: i64,
        rectifies: c_int,
    ) -> *const c_char;
    fn pb_forget_weights();
}

/// Forgets the layouts that are kept for weights. A weight that is changed in place is known by its version; one that is changed through
/// another door (`.data` in Python, memory shared with NumPy) is not, so scoring and attacking begin with this.
pub fn forget_weights() {
    // SAFETY: takes no argument; a lock guards what is forgotten, and passes that use a layout hold it themselves.
    unsafe { pb_forget_weights() }
}

/// The convolution of images `x` [B, I, H, W] with `weight` [O, I, kh, kw] and `bias` \[O\], as in libtorch: [B, O, h, w], perhaps with
/// channels last. If the weight needs no gradient, f32 images on a CPU use a matrix product in place of oneDNN if that is faster.
///
/// # Errors
/// If shapes, kinds or devices do not fit.
pub fn conv2d(x: &Tensor, weight: &Tensor, bias: &Tensor, stride: i64, padding: i64) -> Result<Tensor> {
    convolved(x, weight, bias, (stride, padding), false)
}

/// The ReLU of [`conv2d`], which autograd records as both.
///
/// # Errors
/// As [`conv2d`].
pub fn conv2d_relu(x: &Tensor, weight: &Tensor, bias: &Tensor, stride: i64, padding: i64) -> Result<Tensor> {
    convolved(x, weight, bias, (stride, padding), true)
}

fn convolved(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    (stride, padding): (i64, i64),
    rectifies: bool,
) -> Result<Tensor> {
    ensure_shape("images to convolve", x, &[-1, -1, -1, -1])?;
    let mut result: *mut c_void = std::ptr::null_mut();
    // SAFETY: the pointers come from live `Tensor`s, which the native side only reads; on success it stores a new at::Tensor.
    check("conv2d", unsafe {
        pb_conv2d(
            &mut result,
            x.as_ptr().cast(),
            weight.as_ptr().cast(),
            bias.as_ptr().cast(),
            stride,
            padding,
            rectifies.into(),
        )
    })?;
    // SAFETY: the call succeeded, so `result` is an at::Tensor on the heap that nobody else owns.
    Ok(unsafe { Tensor::from_ptr(result.cast::<C_tensor>()) })
}
