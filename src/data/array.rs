//! Arrays of samples from any file: what their axes and numbers mean, and which of them are classes.

use crate::data::{ImageShape, Layout, Reading};
use crate::error::{Error, Result};
use rayon::prelude::*;
use tch::Tensor;

/// What the axes of an array of samples mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axes {
    /// N.
    pub count: usize,
    /// The image that a sample is, or is treated as.
    pub shape: ImageShape,
    /// A sample's own axes, [C, H, W] if it is an image.
    pub sample: Vec<i64>,
    /// The channels come last.
    pub channels_last: bool,
}

/// If the last axis has at most this size and the second axis is larger, the channels come last.
const FEW: usize = 4;

impl Axes {
    /// The axes of [N, D], [N, H, W] (or [N, C, T]), [N, C, H, W] or [N, H, W, C], [N, C, D, H, W].
    ///
    /// # Errors
    /// A wrong request that names `place` if there are other axes.
    pub fn of(place: &str, axes: &[usize], reading: &Reading) -> Result<Self> {
        let (count, sample) = match axes {
            [count, sample @ ..] if (1..=4).contains(&sample.len()) => (*count, sample),
            _ => {
                let expected = "[N, H, W], [N, C, H, W], [N, H, W, C], [N, D] or [N, C, D, H, W]";
                return Err(Error::request(place, expected, format!("{axes:?}")));
            }
        };
        if count == 0 {
            return Err(Error::request(place, "at least one image", format!("{axes:?}")));
        }
        let channels_last = match (sample, reading.layout) {
            ([first, .., last], None) if sample.len() == 3 => *last <= FEW && *first > FEW,
            ([_, _, _], Some(layout)) => layout == Layout::Nhwc,
            (_, Some(Layout::Nhwc)) => {
                return Err(Error::request(place, "four axes for --layout nhwc", format!("{axes:?}")));
            }
            _ => false,
        };
        let [channels, height, width] = match *sample {
            [height, width, channels] if channels_last => [channels, height, width],
            [channels, height, width] => [channels, height, width],
            [length] => [1, 1, length],
            [height, width] => [1, height, width],
            [channels, depth, height, width] => [channels, depth.saturating_mul(height), width],
            _ => return Err(Error::request(place, "one to four axes of a sample", format!("{axes:?}"))),
        };
        let shape = image_shape(place, channels as u64, height as u64, width as u64)?;
        let sample = match sample.len() {
            3 => vec![shape.channels, shape.height, shape.width],
            _ => sample.iter().map(|n| *n as i64).collect(),
        };
        Ok(Self { count, shape, sample, channels_last })
    }

    /// [B, C, H, W] from rows as they are stored, with `values` one after the other.
    pub fn images(&self, values: &[f32]) -> Result<Tensor> {
        let ImageShape { channels, height, width } = self.shape;
        let batch = values.len() as i64 / self.shape.dim();
        let flat = Tensor::f_from_slice(values)?;
        if self.channels_last {
            return Ok(flat.f_reshape([batch, height, width, channels])?.f_permute([0, 3, 1, 2])?.f_contiguous()?);
        }
        Ok(flat.f_reshape([batch, channels, height, width])?)
    }

    /// What a user should know about how the axes were read.
    pub fn note(&self, reading: &Reading) -> Option<String> {
        let ImageShape { channels, height, width } = self.shape;
        (self.channels_last && reading.layout.is_none())
            .then(|| format!("read as [N, H, W, C], {channels}x{height}x{width} (--layout nchw if it is not)"))
    }
}

/// The type of stored numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// 0 or 1.
    Bool,
    /// 0 to 255.
    Bytes,
    /// 0 to 65535.
    Words,
    /// Other whole numbers; their type does not say which value means 1.
    Whole,
    /// Floating point.
    Float,
}

impl Numbers {
    /// The value that means 1, if the type says so; for whole numbers the user must give it.
    ///
    /// # Errors
    /// A wrong request that names `place` and the flag.
    pub fn full_scale(self, place: &str, name: &str, reading: &Reading) -> Result<f64> {
        match self {
            Self::Bool | Self::Float => Ok(1.0),
            Self::Bytes => Ok(255.0),
            Self::Words => Ok(65535.0),
            Self::Whole if reading.full_scale.is_some() => Ok(1.0),
            Self::Whole => {
                let expected = "uint8, uint16, bool or floating point (or --full-scale V, the value that means 1)";
                Err(Error::request(place, expected, name))
            }
        }
    }

    /// `values` of the samples `index` divided by their `scale`. Floating point numbers outside [0, 1], and NaN, are refused unless the
    /// user said what they mean.
    pub fn pixels<T>(self, place: &str, index: &[u64], values: &[T], scale: f64, reading: &Reading) -> Result<Vec<f32>>
    where
        T: Copy + Sync + std::fmt::Display + Into<f64>,
    {
        let is_wrong = |v: &T| !(0.0..=1.0).contains(&(*v).into());
        if self == Self::Float
            && reading.full_scale.is_none()
            && let Some(position) = values.par_iter().position_first(is_wrong)
        {
            let sample = index.get(position / (values.len() / index.len().max(1)).max(1)).copied().unwrap_or(0);
            let expected = "pixels in [0, 1] (or --full-scale V, the value that means 1, or none)";
            return Err(Error::request(format!("{place}, sample {sample}"), expected, values[position].to_string()));
        }
        // Divided in single precision, as for bytes: v / 255 must be the same for every file format.
        let single = scale as f32;
        Ok(values.par_iter().map(|&v| if scale == 1.0 { v.into() as f32 } else { v.into() as f32 / single }).collect())
    }
}

/// True if an array that stands beside `count` samples holds one value for each: [N], [N, 1] or [N, 1, 1, 1].
pub fn is_one_each(axes: &[usize], count: usize) -> bool {
    matches!(axes, [n, ones @ ..] if *n == count && ones.iter().all(|d| *d == 1))
}

/// A label as the class that it is.
///
/// # Errors
/// A wrong request that names `place` for what no class can be.
pub fn class(place: &str, label: u64) -> Result<i64> {
    i64::try_from(label).map_err(|_| Error::request(place, "labels below 2^63", label.to_string()))
}

/// The most values in one image: a header with more is damaged, and no memory must be requested for it.
const LARGEST: u64 = 1 << 28;

/// The shape of an image from the axes in a file; `place` names the file.
pub fn image_shape(place: &str, channels: u64, height: u64, width: u64) -> Result<ImageShape> {
    let dim = height.checked_mul(width).and_then(|plane| plane.checked_mul(channels));
    if dim.is_none_or(|d| d == 0 || d > LARGEST) {
        let expected = format!("images of 1 to {LARGEST} values");
        return Err(Error::request(place, expected, format!("{channels} x {height} x {width} (C x H x W)")));
    }
    Ok(ImageShape { channels: channels as i64, height: height as i64, width: width as i64 })
}
