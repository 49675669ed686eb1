//! Layers as data, with a functional forward: they hold positions of parameters, never the parameters.

use super::spec::{Activation, Normalization};
use crate::error::Result;
use crate::ffi::{convolution, linear};
use tch::Tensor;

/// Whether normalising layers use batch statistics or running ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Statistics of the batch, which also move the running ones: samples depend on each other.
    Train,
    /// Running statistics: one sample independent of the others.
    Eval,
}

/// The purpose of a model's tensor, which determines its initial value and whether it is trained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Role {
    /// Weight or bias of a linear map; uniform on +-1/sqrt(fan_in), as PyTorch's layers begin.
    Affine {
        /// Number of inputs that are added in one output.
        fan_in: i64,
    },
    /// A trained constant with this initial value: scale and shift of a normalisation, ln sigma.
    Constant(f64),
    /// Running statistics, not trained, with this initial value.
    Statistic(f64),
    /// How often the running statistics were updated (i64), not trained; PyTorch expects it.
    Counter,
}

impl Role {
    /// True if training changes it by its gradient.
    pub fn is_trained(self) -> bool {
        matches!(self, Self::Affine { .. } | Self::Constant(_))
    }
}

/// Name, shape and role of one tensor of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    /// Its name in the state dict of the PyTorch twin: `encoder.0.weight`.
    pub name: String,
    /// Its shape.
    pub shape: Vec<i64>,
    /// Its purpose.
    pub role: Role,
}

/// One layer. `at` is the position of its first tensor (weight; bias and running statistics follow).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    /// [B, in] to [B, out].
    Linear { at: usize },
    /// 4x4, stride 2, padding 1: [B, in, H, W] to [B, out, H/2, W/2].
    Conv { at: usize },
    /// The transpose of [`Layer::Conv`]; `extra` rows and columns correct for an odd size.
    ConvTranspose { at: usize, extra: [i64; 2] },
    /// Normalises over the batch (and height and width).
    BatchNorm { at: usize },
    /// Applied element by element.
    Activation(Activation),
    /// [B, ...] to [B, D].
    Flatten,
    /// [B, D] to [B, C, H, W].
    Unflatten([i64; 3]),
}

/// PyTorch's defaults.
pub(super) const BATCH_NORM_MOMENTUM: f64 = 0.1;
pub(super) const BATCH_NORM_EPS: f64 = 1e-5;
/// Kernel, stride and padding that halve a size.
const KERNEL: i64 = 4;

impl Layer {
    /// Applies the layer with its parameters in `tensors`.
    pub(crate) fn apply(self, tensors: &[Tensor], x: &Tensor, mode: Phase) -> Result<Tensor> {
        Ok(match self {
            Self::Linear { at } => linear::linear(x, &tensors[at], &tensors[at + 1])?,
            Self::Conv { at } => convolution::conv2d(x, &tensors[at], &tensors[at + 1], 2, 1)?,
            Self::ConvTranspose { at, extra } => {
                x.f_conv_transpose2d(&tensors[at], Some(&tensors[at + 1]), [2i64, 2], [1i64, 1], extra, 1, [1i64, 1])?
            }
            Self::BatchNorm { at } => {
                if mode == Phase::Train {
                    let _ = tch::no_grad(|| tensors[at + 4].shallow_clone().f_add_scalar_(1))?;
                }
                x.f_batch_norm(
                    Some(&tensors[at]),
                    Some(&tensors[at + 1]),
                    Some(&tensors[at + 2]),
                    Some(&tensors[at + 3]),
                    mode == Phase::Train,
                    BATCH_NORM_MOMENTUM,
                    BATCH_NORM_EPS,
                    true,
                )?
            }
            Self::Activation(activation) => activation.apply(x)?,
            Self::Flatten => x.f_flatten(1, -1)?,
            Self::Unflatten([c, h, w]) => x.f_reshape([-1, c, h, w])?,
        })
    }
}

