//! The ways of computing a pass's Jacobians; the planner chooses among them.

/// How the cotangents of one Jacobian are pulled back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One backward pass for each cotangent.
    Looped,
    /// At most this many in one vmapped backward pass.
    Vmapped(usize),
    /// All cotangents of a few samples at a time, as one batch through our own rules.
    Folded,
}

/// How the two Jacobians of a pass are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ways {
    /// Rows of the encoder's Jacobian.
    pub rows: Mode,
    /// Columns of the decoder's Jacobian, if the metric has one.
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
    /// How their Jacobians are computed.
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

/// More cotangents than this in one backward pass rarely save time on a CPU, and memory grows in proportion.
pub const CHUNK: usize = 16;
