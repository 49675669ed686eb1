//! Eigenvalues and unit eigenvectors of a pullback metric, from the small Gram matrix of its factor.

mod contest; //        finds the fastest eigensolver
mod engine;
mod extreme; //        variances beyond single precision
mod lanczos; //        Krylov spaces
mod leading; //        the leading pairs of these spaces
mod leading_engine; // leading pairs in passes
mod quadrature; //     estimates of the rest
mod solver; //         which eigensolver, by device and size
mod passes; //         the loop over passes
mod spec;
mod spectra; //        whole spectra or leading pairs

pub use contest::Contest;
pub use engine::Engine;
pub use leading::Leading;
pub use leading_engine::LeadingEngine;
pub use quadrature::{Quadrature, mean_and_error};
pub use solver::Solver;
pub use spec::{Sizes, SpectrumMode, SpectrumSpec};
pub use spectra::{Found, Spectra, Wanted};

use crate::error::{Error, Result};
use crate::ffi::{self, kernels::Eigenpairs};
use crate::linalg;
use crate::metric::{Metric, MetricKind};
use crate::ops::Reduce;
use tch::{Device, Kind, Tensor};

/// The eigenpairs of G at B points.
#[derive(Debug)]
pub struct Spectrum {
    /// [B, min(R, D)] f64, descending, >= 0; NaN in a row whose Jacobian is not finite.
    pub values: Tensor,
    /// The first K unit eigenvectors in input space, [B, K, D] f64; the entry of largest magnitude is positive. A direction is zero if its
    /// eigenvalue is at most 1e-10 lambda_1 (beyond the `rank` score), because it is not defined. NaN where the eigenvalues are NaN.
    pub directions: Option<Tensor>,
}

/// Eigenvalues at or below this share of lambda_1 do not count, as in the `rank` score.
pub const RANK_CUT: f64 = 1e-10;

impl Spectrum {
    /// The spectrum of `count` samples from `start` on.
    pub fn narrow(&self, start: i64, count: i64) -> Result<Self> {
        let directions = self.directions.as_ref().map(|d| d.f_narrow(0, start, count)).transpose()?;
        Ok(Self { values: self.values.f_narrow(0, start, count)?, directions })
    }

    /// The spectrum of `metric`, with the `top` leading directions (0: none).
    ///
    /// # Errors
    /// If `top` is larger than min(R, D).
    pub fn of(metric: &Metric, top: usize) -> Result<Self> {
        Self::by(metric, top, Solver::of(metric))
    }

    /// [`Spectrum::of`] by a solver of the caller's choice.
    ///
    /// # Errors
    /// As [`Spectrum::of`]; if the solver cannot take the factor; if it does not converge.
    pub fn by(metric: &Metric, top: usize, solver: Solver) -> Result<Self> {
        let solved = Solved::by(metric, top, solver)?;
        solved.ensure()?;
        Ok(solved.spectrum)
    }
}

/// A spectrum that the device may not have finished.
#[derive(Debug)]
pub(crate) struct Solved {
    spectrum: Spectrum,
    /// The outcome for each sample on the device, `[B]` i32; `None` if there can be no failure.
    outcome: Option<Tensor>,
    /// [`Metric::log_lengths`], if requested.
    log_lengths: Option<Tensor>,
}

impl Solved {
    /// Waits for the device, and fails if a matrix did not converge.
    fn ensure(&self) -> Result<()> {
        self.outcome.as_ref().map_or(Ok(()), solver::ensure_solved)
    }

    /// With the lengths of the factor's columns, if the metric is of codes, which have few coordinates, each with its own meaning.
    fn with_lengths(self, metric: &Metric, kind: MetricKind) -> Result<Self> {
        let log_lengths = (kind == MetricKind::Decoder).then(|| metric.log_lengths()).transpose()?;
        Ok(Self { log_lengths, ..self })
    }

    fn by(metric: &Metric, top: usize, solver: Solver) -> Result<Self> {
        let count = metric.rank_bound();
        if top as i64 > count {
            return Err(Error::request("top", format!("at most {count} directions, min(R, D)"), top.to_string()));
        }
        let (fused, way) = match solver {
            Solver::Torch => return Self::by_torch(metric, top),
            Solver::Fused(way) => (true, way),
            Solver::Separate(way) => (false, way),
        };
        let Eigenpairs { values, vectors, outcome } = solver::by_kernel(metric, top, fused, way)?;
        let values = values.f_clamp_min(0.0)?.f_narrow(-1, 0, count)?.f_contiguous()?;
        let leading = values.f_narrow(1, 0, top as i64)?;
        let directions = match top {
            0 => None,
            _ => Some(directions(&metric.pull_back(&vectors)?, &leading, &values)?),
        };
        Ok(Self { spectrum: Spectrum { values, directions }, outcome: Some(outcome), log_lengths: None })
    }

