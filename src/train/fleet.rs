//! Models of one architecture that are trained together: one batched program for all; each gets the same result as alone.
//!
//! Each model keeps its own folder, state and history, the same as after a separate run, so that a fleet may be killed and its models
//! resumed one by one, or in another fleet. If models are at different epochs (because only some were saved when the last fleet was
//! killed), the ones that are behind are trained first.

use super::feed::{self, Feed};
use super::history::{Epoch, History};
use super::lesson::{Bench, Lesson};
use super::loss::loss;
use super::run::{self, Member, Run};
use super::spec::TrainSpec;
use super::state::Adam;
use super::times::Times;
use super::{Keep, describe};
use crate::data::Source;
use crate::error::{Error, Result};
use crate::event::{Event, Observer};
use crate::ffi::{Products, memory};
use crate::model::{Network, Normalization, Phase, Stack, shape_text};
use serde_json::Value;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tch::Tensor;

/// Trains `network` in place and tells the observer of every batch and epoch.
///
/// With a folder to `keep`, each epoch ends with its state there (`model.safetensors`, `train.safetensors`, `history.csv`, and
/// `config.yaml` if there is none); each file is written completely or not at all. If the folder holds a state, training resumes from it,
/// bit for bit as if the run had not stopped. A finished run is not changed.
///
/// # Errors
/// If a value of `spec` is out of range, the data do not have the model's shape, the folder holds the state of another run, the loss stops
/// being a number, or the user interrupts (the last epoch's state is kept).
pub fn fit<'a>(
    network: &'a mut Network,
    train: Arc<dyn Source>,
    valid: Option<Arc<dyn Source>>,
    spec: &TrainSpec,
    seed: u64,
    keep: impl Into<Keep<'a>>,
    observer: &'a dyn Observer,
) -> Result<History> {
    let (beta, mixup) = (spec.beta, spec.mixup);
    let member = Member { network, beta, mixup, seed, keep: keep.into(), observer };
    let only = together(vec![member], train, valid, spec)?.pop();
    only.unwrap_or_else(|| Err(Error::internal("training", "no result")))
}

/// Trains the members on the same data by the same `spec`, except for a [`Member`]'s own settings. Within rounding, each member gets the
/// result of [`fit`] for it alone. If a model's loss stops being a number, only that model fails.
///
/// States are saved after each epoch or, with several models, so often that nine tenths of the time are left for training.
///
/// # Errors
/// Errors that concern all: a value of `spec` out of range, data of another shape, members of different architecture, the state of another
/// run in a folder, an interruption (the saved states are kept).
pub fn together(
    members: Vec<Member<'_>>,
    train: Arc<dyn Source>,
    valid: Option<Arc<dyn Source>>,
    spec: &TrainSpec,
) -> Result<Vec<Result<History>>> {
    let Some(first) = members.first() else {
        return Ok(vec![]);
    };
    let image = first.network.architecture().image();
    for source in std::iter::once(&train).chain(&valid) {
        if source.shape() != image {
            let expected = format!("images of {}, the model's", shape_text(image));
            return Err(Error::request(source.name(), expected, shape_text(source.shape())));
        }
    }
    let (device, kind) = (first.network.device(), first.network.kind());
    let least = if first.network.spec().normalization() == Normalization::Batch { 2 } else { 1 };
    let mut runs = Vec::with_capacity(members.len());
    for member in members {
        let spec = TrainSpec { beta: member.beta, mixup: member.mixup, ..spec.clone() };
        spec.validate()?;
        let adam = Adam::new(member.network.parameters())?;
        runs.push(Run { member, spec, adam, history: History::default(), failure: None });
    }
    let _products = if device.is_cuda() { Some(Products::new(spec.tf32)?) } else { None };
    let hold = spec.hold_mib << 20;
    let train = Feed::new(train, device, kind, hold)?;
    let valid = valid.map(|source| Feed::new(source, device, kind, hold)).transpose()?;
    if train.len() < least {
        return Err(Error::request(train.name(), "2 samples or more, for batch statistics", "1"));
    }
    let batch = spec.batch.max(least);
    let steps = feed::steps(train.len(), batch, least);
    // Only states hold what the data are.
    let kept = runs.iter().any(|run| run.member.keep.folder.is_some());
    let data = if kept { run::data(train.source(), valid.as_ref().map(Feed::source))? } else { Value::Null };
    let mut fleet = Fleet { runs, steps, batch, train, valid, data, epochs: spec.epochs };
    fleet.all()?;
    Ok(fleet.runs.into_iter().map(|run| run.failure.map_or(Ok(run.history), Err)).collect())
}

/// Memory that a model takes while it is trained with others: the measured peak of a step, its parameters and Adam's moments. The step
/// changes the network's batch statistics.
pub fn bytes(network: &Network, spec: &TrainSpec) -> Result<u64> {
    let (device, kind) = (network.device(), network.kind());
    let stack = Stack::of(&[network])?;
    let image = network.architecture().image();
    let batch = spec.batch.max(2) as i64;
    let images = [1, batch, image.channels, image.height, image.width];
    let latent = network.architecture().latent();
    let (x, noise) = (Tensor::f_zeros(images, (kind, device))?, Tensor::f_zeros([1, batch, latent], (kind, device))?);
    let ((), peak) = memory::peak_bytes(|| {
        let params = stack.trained();
        for p in &params {
            let _ = p.f_set_requires_grad(true)?;
        }
        let beta = Tensor::f_ones([1i64], (kind, device))?;
        let loss = loss(&stack, &x, &noise, &beta, None, Phase::Train)?;
        Tensor::f_run_backward(&[loss.total], &params, false, false)?;
        Ok(())
    })?;
    // With mixup, a second pass goes through the model in the same graph.
    let passes = if spec.mixup.is_on() { 2 } else { 1 };
    let state = 3 * network.parameters().count() as u64 * kind.elt_size_in_bytes() as u64;
    Ok(state + passes * peak)
}

