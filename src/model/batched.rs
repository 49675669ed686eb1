//! S models of one architecture as one: their tensors are stacked, [S, ...], and each layer is one call for all models.
//!
//! A dense layer is a batched matrix product, a convolution is a grouped one on [B, S C, H, W] with one group for each model, and batch
//! normalisation has S C channels, so that each model has its own statistics. Numbers of different models never meet: a NaN in one model
//! stays there.
//!
//! Between layers values are rows [S, B, F] or maps [B, S C, H, W]; the number of axes distinguishes them.

use super::layer::{BATCH_NORM_EPS, BATCH_NORM_MOMENTUM, Layer, Phase};
use super::likelihood::Likelihood;
use super::network::{Architecture, Network};
use super::{Posterior, Slot};
use crate::error::{Error, Result, ensure_shape};
use tch::Tensor;

/// The models and their tensors, in the order of the architecture's slots.
#[derive(Debug)]
pub struct Stack {
    architecture: Architecture,
    likelihood: Likelihood,
    /// [S, ...]
    tensors: Vec<Tensor>,
    models: i64,
}

impl Stack {
    /// Stacks networks of one specification. The tensors of a single network are shared; those of several are copied.
    ///
    /// # Errors
    /// If there is none, or they differ in specification, kind or device.
    pub fn of(networks: &[&Network]) -> Result<Self> {
        let Some((first, others)) = networks.split_first() else {
            return Err(Error::request("models at once", "at least one", "none"));
        };
        for (i, other) in others.iter().enumerate() {
            if other.spec() != first.spec() || other.kind() != first.kind() || other.device() != first.device() {
                let found = format!("model {} of another", i + 1);
                return Err(Error::request("models at once", "one architecture, kind and device", found));
            }
        }
        let mut tensors = Vec::with_capacity(first.parameters().tensors().len());
        for (i, tensor) in first.parameters().tensors().iter().enumerate() {
            tensors.push(if others.is_empty() {
                tensor.f_unsqueeze(0)?
            } else {
                let all: Vec<&Tensor> = networks.iter().map(|n| &n.parameters().tensors()[i]).collect();
                Tensor::f_stack(&all, 0)?
            });
        }
        let (architecture, likelihood) = (first.architecture().clone(), first.likelihood());
        Ok(Self { architecture, likelihood, tensors, models: networks.len() as i64 })
    }

    /// S.
    pub fn models(&self) -> i64 {
        self.models
    }

    /// The functional form of each model.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// p(x|z) of each model.
    pub fn likelihood(&self) -> Likelihood {
        self.likelihood
    }

    /// The trained tensors, [S, ...], handles on the same storage.
    pub fn trained(&self) -> Vec<Tensor> {
        let trained = |(slot, _): &(&Slot, &Tensor)| slot.role.is_trained();
        self.architecture.slots().iter().zip(&self.tensors).filter(trained).map(|(_, t)| t.shallow_clone()).collect()
    }

    /// Views of all tensors of model `s`.
    pub fn model(&self, s: i64) -> Result<Vec<Tensor>> {
        self.tensors.iter().map(|t| Ok(t.f_detach()?.f_select(0, s)?)).collect()
    }

    /// The first `models` models, as views in the graph.
    pub fn first(&self, models: i64) -> Result<Self> {
        let narrow = |t: &Tensor| -> Result<Tensor> {
            Ok(if models == self.models { t.shallow_clone() } else { t.f_narrow(0, 0, models)? })
        };
        let tensors = self.tensors.iter().map(narrow).collect::<Result<_>>()?;
        Ok(Self { architecture: self.architecture.clone(), tensors, models, ..*self })
    }

    /// x [S, B, C, H, W] to the posteriors, [S, B, L] each.
    pub fn encode(&self, x: &Tensor, mode: Phase) -> Result<Posterior> {
        let [c, h, w] = self.architecture.image_axes();
        ensure_shape("the models' input", x, &[self.models, -1, c, h, w])?;
        let x = if self.architecture.is_flat() { x.f_flatten(2, -1)? } else { x.f_transpose(0, 1)?.f_flatten(1, 2)? };
        let features = self.apply_all(self.architecture.encoder(), x, mode)?;
        let [mean, log_var] = self.architecture.heads();
        let head = |layer| self.apply(layer, &features, mode, false);
        Ok(Posterior { mean: head(mean)?, log_var: head(log_var)? })
    }

