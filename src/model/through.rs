//! A defence in front of a model: what is done to an image before it is encoded.
//!
//! An attack goes through it, and clean images do so too. Resizing is differentiated; JPEG has gradient 0 almost everywhere, and its
//! derivative is taken to be the identity instead (Athalye, Carlini & Wagner 2018, backward pass differentiable approximation).

use super::{Posterior, Vae};
use crate::data::ImageShape;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use tch::{Device, Kind, Tensor};

/// One thing that is done to images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Defence {
    /// To 8 bits, through JPEG of this quality (1 to 100) without chroma subsampling, and back.
    Jpeg(u8),
    /// Down to so many pixels of the shorter side (half of them if `None`) and up again, bilinearly.
    Resize(Option<usize>),
}

/// The quality that libjpeg takes if it is told none.
const QUALITY: u8 = 75;

const EXPECTED: &str = "jpeg, jpeg:QUALITY (1 to 100), resize or resize:PIXELS";

impl FromStr for Defence {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::request("through", EXPECTED, text);
        match text.split_once(':').map_or((text, None), |(name, size)| (name, Some(size))) {
            ("jpeg", None) => Ok(Self::Jpeg(QUALITY)),
            ("jpeg", Some(quality)) => match quality.parse() {
                Ok(quality @ 1..=100) => Ok(Self::Jpeg(quality)),
                _ => Err(wrong()),
            },
            ("resize", None) => Ok(Self::Resize(None)),
            ("resize", Some(pixels)) => match pixels.parse() {
                Ok(pixels) if pixels > 0 => Ok(Self::Resize(Some(pixels))),
                _ => Err(wrong()),
            },
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Defence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Jpeg(quality) => write!(f, "jpeg:{quality}"),
            Self::Resize(None) => f.write_str("resize"),
            Self::Resize(Some(pixels)) => write!(f, "resize:{pixels}"),
        }
    }
}

impl TryFrom<String> for Defence {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Defence> for String {
    fn from(defence: Defence) -> Self {
        defence.to_string()
    }
}

/// A model behind defences: x is encoded after them. The decoder is the model's own.
pub struct Defended {
    vae: Box<dyn Vae>,
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    Jpeg(Jpeg),
    /// Height and width in between, and of the image.
    Resize([i64; 2], [i64; 2]),
}

impl Defended {
    /// `vae`, which sees images of the given shape on a device, behind `defences`, the first one first.
    ///
    /// # Errors
    /// A wrong request if a defence does not fit the shape.
    pub fn new(vae: Box<dyn Vae>, defences: &[Defence], shape: ImageShape, device: Device) -> Result<Self> {
        let ImageShape { channels, height, width } = shape;
        let step = |defence: &Defence| match *defence {
            Defence::Jpeg(quality) => match channels {
                1 | 3 => Ok(Step::Jpeg(Jpeg::new(quality, channels, device)?)),
                _ => Err(Error::request("through jpeg", "images of one or three channels", channels.to_string())),
            },
            Defence::Resize(pixels) => {
                let short = height.min(width);
                let side = pixels.map_or(short / 2, |pixels| i64::try_from(pixels).unwrap_or(i64::MAX));
                if side < 1 || side >= short {
                    let expected = format!("fewer pixels than the shorter side, {short}, and at least one");
                    return Err(Error::request("through resize", expected, side.to_string()));
                }
                let scaled = |long: i64| ((long * side) as f64 / short as f64).round() as i64;
                Ok(Step::Resize([scaled(height), scaled(width)], [height, width]))
            }
        };
        Ok(Self { vae, steps: defences.iter().map(step).collect::<Result<_>>()? })
    }

