//! One step up a gradient within a budget: a single kernel, or libtorch's operations one after the other.

use super::best::exceeds;
use super::{Budget, Norm};
use crate::error::Result;
use crate::ffi::kernels;
use crate::ffi::step::{self, Ball, Iterate, Step};
use crate::ops::Reduce;
use tch::Tensor;

/// Where a step ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landing {
    /// In the ball.
    Ball,
    /// In L2 on its surface ([`Budget::surface`]); in the ball otherwise, since steps of Linf lie at its corners anyway, and those of
    /// L1 change single pixels.
    Surface,
}

impl Budget {
    /// One step up `gradient` [B, ...] from where an ascent from `x0` stands. First the iterate takes the place of the best where its
    /// damage `value` `[B]` f64 is larger. Then it moves along the steepest direction of the gradient's admissible part and is
    /// brought into the ball around `x0` and the box ([`Budget::contract`]), or onto the ball's surface. `lengths` `[2]` f64 is that of the step and the
    /// radius of the ball, which stands here in place of epsilon: a captured step is replayed with other numbers.
    ///
    /// # Errors
    /// Where shapes, kinds or devices differ, or what is written is not contiguous.
    pub fn take_step(
        &self,
        iterate: Iterate<'_>,
        x0: &Tensor,
        gradient: &Tensor,
        value: &Tensor,
        lengths: &Tensor,
        landing: Landing,
    ) -> Result<()> {
        if !kernels::run_on(iterate.x.device()) {
            return self.take_step_by_operations(iterate, x0, gradient, value, lengths, landing);
        }
        let ball = match self.norm {
            Norm::L2 if landing == Landing::Surface => Ball::Sphere,
            Norm::L2 => Ball::L2,
            Norm::Linf => Ball::Linf,
            Norm::L1 => Ball::L1,
        };
        step::take_step(iterate, x0, gradient, value, lengths, Step { ball, pixels: self.pixels })
    }

    /// [`Budget::take_step`] without the kernel: what it is held to, and what runs on a device that it was not compiled for.
    ///
    /// # Errors
    /// Where shapes, kinds or devices differ.
    pub fn take_step_by_operations(
        &self,
        iterate: Iterate<'_>,
        x0: &Tensor,
        gradient: &Tensor,
        value: &Tensor,
        lengths: &Tensor,
        landing: Landing,
    ) -> Result<()> {
        crate::error::ensure_shape("lengths of a step and of a ball", lengths, &[2])?;
        let Iterate { x, best, damage, stalled } = iterate;
        keep_best(best, damage, x, value)?;
        let _ = stalled.f_logical_or_(&vanishes(gradient)?)?;
        let lengths = lengths.f_to_kind(x.f_kind()?)?;
        let direction = self.steepest(&self.admissible(x, gradient)?)?;
        let moved = x.f_add(&direction.f_mul(&lengths.f_narrow(0, 0, 1)?)?)?;
        let radius = lengths.f_narrow(0, 1, 1)?;
        let landed = match (landing, self.norm) {
            (Landing::Surface, Norm::L2) => self.lengthen(x0, &moved.f_sub(x0)?, &radius)?,
            _ => self.contract_to(x0, &moved, &radius)?,
        };
        Ok(x.f_copy_(&landed)?)
    }
}

/// Takes `x` for the best where its damage, `[B]` f64, is larger, or a number where none was before.
pub(super) fn keep_best(best: &mut Tensor, damage: &mut Tensor, x: &Tensor, value: &Tensor) -> Result<()> {
    let better = exceeds(value, damage)?;
    let mut pixels = vec![-1];
    pixels.resize(x.dim(), 1);
    best.f_copy_(&x.f_where_self(&better.f_reshape(pixels)?, best)?)?;
    Ok(damage.f_copy_(&value.f_where_self(&better, damage)?)?)
}

/// `[B]` bool: nothing of the gradient is a nonzero finite number, or some of it is not a number.
pub(super) fn vanishes(gradient: &Tensor) -> Result<Tensor> {
    let peak = gradient.f_flatten(1, -1)?.f_abs()?.max_over(1)?;
    // amax carries NaN through, and no comparison holds for it.
    Ok(peak.f_gt(0.0)?.f_logical_and(&peak.f_isfinite()?)?.f_logical_not()?)
}