    /// The `count` largest eigenvalues of Gram matrices [B, R, R] f64 on the CPU.
    fn of_gram(gram: &Tensor, count: i64) -> Result<Self> {
        let values = linalg::spectra(gram, count)?;
        Ok(Self { spectrum: Spectrum { values, directions: None }, outcome: None, log_lengths: None })
    }

    /// By torch.linalg, which must not get values that are not finite.
    fn by_torch(metric: &Metric, top: usize) -> Result<Self> {
        let (gram, count) = (metric.gram()?, metric.rank_bound());
        if top == 0 && metric.device() == Device::Cpu {
            return Self::of_gram(&gram, count);
        }
        let (gram, broken) = mended(&gram)?;
        if top == 0 {
            let values = lost(descending(&gram.f_linalg_eigvalsh("L")?, count)?, broken.as_ref())?;
            return Ok(Self { spectrum: Spectrum { values, directions: None }, outcome: None, log_lengths: None });
        }
        let (values, vectors) = linalg::eigh(&gram)?;
        let vectors = vectors.f_flip([-1])?.f_narrow(-1, 0, top as i64)?;
        let values = lost(descending(&values, count)?, broken.as_ref())?;
        let pulled = metric.pull_back(&vectors.f_transpose(1, 2)?)?;
        let directions = directions(&pulled, &values.f_narrow(1, 0, top as i64)?, &values)?;
        Ok(Self { spectrum: Spectrum { values, directions: Some(directions) }, outcome: None, log_lengths: None })
    }
}

/// From LAPACK's ascending order to descending order; negative rounding is set to 0, and the first `count` are kept.
fn descending(ascending: &Tensor, count: i64) -> Result<Tensor> {
    Ok(ascending.f_flip([-1])?.f_clamp_min(0.0)?.f_narrow(-1, 0, count)?.f_contiguous()?)
}

/// v_i = A^T u_i / |A^T u_i| from A^T u_i, `v` [B, K, D]: the length is sqrt(lambda_i). The sign is fixed. `values` [B, K] are their
/// eigenvalues, and `all` [B, *] are all eigenvalues.
fn directions(v: &Tensor, values: &Tensor, all: &Tensor) -> Result<Tensor> {
    let length = v.f_square()?.sum_kept([-1])?.f_sqrt()?;
    let peak = v.f_abs()?.f_argmax(-1, true)?;
    let sign = v.f_gather(-1, &peak, false)?.f_sign()?;
    let counted = values.f_gt_tensor(&all.f_narrow(1, 0, 1)?.f_mul_scalar(RANK_CUT)?)?.f_unsqueeze(-1)?;
    let scale = sign.f_div(&length.f_clamp_min(f64::MIN_POSITIVE)?)?;
    let defined = v.f_mul(&scale)?.f_where_self(&counted, &Tensor::f_zeros([1], (Kind::Double, v.device()))?)?;
    Ok(defined.f_masked_fill(&all.f_narrow(1, 0, 1)?.f_isnan()?.f_unsqueeze(-1)?, f64::NAN)?)
}

/// Gram matrices [B, R, R], in which those that are not finite are replaced by zeros, because LAPACK must not get them; and which they are,
/// `[B]` bool; `None` if all are finite.
fn mended(gram: &Tensor) -> Result<(Tensor, Option<Tensor>)> {
    // The diagonal has the squared length of each row of A, which bounds every other entry.
    let lengths = gram.f_diagonal(0, 1, 2)?.f_contiguous()?;
    if ffi::all_finite(&lengths)? {
        return Ok((gram.shallow_clone(), None));
    }
    let broken = lengths.sum_over([-1])?.f_isfinite()?.f_logical_not()?;
    Ok((gram.f_masked_fill(&broken.f_reshape([-1, 1, 1])?, 0.0)?, Some(broken)))
}

/// `rows` [B, ...] with NaN for the samples that are `broken`.
fn lost(rows: Tensor, broken: Option<&Tensor>) -> Result<Tensor> {
    let Some(broken) = broken else { return Ok(rows) };
    let mut shape = vec![1; rows.dim()];
    shape[0] = -1;
    Ok(rows.f_masked_fill(&broken.f_reshape(shape)?, f64::NAN)?)
}
