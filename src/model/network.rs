//! A trainable VAE: an architecture (functional) and the parameters it is applied to.

use super::judged::named;
use super::layer::{self, Layer, Phase, Role, Slot};
use super::likelihood::Likelihood;
use super::parameters::Parameters;
use super::spec::ModelSpec;
use super::{Posterior, Vae, conv, mlp};
use crate::data::ImageShape;
use crate::error::{Error, Result, ensure_shape};
use tch::{Device, Kind, Tensor};

/// A model without its numbers. Its methods are functions of (parameters, input), where the parameters are tensors in
/// the order of [`Architecture::slots`], so that one architecture serves any number of parameter sets.
///
/// The PyTorch twin of its state dict has `encoder` and `decoder` (`nn.Sequential`: linear or convolution, batch norm if it is on,
/// activation, ...), `mean` and `log_var` (`nn.Linear`) and `log_sigma` if sigma is learned. The fully connected encoder takes flattened
/// images and its decoder returns flattened ones.
#[derive(Clone, Debug)]
pub struct Architecture {
    slots: Vec<Slot>,
    encoder: Vec<Layer>,
    mean: Layer,
    log_var: Layer,
    decoder: Vec<Layer>,
    log_sigma: Option<usize>,
    image: ImageShape,
    latent: i64,
    flat: bool,
}

/// Most numbers in the tensors of a model: widths that are fine one by one must not ask for more than a machine has, because that ends the
/// process.
const LARGEST: f64 = 4_294_967_296.0;

impl Architecture {
    /// The architecture of a specification whose image shape is known.
    ///
    /// # Errors
    /// A wrong request if a value of `spec` is out of range, its image shape is not set, or its tensors together are too large.
    pub fn new(spec: &ModelSpec) -> Result<Self> {
        spec.validate()?;
        let image =
            spec.image().ok_or_else(|| Error::request("model.image", "channels, height and width", "nothing"))?;
        let latent = spec.latent();
        let mut slots = Vec::new();
        let (encoder, decoder, features) = match spec {
            ModelSpec::Mlp(spec) => mlp::layers(spec, image.dim(), &mut slots),
            ModelSpec::Conv(spec) => conv::layers(spec, image, &mut slots),
        };
        let mut head =
            |name| Layer::Linear { at: layer::affine(&mut slots, name, vec![latent, features], latent, features) };
        let (mean, log_var) = (head("mean"), head("log_var"));
        let log_sigma = spec.likelihood().learned_log_sigma().map(|start| {
            slots.push(Slot { name: "log_sigma".to_owned(), shape: vec![1], role: Role::Constant(start) });
            slots.len() - 1
        });
        ensure_size(&slots)?;
        let flat = matches!(spec, ModelSpec::Mlp(_));
        Ok(Self { slots, encoder, mean, log_var, decoder, log_sigma, image, latent, flat })
    }

    /// Name, shape and role of every tensor, in the order in which the forward functions take them.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Shape of the images.
    pub fn image(&self) -> ImageShape {
        self.image
    }

    /// L.
    pub fn latent(&self) -> i64 {
        self.latent
    }

    /// x [B, C, H, W] to the posterior, [B, L] each.
    pub fn encode(&self, tensors: &[Tensor], x: &Tensor, mode: Phase) -> Result<Posterior> {
        let ImageShape { channels, height, width } = self.image;
        ensure_shape("the model's input", x, &[-1, channels, height, width])?;
        let x = if self.flat { x.f_flatten(1, -1)? } else { x.shallow_clone() };
        let features = layer::apply_all(&self.encoder, tensors, &x, mode)?;
        Ok(Posterior {
            mean: self.mean.apply(tensors, &features, mode)?,
            log_var: self.log_var.apply(tensors, &features, mode)?,
        })
    }

    /// z [B, L] to the decoder's last layer, [B, C, H, W]; [`Likelihood::mean`] turns this into g(z).
    pub fn decode_logits(&self, tensors: &[Tensor], z: &Tensor, mode: Phase) -> Result<Tensor> {
        ensure_shape("the decoder's input", z, &[-1, self.latent])?;
        let x = layer::apply_all(&self.decoder, tensors, z, mode)?;
        let ImageShape { channels, height, width } = self.image;
        Ok(if self.flat { x.f_reshape([-1, channels, height, width])? } else { x })
    }

    /// The names of all layers, as in the PyTorch twin: `encoder.0`, ..., `mean`, `log_var`, `decoder.0`, ...
    fn layer_names(&self) -> Vec<String> {
        let numbered = |part: &'static str, count| (0..count).map(move |i| format!("{part}.{i}"));
        let heads = ["mean", "log_var"].map(str::to_owned);
        numbered("encoder", self.encoder.len()).chain(heads).chain(numbered("decoder", self.decoder.len())).collect()
    }

    /// The outputs of all layers, in the order of their names, while x [B, C, H, W] is encoded and its mean decoded.
    fn layer_outputs(&self, tensors: &[Tensor], x: &Tensor) -> Result<Vec<Tensor>> {
        let mut outputs: Vec<Tensor> = Vec::new();
        let mut through = |layers: &[Layer], x: Tensor| -> Result<Tensor> {
            let mut last = x;
            for layer in layers {
                last = layer.apply(tensors, &last, Phase::Eval)?;
                outputs.push(last.shallow_clone());
            }
            Ok(last)
        };
        let own = if self.flat { x.f_flatten(1, -1)? } else { x.shallow_clone() };
        let hidden = through(&self.encoder, own)?;
        let mean = through(&[self.mean], hidden.shallow_clone())?;
        let _ = through(&[self.log_var], hidden)?;
        let _ = through(&self.decoder, mean)?;
        Ok(outputs)
    }

