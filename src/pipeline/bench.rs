//! `bench`: throughput of scoring and attacking on this machine, images in memory to results in memory.

use crate::attack::{self, AttackSpec, Budget, Crew, Norm, PgdSpec, Victim};
use crate::config::RunConfig;
use crate::data::{self, ImageShape, Split};
use crate::device::{self, DeviceChoice};
use crate::error::{Error, Result};
use crate::event::{Event, Observer};
use crate::ffi;
use crate::ffi::kernels::{self, Algorithm};
use crate::jacobian::{BatchSize, Reach};
use crate::linalg;
use crate::metric::{MetricKind, ensure_independent};
use crate::model::{self, ConvSpec, MlpSpec, ModelSpec, Network, Vae};
use crate::spectrum::{Engine, Solver};
use serde::Serialize;
use std::cmp::Ordering;
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor};

/// A part of the engine that is timed separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Work {
    /// Images to eigenvalues
    Spectrum,
    /// Images to factors, in the passes that the spectra took
    Jacobian,
    /// Gram matrices to eigenvalues, by each solver that runs on the device
    Eigen,
    /// Images to attacked images, by PGD in L2, and all measures of these
    Pgd,
    /// The same without the measures: the search alone
    Search,
}

/// The request of `bench`.
#[derive(Clone, Debug)]
pub struct BenchRequest {
    /// A model to time in place of the built-in ones.
    pub model: Option<PathBuf>,
    /// A configuration whose model (with initial weights) is timed besides the built-in ones.
    pub config: Option<RunConfig>,
    /// Images; if absent, generated digits.
    pub data: Option<String>,
    /// The metrics to time.
    pub metrics: Vec<MetricKind>,
    /// What to time; if empty, spectra, and PGD on the built-in models.
    pub works: Vec<Work>,
    /// Steps of the timed attack.
    pub steps: usize,
    /// The number of images in a repetition.
    pub images: usize,
    /// Repetitions counted, after warming up.
    pub repeat: usize,
    /// Where to compute.
    pub device: DeviceChoice,
    /// Samples in a pass.
    pub batch: BatchSize,
    /// Seed of initial weights.
    pub seed: u64,
}

/// One timed piece of work.
#[derive(Clone, Debug, Serialize)]
pub struct Timing {
    /// The model.
    pub model: String,
    /// `spectrum of <metric>`, `jacobian of <metric>`, `eigenvalues of <metric> by <solver>`, `pgd, <steps> steps` or
    /// `search of pgd, <steps> steps`.
    pub work: String,
    /// Images (or image steps of an attack) in a repetition.
    pub images: usize,
    /// Seconds of each repetition.
    pub seconds: Vec<f64>,
    /// Images (or image steps) per second, at the median.
    pub rate: f64,
    /// Largest resident size of the process so far, and its size before this work; bytes.
    pub peak_bytes: u64,
    /// See `peak_bytes`.
    pub baseline_bytes: u64,
    /// The pass that the planner chose.
    pub pass: String,
}

/// All timings, and the machine on which they were measured.
#[derive(Clone, Debug, Serialize)]
pub struct BenchReport {
    /// Version of this program.
    pub version: &'static str,
    /// Version of libtorch.
    pub libtorch: &'static str,
    /// `cpu`, `cuda:0`.
    pub device: String,
    /// libtorch's threads on the CPU.
    pub threads: i64,
    /// The timings.
    pub timings: Vec<Timing>,
}

/// The most passes before the clock starts: enough for the planner to settle.
const WARM_UP: usize = 40;
/// Short passes run for this long before the clock starts, so that threads, allocator and caches are as in a long run.
const WARM: Duration = Duration::from_millis(300);
/// Before a solver is timed, it must agree with LAPACK within this share of lambda_1.
const AGREEMENT: f64 = 1e-9;
/// Number of matrices that are compared: more would take long on a host.
const COMPARED: i64 = 256;
/// On the host, rotations of larger matrices take seconds.
const HOST_ROTATIONS: i64 = 64;

