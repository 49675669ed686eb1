//! Pullback metrics G(x), each held as a factor A with G = A^T A; the D x D matrix is never formed.
//!
//! Source: Khan & Storkey 2023, eqs. for the stochastic pullback metric; docs/mathematics.md derives each.
//! Metrics differ only in the rows of A; all later steps see only rows.

mod footprint; // the memory of a pass
mod forward; //   what is differentiated
mod independence;
mod kind;
mod known; //    samples without a code
mod operator;
mod scales; //   variances beyond the precision of the pass
mod stem; // encoders that begin with a linear map

pub use independence::ensure_independent;
pub use kind::MetricKind;
pub use operator::{MatrixFree, Operator, Shape};
pub use stem::StemCache;

use crate::error::Result;
use crate::ffi::{By, kernels};
use crate::jacobian::{self, Ways};
use crate::linalg;
use crate::model::Vae;
use crate::ops::Reduce;
use forward::{Forward, decoder_jacobian, latent, triangle, weighted};
use known::Known;
use tch::{Device, Kind, Tensor};

/// A pullback metric at B points, as a factor A [B, R, D] with G = A^T A.
///
/// A is kept as T J Q^T: Jacobian rows J in the precision of the model's pass, their weights T, a small matrix in double, and Q, the
/// orthonormal columns that span the rows if the encoder begins with a linear map ([`StemCache`]). All later steps are done in double (rank
/// and log-determinant are lost in single), but J in double is formed only for a few samples at a time (on a CPU they stay in cache, and
/// the pass takes half the memory), and T is applied to small matrices.
#[derive(Debug)]
pub struct Metric {
    /// J, [B, P, D], or [B, P, H] if there is a basis.
    rows: Tensor,
    /// T, [B, R, P] f64; the identity if absent.
    weights: Option<Tensor>,
    /// Q^T, [H, D] f64 with orthonormal rows; the identity if absent.
    basis: Option<Tensor>,
    /// Which samples have a code. The others have NaN in all that is computed from J.
    known: Known,
}

/// Bytes of J in double that are formed at a time on a CPU: a core's second-level cache holds them.
const CPU_PIECE: i64 = 2 << 20;
/// The same on an accelerator: enough to fill it, and small compared with its memory.
const DEVICE_PIECE: i64 = 1 << 30;

impl Metric {
    /// The metric of kind `kind` at the images `x` [B, C, H, W]; `ways` says how the Jacobians are computed.
    ///
    /// # Errors
    /// If the model cannot take `x`, or its Jacobian is not finite.
    pub fn at(vae: &dyn Vae, x: &Tensor, kind: MetricKind, ways: Ways) -> Result<Self> {
        Self::through(vae, x, kind, ways, None)
    }

    /// [`Metric::at`] through the linear map with which the encoder begins, if it begins with one: fewer operations, and the same metric.
    /// `stem` keeps that map's factors between calls.
    ///
    /// # Errors
    /// As [`Metric::at`].
    pub fn behind(vae: &dyn Vae, x: &Tensor, kind: MetricKind, ways: Ways, stem: &mut StemCache) -> Result<Self> {
        Self::through(vae, x, kind, ways, Some(stem))
    }

    fn through(vae: &dyn Vae, x: &Tensor, kind: MetricKind, ways: Ways, stem: Option<&mut StemCache>) -> Result<Self> {
        if kind == MetricKind::Decoder {
            let q = tch::no_grad(|| vae.encode(x))?;
            let l = latent(&q.mean, &q.log_var)?;
            let known = Known::of(&q.mean)?;
            return Ok(Self { known, ..Self::from_factor(triangle(&decoder_jacobian(vae, &q.mean, ways)?, l)?)? });
        }
        Self::pulled(Forward::of(vae, x, kind, ways)?, ways, stem)
    }

