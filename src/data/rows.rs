//! Reads rows in any order through reads of neighbours; turns bytes into pixels.

use crate::data::{Batch, ImageShape, Split};
use crate::error::{Error, Result};
use std::fmt::Display;
use std::ops::Range;
use std::path::Path;
use tch::{Kind, Tensor};

/// Reads the rows at `index`, `width` values each, in that order.
///
/// `read` fills its slice with a range of neighbouring rows. Rows are read in ascending order, each once, and runs of neighbours together,
/// so that a shuffled batch of a chunked file opens each chunk once.
pub fn gather<T: Copy + Default>(
    index: &[u64],
    width: usize,
    mut read: impl FnMut(Range<u64>, &mut [T]) -> Result<()>,
) -> Result<Vec<T>> {
    let mut out = vec![T::default(); index.len() * width];
    let mut order: Vec<usize> = (0..index.len()).collect();
    order.sort_by_key(|&position| index[position]);
    let mut scratch = Vec::new();
    let mut rest = order.as_slice();
    while let Some(&first) = rest.first() {
        let start = index[first];
        let mut end = start + 1;
        let mut count = 1;
        while let Some(&next) = rest.get(count) {
            match index[next] {
                i if i == end => end += 1,
                i if i + 1 == end => {} // the same row again
                _ => break,
            }
            count += 1;
        }
        let (run, after) = rest.split_at(count);
        let length = (end - start) as usize;
        if length == count && run.windows(2).all(|pair| pair[1] == pair[0] + 1) {
            read(start..end, &mut out[first * width..(first + count) * width])?;
        } else {
            scratch.resize(length * width, T::default());
            read(start..end, &mut scratch)?;
            for &position in run {
                let row = (index[position] - start) as usize * width;
                out[position * width..(position + 1) * width].copy_from_slice(&scratch[row..row + width]);
            }
        }
        rest = after;
    }
    Ok(out)
}

/// Bytes [B, C, H, W] to f32 in [0, 1]: value / 255.
pub fn from_bytes(bytes: &[u8], shape: ImageShape) -> Result<Tensor> {
    let images = Tensor::f_from_slice(bytes)?.f_to_kind(Kind::Float)?.f_divide_scalar_(255.0)?;
    Ok(images.f_reshape(axes(bytes.len(), shape))?)
}

/// Values [B, C, H, W] that already lie in [0, 1].
pub fn from_floats(values: &[f32], shape: ImageShape) -> Result<Tensor> {
    Ok(Tensor::f_from_slice(values)?.f_reshape(axes(values.len(), shape))?)
}

/// [B, C, H, W] of `length` values; B is written out because -1 is ambiguous if B = 0.
fn axes(length: usize, shape: ImageShape) -> [i64; 4] {
    [length as i64 / shape.dim(), shape.channels, shape.height, shape.width]
}

/// A batch of `images` [B, C, H, W] with its labels, if there are any.
pub fn batch(images: Tensor, labels: Option<&[i64]>, index: &[u64]) -> Result<Batch> {
    let labels = labels.map(Tensor::f_from_slice).transpose()?;
    Ok(Batch { images, labels, index: index.to_vec() })
}

/// An [`Error::Request`] about a file.
pub fn wrong(path: &Path, expected: impl Into<String>, found: impl Into<String>) -> Error {
    Error::request(path.display().to_string(), expected, found)
}

/// The error for data that are there, but have no part `split`: [`is_no_split`] knows it.
pub fn no_split(path: &Path, split: Split, expected: impl Display, found: impl Into<String>) -> Error {
    wrong(path, format!("{expected}{}", for_split(split)), found)
}

/// True if data were not opened because they have no part `split`, and not because something is wrong with it.
pub fn is_no_split(error: &Error, split: Split) -> bool {
    matches!(error, Error::Request { expected, .. } if expected.ends_with(&for_split(split)))
}

fn for_split(split: Split) -> String {
    format!(" for the {} split", split.name())
}

/// The first line of a library's message.
pub fn first_line(message: &impl ToString) -> String {
    message.to_string().lines().next().unwrap_or("an unknown fault").trim_end().to_owned()
}
