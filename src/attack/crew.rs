//! One batch's attacks on several threads of a CPU, each with some of the samples.
//!
//! Small operators leave cores idle, and every operator waits for the slowest thread of the one before. A thread that has samples of
//! its own waits for nobody until all its attacks are done.

use crate::error::Result;
use crate::ffi::parallel;
use crate::model::Vae;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use tch::Device;

/// Samples that a thread must have for it to be worth its while.
const LEAST: usize = 4;

/// Handles on one model, one a thread.
pub struct Crew(Vec<Mutex<Box<dyn Vae>>>);

impl Crew {
    /// As many as libtorch has threads, for a model on a CPU that can be shared; none elsewhere.
    pub fn of(vae: &dyn Vae, device: Device) -> Self {
        let threads = if device == Device::Cpu { tch::get_num_threads().max(1) as usize } else { 1 };
        if threads == 1 {
            return Self(vec![]);
        }
        let shared: Option<Vec<_>> = (0..threads).map(|_| vae.share().map(Mutex::new)).collect();
        Self(shared.unwrap_or_default())
    }

    /// Calls `work` with a handle on the model and a part of `samples` samples, side by side; the answers in order of the samples.
    /// `part` makes the parts, on the caller's thread. None where there are too few samples for all: the model had better be asked by
    /// itself, with all threads.
    ///
    /// # Errors
    /// The first part's that had one.
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
}
