//! Work on many samples at once for which memory may not suffice.

use super::flow::{Asked, joined};
use crate::error::Result;
use std::cell::Cell;
use std::ops::Range;

/// The most samples that fit; it falls to half each time that memory runs out.
#[derive(Debug)]
pub(super) struct Halves(Cell<usize>);

impl Default for Halves {
    fn default() -> Self {
        Self(Cell::new(usize::MAX))
    }
}

impl Halves {
    /// The columns of `total` samples: `work` is given as many at a time as fit.
    ///
    /// # Errors
    /// If memory runs out for one sample; other errors of `work`.
    pub fn of(&self, total: usize, mut work: impl FnMut(Range<usize>) -> Result<Vec<Asked>>) -> Result<Vec<Asked>> {
        let mut parts = Vec::new();
        let mut first = 0;
        while first < total {
            let size = self.0.get().min(total - first);
            match work(first..first + size) {
                Ok(part) => {
                    parts.push(part);
                    first += size;
                }
                Err(error) if error.is_out_of_memory() && size > 1 => self.0.set(size / 2),
                Err(error) => return Err(error),
            }
        }
        joined(parts)
    }
}