/// Times every model with every metric, and PGD on each.
///
/// # Errors
/// A wrong request if model, data or numbers are wrong; other errors as they occur.
pub fn run(request: &BenchRequest, observer: &dyn Observer) -> Result<BenchReport> {
    let device = request.device.resolve_told(observer)?;
    let cases = cases(request, device)?;
    let jobs = |case: &Case| -> Vec<(Work, MetricKind)> {
        let mut works = request.works.clone();
        if works.is_empty() {
            works.push(Work::Spectrum);
            // A model of the user is timed only for the requested work.
            works.extend(case.built_in.then_some(Work::Pgd));
        }
        let of = |work: Work| match work {
            Work::Pgd | Work::Search => &request.metrics[..1],
            _ => &request.metrics[..],
        };
        works.iter().flat_map(|work| of(*work).iter().map(|metric| (*work, *metric))).collect()
    };
    let total = cases.iter().map(|case| jobs(case).len() as u64).sum();
    observer.on(Event::Begin { task: "timing", unit: "cases", total, done: 0 });
    let mut timings = Vec::new();
    for case in &cases {
        for (work, metric) in jobs(case) {
            observer.check()?;
            match work {
                Work::Spectrum => timings.push(spectrum(request, case, metric, device)?),
                Work::Jacobian => timings.push(jacobian(request, case, metric, device)?),
                Work::Eigen => timings.extend(eigen(request, case, metric, device)?),
                Work::Pgd | Work::Search => timings.push(pgd(request, case, device, work)?),
            }
            observer.on(Event::Advance(1));
        }
    }
    observer.on(Event::End);
    Ok(BenchReport {
        version: env!("CARGO_PKG_VERSION"),
        libtorch: ffi::LIBTORCH,
        device: device::name(device),
        threads: i64::from(tch::get_num_threads()),
        timings,
    })
}

/// A model and images that fit it.
struct Case {
    name: String,
    built_in: bool,
    vae: Box<dyn Vae>,
    images: Tensor,
}

fn cases(request: &BenchRequest, device: Device) -> Result<Vec<Case>> {
    let images = |shape: Option<ImageShape>| -> Result<Tensor> {
        let side = shape.map_or(28, |s| s.height);
        let generated = format!("strokes:size={side}");
        let spec = request.data.as_deref().unwrap_or(&generated);
        let source = data::open(spec, Split::Test, Some(request.images))?;
        if source.len() < request.images {
            let found = format!("{} in {spec}", source.len());
            return Err(Error::request("limit", format!("{} images to time", request.images), found));
        }
        let index: Vec<u64> = (0..request.images as u64).collect();
        let images = source.read(&index)?.images.f_to_device(device)?;
        // The generated digits have one channel; further channels are copies of it.
        let channels = shape.map_or(-1, |s| s.channels);
        if request.data.is_none() && channels > 1 { Ok(images.f_repeat([1, channels, 1, 1])?) } else { Ok(images) }
    };
    if let Some(path) = &request.model {
        let model = model::open(path, device, Kind::Float)?;
        let name = path.display().to_string();
        return Ok(vec![Case { name, built_in: false, images: images(model.image)?, vae: model.vae }]);
    }
    let mnist = Some(ImageShape { channels: 1, height: 28, width: 28 });
    let mlp = MlpSpec { image: mnist, latent: 20, ..MlpSpec::default() };
    let conv = ConvSpec { image: mnist, latent: 20, hidden: 0, ..ConvSpec::default() };
    let mut specs = vec![
        ("mlp 784-512-512-20".to_owned(), ModelSpec::Mlp(mlp)),
        ("conv 32-64, L = 20".to_owned(), ModelSpec::Conv(conv)),
    ];
    if let Some(config) = &request.config {
        let mut spec = config.model.clone();
        if spec.image().is_none() {
            spec.resolve(ImageShape { channels: 1, height: 28, width: 28 })?;
        }
        specs.push(("the configuration's".to_owned(), spec));
    }
    let build = |(name, spec): (String, ModelSpec)| -> Result<Case> {
        let vae = Box::new(Network::new(&spec, request.seed, device, Kind::Float)?);
        Ok(Case { name, built_in: true, vae, images: images(spec.image())? })
    };
    specs.into_iter().map(build).collect()
}

