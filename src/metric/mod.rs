//! Pullback metrics G(x), each held as a factor A with G = A^T A; the D x D matrix is never formed.
//!
//! Source: Khan & Storkey 2023, eqs. for the stochastic pullback metric; docs/mathematics.md derives each.
//! What tells one metric from another is only which rows A has; everything downstream sees rows.

mod independence;
mod operator;

pub use independence::ensure_independent;
pub use operator::{MatrixFree, Operator, Shape};

use crate::error::{Error, Result};
use crate::jacobian::{self, Reach, Ways};
use crate::model::Vae;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// Which pullback metric.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum MetricKind {
    /// J_mu^T J_mu; A = J_mu, R = L.
    Mean,
    /// J_mu^T J_mu + J_sigma^T J_sigma = E_eps[J_eps^T J_eps]; A = [J_mu; J_sigma], R = 2L.
    #[default]
    Stochastic,
    /// J_mu^T diag(1/sigma^2) J_mu + 1/2 J_logvar^T J_logvar; KL(q_x || q_{x+d}) ~ 1/2 d^T G d. R = 2L.
    Fisher,
    /// J_mu^T M J_mu with M = J_g^T J_g at z = mu(x): the metric of x -> g(mu(x)). R = L.
    Output,
    /// J_mu^T M J_mu + J_sigma^T diag(diag M) J_sigma. R = 2L.
    OutputStochastic,
}

impl MetricKind {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 5] = [Self::Mean, Self::Stochastic, Self::Fisher, Self::Output, Self::OutputStochastic];

    /// Its name in commands and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Stochastic => "stochastic",
            Self::Fisher => "fisher",
            Self::Output => "output",
            Self::OutputStochastic => "output-stochastic",
        }
    }

    /// R, the rows of its factor, for L latents.
    pub fn rows(self, latent: i64) -> i64 {
        match self {
            Self::Mean | Self::Output => latent,
            Self::Stochastic | Self::Fisher | Self::OutputStochastic => 2 * latent,
        }
    }

    /// Which Jacobians it needs.
    pub fn reach(self) -> Reach {
        match self {
            Self::Mean | Self::Stochastic | Self::Fisher => Reach::Encoder,
            Self::Output | Self::OutputStochastic => Reach::EncoderAndDecoder,
        }
    }
}

impl std::fmt::Display for MetricKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A pullback metric at B points, as the factor A [B, R, D] in double precision with G = A^T A.
#[derive(Debug)]
pub struct Metric {
    factor: Tensor,
}

impl Metric {
    /// The metric of kind `kind` at the images `x` [B, C, H, W]; `ways` says how the Jacobians are taken.
    ///
    /// # Errors
    /// Where the model cannot take `x`, or its Jacobian is not finite.
    pub fn at(vae: &dyn Vae, x: &Tensor, kind: MetricKind, ways: Ways) -> Result<Self> {
        let x = x.f_detach()?.f_set_requires_grad(true)?;
        let q = vae.encode(&x)?;
        let l = latent(&q.mean, &q.log_var)?;
        let factor = match kind {
            MetricKind::Mean => jacobian::rows(&q.mean, &x, ways.rows)?,
            MetricKind::Stochastic => jacobian::rows(&Tensor::f_cat(&[&q.mean, &q.std()?], 1)?, &x, ways.rows)?,
            MetricKind::Fisher => {
                // 1/sigma and 1/sqrt(2) are factors of the rows, held fixed: they are not differentiated.
                let whitened = q.mean.f_div(&q.std()?.f_detach()?)?;
                let scaled = q.log_var.f_mul_scalar(std::f64::consts::FRAC_1_SQRT_2)?;
                jacobian::rows(&Tensor::f_cat(&[&whitened, &scaled], 1)?, &x, ways.rows)?
            }
            MetricKind::Output => {
                let j_g = decoder_jacobian(vae, &q.mean, ways)?;
                through(&j_g, &jacobian::rows(&q.mean, &x, ways.rows)?)?
            }
            MetricKind::OutputStochastic => {
                let j_g = decoder_jacobian(vae, &q.mean, ways)?;
                let rows = jacobian::rows(&Tensor::f_cat(&[&q.mean, &q.std()?], 1)?, &x, ways.rows)?;
                // diag M: the squared length of each column of J_g.
                let scale = j_g.f_square()?.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Double)?.f_sqrt()?;
                let noise = rows.f_narrow(1, l, l)?.f_mul(&scale.f_unsqueeze(2)?)?;
                Tensor::f_cat(&[&through(&j_g, &rows.f_narrow(1, 0, l)?)?, &noise], 1)?
            }
        };
        Ok(Self { factor })
    }

    /// A metric from its factor A [B, R, D].
    pub fn from_factor(factor: Tensor) -> Result<Self> {
        crate::error::ensure_shape("factor of a metric", &factor, &[-1, -1, -1])?;
        Ok(Self { factor: factor.f_to_kind(Kind::Double)? })
    }

    /// A, [B, R, D].
    pub fn factor(&self) -> &Tensor {
        &self.factor
    }

    /// min(R, D): how many eigenvalues are reported.
    pub fn rank_bound(&self) -> i64 {
        let size = self.factor.size();
        size[1].min(size[2])
    }

    /// G v for v [B, D, K]: [B, D, K], by two products with the factor.
    pub fn apply(&self, v: &Tensor) -> Result<Tensor> {
        let size = self.factor.size();
        crate::error::ensure_shape("vectors for a metric", v, &[size[0], size[2], -1])?;
        let v = v.f_to_kind(Kind::Double)?;
        Ok(self.factor.f_transpose(1, 2)?.f_bmm(&self.factor.f_bmm(&v)?)?)
    }

    /// The Gram matrix A A^T, [B, R, R] in double precision. It has G's nonzero eigenvalues.
    pub fn gram(&self) -> Result<Tensor> {
        Ok(self.factor.f_bmm(&self.factor.f_transpose(1, 2)?)?)
    }
}

/// The decoder's Jacobian at z = mu, [B, O, L].
fn decoder_jacobian(vae: &dyn Vae, mean: &Tensor, ways: Ways) -> Result<Tensor> {
    let z = mean.f_detach()?.f_set_requires_grad(true)?;
    let image = vae.decode(&z)?;
    if image.size().first() != z.size().first() {
        return Err(Error::request(
            "shape of the decoder's output",
            format!("[{}, ...], one image a code", z.size()[0]),
            format!("{:?}", image.size()),
        ));
    }
    jacobian::columns(&image.f_flatten(1, -1)?, &z, ways.columns)
}

/// C J_mu with C^T C = J_g^T J_g, [B, L, D]: C is the triangle of J_g's QR factorisation, which is as accurate as J_g
/// itself, where a square root of M loses half the digits (and Cholesky fails on a singular M).
fn through(j_g: &Tensor, j_mu: &Tensor) -> Result<Tensor> {
    let (_, c) = Tensor::f_linalg_qr(j_g, "r")?;
    let product = c.f_bmm(j_mu)?;
    // Fewer outputs than latents: C has fewer rows than L. Zero rows keep R = L and change no eigenvalue.
    let missing = j_mu.size()[1] - product.size()[1];
    if missing > 0 { Ok(product.f_constant_pad_nd([0, 0, 0, missing])?) } else { Ok(product) }
}

/// L, checked to be the same for both halves of the posterior.
fn latent(mean: &Tensor, log_var: &Tensor) -> Result<i64> {
    crate::error::ensure_shape("mu", mean, &[-1, -1])?;
    crate::error::ensure_shape("logvar", log_var, &mean.size())?;
    Ok(mean.size()[1])
}
