//! Arrays of samples, of whatever file: what their axes mean, what their numbers mean, which are classes.

use crate::data::{ImageShape, Layout, Reading};
use crate::error::{Error, Result};
use rayon::prelude::*;
use tch::Tensor;

/// What the axes of an array of samples mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axes {
    /// N.
    pub count: usize,
    /// The image that a sample is, or is seen as.
    pub shape: ImageShape,
    /// A sample's own axes, [C, H, W] where it is an image.
    pub sample: Vec<i64>,
    /// The channels come last.
    pub channels_last: bool,
}

/// So many channels or fewer, on the last axis of an array with more on its second, are channels that come last.
const FEW: usize = 4;

impl Axes {
    /// Of [N, D], [N, H, W] (or [N, C, T]), [N, C, H, W] or [N, H, W, C], [N, C, D, H, W].
    ///
    /// # Errors
    /// A wrong request that names `place` where the axes are others.
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

    /// [B, C, H, W] of rows as they are stored, `values` one after the other.
    pub fn images(&self, values: &[f32]) -> Result<Tensor> {
        let ImageShape { channels, height, width } = self.shape;
        let batch = values.len() as i64 / self.shape.dim();
        let flat = Tensor::f_from_slice(values)?;
        if self.channels_last {
            return Ok(flat.f_reshape([batch, height, width, channels])?.f_permute([0, 3, 1, 2])?.f_contiguous()?);
        }
        Ok(flat.f_reshape([batch, channels, height, width])?)
    }

    /// What a user should know of how the axes were read.
    pub fn note(&self, reading: &Reading) -> Option<String> {
        let ImageShape { channels, height, width } = self.shape;
        (self.channels_last && reading.layout.is_none())
            .then(|| format!("read as [N, H, W, C], {channels}x{height}x{width} (--layout nchw if it is not)"))
    }
}

/// What stored numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// 0 or 1.
    Bool,
    /// 0 to 255.
    Bytes,
    /// 0 to 65535.
    Words,
    /// Other whole numbers, of which nobody knows what means 1.
    Whole,
    /// Floating point.
    Float,
}

impl Numbers {
    /// The value that means 1, where the type tells; whole numbers need to be told.
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

    /// `values` of the samples `index` over their `scale`; of floating point numbers those outside [0, 1], NaN among them, are refused
    /// unless it was said what they mean.
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
        // Divided in single precision, as bytes always were: v / 255 must come out the same whatever file they were in.
        let single = scale as f32;
        Ok(values.par_iter().map(|&v| if scale == 1.0 { v.into() as f32 } else { v.into() as f32 / single }).collect())
    }
}

/// True where an array beside `count` samples holds one value of each: [N], [N, 1] or [N, 1, 1, 1].
pub fn is_one_each(axes: &[usize], count: usize) -> bool {
    matches!(axes, [n, ones @ ..] if *n == count && ones.iter().all(|d| *d == 1))
}

/// Values in one image at most: a header that tells more is damaged, and memory must not be asked for it.
const LARGEST: u64 = 1 << 28;

/// The shape of an image whose axes a file tells; `place` names the file.
pub fn image_shape(place: &str, channels: u64, height: u64, width: u64) -> Result<ImageShape> {
    let dim = height.checked_mul(width).and_then(|plane| plane.checked_mul(channels));
    if dim.is_none_or(|d| d == 0 || d > LARGEST) {
        let expected = format!("images of 1 to {LARGEST} values");
        return Err(Error::request(place, expected, format!("{channels} x {height} x {width} (C x H x W)")));
    }
    Ok(ImageShape { channels: channels as i64, height: height as i64, width: width as i64 })
}
