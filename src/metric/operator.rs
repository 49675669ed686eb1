//! A metric as an operator: products with its factor A and with A^T. They come from the factor itself or, if it is too large to hold, from
//! the model's derivatives.

use super::forward::{decoded, encoder_output, latent};
use super::known::Known;
use super::{Metric, MetricKind};
use crate::error::{Result, ensure_shape};
use crate::ffi::memory::peak_bytes;
use crate::jacobian::{Footprint, Mode, Products, Ways};
use crate::model::Posterior;
use crate::model::Vae;
use tch::{Device, Kind, Tensor};

/// Sizes of a factor A at B points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// B.
    pub batch: i64,
    /// Rows of A in these products: R, or more if a small factor cannot be found without forming A.
    pub rows: i64,
    /// D.
    pub dim: i64,
}

/// G = A^T A at B points, known only through products with A.
pub trait Operator {
    /// Sizes of A.
    fn shape(&self) -> Shape;
    /// How many eigenvalues of G can differ from 0 by the shapes.
    fn rank_bound(&self) -> i64;
    /// Kind and device of the products.
    fn options(&self) -> (Kind, Device);
    /// A v for v [B, D, K]: [B, rows, K].
    fn forward(&self, v: &Tensor) -> Result<Tensor>;
    /// A^T u for u [B, rows, K]: [B, D, K].
    fn adjoint(&self, u: &Tensor) -> Result<Tensor>;
    /// G v for v [B, D, K]: [B, D, K].
    fn apply(&self, v: &Tensor) -> Result<Tensor> {
        self.adjoint(&self.forward(v)?)
    }
}

impl Operator for Metric {
    fn shape(&self) -> Shape {
        let (rows, dim) = self.dimensions();
        Shape { batch: self.rows.size()[0], rows, dim }
    }

    fn rank_bound(&self) -> i64 {
        Self::rank_bound(self)
    }

    fn options(&self) -> (Kind, Device) {
        (Kind::Double, self.rows.device())
    }

    fn forward(&self, v: &Tensor) -> Result<Tensor> {
        self.push_forward(v)
    }

    fn adjoint(&self, u: &Tensor) -> Result<Tensor> {
        ensure_shape("covectors for a metric", u, &[self.rows.size()[0], self.dimensions().0, -1])?;
        Ok(self.pull_back(&u.f_transpose(1, 2)?)?.f_transpose(1, 2)?)
    }
}

/// A metric of a model at B points by products with its Jacobians, which are not formed, nor is A.
///
/// The encoder's metrics have the rows of [`Metric`]. For `output` A = J_g J_mu and for `output-stochastic` A = [J_g J_mu; sqrt(diag M)
/// J_sigma], while [`Metric`] has C in place of J_g. Because C^T C = J_g^T J_g, G is the same, but computing C (L x L) needs J_g itself.
#[derive(Debug)]
pub struct MatrixFree {
    /// J of the encoder, or J_g if the metric is the decoder's own.
    pub(super) encoder: Products,
    /// J_g at z = mu(x).
    decoder: Option<Products>,
    /// sqrt(diag M), [B, L, 1], if the metric has it.
    noise: Option<Tensor>,
    /// Factors of the rows of mu and logvar, [B, 2L, 1] f64, if the encoder's output does not contain them.
    pub(super) scales: Option<Tensor>,
    /// Which samples have a code; the others have NaN in every product.
    known: Known,
    latent: i64,
    rank_bound: i64,
}

impl MatrixFree {
    /// The metric of kind `kind` at the images `x` [B, C, H, W]; `ways` says how several vectors are pulled back at once. The diagonal of M
    /// takes L products with the decoder's Jacobian.
    ///
    /// # Errors
    /// If the model cannot take `x`, or has an operation without a second derivative.
    pub fn at(vae: &dyn Vae, x: &Tensor, kind: MetricKind, ways: Ways) -> Result<Self> {
        Self::of(vae, x, kind, ways, |q| encoder_output(q, kind))
    }

    /// [`MatrixFree::at`] with `rows` of the encoder's posterior.
    pub(super) fn of(
        vae: &dyn Vae,
        x: &Tensor,
        kind: MetricKind,
        ways: Ways,
        rows: impl Fn(&Posterior) -> Result<Tensor>,
    ) -> Result<Self> {
        if kind == MetricKind::Decoder {
            let q = tch::no_grad(|| vae.encode(x))?;
            let latent = latent(&q.mean, &q.log_var)?;
            let encoder = decoder(vae, &q.mean, ways)?;
            let (_, rows, dim) = encoder.shape();
            let (known, rank_bound) = (Known::of(&q.mean)?, rows.min(dim));
            return Ok(Self { encoder, decoder: None, noise: None, scales: None, known, latent, rank_bound });
        }
        let x = x.f_detach()?.f_set_requires_grad(true)?;
        let q = vae.encode(&x)?;
        let l = latent(&q.mean, &q.log_var)?;
        let known = Known::of(&q.mean)?;
        let decoder = match kind {
            MetricKind::Output | MetricKind::OutputStochastic => Some(decoder(vae, &q.mean, ways)?),
            MetricKind::Mean | MetricKind::Stochastic | MetricKind::Fisher | MetricKind::Decoder => None,
        };
        let noise = match (&decoder, kind) {
            (Some(g), MetricKind::OutputStochastic) => Some(g.column_squares()?.f_sqrt()?.f_unsqueeze(2)?),
            _ => None,
        };
        let encoder = Products::at(rows(&q)?, x, ways.rows)?;
        let (_, rows, dim) = encoder.shape();
        Ok(Self { encoder, decoder, noise, scales: None, known, latent: l, rank_bound: rows.min(dim) })
    }

