//! How robust is a variational autoencoder? The local geometry of its encoder answers this.
//!
//! This crate takes the encoder's per-sample Jacobians J, makes of them a pullback metric G = AᵀA, finds its eigenvalues and directions
//! without forming G, computes scores from them, and attacks the model along those directions and in other ways. It works on any [`Vae`]: a
//! TorchScript file, a folder that `pullback train` wrote, or a model written in [`tch`]. It is also the program `pullback` (the feature
//! `cli`, on by default; a library needs only `default-features = false`).
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
//! // Eigenvalues and the leading direction of each image, and the scores.
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
//! `examples/own_model.rs` writes a [`Vae`] in tch. Each function that opens a model, or begins spectra or attacks, sets libtorch to exact
//! derivatives for the whole process ([`ffi::exact_math`]): no TF32, attention by its math backend. [`Error::kind`] says what kind of error
//! occurred.
//!
//! The modules, in the order of the layers in `docs/architecture.md`; each uses only modules of layers above it in this list.

mod wording; //       the messages of libtorch's errors
mod zipped; //        zip archives
pub mod error; //     what can go wrong, and the exit code
pub mod memory; //    what the host has left for this process
pub mod seed; //      noise keyed by (run seed, stage, sample index)
pub mod event; //     how lower layers report without printing
pub(crate) mod ops; //  reductions, named as in formulas
pub mod ffi; //       the only unsafe code: batched VJPs, kernels, memory accounting
pub mod device; //    device choice, precision, memory budget
pub mod linalg; //    LAPACK on batches of small matrices
pub mod data; //      file bytes -> Batch
pub mod model; //     Batch -> Posterior; checkpoints; how far apart the outputs of two inputs are
pub mod train; //     beta-VAE with KL warm-up and mixup
pub mod jacobian; //  per-sample Jacobians and the planner that sizes a pass
pub mod metric; //    pullback metrics as factors A with G = A^T A
pub mod spectrum; //  eigenvalues and directions from the Gram matrix of the factor
pub mod score; //     numbers computed from a spectrum
pub mod attack; //    goals, budgets, attacks; only run() judges
pub mod correlate; // rank correlations with bootstrap intervals
pub mod config; //    the YAML: consists of the specs that stand beside the code they configure
pub mod pipeline; //  the stages joined
#[cfg(feature = "cli")]
pub mod cli; //       what was typed

/// The crate `pullback-results`: result files and the report, which need no libtorch.
pub use pullback_results::{lock, report, store};

pub use attack::{AttackSpec, Budget, Norm, Victim};
pub use device::DeviceChoice;
pub use error::{Error, ErrorKind, Result};
pub use metric::MetricKind;
pub use model::{Model, Posterior, Vae, open};
pub use score::Score;
pub use spectrum::{Found, Spectra};
/// libtorch's Rust interface, in the version whose tensors this crate takes.
pub use tch;
