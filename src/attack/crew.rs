//! Runs the attacks of one batch on several CPU threads; each thread has some of the samples.
//!
//! Small operators leave cores idle, and each operator waits for the slowest thread of the operator before it. A thread that has its own
//! samples waits for no other thread until all its attacks are done.

use crate::error::Result;
use crate::ffi::parallel;
use crate::model::Vae;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use tch::Device;

/// The least number of samples for which a thread is worth its cost.
const LEAST: usize = 4;

/// Handles on one model, one for each thread.
pub struct Crew(Vec<Mutex<Box<dyn Vae>>>);

impl Crew {
    /// As many handles as libtorch has threads, for a model on a CPU that can be shared; none otherwise.
    pub fn of(vae: &dyn Vae, device: Device) -> Self {
        let threads = if device == Device::Cpu { tch::get_num_threads().max(1) as usize } else { 1 };
        if threads == 1 {
            return Self(vec![]);
        }
        let shared: Option<Vec<_>> = (0..threads).map(|_| vae.share().map(Mutex::new)).collect();
        Self(shared.unwrap_or_default())
    }

    /// Calls `work` in parallel with a handle on the model and a part of `samples` samples; returns the answers in the order of the
    /// samples. `part` makes the parts, on the caller's thread. Returns `None` if there are too few samples for all threads: then one
    /// call of the model with all threads is faster.
    ///
    /// # Errors
    /// The error of the first part that failed.
    pub fn divide<P: Send, T: Send>(
        &self,
        samples: usize,
        part: impl Fn(Range<usize>) -> Result<P>,
        work: impl Fn(&dyn Vae, P) -> Result<T> + Sync,
    ) -> Result<Option<Vec<T>>> {
        let Self(handles) = self;
        let count = handles.len();
        if count < 2 || samples < LEAST * count {
            return Ok(None);
        }
        let parts = (0..count).map(|i| part(samples * i / count..samples * (i + 1) / count));
        let answers = parallel::each(parts.collect::<Result<_>>()?, |i, part| {
            let vae = handles[i].lock().unwrap_or_else(PoisonError::into_inner);
            work(vae.as_ref(), part)
        })?;
        Ok(Some(answers))
    }

    /// Calls `work` on each of `parts`, in parallel where there are handles; the answers are in the order of the parts. Each call has one
    /// thread then, so that what it answers does not depend on how many there are. `vae` is the model for a crew without handles.
    ///
    /// # Errors
    /// The error of the first part that failed.
    pub fn each<P: Send, T: Send>(
        &self,
        vae: &dyn Vae,
        parts: Vec<P>,
        work: impl Fn(&dyn Vae, P) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let Self(handles) = self;
        if handles.is_empty() {
            return parts.into_iter().map(|part| work(vae, part)).collect();
        }
        let each = parts.len().div_ceil(handles.len()).max(1);
        let mut parts = parts.into_iter().peekable();
        let mut shares = Vec::new();
        while parts.peek().is_some() {
            shares.push(parts.by_ref().take(each).collect::<Vec<P>>());
        }
        let answers = parallel::each(shares, |i, share| {
            let vae = handles[i].lock().unwrap_or_else(PoisonError::into_inner);
            share.into_iter().map(|part| work(vae.as_ref(), part)).collect::<Result<Vec<T>>>()
        })?;
        Ok(answers.into_iter().flatten().collect())
    }
}
