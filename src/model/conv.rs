//! The convolutional architecture: 4x4 convolutions of stride 2, one hidden layer, and their mirror image.

use super::layer::{Layer, Sequence, Slot, halved};
use super::spec::ConvSpec;
use crate::data::ImageShape;

/// Encoder on [B, C, H, W] and decoder to [B, C, H, W]; returns them with the encoder's width.
pub(crate) fn layers(
    spec: &ConvSpec,
    image: ImageShape,
    slots: &mut Vec<Slot>,
) -> (Vec<Layer>, Vec<Layer>, i64) {
    // Channels, height and width before each convolution and after the last.
    let mut sizes = vec![[image.channels, image.height, image.width]];
    let mut encoder = Sequence::new(slots, "encoder", spec.normalization, spec.activation);
    let mut last = sizes[0];
    for &channels in &spec.channels {
        encoder.conv(last[0], channels);
        encoder.activate(channels);
        last = [channels, halved(last[1]), halved(last[2])];
        sizes.push(last);
    }
    encoder.flatten();
    let flat = last.iter().product();
    if spec.hidden > 0 {
        encoder.linear(flat, spec.hidden);
        encoder.activate(spec.hidden);
    }
    let encoder = encoder.finish();

    let mut decoder = Sequence::new(slots, "decoder", spec.normalization, spec.activation);
    let mut width = spec.latent;
    if spec.hidden > 0 {
        decoder.linear(width, spec.hidden);
        decoder.activate(spec.hidden);
        width = spec.hidden;
    }
    decoder.linear(width, flat);
    decoder.unflatten(last);
    decoder.activate(last[0]);
    for (i, pair) in sizes.windows(2).enumerate().rev() {
        let (wide, narrow) = (pair[0], pair[1]);
        decoder.conv_transpose(
            narrow[0],
            wide[0],
            [wide[1] - 2 * narrow[1], wide[2] - 2 * narrow[2]],
        );
        if i > 0 {
            decoder.activate(wide[0]);
        }
    }
    (
        encoder,
        decoder.finish(),
        if spec.hidden > 0 { spec.hidden } else { flat },
    )
}
