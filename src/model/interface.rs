//! How a model from another program is read: the range of its pixels, its encoder's outputs, and the shape of its samples.

use super::{Posterior, Vae};
use crate::data::ImageShape;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::str::FromStr;
use tch::Tensor;

/// What the user says about a model, if its file does not say it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Interface {
    /// The model's own numbers for pixels of 0 and 1.
    pub input_range: InputRange,
    /// What its encoder's second output is.
    pub posterior: PosteriorScale,
    /// Which of its encoder's outputs are the mean and the scale; if absent, it has only these two, or only the mean.
    pub outputs: Option<Outputs>,
}

impl Interface {
    /// True for the default.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The model's own numbers for pixels of 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "[f64; 2]", into = "[f64; 2]")]
pub struct InputRange {
    low: f64,
    high: f64,
}

impl Default for InputRange {
    fn default() -> Self {
        Self { low: 0.0, high: 1.0 }
    }
}

impl TryFrom<[f64; 2]> for InputRange {
    type Error = Error;
    fn try_from([low, high]: [f64; 2]) -> Result<Self> {
        // The order may be reversed: what is white here may be 0 in the model.
        if low.is_finite() && high.is_finite() && low != high {
            return Ok(Self { low, high });
        }
        Err(Error::request("input range", "two different numbers LOW,HIGH, such as -1,1", format!("{low},{high}")))
    }
}

impl From<InputRange> for [f64; 2] {
    fn from(range: InputRange) -> Self {
        [range.low, range.high]
    }
}

impl FromStr for InputRange {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let pair =
            text.split_once(',').and_then(|(low, high)| Some([low.trim().parse().ok()?, high.trim().parse().ok()?]));
        pair.ok_or_else(|| Error::request("input range", "two different numbers LOW,HIGH, such as -1,1", text))?
            .try_into()
    }
}

/// What an encoder's second output is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum PosteriorScale {
    /// ln sigma^2.
    #[default]
    Logvar,
    /// ln sigma.
    Logstd,
    /// sigma.
    Std,
    /// sigma^2.
    Var,
}

impl PosteriorScale {
    /// ln sigma^2 from this output.
    fn log_var(self, output: Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Logvar => output,
            Self::Logstd => output.f_mul_scalar(2.0)?,
            Self::Std => output.f_log()?.f_mul_scalar(2.0)?,
            Self::Var => output.f_log()?,
        })
    }
}

/// Positions among an encoder's outputs, from 0, of the mean and, if there is one, of the scale.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<usize>", into = "Vec<usize>")]
pub struct Outputs(Vec<usize>);

impl Outputs {
    /// The positions.
    pub fn positions(&self) -> &[usize] {
        &self.0
    }
}

impl TryFrom<Vec<usize>> for Outputs {
    type Error = Error;
    fn try_from(positions: Vec<usize>) -> Result<Self> {
        match positions[..] {
            [_] => Ok(Self(positions)),
            [mean, scale] if mean != scale => Ok(Self(positions)),
            _ => Err(Error::request("outputs", EXPECTED_OUTPUTS, format!("{positions:?}"))),
        }
    }
}

impl From<Outputs> for Vec<usize> {
    fn from(outputs: Outputs) -> Self {
        outputs.0
    }
}

const EXPECTED_OUTPUTS: &str = "positions of mean and scale, such as 0,1, or of the mean alone";

impl FromStr for Outputs {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let positions: Option<Vec<usize>> = text.split(',').map(|part| part.trim().parse().ok()).collect();
        positions.ok_or_else(|| Error::request("outputs", EXPECTED_OUTPUTS, text))?.try_into()
    }
}

/// The shape of one sample, if it is not an image [C, H, W], and of the image that stands for it.
pub type View = (Vec<i64>, ImageShape);

/// A model of samples of a shape of their own, as one of images [B, C, H, W].
pub fn viewed(vae: Box<dyn Vae>, view: Option<View>) -> Box<dyn Vae> {
    match view {
        None => vae,
        view => Box::new(Adapted::new(vae, &Interface::default(), view)),
    }
}

/// A model that takes pixels in [0, 1], in images [B, C, H, W], and returns ln sigma^2 as its second output, whatever the inner model uses.
///
/// With x_model = LOW + (HIGH - LOW) x the derivatives follow by the chain rule.
pub(super) struct Adapted<V> {
    vae: V,
    range: InputRange,
    scale: PosteriorScale,
    /// The view of one sample, if it is not an image.
    sample: Option<View>,
}

impl<V: Vae> Adapted<V> {
    pub(super) fn new(vae: V, interface: &Interface, sample: Option<View>) -> Self {
        Self { vae, range: interface.input_range, scale: interface.posterior, sample }
    }

    /// Images [B, C, H, W] in [0, 1] as the inner model takes them.
    fn own(&self, x: &Tensor) -> Result<Tensor> {
        let InputRange { low, high } = self.range;
        let own = match &self.sample {
            Some((sample, _)) => x.f_reshape([&[x.size()[0]], &sample[..]].concat())?,
            None => x.shallow_clone(),
        };
        Ok(if self.range == InputRange::default() { own } else { own.f_mul_scalar(high - low)?.f_add_scalar(low)? })
    }
}

impl<V: Vae> Vae for Adapted<V> {
    fn encode(&self, x: &Tensor) -> Result<Posterior> {
        let Posterior { mean, log_var } = self.vae.encode(&self.own(x)?)?;
        // An encoder without a scale has none to convert.
        let log_var = if self.vae.has_scale() { self.scale.log_var(log_var)? } else { log_var };
        Ok(Posterior { mean, log_var })
    }

    fn decode(&self, z: &Tensor) -> Result<Tensor> {
        let InputRange { low, high } = self.range;
        let image = self.vae.decode(z)?;
        let image = match &self.sample {
            Some((_, ImageShape { channels, height, width })) => {
                image.f_reshape([image.size()[0], *channels, *height, *width])?
            }
            None => image,
        };
        Ok(if self.range == InputRange::default() {
            image
        } else {
            image.f_sub_scalar(low)?.f_div_scalar(high - low)?
        })
    }

    fn has_scale(&self) -> bool {
        self.vae.has_scale()
    }

    fn share(&self) -> Option<Box<dyn Vae>> {
        let Self { vae, range, scale, sample } = self;
        Some(Box::new(Adapted { vae: vae.share()?, range: *range, scale: *scale, sample: sample.clone() }))
    }

    fn watch(&mut self, layers: &[String]) -> Result<()> {
        self.vae.watch(layers)
    }

    fn features(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        self.vae.features(&self.own(x)?)
    }
}