    /// x [B, C, H, W] after the defences, as the encoder sees it.
    ///
    /// # Errors
    /// If the shape is another.
    pub fn defended(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.shallow_clone();
        for step in &self.steps {
            x = match step {
                Step::Jpeg(jpeg) => {
                    let still = x.f_detach()?;
                    // The gradient passes as if nothing had been done.
                    x.f_add(&tch::no_grad(|| Ok::<_, Error>(jpeg.coded(&still)?.f_sub(&still)?))?)?
                }
                Step::Resize(small, whole) => {
                    let resized = |x: &Tensor, size: &[i64; 2]| -> Result<Tensor> {
                        Ok(x.f_upsample_bilinear2d(size, false, None, None)?)
                    };
                    resized(&resized(&x, small)?, whole)?
                }
            };
        }
        Ok(x)
    }
}

impl Vae for Defended {
    fn encode(&self, x: &Tensor) -> Result<Posterior> {
        self.vae.encode(&self.defended(x)?)
    }

    fn decode(&self, z: &Tensor) -> Result<Tensor> {
        self.vae.decode(z)
    }

    fn has_scale(&self) -> bool {
        self.vae.has_scale()
    }

    fn watch(&mut self, layers: &[String]) -> Result<()> {
        self.vae.watch(layers)
    }

    fn features(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        self.vae.features(&self.defended(x)?)
    }

    fn share(&self) -> Option<Box<dyn Vae>> {
        let steps = self.steps.iter().map(|step| match step {
            Step::Jpeg(jpeg) => Step::Jpeg(jpeg.handle()),
            Step::Resize(small, whole) => Step::Resize(*small, *whole),
        });
        Some(Box::new(Self { vae: self.vae.share()?, steps: steps.collect() }))
    }
}

/// Side of a block.
const SIDE: i64 = 8;

/// What decides a tie that rounding of the transform could turn either way.
const TIE: f64 = 1e-9;

/// The tables of ITU-T T.81, annex K.1, for luminance and chrominance, row by row.
const LUMINANCE: [u8; 64] = [
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
    87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
];
const CHROMINANCE: [u8; 64] = [
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99,
];

/// What JPEG keeps of an image: rounded to bytes, in luminance and chrominance, cosines of blocks of 8 x 8 rounded to multiples of the
/// quantisation table, and all of it back. Entropy coding loses nothing, so there is none. In double, so that rounding falls the same way
/// whatever the batch.
#[derive(Debug)]
struct Jpeg {
    /// The orthonormal cosine transform, [8, 8].
    cosines: Tensor,
    /// Quantisation steps, [C, 1, 1, 8, 8].
    table: Tensor,
    /// To luminance and chrominance, [3, 3]; `None` for grey images.
    colors: Option<Tensor>,
    /// Back.
    back: Option<Tensor>,
}

impl Jpeg {
    fn new(quality: u8, channels: i64, device: Device) -> Result<Self> {
        let on = |values: &[f64], size: &[i64]| -> Result<Tensor> {
            Ok(Tensor::f_from_slice(values)?.f_to_device(device)?.f_view(size)?)
        };
        let cosine = |place: usize| {
            let (k, n) = ((place / 8) as f64, (place % 8) as f64);
            let scale = if place < 8 { 0.125f64.sqrt() } else { 0.5 };
            scale * ((2.0 * n + 1.0) * k * std::f64::consts::PI / 16.0).cos()
        };
        // As libjpeg scales the tables.
        let quality = i64::from(quality);
        let percent = if quality < 50 { 5000 / quality } else { 200 - 2 * quality };
        let scaled = |t: &u8| ((i64::from(*t) * percent + 50) / 100).clamp(1, 255) as f64;
        let tables = std::iter::once(&LUMINANCE).chain([&CHROMINANCE; 2]).take(channels as usize);
        let table: Vec<f64> = tables.flatten().map(scaled).collect();
        // ITU-T T.871 (JFIF).
        let (red, blue) = (0.299, 0.114);
        let green = 1.0 - red - blue;
        let (cr, cb) = (2.0 * (1.0 - red), 2.0 * (1.0 - blue));
        let colors =
            [red, green, blue, -red / cb, -green / cb, (1.0 - blue) / cb, (1.0 - red) / cr, -green / cr, -blue / cr];
        let back = [1.0, 0.0, cr, 1.0, -blue * cb / green, -red * cr / green, 1.0, cb, 0.0];
        let mixed = |values: &[f64]| if channels == 3 { on(values, &[3, 3]).map(Some) } else { Ok(None) };
        Ok(Self {
            cosines: on(&(0..64).map(cosine).collect::<Vec<_>>(), &[SIDE, SIDE])?,
            table: on(&table, &[channels, 1, 1, SIDE, SIDE])?,
            colors: mixed(&colors)?,
            back: mixed(&back)?,
        })
    }

