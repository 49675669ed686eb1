//! Factorisations of batches of small matrices, and of one large one.
//!
//! libtorch calls LAPACK for one matrix of a batch after another on the CPU; there [`crate::ffi::lapack`] shares them out.

use crate::error::Result;
use crate::ffi::lapack;
use tch::{Device, Tensor};

/// Ascending eigenvalues [B, R] of symmetric matrices [B, R, R], of which the lower triangles are read.
pub fn eigvalsh(a: &Tensor) -> Result<Tensor> {
    if a.device() == Device::Cpu { lapack::eigvalsh(a) } else { Ok(a.f_linalg_eigvalsh("L")?) }
}

/// Ascending eigenvalues [B, R] and unit eigenvectors [B, R, R], in columns, of symmetric matrices [B, R, R].
pub fn eigh(a: &Tensor) -> Result<(Tensor, Tensor)> {
    if a.device() == Device::Cpu { lapack::eigh(a) } else { Ok(a.f_linalg_eigh("L")?) }
}

/// The triangle [B, min(M, N), N] of the QR factorisation of matrices [B, M, N].
pub fn qr_triangle(a: &Tensor) -> Result<Tensor> {
    if a.device() == Device::Cpu { lapack::qr_triangle(a) } else { Ok(Tensor::f_linalg_qr(a, "r")?.1) }
}

/// Q [M, N] with orthonormal columns and the triangle R [N, N] of a matrix [M, N], M >= N.
pub fn thin_qr(a: &Tensor) -> Result<(Tensor, Tensor)> {
    Ok(Tensor::f_linalg_qr(a, "reduced")?)
}
