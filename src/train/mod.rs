//! Training: beta-VAE with KL warm-up and mixup, Adam, exact resume.
//!
//! All noise is keyed by (seed, epoch, sample), the order by (seed, epoch) and mixup by (seed, epoch, step), so that a run
//! that was interrupted goes on as if it had not been, and one seed gives one result on one device.

mod feed;
mod fleet; //  many models at once; one is a fleet of one
mod history;
mod lesson; // one epoch of a fleet
mod loss;
mod mixup;
mod run; //    one model on its way
mod spec;
mod state;
mod times; //  where the time of training goes

pub use fleet::{bytes, fit, together};
pub use history::{Epoch, History, Valid};
pub use loss::{Loss, Mixing, loss};
pub use mixup::{Mix, Mixes, MixupSpec, Pairing};
pub use run::Member;
pub use spec::{Schedule, TrainSpec};
pub use state::STATE_FILE;

use crate::error::Result;
use crate::model::Network;
use std::path::Path;

/// The file in a run folder that tells the losses.
pub const HISTORY_FILE: &str = pullback_results::history::FILE;

/// Follows a run beside its folder: training curves, pictures.
pub trait Follow {
    /// Told of the run as it stands: where it begins or goes on, and each time its files were written, after an epoch.
    fn follow(&mut self, network: &Network, history: &History) -> Result<()>;
}

/// What outlives [`fit`]; nothing by default.
#[derive(Default)]
pub struct Keep<'a> {
    /// The run folder.
    pub folder: Option<&'a Path>,
    /// Who else is told.
    pub follower: Option<&'a mut dyn Follow>,
}

impl<'a> From<Option<&'a Path>> for Keep<'a> {
    fn from(folder: Option<&'a Path>) -> Self {
        Self { folder, follower: None }
    }
}

/// One line on an epoch.
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
