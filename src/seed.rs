//! Noise drawn from (run seed, stage, sample index): the same for any batch size, order, device or resume point.

use crate::error::Result;
use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use tch::Tensor;

/// What the noise is for. Each stage has its own stream, so that a new draw in one stage changes no other stage. Results are reproducible
/// only with these numbers: never reuse or renumber one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Stage {
    /// Initial weights (index: the parameter's position).
    Init = 1,
    /// Order of the training samples (index: epoch).
    Shuffle = 2,
    /// Reparameterisation noise in training (index: epoch << 32 | sample).
    Reparameterize = 3,
    /// Mixup partners and coefficients (index: epoch << 32 | step).
    Mixup = 4,
    /// Random attack directions (index: sample).
    RandomDirection = 5,
    /// Random starts of iterative attacks (index: sample).
    AttackStart = 6,
    /// Bootstrap resamples (index: resample).
    Bootstrap = 7,
    /// Generated digits (index: sample).
    Strokes = 8,
    /// Probes of stochastic estimators (index: sample).
    Probe = 9,
    /// Codes whose images training shows (index: position of the image).
    Show = 10,
    /// The draw of samples from a data set (index: 0).
    Draw = 11,
    /// The other images that attacks move towards (index: sample; index 0 of stream 1: the choice from the data set).
    Others = 12,
    /// Draws of a defence or of a gradient-free attack (index: sample).
    Query = 13,
    /// Draws of the code for the margin of robustness (index: sample).
    Margin = 14,
}

/// The generator of (`seed`, `stage`, `index`). `stream` separates several uses within one stage.
pub fn generator(seed: u64, stage: Stage, index: u64, stream: u64) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&(stage as u64).to_le_bytes());
    key[16..24].copy_from_slice(&index.to_le_bytes());
    key[24..].copy_from_slice(&stream.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

/// Standard normal noise, `[index.len(), width]` f32 on the CPU; row i depends on `index[i]` only.
pub fn normal(seed: u64, stage: Stage, index: &[u64], width: usize) -> Result<Tensor> {
    normal_stream(seed, stage, 0, index, width)
}

/// [`normal`] from one of several independent streams of a stage: restarts, draws.
pub fn normal_stream(seed: u64, stage: Stage, stream: u64, index: &[u64], width: usize) -> Result<Tensor> {
    rows(index, width, |i, row| {
        let mut rng = generator(seed, stage, i, stream);
        row.iter_mut().for_each(|x| *x = rng.sample::<f32, _>(StandardNormal));
    })
}

/// Uniform noise on [-1, 1), `[index.len(), width]` f32 on the CPU; row i depends on `index[i]` only.
pub fn uniform(seed: u64, stage: Stage, index: &[u64], width: usize) -> Result<Tensor> {
    rows(index, width, |i, row| {
        let mut rng = generator(seed, stage, i, 0);
        row.iter_mut().for_each(|x| *x = rng.random_range(-1.0f32..1.0));
    })
}

fn rows(index: &[u64], width: usize, fill: impl Fn(u64, &mut [f32]) + Sync) -> Result<Tensor> {
    use rayon::prelude::*;
    let mut data = vec![0f32; index.len() * width];
    if width > 0 {
        data.par_chunks_mut(width).zip(index.par_iter()).for_each(|(row, i)| fill(*i, row));
    }
    Ok(Tensor::f_from_slice(&data)?.f_reshape([index.len() as i64, width as i64])?)
}
