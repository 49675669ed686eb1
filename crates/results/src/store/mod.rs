//! Results in HDF5 (format 2; 1 is read too): blocks of rows keyed by sample index, finished atomically, resumed, merged.
//!
//! Scores, attacks and measures have names here only as parts of a path: nothing in this module knows one.

mod checksum; // of rows, data sets, and the whole
mod columns; // values and their rows, in memory and in HDF5 data sets
mod header; //  root attributes: what a file holds and of which run
mod journal; // which rows of an unfinished file are done
mod merge; //   shards of one run -> one file
mod partial; // the unfinished file
mod probe; //   what is known of a file before it is believed
mod reader; //  files in, checked
mod relation; // what relations of a sweep are about
mod schema; //  which paths a file may hold and which axis counts samples
mod summary; // what a file holds, in a few lines
mod target; //  output paths: refused early, published atomically
mod unfinished; // what an interrupted run has done
mod whole; //   files and data sets written in one go
mod writer; //  blocks out, resumed after an interruption

pub mod tensorboard; // curves and images of a training run, as TensorBoard reads them

use crate::error::Result;

pub use columns::Dtype;
pub use header::Header;
pub use merge::merge;
pub use reader::{Reader, is_result};
pub use relation::{Quantity, Relation, attacks, direction};
pub use schema::{DatasetInfo, FORMAT, FileKind, sample_axis};
pub use summary::{Contents, ScoreSummary, inspect};
pub use target::Overwrite;
pub use unfinished::{finished, unfinished};
pub use whole::write_whole;
pub use writer::{Resumption, Samples, Writer};

/// Values of one column, row-major on the host.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Double precision.
    F64(Vec<f64>),
    /// Single precision (images).
    F32(Vec<f32>),
    /// Integers.
    I64(Vec<i64>),
    /// Small flags (0 or 1).
    U8(Vec<u8>),
}

/// One data set's part of a [`Block`], or a whole data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Path in the file: `/scores/trace`, `/attack/pgd/latent_l2`.
    pub path: String,
    /// Shape of this part; the axis `sample_axis` has the block's length.
    pub shape: Vec<usize>,
    /// Which axis counts samples: 0 for `[N]` and `[N, R]`, 1 for `[E, N]`. Of no meaning in a data set that has
    /// no row per sample (`/eps`).
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