    fn handle(&self) -> Self {
        let handle = |t: &Option<Tensor>| t.as_ref().map(Tensor::shallow_clone);
        Self {
            cosines: self.cosines.shallow_clone(),
            table: self.table.shallow_clone(),
            colors: handle(&self.colors),
            back: handle(&self.back),
        }
    }

    /// `x` [B, C, H, W] in [0, 1], coded and decoded; of its kind.
    fn coded(&self, x: &Tensor) -> Result<Tensor> {
        let (_, channels, height, width) = x.size4()?;
        let bytes = byte(&x.f_to_kind(Kind::Double)?.f_mul_scalar(255.0)?)?;
        let planes = match &self.colors {
            Some(colors) => byte(&mixed(colors, &bytes, 0.0, 128.0)?)?,
            None => bytes,
        };
        let to_block = |n: i64| (SIDE - n % SIDE) % SIDE;
        let padded = planes.f_replication_pad2d([0, to_block(width), 0, to_block(height)])?;
        let (rows, columns) = (padded.size()[2] / SIDE, padded.size()[3] / SIDE);
        let blocks = padded.f_view([-1, channels, rows, SIDE, columns, SIDE])?.f_permute([0, 1, 2, 4, 3, 5])?;
        let found = self.cosines.f_matmul(&blocks.f_sub_scalar(128.0)?)?.f_matmul(&self.cosines.f_tr()?)?;
        let kept = nearest(&found.f_div(&self.table)?)?.f_mul(&self.table)?;
        let blocks = self.cosines.f_tr()?.f_matmul(&kept)?.f_matmul(&self.cosines)?.f_add_scalar(128.0)?;
        let planes = blocks.f_permute([0, 1, 2, 4, 3, 5])?.f_reshape(padded.size())?;
        let planes = byte(&planes.f_narrow(2, 0, height)?.f_narrow(3, 0, width)?)?;
        let bytes = match &self.back {
            Some(back) => byte(&mixed(back, &planes, -128.0, 0.0)?)?,
            None => planes,
        };
        Ok(bytes.f_div_scalar(255.0)?.f_to_kind(x.kind())?)
    }
}

/// The nearest whole numbers; of two, the one farther from 0.
fn nearest(x: &Tensor) -> Result<Tensor> {
    Ok(x.f_abs()?.f_add_scalar(0.5 + TIE)?.f_floor()?.f_copysign(x)?)
}

/// The nearest bytes.
fn byte(x: &Tensor) -> Result<Tensor> {
    Ok(nearest(x)?.f_clamp(0.0, 255.0)?)
}

/// `matrix` [3, 3] times the channels of `x` [B, 3, H, W], `before` being added to the last two first, and `after` to the last two of the
/// result.
fn mixed(matrix: &Tensor, x: &Tensor, before: f64, after: f64) -> Result<Tensor> {
    let chroma = |x: &Tensor, by: f64| -> Result<Tensor> {
        Ok(Tensor::f_cat(&[x.f_narrow(1, 0, 1)?, x.f_narrow(1, 1, 2)?.f_add_scalar(by)?], 1)?)
    };
    let flat = chroma(x, before)?.f_flatten(2, -1)?;
    chroma(&matrix.f_matmul(&flat)?.f_view_as(x)?, after)
}
