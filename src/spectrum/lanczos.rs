//! Block Lanczos with full re-orthogonalisation; every sample has its own Krylov space, and one batched pass serves all.
//!
//! Source: Golub & Underwood 1977 (block Lanczos); Golub & Van Loan, 4th edition, 10.3.
//! Differs: the projected matrix is the Gram matrix of the images A V of the basis, not the recurrence's coefficients, so that an
//! eigenvalue 0 is computed as about u^2 lambda_1 and not u lambda_1 (u is the precision of the products; the same reason as for the Gram
//! matrix of a factor), and a basis that was filled up stays correct.

use crate::error::Result;
use crate::metric::Operator;
use crate::ops::Reduce;
use tch::{Device, Kind, Tensor};

/// The side of A on which the Krylov space lies. The nonzero eigenvalues of A^T A and A A^T are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// R^D: H = A^T A.
    Domain,
    /// R^rows: H = A A^T.
    Rows,
}

impl Side {
    /// The smaller side: its basis is stored in double and re-orthogonalised, and with fewer dimensions there are fewer zeros beside the
    /// eigenvalues that count.
    pub fn smaller(op: &dyn Operator) -> Self {
        let shape = op.shape();
        if shape.rows < shape.dim { Self::Rows } else { Self::Domain }
    }

    /// n, the dimension of the side.
    pub fn width(self, op: &dyn Operator) -> i64 {
        match self {
            Self::Domain => op.shape().dim,
            Self::Rows => op.shape().rows,
        }
    }

    /// From this side to the other: A or A^T.
    pub fn over(self, op: &dyn Operator, v: &Tensor) -> Result<Tensor> {
        match self {
            Self::Domain => op.forward(v),
            Self::Rows => op.adjoint(v),
        }
    }

    /// From the other side to this one.
    pub fn back(self, op: &dyn Operator, w: &Tensor) -> Result<Tensor> {
        match self {
            Self::Domain => op.adjoint(w),
            Self::Rows => op.forward(w),
        }
    }
}

/// A growing Krylov space of H = X^T X at B points, where X is A or A^T, and its next block.
pub(super) struct Space<'a> {
    op: &'a dyn Operator,
    side: Side,
    /// Orthonormal vectors as rows, [B, most, n] f64; the first `size` are set.
    basis: Tensor,
    /// Their images under X, [B, most, N], in the precision of the products.
    images: Tensor,
    /// V^T H V of the first `weighed` vectors, [B, most, most] f64.
    gram: Tensor,
    /// The block that is not in the space yet, as rows [B, w, n].
    next: Tensor,
    /// The part of H V's last block that lies outside the space: [B, w, w], its lengths as R of a QR factorisation.
    outside: Tensor,
    /// The probes in the first block, [B, b, b]: Z = V_1 start.
    start: Tensor,
    most: i64,
    size: i64,
    weighed: i64,
}

/// Ritz pairs of H: the space's approximations of its eigenpairs.
pub(super) struct Ritz {
    /// [B, M] f64, descending, >= 0.
    pub values: Tensor,
    /// Coordinates in the basis, [B, M, M], in columns.
    pub vectors: Tensor,
    /// |H v - theta v| by the recurrence, [B, M].
    pub residuals: Tensor,
    /// `[B]` bool: the sample's products are not finite, so its pairs are invalid.
    pub broken: Option<Tensor>,
}

/// Coordinates of the other side that are converted to double at a time.
pub(super) const STRIP: i64 = 4096;

impl<'a> Space<'a> {
    /// An empty space for `probes` [B, n, b] f64, with room for `most` vectors (<= n).
    pub fn new(op: &'a dyn Operator, side: Side, probes: &Tensor, most: i64) -> Result<Self> {
        let shape = op.shape();
        let n = side.width(op);
        let (kind, device) = op.options();
        let (first, start) = Tensor::f_linalg_qr(probes, "reduced")?;
        let other = if side == Side::Domain { shape.rows } else { shape.dim };
        let double = (Kind::Double, device);
        Ok(Self {
            op,
            side,
            basis: Tensor::f_zeros([shape.batch, most, n], double)?,
            images: Tensor::f_zeros([shape.batch, most, other], (kind, device))?,
            gram: Tensor::f_zeros([shape.batch, most, most], double)?,
            outside: start.f_zeros_like()?,
            next: first.f_transpose(1, 2)?,
            start,
            most,
            size: 0,
            weighed: 0,
        })
    }

    /// M, the number of vectors in the space.
    pub fn size(&self) -> i64 {
        self.size
    }

    /// The probes' coordinates in the basis, [B, b, b]; those in later vectors are 0.
    pub fn start(&self) -> &Tensor {
        &self.start
    }

    /// Adds the next block; false if there is no room for a further one.
    pub fn extend(&mut self) -> Result<bool> {
        let n = self.basis.size()[2];
        let width = self.next.size()[1];
        self.basis.f_narrow(1, self.size, width)?.f_copy_(&self.next)?;
        let image = self.side.over(self.op, &self.next.f_transpose(1, 2)?)?;
        self.images.f_narrow(1, self.size, width)?.f_copy_(&image.f_transpose(1, 2)?)?;
        self.size += width;
        if self.size == n {
            self.outside = self.outside.f_zeros_like()?.f_narrow(2, 0, width)?;
            return Ok(false);
        }
        let back = self.side.back(self.op, &image)?.f_to_kind(Kind::Double)?;
        let (q, outside) = Tensor::f_linalg_qr(&self.project_off(&back)?, "reduced")?;
        self.outside = outside;
        let width = width.min(self.most - self.size);
        if width == 0 {
            return Ok(false);
        }
        // If the space is exhausted, the remainder is rounding or zero, and the vectors that QR fills in need not be orthogonal to the
        // space.
        let (q, _) = Tensor::f_linalg_qr(&self.project_off(&q.f_narrow(2, 0, width)?)?, "reduced")?;
        self.next = q.f_transpose(1, 2)?.f_contiguous()?;
        Ok(true)
    }

