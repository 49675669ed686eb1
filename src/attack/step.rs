//! One step along a gradient within a budget: a single kernel, or libtorch's operations one after the other.

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
    /// In L2 on its surface ([`Budget::surface`]). In the other norms in the ball: Linf steps are at its corners anyway, and L1 steps
    /// change few pixels.
    Surface,
}

impl Budget {
    /// One step along `gradient` [B, ...] from the current iterate of an ascent from `x0`. First the iterate replaces the best where its
    /// damage `value` `[B]` f64 is larger. Then it moves along the steepest direction of the gradient's admissible part (in L1 along several
    /// pixels, each as far as its wall), and then into the ball around `x0` and the box ([`Budget::contract`]), or onto the ball's surface.
    /// `lengths` `[2]` f64 are the step's length and the ball's radius. The radius replaces epsilon here, so that a captured step can be
    /// replayed with other numbers.
    ///
    /// # Errors
    /// If shapes, kinds or devices differ, or a written tensor is not contiguous.
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

    /// [`Budget::take_step`] without the kernel: the reference for the kernel, and the way on a device for which it was not compiled.
    ///
    /// # Errors
    /// If shapes, kinds or devices differ.
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
        let moved = x.f_add(&self.uphill(x, gradient, &lengths.f_narrow(0, 0, 1)?)?)?;
        let landed = self.land_at(x0, &moved, &lengths.f_narrow(0, 1, 1)?, landing)?;
        Ok(x.f_copy_(&landed)?)
    }

    /// `x` [B, ...] moved to where a step of an ascent from `x0` lands, in the kind of `x`.
    pub(super) fn land(&self, x0: &Tensor, x: &Tensor, landing: Landing) -> Result<Tensor> {
        self.land_at(x0, x, &Tensor::f_full([1], self.epsilon, (x.kind(), x.device()))?, landing)
    }

    /// [`Budget::land`] with `radius`, `[1]` of the kind of `x`, in place of epsilon.
    fn land_at(&self, x0: &Tensor, x: &Tensor, radius: &Tensor, landing: Landing) -> Result<Tensor> {
        match (landing, self.norm) {
            (Landing::Surface, Norm::L2) => self.lengthen(x0, &x.f_sub(x0)?, radius),
            _ => self.contract_to(x0, x, radius),
        }
    }
}

/// Takes `x` as the best where its damage, `[B]` f64, is larger, or is a number where the old damage is NaN.
pub(super) fn keep_best(best: &mut Tensor, damage: &mut Tensor, x: &Tensor, value: &Tensor) -> Result<()> {
    let better = exceeds(value, damage)?;
    let mut pixels = vec![-1];
    pixels.resize(x.dim(), 1);
    best.f_copy_(&x.f_where_self(&better.f_reshape(pixels)?, best)?)?;
    Ok(damage.f_copy_(&value.f_where_self(&better, damage)?)?)
}

/// `[B]` bool: the gradient has no nonzero finite number, or has a NaN.
pub(super) fn vanishes(gradient: &Tensor) -> Result<Tensor> {
    let peak = gradient.f_flatten(1, -1)?.f_abs()?.max_over(1)?;
    // amax returns NaN if there is one, and every comparison with NaN is false.
    Ok(peak.f_gt(0.0)?.f_logical_and(&peak.f_isfinite()?)?.f_logical_not()?)
}
