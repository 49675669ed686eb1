//! Results in HDF5 (format 1): blocks of rows keyed by sample index, finished atomically, resumed, merged.

use crate::error::Result;

/// Values of one column, row-major on the host.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Double precision.
    F64(Vec<f64>),
    /// Single precision (images).
    F32(Vec<f32>),
    /// Integers.
    I64(Vec<i64>),
}

/// One data set's part of a [`Block`].
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Path in the file: `/scores/trace`, `/attack/pgd/latent_l2`.
    pub path: String,
    /// Shape of this part; the axis `sample_axis` has the block's length.
    pub shape: Vec<usize>,
    /// Which axis counts samples: 0 for `[N]` and `[N, R]`, 1 for `[E, N]`.
    pub sample_axis: usize,
    /// The values, `shape.product()` of them.
    pub values: Values,
}

/// What a stage hands to a [`Sink`]: some samples and all that was computed of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// Position of each sample in the data set.
    pub index: Vec<u64>,
    /// Class of each sample, where known.
    pub labels: Option<Vec<i64>>,
    /// The results.
    pub columns: Vec<Column>,
}

/// Where blocks go: a file, or a test's memory.
pub trait Sink {
    /// Takes one block; what it took survives an interruption.
    fn put(&mut self, block: &Block) -> Result<()>;
    /// Makes the result visible under its final name.
    fn finish(self: Box<Self>) -> Result<()>;
}