    /// The part of x [B, n, K] that is orthogonal to the space: Gram-Schmidt, twice.
    fn project_off(&self, x: &Tensor) -> Result<Tensor> {
        project_off(&self.basis.f_narrow(1, 0, self.size)?, x)
    }

    /// The Ritz pairs of the present space.
    pub fn ritz(&mut self) -> Result<Ritz> {
        self.weigh()?;
        let size = self.size;
        let gram = self.gram.f_narrow(1, 0, size)?.f_narrow(2, 0, size)?;
        let (gram, broken) = super::mended(&gram)?;
        let (values, vectors) = gram.f_linalg_eigh("L")?;
        let vectors = vectors.f_flip([-1])?;
        // H V = V T + Q R e_last^T: only the last block's share of H V y leaves the space.
        let width = self.outside.size()[2];
        let leaving = self.outside.f_bmm(&vectors.f_narrow(1, size - width, width)?)?;
        Ok(Ritz {
            values: super::descending(&values, size)?,
            vectors,
            residuals: length(&leaving, 1)?.f_squeeze_dim(1)?,
            broken,
        })
    }

    /// Updates the Gram matrix of the images.
    fn weigh(&mut self) -> Result<()> {
        let (old, size) = (self.weighed, self.size);
        let mut corner = self.gram.f_narrow(2, old, size - old)?.f_narrow(1, 0, size)?;
        let _ = corner.f_fill_(0.0)?;
        self.for_each_strip(|strip| {
            let strip = strip.f_narrow(1, 0, size)?;
            let _ = corner.f_baddbmm_(&strip, &strip.f_narrow(1, old, size - old)?.f_transpose(1, 2)?)?;
            Ok(())
        })?;
        let mut mirror = self.gram.f_narrow(1, old, size - old)?.f_narrow(2, 0, size)?;
        // A copy is made first, because the two share their diagonal block.
        mirror.f_copy_(&corner.f_transpose(1, 2)?.f_contiguous()?)?;
        self.weighed = size;
        Ok(())
    }

    /// The images [B, most, N] in double, some columns at a time: all at once would need twice their memory in addition.
    fn for_each_strip(&self, mut take: impl FnMut(&Tensor) -> Result<()>) -> Result<()> {
        let width = self.images.size()[2];
        let mut first = 0;
        while first < width {
            let count = STRIP.min(width - first);
            take(&self.images.f_narrow(2, first, count)?.f_to_kind(Kind::Double)?)?;
            first += count;
        }
        Ok(())
    }

    /// Vectors of this side with coordinates `y` [B, most, K]: rows [B, K, n] f64.
    pub fn vectors(&self, y: &Tensor) -> Result<Tensor> {
        Ok(y.f_transpose(1, 2)?.f_bmm(&self.basis)?)
    }

    /// Their images on the other side: rows [B, K, N] f64.
    pub fn images(&self, y: &Tensor) -> Result<Tensor> {
        let y = y.f_transpose(1, 2)?;
        let mut parts = Vec::new();
        self.for_each_strip(|strip| {
            parts.push(y.f_bmm(strip)?);
            Ok(())
        })?;
        Ok(Tensor::f_cat(&parts, 2)?)
    }

    /// |X z|^2 / |z|^2 for the part of each column of `probes` [B, n, P] outside the vectors that `kept` [B, most] (1 or 0) marks: \[B, P\]
    /// f64; 0 if nothing lies outside.
    pub fn outside_quotients(&self, probes: &Tensor, kept: &Tensor) -> Result<Tensor> {
        let basis = self.basis.f_mul(&kept.f_unsqueeze(2)?)?;
        let z = project_off(&basis, probes)?;
        let z = z.f_div(&length(&z, 1)?.f_clamp_min(f64::MIN_POSITIVE)?)?;
        let image = self.side.over(self.op, &z)?.f_to_kind(Kind::Double)?;
        Ok(length(&image, 1)?.f_squeeze_dim(1)?.f_square()?)
    }
}

/// x [B, n, K] minus its part in the span of orthonormal rows [B, M, n], subtracted twice: once is not enough, twice is (Parlett, The
/// symmetric eigenvalue problem, 6.9).
fn project_off(rows: &Tensor, x: &Tensor) -> Result<Tensor> {
    let mut x = x.shallow_clone();
    for _ in 0..2 {
        x = x.f_sub(&rows.f_transpose(1, 2)?.f_bmm(&rows.f_bmm(&x)?)?)?;
    }
    Ok(x)
}

/// Euclidean length along `axis`, which is kept with length 1.
pub(super) fn length(x: &Tensor, axis: i64) -> Result<Tensor> {
    Ok(x.f_square()?.sum_kept([axis])?.f_sqrt()?)
}

/// Zeros appended along the axes `axes`, up to `most` entries each.
pub(super) fn padded(x: &Tensor, axes: usize, most: i64) -> Result<Tensor> {
    let size = x.size();
    let missing: Vec<i64> = size.iter().rev().take(axes).flat_map(|n| [0, most - n]).collect();
    Ok(x.f_constant_pad_nd(missing)?)
}

/// f64 zeros on `device`.
pub(super) fn zeros(size: &[i64], device: Device) -> Result<Tensor> {
    Ok(Tensor::f_zeros(size, (Kind::Double, device))?)
}
