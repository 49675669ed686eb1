//! A fingerprint of a data set's contents, independent of its name and its place.

use super::Source;
use crate::error::Result;
use sha2::{Digest, Sha256};
use tch::Kind;

/// Samples that are hashed: enough to tell two data sets apart, and few enough to be read quickly.
const LOOKED_AT: u64 = 64;

/// SHA-256, hexadecimal, of the number and shape of the samples and of some samples, spread evenly from the first to the last: pixels as
/// f32 and labels as i64, little-endian.
///
/// # Errors
/// If these samples cannot be read.
pub fn fingerprint(source: &dyn Source) -> Result<String> {
    let count = source.len() as u64;
    let shape = source.shape();
    let mut hash = Sha256::new();
    for number in [count as i64, shape.channels, shape.height, shape.width] {
        hash.update(number.to_le_bytes());
    }
    let looked_at = count.min(LOOKED_AT);
    let spread = |k: u64| k * count.saturating_sub(1) / looked_at.saturating_sub(1).max(1);
    let index: Vec<u64> = (0..looked_at).map(spread).collect();
    if !index.is_empty() {
        let batch = source.read(&index)?;
        let pixels = Vec::<f32>::try_from(batch.images.f_to_kind(Kind::Float)?.f_flatten(0, -1)?)?;
        pixels.iter().for_each(|x| hash.update(x.to_le_bytes()));
        let labels = batch.labels.map(Vec::<i64>::try_from).transpose()?;
        labels.iter().flatten().for_each(|label| hash.update(label.to_le_bytes()));
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