/// An engine whose planner has chosen its passes.
fn settled(request: &BenchRequest, case: &Case, metric: MetricKind, device: Device) -> Result<Engine> {
    let mut engine = Engine::new(metric, 0, device, Kind::Float, request.batch)?;
    let start = Instant::now();
    for _ in 0..WARM_UP {
        engine.spectra(case.vae.as_ref(), &case.images)?;
        if !engine.planner().learns_from(request.images) && start.elapsed() >= WARM {
            break;
        }
    }
    Ok(engine)
}

fn spectrum(request: &BenchRequest, case: &Case, metric: MetricKind, device: Device) -> Result<Timing> {
    let baseline_bytes = resident("VmRSS");
    let mut engine = settled(request, case, metric, device)?;
    let seconds = clock(request.repeat, device, || engine.spectra(case.vae.as_ref(), &case.images).map(drop))?;
    let work = format!("spectrum of {metric}");
    Ok(timing(case, work, request.images, seconds, baseline_bytes, engine.planner().to_string()))
}

fn jacobian(request: &BenchRequest, case: &Case, metric: MetricKind, device: Device) -> Result<Timing> {
    let baseline_bytes = resident("VmRSS");
    let mut engine = settled(request, case, metric, device)?;
    let work = || engine.factors(case.vae.as_ref(), &case.images, |metric| metric.jacobian().map(drop)).map(drop);
    let seconds = clock(request.repeat, device, work)?;
    let work = format!("jacobian of {metric}");
    Ok(timing(case, work, request.images, seconds, baseline_bytes, engine.planner().to_string()))
}

/// Every solver on the Gram matrices [N, R, R] of all images, in double; each agrees with LAPACK before it is timed.
fn eigen(request: &BenchRequest, case: &Case, metric: MetricKind, device: Device) -> Result<Vec<Timing>> {
    let baseline_bytes = resident("VmRSS");
    let mut engine = settled(request, case, metric, device)?;
    let grams = engine.factors(case.vae.as_ref(), &case.images, |metric| metric.gram())?;
    let grams = Tensor::f_cat(&grams, 0)?;
    let order = grams.size()[2];
    let compared = grams.size()[0].min(COMPARED);
    let expected = linalg::spectra(&grams.f_narrow(0, 0, compared)?.f_to_device(Device::Cpu)?, order)?;
    let chosen = engine.solver(order);
    let mut timings = Vec::new();
    for (name, way) in
        [("rotations", Algorithm::Jacobi), ("reduction", Algorithm::Tridiagonal), ("cuSOLVER", Algorithm::Library)]
    {
        let possible = match way {
            Algorithm::Library => device.is_cuda() && kernels::has_library(),
            Algorithm::Jacobi => device.is_cuda() || order <= HOST_ROTATIONS,
            Algorithm::Tridiagonal => true,
        };
        if !possible || !kernels::run_on(device) {
            continue;
        }
        let values = kernels::eigh(&grams, 0, way)?.values.f_narrow(0, 0, compared)?.f_to_device(Device::Cpu)?;
        let off = values.f_sub(&expected)?.f_abs()?.f_max()?.f_double_value(&[])?
            / expected.f_abs()?.f_max()?.f_double_value(&[])?;
        // `not <=` makes NaN fail too.
        if !matches!(off.partial_cmp(&AGREEMENT), Some(Ordering::Less | Ordering::Equal)) {
            let message = format!("{name} is off LAPACK's eigenvalues by {off:.1e} of the largest");
            return Err(Error::numeric("eigensolver", message));
        }
        let seconds = clock(request.repeat, device, || kernels::eigh(&grams, 0, way).map(drop))?;
        let taken = matches!(chosen, Solver::Fused(w) | Solver::Separate(w) if w == way);
        let by = engine.contest().map_or_else(String::new, |contest| format!(" (Gram and eigenvalues, {contest})"));
        let pass = format!("order {order}{}", if taken { format!(", the engine's choice{by}") } else { String::new() });
        let work = format!("eigenvalues of {metric} by {name}");
        timings.push(timing(case, work, request.images, seconds, baseline_bytes, pass));
    }
    Ok(timings)
}

