//! How large a perturbation may be: a norm, its radius epsilon, and the box of the pixels.

use crate::error::{Error, Result, ensure_shape};
use crate::ops::Reduce;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// The excess over the budget, relative to epsilon, that a perturbation may have. It allows for rounding only.
pub const TOLERANCE: f64 = 1e-6;

/// Rounding is corrected where the excess is larger than this, so that [`TOLERANCE`] is kept with a margin.
const ROUNDING: f64 = TOLERANCE / 2.0;

/// How the size of a perturbation is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, strum::Display)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Norm {
    /// Euclidean.
    #[default]
    L2,
    /// Largest change of a pixel.
    Linf,
    /// Sum of the changes of all pixels.
    L1,
}

/// All x' with |x' - x| <= epsilon and every pixel in the box.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// The norm of |x' - x|.
    pub norm: Norm,
    /// Its bound, in pixel units.
    pub epsilon: f64,
    /// Lowest and highest pixel value; `None`: pixels are free.
    pub pixels: Option<(f64, f64)>,
}

impl Budget {
    /// The largest epsilon: squares of single-precision numbers of this size, and their sum over an image, are finite.
    pub const LARGEST: f64 = 1e15;

    /// A checked budget.
    ///
    /// # Errors
    /// If `epsilon` is not a positive number up to [`Budget::LARGEST`] or the box is empty.
    pub fn new(norm: Norm, epsilon: f64, pixels: Option<(f64, f64)>) -> Result<Self> {
        let budget = Self { norm, epsilon, pixels };
        budget.check()?;
        if epsilon > Self::LARGEST {
            return Err(too_large(epsilon));
        }
        Ok(budget)
    }

    /// See [`Budget::new`].
    pub fn check(&self) -> Result<()> {
        if !(self.epsilon.is_finite() && self.epsilon > 0.0) {
            return Err(Error::request("eps (--eps)", "a finite number > 0", self.epsilon.to_string()));
        }
        // Searches look around in balls some times as large.
        if self.epsilon > 16.0 * Self::LARGEST {
            return Err(too_large(self.epsilon));
        }
        match self.pixels {
            Some((low, high)) if !(low.is_finite() && high.is_finite() && low < high) => {
                Err(Error::request("pixel box", "two finite numbers, rising", format!("({low}, {high})")))
            }
            _ => Ok(()),
        }
    }

    /// Size of `x` - `x0` ([B, ...] each) in the budget's norm, `[B]` f64.
    pub fn measure(&self, x0: &Tensor, x: &Tensor) -> Result<Tensor> {
        ensure_shape("the perturbed images", x, &x0.size())?;
        let step = rows(x, Kind::Double)?.f_sub(&rows(x0, Kind::Double)?)?;
        Ok(self.size(&step)?.f_squeeze_dim(1)?)
    }

    /// The direction of unit size along which a linear function of this gradient [B, ...] grows most: g / |g| in L2, sign(g) in Linf, only
    /// the first of the largest entries in L1; 0 where the gradient is 0 or not a number. Same shape and kind.
    pub fn steepest(&self, gradient: &Tensor) -> Result<Tensor> {
        let g = gradient.f_nan_to_num(0.0, 0.0, 0.0)?;
        match self.norm {
            Norm::Linf => Ok(g.f_sign()?),
            Norm::L2 => {
                // The gradient is divided by its largest entry first, so that squares of tiny gradients do not underflow.
                let g = rows(&g, gradient.kind())?;
                let peak = g.f_abs()?.max_kept(1)?;
                let g = g.f_div(&peak.f_masked_fill(&peak.f_eq(0.0)?, 1.0)?)?;
                let length = g.norm_kept(2, 1)?.f_clamp_min(1.0)?;
                Ok(g.f_div(&length)?.f_view_as(gradient)?)
            }
            Norm::L1 => {
                let g = rows(&g, gradient.kind())?;
                let place = g.f_abs()?.f_argmax(-1, true)?;
                let sign = g.f_gather(-1, &place, false)?.f_sign()?;
                Ok(g.f_zeros_like()?.f_scatter(-1, &place, &sign)?.f_view_as(gradient)?)
            }
        }
    }

    /// `v` [B, ...] as a perturbation of unit size: v / |v| in L2; sign(v) in Linf (the steepest for the linear function v); v / |v|_1 in
    /// L1, because the steepest is one pixel there and the box leaves little of it. 0 where v is 0. Same shape and kind.
    pub fn along(&self, v: &Tensor) -> Result<Tensor> {
        match self.norm {
            Norm::L2 | Norm::Linf => self.steepest(v),
            Norm::L1 => {
                let v = v.f_nan_to_num(0.0, 0.0, 0.0)?;
                let flat = rows(&v, v.kind())?;
                let size = self.size(&flat)?;
                Ok(flat.f_div(&size.f_masked_fill(&size.f_eq(0.0)?, 1.0)?)?.f_view_as(&v)?)
            }
        }
    }

