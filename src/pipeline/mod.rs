//! The stages joined: what each command does once its request is known.

mod aim; //         what attacks with a target are to reach
mod attack; //      images -> attacked images and the damage
mod block; //       how many samples go through together
mod provided; //    a model and data that need not be opened
pub mod bench; //   throughput on this machine
pub mod demo; //    train, score, attack and report on generated digits
pub mod inspect; // what a file holds
mod finder; //      the spectra along whose directions attacks begin
mod flags; //       signs of a doubtful evaluation
mod flow; //        samples through the machine: read ahead, computed, stored behind
mod done; //        whether a result is there already
mod examine;
pub mod leaderboard; // one table of what the suite did to several models
mod lost;
mod others; //      which images of the data set attacks are given
mod masked; //        samples of which nothing is known
mod job; //         what scoring and attacking share: model, data, device, samples, file
mod pictures; //    attacked images as PNG files
mod score; //       images -> spectra and scores
pub mod sweep; //   the paper's study: a grid of models, and what goes with what
pub mod train; //   config -> run folder
mod train_log; //   its curves and pictures, for TensorBoard

pub use attack::{AttackRequest, attack, attack_with};
pub use job::{Shard, Subject};
pub use provided::{Opener, Provided};
pub use score::{ScoreRequest, score, score_with};
