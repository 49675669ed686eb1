//! Products and factorisations of batches of small matrices, shared among libtorch's threads on the CPU.

use super::check;
use crate::error::{Result, ensure_shape};
use std::ffi::{c_char, c_void};
use tch::Tensor;
use torch_sys::C_tensor;

unsafe extern "C" {
    fn pb_shared_eigh(values: *mut *mut c_void, vectors: *mut *mut c_void, a: *const c_void) -> *const c_char;
    fn pb_spectra(values: *mut *mut c_void, grams: *const c_void, count: i64) -> *const c_char;
    fn pb_gram_of_rows(result: *mut *mut c_void, rows: *const c_void) -> *const c_char;
    fn pb_shared_qr_triangle(triangle: *mut *mut c_void, a: *const c_void) -> *const c_char;
}

/// The `count` largest eigenvalues [B, count] f64 of Gram matrices [B, R, R] f64, descending; those that rounding made negative are 0, and
/// they are NaN for a matrix that is not finite. Only the lower triangles are read.
pub fn spectra(grams: &Tensor, count: i64) -> Result<Tensor> {
    square(grams)?;
    let mut values = std::ptr::null_mut();
    // SAFETY: `grams` is a live tensor, which is only read; kind, device and count are checked there.
    check("eigvalsh", unsafe { pb_spectra(&mut values, grams.as_ptr().cast(), count) })?;
    Ok(taken(values))
}

/// The Gram matrices A A^T, [B, P, P] f64, summed in double, of rows A [B, P, D] f32.
pub fn gram(rows: &Tensor) -> Result<Tensor> {
    ensure_shape("rows of Gram matrices", rows, &[-1, -1, -1])?;
    let mut gram = std::ptr::null_mut();
    // SAFETY: `rows` is a live tensor, which is only read; kind and device are checked there.
    check("gram", unsafe { pb_gram_of_rows(&mut gram, rows.as_ptr().cast()) })?;
    Ok(taken(gram))
}

/// Ascending eigenvalues [B, R] and unit eigenvectors [B, R, R], in columns, of symmetric matrices [B, R, R].
pub fn eigh(a: &Tensor) -> Result<(Tensor, Tensor)> {
    square(a)?;
    let (mut values, mut vectors) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: `a` is a live tensor, which is only read.
    check("eigh", unsafe { pb_shared_eigh(&mut values, &mut vectors, a.as_ptr().cast()) })?;
    Ok((taken(values), taken(vectors)))
}

/// The triangle [B, min(M, N), N] of the QR factorisation of matrices [B, M, N].
pub fn qr_triangle(a: &Tensor) -> Result<Tensor> {
    ensure_shape("matrices to factor", a, &[-1, -1, -1])?;
    let mut triangle = std::ptr::null_mut();
    // SAFETY: `a` is a live tensor, which is only read.
    check("qr", unsafe { pb_shared_qr_triangle(&mut triangle, a.as_ptr().cast()) })?;
    Ok(taken(triangle))
}

fn square(a: &Tensor) -> Result<()> {
    ensure_shape("symmetric matrices", a, &[-1, -1, -1])?;
    let order = a.size()[1];
    ensure_shape("symmetric matrices", a, &[-1, -1, order])
}

/// Takes the result of a call that succeeded.
fn taken(result: *mut c_void) -> Tensor {
    // SAFETY: the native side has stored an at::Tensor on the heap that nobody else owns.
    unsafe { Tensor::from_ptr(result.cast::<C_tensor>()) }
}
