//! Results in HDF5 (format 2; 1 is read too): blocks of rows keyed by sample index, finished atomically, resumed, merged.
//!
//! Scores, attacks and measures are only parts of paths here: nothing in this module knows a single one.

mod checksum; // of rows, data sets, and the whole
mod columns; // values and their rows, in memory and in HDF5 data sets
mod header; //  root attributes: a file's contents and its run
mod journal; // the finished rows of an unfinished file
mod merge; //   shards of one run -> one file
mod partial; // the unfinished file
mod probe; //   checks of a file before its contents are used
mod reader; //  reads and checks files
mod relation; // the relations of a sweep
mod schema; //  which paths a file may hold and which axis counts samples
mod summary; // a file's contents in a few lines
mod target; //  output paths: refused early, published atomically
mod unfinished; // what an interrupted run has done
mod whole; //   files and data sets written in one go
mod writer; //  writes blocks, resumes after an interruption

pub mod tensorboard; // curves and images of a training run, as TensorBoard reads them

use crate::error::Result;

pub use crate::ffi::virtual_parts::{VirtualPart, virtual_parts};
pub use columns::Dtype;
pub use header::Header;
pub use merge::merge;
pub use probe::{checksums_are_whole, heap_is_whole, superblock};
pub use reader::{Reader, is_foreign, is_result};
pub use relation::{Quantity, Relation, attacks, direction};
pub use schema::{DatasetInfo, FORMAT, FileKind, sample_axis};
pub use summary::{Contents, ScoreSummary, inspect};
pub use target::{Overwrite, discard_unfinished, ensure_apart, ensure_free};
pub(crate) use target::{folder, sync_name};
pub use unfinished::{begun, finished};
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
    /// Which axis counts samples: 0 for `[N]` and `[N, R]`, 1 for `[E, N]`. It has no meaning in a data set without a row for each sample
    /// (`/eps`).
    pub sample_axis: usize,
    /// The values, `shape.product()` of them.
    pub values: Values,
}

/// What a stage passes to a [`Sink`]: some samples and all results for them.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// Position of each sample in the data set.
    pub index: Vec<u64>,
    /// Class of each sample, if known.
    pub labels: Option<Vec<i64>>,
    /// The results.
    pub columns: Vec<Column>,
}

/// The destination of blocks: a file, or a test's memory.
pub trait Sink {
    /// Takes one block, which then survives an interruption.
    fn put(&mut self, block: &Block) -> Result<()>;
    /// Makes the result visible under its final name.
    fn finish(self: Box<Self>) -> Result<()>;
}
