//! Perturbations that stay the same in an 8-bit file: every pixel is a multiple of 1/255, and the budget is still kept.

use super::{Budget, Norm, TOLERANCE};
use crate::error::{Error, Result, ensure_shape};
use crate::ops::Reduce;
use tch::{Kind, Tensor};

/// Levels of a pixel in an 8-bit file, less one.
const LEVELS: f64 = 255.0;

/// Rounds that move pixels one level towards x0, before the rest is cut off.
const ROUNDS: usize = 16;

impl Budget {
    /// The images next to `x` ([B, ...], as `x0`) whose pixels are multiples of 1/255 and which lie within the budget around `x0`, of
    /// radius `radius` `[B]` or `[1]` f64. The kind of `x0`. Where an attack's own radius, below epsilon, has no such image, the nearest to
    /// `x0` is returned, which lies beyond it ([`Budget::holds`]).
    ///
    /// # Errors
    /// If shapes differ; a wrong request if no such image exists within epsilon, because `x0` itself is not of 8 bits and the budget is
    /// smaller than its rounding.
    pub fn on_grid(&self, x0: &Tensor, x: &Tensor, radius: &Tensor) -> Result<Tensor> {
        ensure_shape("the perturbed images", x, &x0.size())?;
        let radius = radius.f_to_kind(Kind::Double)?.f_view([-1, 1])?;
        let flat = |t: &Tensor| -> Result<Tensor> { Ok(t.f_flatten(1, -1)?.f_to_kind(Kind::Double)?) };
        let (origin, moved) = (flat(x0)?.f_mul_scalar(LEVELS)?, flat(x)?.f_mul_scalar(LEVELS)?);
        let home = origin.f_round()?;
        let limit = radius.f_mul_scalar(LEVELS * (1.0 + 0.5 * TOLERANCE))?;
        let levels = match self.norm {
            Norm::Linf => {
                let (low, high) = (origin.f_sub(&limit)?.f_ceil()?, origin.f_add(&limit)?.f_floor()?);
                // Where an interval contains no level, the check below reports the nearest one.
                moved.f_round()?.f_maximum(&low)?.f_minimum(&high)?.f_where_self(&low.f_le_tensor(&high)?, &home)?
            }
            Norm::L2 | Norm::L1 => self.stepped_home(&moved.f_round()?, &home, &origin, &limit)?,
        };
        let levels = match self.pixels {
            Some((low, high)) => levels.f_clamp((low * LEVELS).ceil(), (high * LEVELS).floor())?,
            None => levels,
        };
        let images = levels.f_div_scalar(LEVELS)?.f_to_kind(x0.kind())?.f_view_as(x0)?;
        let size = self.measure(x0, &images)?;
        let beyond = size.f_le(self.epsilon * (1.0 + TOLERANCE))?.f_logical_not()?;
        if beyond.f_any()?.f_int64_value(&[])? == 0 {
            return Ok(images);
        }
        // What is not a number is not the rounding's fault, and comes last.
        let least = size.f_masked_fill(&beyond.f_logical_not()?, 0.0)?.f_max()?.f_double_value(&[])?;
        let least = (least * 1e4).ceil() / 1e4;
        Err(Error::request(
            "images of 8 bits",
            format!("an epsilon that rounding the clean images leaves room for (at least {least:.4} in {})", self.norm),
            self.epsilon.to_string(),
        ))
    }

    /// Which of `x` ([B, ...], as `x0`) lie within `radius` `[B]` or `[1]` f64 of `x0`, `[B]`.
    ///
    /// # Errors
    /// If shapes differ.
    pub fn holds(&self, x0: &Tensor, x: &Tensor, radius: &Tensor) -> Result<Tensor> {
        let radius = radius.f_to_kind(Kind::Double)?.f_mul_scalar(1.0 + TOLERANCE)?;
        Ok(self.measure(x0, x)?.f_le_tensor(&radius)?)
    }

    /// Levels [B, D] within the limit [B, 1] (in levels) around `origin`: round after round, as many pixels as necessary go one level
    /// towards `home` [B, D]; the pixels that reduce the size most go first.
    fn stepped_home(&self, levels: &Tensor, home: &Tensor, origin: &Tensor, limit: &Tensor) -> Result<Tensor> {
        let part = |levels: &Tensor| -> Result<Tensor> {
            let off = levels.f_sub(origin)?.f_abs()?;
            Ok(if self.norm == Norm::L2 { off.f_square()? } else { off })
        };
        let limit = if self.norm == Norm::L2 { limit.f_square()? } else { limit.shallow_clone() };
        let mut levels = levels.shallow_clone();
        for round in 0..=ROUNDS {
            let inner =
                if round == ROUNDS { home.shallow_clone() } else { levels.f_sub(&levels.f_sub(home)?.f_sign()?)? };
            let (now, then) = (part(&levels)?, part(&inner)?);
            let excess = now.sum_kept([1])?.f_sub(&limit)?;
            let saved = now.f_sub(&then)?;
            let (sorted, order) = saved.f_sort(1, true)?;
            let before = sorted.f_cumsum(1, Kind::Double)?.f_sub(&sorted)?;
            let first = before.f_lt_tensor(&excess)?.f_logical_and(&sorted.f_gt(0.0)?)?;
            let goes = first.f_zeros_like()?.f_scatter(1, &order, &first)?;
            levels = inner.f_where_self(&goes, &levels)?;
        }
        Ok(levels)
    }
}