    /// The step from `x` [B, ...] of size `length` by which a linear function of this gradient grows most: along the steepest direction of
    /// the gradient's admissible part. In L1 pixels take the step in the order of their gradients, each as far as its wall; without a box
    /// the first takes all of it. `length` is `[1]` or [B, 1, ...] of the kind of `x`.
    pub(super) fn uphill(&self, x: &Tensor, gradient: &Tensor, length: &Tensor) -> Result<Tensor> {
        let gradient = self.admissible(x, gradient)?;
        if self.norm != Norm::L1 {
            return Ok(self.steepest(&gradient)?.f_mul(length)?);
        }
        let g = rows(&gradient.f_nan_to_num(0.0, 0.0, 0.0)?, gradient.kind())?;
        let (size, length) = (g.f_abs()?, length.f_to_kind(Kind::Double)?.f_view([-1, 1])?);
        let (low, high) = self.pixels.unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
        let x = rows(x, Kind::Double)?;
        let wall = x.f_rsub_scalar(high)?.f_where_self(&g.f_gt(0.0)?, &x.f_sub_scalar(low)?)?;
        let room = wall.f_minimum(&length)?.f_masked_fill(&g.f_eq(0.0)?, 0.0)?;
        let (sorted, order) = size.f_sort(1, true)?;
        let in_order = room.f_gather(1, &order, false)?;
        let before = in_order.f_cumsum(1, Kind::Double)?.f_sub(&in_order)?;
        let moving = before.f_lt_tensor(&length)?.count_kept([1])?;
        // Pixels with the least gradient that moves share what the others leave.
        let least = sorted.f_gather(1, &moving.f_sub_scalar(1)?.f_clamp_min(0)?, false)?;
        let whole = room.f_masked_fill(&size.f_le_tensor(&least)?, 0.0)?;
        let tied = room.f_masked_fill(&size.f_ne_tensor(&least)?, 0.0)?;
        let left = length.f_sub(&whole.sum_kept([1])?)?;
        let share = left.f_div(&tied.sum_kept([1])?)?.f_nan_to_num(0.0, 0.0, 0.0)?.f_clamp(0.0, 1.0)?;
        let step = whole.f_add(&tied.f_mul(&share)?)?.f_to_kind(g.kind())?;
        Ok(step.f_copysign(&g)?.f_view_as(&gradient)?)
    }

    /// `gradient` without the pixels that sit on a wall of the box at `x` and that the step would push through the wall.
    pub fn admissible(&self, x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        let Some((low, high)) = self.pixels else {
            return Ok(gradient.shallow_clone());
        };
        let below = x.f_le(low)?.f_logical_and(&gradient.f_lt(0.0)?)?;
        let above = x.f_ge(high)?.f_logical_and(&gradient.f_gt(0.0)?)?;
        Ok(gradient.f_masked_fill(&below.f_logical_or(&above)?, 0.0)?)
    }

    /// `x` moved into the ball around `x0` and then into the box, in the kind of `x`; an iterative attack does this between its steps. With
    /// `x0` in the box the second move never lengthens the perturbation. Rounding may exceed the [`TOLERANCE`]; [`Budget::project`] does
    /// not.
    pub fn contract(&self, x0: &Tensor, x: &Tensor) -> Result<Tensor> {
        self.contract_to(x0, x, &Tensor::f_full([1], self.epsilon, (x.kind(), x.device()))?)
    }

    /// [`Budget::contract`] with `radius`, `[1]` of the kind of `x`, in place of epsilon.
    pub(super) fn contract_to(&self, x0: &Tensor, x: &Tensor, radius: &Tensor) -> Result<Tensor> {
        Ok(self.shrink(&rows(x0, x.kind())?, &rows(x, x.kind())?, &radius.f_unsqueeze(1)?)?.f_view_as(x)?)
    }

    /// `x` [B, ...] moved into the budget around `x0`, first the ball, then the box; exact to [`TOLERANCE`] in f64 on the stored values.
    /// The kind of `x0`.
    pub fn project(&self, x0: &Tensor, x: &Tensor) -> Result<Tensor> {
        self.project_to(x0, x, &Tensor::f_full([1], self.epsilon, (Kind::Double, x0.device()))?)
    }

    /// [`Budget::project`] with a radius of its own for each sample: `radius` `[B]` or `[1]` f64, >= 0, in place of epsilon.
    pub fn project_to(&self, x0: &Tensor, x: &Tensor, radius: &Tensor) -> Result<Tensor> {
        ensure_shape("the perturbed images", x, &x0.size())?;
        let radius = radius.f_to_kind(Kind::Double)?.f_unsqueeze(1)?;
        let origin = rows(x0, Kind::Double)?;
        let step = self.shrink(&origin, &rows(x, Kind::Double)?, &radius)?.f_sub(&origin)?;
        let images = self.settle(&rows(x0, x0.kind())?, &origin, &step, &radius)?;
        Ok(images.f_view_as(x0)?)
    }

