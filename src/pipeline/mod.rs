//! The stages joined: what each command does once its request is known.

mod aim; //         what attacks with a target are to reach
mod attack; //      images -> attacked images and the damage
mod block; //       how many samples go through together
pub mod bench; //   throughput on this machine
pub mod demo; //    train, score, attack and report on generated digits
pub mod inspect; // what a file holds
mod flags; //       signs of a doubtful evaluation
mod flow; //        samples through the machine: read ahead, computed, stored behind
mod done; //        whether a result is there already
mod examine;
mod lost;
mod others; //      which images of the data set attacks are given
mod masked; //        samples of which nothing is known
mod job; //         what scoring and attacking share: model, data, device, samples, file
mod pictures; //    attacked images as PNG files
mod score; //       images -> spectra and scores
pub mod sweep; //   the paper's study: a grid of models, and what goes with what
pub mod train; //   config -> run folder
mod train_log; //   its curves and pictures, for TensorBoard

pub use attack::{AttackRequest, attack};
pub use job::{Shard, Subject};
pub use score::{ScoreRequest, score};
