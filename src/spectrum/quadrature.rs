//! Spectral sums from a Krylov space: for each probe the spectrum is a measure, and the Ritz values are the nodes of its Gauss quadrature.
//!
//! Source: Golub & Meurant 2010, chapters 6 and 7 (quadrature by Lanczos, blocks); Ubaru, Chen & Saad 2017 (stochastic
//! Lanczos quadrature); Meyer, Musco, Musco & Woodruff 2021 (Hutch++, the trace).
//! Differs: pairs that have converged are summed exactly and the probes estimate only the rest; a probe's share of the rest is normalised,
//! which makes it uniform on the unit sphere of the rest, so that constants have no error.

use super::RANK_CUT;
use super::lanczos::{padded, zeros};
use crate::error::Result;
use crate::ops::Reduce;
use tch::{Kind, Tensor};

/// Estimates for B spectra: tr f(G) is approximately sum_i weights\[p, i\] f(nodes\[i\]) for each probe p; the mean over the probes is a
/// better estimate.
#[derive(Debug)]
pub struct Quadrature {
    /// Ritz values, [B, M] f64, descending, >= 0, zeros at the end.
    pub nodes: Tensor,
    /// [B, P, M] f64: 1 for a pair that was found, otherwise the number of eigenvalues that probe p counts for the node.
    pub weights: Tensor,
    /// The part of the trace outside the space, [B, P] f64, estimated by each of P further probes.
    pub rest: Tensor,
    /// \[B\] bool: nothing lies outside the space, so that the nodes are all eigenvalues that count.
    pub exact: Tensor,
    /// \[B\] bool: the smallest node above the rank cut is near an eigenvalue, so that sums of logarithms are stable.
    pub bounded: Tensor,
    /// \[B\] bool: the smallest node above the rank cut is an eigenvalue.
    pub resolved: Tensor,
}

/// The final state of the iteration, padded to M nodes; for sample b only the first `size` count.
pub(super) struct Ended<'a> {
    /// Ritz values [B, M].
    pub values: &'a Tensor,
    /// Ritz vectors' coordinates [B, M, M].
    pub vectors: &'a Tensor,
    /// Recurrence residuals [B, M].
    pub residuals: &'a Tensor,
    /// 1 for a node, 0 for padding, [B, M].
    pub kept: &'a Tensor,
    /// n, the dimension of the side that the space lies in.
    pub width: i64,
    /// The share of lambda_1 up to which a residual counts as 0.
    pub tolerance: f64,
}

/// The smallest eigenvalue counts as found if its residual is at most this share of it,
const FOUND: f64 = 1e-4;
/// and the spectrum counts as bounded from below at this share.
const NEAR: f64 = 0.05;
/// If the probes' share of the rest is below its mean by more than this many standard deviations, the probes were not independent of the
/// pairs that were found (an eigenvalue has a multiplicity beyond the block).
const SHORT: f64 = 6.0;

impl Quadrature {
    /// `start` [B, b, b] are the probes' coordinates in the first block, `quotients` [B, P] |X z|^2 / |z|^2 of further
    /// probes outside the space.
    pub(super) fn of(ended: &Ended, start: &Tensor, quotients: &Tensor) -> Result<Self> {
        let nodes = ended.values.shallow_clone();
        let largest = nodes.f_narrow(1, 0, 1)?;
        let size = ended.kept.sum_kept([1])?;
        // [B, 1]: the number of dimensions outside the space.
        let outside = size.f_neg()?.f_add_scalar(ended.width as f64)?;
        let rest = quotients.f_mul(&outside)?;
        let cut = largest.f_mul_scalar(RANK_CUT)?;
        let exact = rest.max_kept(1)?.f_le_tensor(&cut)?;
        let found = ended.residuals.f_le_tensor(&largest.f_mul_scalar(ended.tolerance)?)?;
        let found = found.f_to_kind(Kind::Double)?.f_mul(ended.kept)?.f_cumprod(1, Kind::Double)?;
        let weights = weights(ended, start, &found)?;
        let one = ended.kept.f_unsqueeze(1)?;
        let weights = one.f_where_self(&exact.f_unsqueeze(2)?, &weights)?;
        let exact = exact.f_squeeze_dim(1)?;
        let low = |share| -> Result<Tensor> { Ok(low_end(ended, &cut, share)?.f_logical_or(&exact)?) };
        let (bounded, resolved) = (low(NEAR)?, low(FOUND)?);
        Ok(Self { nodes, weights, rest, exact, bounded, resolved })
    }

