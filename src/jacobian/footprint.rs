//! Estimates the memory of a pass before the first one runs: on a CPU the system kills a process that uses too much.

use super::{Mode, Ways};

/// Bytes for each sample in a pass, estimated from one forward pass and one row or column.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Footprint {
    /// Independent of the ways: what the model keeps for the derivatives, the factor, its Gram matrix.
    pub once: f64,
    /// For each cotangent of the encoder that a backward pass carries, and the number of cotangents.
    pub row: (f64, usize),
    /// The same of the decoder.
    pub column: (f64, usize),
}

/// Many rows take more than one row times their number: batching rules copy what a single row shares.
const MARGIN: f64 = 1.25;

impl Footprint {
    /// Bytes for each sample in a pass by `ways`.
    pub fn bytes(&self, ways: Ways) -> f64 {
        let held = |mode: Mode, (bytes, total): (f64, usize)| match mode {
            // Folded passes keep the maps of only a few samples, which fit a cache.
            Mode::Looped | Mode::Folded => bytes,
            Mode::Vmapped(k) => bytes * k.min(total) as f64,
        };
        // The encoder's graph is kept while the decoder's derivatives are computed; their passes do not run at the same time.
        MARGIN * (self.once + held(ways.rows, self.row).max(held(ways.columns, self.column)))
    }
}
