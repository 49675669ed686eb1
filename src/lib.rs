//! How robust is a variational autoencoder? The local geometry of its encoder tells.
//!
//! Source: Khan & Storkey, "Adversarial robustness of VAEs through the lens of local geometry", AISTATS 2023.
//!
//! The modules in the order in which a sample passes them; each uses only those above it.

pub mod error; //     what can go wrong, and the exit code it earns
mod wording; //       what libtorch says when it fails
pub mod memory; //    what the host has left for this process
pub mod device; //    device choice, precision, memory budget
pub mod seed; //      noise keyed by (run seed, stage, sample index)
pub mod event; //     how lower layers speak without printing
pub mod ffi; //       the only unsafe code: batched VJPs, kernels, memory accounting
pub mod lock; //      what two processes may not write at one time
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
pub mod store; //     results in HDF5
pub mod report; //    stored results -> one HTML page
pub mod config; //    the YAML: composes the specs that live beside the code they configure
pub mod pipeline; //  the stages joined
#[cfg(feature = "cli")]
pub mod cli; //       what was typed

pub use error::{Error, Result};
