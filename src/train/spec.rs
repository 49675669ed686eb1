//! The settings of training, with their ranges.

use super::mixup::MixupSpec;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// The `train` key of a configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainSpec {
    /// Passes over the training data, 1 to 1 000 000.
    pub epochs: u32,
    /// Samples in a step, 1 to 1 000 000; the last step of an epoch takes what remains.
    pub batch: usize,
    /// Adam's learning rate at the start, above 0.
    pub lr: f64,
    /// The value to which the schedule lowers the learning rate, 0 to `lr`.
    pub lr_min: f64,
    /// How the learning rate changes.
    pub schedule: Schedule,
    /// Weight of the KL term, 0 or more.
    pub beta: f64,
    /// Epochs over which the weight of the KL term rises from 0 to `beta`, step by step; fractions are allowed.
    pub kl_warmup: f64,
    /// Adam's L2 term, 0 or more.
    pub weight_decay: f64,
    /// The largest length of a gradient (L2 norm over all parameters); no limit if absent.
    pub grad_clip: Option<f64>,
    /// Adam's decay of the gradients' mean, below 1.
    pub beta1: f64,
    /// Adam's decay of their squares' mean, below 1.
    pub beta2: f64,
    /// Mixup; off by default.
    pub mixup: MixupSpec,
    /// On CUDA devices, matrix products and convolutions of the training in TF32: faster, with ten bits of mantissa. Spectra and attacks
    /// never use TF32.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub tf32: bool,
    /// Largest data set, in MiB, that is held in the device's memory; a larger one is read again in every epoch, ahead of its use. The
    /// result is the same.
    pub hold_mib: u64,
}

impl Default for TrainSpec {
    fn default() -> Self {
        Self {
            epochs: 100,
            batch: 128,
            lr: 1e-3,
            lr_min: 0.0,
            schedule: Schedule::Cosine,
            beta: 1.0,
            kl_warmup: 0.0,
            weight_decay: 0.0,
            grad_clip: None,
            beta1: 0.9,
            beta2: 0.999,
            mixup: MixupSpec::default(),
            tf32: false,
            hold_mib: 2048,
        }
    }
}

/// How the learning rate changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Half a cosine over all steps of the run.
    #[default]
    Cosine,
    /// It stays constant.
    Constant,
}

impl TrainSpec {
    /// Checks every value; errors are one line and name the key (`train.lr`).
    pub fn validate(&self) -> Result<()> {
        let check = |key: &str, fits: bool, expected: &str, found: String| {
            if fits { Ok(()) } else { Err(Error::request(format!("train.{key}"), expected, found)) }
        };
        let finite = |low: f64, x: f64| x.is_finite() && x >= low;
        check("epochs", (1..=1_000_000).contains(&self.epochs), "1 to 1000000", self.epochs.to_string())?;
        check("batch", (1..=1_000_000).contains(&self.batch), "1 to 1000000", self.batch.to_string())?;
        check("lr", self.lr > 0.0 && self.lr <= 1.0, "above 0, at most 1", self.lr.to_string())?;
        let expected = format!("0 to train.lr ({})", self.lr);
        check("lr_min", (0.0..=self.lr).contains(&self.lr_min), &expected, self.lr_min.to_string())?;
        check("beta", finite(0.0, self.beta), "0 or more", self.beta.to_string())?;
        check("kl_warmup", finite(0.0, self.kl_warmup), "0 or more epochs", self.kl_warmup.to_string())?;
        check("weight_decay", finite(0.0, self.weight_decay), "0 or more", self.weight_decay.to_string())?;
        if let Some(clip) = self.grad_clip {
            check("grad_clip", clip.is_finite() && clip > 0.0, "above 0, or nothing", clip.to_string())?;
        }
        check("beta1", (0.0..1.0).contains(&self.beta1), "0 to below 1", self.beta1.to_string())?;
        check("beta2", (0.0..1.0).contains(&self.beta2), "0 to below 1", self.beta2.to_string())?;
        check("hold_mib", self.hold_mib <= 1 << 30, "0 to 2^30", self.hold_mib.to_string())?;
        self.mixup.validate()
    }

    /// Learning rate of step `step` (from 0) of `steps` in all.
    ///
    /// Source: Loshchilov & Hutter 2017, eq. 5, without restarts.
    pub fn lr_at(&self, step: u64, steps: u64) -> f64 {
        match self.schedule {
            Schedule::Constant => self.lr,
            Schedule::Cosine => {
                let turn = std::f64::consts::PI * step as f64 / steps.max(1) as f64;
                self.lr_min + (self.lr - self.lr_min) * 0.5 * (1.0 + turn.cos())
            }
        }
    }

    /// Weight of the KL term in step `step` (from 0), if an epoch has `per_epoch` steps.
    pub fn beta_at(&self, step: u64, per_epoch: u64) -> f64 {
        let rise = self.kl_warmup * per_epoch as f64;
        if rise > 0.0 { self.beta * ((step + 1) as f64 / rise).min(1.0) } else { self.beta }
    }
}
