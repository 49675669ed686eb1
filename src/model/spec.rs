//! The specification of a model, as in the configuration.

use super::likelihood::Likelihood;
use crate::data::ImageShape;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// A trainable architecture: `model: {kind: mlp, ...}` or `model: {kind: conv, ...}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ModelSpec {
    /// Fully connected.
    Mlp(MlpSpec),
    /// Strided convolutions.
    Conv(ConvSpec),
}

impl Default for ModelSpec {
    fn default() -> Self {
        Self::Mlp(MlpSpec::default())
    }
}

/// A fully connected VAE: D - hidden - L, and L - reversed hidden - D. The default is the paper's 784-512-512-L.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MlpSpec {
    /// Shape of the images; taken from the training data if absent.
    pub image: Option<ImageShape>,
    /// L, the size of the latent space.
    pub latent: i64,
    /// Widths of the encoder's hidden layers, input side first; the decoder has them in reverse.
    pub hidden: Vec<i64>,
    /// Non-linearity after every hidden layer.
    pub activation: Activation,
    /// The normalisation between a hidden layer and its activation.
    pub normalization: Normalization,
    /// p(x|z).
    pub likelihood: Likelihood,
}

impl Default for MlpSpec {
    fn default() -> Self {
        Self {
            image: None,
            latent: 32,
            hidden: vec![512, 512],
            activation: Activation::default(),
            normalization: Normalization::default(),
            likelihood: Likelihood::default(),
        }
    }
}

/// A convolutional VAE: 4x4 convolutions of stride 2, then one fully connected layer; the decoder mirrors it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConvSpec {
    /// Shape of the images; taken from the training data if absent.
    pub image: Option<ImageShape>,
    /// L, the size of the latent space.
    pub latent: i64,
    /// Channels after each convolution of the encoder; each halves height and width.
    pub channels: Vec<i64>,
    /// Width of the fully connected layer between the convolutions and the latent space; 0 for none.
    pub hidden: i64,
    /// Non-linearity after every hidden layer.
    pub activation: Activation,
    /// The normalisation between a hidden layer and its activation.
    pub normalization: Normalization,
    /// p(x|z).
    pub likelihood: Likelihood,
}

impl Default for ConvSpec {
    fn default() -> Self {
        Self {
            image: None,
            latent: 32,
            channels: vec![32, 64],
            hidden: 256,
            activation: Activation::default(),
            normalization: Normalization::default(),
            likelihood: Likelihood::default(),
        }
    }
}

/// A non-linearity, with PyTorch's default parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// max(x, 0).
    #[default]
    Relu,
    /// x, or 0.01 x where x < 0.
    LeakyRelu,
    /// x, or e^x - 1 where x < 0.
    Elu,
    /// x Phi(x), with the exact Gaussian distribution function.
    Gelu,
    /// x / (1 + e^-x).
    Silu,
    /// tanh x.
    Tanh,
    /// ln(1 + e^x).
    Softplus,
    /// 1 / (1 + e^-x).
    Sigmoid,
}

impl Activation {
    /// Applies it element by element.
    pub fn apply(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Relu => x.f_relu(),
            Self::LeakyRelu => x.f_leaky_relu(),
            Self::Elu => x.f_elu(),
            Self::Gelu => x.f_gelu("none"),
            Self::Silu => x.f_silu(),
            Self::Tanh => x.f_tanh(),
            Self::Softplus => x.f_softplus(),
            Self::Sigmoid => x.f_sigmoid(),
        }?)
    }
}

/// The normalisation between a hidden layer and its activation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Normalization {
    /// Nothing.
    #[default]
    None,
    /// Batch normalisation: batch statistics in training, running ones in [`Vae`](super::Vae)'s methods.
    Batch,
}

/// Widest layer, so that a typing error causes a message and not the allocation of a terabyte.
const WIDEST: i64 = 1 << 20;

impl ModelSpec {
    /// Shape of the images, if it is known.
    pub fn image(&self) -> Option<ImageShape> {
        match self {
            Self::Mlp(spec) => spec.image,
            Self::Conv(spec) => spec.image,
        }
    }

    /// L.
    pub fn latent(&self) -> i64 {
        match self {
            Self::Mlp(spec) => spec.latent,
            Self::Conv(spec) => spec.latent,
        }
    }

    /// p(x|z).
    pub fn likelihood(&self) -> Likelihood {
        match self {
            Self::Mlp(spec) => spec.likelihood,
            Self::Conv(spec) => spec.likelihood,
        }
    }

    /// The normalisation between a hidden layer and its activation.
    pub fn normalization(&self) -> Normalization {
        match self {
            Self::Mlp(spec) => spec.normalization,
            Self::Conv(spec) => spec.normalization,
        }
    }

    /// Takes the image shape from the data if none is set.
    ///
    /// # Errors
    /// If another one is set.
    pub fn resolve(&mut self, data: ImageShape) -> Result<()> {
        let image = match self {
            Self::Mlp(spec) => &mut spec.image,
            Self::Conv(spec) => &mut spec.image,
        };
        match image {
            Some(set) if *set != data => Err(Error::request(
                "model.image",
                format!("{}, as the data has it", shape_text(data)),
                shape_text(*set),
            )),
            _ => {
                *image = Some(data);
                Ok(())
            }
        }
    }

    /// Checks every value; errors name the key (`model.latent`).
    pub fn validate(&self) -> Result<()> {
        if let Some(image) = self.image() {
            within("model.image.channels", image.channels, 1, 16)?;
            within("model.image.height", image.height, 1, 4096)?;
            within("model.image.width", image.width, 1, 4096)?;
        }
        within("model.latent", self.latent(), 1, WIDEST)?;
        self.likelihood().validate()?;
        match self {
            Self::Mlp(spec) => {
                for (i, width) in spec.hidden.iter().enumerate() {
                    within(&format!("model.hidden[{i}]"), *width, 1, WIDEST)?;
                }
            }
            Self::Conv(spec) => {
                within("model.hidden", spec.hidden, 0, WIDEST)?;
                if spec.channels.is_empty() {
                    return Err(Error::request("model.channels", "at least one number of channels", "none"));
                }
                for (i, width) in spec.channels.iter().enumerate() {
                    within(&format!("model.channels[{i}]"), *width, 1, WIDEST)?;
                }
                if let Some(image) = spec.image {
                    let most = image.height.min(image.width).max(1).ilog2() as usize;
                    if spec.channels.len() > most {
                        return Err(Error::request(
                            "model.channels",
                            format!("at most {most} entries for images of {}", shape_text(image)),
                            spec.channels.len().to_string(),
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

fn within(key: &str, value: i64, low: i64, high: i64) -> Result<()> {
    if (low..=high).contains(&value) {
        Ok(())
    } else {
        Err(Error::request(key, format!("{low} to {high}"), value.to_string()))
    }
}

/// `1x28x28`.
pub(crate) fn shape_text(shape: ImageShape) -> String {
    format!("{}x{}x{}", shape.channels, shape.height, shape.width)
}
