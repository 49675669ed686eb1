//! One step up a gradient within a budget: a single kernel, or libtorch's operations one after the other.

use super::{Budget, Norm};
use crate::error::Result;
use crate::ffi::kernels::{self, Ball, Move};
use tch::Tensor;

impl Budget {
    /// The images [B, ...] that follow `x` on the way up: a step along the steepest direction of the gradient's admissible
    /// part, brought into the ball around `x0` and the box ([`Budget::contract`]). `lengths` `[2]` f64 is that of the step and
    /// the radius of the ball, which stands here in place of epsilon: a captured step is replayed with other numbers. `stalled`
    /// `[B]` bool becomes true where nothing of the gradient is a nonzero number, or some of it is not finite.
    ///
    /// # Errors
    /// Where shapes, kinds or devices differ.
    pub fn ascend(
        &self,
        x0: &Tensor,
        x: &Tensor,
        gradient: &Tensor,
        lengths: &Tensor,
        stalled: &mut Tensor,
    ) -> Result<Tensor> {
        if !kernels::run_on(x.device()) {
            return self.ascend_by_operations(x0, x, gradient, lengths, stalled);
        }
        let ball = match self.norm {
            Norm::L2 => Ball::L2,
            Norm::Linf => Ball::Linf,
            Norm::L1 => Ball::L1,
        };
        kernels::ascend(x0, x, gradient, stalled, lengths, Move { ball, pixels: self.pixels })
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
        lengths: &Tensor,
        stalled: &mut Tensor,
    ) -> Result<Tensor> {
        let _ = stalled.f_logical_or_(&vanishes(gradient)?)?;
        crate::error::ensure_shape("lengths of a step and of a ball", lengths, &[2])?;
        let lengths = lengths.f_to_kind(x.f_kind()?)?;
        let direction = self.steepest(&self.admissible(x, gradient)?)?;
        let x = x.f_add(&direction.f_mul(&lengths.f_narrow(0, 0, 1)?)?)?;
        self.contract_to(x0, &x, &lengths.f_narrow(0, 1, 1)?)
    }
}

/// `[B]` bool: nothing of the gradient is a nonzero finite number, or some of it is not a number.
fn vanishes(gradient: &Tensor) -> Result<Tensor> {
    let peak = gradient.f_flatten(1, -1)?.f_abs()?.f_amax([1i64].as_slice(), false)?;
    // amax carries NaN through, and no comparison holds for it.
    Ok(peak.f_gt(0.0)?.f_logical_and(&peak.f_isfinite()?)?.f_logical_not()?)
}
