//! The ways of taking a pass's Jacobians, among which the planner chooses.

/// How the cotangents of one Jacobian are pulled back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One backward pass each.
    Looped,
    /// At most this many in one vmapped backward pass.
    Vmapped(usize),
    /// All of a few samples at a time, as one batch through rules of our own.
    Folded,
}

/// How the two Jacobians of a pass are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ways {
    /// Rows of the encoder's Jacobian.
    pub rows: Mode,
    /// Columns of the decoder's Jacobian, where the metric has one.
    pub columns: Mode,
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Looped => f.write_str("one backward pass a cotangent"),
            Self::Vmapped(usize::MAX) => f.write_str("all cotangents in one backward pass"),
            Self::Folded => f.write_str("all cotangents folded into the batch"),
            Self::Vmapped(k) => write!(f, "{k} cotangents a backward pass"),
        }
    }
}

impl std::fmt::Display for Ways {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.rows == self.columns {
            true => write!(f, "{}", self.rows),
            false => write!(f, "{} (columns of the decoder: {})", self.rows, self.columns),
        }
    }
}

/// What the planner asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    /// Samples in the pass.
    pub samples: usize,
    /// How their Jacobians are taken.
    pub ways: Ways,
}

/// Whether a metric needs the decoder's Jacobian too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Only the encoder's.
    Encoder,
    /// The encoder's and the decoder's.
    EncoderAndDecoder,
}

/// More cotangents than this rarely pay in one backward pass on a CPU, and take memory in proportion.
pub const CHUNK: usize = 16;
