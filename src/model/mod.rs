//! Images to posteriors and back: the [`Vae`] trait and the architectures behind it.

mod archive; //   whether a TorchScript file is as it was written
mod atomic; //    files that are written completely or not at all
mod batched;
mod checkpoint;
mod conv;
mod foreign; //   files that are not TorchScript
mod interface;
mod judged;
mod layer;
mod likelihood;
mod mlp;
mod network;
mod parameters;
mod safetensors;
mod spec;
mod through; //   defences in front of a model
mod torchscript;
pub mod shift; //      how far apart the outputs of two inputs are
pub mod similarity; // PSNR, SSIM, MS-SSIM

pub(crate) use atomic::write_atomically;
pub use batched::Stack;
pub(crate) use checkpoint::ensure_own;
pub use checkpoint::{CONFIG_FILE, Model, WEIGHTS_FILE, network, open, open_as, save, sha256};
pub use interface::{InputRange, Interface, Outputs, PosteriorScale, View, viewed};
pub use judged::{Judge, JudgeReads, Judged, open_judge};
pub use layer::{Phase, Role, Slot};
pub use likelihood::{Gaussian, Likelihood, Mean, Sigma};
pub use network::{Architecture, Network};
pub use parameters::Parameters;
pub use safetensors::{Contents, read as read_tensors, write as write_tensors};
pub(crate) use spec::shape_text;
pub use spec::{Activation, ConvSpec, MlpSpec, ModelSpec, Normalization};
pub use through::{Defence, Defended};
pub use torchscript::TorchScript;

use crate::error::{Error, Result};
use crate::ops::Reduce;
use tch::Tensor;

/// The encoder's Gaussian posterior q(z|x) of a batch.
#[derive(Debug)]
pub struct Posterior {
    /// mu, [B, L]; for S models at once [S, B, L].
    pub mean: Tensor,
    /// ln sigma^2, [B, L].
    pub log_var: Tensor,
}

impl Posterior {
    /// sigma = exp(log_var / 2), [B, L].
    pub fn std(&self) -> Result<Tensor> {
        Ok(self.log_var.f_mul_scalar(0.5)?.f_exp()?)
    }

    /// z = mu + sigma * noise, [B, L], for noise [B, L].
    pub fn sample(&self, noise: &Tensor) -> Result<Tensor> {
        crate::error::ensure_shape("the noise", noise, &self.mean.size())?;
        Ok(self.mean.f_addcmul(&self.std()?, noise)?)
    }

    /// KL(q(z|x) || N(0, I)) of each sample in nats, \[B\]; for S models at once [S, B].
    ///
    /// Source: Kingma & Welling 2014, appendix B: 1/2 sum_l (mu_l^2 + sigma_l^2 - 1 - ln sigma_l^2).
    pub fn kl(&self) -> Result<Tensor> {
        let terms = self.log_var.f_exp()?.f_sub(&self.log_var)?.f_add(&self.mean.f_square()?)?.f_add_scalar(-1.0)?;
        Ok(terms.sum_alike([-1])?.f_mul_scalar(0.5)?)
    }
}

/// A variational autoencoder as the engine needs it: differentiable, and each sample independent of the others.
pub trait Vae: Send {
    /// x [B, C, H, W] in [0, 1] to the posterior, [B, L] each.
    fn encode(&self, x: &Tensor) -> Result<Posterior>;
    /// z [B, L] to the decoder mean g(z), [B, C, H, W].
    fn decode(&self, z: &Tensor) -> Result<Tensor>;
    /// False for an encoder that gives a code and no variance, as far as is known after its first encoding; `log_var` is then 0 and has no
    /// meaning.
    fn has_scale(&self) -> bool {
        true
    }
    /// The same model, with the same tensors, for use on another thread; `None` if this is not possible.
    fn share(&self) -> Option<Box<dyn Vae>> {
        None
    }
    /// Makes [`Vae::features`] return the outputs of the layers of these names (`encoder.0`), in this order. It is asked before the first
    /// pass.
    ///
    /// # Errors
    /// A wrong request if there is no such layer, or layers have no names.
    fn watch(&mut self, _layers: &[String]) -> Result<()> {
        let expected = "a model whose layers have names: TorchScript, a run folder or a PyTorch module";
        Err(Error::request("layers", expected, "one whose layers have none"))
    }
    /// What goals compare besides the outputs: the outputs of the layers that are watched, or a judge's ([`Judged`]), while x [B, C, H, W]
    /// is encoded and its mean decoded; each [B, ...]. None if nothing is watched.
    fn features(&self, _x: &Tensor) -> Result<Vec<Tensor>> {
        Ok(Vec::new())
    }
}

impl Vae for Box<dyn Vae> {
    fn encode(&self, x: &Tensor) -> Result<Posterior> {
        self.as_ref().encode(x)
    }
    fn decode(&self, z: &Tensor) -> Result<Tensor> {
        self.as_ref().decode(z)
    }
    fn has_scale(&self) -> bool {
        self.as_ref().has_scale()
    }
    fn share(&self) -> Option<Box<dyn Vae>> {
        self.as_ref().share()
    }
    fn watch(&mut self, layers: &[String]) -> Result<()> {
        self.as_mut().watch(layers)
    }
    fn features(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        self.as_ref().features(x)
    }
}
