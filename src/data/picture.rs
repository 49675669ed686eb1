//! One picture: the contents of its header, and its pixels.

use crate::data::probe::{Colour, PictureHeader, format, jpeg_is_whole, probe};
use crate::data::rows::{first_line, wrong};
use crate::data::tiff;
use crate::data::{Background, ImageShape};
use crate::error::{Error, Result};
use image::{DynamicImage, ImageFormat};
use std::path::Path;

/// What is known about a picture before it is read.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// H in pixels.
    pub height: u32,
    /// W in pixels.
    pub width: u32,
    /// Grey or colour.
    pub colour: Colour,
    /// 16 bits a value, not 8.
    pub wide: bool,
}

/// Examines a picture. Pixels are read only if the header does not say enough: whether those with an alpha channel are opaque, or whether a
/// palette is grey.
pub fn look(path: &Path, background: Option<Background>) -> Result<Look> {
    let header = probe(path)?;
    let PictureHeader { height, width, colour, alpha, wide } = match header {
        Some(header) => header,
        None => {
            let (image, _) = open(path)?;
            let colour = if is_grey(&image) { Colour::Grey } else { Colour::Rgb };
            let (height, width, alpha) = (image.height(), image.width(), image.color().has_alpha());
            PictureHeader { height, width, colour, alpha, wide: bits(&image) > 8 }
        }
    };
    if alpha && background.is_none() {
        opaque(path, &open(path)?.0)?;
    }
    Ok(Look { height, width, colour, wide })
}

/// Bits of one value.
fn bits(image: &DynamicImage) -> u16 {
    image.color().bits_per_pixel() / u16::from(image.color().channel_count())
}

/// True if every pixel is grey.
fn is_grey(image: &DynamicImage) -> bool {
    !image.color().has_color() || image.to_rgb16().pixels().all(|p| p.0[0] == p.0[1] && p.0[1] == p.0[2])
}

/// Refuses transparent pixels: the file does not say what lies under them, and a guess would change the data.
fn opaque(path: &Path, image: &DynamicImage) -> Result<()> {
    let rgba = image.to_rgba16();
    match rgba.pixels().position(|p| p.0[3] < u16::MAX) {
        None => Ok(()),
        Some(position) => {
            let alpha = f32::from(rgba.pixels().nth(position).map_or(0, |p| p.0[3])) / 65535.0;
            let expected = "opaque pixels (or --background black|white, which lies under the others)";
            Err(wrong(path, expected, format!("alpha {alpha} at pixel {position}")))
        }
    }
}

/// The decoded picture, and whether its colours are multiplied by their alpha already.
fn open(path: &Path) -> Result<(DynamicImage, bool)> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    let format = format(&bytes).or_else(|| image::guess_format(&bytes).ok());
    let format = format.ok_or_else(|| wrong(path, "a picture", "another kind of file"))?;
    if format == ImageFormat::Jpeg && !jpeg_is_whole(&bytes) {
        return Err(wrong(path, "a whole JPEG image", "a file that ends too early"));
    }
    let name = format!("a readable {} image", format!("{format:?}").to_ascii_uppercase());
    let image = image::load_from_memory_with_format(&bytes, format).map_err(|e| wrong(path, name, first_line(&e)))?;
    Ok((image, format == ImageFormat::Tiff && tiff::is_associated(&bytes)))
}

/// Decodes the image at `path` into `out`, [C, H, W] in [0, 1]: 8-bit values / 255, 16-bit values / 65535, floating point unchanged;
/// transparent pixels are drawn over `background`.
pub fn decode(path: &Path, shape: ImageShape, background: Option<Background>, out: &mut [f32]) -> Result<()> {
    let (image, associated) = open(path)?;
    if (i64::from(image.height()), i64::from(image.width())) != (shape.height, shape.width) {
        let found = format!("{} x {}", image.width(), image.height());
        return Err(wrong(path, format!("{} x {} pixels", shape.width, shape.height), found));
    }
    let colour = shape.channels > 1;
    // 8-bit values are widened, not rescaled: v / 255 must come out exactly.
    let wide = |bytes: Vec<u8>| (bytes.into_iter().map(u16::from).collect::<Vec<u16>>(), 255.0f32);
    let bits = bits(&image);
    if bits > 16 {
        let found = "floating point pixels (in Python: numpy.savez('FILE.npz', images=...))";
        return Err(wrong(path, "pixels of 8 or 16 bits", found));
    }
    let (values, top) = match (colour, bits > 8) {
        (false, false) => wide(image.to_luma_alpha8().into_raw()),
        (true, false) => wide(image.to_rgba8().into_raw()),
        (false, true) => (image.to_luma_alpha16().into_raw(), 65535.0f32),
        (true, true) => (image.to_rgba16().into_raw(), 65535.0),
    };
    let channels = if colour { 3 } else { 1 };
    let plane = out.len() / channels;
    let under = if background == Some(Background::White) { 1.0 } else { 0.0 };
    for (position, pixel) in values.chunks_exact(channels + 1).enumerate() {
        let alpha = f32::from(pixel[channels]) / top;
        if alpha < 1.0 && background.is_none() {
            // This was not so when the folder was opened.
            opaque(path, &image)?;
        }
        for (channel, &value) in pixel[..channels].iter().enumerate() {
            let value = f32::from(value) / top;
            out[channel * plane + position] = match alpha == 1.0 {
                true => value,
                // Lossy files may have a little more colour than alpha.
                false if associated => (value + (1.0 - alpha) * under).min(1.0),
                false => alpha * value + (1.0 - alpha) * under,
            };
        }
    }
    Ok(())
}
