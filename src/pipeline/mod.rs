//! The stages joined: what each command does once its request is known.

mod attack; //      images -> attacked images and the damage
mod block; //       how many samples go through together
pub mod bench; //   throughput on this machine
pub mod demo; //    train, score, attack and report on generated digits
pub mod inspect; // what a file holds
mod flow; //        samples through the machine: read ahead, computed, stored behind
mod done; //        whether a result is there already
mod examine;
mod lost;
mod masked; //        samples of which nothing is known
mod job; //         what scoring and attacking share: model, data, device, samples, file
mod score; //       images -> spectra and scores
pub mod sweep; //   the paper's study: a grid of models, and what goes with what
pub mod train; //   config -> run folder
mod train_log; //   its curves and pictures, for TensorBoard

pub use attack::{AttackRequest, attack};
pub use job::{Shard, Subject};
pub use score::{ScoreRequest, score};