struct Fleet<'a> {
    runs: Vec<Run<'a>>,
    train: Feed,
    valid: Option<Feed>,
    /// What states say of both.
    data: Value,
    batch: usize,
    steps: Vec<Range<usize>>,
    epochs: u32,
}

impl Fleet<'_> {
    fn all(&mut self) -> Result<()> {
        let per_epoch = self.steps.len() as u64;
        for run in &mut self.runs {
            run.resume(&self.data)?;
            run.member.observer.on(Event::Training {
                total: u64::from(self.epochs) * per_epoch,
                done: u64::from(run.epochs()) * per_epoch,
            });
        }
        while let Some((level, until)) = self.level() {
            let at = |run: &Run<'_>| run.failure.is_none() && run.epochs() == level;
            let mut active: Vec<usize> = (0..self.runs.len()).filter(|&i| at(&self.runs[i])).collect();
            // Only the first models of a stack have mixup.
            active.sort_by_key(|&i| !self.runs[i].spec.mixup.is_on());
            self.advance(&active, level..until)?;
        }
        for run in self.runs.iter().filter(|run| run.failure.is_none()) {
            run.member.observer.on(Event::End);
        }
        Ok(())
    }

    /// The epoch of the models that are furthest behind, and the epoch up to which they are trained together.
    fn level(&self) -> Option<(u32, u32)> {
        let standing = || self.runs.iter().filter(|run| run.failure.is_none()).map(Run::epochs);
        let level = standing().filter(|&e| e < self.epochs).min()?;
        Some((level, standing().filter(|&e| e > level).min().unwrap_or(self.epochs).min(self.epochs)))
    }

    /// Trains the runs `active` as one stack, until one of them fails.
    fn advance(&mut self, active: &[usize], epochs: Range<u32>) -> Result<()> {
        let networks: Vec<&Network> = active.iter().map(|&i| &*self.runs[i].member.network).collect();
        let stack = Stack::of(&networks)?;
        let adam = Adam::stack(&active.iter().map(|&i| &self.runs[i].adam).collect::<Vec<_>>())?;
        for (s, &i) in (0i64..).zip(active) {
            self.runs[i].member.network.seat(stack.model(s)?);
            self.runs[i].adam = adam.model(s)?;
        }
        let mut saves = Saves::new(active.len());
        let (mut bench, mut times) = (Bench::default(), Times::start());
        for epoch in epochs.clone() {
            let start = Instant::now();
            let runs: Vec<&Run<'_>> = active.iter().map(|&i| &self.runs[i]).collect();
            let lesson = Lesson { stack: &stack, adam: &adam, runs: &runs, steps: &self.steps, batch: self.batch };
            let mut entries = lesson.epoch(&self.train, epoch, &mut bench, &mut times)?;
            if let Some(feed) = &self.valid {
                let losses = times.validate.of(|| lesson.validate(feed))?;
                for (entry, valid) in entries.iter_mut().zip(losses) {
                    let _ = entry.as_mut().map(|entry| entry.valid = Some(valid));
                }
            }
            let seconds = start.elapsed().as_secs_f64() / active.len() as f64;
            for (&i, entry) in active.iter().zip(entries) {
                self.take(i, entry.map(|entry| Epoch { seconds, ..entry }));
            }
            let left = active.iter().any(|&i| self.runs[i].failure.is_some());
            if left || epoch + 1 == epochs.end || saves.due() {
                let begin = Instant::now();
                times.save.of(|| self.save(active))?;
                saves.done(begin.elapsed());
            }
            if left {
                break;
            }
        }
        if let Some(&i) = active.first() {
            self.runs[i].member.observer.on(Event::Detail(&times.to_string()));
        }
        Ok(())
    }

    fn save(&mut self, active: &[usize]) -> Result<()> {
        for &i in active {
            if self.runs[i].failure.is_none() {
                self.runs[i].save(&self.data)?;
            }
        }
        Ok(())
    }

    /// Notes and reports how a run's epoch ended.
    fn take(&mut self, i: usize, entry: Result<Epoch>) {
        let run = &mut self.runs[i];
        match entry {
            Ok(entry) => {
                run.member.observer.on(Event::Note(&describe(&entry, &run.spec)));
                run.history.epochs.push(entry);
            }
            Err(error) => run.failure = Some(error),
        }
    }
}

/// When the states of a fleet are saved: for a single run after each epoch, for several so that saving takes a tenth of the time.
struct Saves {
    alone: bool,
    last: Option<(Instant, Duration)>,
}

impl Saves {
    /// If a save took no longer than this, the next epoch is saved too.
    const SHORT: Duration = Duration::from_secs(1);

    fn new(models: usize) -> Self {
        Self { alone: models == 1, last: None }
    }

    fn due(&self) -> bool {
        match self.last {
            Some((end, took)) if !self.alone && took > Self::SHORT => end.elapsed() >= took * 9,
            _ => true,
        }
    }

    fn done(&mut self, took: Duration) {
        self.last = Some((Instant::now(), took));
    }
}
