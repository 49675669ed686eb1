//! How a model that others made is to be read: which pixels it sees, what its encoder says, what shape its samples have.

use super::{Posterior, Vae};
use crate::data::ImageShape;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::str::FromStr;
use tch::Tensor;

/// What is said of a model that its file does not say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Interface {
    /// What the model is given for pixels of 0 and 1.
    pub input_range: InputRange,
    /// What its encoder's second output is.
    pub posterior: PosteriorScale,
    /// Which of its encoder's outputs are the mean and the scale; where absent, it has these two, or the mean alone.
    pub outputs: Option<Outputs>,
}

impl Interface {
    /// True for what is taken where nothing is said.
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
        // Reversed too: what is white to us may be 0 to the model.
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
    /// ln sigma^2 of it.
    fn log_var(self, output: Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Logvar => output,
            Self::Logstd => output.f_mul_scalar(2.0)?,
            Self::Std => output.f_log()?.f_mul_scalar(2.0)?,
            Self::Var => output.f_log()?,
        })
    }
}

/// Positions of the mean and, where there is one, the scale among an encoder's outputs, from 0.
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

/// The shape of one sample, where it is no image [C, H, W], and of the image that it is seen as.
pub type View = (Vec<i64>, ImageShape);

/// A model of samples of a shape of their own, as one of images [B, C, H, W].
pub fn viewed(vae: Box<dyn Vae>, view: Option<View>) -> Box<dyn Vae> {
    match view {
        None => vae,
        view => Box::new(Adapted::new(vae, &Interface::default(), view)),
    }
}

/// A model seen by pixels in [0, 1], in images [B, C, H, W], with ln sigma^2 for its second output, whatever it has itself.
///
/// With x_model = LOW + (HIGH - LOW) x the derivatives follow by the chain rule.
pub(super) struct Adapted<V> {
    vae: V,
    range: InputRange,
    scale: PosteriorScale,
    sample: Option<View>,
}

impl<V: Vae> Adapted<V> {
    pub(super) fn new(vae: V, interface: &Interface, sample: Option<View>) -> Self {
        Self { vae, range: interface.input_range, scale: interface.posterior, sample }
    }
}

impl<V: Vae> Vae for Adapted<V> {
    fn encode(&self, x: &Tensor) -> Result<Posterior> {
        let InputRange { low, high } = self.range;
        let own = match &self.sample {
            Some((sample, _)) => x.f_reshape([&[x.size()[0]], &sample[..]].concat())?,
            None => x.shallow_clone(),
        };
        let own =
            if self.range == InputRange::default() { own } else { own.f_mul_scalar(high - low)?.f_add_scalar(low)? };
        let Posterior { mean, log_var } = self.vae.encode(&own)?;
        // What is no scale is none whatever it is called.
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
}
