//! Leading eigenpairs of any number of images, in passes that the planner sizes.

use super::extreme;
use super::leading::ensure_pairs;
use super::{Leading, Quadrature, SpectrumSpec};
use crate::device;
use crate::error::{Error, Result};
use crate::ffi::memory::peak_bytes;
use crate::jacobian::{BatchSize, Footprint, Pass, Planner, Ways};
use crate::metric::{MatrixFree, MetricKind, ensure_independent};
use crate::model::Vae;
use std::time::Instant;
use tch::{Device, Kind, Tensor};

/// Takes images to the leading eigenpairs of one metric of one model, and remembers between calls what it learned of
/// speed and memory.
#[derive(Debug)]
pub struct LeadingEngine {
    metric: MetricKind,
    spec: SpectrumSpec,
    pairs: usize,
    seed: u64,
    device: Device,
    kind: Kind,
    planner: Planner,
    /// One sample has been weighed.
    met: bool,
}

/// On a CPU a pass holds the Krylov spaces of this many samples at most: larger ones only take memory.
const CPU_PASS: usize = 64;

impl LeadingEngine {
    /// An engine for the `pairs` leading pairs of `metric`, of which there are `bound`; passes run on `device` in
    /// precision `kind`.
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
        ensure_pairs(pairs, bound, &spec)?;
        let budget = spec.budget(device::memory_budget(device)?);
        let planner = Planner::new(batch, budget, metric.reach());
        let planner = if device.is_cuda() { planner } else { planner.at_most(CPU_PASS) };
        Ok(Self { metric, spec, pairs, seed, device, kind, planner, met: false })
    }

    /// Eigenpairs and estimates of `images` [N, C, H, W], which may lie on the host; `index` holds their positions in the
    /// data set. Results lie on the engine's device. Once the process is asked to stop, those of the passes that had ended alone.
    ///
    /// # Errors
    /// Where samples interact in the model, where it is not finite, or where not even one sample fits the memory;
    /// [`Error::Interrupted`] where not even one pass had ended.
    pub fn leading(&mut self, vae: &dyn Vae, images: &Tensor, index: &[u64]) -> Result<Leading> {
        let total = images.size().first().copied().unwrap_or(0) as usize;
        if total == 0 || index.len() != total {
            return Err(Error::request("images", format!("{} of them, at least one", index.len()), total.to_string()));
        }
        let images = images.f_to_device(self.device)?.f_to_kind(self.kind)?;
        if !self.met {
            ensure_independent(vae, &images, self.metric.reach())?;
            self.meet(vae, &images)?;
            self.met = true;
        }
        let mut parts = Vec::new();
        let mut first = 0;
        while first < total {
            let pass = self.planner.next(total - first);
            let x = images.f_narrow(0, first as i64, pass.samples as i64)?;
            match self.pass(vae, &x, &index[first..first + pass.samples], pass) {
                Ok(leading) => {
                    parts.push(leading);
                    first += pass.samples;
                }
                Err(Error::Interrupted) if first > 0 => break,
                Err(error) => self.planner.survive(pass, error)?,
            }
        }
        join(parts)
    }

    /// The planner, for what it has settled on.
    pub fn planner(&self) -> &Planner {
        &self.planner
    }

    /// Weighs products with one sample's Jacobian, and counts what its Krylov space takes: these are large, and on a CPU what does
    /// not fit is not refused but killed.
    fn meet(&mut self, vae: &dyn Vae, images: &Tensor) -> Result<()> {
        let (footprint, shape) = MatrixFree::footprint(vae, images, self.metric)?;
        let space = Leading::bytes(shape, self.kind, &self.spec);
        let block = self.spec.probes.max(self.pairs);
        let (row, column) = ((footprint.row.0, block), (footprint.column.0, block));
        self.planner.expect(&Footprint { once: footprint.once + space as f64, row, column });
        self.planner.least_first();
        self.planner.ensure_affordable("spectrum top", "fewer steps or probes?")
    }

    /// One pass; timed and weighed while the planner is still learning.
    fn pass(&mut self, vae: &dyn Vae, x: &Tensor, index: &[u64], pass: Pass) -> Result<Leading> {
        let work = || self.solve(vae, x, index, pass.ways);
        if !self.planner.is_exploring() {
            return work();
        }
        device::synchronize(self.device)?;
        let start = Instant::now();
        let (leading, peak) = peak_bytes(work)?;
        device::synchronize(self.device)?;
        self.planner.record(pass, start.elapsed(), peak);
        Ok(leading)
    }

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
        // One by one: those that are lost with their scales in double.
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

/// The results of passes in their order.
fn join(parts: Vec<Leading>) -> Result<Leading> {
    let cat = |field: fn(&Leading) -> &Tensor| -> Result<Tensor> {
        Ok(Tensor::f_cat(&parts.iter().map(field).collect::<Vec<_>>(), 0)?)
    };
    let (values, residuals) = (cat(|p| &p.values)?, cat(|p| &p.residuals)?);
    let directions = cat(|p| &p.directions)?;
    let quadratures: Vec<Quadrature> = parts.into_iter().map(|p| p.quadrature).collect();
    Ok(Leading { values, residuals, directions, quadrature: Quadrature::cat(&quadratures)? })
}
