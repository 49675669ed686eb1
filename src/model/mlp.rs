//! The fully connected architecture: flatten, hidden layers, and their mirror image.
//!
//! Source: Khan & Storkey 2023, experiments on MNIST (784-512-512-L).

use super::layer::{Layer, Sequence, Slot};
use super::spec::MlpSpec;

/// Encoder on [B, D] and decoder to [B, D]; returns them with the encoder's width.
pub(crate) fn layers(
    spec: &MlpSpec,
    dim: i64,
    slots: &mut Vec<Slot>,
) -> (Vec<Layer>, Vec<Layer>, i64) {
    let mut encoder = Sequence::new(slots, "encoder", spec.normalization, spec.activation);
    let mut width = dim;
    for &hidden in &spec.hidden {
        encoder.linear(width, hidden);
        encoder.activate(hidden);
        width = hidden;
    }
    let (encoder, features) = (encoder.finish(), width);

    let mut decoder = Sequence::new(slots, "decoder", spec.normalization, spec.activation);
    width = spec.latent;
    for &hidden in spec.hidden.iter().rev() {
        decoder.linear(width, hidden);
        decoder.activate(hidden);
        width = hidden;
    }
    decoder.linear(width, dim);
    (encoder, decoder.finish(), features)
}
