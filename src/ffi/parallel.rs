//! Work on libtorch's own threads, one part for each thread.

use super::check;
use crate::error::{Error, Result};
use std::ffi::{c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

unsafe extern "C" {
    fn pb_parallel(count: i64, work: unsafe extern "C" fn(*mut c_void, i64), context: *mut c_void) -> *const c_char;
}

/// The data of a call: the work, and for each part its input, later its answer.
struct Shared<'a, P, T> {
    work: &'a (dyn Fn(usize, P) -> Result<T> + Sync),
    parts: Vec<Mutex<Part<P, T>>>,
}

enum Part<P, T> {
    Given(P),
    Answered(Result<T>),
    Taken,
}

/// `work(i, part i)` for all parts, in parallel on libtorch's threads; the answers are in order. The libtorch operations of a part use only
/// that part's thread, so that small operators keep every core busy.
///
/// # Errors
/// The error of the first part, by number, that had one; an internal error if a part panicked.
pub fn each<P: Send, T: Send>(parts: Vec<P>, work: impl Fn(usize, P) -> Result<T> + Sync) -> Result<Vec<T>> {
    unsafe extern "C" fn one<P: Send, T: Send>(context: *mut c_void, i: i64) {
        // SAFETY: the context is a Shared<P, T> that outlives the parallel section; all of its threads only read it.
        let shared = unsafe { &*context.cast::<Shared<'_, P, T>>() };
        let index = i.max(0) as usize;
        let Some(place) = shared.parts.get(index) else { return };
        let taken = std::mem::replace(&mut *place.lock().unwrap_or_else(PoisonError::into_inner), Part::Taken);
        let Part::Given(part) = taken else { return };
        // A panic that unwinds out of a C function ends the process.
        let answer = catch_unwind(AssertUnwindSafe(|| (shared.work)(index, part))).unwrap_or_else(|_| Err(panicked()));
        *place.lock().unwrap_or_else(PoisonError::into_inner) = Part::Answered(answer);
    }
    let count = parts.len() as i64;
    let mut shared =
        Shared { work: &work, parts: parts.into_iter().map(|part| Mutex::new(Part::Given(part))).collect() };
    // SAFETY: `one` matches the context's type and does not unwind; the section ends before the context does.
    check("parallel", unsafe { pb_parallel(count, one::<P, T>, (&raw mut shared).cast()) })?;
    let answer = |place: Mutex<Part<P, T>>| match place.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Part::Answered(answer) => answer,
        Part::Given(_) | Part::Taken => Err(panicked()),
    };
    shared.parts.into_iter().map(answer).collect()
}

fn panicked() -> Error {
    Error::internal("parallel", "a part of the work ended early")
}