    /// Moves rows [B, D] into the ball, then into the box.
    fn shrink(&self, origin: &Tensor, x: &Tensor, radius: &Tensor) -> Result<Tensor> {
        let step = x.f_sub(origin)?;
        let step = match self.norm {
            Norm::Linf => step.f_clamp_tensor(Some(&radius.f_neg()?), Some(radius))?,
            Norm::L2 => {
                // The smallest positive number prevents 0 / 0.
                let length = self.size(&step)?.f_clamp_min(f64::from(f32::MIN_POSITIVE))?;
                step.f_mul(&radius.f_div(&length)?.f_clamp_max(1.0)?)?
            }
            Norm::L1 => {
                let length = step.f_abs()?;
                let shorter = length.f_sub(&threshold(&length, radius)?)?.f_clamp_min(0.0)?;
                shorter.f_copysign(&step)?
            }
        };
        self.boxed(origin.f_add(&step)?)
    }

    /// origin + step rounded to the kind of `x0`, such that rounding does not move a sample out of its budget.
    ///
    /// Near 1, f32 stores pixels to 6e-8, which is large compared with a small step. In Linf each pixel that rounding moved out of its
    /// interval takes the neighbouring number towards x0. In L2 and L1 only as many pixels of the sample do so as necessary, so that at
    /// most one pixel's rounding is lost.
    fn settle(&self, x0: &Tensor, origin: &Tensor, step: &Tensor, radius: &Tensor) -> Result<Tensor> {
        let distance =
            |images: &Tensor| -> Result<Tensor> { Ok(images.f_to_kind(Kind::Double)?.f_sub(origin)?.f_abs()?) };
        let images = self.boxed(origin.f_add(step)?.f_to_kind(x0.kind())?)?;
        let inner = images.f_nextafter(x0)?;
        let taken = distance(&images)?;
        let outwards = match self.norm {
            Norm::Linf => taken.f_gt_tensor(radius)?,
            Norm::L2 => {
                let excess = self.size(&taken)?.f_square()?.f_sub(&radius.f_mul_scalar(1.0 + ROUNDING)?.f_square()?)?;
                enough(&taken.f_square()?.f_sub(&distance(&inner)?.f_square()?)?, &excess)?
            }
            Norm::L1 => {
                let excess = self.size(&taken)?.f_sub(&radius.f_mul_scalar(1.0 + ROUNDING)?)?;
                enough(&taken.f_sub(&distance(&inner)?)?, &excess)?
            }
        };
        Ok(inner.f_where_self(&outwards, &images)?)
    }

    /// Size of each row [B, D], [B, 1].
    fn size(&self, rows: &Tensor) -> Result<Tensor> {
        Ok(match self.norm {
            Norm::L2 => rows.norm_kept(2, 1)?,
            Norm::Linf => rows.f_abs()?.max_kept(1)?,
            Norm::L1 => rows.norm_kept(1, 1)?,
        })
    }

    /// Clipped to the box.
    pub(super) fn boxed(&self, x: Tensor) -> Result<Tensor> {
        Ok(match self.pixels {
            Some((low, high)) => x.f_clamp(low, high)?,
            None => x,
        })
    }
}

fn too_large(epsilon: f64) -> Error {
    Error::request("eps (--eps)", format!("at most {:e}", Budget::LARGEST), format!("{epsilon:e}"))
}

/// The amount, [B, 1], by which all of `lengths` [B, D] >= 0 are shortened, not below 0, so that their sum is `radius` (`[1, 1]` or [B,
/// 1]). It is 0 where the sum is not larger than `radius`.
///
/// Source: Duchi, Shalev-Shwartz, Singer & Chandra 2008, figure 1.
fn threshold(lengths: &Tensor, radius: &Tensor) -> Result<Tensor> {
    let (sorted, _) = lengths.f_sort(1, true)?;
    let dim = lengths.size()[1];
    let count = Tensor::f_arange_start(1, dim + 1, (lengths.kind(), lengths.device()))?;
    let shares = sorted.f_cumsum(1, lengths.kind())?.f_sub(radius)?.f_div(&count)?;
    // The longest entries are shortened, as many as are longer than their share of the excess; the longest entry always is.
    let last = sorted.f_gt_tensor(&shares)?.count_kept([1])?;
    Ok(shares.f_gather(1, &last.f_sub_scalar(1)?.f_clamp_min(0)?, false)?.f_clamp_min(0.0)?)
}

/// In each row, the first entries whose `saved` [B, D] together cover the `excess` [B, 1].
fn enough(saved: &Tensor, excess: &Tensor) -> Result<Tensor> {
    let before = saved.f_cumsum(1, Kind::Double)?.f_sub(saved)?;
    Ok(before.f_lt_tensor(excess)?)
}

/// [B, ...] as [B, D] of the given kind.
fn rows(x: &Tensor, kind: Kind) -> Result<Tensor> {
    Ok(x.f_flatten(1, -1)?.f_to_kind(kind)?)
}
