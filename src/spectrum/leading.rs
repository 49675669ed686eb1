//! The leading eigenpairs of a metric, and estimates of the rest from its Krylov space.

use super::lanczos::{Ritz, STRIP, Side, Space, length, padded, zeros};
use super::quadrature::{Ended, Quadrature};
use super::{RANK_CUT, SpectrumSpec};
use crate::error::{Error, Result};
use crate::metric::{Operator, Shape};
use crate::seed::{self, Stage};
use tch::{Device, Kind, Tensor};

/// The K leading eigenpairs of G at B points, and estimates of spectral sums.
#[derive(Debug)]
pub struct Leading {
    /// [B, K] f64, descending, >= 0; all fields are NaN for a sample whose products are not finite.
    pub values: Tensor,
    /// |G v - lambda v| / lambda_1 of each pair, [B, K] f64, from one more product; 0 for a zero spectrum.
    pub residuals: Tensor,
    /// Unit eigenvectors [B, K, D] f64 with the sign and the zeros of [`super::Spectrum::directions`].
    pub directions: Tensor,
    /// The estimate of the whole spectrum.
    pub quadrature: Quadrature,
}

/// Steps between checks of the residuals: each check costs an eigenproblem, and the host waits for the device.
const CHECK: usize = 2;
/// Blocks beyond the rank that a space has when it finds the whole spectrum.
const SPARE: i64 = 4;
/// Streams of [`Stage::Probe`]: probes that start a space, and probes outside it.
const START: u64 = 0;
const OUTSIDE: u64 = 1;

impl Leading {
    /// The same for `factor` \[B\] times the metric.
    pub(super) fn times(self, factor: &Tensor) -> Result<Self> {
        let factor = factor.f_unsqueeze(1)?;
        let Quadrature { nodes, rest, .. } = self.quadrature;
        let quadrature = Quadrature { nodes: nodes.f_mul(&factor)?, rest: rest.f_mul(&factor)?, ..self.quadrature };
        Ok(Self { values: self.values.f_mul(&factor)?, quadrature, ..self })
    }

    /// The `pairs` leading pairs of `op`; noise is drawn from `seed` and the samples' positions `index`.
    ///
    /// A sample's space is used as it was when the sample's own pairs had converged, so that the other samples in the pass have no
    /// influence.
    ///
    /// # Errors
    /// More pairs than min(R, D) or than the space may hold.
    pub fn of(op: &dyn Operator, spec: &SpectrumSpec, pairs: usize, seed: u64, index: &[u64]) -> Result<Self> {
        let side = Side::smaller(op);
        let (n, device) = (side.width(op), op.options().1);
        let block = (spec.probes as i64).min(n);
        let most = block.saturating_mul(spec.steps as i64).min(n);
        ensure_pairs(pairs, op.rank_bound(), spec)?;
        let probes = normal(seed, START, index, n, block, device)?;
        let mut space = Space::new(op, side, &probes, most)?;
        // A spectrum that the space can hold is found whole, with spare blocks that reveal the rounding in small pairs; otherwise that
        // rounding would be taken for an estimate.
        let whole = op.rank_bound().saturating_add(SPARE * block).min(n);
        let least = if whole <= most { whole } else { 0 };
        let mut ended = Collected::new(index.len() as i64, most, device)?;
        for step in 1.. {
            let last = !space.extend()? || step == spec.steps;
            if (step % CHECK == 0 && space.size() >= least) || last {
                let ritz = space.ritz()?;
                let all_done = ended.take(&ritz, space.size(), pairs as i64, spec.tolerance, last)?;
                if all_done || last {
                    break;
                }
            }
        }
        let outside = normal(seed, OUTSIDE, index, n, block, device)?;
        let quotients = space.outside_quotients(&outside, &ended.kept)?;
        let broken = ended.broken.as_ref();
        let quadrature =
            Quadrature::of(&ended.as_ended(n, spec.tolerance), space.start(), &quotients)?.losing(broken)?;
        let pairs = pairs as i64;
        ended.values = super::lost(ended.values.shallow_clone(), broken)?;
        let values = ended.values.f_narrow(1, 0, pairs)?;
        let y = ended.vectors.f_narrow(2, 0, pairs)?;
        let raw = if side == Side::Domain { space.vectors(&y)? } else { space.images(&y)? };
        let directions = super::directions(&raw, &values, &ended.values)?;
        let residuals = residuals(op, &values, &directions, &ended.residuals.f_narrow(1, 0, pairs)?)?;
        let residuals = super::lost(residuals, ended.broken.as_ref())?;
        Ok(Self { values: values.f_contiguous()?, residuals, directions, quadrature })
    }
}

impl Leading {
    /// Bytes for the space of one sample, without its products, for a factor of this shape with products of `kind`.
    pub(super) fn bytes(shape: Shape, kind: Kind, spec: &SpectrumSpec) -> u64 {
        let (n, other) = (shape.rows.min(shape.dim), shape.rows.max(shape.dim));
        let block = (spec.probes as i64).min(n);
        let most = block.saturating_mul(spec.steps as i64).min(n);
        let element = if kind == Kind::Double { 8 } else { 4 };
        // The basis, and a copy while the space outside it is examined; the images, some in double; Ritz vectors and Gram matrices; a block
        // while it goes from one side to the other and through Gram-Schmidt.
        let double = 2 * most * n + most * STRIP.min(other) + 6 * most * most + 8 * block * (n + other);
        (8 * double + element * most * other) as u64
    }
}

