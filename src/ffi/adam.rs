//! The fused Adam step of libtorch (ATen `_fused_adam_`): one call for all parameters.

use crate::error::{Error, Result};
use std::ffi::{c_char, c_void};
use tch::{Device, Kind, Tensor};

/// The routine's name in errors.
const ROUTINE: &str = "fused Adam";

/// Coefficients of one Adam step.
///
/// Source: Kingma & Ba 2015, algorithm 1. Weight decay is an L2 term added to the gradient, as in `torch.optim.Adam`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// Decay of the mean of the gradients.
    pub beta1: f64,
    /// Decay of the mean of their squares.
    pub beta2: f64,
    /// Factor of the parameters added to their gradients.
    pub weight_decay: f64,
    /// Added to the denominator.
    pub eps: f64,
}

unsafe extern "C" {
    fn pb_changed(tensors: *mut *mut c_void, n: i64) -> *const c_char;
    fn pb_fused_adam(
        params: *mut *mut c_void,
        grads: *mut *mut c_void,
        exp_avgs: *mut *mut c_void,
        exp_avg_sqs: *mut *mut c_void,
        steps: *mut *mut c_void,
        n: i64,
        lr: *const c_void,
        beta1: f64,
        beta2: f64,
        weight_decay: f64,
        eps: f64,
    ) -> *const c_char;
}

/// Kind of the learning rate: f32 if the CUDA kernel reads it, otherwise f64.
pub fn lr_kind(device: Device) -> Kind {
    if device.is_cuda() { Kind::Float } else { Kind::Double }
}

/// One Adam step in place on `params` and their moments; `steps` (scalars f32, one a parameter) go up by one.
///
/// Parameter i, its gradient and its moments share shape, kind and device and are contiguous: the kernel walks them element by element. The
/// learning rate is one number on their device of the kind that [`lr_kind`] says: it is a tensor, so that a captured step uses the value of
/// the time when it is replayed.
#[allow(clippy::too_many_arguments)] // ATen's own list
pub fn fused_adam(
    params: &[Tensor],
    grads: &[Tensor],
    exp_avgs: &[Tensor],
    exp_avg_sqs: &[Tensor],
    steps: &[Tensor],
    lr: &Tensor,
    step: AdamStep,
) -> Result<()> {
    for (name, list) in [("grads", grads), ("exp_avgs", exp_avgs), ("exp_avg_sqs", exp_avg_sqs), ("steps", steps)] {
        if list.len() != params.len() {
            return Err(mismatch(format!("{} {name}, found {}", params.len(), list.len())));
        }
    }
    for (i, p) in params.iter().enumerate() {
        let kind = p.f_kind()?;
        if !matches!(kind, Kind::Float | Kind::Double) {
            return Err(mismatch(format!("parameter {i} of kind Float or Double, found {kind:?}")));
        }
        for (name, t) in
            [("parameter", p), ("gradient", &grads[i]), ("mean", &exp_avgs[i]), ("square", &exp_avg_sqs[i])]
        {
            let fits = t.defined()
                && t.size() == p.size()
                && t.f_kind()? == kind
                && t.device() == p.device()
                && t.is_contiguous();
            if !fits {
                return Err(mismatch(format!(
                    "{name} {i} contiguous, {:?}, {kind:?} on {:?}, found another layout",
                    p.size(),
                    p.device()
                )));
            }
        }
        let s = &steps[i];
        if !s.defined() || s.numel() != 1 || s.f_kind()? != Kind::Float || s.device() != p.device() {
            return Err(mismatch(format!("step {i} one f32 on {:?}, found another", p.device())));
        }
    }
    if let Some(p) = params.first() {
        let device = p.device();
        if lr.numel() != 1 || lr.f_kind()? != lr_kind(device) || lr.device() != device {
            return Err(mismatch(format!("the learning rate one {:?} on {device:?}, found another", lr_kind(device))));
        }
    }
    let pointers =
        |list: &[Tensor]| -> Vec<*mut c_void> { list.iter().map(|t| t.as_ptr().cast_mut().cast()).collect() };
    let (mut p, mut g, mut m, mut v, mut s) =
        (pointers(params), pointers(grads), pointers(exp_avgs), pointers(exp_avg_sqs), pointers(steps));
    // SAFETY: five arrays of n tensors and one more, the borrows keep each alive during the call; shapes, kinds, devices and contiguity
    // were checked above; the routine keeps no pointer.
    let message = unsafe {
        pb_fused_adam(
            p.as_mut_ptr(),
            g.as_mut_ptr(),
            m.as_mut_ptr(),
            v.as_mut_ptr(),
            s.as_mut_ptr(),
            params.len() as i64,
            lr.as_ptr().cast(),
            step.beta1,
            step.beta2,
            step.weight_decay,
            step.eps,
        )
    };
    super::check(ROUTINE, message)
}

/// Notes that `tensors` were changed by a captured step: a replay writes to memory that libtorch does not watch, and what is kept for a
/// weight knows a change by its version.
///
/// # Errors
/// If one of them is undefined.
pub fn changed(tensors: &[Tensor]) -> Result<()> {
    let mut pointers: Vec<*mut c_void> = tensors.iter().map(|t| t.as_ptr().cast_mut().cast()).collect();
    // SAFETY: an array of live tensors, whose version counters alone are changed; the routine keeps no pointer.
    super::check("changed", unsafe { pb_changed(pointers.as_mut_ptr(), pointers.len() as i64) })
}

fn mismatch(message: String) -> Error {
    Error::internal(ROUTINE, format!("expected {message}"))
}
