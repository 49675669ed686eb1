//! What a pass will take, before the first one runs: on a CPU what does not fit is not refused but killed.

use super::{Mode, Ways};

/// Bytes of one sample in a pass, as far as one pass forward and one row or column tell.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Footprint {
    /// However its derivatives are taken: what the model keeps for them, the factor, its Gram matrix.
    pub once: f64,
    /// Each cotangent of the encoder that a backward pass carries, and how many there are.
    pub row: (f64, usize),
    /// The same of the decoder.
    pub column: (f64, usize),
}

/// What is measured of one row is not all that many take: batching rules lay out what one row shares.
const MARGIN: f64 = 1.25;

impl Footprint {
    /// Bytes of a sample in a pass by `ways`.
    pub fn bytes(&self, ways: Ways) -> f64 {
        let held = |mode: Mode, (bytes, total): (f64, usize)| match mode {
            // Folded, a few samples at a time have maps of a cache's size.
            Mode::Looped | Mode::Folded => bytes,
            Mode::Vmapped(k) => bytes * k.min(total) as f64,
        };
        // The encoder's graph waits while the decoder's derivatives are taken; their passes do not run at one time.
        MARGIN * (self.once + held(ways.rows, self.row).max(held(ways.columns, self.column)))
    }
}