/// The Ritz pairs of each sample at the step at which it had finished, padded to the largest space.
struct Collected {
    values: Tensor,
    vectors: Tensor,
    residuals: Tensor,
    kept: Tensor,
    /// \[B\] bool.
    done: Tensor,
    /// \[B\] bool: products were not finite.
    broken: Option<Tensor>,
}

impl Collected {
    fn new(batch: i64, most: i64, device: Device) -> Result<Self> {
        Ok(Self {
            values: zeros(&[batch, most], device)?,
            vectors: zeros(&[batch, most, most], device)?,
            residuals: zeros(&[batch, most], device)?,
            kept: zeros(&[batch, most], device)?,
            done: Tensor::f_zeros([batch], (Kind::Bool, device))?,
            broken: None,
        })
    }

    /// Takes the pairs of the samples whose first `pairs` have newly converged (at the `last` step, of all remaining samples); true once
    /// every sample is done.
    fn take(&mut self, ritz: &Ritz, size: i64, pairs: i64, tolerance: f64, last: bool) -> Result<bool> {
        let most = self.values.size()[1];
        let now = if last {
            self.done.f_ones_like()?
        } else if pairs > size {
            return Ok(false);
        } else {
            let bound = ritz.values.f_narrow(1, 0, 1)?.f_mul_scalar(tolerance)?;
            let converged = ritz.residuals.f_narrow(1, 0, pairs)?.f_le_tensor(&bound)?.f_all_dim(1, false)?;
            match &ritz.broken {
                // Its pairs will not converge, so the pass does not wait for it.
                Some(broken) => converged.f_logical_or(broken)?,
                None => converged,
            }
        };
        if let Some(broken) = &ritz.broken {
            self.broken = Some(match &self.broken {
                Some(before) => before.f_logical_or(broken)?,
                None => broken.shallow_clone(),
            });
        }
        let new = now.f_logical_and(&self.done.f_logical_not()?)?.f_unsqueeze(1)?;
        let kept = padded(&ritz.values.f_ones_like()?, 1, most)?;
        self.values = padded(&ritz.values, 1, most)?.f_where_self(&new, &self.values)?;
        self.residuals = padded(&ritz.residuals, 1, most)?.f_where_self(&new, &self.residuals)?;
        self.kept = kept.f_where_self(&new, &self.kept)?;
        self.vectors = padded(&ritz.vectors, 2, most)?.f_where_self(&new.f_unsqueeze(2)?, &self.vectors)?;
        self.done = self.done.f_logical_or(&now)?;
        Ok(last || self.done.f_all()?.f_int64_value(&[])? != 0)
    }

    fn as_ended(&self, width: i64, tolerance: f64) -> Ended<'_> {
        let Self { values, vectors, residuals, kept, .. } = self;
        Ended { values, vectors, residuals, kept, width, tolerance }
    }
}

/// Standard normal probes [B, n, count] f64; those of sample i depend only on `index[i]`.
fn normal(seed: u64, stream: u64, index: &[u64], n: i64, count: i64, device: Device) -> Result<Tensor> {
    let flat = seed::normal_stream(seed, Stage::Probe, stream, index, (n * count) as usize)?;
    Ok(flat.f_to_device(device)?.f_to_kind(Kind::Double)?.f_reshape([-1, n, count])?)
}

/// |G v - lambda v| / lambda_1. A pair without a direction has the recurrence's residual.
fn residuals(op: &dyn Operator, values: &Tensor, directions: &Tensor, recurrence: &Tensor) -> Result<Tensor> {
    let v = directions.f_transpose(1, 2)?;
    let gap = op.apply(&v)?.f_to_kind(Kind::Double)?.f_sub(&v.f_mul(&values.f_unsqueeze(1)?)?)?;
    let largest = values.f_narrow(1, 0, 1)?;
    let defined = values.f_gt_tensor(&largest.f_mul_scalar(RANK_CUT)?)?;
    let absolute = length(&gap, 1)?.f_squeeze_dim(1)?.f_where_self(&defined, recurrence)?;
    Ok(absolute.f_div(&largest)?.f_nan_to_num(0.0, 0.0, 0.0)?)
}

/// Refuses more pairs than the existing `bound`, or than the spec's space may hold.
pub(super) fn ensure_pairs(pairs: usize, bound: i64, spec: &SpectrumSpec) -> Result<()> {
    if pairs as i64 > bound {
        return Err(Error::request("top", format!("at most {bound} directions, min(R, D)"), pairs.to_string()));
    }
    if pairs > spec.probes * spec.steps {
        let expected = format!("at least {pairs}, the pairs that are asked for");
        return Err(Error::request("probes x steps of the spectrum", expected, (spec.probes * spec.steps).to_string()));
    }
    Ok(())
}
