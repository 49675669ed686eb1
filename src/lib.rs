//! How robust is a variational autoencoder? The local geometry of its encoder tells.
//!
//! This crate takes the encoder's per-sample Jacobians J, makes of them a pullback metric G = AᵀA, finds its eigenvalues and
//! directions without forming G, makes scores of them, and attacks the model along those directions and by other ways. It works on
//! any [`Vae`]: a TorchScript file, a folder that `pullback train` wrote, or a model written in [`tch`]. It is also the program
//! `pullback` (the feature `cli`, on by default; a library needs `default-features = false` only).
//!
//! Source: Khan & Storkey, "Adversarial robustness of VAEs through the lens of local geometry", AISTATS 2023.
//!
//! ```
//! use pullback::attack::{self, AttackSpec, Budget, Norm, Victim};
//! use pullback::tch::{Device, Kind, Tensor};
//! use pullback::{MetricKind, Spectra, score};
//!
//! # fn main() -> pullback::Result<()> {
//! // A TorchScript file with encode(x) -> (mu, logvar) and decode(z).
//! let vae = pullback::open("tests/models/flat.pt", Device::Cpu, Kind::Float)?;
//! let images = Tensor::f_rand([4, 1, 2, 3], (Kind::Float, Device::Cpu))?; // [B, C, H, W] in [0, 1]
//!
//! // Eigenvalues and the leading direction of each image, and what is made of them.
//! let mut spectra = Spectra::of(&vae, &images, MetricKind::Stochastic, 1)?;
//! let found = spectra.find(&vae, &images, &[0, 1, 2, 3])?;
//! for (score, values) in score::of(&found)? {
//!     println!("{score} of the first image: {}", values.f_double_value(&[0])?);
//! }
//!
//! // How far the code moves along that direction, by a change of length 0.5.
//! let spectrum = found.into_spectrum();
//! let victim = Victim::of(&vae, &images)?.along(&spectrum)?;
//! let budget = Budget::new(Norm::L2, 0.5, Some((0.0, 1.0)))?;
//! let spectral: AttackSpec = "spectral".parse()?;
//! for attacked in attack::run(&spectral, &victim, &budget)? {
//!     println!("{} moves the first code by {}", attacked.name, attacked.damage.f_double_value(&[0])?);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! `examples/own_model.rs` writes a [`Vae`] in tch. Whatever opens a model, begins spectra or attacks sets libtorch for exact
//! derivatives, for the whole process ([`ffi::exact_math`]): no TF32, attention by its math backend. What went wrong is told apart by
//! [`Error::kind`].
//!
//! The modules in the order in which a sample passes them; each uses only those above it.

pub mod error; //     what can go wrong, and the exit code it earns
mod wording; //       what libtorch says when it fails
pub mod memory; //    what the host has left for this process
pub mod device; //    device choice, precision, memory budget
pub mod seed; //      noise keyed by (run seed, stage, sample index)
pub mod event; //     how lower layers speak without printing
pub mod ffi; //       the only unsafe code: batched VJPs, kernels, memory accounting
pub(crate) mod ops; //  reductions as formulas write them
pub mod linalg; //    LAPACK on batches of small matrices
pub mod data; //      file bytes -> Batch
pub mod model; //     Batch -> Posterior; checkpoints; how far two inputs land apart
pub mod train; //     beta-VAE with KL warm-up and mixup
pub mod jacobian; //  per-sample Jacobians and the planner that sizes a pass
pub mod metric; //    pullback metrics as factors A with G = A^T A
pub mod spectrum; //  eigenvalues and directions from the Gram matrix of the factor
pub mod score; //     from a spectrum to numbers
pub mod correlate; // rank correlations with bootstrap intervals
pub mod attack; //    goals, budgets, attacks; run() is the only judge
pub mod config; //    the YAML: composes the specs that live beside the code they configure
pub mod pipeline; //  the stages joined
#[cfg(feature = "cli")]
pub mod cli; //       what was typed

/// The crate `pullback-results`: what is written, and read again without libtorch.
pub use pullback_results::{lock, report, store};

pub use attack::{AttackSpec, Budget, Norm, Victim};
pub use device::DeviceChoice;
pub use error::{Error, ErrorKind, Result};
pub use metric::MetricKind;
pub use model::{Model, Posterior, Vae, open};
pub use score::Score;
pub use spectrum::{Found, Spectra};
/// libtorch, in the version whose tensors this crate takes.
pub use tch;
