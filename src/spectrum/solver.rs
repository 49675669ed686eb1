//! Which eigensolver takes the Gram matrices of a batch of factors.

use crate::error::{Error, Result};
use crate::ffi::kernels::{self, Eigenpairs, FACTOR_ORDER, Way};
use crate::metric::Metric;
use tch::{Device, Kind, Tensor};

/// A way from factors to eigenpairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Solver {
    /// torch.linalg: LAPACK on the host.
    Torch,
    /// Gram matrix and eigenpairs in one kernel, R at most [`FACTOR_ORDER`].
    Fused(Way),
    /// The Gram matrix first, then its eigenpairs.
    Separate(Way),
}

/// Up to this order rotations by one warp are taken. Their 5 to 9 sweeps cost some 30 times the operations of the
/// reduction, but at R = 32 that is a chain of about 250 phases of a warp, without a block's barriers and without the 54
/// dependent steps of R divisions each that a bisection is.
const ROTATIONS: i64 = 32;

/// Up to this order the packed triangle of a matrix in double fits the 163 KB of shared memory that a block of sm_80 may
/// have (sm_90: 227 KB, order 234): one read of the matrix from memory, none after.
const RESIDENT: i64 = 197;

impl Solver {
    /// The solver for factors of `rows` rows on `device`.
    ///
    /// | device | R | solver | because |
    /// |---|---|---|---|
    /// | host | all | [`Solver::Torch`] | LAPACK, one matrix a thread |
    /// | CUDA | 1 to 32 | fused, rotations | every phase is parallel within a warp; R^2 / 8 blocks of 2 x 2 a phase |
    /// | CUDA | 33 to 64 | fused, reduction | 4/3 R^3 operations against about 24 R^3 |
    /// | CUDA | 65 to 197 | separate, reduction | the same; Gram tiles of 64 x 64 no longer fit beside the triangle |
    /// | CUDA | beyond | cusolverDnXsyevBatched | the triangle leaves shared memory; where absent: the reduction |
    /// | CUDA without our kernels | all | [`Solver::Torch`] | |
    ///
    /// These follow from counts of operations and bytes (docs/performance.md). They have not been measured on a GPU:
    /// [`super::Spectrum::by`] takes any solver, for those who measure.
    pub fn choose(device: Device, rows: i64) -> Self {
        if !device.is_cuda() || !kernels::run_on(device) {
            return Self::Torch;
        }
        Self::on_cuda(rows, kernels::has_library)
    }

    /// The table's part for CUDA; `library` is asked only where it matters.
    pub fn on_cuda(rows: i64, library: impl FnOnce() -> bool) -> Self {
        if rows <= ROTATIONS {
            Self::Fused(Way::Jacobi)
        } else if rows <= FACTOR_ORDER {
            Self::Fused(Way::Tridiagonal)
        } else if rows <= RESIDENT || !library() {
            Self::Separate(Way::Tridiagonal)
        } else {
            Self::Separate(Way::Library)
        }
    }
}

/// Values [B, R] descending and vectors [B, top, R] of the Gram matrices of `metric` by a kernel.
///
/// # Errors
/// Where the factor has an entry that is not finite, naming the row of the batch; where a matrix did not converge.
pub(super) fn by_kernel(metric: &Metric, top: usize, fused: bool, way: Way) -> Result<(Tensor, Tensor)> {
    let factor = metric.compact()?;
    let Eigenpairs { values, vectors, outcome } =
        if fused { kernels::factor_eigh(&factor, top, way)? } else { kernels::eigh(&gram(&factor)?, top, way)? };
    let outcome = Vec::<i32>::try_from(outcome.f_to_device(Device::Cpu)?)?;
    match outcome.iter().position(|code| *code != 0) {
        None => Ok((values, vectors)),
        Some(row) if outcome[row] == 1 => Err(super::not_finite(row)),
        Some(row) => Err(Error::Native {
            routine: "eigensolver",
            message: format!("the Gram matrix of row {row} of the batch did not converge ({way:?})"),
        }),
    }
}

/// A factor in double is a library's product; a single one is widened on its way into the kernel.
fn gram(factor: &Tensor) -> Result<Tensor> {
    match factor.f_kind()? {
        Kind::Float => kernels::gram(factor),
        _ => Ok(factor.f_bmm(&factor.f_transpose(1, 2)?)?),
    }
}
