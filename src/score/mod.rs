//! From a spectrum to numbers: one formula for each function, on eigenvalues \[B, R'\] f64, descending, >= 0; each returns \[B\] f64.
//!
//! Natural logarithms; p_i = lambda_i / sum lambda; 0 ln 0 = 0. If every eigenvalue is zero (posterior collapse) `spectral_radius`,
//! `trace`, `von_neumann_entropy`, `rank` and `log_det` are 0, `effective_rank` is 1, and the ratios `entropy_maxnorm`, `anisotropy`,
//! `stable_rank`, `condition` are NaN. If there is no spectrum (all eigenvalues are NaN), every score is NaN.

mod estimate; // of spectra whose top alone is known
mod found; //    of spectra as they were found
mod margin; //   how far an image may move before its reconstruction changes

pub use estimate::{Estimate, estimates};
pub use found::of;
pub use margin::{MARGIN_DRAWS, Margin, Margins, margin};

use crate::error::Result;
use crate::ffi::kernels;
use crate::ops::Reduce;
use crate::spectrum::RANK_CUT;
use strum::VariantArray;
use tch::{Kind, Tensor};

/// A number computed from a spectrum. Its name in files and tables is `spectral_radius` and so on.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum Score {
    /// [`spectral_radius`].
    SpectralRadius,
    /// [`trace`].
    Trace,
    /// [`von_neumann_entropy`].
    VonNeumannEntropy,
    /// [`entropy_maxnorm`].
    EntropyMaxnorm,
    /// [`rank`].
    Rank,
    /// [`log_det`].
    LogDet,
    /// [`effective_rank`].
    EffectiveRank,
    /// [`anisotropy`].
    Anisotropy,
    /// [`stable_rank`].
    StableRank,
    /// [`condition`].
    Condition,
}

impl Score {
    /// Every score, in the order of files and tables, and of the kernel `scores`.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// Its name in files.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Its value for `values` [B, R'], by its formula: the reference of the kernel.
    ///
    /// # Errors
    /// The errors of libtorch.
    pub fn of(self, values: &Tensor) -> Result<Tensor> {
        match self {
            Self::SpectralRadius => spectral_radius(values),
            Self::Trace => trace(values),
            Self::VonNeumannEntropy => von_neumann_entropy(values),
            Self::EntropyMaxnorm => entropy_maxnorm(values),
            Self::Rank => rank(values),
            Self::LogDet => log_det(values),
            Self::EffectiveRank => effective_rank(values),
            Self::Anisotropy => anisotropy(values),
            Self::StableRank => stable_rank(values),
            Self::Condition => condition(values),
        }
    }
}

/// All scores of `values` [B, R']. On CUDA one kernel gives them all; the formulas below are its reference.
///
/// # Errors
/// A wrong request if `values` has another shape.
pub fn all(values: &Tensor) -> Result<Vec<(Score, Tensor)>> {
    crate::error::ensure_shape("eigenvalues", values, &[-1, -1])?;
    if values.device().is_cuda() && kernels::run_on(values.device()) {
        let scores = kernels::scores(values)?;
        let each = Score::ALL.iter().zip(0..);
        return each.map(|(score, i)| Ok((*score, where_known(values, scores.f_select(1, i)?)?))).collect();
    }
    Score::ALL.iter().map(|score| Ok((*score, where_known(values, score.of(values)?)?))).collect()
}

/// A score `[B]`, NaN if there is no spectrum: a sample's eigenvalues are all NaN or none is.
pub(crate) fn where_known(values: &Tensor, score: Tensor) -> Result<Tensor> {
    Ok(score.f_masked_fill(&values.f_select(1, 0)?.f_isnan()?, f64::NAN)?)
}

/// lambda_1.
pub fn spectral_radius(values: &Tensor) -> Result<Tensor> {
    Ok(values.f_select(1, 0)?)
}

/// sum lambda_i.
pub fn trace(values: &Tensor) -> Result<Tensor> {
    sum(values)
}

/// - sum p_i ln p_i; 0 for a zero spectrum.
pub fn von_neumann_entropy(values: &Tensor) -> Result<Tensor> {
    let p = shares(values)?;
    // xlogy(0, 0) = 0.
    // 0 - 0 is 0, where -(0) is -0.
    Ok(sum(&p.f_xlogy(&p)?)?.f_rsub_scalar(0.0)?.f_clamp_min(0.0)?)
}

/// - sum s_i ln(s_i + 1e-10) with s_i = lambda_i / lambda_1; NaN for a zero spectrum.
///
/// Source: the authors' code (`trainer.py`), which normalises by the largest eigenvalue; the paper's text uses the trace.
pub fn entropy_maxnorm(values: &Tensor) -> Result<Tensor> {
    let s = values.f_div(&values.f_narrow(1, 0, 1)?)?;
    Ok(sum(&s.f_mul(&s.f_add_scalar(1e-10)?.f_log()?)?)?.f_neg()?)
}

/// Number of lambda_i > 1e-10 lambda_1.
pub fn rank(values: &Tensor) -> Result<Tensor> {
    sum(&counted(values)?.f_to_kind(Kind::Double)?)
}

/// Sum of ln lambda_i over the eigenvalues that `rank` counts.
pub fn log_det(values: &Tensor) -> Result<Tensor> {
    let one = Tensor::f_ones([1], (Kind::Double, values.device()))?;
    sum(&values.f_where_self(&counted(values)?, &one)?.f_log()?)
}

/// exp(von_neumann_entropy), between 1 and R'.
pub fn effective_rank(values: &Tensor) -> Result<Tensor> {
    Ok(von_neumann_entropy(values)?.f_exp()?)
}

/// lambda_1 / trace; NaN for a zero spectrum.
pub fn anisotropy(values: &Tensor) -> Result<Tensor> {
    Ok(spectral_radius(values)?.f_div(&trace(values)?)?)
}

/// trace / lambda_1; NaN for a zero spectrum.
pub fn stable_rank(values: &Tensor) -> Result<Tensor> {
    Ok(trace(values)?.f_div(&spectral_radius(values)?)?)
}

/// lambda_1 / the smallest lambda_i that `rank` counts; NaN for a zero spectrum.
pub fn condition(values: &Tensor) -> Result<Tensor> {
    let infinity = Tensor::f_full([1], f64::INFINITY, (Kind::Double, values.device()))?;
    let smallest = values.f_where_self(&counted(values)?, &infinity)?.min_over(1)?;
    let ratio = spectral_radius(values)?.f_div(&smallest)?;
    // In a zero spectrum none is counted: 0 / infinity is 0, but the ratio is undefined.
    let nan = Tensor::f_full([1], f64::NAN, (Kind::Double, values.device()))?;
    Ok(ratio.f_where_self(&smallest.f_isfinite()?, &nan)?)
}

/// p_i = lambda_i / sum lambda, [B, R']; 0 for a zero spectrum.
fn shares(values: &Tensor) -> Result<Tensor> {
    let total = values.sum_kept([1])?;
    Ok(values.f_div(&total)?.f_nan_to_num(0.0, 0.0, 0.0)?)
}

/// Which lambda_i > 1e-10 lambda_1, [B, R'] bool.
fn counted(values: &Tensor) -> Result<Tensor> {
    Ok(values.f_gt_tensor(&values.f_narrow(1, 0, 1)?.f_mul_scalar(RANK_CUT)?)?)
}

fn sum(values: &Tensor) -> Result<Tensor> {
    values.sum_over([1])
}
