//! Leading eigenpairs of any number of images, in passes that the planner sizes.

use super::extreme;
use super::leading::ensure_pairs;
use super::passes::{in_passes, measured};
use super::{Leading, Quadrature, SpectrumSpec};
use crate::device;
use crate::error::{Error, Result};
use crate::ffi;
use crate::jacobian::{BatchSize, Footprint, Planner, Ways};
use crate::metric::{MatrixFree, MetricKind, ensure_independent};
use crate::model::Vae;
use tch::{Device, Kind, Tensor};

/// Finds the leading eigenpairs of images for one metric of one model, and keeps between calls what it learned about speed and memory.
#[derive(Debug)]
pub struct LeadingEngine {
    device: Device,
    kind: Kind,
    planner: Planner,
    /// Whether the memory for one sample was measured.
    met: bool,
    krylov: Krylov,
}

/// The settings of a pass.
#[derive(Debug)]
struct Krylov {
    metric: MetricKind,
    spec: SpectrumSpec,
    pairs: usize,
    seed: u64,
}

/// On a CPU a pass holds the Krylov spaces of at most this many samples: larger passes only take memory.
const CPU_PASS: usize = 64;

impl LeadingEngine {
    /// An engine for the `pairs` leading pairs of `metric`, which has `bound` pairs; passes run on `device` in precision `kind`.
    ///
    /// # Errors
    /// More pairs than there are, or than the space may hold.
    pub fn new(
        metric: MetricKind,
        spec: SpectrumSpec,
        pairs: usize,
        bound: i64,
        seed: u64,
        (device, kind): (Device, Kind),
        batch: BatchSize,
    ) -> Result<Self> {
        ffi::exact_math()?;
        ensure_pairs(pairs, bound, &spec)?;
        let budget = spec.budget(device::memory_budget(device)?);
        let planner = Planner::new(batch, budget, metric.reach());
        let planner = if device.is_cuda() { planner } else { planner.at_most(CPU_PASS) };
        Ok(Self { device, kind, planner, met: false, krylov: Krylov { metric, spec, pairs, seed } })
    }

    /// Eigenpairs and estimates of `images` [N, C, H, W], which may lie on the host; `index` holds their positions in the data set. Results
    /// lie on the engine's device. If the process is asked to stop, only the finished passes are returned.
    ///
    /// # Errors
    /// If samples interact in the model, if it is not finite, or if not even one sample fits the memory; [`Error::Interrupted`] if no pass
    /// had finished.
    pub fn leading(&mut self, vae: &dyn Vae, images: &Tensor, index: &[u64]) -> Result<Leading> {
        let total = images.size().first().copied().unwrap_or(0) as usize;
        if total == 0 || index.len() != total {
            return Err(Error::request("images", format!("{} of them, at least one", index.len()), total.to_string()));
        }
        let images = images.f_to_device(self.device)?.f_to_kind(self.kind)?;
        if !self.met {
            ensure_independent(vae, &images, self.krylov.metric.reach())?;
            self.meet(vae, &images)?;
            self.met = true;
        }
        let Self { planner, krylov, .. } = self;
        join(in_passes(planner, &images, |planner, pass, x, range| {
            let work = || krylov.solve(vae, x, &index[range], pass.ways);
            if planner.is_exploring() { measured(planner, pass, x, work) } else { work() }
        })?)
    }

    /// The planner, with the pass that it chose.
    pub fn planner(&self) -> &Planner {
        &self.planner
    }

    /// Measures the memory of products with one sample's Jacobian, and adds that of its Krylov space. Both are large, and on a CPU the
    /// system kills a process that uses too much memory.
    fn meet(&mut self, vae: &dyn Vae, images: &Tensor) -> Result<()> {
        let (footprint, shape) = MatrixFree::footprint(vae, images, self.krylov.metric)?;
        let Krylov { spec, pairs, .. } = &self.krylov;
        let space = Leading::bytes(shape, self.kind, spec);
        let block = spec.probes.max(*pairs);
        let (row, column) = ((footprint.row.0, block), (footprint.column.0, block));
        self.planner.expect(&Footprint { once: footprint.once + space as f64, row, column });
        self.planner.least_first();
        self.planner.ensure_affordable("spectrum top", "fewer steps or probes?")
    }
}

impl Krylov {
    fn solve(&self, vae: &dyn Vae, x: &Tensor, index: &[u64], ways: Ways) -> Result<Leading> {
        let of = |op: &MatrixFree, index: &[u64]| -> Result<Leading> {
            let leading = Leading::of(op, &self.spec, self.pairs, self.seed, index)?;
            Ok(Leading { directions: leading.directions.f_to_kind(Kind::Float)?, ..leading })
        };
        let leading = of(&MatrixFree::at(vae, x, self.metric, ways)?, index)?;
        let lost = extreme::rows(vae, x, &leading.values, self.metric)?;
        if lost.is_empty() {
            return Ok(leading);
        }
        // Lost samples are computed one by one, with their scales in double.
        let mut parts = Vec::new();
        for (row, index) in (0i64..).zip(index.chunks(1)) {
            crate::event::ensure_wanted()?;
            let x = x.f_narrow(0, row, 1)?;
            parts.push(if lost.contains(&row) {
                let (op, factor) = MatrixFree::scaled_in_double(vae, &x, self.metric, ways)?;
                of(&op, index)?.times(&factor)?
            } else {
                of(&MatrixFree::at(vae, &x, self.metric, ways)?, index)?
            });
        }
        join(parts)
    }
}

/// Joins the results of passes in their order.
fn join(parts: Vec<Leading>) -> Result<Leading> {
    let cat = |field: fn(&Leading) -> &Tensor| -> Result<Tensor> {
        Ok(Tensor::f_cat(&parts.iter().map(field).collect::<Vec<_>>(), 0)?)
    };
    let (values, residuals) = (cat(|p| &p.values)?, cat(|p| &p.residuals)?);
    let directions = cat(|p| &p.directions)?;
    let quadratures: Vec<Quadrature> = parts.into_iter().map(|p| p.quadrature).collect();
    Ok(Leading { values, residuals, directions, quadrature: Quadrature::cat(&quadratures)? })
}
