//! The other images of the data set that attacks get.

use super::job::Job;
use crate::attack::{Others, whole};
use crate::error::{Error, Result};
use crate::seed::{self, Stage};
use crate::store::{Column, Values};
use tch::Tensor;

/// The number of images that attacks may move towards.
const OTHERS: usize = 64;

impl Job<'_> {
    /// Some images of the data set, chosen by the seed: the same for every batch and shard.
    ///
    /// # Errors
    /// If they cannot be read.
    pub(super) fn others(&self) -> Result<Others> {
        let (index, images) = self.choice(OTHERS, 1)?;
        Ok(Others { images, index })
    }

    /// Positions, ascending, and images [n, C, H, W] of at most `count` samples of the data set; each `stream` of the seed is another choice.
    /// Those with a pixel that is not finite are left out.
    ///
    /// # Errors
    /// A wrong request if all are left out; other errors if they cannot be read.
    pub(super) fn choice(&self, count: usize, stream: u64) -> Result<(Vec<u64>, Tensor)> {
        let total = self.source.len();
        let mut rng = seed::generator(self.subject().seed, Stage::Others, 0, stream);
        let mut index: Vec<u64> =
            rand::seq::index::sample(&mut rng, total, count.min(total)).into_iter().map(|i| i as u64).collect();
        index.sort_unstable();
        let images = self.read(&index)?;
        finite(index, images)
    }
}

/// The images all of whose pixels are finite, and their positions.
///
/// # Errors
/// A wrong request if there are none.
pub(super) fn finite(index: Vec<u64>, images: Tensor) -> Result<(Vec<u64>, Tensor)> {
    let whole = whole(&images)?;
    if whole.f_all()?.f_int64_value(&[])? == 1 {
        return Ok((index, images));
    }
    let places = Vec::<i64>::try_from(&whole.f_nonzero()?.f_flatten(0, -1)?)?;
    if places.is_empty() {
        let expected = "some whose pixels are finite numbers";
        return Err(Error::request("images that the seed chooses", expected, format!("none of {}", index.len())));
    }
    let images = images.f_index_select(0, &Tensor::f_from_slice(&places)?.f_to_device(images.device())?)?;
    Ok((places.iter().map(|place| index[*place as usize]).collect(), images))
}

/// Positions of chosen images, as in result files.
pub(super) fn column(path: &str, index: &[u64]) -> Column {
    let index = index.iter().map(|i| *i as i64).collect::<Vec<_>>();
    Column { path: path.to_owned(), shape: vec![index.len()], sample_axis: 0, values: Values::I64(index) }
}

/// The same images for another thread.
pub(super) fn shared(others: &Others) -> Others {
    Others { images: Tensor::shallow_clone(&others.images), index: others.index.clone() }
}
