//! The stages joined.

mod attack;
mod job;
mod score;

pub use attack::{AttackRequest, PixelBox, SaveImages, attack};
pub use job::{Shard, Subject};
pub use score::{ScoreRequest, score};
