//! Scores of a spectrum whose top alone is known, each with the standard error of its random part.
//!
//! Source: Ubaru, Chen & Saad 2017 (log-determinant and other spectral sums), Meyer, Musco, Musco & Woodruff 2021 (trace).
//! Differs: entropies are corrected with the better estimate of the trace from the same probes (a control variate).

use super::{Score, all};
use crate::error::Result;
use crate::ops::Reduce;
use crate::spectrum::{Quadrature, RANK_CUT, mean_and_error};
use tch::{Kind, Tensor};

/// A score of B samples.
#[derive(Debug)]
pub struct Estimate {
    /// The score.
    pub score: Score,
    /// \[B\] f64; NaN if the score is not defined, or not estimable (docs/mathematics.md says when).
    pub value: Tensor,
    /// Its standard error over the probes, \[B\] f64: 0 if no probe is used, NaN if the value is NaN.
    pub error: Tensor,
}

/// Every score, in the order of files and tables.
pub fn estimates(quadrature: &Quadrature) -> Result<Vec<Estimate>> {
    let known = all(&quadrature.nodes)?;
    let sums = Sums::of(quadrature)?;
    let exact = &quadrature.exact;
    known
        .into_iter()
        .map(|(score, known)| {
            let (value, error) = sums.score(score, &known)?;
            let value = super::where_known(&quadrature.nodes, known.f_where_self(exact, &value)?)?;
            let none = error.f_zeros_like()?.f_where_self(exact, &error)?;
            let undefined = value.f_isnan()?;
            Ok(Estimate { score, error: none.f_masked_fill(&undefined, f64::NAN)?, value })
        })
        .collect()
}

/// Spectral sums in units of lambda_1, each \[B\].
struct Sums<'a> {
    quadrature: &'a Quadrature,
    largest: Tensor,
    /// T = sum s_i, s_i = lambda_i / lambda_1.
    trace: (Tensor, Tensor),
    /// s at the nodes, [B, M].
    shares: Tensor,
    /// Each probe's own sum of s, [B, P].
    shares_by_probe: Tensor,
}

impl<'a> Sums<'a> {
    fn of(quadrature: &'a Quadrature) -> Result<Self> {
        let largest = quadrature.nodes.f_select(1, 0)?;
        let shares = quadrature.nodes.f_div(&largest.f_unsqueeze(1)?)?.f_nan_to_num(0.0, 0.0, 0.0)?;
        let (rest, error) = mean_and_error(&quadrature.rest, 0)?;
        let inside = quadrature.nodes.sum_over([1])?;
        let trace = (inside.f_add(&rest)?.f_div(&largest)?, error.f_div(&largest)?);
        let shares_by_probe = quadrature.sums(&shares)?;
        Ok(Self { quadrature, largest, trace, shares, shares_by_probe })
    }

    /// A score and its standard error; `known` is its value on the nodes only.
    fn score(&self, score: Score, known: &Tensor) -> Result<(Tensor, Tensor)> {
        let (t, dt) = (&self.trace.0, &self.trace.1);
        let none = known.f_zeros_like()?;
        Ok(match score {
            Score::Trace => (t.f_mul(&self.largest)?, dt.f_mul(&self.largest)?),
            Score::StableRank => (t.shallow_clone(), dt.shallow_clone()),
            Score::Anisotropy => (t.f_reciprocal()?, dt.f_div(&t.f_square()?)?),
            Score::VonNeumannEntropy => self.entropy()?,
            Score::EffectiveRank => {
                let (entropy, error) = self.entropy()?;
                let rank = entropy.f_exp()?;
                (rank.shallow_clone(), error.f_mul(&rank)?)
            }
            Score::EntropyMaxnorm => {
                let s = &self.shares;
                let (sum, error, slope) = self.corrected(&s.f_mul(&s.f_add_scalar(1e-10)?.f_log()?)?)?;
                (sum.f_neg()?, hypotenuse(&error, &slope.f_mul(dt)?)?)
            }
            Score::Rank => {
                // Rounding can make a sum of weights slightly less than a whole number.
                let counts = self.quadrature.sums(&self.counted()?)?.f_round_decimals(6)?;
                known_where(&self.quadrature.bounded, mean_and_error(&counts, 0)?)?
            }
            Score::LogDet => {
                let one = Tensor::f_ones([1], (Kind::Double, self.largest.device()))?;
                let counted = self.counted()?.f_to_kind(Kind::Bool)?;
                let logs = self.quadrature.nodes.f_where_self(&counted, &one)?.f_log()?;
                known_where(&self.quadrature.bounded, mean_and_error(&self.quadrature.sums(&logs)?, 0)?)?
            }
            Score::Condition => known_where(&self.quadrature.resolved, (known.shallow_clone(), none))?,
            // An eigenvalue; its residual bounds its error.
            Score::SpectralRadius => (known.shallow_clone(), none),
        })
    }

    /// S = ln T - H / T with H = sum s_i ln s_i, and its error to first order: H changes with T by its slope.
    fn entropy(&self) -> Result<(Tensor, Tensor)> {
        let (t, dt) = (&self.trace.0, &self.trace.1);
        let (h, dh, slope) = self.corrected(&self.shares.f_xlogy(&self.shares)?)?;
        let value = t.f_log()?.f_sub(&h.f_div(t)?)?.f_clamp_min(0.0)?;
        let by_trace = h.f_div(t)?.f_add_scalar(1.0)?.f_sub(&slope)?.f_div(t)?.f_mul(dt)?;
        Ok((value, hypotenuse(&dh.f_div(t)?, &by_trace)?))
    }

    /// The sum of f [B, M] over the spectrum, the remaining error, and the slope in T: the probes' sums of f and of s are correlated, and T
    /// is known more accurately than from them.
    fn corrected(&self, f: &Tensor) -> Result<(Tensor, Tensor, Tensor)> {
        let ours = self.quadrature.sums(f)?;
        let theirs = &self.shares_by_probe;
        let centred = |x: &Tensor| -> Result<Tensor> { Ok(x.f_sub(&x.mean_kept([1])?)?) };
        let (a, b) = (centred(&ours)?, centred(theirs)?);
        let sum = |x: &Tensor| x.sum_kept([1]);
        let slope = sum(&a.f_mul(&b)?)?.f_div(&sum(&b.f_square()?)?)?.f_nan_to_num(0.0, 0.0, 0.0)?;
        let better = ours.f_sub(&slope.f_mul(&theirs.f_sub(&self.trace.0.f_unsqueeze(1)?)?)?)?;
        let (mean, error) = mean_and_error(&better, 1)?;
        Ok((mean, error, slope.f_squeeze_dim(1)?))
    }

    /// 1 where s > 1e-10, else 0, [B, M].
    fn counted(&self) -> Result<Tensor> {
        Ok(self.shares.f_gt(RANK_CUT)?.f_to_kind(Kind::Double)?)
    }
}

/// NaN where the low end of the spectrum is not `known`: scores that depend on it cannot be estimated.
fn known_where(known: &Tensor, (value, error): (Tensor, Tensor)) -> Result<(Tensor, Tensor)> {
    let unknown = known.f_logical_not()?;
    Ok((value.f_masked_fill(&unknown, f64::NAN)?, error.f_masked_fill(&unknown, f64::NAN)?))
}

fn hypotenuse(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    Ok(a.f_square()?.f_add(&b.f_square()?)?.f_sqrt()?)
}