/// PGD in L2 on all images at once; a step of one image is the unit.
fn pgd(request: &BenchRequest, case: &Case, device: Device, work: Work) -> Result<Timing> {
    let baseline_bytes = resident("VmRSS");
    // As `attack` asks.
    ensure_independent(case.vae.as_ref(), &case.images, Reach::EncoderAndDecoder)?;
    let index: Vec<u64> = (0..request.images as u64).collect();
    let victim = Victim::new(case.vae.as_ref(), &case.images, &index, request.seed, None)?;
    let spec = AttackSpec::Pgd(PgdSpec { steps: request.steps, ..PgdSpec::default() });
    let budget = Budget::new(Norm::L2, 1.0, Some((0.0, 1.0)))?;
    let on = |victim: &Victim| -> Result<()> {
        if work == Work::Pgd {
            return attack::run(&spec, victim, &budget).map(drop);
        }
        for (_, attack) in spec.parts() {
            tch::no_grad(|| attack.propose(victim, &budget, 0))?;
        }
        Ok(())
    };
    // The same settings as in `attack`.
    let crew = Crew::of(case.vae.as_ref(), device);
    let part = |range: Range<usize>| -> Result<_> {
        Ok((case.images.f_narrow(0, range.start as i64, range.len() as i64)?, range))
    };
    let attack = || -> Result<()> {
        let divided = crew.divide(request.images, part, |vae, (x, range)| {
            on(&Victim::new(vae, &x, &index[range], request.seed, None)?)
        })?;
        divided.map_or_else(|| on(&victim), |_| Ok(()))
    };
    attack()?;
    let seconds = clock(request.repeat, device, attack)?;
    let of = if work == Work::Pgd { "" } else { "search of " };
    let (work, pass) = (format!("{of}pgd, {} steps", request.steps), format!("{} samples", request.images));
    Ok(timing(case, work, request.images * request.steps, seconds, baseline_bytes, pass))
}

fn timing(case: &Case, work: String, images: usize, seconds: Vec<f64>, baseline_bytes: u64, pass: String) -> Timing {
    let rate = images as f64 / median(&seconds);
    Timing {
        model: case.name.clone(),
        work,
        images,
        seconds,
        rate,
        peak_bytes: resident("VmHWM"),
        baseline_bytes,
        pass,
    }
}

/// Seconds of each of `repeat` runs; waits for the device before and after.
fn clock(repeat: usize, device: Device, mut work: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
    (0..repeat)
        .map(|_| {
            device::synchronize(device)?;
            let start = Instant::now();
            work()?;
            device::synchronize(device)?;
            Ok(start.elapsed().as_secs_f64())
        })
        .collect()
}

fn median(seconds: &[f64]) -> f64 {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A size of this process in bytes, by its name in /proc/self/status; 0 if the system does not say.
fn resident(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with(name));
    line.and_then(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

impl std::fmt::Display for BenchReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "pullback {}, libtorch {}, {}, {} threads",
            self.version, self.libtorch, self.device, self.threads
        )?;
        writeln!(f, "{:22}{:32}{:>12}{:>14}  pass", "model", "work", "median ms", "images/s")?;
        for t in &self.timings {
            let ms = median(&t.seconds) * 1e3;
            writeln!(f, "{:22}{:32}{ms:>12.2}{:>14.0}  {}", t.model, t.work, t.rate, t.pass)?;
        }
        Ok(())
    }
}
