//! Other images of the data set, towards which attacks may move.

use crate::error::Result;
use crate::seed::{self, Stage};
use rand::Rng;
use tch::{Kind, Tensor};

/// Images of the data set towards which attacks may move, the same for every batch and shard.
#[derive(Debug)]
pub struct Others {
    /// [M, C, H, W], of the victims' kind and device.
    pub images: Tensor,
    /// Their positions in the data set, M of them.
    pub index: Vec<u64>,
}

impl Others {
    /// The k-th of them for each sample: each sample has its own order, drawn from the seed, without the sample itself.
    pub(super) fn kth(&self, seed: u64, samples: &[u64], k: usize) -> Result<Tensor> {
        let places: Vec<i64> = samples
            .iter()
            .map(|sample| {
                let mut rng = seed::generator(seed, Stage::Others, *sample, 0);
                // A `k` beyond their number starts again from the first.
                let mut places: Vec<usize> = (0..self.index.len()).filter(|i| self.index[*i] != *sample).collect();
                // The first k + 1 steps of a shuffle (Fisher & Yates).
                let k = k % places.len().max(1);
                for i in 0..places.len().min(k + 1) {
                    let j = rng.random_range(i..places.len());
                    places.swap(i, j);
                }
                // A data set of one image has no other image: the direction is 0.
                places.get(k).copied().unwrap_or(0) as i64
            })
            .collect();
        let places = Tensor::f_from_slice(&places)?.f_to_device(self.images.device())?;
        Ok(self.images.f_index_select(0, &places.f_to_kind(Kind::Int64)?)?)
    }
}
