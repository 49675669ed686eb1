//! The other images of the data set that attacks get.

use super::job::Job;
use crate::attack::Others;
use crate::error::Result;
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
    pub(super) fn choice(&self, count: usize, stream: u64) -> Result<(Vec<u64>, Tensor)> {
        let total = self.source.len();
        let mut rng = seed::generator(self.subject().seed, Stage::Others, 0, stream);
        let mut index: Vec<u64> =
            rand::seq::index::sample(&mut rng, total, count.min(total)).into_iter().map(|i| i as u64).collect();
        index.sort_unstable();
        let images = self.read(&index)?;
        Ok((index, images))
    }
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