/// Applies layers one after the other; a linear layer or a convolution and the ReLU behind it are one operation.
pub(crate) fn apply_all(layers: &[Layer], tensors: &[Tensor], x: &Tensor, mode: Phase) -> Result<Tensor> {
    let (mut x, mut rest) = (x.shallow_clone(), layers);
    while let [layer, behind @ ..] = rest {
        (x, rest) = match (*layer, behind) {
            (Layer::Linear { at }, [Layer::Activation(Activation::Relu), behind @ ..]) => {
                (linear::linear_relu(&x, &tensors[at], &tensors[at + 1])?, behind)
            }
            (Layer::Conv { at }, [Layer::Activation(Activation::Relu), behind @ ..]) => {
                (convolution::conv2d_relu(&x, &tensors[at], &tensors[at + 1], 2, 1)?, behind)
            }
            (layer, behind) => (layer.apply(tensors, &x, mode)?, behind),
        };
    }
    Ok(x)
}

/// Builds a sequence of layers, with the names that PyTorch's `nn.Sequential` would give.
pub(crate) struct Sequence<'a> {
    pub(crate) slots: &'a mut Vec<Slot>,
    prefix: &'static str,
    layers: Vec<Layer>,
    normalization: Normalization,
    activation: Activation,
}

impl<'a> Sequence<'a> {
    pub(crate) fn new(
        slots: &'a mut Vec<Slot>,
        prefix: &'static str,
        normalization: Normalization,
        activation: Activation,
    ) -> Self {
        Self { slots, prefix, layers: Vec::new(), normalization, activation }
    }

    pub(crate) fn finish(self) -> Vec<Layer> {
        self.layers
    }

    pub(crate) fn linear(&mut self, inputs: i64, outputs: i64) {
        let at = affine(self.slots, &self.name(), vec![outputs, inputs], outputs, inputs);
        self.layers.push(Layer::Linear { at });
    }

    pub(crate) fn conv(&mut self, inputs: i64, outputs: i64) {
        let shape = vec![outputs, inputs, KERNEL, KERNEL];
        let at = affine(self.slots, &self.name(), shape, outputs, inputs * KERNEL * KERNEL);
        self.layers.push(Layer::Conv { at });
    }

    pub(crate) fn conv_transpose(&mut self, inputs: i64, outputs: i64, extra: [i64; 2]) {
        let shape = vec![inputs, outputs, KERNEL, KERNEL];
        // PyTorch takes the second axis as fan-in here too, although the sum runs over the first.
        let at = affine(self.slots, &self.name(), shape, outputs, outputs * KERNEL * KERNEL);
        self.layers.push(Layer::ConvTranspose { at, extra });
    }

    pub(crate) fn flatten(&mut self) {
        self.layers.push(Layer::Flatten);
    }

    pub(crate) fn unflatten(&mut self, shape: [i64; 3]) {
        self.layers.push(Layer::Unflatten(shape));
    }

    /// Normalisation, if it is on, and activation of `features` channels.
    pub(crate) fn activate(&mut self, features: i64) {
        if self.normalization == Normalization::Batch {
            let (name, at) = (self.name(), self.slots.len());
            for (suffix, role) in [
                ("weight", Role::Constant(1.0)),
                ("bias", Role::Constant(0.0)),
                ("running_mean", Role::Statistic(0.0)),
                ("running_var", Role::Statistic(1.0)),
            ] {
                self.slots.push(Slot { name: format!("{name}.{suffix}"), shape: vec![features], role });
            }
            let counter = format!("{name}.num_batches_tracked");
            self.slots.push(Slot { name: counter, shape: vec![], role: Role::Counter });
            self.layers.push(Layer::BatchNorm { at });
        }
        self.layers.push(Layer::Activation(self.activation));
    }

    fn name(&self) -> String {
        format!("{}.{}", self.prefix, self.layers.len())
    }
}

/// Adds the weight and bias of a linear map.
pub(crate) fn affine(slots: &mut Vec<Slot>, name: &str, shape: Vec<i64>, outputs: i64, fan_in: i64) -> usize {
    let at = slots.len();
    let role = Role::Affine { fan_in };
    slots.push(Slot { name: format!("{name}.weight"), shape, role });
    slots.push(Slot { name: format!("{name}.bias"), shape: vec![outputs], role });
    at
}

/// Height or width after one [`Layer::Conv`].
pub(crate) fn halved(size: i64) -> i64 {
    (size + 2 - KERNEL) / 2 + 1
}