    /// The same, with NaN for the samples marked in `broken` [B].
    pub(super) fn losing(self, broken: Option<&Tensor>) -> Result<Self> {
        let nodes = super::lost(self.nodes.shallow_clone(), broken)?;
        let rest = super::lost(self.rest.shallow_clone(), broken)?;
        Ok(Self { nodes, rest, ..self })
    }

    /// Joins the quadratures of passes, in their order.
    pub(super) fn cat(parts: &[Self]) -> Result<Self> {
        let join = |field: fn(&Self) -> &Tensor| -> Result<Tensor> {
            Ok(Tensor::f_cat(&parts.iter().map(field).collect::<Vec<_>>(), 0)?)
        };
        Ok(Self {
            nodes: join(|q| &q.nodes)?,
            weights: join(|q| &q.weights)?,
            rest: join(|q| &q.rest)?,
            exact: join(|q| &q.exact)?,
            bounded: join(|q| &q.bounded)?,
            resolved: join(|q| &q.resolved)?,
        })
    }

    /// Each probe's estimate of tr f(G), [B, P], from f at the nodes [B, M].
    pub fn sums(&self, f: &Tensor) -> Result<Tensor> {
        Ok(self.weights.f_bmm(&f.f_unsqueeze(2)?)?.f_squeeze_dim(2)?)
    }
}

/// Weights of the nodes, [B, P, M], where the leading pairs marked in `found` [B, M] are summed exactly.
fn weights(ended: &Ended, start: &Tensor, found: &Tensor) -> Result<Tensor> {
    let most = ended.values.size()[1];
    // Coordinates of each probe in the Ritz vectors, [B, P, M].
    let probes = padded(&start.f_transpose(1, 2)?, 1, most)?;
    let mass = probes.f_bmm(ended.vectors)?.f_square()?;
    let rest_mass = |found: &Tensor| -> Result<(Tensor, Tensor, Tensor)> {
        let rest = mass.f_mul(&found.f_neg()?.f_add_scalar(1.0)?.f_unsqueeze(1)?)?;
        let total = rest.sum_kept([2])?;
        let count = found.sum_kept([1])?.f_neg()?;
        Ok((rest, total, count.f_add_scalar(ended.width as f64)?.f_unsqueeze(2)?))
    };
    let (_, total, count) = rest_mass(found)?;
    // |z|^2 of a normal z outside k directions is chi squared with n - k degrees of freedom.
    let share = total.mean_kept([1])?.f_div(&count)?;
    let spread = count.f_reciprocal()?.f_mul_scalar(2.0 / total.size()[1] as f64)?.f_sqrt()?.f_mul_scalar(SHORT)?;
    let independent = share.f_add(&spread)?.f_ge(1.0)?.f_squeeze_dim(2)?;
    let found = found.f_mul(&independent.f_to_kind(Kind::Double)?)?;
    let (rest, total, count) = rest_mass(&found)?;
    let scaled = rest.f_div(&total.f_clamp_min(f64::MIN_POSITIVE)?)?.f_mul(&count)?;
    Ok(scaled.f_add(&found.f_unsqueeze(1)?)?)
}

/// \[B\]: whether the residual of the smallest node above the cut [B, 1] is at most `share` of the node.
fn low_end(ended: &Ended, cut: &Tensor, share: f64) -> Result<Tensor> {
    let counted = ended.values.f_gt_tensor(cut)?.f_to_kind(Kind::Int64)?;
    let last = counted.count_kept([1])?.f_add_scalar(-1)?.f_clamp_min(0)?;
    let smallest = ended.values.f_gather(1, &last, false)?;
    let residual = ended.residuals.f_gather(1, &last, false)?;
    Ok(residual.f_le_tensor(&smallest.f_mul_scalar(share)?)?.f_squeeze_dim(1)?)
}

/// Mean over the probes [B, P] and its standard error, \[B\] each; `fitted` parameters were estimated from the probes.
pub fn mean_and_error(samples: &Tensor, fitted: i64) -> Result<(Tensor, Tensor)> {
    let count = samples.size()[1];
    let mean = samples.mean_kept([1])?;
    let freedom = count - 1 - fitted;
    let squares = samples.f_sub(&mean)?.f_square()?.sum_over([1])?;
    let error = if freedom > 0 {
        squares.f_div_scalar((count * freedom) as f64)?.f_sqrt()?
    } else {
        zeros(&[samples.size()[0]], samples.device())?.f_add_scalar(f64::NAN)?
    };
    Ok((mean.f_squeeze_dim(1)?, error))
}
