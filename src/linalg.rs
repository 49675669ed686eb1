//! Factorisations of batches of small matrices.
//!
//! libtorch calls LAPACK for one matrix of a batch after another on the CPU; here the batch is shared among threads.

use crate::error::Result;
use rayon::prelude::*;
use tch::{Device, TchError, Tensor};

/// Fewer matrices than this a thread are not worth waking it for.
const LEAST: i64 = 2;

/// Ascending eigenvalues [B, R] of symmetric matrices [B, R, R], of which the lower triangles are read.
pub fn eigvalsh(a: &Tensor) -> Result<Tensor> {
    let [values] = shared(a, |part| Ok([part.f_linalg_eigvalsh("L")?]))?;
    Ok(values)
}

/// Ascending eigenvalues [B, R] and unit eigenvectors [B, R, R], in columns, of symmetric matrices [B, R, R].
pub fn eigh(a: &Tensor) -> Result<(Tensor, Tensor)> {
    let [values, vectors] = shared(a, |part| {
        let (values, vectors) = part.f_linalg_eigh("L")?;
        Ok([values, vectors])
    })?;
    Ok((values, vectors))
}

/// The triangle [B, min(M, N), N] of the QR factorisation of matrices [B, M, N].
pub fn qr_triangle(a: &Tensor) -> Result<Tensor> {
    let [triangle] = shared(a, |part| Ok([Tensor::f_linalg_qr(part, "r")?.1]))?;
    Ok(triangle)
}

/// Q [M, N] with orthonormal columns and the triangle R [N, N] of a matrix [M, N], M >= N.
pub fn thin_qr(a: &Tensor) -> Result<(Tensor, Tensor)> {
    Ok(Tensor::f_linalg_qr(a, "reduced")?)
}

/// `factor` of the whole batch, or of a part of it on each thread.
fn shared<const N: usize>(
    a: &Tensor,
    factor: impl Fn(&Tensor) -> Result<[Tensor; N], TchError> + Sync,
) -> Result<[Tensor; N]> {
    let threads = rayon::current_num_threads() as i64;
    if a.device() != Device::Cpu || threads == 1 || a.size().first().is_none_or(|b| *b < LEAST * threads) {
        return Ok(factor(a)?);
    }
    let parts = a.f_chunk(threads, 0)?;
    let done: Vec<[Tensor; N]> = parts.into_par_iter().map(|part| factor(&part)).collect::<Result<_, _>>()?;
    let mut joined = Vec::with_capacity(N);
    for output in 0..N {
        let pieces: Vec<&Tensor> = done.iter().map(|outputs| &outputs[output]).collect();
        joined.push(Tensor::f_cat(&pieces, 0)?);
    }
    // `joined` holds one tensor for each of the N outputs.
    Ok(std::array::from_fn(|output| joined[output].shallow_clone()))
}
