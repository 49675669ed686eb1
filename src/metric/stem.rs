//! Computes metrics in fewer numbers if the encoder begins with a linear map to fewer numbers than an image has pixels.
//!
//! With h = M^T x + c, M [D, H] and H < D, every Jacobian is J_x = J_h M^T, and with the QR factorisation M = Q C^T, Q
//! [D, H] with orthonormal columns, J_x = (J_h C) Q^T. So J_h C [R, H] has the same Gram matrix and the same eigenvalues,
//! as accurately as J_x itself, and Q takes its eigenvectors back to images. The last and usually largest product of the
//! backward pass is one with C in place of M^T, and all that follows is H wide.

use crate::error::Result;
use crate::ffi;
use crate::linalg;
use tch::{Kind, Tensor};

/// A stem wider than this share of the pixels saves too little.
const WORTH: f64 = 0.9;

/// The factors of one model's M.
#[derive(Debug)]
struct Stem {
    /// M as it was factored; while it is held, no other tensor can get its memory.
    map: Tensor,
    version: i64,
    /// C [H, H], in the kind of M.
    triangle: Tensor,
    /// Q^T [H, D] f64.
    basis: Tensor,
}

impl Stem {
    fn new(map: Tensor, version: i64) -> Result<Self> {
        let (q, r) = linalg::thin_qr(&map.f_to_kind(Kind::Double)?)?;
        let triangle = r.f_transpose(0, 1)?.f_to_kind(map.kind())?.f_contiguous()?;
        Ok(Self { triangle, basis: q.f_transpose(0, 1)?.f_contiguous()?, map, version })
    }

    fn is_of(&self, map: &Tensor, version: i64) -> bool {
        self.map.data_ptr() == map.data_ptr()
            && self.version == version
            && self.map.size() == map.size()
            && self.map.stride() == map.stride()
    }
}

/// Keeps the factors of the stem that was last seen, so that each model's stem is factored once.
#[derive(Debug, Default)]
pub struct StemCache {
    known: Option<Stem>,
    factored: u32,
}

/// A model that computes its weights again in every pass (by a cast, a normalisation) would need a factorisation in each pass, which costs
/// more than it saves: after this many factorisations its stem is not used.
const MOST: u32 = 8;

impl StemCache {
    /// C [H, H] and Q^T [H, D] f64 of the graph from `x` to `output`; `None` if the graph begins in another way or H is not much smaller
    /// than D.
    pub(super) fn factors(&mut self, output: &Tensor, x: &Tensor) -> Result<Option<(Tensor, Tensor)>> {
        let Some((map, version)) = ffi::stem(output, x)? else {
            return Ok(None);
        };
        let size = map.size();
        if size[1] as f64 > WORTH * size[0] as f64 {
            return Ok(None);
        }
        let stem = match self.known.take() {
            Some(known) if known.is_of(&map, version) => known,
            _ if self.factored == MOST => return Ok(None),
            _ => {
                self.factored += 1;
                Stem::new(map, version)?
            }
        };
        let factors = (stem.triangle.shallow_clone(), stem.basis.shallow_clone());
        self.known = Some(stem);
        Ok(Some(factors))
    }
}

/// Column blocks of a product with a triangle: each leaves out the rows that are zero in it, together 3/8 of the work.
const BLOCKS: i64 = 4;
/// A triangle of a lower order is multiplied as a whole.
const LEAST: i64 = 128;

/// J C for rows J [..., H], contiguous, and the lower triangle C [H, H].
pub(super) fn times(rows: &Tensor, triangle: &Tensor) -> Result<Tensor> {
    let order = triangle.size()[0];
    if order < LEAST {
        return Ok(rows.f_matmul(triangle)?);
    }
    let flat = rows.f_reshape([-1, order])?;
    let product = flat.f_empty_like()?;
    for block in 0..BLOCKS {
        let (first, end) = (order * block / BLOCKS, order * (block + 1) / BLOCKS);
        let factor = triangle.f_narrow(0, first, order - first)?.f_narrow(1, first, end - first)?;
        let target = product.f_narrow(1, first, end - first)?;
        let _ = flat.f_narrow(1, first, order - first)?.f_mm_out(&target, &factor)?;
    }
    Ok(product.f_view_as(rows)?)
}
