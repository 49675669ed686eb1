//! One step up a gradient within a budget: a single kernel, or libtorch's operations one after the other.

use super::{Budget, Norm};
use crate::error::Result;
use crate::ffi::kernels::{self, Ball, Move};
use tch::Tensor;

impl Budget {
    /// The images [B, ...] that follow `x` on the way up: a step of length `reach` (`[1]` f64) along the steepest direction of the
    /// gradient's admissible part, brought into the ball around `x0` and the box ([`Budget::contract`]). `stalled` `[B]` bool
    /// becomes true where nothing of the gradient is a nonzero number, or some of it is not finite.
    ///
    /// # Errors
    /// Where shapes, kinds or devices differ.
    pub fn ascend(
        &self,
        x0: &Tensor,
        x: &Tensor,
        gradient: &Tensor,
        reach: &Tensor,
        stalled: &mut Tensor,
    ) -> Result<Tensor> {
        if !kernels::run_on(x.device()) {
            return self.ascend_by_operations(x0, x, gradient, reach, stalled);
        }
        let ball = match self.norm {
            Norm::L2 => Ball::L2,
            Norm::Linf => Ball::Linf,
        };
        let step = Move { ball, pixels: self.pixels, radius: self.epsilon };
        kernels::ascend(x0, x, gradient, stalled, reach, step)
    }

    /// [`Budget::ascend`] without the kernel: what it is held to, and what runs on a device that it was not compiled for.
    ///
    /// # Errors
    /// Where shapes, kinds or devices differ.
    pub fn ascend_by_operations(
        &self,
        x0: &Tensor,
        x: &Tensor,
        gradient: &Tensor,
        reach: &Tensor,
        stalled: &mut Tensor,
    ) -> Result<Tensor> {
        let _ = stalled.f_logical_or_(&vanishes(gradient)?)?;
        let direction = self.steepest(&self.admissible(x, gradient)?)?;
        self.contract(x0, &x.f_add(&direction.f_mul(&reach.f_to_kind(x.f_kind()?)?)?)?)
    }
}

/// `[B]` bool: nothing of the gradient is a nonzero finite number, or some of it is not a number.
fn vanishes(gradient: &Tensor) -> Result<Tensor> {
    let peak = gradient.f_flatten(1, -1)?.f_abs()?.f_amax([1i64].as_slice(), false)?;
    // amax carries NaN through, and no comparison holds for it.
    Ok(peak.f_gt(0.0)?.f_logical_and(&peak.f_isfinite()?)?.f_logical_not()?)
}
