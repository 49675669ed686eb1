//! Training: beta-VAE with KL warm-up and mixup, Adam, exact resume.
//!
//! All noise is keyed by (seed, epoch, sample), the order by (seed, epoch) and mixup by (seed, epoch, step), so that a run
//! that was interrupted goes on as if it had not been, and one seed gives one result on one device.

mod feed;
mod history;
mod loss;
mod mixup;
mod spec;
mod state;

pub use history::{Epoch, History, Valid};
pub use loss::{Loss, Mixing, loss};
pub use mixup::{Mix, MixupSpec, Pairing};
pub use spec::{Schedule, TrainSpec};
pub use state::STATE_FILE;

use crate::data::Source;
use crate::error::{Error, Result};
use crate::event::{Event, Observer};
use crate::ffi::adam::AdamStep;
use crate::model::{self, Mode, Network, Normalization, shape_text};
use crate::seed::Stage;
use feed::{Feed, Noise};
use serde_json::json;
use state::{Adam, State};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tch::{Kind, Tensor};

/// The file in a run folder that tells the losses.
pub const HISTORY_FILE: &str = "history.csv";
/// Stands for the epoch in the keys of the validation's noise, which is the same in every epoch.
const VALIDATION: u32 = u32::MAX;
/// Samples a validation step.
const VALIDATION_BATCH: usize = 512;
/// Steps between two looks at the loss: a look makes a GPU wait.
const LOOK_EVERY: usize = 50;
/// Adam's term in the denominator.
const ADAM_EPS: f64 = 1e-8;

/// Follows a run beside its folder: training curves, pictures.
pub trait Follow {
    /// Told of the run as it stands: where it begins or goes on, and after each epoch, once its files are written.
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

impl Keep<'_> {
    fn follow(&mut self, network: &Network, history: &History) -> Result<()> {
        self.follower.as_mut().map_or(Ok(()), |follower| follower.follow(network, history))
    }
}

/// Trains `network` in place and tells the observer of every batch and epoch.
///
/// With a folder to `keep`, each epoch ends with its state there (`model.safetensors`, `train.safetensors`, `history.csv`, and
/// `config.yaml` where there is none), each file whole or not at all; a folder that holds a state is resumed from, bit for
/// bit as if the run had not stopped. A finished run is left as it is.
///
/// # Errors
/// Where a value of `spec` is out of range, the data do not have the model's shape, the folder holds the state of
/// another run, the loss stops being a number, or the user interrupts (the last epoch's state stays).
pub fn fit<'a>(
    network: &mut Network,
    train: Arc<dyn Source>,
    valid: Option<Arc<dyn Source>>,
    spec: &TrainSpec,
    seed: u64,
    keep: impl Into<Keep<'a>>,
    observer: &dyn Observer,
) -> Result<History> {
    spec.validate()?;
    for source in std::iter::once(&train).chain(&valid) {
        let (found, expected) = (source.shape(), network.architecture().image());
        if found != expected {
            return Err(Error::request(
                source.name(),
                format!("images of {}, the model's", shape_text(expected)),
                shape_text(found),
            ));
        }
    }
    let (device, kind) = (network.device(), network.kind());
    let hold = spec.hold_mib << 20;
    let train = Feed::new(train, device, kind, hold)?;
    let valid = valid.map(|source| Feed::new(source, device, kind, hold)).transpose()?;
    let least = if network.spec().normalization() == Normalization::Batch { 2 } else { 1 };
    if train.len() < least {
        return Err(Error::request(train.name(), "2 samples or more, for batch statistics", "1"));
    }
    let batch = spec.batch.max(least);
    let run = Run {
        network,
        adam: Adam::new(network.parameters())?,
        steps: feed::steps(train.len(), batch, least),
        batch,
        train,
        valid,
        spec,
        seed,
        observer,
    };
    let trained = Trained::begin(run.adam.params())?;
    let history = run.all(keep.into());
    trained.end(history)
}

/// Parameters ask for gradients while they are trained, and not before or after.
struct Trained<'a>(&'a [Tensor]);

impl<'a> Trained<'a> {
    fn begin(params: &'a [Tensor]) -> Result<Self> {
        for p in params {
            let _ = p.f_set_requires_grad(true)?;
        }
        Ok(Self(params))
    }

    fn end<T>(self, result: Result<T>) -> Result<T> {
        for p in self.0 {
            let _ = p.f_set_requires_grad(false)?;
        }
        result
    }
}

