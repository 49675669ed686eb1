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
        let total = self.source.len();
        let mut rng = seed::generator(self.subject().seed, Stage::Others, 0, 1);
        let mut index: Vec<u64> =
            rand::seq::index::sample(&mut rng, total, OTHERS.min(total)).into_iter().map(|i| i as u64).collect();
        index.sort_unstable();
        let images = self.source.read(&index)?.images.f_to_device(self.device)?.f_to_kind(self.kind)?;
        Ok(Others { images, index })
    }
}

/// Their positions, as in result files.
pub(super) fn column(others: &Others) -> Column {
    let index = others.index.iter().map(|i| *i as i64).collect::<Vec<_>>();
    Column { path: "/others".to_owned(), shape: vec![index.len()], sample_axis: 0, values: Values::I64(index) }
}

/// The same images for another thread.
pub(super) fn shared(others: &Others) -> Others {
    Others { images: Tensor::shallow_clone(&others.images), index: others.index.clone() }
}
