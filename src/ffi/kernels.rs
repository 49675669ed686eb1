//! The kernels of `kernels/*.cuh` on tensors. The same code runs on the device or on the host, wherever the input lies.

use super::check;
use crate::error::{Error, Result, ensure_shape};
use std::ffi::{c_char, c_int, c_void};
use tch::{Device, Kind, Tensor};

unsafe extern "C" {
    fn pb_kernels_compiled() -> c_int;
    fn pb_kernels_run_on(cuda_device: i64) -> c_int;
    fn pb_has_library_eigh() -> c_int;
    fn pb_eigh(
        values: *mut *mut c_void,
        vectors: *mut *mut c_void,
        outcome: *mut *mut c_void,
        matrices: *const c_void,
        top: i64,
        way: c_int,
        sweeps: c_int,
    ) -> *const c_char;
    fn pb_factor_eigh(
        values: *mut *mut c_void,
        vectors: *mut *mut c_void,
        outcome: *mut *mut c_void,
        factor: *const c_void,
        top: i64,
        way: c_int,
    ) -> *const c_char;
    fn pb_gram(result: *mut *mut c_void, factor: *const c_void) -> *const c_char;
    fn pb_scores(result: *mut *mut c_void, values: *const c_void) -> *const c_char;
}

/// The largest order for which one launch solves a factor's eigenproblem ([`factor_eigh`]).
pub const FACTOR_ORDER: i64 = 64;

/// Rotations converge quadratically, in 5 to 9 sweeps; if this many are needed, something is wrong.
const SWEEPS: u16 = 40;

/// How a symmetric eigenproblem is solved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Parallel two-sided rotations (kernels/jacobi.cuh).
    Jacobi,
    /// Householder reduction, bisection, inverse iteration (kernels/tridiagonal.cuh).
    Tridiagonal,
    /// cusolverDnXsyevBatched; on CUDA only.
    Library,
}

/// Eigenpairs of B symmetric matrices of order R, on the device of the matrices.
#[derive(Debug)]
pub struct Eigenpairs {
    /// [B, R], descending.
    pub values: Tensor,
    /// [B, K, R], unit rows to the K leading values.
    pub vectors: Tensor,
    /// `[B]` i32: 0 if solved, 1 if an entry is not finite, 2 if it did not converge. For 1 and 2, values and vectors are NaN.
    pub outcome: Tensor,
}

/// True if this build contains the CUDA part of the kernels.
pub fn compiled() -> bool {
    // SAFETY: takes no argument and only reads.
    unsafe { pb_kernels_compiled() != 0 }
}

/// True if the kernels can run on `device`: always on the host; on CUDA if they were compiled in and the device is of
/// compute capability 8.0 or later.
pub fn run_on(device: Device) -> bool {
    match device {
        Device::Cpu => true,
        // SAFETY: asks the CUDA runtime for an attribute of a device; for a number without a device it returns 0.
        Device::Cuda(n) => unsafe { pb_kernels_run_on(n as i64) != 0 },
        _ => false,
    }
}

/// True if [`Algorithm::Library`] is available in this process.
pub fn has_library() -> bool {
    // SAFETY: takes no argument; opens libcusolver at the first call.
    unsafe { pb_has_library_eigh() != 0 }
}

/// Eigenvalues of symmetric `matrices` [B, R, R], f32 or f64, whose lower triangle is read, and the eigenvectors of the `top` leading ones.
/// Their accuracy is that of the kind: R epsilon of the largest.
///
/// # Errors
/// If shape or kind are wrong, `top` is larger than R, or the device does not support the algorithm.
pub fn eigh(matrices: &Tensor, top: usize, way: Algorithm) -> Result<Eigenpairs> {
    eigh_within(SWEEPS, matrices, top, way)
}

/// [`eigh`] with at most `sweeps` sweeps of rotations.
///
/// # Errors
/// As [`eigh`].
pub fn eigh_within(sweeps: u16, matrices: &Tensor, top: usize, way: Algorithm) -> Result<Eigenpairs> {
    ensure_shape("matrices of an eigenproblem", matrices, &[-1, -1, -1])?;
    let order = matrices.size()[1];
    ensure_shape("matrices of an eigenproblem", matrices, &[-1, order, order])?;
    ensure_order(order, top)?;
    if way == Algorithm::Library && !matrices.device().is_cuda() {
        return Err(Error::request("device of an eigenproblem", "CUDA for the library's way", "the host"));
    }
    let matrices = prepared("matrices of an eigenproblem", matrices)?;
    pairs("eigh", |values, vectors, outcome| {
        // SAFETY: `matrices` is alive, contiguous, [B, R, R], of a kind and on a device that the routine takes; it only
        // reads them and stores three new tensors.
        unsafe { pb_eigh(values, vectors, outcome, matrices.as_ptr().cast(), top as i64, code(way), sweeps.into()) }
    })
}

