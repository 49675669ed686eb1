//! Training: beta-VAE with KL warm-up and mixup, Adam, exact resume.
//!
//! All noise is keyed by (seed, epoch, sample), the order by (seed, epoch) and mixup by (seed, epoch, step), so that an interrupted run
//! continues as if it had not stopped, and one seed gives one result on one device.

mod feed;
mod fleet; //  many models at once; a single model is a fleet of one
mod history;
mod lesson; // one epoch of a fleet
mod loss;
mod mixup;
mod run; //    one model in training
mod spec;
mod state;
mod times; //  what the time of training is spent on

pub use fleet::{bytes, fit, together};
pub use history::{Epoch, History, Valid};
pub use loss::{Loss, Mixing, loss};
pub use mixup::{Mix, Mixes, MixupSpec, Pairing};
pub use run::Member;
pub(crate) use run::{contents, data, settings};
pub use spec::{Schedule, TrainSpec};
pub use state::STATE_FILE;
pub(crate) use state::{data_in, goes_on};

use crate::error::Result;
use crate::model::Network;
use std::path::Path;

/// The file of the losses in a run folder.
pub const HISTORY_FILE: &str = pullback_results::history::FILE;

/// Records a run beside its folder: training curves, pictures.
pub trait Follow {
    /// Gets the run's state: at the beginning or at a resume, and after each epoch whose files were written.
    fn follow(&mut self, network: &Network, history: &History) -> Result<()>;
}

/// What remains after [`fit`]; nothing by default.
#[derive(Default)]
pub struct Keep<'a> {
    /// The run folder.
    pub folder: Option<&'a Path>,
    /// The follower, if any.
    pub follower: Option<&'a mut dyn Follow>,
}

impl<'a> From<Option<&'a Path>> for Keep<'a> {
    fn from(folder: Option<&'a Path>) -> Self {
        Self { folder, follower: None }
    }
}

/// One line about an epoch.
fn describe(e: &Epoch, spec: &TrainSpec) -> String {
    let mut line = format!(
        "epoch {}/{}: loss {:.3} (reconstruction {:.3}, KL {:.3}",
        e.epoch, spec.epochs, e.loss, e.reconstruction, e.kl
    );
    if spec.mixup.is_on() {
        line += &format!(", mixup {:.3}", e.mixup);
    }
    line.push(')');
    if let Some(v) = e.valid {
        line += &format!(", validation ELBO {:.3} (reconstruction {:.3}, KL {:.3})", v.elbo, v.reconstruction, v.kl);
    }
    line + &format!(", lr {:.2e}, {:.1} s", e.lr, e.seconds)
}
