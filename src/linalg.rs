//! Products and factorisations of batches of small matrices, and the factorisation of one large one.
//!
//! On the CPU, libtorch calls LAPACK for one matrix of a batch after another; [`crate::ffi::lapack`] shares them among threads there.

use crate::error::Result;
use crate::ffi::lapack;
use tch::{Device, Tensor};

/// Ascending eigenvalues [B, R] and unit eigenvectors [B, R, R], in columns, of symmetric matrices [B, R, R].
pub fn eigh(a: &Tensor) -> Result<(Tensor, Tensor)> {
    if a.device() == Device::Cpu { lapack::eigh(a) } else { Ok(a.f_linalg_eigh("L")?) }
}

/// The Gram matrices A A^T, [B, P, P] f64, summed in double, of rows A [B, P, D] f32 on the CPU.
///
/// # Errors
/// If the rows have another shape, kind or device.
pub fn gram(rows: &Tensor) -> Result<Tensor> {
    lapack::gram(rows)
}

/// The `count` largest eigenvalues [B, count] of Gram matrices [B, R, R] f64 on the CPU, descending; those that rounding made negative are 0,
/// and they are NaN for a matrix that is not finite.
///
/// # Errors
/// If the matrices are not square or have another kind or device, if `count` is larger than R, or if LAPACK does not converge.
pub fn spectra(grams: &Tensor, count: i64) -> Result<Tensor> {
    lapack::spectra(grams, count)
}

/// The triangle [B, min(M, N), N] of the QR factorisation of matrices [B, M, N].
pub fn qr_triangle(a: &Tensor) -> Result<Tensor> {
    if a.device() == Device::Cpu {
        return lapack::qr_triangle(a);
    }
    triangle_by_levels(a, BATCHED_ROWS, &mut |part| Ok(Tensor::f_linalg_qr(part, "r")?.1))
}

/// Up to this many rows libtorch factors a whole batch at once on CUDA. Taller matrices are factored one after another, with one call of
/// cuSOLVER for each.
pub const BATCHED_ROWS: i64 = 256;

/// [`qr_triangle`] by `factor`, which gives the triangles of a batch of matrices of at most `most` rows. Parts of the rows are factored as
/// one batch, then their stacked triangles. Matrices that are short enough, too wide to shrink in this way, or too few to make a batch go
/// to `factor` unchanged.
///
/// Source: Demmel, Grigori, Hoemmen & Langou 2012, section 3 (TSQR); as stable as one factorisation by reflections.
///
/// # Errors
/// The errors of `factor`.
pub fn triangle_by_levels(a: &Tensor, most: i64, factor: &mut dyn FnMut(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    crate::error::ensure_shape("matrices to factor", a, &[-1, -1, -1])?;
    let &[batch, rows, columns] = &a.size()[..] else { return factor(a) };
    if rows <= most || 2 * columns > most || batch < FEWEST {
        return factor(a);
    }
    let parts = (rows + most - 1) / most;
    let each = (rows + parts - 1) / parts;
    let padded = a.f_constant_pad_nd([0, 0, 0, parts * each - rows])?;
    let triangles = factor(&padded.f_reshape([batch * parts, each, columns])?)?;
    triangle_by_levels(&triangles.f_reshape([batch, parts * columns, columns])?, most, factor)
}

/// libtorch factors parts of 256 rows as one batch from 16 matrices on, and each matrix has at least two parts.
const FEWEST: i64 = 8;

/// Q [M, N] with orthonormal columns and the triangle R [N, N] of a matrix [M, N], M >= N.
pub fn thin_qr(a: &Tensor) -> Result<(Tensor, Tensor)> {
    Ok(Tensor::f_linalg_qr(a, "reduced")?)
}
