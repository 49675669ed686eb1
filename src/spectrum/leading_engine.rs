//! Leading eigenpairs of any number of images, in passes that the planner sizes.

use super::engine::is_out_of_memory;
use super::leading::ensure_pairs;
use super::{Leading, Quadrature, SpectrumSpec};
use crate::device;
use crate::error::{Error, Result};
use crate::ffi::memory::peak_bytes;
use crate::jacobian::{BatchSize, CHUNK, Mode, Pass, Planner, Ways};
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
    batch: BatchSize,
    budget: u64,
    /// `None` until one sample has been weighed.
    planner: Option<Planner>,
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
        Ok(Self { metric, spec, pairs, seed, device, kind, batch, budget, planner: None })
    }

    /// Eigenpairs and estimates of `images` [N, C, H, W], which may lie on the host; `index` holds their positions in the
    /// data set. Results lie on the engine's device.
    ///
    /// # Errors
    /// Where samples interact in the model, where it is not finite, or where not even one sample fits the memory.
    pub fn leading(&mut self, vae: &dyn Vae, images: &Tensor, index: &[u64]) -> Result<Leading> {
        let total = images.size().first().copied().unwrap_or(0) as usize;
        if total == 0 || index.len() != total {
            return Err(Error::request("images", format!("{} of them, at least one", index.len()), total.to_string()));
        }
        let images = images.f_to_device(self.device)?.f_to_kind(self.kind)?;
        let mut parts = Vec::new();
        let mut first = 0;
        if self.planner.is_none() {
            ensure_independent(vae, &images, self.metric.reach())?;
            parts.push(self.weigh(vae, &images, index)?);
            first = 1;
        }
        let Some(mut planner) = self.planner.take() else {
            return Err(Error::Native { routine: "leading", message: "no pass was weighed".to_owned() });
        };
        while first < total {
            let pass = planner.next(total - first);
            let x = images.f_narrow(0, first as i64, pass.samples as i64)?;
            match self.pass(vae, &x, &index[first..first + pass.samples], pass, &mut planner) {
                Ok(leading) => {
                    parts.push(leading);
                    first += pass.samples;
                }
                Err(error) if is_out_of_memory(&error) && planner.out_of_memory(pass) => {}
                Err(error) => return Err(error),
            }
        }
        self.planner = Some(planner);
        join(parts)
    }

    /// What the planner has settled on.
    pub fn plan(&self) -> String {
        self.planner.as_ref().map_or_else(|| "nothing measured yet".to_owned(), ToString::to_string)
    }

    /// The first sample alone. Its memory bounds the passes from the start: Krylov spaces are large, and on a CPU what
    /// does not fit is not refused but killed. Where a whole block in one backward pass is too much, a loop may do.
    fn weigh(&mut self, vae: &dyn Vae, images: &Tensor, index: &[u64]) -> Result<Leading> {
        let x = images.f_narrow(0, 0, 1)?;
        let mut planner = Planner::new(self.batch, self.budget, self.metric.reach());
        let mut taken = 0;
        for mode in [Mode::Vmapped(usize::MAX), Mode::Looped] {
            let ways = Ways { rows: mode, columns: mode };
            match peak_bytes(|| self.solve(vae, &x, &index[..1], ways)) {
                Ok((leading, peak)) if peak <= self.budget => {
                    let fits = (self.budget / peak.max(1)) as usize;
                    let most = if self.device.is_cuda() { fits } else { fits.min(CPU_PASS) };
                    self.planner = Some(planner.at_most(most));
                    return Ok(leading);
                }
                Ok((_, peak)) => taken = peak,
                Err(error) if is_out_of_memory(&error) => {}
                Err(error) => return Err(error),
            }
            for ways in vmapped() {
                planner.out_of_memory(Pass { samples: 1, ways });
            }
        }
        Err(Error::request(
            "spectrum top",
            format!("a sample that fits the memory of a pass, {} MiB (fewer steps or probes?)", self.budget >> 20),
            if taken > 0 { format!("{} MiB", taken >> 20) } else { "none left".to_owned() },
        ))
    }

    /// One pass; timed and weighed while the planner is still learning.
    fn pass(&self, vae: &dyn Vae, x: &Tensor, index: &[u64], pass: Pass, planner: &mut Planner) -> Result<Leading> {
        let work = || self.solve(vae, x, index, pass.ways);
        if !planner.is_exploring() {
            return work();
        }
        device::synchronize(self.device);
        let start = Instant::now();
        let (leading, peak) = peak_bytes(work)?;
        device::synchronize(self.device);
        planner.record(pass, start.elapsed(), peak);
        Ok(leading)
    }

    fn solve(&self, vae: &dyn Vae, x: &Tensor, index: &[u64], ways: Ways) -> Result<Leading> {
        let op = MatrixFree::at(vae, x, self.metric, ways)?;
        let mut leading = Leading::of(&op, &self.spec, self.pairs, self.seed, index)?;
        leading.directions = leading.directions.f_to_kind(Kind::Float)?;
        Ok(leading)
    }
}

/// The ways in which some product takes several vectors at once, as the planner has them.
fn vmapped() -> impl Iterator<Item = Ways> {
    let modes = [Mode::Vmapped(usize::MAX), Mode::Vmapped(CHUNK), Mode::Looped];
    let all = modes.into_iter().flat_map(move |rows| modes.map(|columns| Ways { rows, columns }));
    all.filter(|ways| ways.rows != Mode::Looped || ways.columns != Mode::Looped)
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
