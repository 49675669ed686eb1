//! The choice of the eigensolver for the Gram matrices of a batch of factors.

use crate::error::{Error, Result};
use crate::ffi::kernels::{self, Algorithm, Eigenpairs, FACTOR_ORDER};
use crate::metric::Metric;
use tch::{Device, Tensor};

/// A way from factors to eigenpairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Solver {
    /// torch.linalg: LAPACK on the host.
    Torch,
    /// Gram matrix and eigenpairs in one kernel, R at most [`FACTOR_ORDER`].
    Fused(Algorithm),
    /// The Gram matrix first, then its eigenpairs.
    Separate(Algorithm),
}

/// Up to this order one warp does rotations. Their 5 to 9 sweeps cost about 30 times the operations of the reduction, but at R = 32 they
/// are a chain of only about 250 phases of a warp, without a block's barriers and without the 54 dependent steps of R divisions each in a
/// bisection.
const ROTATIONS: i64 = 32;

/// Up to this order the packed triangle of a matrix in double fits the 163 KB of shared memory that a block of sm_80 may have (sm_90: 227
/// KB, order 234), so that the matrix is read from memory only once.
const RESIDENT: i64 = 197;
const RESIDENT_SM90: i64 = 234;

/// Beyond this order rotations take 20 times the operations of the reduction: they are not tried.
const MOST_ROTATIONS: i64 = 96;

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
    /// These follow from counts of operations and bytes (docs/performance.md). An [`Engine`](super::Engine) on CUDA starts with them and,
    /// in a job that is long enough, measures ([`Contest`](super::Contest)).
    pub fn choose(device: Device, rows: i64) -> Self {
        if !device.is_cuda() || !kernels::run_on(device) {
            return Self::Torch;
        }
        Self::on_cuda(rows, kernels::has_library)
    }

    /// [`Solver::choose`] for this metric.
    pub fn of(metric: &Metric) -> Self {
        Self::choose(metric.device(), metric.dimensions().0)
    }

    /// All solvers that may be fastest on `device` for factors of `rows` rows; `fusible` if the factor is an unchanged Jacobian.
    pub fn candidates(device: Device, rows: i64, fusible: bool) -> Vec<Self> {
        if !device.is_cuda() || !kernels::run_on(device) {
            return vec![Self::Torch];
        }
        Self::candidates_on_cuda(rows, fusible, kernels::has_library())
    }

    /// [`Solver::candidates`] for CUDA; `library` says whether cuSOLVER's batched call is available.
    pub fn candidates_on_cuda(rows: i64, fusible: bool, library: bool) -> Vec<Self> {
        let fused = fusible && rows <= FACTOR_ORDER;
        let rotations = rows <= MOST_ROTATIONS;
        // In global memory the reduction is used only if there is nothing else.
        let reduction = rows <= RESIDENT_SM90 || !library;
        let all = [
            (Self::Fused(Algorithm::Jacobi), fused),
            (Self::Fused(Algorithm::Tridiagonal), fused),
            (Self::Separate(Algorithm::Jacobi), rotations),
            (Self::Separate(Algorithm::Tridiagonal), reduction),
            (Self::Separate(Algorithm::Library), library),
        ];
        all.into_iter().filter_map(|(solver, may)| may.then_some(solver)).collect()
    }

    /// The table's part for CUDA; `library` is called only if it matters.
    pub fn on_cuda(rows: i64, library: impl FnOnce() -> bool) -> Self {
        if rows <= ROTATIONS {
            Self::Fused(Algorithm::Jacobi)
        } else if rows <= FACTOR_ORDER {
            Self::Fused(Algorithm::Tridiagonal)
        } else if rows <= RESIDENT || !library() {
            Self::Separate(Algorithm::Tridiagonal)
        } else {
            Self::Separate(Algorithm::Library)
        }
    }
}

impl std::fmt::Display for Solver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (way, fused) = match self {
            Self::Torch => return f.write_str("torch.linalg"),
            Self::Fused(way) => (way, " in one launch"),
            Self::Separate(way) => (way, ""),
        };
        let way = match way {
            Algorithm::Jacobi => "rotations",
            Algorithm::Tridiagonal => "reduction",
            Algorithm::Library => "cuSOLVER",
        };
        write!(f, "{way}{fused}")
    }
}

/// Eigenpairs of the Gram matrices of `metric`, `top` vectors each, by a kernel.
pub(super) fn by_kernel(metric: &Metric, top: usize, fused: bool, way: Algorithm) -> Result<Eigenpairs> {
    if fused && metric.is_jacobian() {
        let found = kernels::factor_eigh(&metric.jacobian()?, top, way)?;
        let values = metric.if_known(found.values.f_unsqueeze(2)?)?.f_squeeze_dim(2)?;
        Ok(Eigenpairs { values, vectors: metric.if_known(found.vectors)?, ..found })
    } else {
        kernels::eigh(&metric.gram()?, top, way)
    }
}

/// Turns the kernels' outcome for each matrix, `[B]` i32, into an error if one did not converge; this is the only copy to the host. Results
/// that are not finite are NaN.
///
/// # Errors
/// If one did not converge.
pub(super) fn ensure_solved(outcome: &Tensor) -> Result<()> {
    const NOT_CONVERGED: i32 = 2;
    let outcome = Vec::<i32>::try_from(outcome.f_to_device(Device::Cpu)?)?;
    match outcome.iter().position(|code| *code == NOT_CONVERGED) {
        None => Ok(()),
        Some(row) => Err(Error::Numeric {
            part: "eigensolver",
            message: format!("the Gram matrix of row {row} of the batch did not converge"),
        }),
    }
}