struct Run<'a> {
    network: &'a Network,
    adam: Adam,
    train: Feed,
    valid: Option<Feed>,
    batch: usize,
    steps: Vec<std::ops::Range<usize>>,
    spec: &'a TrainSpec,
    seed: u64,
    observer: &'a dyn Observer,
}

impl Run<'_> {
    fn all(&self, mut keep: Keep) -> Result<History> {
        let folder = keep.folder;
        let settings = self.settings();
        let state = State { parameters: self.network.parameters(), adam: &self.adam, settings: &settings };
        let mut history = match folder.map(|f| f.join(STATE_FILE)).filter(|f| f.exists()) {
            Some(file) => state.read(&file)?,
            None => History::default(),
        };
        let (done, per_epoch) = (history.epochs.len() as u32, self.steps.len() as u64);
        if let Some(folder) = folder {
            std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
            // A run may have ended between its state and these two.
            if done > 0 {
                model::save(folder, self.network)?;
                history.write(&folder.join(HISTORY_FILE))?;
            }
        }
        keep.follow(self.network, &history)?;
        self.observer.on(Event::Begin {
            task: "training",
            unit: "batches",
            total: u64::from(self.spec.epochs) * per_epoch,
            done: u64::from(done) * per_epoch,
        });
        for epoch in done..self.spec.epochs {
            let start = Instant::now();
            let mut entry = self.epoch(epoch)?;
            entry.valid = self.valid.as_ref().map(|feed| self.validate(feed)).transpose()?;
            entry.seconds = start.elapsed().as_secs_f64();
            self.observer.on(Event::Note(&describe(&entry, self.spec)));
            history.epochs.push(entry);
            if let Some(folder) = folder {
                // The state comes first: it alone decides where a resumed run goes on.
                state.write(&folder.join(STATE_FILE), &history)?;
                model::save(folder, self.network)?;
                history.write(&folder.join(HISTORY_FILE))?;
            }
            keep.follow(self.network, &history)?;
        }
        self.observer.on(Event::End);
        Ok(history)
    }

    /// What must not change between a run's beginning and its resume.
    fn settings(&self) -> serde_json::Value {
        json!({
            "model": self.network.spec(),
            "train": TrainSpec { hold_mib: 0, ..self.spec.clone() },
            "seed": self.seed,
            "kind": format!("{:?}", self.network.kind()),
            "data": { "name": self.train.name(), "samples": self.train.len() },
        })
    }

    /// One pass over the training data; `valid` and `seconds` are left for the caller.
    fn epoch(&self, epoch: u32) -> Result<Epoch> {
        let (spec, network) = (self.spec, self.network);
        let (device, kind) = (network.device(), network.kind());
        let latent = network.architecture().latent() as usize;
        let order = feed::order(self.seed, epoch, self.train.len());
        let noise_of = |stage| Noise::new(self.seed, stage, epoch, &order, latent, device, kind);
        let (mut noise, mut mixed_noise) = (noise_of(Stage::Reparameterize), noise_of(Stage::Mixup));
        let (per_epoch, all) = (self.steps.len() as u64, u64::from(spec.epochs) * self.steps.len() as u64);
        let (mut lr, mut beta) = (0.0, 0.0);
        let mut pass = self.train.pass(&order, self.batch)?;
        let mut sums = Tensor::f_zeros([4i64], (Kind::Double, device))?;
        for (i, range) in self.steps.iter().enumerate() {
            self.observer.check()?;
            let step = u64::from(epoch) * per_epoch + i as u64;
            (lr, beta) = (spec.lr_at(step, all), spec.beta_at(step, per_epoch));
            let x = pass.images(range.clone())?;
            let eps = noise.rows(range.clone())?;
            let loss = if spec.mixup.is_on() {
                let mixes = Mix::draw(&spec.mixup, self.seed, u64::from(epoch) << 32 | i as u64, range.len())?;
                let noise = mixed_noise.rows(range.clone())?;
                let mixing = Mixing { strength: spec.mixup.strength, mixes: &mixes, noise: &noise };
                loss(network, &x, &eps, beta, Some(&mixing), Mode::Train)?
            } else {
                loss(network, &x, &eps, beta, None, Mode::Train)?
            };
            self.descend(&loss.total, lr)?;
            sums = sums.f_add(&parts(&loss)?.f_mul_scalar(range.len() as f64)?)?;
            if (i + 1) % LOOK_EVERY == 0 || i + 1 == self.steps.len() {
                self.look(&sums, epoch, i)?;
            }
            self.observer.on(Event::Advance(1));
        }
        let [loss, reconstruction, kl, mixup] = host(&sums.f_div_scalar(self.train.len() as f64)?)?;
        Ok(Epoch { epoch: epoch + 1, beta, lr, loss, reconstruction, kl, mixup, valid: None, seconds: 0.0 })
    }

    /// One step down the gradient of `loss`.
    fn descend(&self, loss: &Tensor, lr: f64) -> Result<()> {
        let mut grads = Tensor::f_run_backward(&[loss], self.adam.params(), false, false)?;
        for g in &mut grads {
            // The gradient of a weight comes transposed, and the fused step walks plain memory.
            *g = g.f_contiguous()?;
        }
        if let Some(longest) = self.spec.grad_clip {
            clip(&mut grads, longest)?;
        }
        let TrainSpec { beta1, beta2, weight_decay, .. } = *self.spec;
        self.adam.step(&grads, AdamStep { lr, beta1, beta2, weight_decay, eps: ADAM_EPS })
    }

    /// Stops a run whose loss is no longer a number.
    fn look(&self, sums: &Tensor, epoch: u32, step: usize) -> Result<()> {
        let sums: [f64; 4] = host(sums)?;
        if sums.iter().all(|x| x.is_finite()) {
            return Ok(());
        }
        Err(Error::Native {
            routine: "training",
            message: format!(
                "expected a finite loss, found {} in epoch {}, by step {} of {}: a lower train.lr or train.grad_clip helps",
                sums[0],
                epoch + 1,
                step + 1,
                self.steps.len()
            ),
        })
    }

    /// Losses of the validation data with running statistics and the same noise in every epoch.
    fn validate(&self, feed: &Feed) -> Result<Valid> {
        let (network, n) = (self.network, feed.len());
        let order: Vec<u64> = (0..n as u64).collect();
        let latent = network.architecture().latent() as usize;
        let (device, kind) = (network.device(), network.kind());
        let mut noise = Noise::new(self.seed, Stage::Reparameterize, VALIDATION, &order, latent, device, kind);
        let mut sums = Tensor::f_zeros([4i64], (Kind::Double, device))?;
        let _no_grad = tch::no_grad_guard();
        let mut pass = feed.pass(&order, VALIDATION_BATCH)?;
        for range in feed::steps(n, VALIDATION_BATCH, 1) {
            self.observer.check()?;
            let x = pass.images(range.clone())?;
            let loss = loss(network, &x, &noise.rows(range.clone())?, 1.0, None, Mode::Eval)?;
            sums = sums.f_add(&parts(&loss)?.f_mul_scalar(range.len() as f64)?)?;
        }
        let [_, reconstruction, kl, _] = host(&sums.f_div_scalar(n as f64)?)?;
        Ok(Valid { elbo: -reconstruction - kl, reconstruction, kl })
    }
}