/// [`eigh`] of the Gram matrices A A^T of `factor` [B, R, D], f32 or f64, R at most [`FACTOR_ORDER`], in one launch and in
/// double.
///
/// # Errors
/// As [`eigh`]; [`Algorithm::Library`] is not available here.
pub fn factor_eigh(factor: &Tensor, top: usize, way: Algorithm) -> Result<Eigenpairs> {
    ensure_shape("factor of an eigenproblem", factor, &[-1, -1, -1])?;
    let order = factor.size()[1];
    ensure_order(order, top)?;
    ensure_columns(factor)?;
    if way == Algorithm::Library || order > FACTOR_ORDER {
        return Err(Error::request(
            "factor of an eigenproblem",
            format!("at most {FACTOR_ORDER} rows and a way of our own"),
            format!("{order} rows, {way:?}"),
        ));
    }
    let factor = prepared("factor of an eigenproblem", factor)?;
    pairs("factor_eigh", |values, vectors, outcome| {
        // SAFETY: as in `eigh`; R fits the routine's shared memory.
        unsafe { pb_factor_eigh(values, vectors, outcome, factor.as_ptr().cast(), top as i64, code(way)) }
    })
}

/// Gram matrices A A^T [B, R, R] f64, summed in double, of `factor` [B, R, D], f32 or f64.
///
/// # Errors
/// If shape or kind are wrong.
pub fn gram(factor: &Tensor) -> Result<Tensor> {
    ensure_shape("factor of a Gram matrix", factor, &[-1, -1, -1])?;
    ensure_order(factor.size()[1], 0)?;
    ensure_columns(factor)?;
    let factor = prepared("factor of a Gram matrix", factor)?;
    // SAFETY: `factor` is alive, contiguous, [B, R, D] with R, D >= 1, f32 or f64; the routine only reads it and stores a
    // new tensor.
    single("gram", |result| unsafe { pb_gram(result, factor.as_ptr().cast()) })
}

/// All ten scores [B, 10] f64 of spectra [B, R] f64, descending and >= 0, in the order of [`crate::score::Score::ALL`].
///
/// # Errors
/// If shape or kind are wrong.
pub fn scores(values: &Tensor) -> Result<Tensor> {
    ensure_shape("eigenvalues", values, &[-1, -1])?;
    ensure_order(values.size()[1], 0)?;
    if values.f_kind()? != Kind::Double {
        return Err(Error::request("kind of the eigenvalues", "Double", format!("{:?}", values.f_kind()?)));
    }
    let values = prepared("eigenvalues", values)?;
    // SAFETY: `values` is alive, contiguous, [B, R] f64 with R >= 1; the routine only reads it and stores a new tensor.
    single("scores", |result| unsafe { pb_scores(result, values.as_ptr().cast()) })
}

fn code(way: Algorithm) -> c_int {
    match way {
        Algorithm::Jacobi => 0,
        Algorithm::Tridiagonal => 1,
        Algorithm::Library => 2,
    }
}

/// `tensor` detached and contiguous. It is checked to be f32 or f64, on a device that the kernels support, and small enough for their
/// 32-bit indices.
pub(super) fn prepared(name: &str, tensor: &Tensor) -> Result<Tensor> {
    let kind = tensor.f_kind()?;
    if !matches!(kind, Kind::Float | Kind::Double) {
        return Err(Error::request(format!("kind of {name}"), "Float or Double", format!("{kind:?}")));
    }
    if !run_on(tensor.device()) {
        let expected = "the host, or a device for which kernels were compiled";
        return Err(Error::request(format!("device of {name}"), expected, format!("{:?}", tensor.device())));
    }
    let row: i64 = tensor.size().iter().skip(1).product();
    if row > i64::from(i32::MAX) / 2 || tensor.size().first().copied().unwrap_or(0) > i64::from(i32::MAX) / 32 {
        return Err(Error::request(format!("shape of {name}"), "a smaller one", format!("{:?}", tensor.size())));
    }
    Ok(tensor.f_detach()?.f_contiguous()?)
}

fn ensure_order(order: i64, top: usize) -> Result<()> {
    if !(1..=1 << 14).contains(&order) {
        return Err(Error::request("order of an eigenproblem", "1 to 16384", order.to_string()));
    }
    if top as i64 > order {
        return Err(Error::request("top", format!("at most {order}, the order"), top.to_string()));
    }
    Ok(())
}

fn ensure_columns(factor: &Tensor) -> Result<()> {
    match factor.size()[2] {
        0 => Err(Error::request("columns of a factor", "at least one", "none")),
        _ => Ok(()),
    }
}

/// The single tensor that a routine returns.
fn single(routine: &'static str, call: impl FnOnce(*mut *mut c_void) -> *const c_char) -> Result<Tensor> {
    let mut result = std::ptr::null_mut();
    check(routine, call(&mut result))?;
    // SAFETY: the call succeeded, so `result` is an at::Tensor on the heap that nobody else owns.
    Ok(unsafe { Tensor::from_ptr(result.cast()) })
}

/// The three tensors that a routine returns.
fn pairs(
    routine: &'static str,
    call: impl FnOnce(*mut *mut c_void, *mut *mut c_void, *mut *mut c_void) -> *const c_char,
) -> Result<Eigenpairs> {
    let (mut values, mut vectors, mut outcome) = (std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
    check(routine, call(&mut values, &mut vectors, &mut outcome))?;
    // SAFETY: the call succeeded, so each is an at::Tensor on the heap that nobody else owns.
    let own = |pointer: *mut c_void| unsafe { Tensor::from_ptr(pointer.cast()) };
    Ok(Eigenpairs { values: own(values), vectors: own(vectors), outcome: own(outcome) })
}