    /// The memory of a pass for each sample, from the first of `x` [B, C, H, W] and one vector in each direction, and the sizes of its A;
    /// the memory of what is computed from the products is not included.
    ///
    /// # Errors
    /// As [`MatrixFree::at`].
    pub fn footprint(vae: &dyn Vae, x: &Tensor, kind: MetricKind) -> Result<(Footprint, Shape)> {
        // diag M takes many products, and they determine its memory.
        let noisy = kind == MetricKind::OutputStochastic;
        let kind = if noisy { MetricKind::Output } else { kind };
        let ways = Ways { rows: Mode::Looped, columns: Mode::Looped };
        let (op, once) = peak_bytes(|| Self::at(vae, &x.f_narrow(0, 0, 1)?, kind, ways))?;
        let Shape { batch, rows, dim } = op.shape();
        let vector = |n: i64| Tensor::f_ones([1, n, 1], op.options());
        let (_, forward) = peak_bytes(|| op.forward(&vector(dim)?))?;
        let (_, adjoint) = peak_bytes(|| op.adjoint(&vector(rows)?))?;
        let each = (forward.max(adjoint) as i64 + 2 * (rows + dim) * super::footprint::bytes_of(op.options().0)) as f64;
        let shape = Shape { batch, rows: if noisy { rows + op.latent } else { rows }, dim };
        Ok((Footprint { once: once as f64, row: (each, usize::MAX), column: (each, usize::MAX) }, shape))
    }

    /// O, the rows of J_g; 0 without a decoder.
    fn outputs(&self) -> i64 {
        self.decoder.as_ref().map_or(0, |g| g.shape().1)
    }
}

impl Operator for MatrixFree {
    fn shape(&self) -> Shape {
        let (batch, rows, dim) = self.encoder.shape();
        let rows = if self.decoder.is_some() { self.outputs() + rows - self.latent } else { rows };
        Shape { batch, rows, dim }
    }

    fn rank_bound(&self) -> i64 {
        self.rank_bound
    }

    fn options(&self) -> (Kind, Device) {
        let (kind, device) = self.encoder.options();
        (if self.scales.is_some() { Kind::Double } else { kind }, device)
    }

    fn forward(&self, v: &Tensor) -> Result<Tensor> {
        let code = self.encoder.push(v)?;
        let Some(decoder) = &self.decoder else {
            return self.known.times(&self.scaled(&code, 0, code.size()[1])?);
        };
        let image = decoder.push(&code.f_narrow(1, 0, self.latent)?)?;
        match &self.noise {
            None => self.known.times(&image),
            Some(noise) => {
                let sigma = self.scaled(&code.f_narrow(1, self.latent, self.latent)?, self.latent, self.latent)?;
                let sigma = sigma.f_mul(&noise.f_to_kind(sigma.kind())?)?;
                self.known.times(&Tensor::f_cat(&[self.scaled(&image, 0, 1)?, sigma], 1)?)
            }
        }
    }

    fn adjoint(&self, u: &Tensor) -> Result<Tensor> {
        let Some(decoder) = &self.decoder else {
            return self.known.times(&self.pull(&self.scaled(u, 0, u.size()[1])?)?);
        };
        let Shape { batch, rows, .. } = self.shape();
        ensure_shape("covectors for a metric", u, &[batch, rows, -1])?;
        let code = decoder.pull(&u.f_narrow(1, 0, self.outputs())?)?;
        match &self.noise {
            None => self.known.times(&self.encoder.pull(&code)?),
            Some(noise) => {
                let code = self.scaled(&code, 0, 1)?;
                let sigma = u.f_narrow(1, self.outputs(), self.latent)?.f_mul(noise)?;
                let sigma = self.scaled(&sigma, self.latent, self.latent)?.f_to_kind(code.kind())?;
                self.known.times(&self.pull(&Tensor::f_cat(&[code, sigma], 1)?)?)
            }
        }
    }
}

/// J_g at z = mu.
fn decoder(vae: &dyn Vae, mean: &Tensor, ways: Ways) -> Result<Products> {
    let (image, z) = decoded(vae, mean)?;
    Products::at(image, z, ways.columns)
}