    /// The Gram matrices [B, R, R] f64 of [`Metric::behind`], and min(R, D): where nothing else is wanted, J need not exist as a whole.
    ///
    /// # Errors
    /// As [`Metric::at`].
    pub fn gram_behind(
        vae: &dyn Vae,
        x: &Tensor,
        kind: MetricKind,
        ways: Ways,
        stem: &mut StemCache,
    ) -> Result<(Tensor, i64)> {
        let metric = if kind == MetricKind::Decoder {
            Self::at(vae, x, kind, ways)?
        } else {
            let forward = Forward::of(vae, x, kind, ways)?;
            if let Some(found) = forward.gram(ways, stem)? {
                return Ok(found);
            }
            Self::pulled(forward, ways, Some(stem))?
        };
        Ok((metric.gram()?, metric.rank_bound()))
    }

    /// By the rows of the Jacobian.
    fn pulled(forward: Forward, ways: Ways, stem: Option<&mut StemCache>) -> Result<Self> {
        let Forward { x, output, weights, known } = forward;
        let factors = stem.map(|stem| stem.factors(&output, &x)).transpose()?.flatten();
        let Some((triangle, basis)) = factors else {
            return Ok(Self { rows: jacobian::rows(&output, &x, ways.rows)?, weights, basis: None, known });
        };
        // The rows are a view of [P, B, H]; multiplied in this order, they form one large matrix.
        let rows = jacobian::rows_by(By::Stem, &output, &x, ways.rows)?.f_transpose(0, 1)?;
        Ok(Self { rows: stem::times(&rows, &triangle)?.f_transpose(0, 1)?, weights, basis: Some(basis), known })
    }

    /// A metric from its factor A [B, R, D].
    pub fn from_factor(factor: Tensor) -> Result<Self> {
        crate::error::ensure_shape("factor of a metric", &factor, &[-1, -1, -1])?;
        Ok(Self { rows: factor, weights: None, basis: None, known: Known::default() })
    }

    /// A, [B, R, D] f64, formed whole.
    pub fn factor(&self) -> Result<Tensor> {
        let made = self.by_pieces(|j, at| {
            let a = match self.weights_at(at)? {
                None => j.f_detach_copy()?,
                Some(t) => t.f_bmm(j)?,
            };
            self.widened(a)
        })?;
        self.if_known(made)
    }

    /// J, [B, P, D] or [B, P, H], contiguous and in the model's precision. Samples without a code are not marked in it, since it may share
    /// its memory with the model's tensors; what is computed from it is marked.
    pub fn jacobian(&self) -> Result<Tensor> {
        Ok(self.rows.f_contiguous()?)
    }

    /// True if A is J; J then has the Gram matrix of A.
    pub fn is_jacobian(&self) -> bool {
        self.weights.is_none()
    }

    /// B.
    pub fn samples(&self) -> i64 {
        self.rows.size()[0]
    }

    /// The device that holds it.
    pub fn device(&self) -> Device {
        self.rows.device()
    }

    /// min(R, D): how many eigenvalues are reported.
    pub fn rank_bound(&self) -> i64 {
        let (r, d) = self.dimensions();
        r.min(d)
    }

    /// G v for v [B, D, K]: [B, D, K] f64, by two products with the factor.
    pub fn apply(&self, v: &Tensor) -> Result<Tensor> {
        crate::error::ensure_shape("vectors for a metric", v, &[self.rows.size()[0], self.dimensions().1, -1])?;
        let u = self.push_forward(v)?;
        Ok(self.pull_back(&u.f_transpose(1, 2)?)?.f_transpose(1, 2)?)
    }

    /// A v for v [B, D, K]: [B, R, K] f64.
    pub fn push_forward(&self, v: &Tensor) -> Result<Tensor> {
        crate::error::ensure_shape("vectors for a metric", v, &[self.rows.size()[0], self.dimensions().1, -1])?;
        let v = self.narrowed(v)?;
        let pushed = self.by_pieces(|j, at| {
            let u = j.f_bmm(&v.f_narrow(0, at.0, at.1)?)?;
            Ok(match self.weights_at(at)? {
                None => u,
                Some(t) => t.f_bmm(&u)?,
            })
        })?;
        self.if_known(pushed)
    }

    /// A^T u for K vectors of R numbers for each sample, u [B, K, R]: [B, K, D] f64.
    pub fn pull_back(&self, u: &Tensor) -> Result<Tensor> {
        crate::error::ensure_shape("vectors to pull back", u, &[self.rows.size()[0], -1, self.dimensions().0])?;
        let u = self.if_known(u.f_to_kind(Kind::Double)?)?;
        let made = self.by_pieces(|j, at| {
            let u = u.f_narrow(0, at.0, at.1)?;
            Ok(match self.weights_at(at)? {
                None => u.f_bmm(j)?,
                Some(t) => u.f_bmm(&t)?.f_bmm(j)?,
            })
        })?;
        self.widened(made)
    }

