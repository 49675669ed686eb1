//! File bytes to [`Batch`]: every kind of data set behind one [`Source`].

mod array; //   what axes and numbers of arrays mean
mod cifar; //   CIFAR-10 binary batches
mod fingerprint; // a fingerprint of the contents
mod foreign; // files that are not read, and how to convert them
mod folder; //  classes and splits of pictures
mod hdf5; //    /images and /labels
mod idx; //     MNIST's format, plain or gzipped
mod listing; // the entries of a folder
mod loader; //  reading ahead
mod names; //   of images and labels in files of arrays
mod open; //    which kind of data set a path is
mod numpy; //   .npy and .npz
mod picture; // one picture
mod probe; //   size and colour from an image file's header
mod provided; // arrays that the caller holds
mod reading; // what flags say about data
mod rows; //    scattered rows through reads of neighbours
mod stored; //  what HDF5 data sets hold
mod tiff; //    what a TIFF file says of its alpha channel
mod tree; //    pictures at any depth
mod strokes; // generated digits

pub use array::Numbers;
pub use fingerprint::fingerprint;
pub use loader::{Batches, ahead, batches};
pub(crate) use numpy::is_npz;
pub use open::{open, open_as};
pub use provided::{Rows, of_rows};
pub use reading::{Background, FullScale, Layout, Reading};
pub(crate) use rows::is_no_split;

use crate::error::Result;
use tch::Tensor;

/// Shape of one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageShape {
    /// C.
    pub channels: i64,
    /// H in pixels.
    pub height: i64,
    /// W in pixels.
    pub width: i64,
}

impl ImageShape {
    /// D = C*H*W, the length of a flattened image.
    pub fn dim(self) -> i64 {
        self.channels * self.height * self.width
    }
}

/// Which part of a data set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, strum::IntoStaticStr)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Split {
    /// The training part.
    Train,
    /// The test part.
    #[default]
    Test,
    /// The validation part.
    #[cfg_attr(feature = "cli", value(aliases = ["valid", "validation"]))]
    #[serde(alias = "valid", alias = "validation")]
    Val,
}

impl Split {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Train, Self::Test, Self::Val];

    /// `train`, `test` or `val`.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The names of this split in files and folders; the usual name is first.
    pub(crate) fn names(self) -> &'static [&'static str] {
        match self {
            Self::Train => &["train", "training"],
            Self::Test => &["test", "testing"],
            Self::Val => &["val", "valid", "validation"],
        }
    }
}

/// Some samples of a data set, on the CPU.
#[derive(Debug)]
pub struct Batch {
    /// `[B, C, H, W]` f32 in `[0, 1]`.
    pub images: Tensor,
    /// `[B]` i64, where the data set has labels.
    pub labels: Option<Tensor>,
    /// Position of each row in the data set.
    pub index: Vec<u64>,
}

/// A data set that is read in pieces; nothing holds it whole unless it is small.
pub trait Source: Send + Sync {
    /// What it is, for result files and reports: `strokes`, or the path.
    fn name(&self) -> &str;
    /// Its format, in words.
    fn format(&self) -> &'static str {
        "in memory"
    }
    /// Number of samples in the chosen split, after any limit.
    fn len(&self) -> usize;
    /// True if there is no sample.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Shape of every image.
    fn shape(&self) -> ImageShape;
    /// A sample's own axes: [C, H, W] of an image, or others, which are treated as an image of [`Source::shape`].
    fn sample(&self) -> Vec<i64> {
        let ImageShape { channels, height, width } = self.shape();
        vec![channels, height, width]
    }
    /// The stored value that becomes 1 when it is read.
    fn full_scale(&self) -> f64 {
        255.0
    }
    /// What the user should know about how the data were read.
    fn notes(&self) -> Vec<String> {
        vec![]
    }
    /// True if samples have class labels.
    fn has_labels(&self) -> bool;
    /// The names of classes 0, 1, ... if the data have them.
    fn classes(&self) -> Option<&[String]> {
        None
    }
    /// Reads the samples at `index` (each < `len`), in that order; runs of neighbours are read together.
    fn read(&self, index: &[u64]) -> Result<Batch>;
}
