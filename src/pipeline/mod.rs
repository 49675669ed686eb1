//! The stages joined: what each command does with its request.

mod aim; //         the targets of attacks
mod attack; //      images -> attacked images and the damage
mod attack_request; // what it is asked for
mod block; //       how many samples are processed together
mod provided; //    a model and data that need not be opened
pub mod bench; //   throughput on this machine
pub mod demo; //    train, score, attack and report on generated digits
pub mod inspect; // the contents of a file
mod finder; //      the spectra whose directions are starts of attacks
mod flags; //       signs of a doubtful evaluation
mod flow; //        samples are read ahead, computed, and stored behind
mod done; //        whether a result already exists
mod examine;
pub mod leaderboard; // one table of the suite's results on several models
mod lost;
mod others; //      the images of the data set that attacks get
mod masked; //        masked gradients
mod job; //         what scoring and attacking share: model, data, device, samples, file
mod halves; //      smaller pieces where memory runs out
mod parts; //       which samples this process does, and their files
mod pictures; //    attacked images as PNG files
mod pool; //        perturbations of other images that attacks begin from
mod score; //       images -> spectra and scores
mod search; //      what an attack does to a block of samples
pub mod sweep; //   the paper's study: a grid of models, and their correlations
pub mod train; //   config -> run folder
mod told; //        what a file tells of attacked samples
mod universal; //   the perturbation for all images
mod train_log; //   its curves and pictures, for TensorBoard

pub use crate::config::Shard;
pub use attack::{attack, attack_with};
pub use attack_request::AttackRequest;
pub use job::Subject;
pub use provided::{Opener, Provided};
pub use score::{ScoreRequest, score, score_with};