/// Total, reconstruction, KL and mixup of a batch, [4] f64 without a graph.
fn parts(loss: &Loss) -> Result<Tensor> {
    let _no_grad = tch::no_grad_guard();
    let nothing;
    let mixup = match &loss.mixup {
        Some(mixup) => mixup,
        None => {
            nothing = loss.kl.f_zeros_like()?;
            &nothing
        }
    };
    Ok(Tensor::f_stack(&[&loss.total, &loss.reconstruction, &loss.kl, mixup], 0)?.f_to_kind(Kind::Double)?)
}

/// Four numbers on the host.
fn host(tensor: &Tensor) -> Result<[f64; 4]> {
    let mut numbers = [0f64; 4];
    tensor.f_to_device(tch::Device::Cpu)?.f_copy_data(&mut numbers, 4)?;
    Ok(numbers)
}

/// Scales gradients down to a common L2 norm of at most `longest`, as `torch.nn.utils.clip_grad_norm_` does.
fn clip(grads: &mut [Tensor], longest: f64) -> Result<()> {
    let _no_grad = tch::no_grad_guard();
    let mut squares = Vec::with_capacity(grads.len());
    for g in grads.iter() {
        squares.push(g.f_square()?.f_sum(Kind::Double)?);
    }
    let norm = Tensor::f_stack(&squares, 0)?.f_sum(None)?.f_sqrt()?;
    let factor = norm.f_add_scalar(1e-6)?.f_reciprocal()?.f_mul_scalar(longest)?.f_clamp_max(1.0)?;
    for g in grads {
        *g = g.f_mul(&factor.f_to_kind(g.f_kind()?)?)?;
    }
    Ok(())
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
