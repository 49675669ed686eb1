//! The loop over passes: the planner sizes them, a failed pass is repeated in another way, and the planner learns from timed ones.

use crate::device;
use crate::error::{Error, Result};
use crate::ffi::memory::peak_bytes;
use crate::jacobian::{Pass, Planner};
use std::ops::Range;
use std::time::Instant;
use tch::Tensor;

/// The results of `work` for `images` [N, C, H, W], N >= 1, pass by pass in order: it gets a pass, its images and their range. If the
/// process is asked to stop, only the results of the finished passes are returned.
///
/// # Errors
/// If no smaller pass and no other way would help; [`Error::Interrupted`] if no pass had finished.
pub(super) fn in_passes<T>(
    planner: &mut Planner,
    images: &Tensor,
    mut work: impl FnMut(&mut Planner, Pass, &Tensor, Range<usize>) -> Result<T>,
) -> Result<Vec<T>> {
    let total = images.size().first().copied().unwrap_or(0) as usize;
    let mut parts = Vec::new();
    let mut first = 0;
    while first < total {
        let pass = planner.next(total - first);
        let x = images.f_narrow(0, first as i64, pass.samples as i64)?;
        match work(planner, pass, &x, first..first + pass.samples) {
            Ok(part) => {
                parts.push(part);
                first += pass.samples;
            }
            Err(Error::Interrupted) if first > 0 => break,
            Err(error) => planner.survive(pass, error)?,
        }
    }
    Ok(parts)
}

/// One pass over `x`; its time and memory are measured, and the planner learns from them.
pub(super) fn measured<T>(
    planner: &mut Planner,
    pass: Pass,
    x: &Tensor,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    device::synchronize(x.device())?;
    let start = Instant::now();
    let (done, peak) = peak_bytes(work)?;
    device::synchronize(x.device())?;
    planner.record(pass, start.elapsed(), peak);
    Ok(done)
}