    /// z [S, B, L] to the decoders' last layer, [S, B, C, H, W].
    pub fn decode_logits(&self, z: &Tensor, mode: Phase) -> Result<Tensor> {
        ensure_shape("the decoders' input", z, &[self.models, -1, self.architecture.latent()])?;
        let x = self.apply_all(self.architecture.decoder(), z.shallow_clone(), mode)?;
        let [c, h, w] = self.architecture.image_axes();
        Ok(if self.architecture.is_flat() {
            x.f_reshape([self.models, -1, c, h, w])?
        } else {
            x.f_reshape([-1, self.models, c, h, w])?.f_transpose(0, 1)?
        })
    }

    /// -ln p(x|z) of each sample, [S, B], from the decoders' last layer.
    pub fn nll(&self, logits: &Tensor, x: &Tensor) -> Result<Tensor> {
        self.likelihood.nll(logits, x, self.architecture.log_sigma(&self.tensors))
    }

    fn apply_all(&self, layers: &[Layer], mut x: Tensor, mode: Phase) -> Result<Tensor> {
        for (i, layer) in layers.iter().enumerate() {
            x = self.apply(*layer, &x, mode, i + 1 == layers.len())?;
        }
        Ok(x)
    }

    fn apply(&self, layer: Layer, x: &Tensor, mode: Phase, last: bool) -> Result<Tensor> {
        let (tensors, s) = (&self.tensors, self.models);
        // [S, C, ...] to [S C, ...].
        let merged = |at: usize| tensors[at].f_flatten(0, 1);
        Ok(match layer {
            // A batched product of one matrix takes 1.5 times as long as the plain product.
            Layer::Linear { at } if s == 1 => {
                let (weight, bias) = (tensors[at].f_squeeze_dim(0)?, tensors[at + 1].f_squeeze_dim(0)?);
                x.f_squeeze_dim(0)?.f_linear(&weight, Some(&bias))?.f_unsqueeze(0)?
            }
            // The next operation combines it element by element with values in the order of a batch.
            Layer::Linear { at } if last => {
                tensors[at + 1].f_unsqueeze(1)?.f_baddbmm(x, &tensors[at].f_transpose(1, 2)?, 1, 1)?
            }
            // The weight comes first: its gradient then has the weight's layout, and need not be copied for Adam.
            Layer::Linear { at } => {
                let y = tensors[at + 1].f_unsqueeze(2)?.f_baddbmm(&tensors[at], &x.f_transpose(1, 2)?, 1, 1)?;
                y.f_transpose(1, 2)?
            }
            Layer::Conv { at } => {
                x.f_conv2d(&merged(at)?, Some(&merged(at + 1)?), [2i64, 2], [1i64, 1], [1i64, 1], s)?
            }
            Layer::ConvTranspose { at, extra } => {
                let (weight, bias) = (merged(at)?, merged(at + 1)?);
                x.f_conv_transpose2d(&weight, Some(&bias), [2i64, 2], [1i64, 1], extra, s, [1i64, 1])?
            }
            Layer::BatchNorm { at } => {
                if mode == Phase::Train {
                    let _ = tch::no_grad(|| tensors[at + 4].shallow_clone().f_add_scalar_(1))?;
                }
                let rows = x.dim() == 3;
                let channels = if rows { x.f_transpose(0, 1)?.f_flatten(1, 2)? } else { x.shallow_clone() };
                let normal = channels.f_batch_norm(
                    Some(&merged(at)?),
                    Some(&merged(at + 1)?),
                    Some(&merged(at + 2)?),
                    Some(&merged(at + 3)?),
                    mode == Phase::Train,
                    BATCH_NORM_MOMENTUM,
                    BATCH_NORM_EPS,
                    true,
                )?;
                if rows { normal.f_unflatten(1, [s, -1])?.f_transpose(0, 1)? } else { normal }
            }
            Layer::Activation(activation) => activation.apply(x)?,
            Layer::Flatten => x.f_unflatten(1, [s, -1])?.f_flatten(2, -1)?.f_transpose(0, 1)?,
            Layer::Unflatten([c, h, w]) => x.f_transpose(0, 1)?.f_reshape([-1, s * c, h, w])?,
        })
    }
}
