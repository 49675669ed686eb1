//! Spectra of any number of images, in passes that the planner sizes.

use super::passes::{in_passes, measured};
use super::solver::ensure_solved;
use super::{Contest, Solved, Solver, Spectrum, extreme};
use crate::device;
use crate::error::{Error, Result};
use crate::ffi;
use crate::jacobian::{BatchSize, Footprint, Mode, Pass, Planner, Ways};
use crate::metric::{Metric, MetricKind, StemCache, ensure_independent};
use crate::model::Vae;
use tch::{Device, Kind, Tensor};

/// Finds the spectra of images for one metric of one model, and keeps between calls what it learned about speed and memory.
#[derive(Debug)]
pub struct Engine {
    device: Device,
    kind: Kind,
    planner: Planner,
    checked: bool,
    dense: Dense,
    /// Those of the last images.
    log_lengths: Option<Tensor>,
}

/// The settings of a pass.
#[derive(Debug)]
struct Dense {
    metric: MetricKind,
    top: usize,
    stem: StemCache,
    /// The contest for the fastest eigensolver; `None` while passes are planned, and on a CPU.
    contest: Option<Contest>,
}

/// Eigenproblems of smaller passes do not fill a GPU, so their times do not hold for larger ones.
const WORTH_A_CONTEST: i64 = 256;

/// On a CPU the overhead is small from this many samples in a pass on; larger passes only take memory.
const CPU_PASS: usize = 256;

impl Engine {
    /// An engine for `metric` with `top` directions; passes run on `device` in precision `kind`.
    pub fn new(metric: MetricKind, top: usize, device: Device, kind: Kind, batch: BatchSize) -> Result<Self> {
        ffi::exact_math()?;
        let budget = device::memory_budget(device)?;
        let planner = Planner::new(batch, budget, metric.reach());
        let planner = if device == Device::Cpu { planner.folding() } else { planner };
        let planner = if device.is_cuda() { planner } else { planner.at_most(CPU_PASS) };
        let dense = Dense { metric, top, stem: StemCache::default(), contest: None };
        Ok(Self { device, kind, planner, checked: false, dense, log_lengths: None })
    }

    /// The spectra of `images` [N, C, H, W], which may lie on the host: eigenvalues [N, min(R, D)] f64 and directions [N, K, D] f32, both
    /// on the engine's device. If the process is asked to stop, only the finished passes are returned, fewer than N.
    ///
    /// # Errors
    /// If samples interact in the model, if it is not finite, or if not even one sample fits the memory; [`Error::Interrupted`] if no pass
    /// had finished.
    pub fn spectra(&mut self, vae: &dyn Vae, images: &Tensor) -> Result<Spectrum> {
        let total = images.size().first().copied().unwrap_or(0) as usize;
        if total == 0 {
            return Err(Error::request("images", "at least one", "none"));
        }
        let images = images.f_to_device(self.device)?.f_to_kind(self.kind)?;
        if !self.checked {
            ensure_independent(vae, &images, self.dense.metric.reach())?;
            self.checked = true;
            self.meet(vae, &images)?;
        }
        let Self { planner, dense, .. } = self;
        let solved = in_passes(planner, &images, |planner, pass, x, _| dense.pass(planner, pass, vae, x))?;
        let (mut values, mut directions, mut outcomes) = (Vec::new(), Vec::new(), Vec::new());
        let mut lengths = Vec::new();
        for Solved { spectrum, outcome, log_lengths } in solved {
            outcomes.extend(outcome);
            lengths.extend(log_lengths);
            values.push(spectrum.values);
            if let Some(v) = spectrum.directions {
                directions.push(v.f_to_kind(Kind::Float)?);
            }
        }
        // All passes have one, or none has: the kernels' solvers and torch.linalg are never mixed.
        if !outcomes.is_empty() {
            // Once for all passes, so that the device need not wait for the host between them.
            ensure_solved(&Tensor::f_cat(&outcomes, 0)?)?;
        }
        self.log_lengths = if lengths.is_empty() { None } else { Some(Tensor::f_cat(&lengths, 0)?) };
        let directions = if self.dense.top == 0 { None } else { Some(Tensor::f_cat(&directions, 0)?) };
        self.rescue(vae, &images, Spectrum { values: Tensor::f_cat(&values, 0)?, directions })
    }

    /// Samples whose eigenvalues are NaN because a variance does not fit single precision are computed again, one by one, with their scales
    /// in double. If the process is asked to stop, only the samples before the one that comes next are returned.
    fn rescue(&self, vae: &dyn Vae, images: &Tensor, spectrum: Spectrum) -> Result<Spectrum> {
        for row in extreme::rows(vae, images, &spectrum.values, self.dense.metric)? {
            let own = match self.in_double(vae, &images.f_narrow(0, row, 1)?) {
                Err(Error::Interrupted) if row > 0 => return spectrum.narrow(0, row),
                own => own?,
            };
            spectrum.values.f_narrow(0, row, 1)?.f_copy_(&own.values)?;
            if let (Some(all), Some(own)) = (&spectrum.directions, own.directions) {
                all.f_narrow(0, row, 1)?.f_copy_(&own)?;
            }
        }
        Ok(spectrum)
    }