    /// The Gram matrix A A^T, [B, R, R] in double precision. It has G's nonzero eigenvalues.
    pub fn gram(&self) -> Result<Tensor> {
        let device = self.device();
        // The kernel and the host's routine convert to double themselves.
        let gram = match (self.rows.kind(), device) {
            (Kind::Float, Device::Cuda(_)) if kernels::run_on(device) => kernels::gram(&self.rows)?,
            (Kind::Float, Device::Cpu) => linalg::gram(&self.rows)?,
            _ => self.by_pieces(|j, _| Ok(j.f_bmm(&j.f_transpose(1, 2)?)?))?,
        };
        self.if_known(weighted(gram, self.weights.as_ref())?)
    }

    /// 1/2 ln diag G, [B, D] f64: the logarithm of how far the output moves when one coordinate alone moves; -inf if it does not move. It
    /// forms the whole factor, which is small if D is the number of latents.
    ///
    /// # Errors
    /// If libtorch fails.
    pub fn log_lengths(&self) -> Result<Tensor> {
        Ok(self.factor()?.f_square()?.sum_over([1])?.f_log()?.f_mul_scalar(0.5)?)
    }

    /// (R, D).
    pub fn dimensions(&self) -> (i64, i64) {
        let size = self.rows.size();
        let dim = self.basis.as_ref().map_or(size[2], |q| q.size()[1]);
        (self.weights.as_ref().map_or(size[1], |t| t.size()[1]), dim)
    }

    /// Q^T v in double for v [B, D, K].
    fn narrowed(&self, v: &Tensor) -> Result<Tensor> {
        let v = v.f_to_kind(Kind::Double)?;
        match &self.basis {
            None => Ok(v),
            Some(basis) => Ok(basis.f_matmul(&v)?),
        }
    }

    /// [..., K, H] times Q^T, if there is one.
    fn widened(&self, rows: Tensor) -> Result<Tensor> {
        match &self.basis {
            None => Ok(rows),
            Some(basis) => Ok(rows.f_matmul(basis)?),
        }
    }

    /// `values` [B, *, *] with NaN for the samples without a code.
    pub(crate) fn if_known(&self, values: Tensor) -> Result<Tensor> {
        self.known.times(&values)
    }

    /// T for a piece of the batch.
    fn weights_at(&self, (first, count): (i64, i64)) -> Result<Option<Tensor>> {
        self.weights.as_ref().map(|t| Ok(t.f_narrow(0, first, count)?)).transpose()
    }

    /// Joins `work(J, (first, count))` over pieces of the batch; J [count, P, D] or [count, P, H] f64 exists only during that call.
    fn by_pieces(&self, work: impl Fn(&Tensor, (i64, i64)) -> Result<Tensor>) -> Result<Tensor> {
        let (batch, p, d) = self.rows.size3()?;
        let bytes = if self.rows.device().is_cuda() { DEVICE_PIECE } else { CPU_PIECE };
        let most = (bytes / (8 * p * d).max(1)).max(1);
        // The pieces have equal sizes, because threads share a piece by samples.
        let pieces = ((batch + most - 1) / most).max(1);
        let most = ((batch + pieces - 1) / pieces).max(1);
        let room = Tensor::f_empty([most.min(batch), p, d], (Kind::Double, self.rows.device()))?;
        let mut done = Vec::new();
        let mut first = 0;
        while first < batch || done.is_empty() {
            let count = most.min(batch - first);
            let mut rows = room.f_narrow(0, 0, count)?;
            rows.f_copy_(&self.rows.f_narrow(0, first, count)?)?;
            done.push(work(&rows, (first, count))?);
            first += count;
        }
        match <[Tensor; 1]>::try_from(done) {
            Ok([whole]) => Ok(whole),
            Err(pieces) => Ok(Tensor::f_cat(&pieces, 0)?),
        }
    }
}