    /// C, H, W.
    pub(super) fn image_axes(&self) -> [i64; 3] {
        [self.image.channels, self.image.height, self.image.width]
    }

    /// True if encoder and decoder work on flattened images.
    pub(super) fn is_flat(&self) -> bool {
        self.flat
    }

    pub(super) fn encoder(&self) -> &[Layer] {
        &self.encoder
    }

    pub(super) fn decoder(&self) -> &[Layer] {
        &self.decoder
    }

    /// The layers that compute mu and ln sigma^2.
    pub(super) fn heads(&self) -> [Layer; 2] {
        [self.mean, self.log_var]
    }

    /// ln sigma of the likelihood, \[1\], if it is learned.
    pub fn log_sigma<'a>(&self, tensors: &'a [Tensor]) -> Option<&'a Tensor> {
        self.log_sigma.and_then(|at| tensors.get(at))
    }
}

/// Refuses tensors of more than [`LARGEST`] numbers in all, counted in floating point because their products may exceed 64 bits.
fn ensure_size(slots: &[Slot]) -> Result<()> {
    let numbers = |slot: &Slot| slot.shape.iter().map(|n| *n as f64).product::<f64>();
    let total: f64 = slots.iter().map(numbers).sum();
    let widest = slots.iter().max_by(|a, b| numbers(a).total_cmp(&numbers(b)));
    match widest {
        Some(slot) if total > LARGEST => {
            let found = format!("{total}, most of them in {} of shape {:?}", slot.name, slot.shape);
            Err(Error::request("model", format!("widths of at most {LARGEST} numbers in all tensors"), found))
        }
        _ => Ok(()),
    }
}

/// A trainable VAE. As a [`Vae`] it uses running statistics, so that samples are independent, and its parameters
/// need no gradient outside of training.
#[derive(Debug)]
pub struct Network {
    spec: ModelSpec,
    architecture: Architecture,
    parameters: Parameters,
    /// Layers whose outputs are features.
    watched: Vec<String>,
}

impl Network {
    /// A network with fresh weights; they depend only on `seed`, not on the device or the kind.
    ///
    /// # Errors
    /// If a value of `spec` is out of range, or its image shape is not set.
    pub fn new(spec: &ModelSpec, seed: u64, device: Device, kind: Kind) -> Result<Self> {
        let architecture = Architecture::new(spec)?;
        let parameters = Parameters::initial(architecture.slots(), seed, device, kind)?;
        Ok(Self::with_parameters(spec, architecture, parameters))
    }

    /// A network with given weights, which must fit the architecture's slots.
    pub(crate) fn with_parameters(spec: &ModelSpec, architecture: Architecture, parameters: Parameters) -> Self {
        Self { spec: spec.clone(), architecture, parameters, watched: Vec::new() }
    }

    /// Its specification.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// Its functional form.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Its tensors.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Replaces its tensors by others of the same shapes: views of a [`Stack`](super::Stack) that is trained.
    pub(crate) fn seat(&mut self, tensors: Vec<Tensor>) {
        self.parameters.seat(tensors);
    }

    /// p(x|z).
    pub fn likelihood(&self) -> Likelihood {
        self.spec.likelihood()
    }

    /// Its device.
    pub fn device(&self) -> Device {
        self.parameters.device()
    }

    /// Kind of its floating-point tensors.
    pub fn kind(&self) -> Kind {
        self.parameters.kind()
    }

    /// x [B, C, H, W] to the posterior, [B, L] each.
    pub fn encode_in(&self, x: &Tensor, mode: Phase) -> Result<Posterior> {
        self.architecture.encode(self.parameters.tensors(), x, mode)
    }

    /// z [B, L] to the decoder's last layer, [B, C, H, W], before the likelihood's sigmoid.
    pub fn decode_logits(&self, z: &Tensor, mode: Phase) -> Result<Tensor> {
        self.architecture.decode_logits(self.parameters.tensors(), z, mode)
    }

    /// -ln p(x|z) of each sample, \[B\], from the decoder's last layer.
    pub fn nll(&self, logits: &Tensor, x: &Tensor) -> Result<Tensor> {
        self.likelihood().nll(logits, x, self.architecture.log_sigma(self.parameters.tensors()))
    }
}

impl Vae for Network {
    fn encode(&self, x: &Tensor) -> Result<Posterior> {
        self.encode_in(x, Phase::Eval)
    }

    fn decode(&self, z: &Tensor) -> Result<Tensor> {
        self.likelihood().mean(&self.decode_logits(z, Phase::Eval)?)
    }

    fn share(&self) -> Option<Box<dyn Vae>> {
        let Self { spec, architecture, parameters, watched } = self;
        let shared = Self::with_parameters(spec, architecture.clone(), parameters.share());
        Some(Box::new(Self { watched: watched.clone(), ..shared }))
    }

    fn watch(&mut self, layers: &[String]) -> Result<()> {
        let names = self.architecture.layer_names();
        if let Some(unknown) = layers.iter().find(|name| !names.contains(name)) {
            return Err(Error::request("layers", named(&names), unknown));
        }
        self.watched = layers.to_vec();
        Ok(())
    }

    fn features(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        if self.watched.is_empty() {
            return Ok(Vec::new());
        }
        let outputs = self.architecture.layer_outputs(self.parameters.tensors(), x)?;
        let names = self.architecture.layer_names();
        let place = |name: &String| names.iter().position(|known| known == name);
        Ok(self.watched.iter().filter_map(place).map(|at| outputs[at].shallow_clone()).collect())
    }
}