    /// The spectrum of one sample, with its scales in double.
    fn in_double(&self, vae: &dyn Vae, x: &Tensor) -> Result<Spectrum> {
        crate::event::ensure_wanted()?;
        let ways = Ways { rows: Mode::Looped, columns: Mode::Looped };
        let metric = Metric::scaled_in_double(vae, x, self.dense.metric, ways)?;
        Spectrum::by(&metric, self.dense.top, Solver::Torch)
    }

    /// [`Metric::log_lengths`] of the last images, [N, D] f64, if the metric is the decoder's.
    pub fn log_lengths(&self) -> Option<&Tensor> {
        self.log_lengths.as_ref()
    }

    /// What `work` computes from the factor [B, R, D] of each pass over `images` [N, C, H, W], in the engine's passes. The planner learns
    /// nothing from them.
    ///
    /// # Errors
    /// As [`Engine::spectra`], and the errors of `work`.
    pub fn factors<T>(
        &mut self,
        vae: &dyn Vae,
        images: &Tensor,
        mut work: impl FnMut(Metric) -> Result<T>,
    ) -> Result<Vec<T>> {
        let Self { planner, dense, .. } = self;
        in_passes(planner, images, |_, pass, x, _| work(Metric::at(vae, x, dense.metric, pass.ways)?))
    }

    /// The planner, with the pass that it chose.
    pub fn planner(&self) -> &Planner {
        &self.planner
    }

    /// The contest that decided which eigensolver is used, if there was one.
    pub fn contest(&self) -> Option<&Contest> {
        self.dense.contest.as_ref()
    }

    /// The eigensolver of later passes, for factors of `rows` rows.
    pub fn solver(&self, rows: i64) -> Solver {
        self.dense.contest.as_ref().map_or_else(|| Solver::choose(self.device, rows), Contest::winner)
    }

    /// Estimates the memory of a pass, and factors the model's stem, so that no timed pass includes that.
    fn meet(&mut self, vae: &dyn Vae, images: &Tensor) -> Result<()> {
        let footprint = Metric::footprint(vae, images, self.dense.metric, &mut self.dense.stem)?;
        let directions = (self.dense.top as i64 * images.numel() as i64 / images.size()[0].max(1) * 24) as f64;
        let footprint = Footprint { once: footprint.once + directions, ..footprint };
        self.planner.expect(&footprint);
        self.planner.ensure_affordable("spectrum full", "or --spectrum top")
    }
}

impl Dense {
    /// One pass; its time and memory are measured if the planner learns from it.
    fn pass(&mut self, planner: &mut Planner, pass: Pass, vae: &dyn Vae, x: &Tensor) -> Result<Solved> {
        let (kind, top) = (self.metric, self.top);
        let learns = planner.learns_from(pass.samples);
        // On a CPU eigenvalues alone need no more than Gram matrices.
        if top == 0 && x.device() == Device::Cpu && kind != MetricKind::Decoder {
            let mut work = || {
                let (gram, count) = Metric::gram_behind(vae, x, kind, pass.ways, &mut self.stem)?;
                Solved::of_gram(&gram, count)
            };
            return if learns { measured(planner, pass, x, work) } else { work() };
        }
        if !learns {
            let metric = Metric::behind(vae, x, kind, pass.ways, &mut self.stem)?;
            let solved = self.solve(&metric)?;
            return solved.with_lengths(&metric, kind);
        }
        let solver = self.contest.as_ref().map(Contest::winner);
        let stem = &mut self.stem;
        measured(planner, pass, x, || {
            let metric = Metric::behind(vae, x, kind, pass.ways, stem)?;
            Solved::by(&metric, top, solver.unwrap_or_else(|| Solver::of(&metric)))?.with_lengths(&metric, kind)
        })
    }

    /// The spectra of a pass from which the planner no longer learns; every solver tries the first large one.
    fn solve(&mut self, metric: &Metric) -> Result<Solved> {
        if let Some(contest) = &self.contest {
            return Solved::by(metric, self.top, contest.winner());
        }
        let (device, rows) = (metric.device(), metric.dimensions().0);
        let solvers = Solver::candidates(device, rows, metric.is_jacobian());
        if solvers.len() < 2 || metric.samples() < WORTH_A_CONTEST {
            return Solved::by(metric, self.top, Solver::of(metric));
        }
        let (contest, solved) = Contest::of(metric, self.top, &solvers)?;
        self.contest = Some(contest);
        Ok(solved)
    }
}
