//! Batches for training: small data sets are held on the device, large ones are read as they are needed.

use crate::data::Source;
use crate::error::{Error, Result};
use crate::seed::{self, Stage};
use rand::seq::SliceRandom;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// Largest data set, in bytes of the training's kind, that is held on the device.
const HELD_BYTES: u64 = 2 << 30;
/// Samples read in one go while the data set is loaded.
const PIECE: usize = 4096;
/// Rows of noise drawn in one go.
const WINDOW: usize = 16384;

/// A data set as training reads it.
pub(crate) struct Feed {
    source: Arc<dyn Source>,
    /// [N, C, H, W] on the device, where the data set is small enough.
    held: Option<Tensor>,
    device: Device,
    kind: Kind,
}

impl Feed {
    pub(crate) fn new(source: Arc<dyn Source>, device: Device, kind: Kind) -> Result<Self> {
        let (n, shape) = (source.len(), source.shape());
        if n == 0 || n as u64 >= u64::from(u32::MAX) {
            return Err(Error::request(
                source.name(),
                "1 to 2^32 - 2 samples",
                n.to_string(),
            ));
        }
        let bytes = n as u64 * shape.dim() as u64 * kind.elt_size_in_bytes() as u64;
        let held = if bytes <= HELD_BYTES {
            let all = Tensor::f_empty(
                [n as i64, shape.channels, shape.height, shape.width],
                (kind, device),
            )?;
            for start in (0..n).step_by(PIECE) {
                let index: Vec<u64> = (start..n.min(start + PIECE)).map(|i| i as u64).collect();
                let images = source.read(&index)?.images;
                all.f_narrow(0, start as i64, index.len() as i64)?
                    .f_copy_(&images)?;
            }
            Some(all)
        } else {
            None
        };
        Ok(Self {
            source,
            held,
            device,
            kind,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.source.len()
    }

    pub(crate) fn name(&self) -> &str {
        self.source.name()
    }

    /// The images at `index`, [B, C, H, W] on the device.
    pub(crate) fn images(&self, index: &[u64]) -> Result<Tensor> {
        match &self.held {
            Some(all) => {
                let rows: Vec<i64> = index.iter().map(|&i| i as i64).collect();
                Ok(all.f_index_select(0, &Tensor::f_from_slice(&rows)?.f_to_device(self.device)?)?)
            }
            None => Ok(self
                .source
                .read(index)?
                .images
                .f_to_device(self.device)?
                .f_to_kind(self.kind)?),
        }
    }
}

/// The order of the training samples in an epoch.
pub(crate) fn order(seed: u64, epoch: u32, n: usize) -> Vec<u64> {
    let mut order: Vec<u64> = (0..n as u64).collect();
    order.shuffle(&mut seed::generator(
        seed,
        Stage::Shuffle,
        u64::from(epoch),
        0,
    ));
    order
}

/// Cuts an epoch's order into steps. No sample is dropped; a last batch of one sample joins the one before where
/// `least` is 2, for batch statistics of one sample are none.
pub(crate) fn steps(n: usize, batch: usize, least: usize) -> Vec<std::ops::Range<usize>> {
    let mut steps: Vec<_> = (0..n)
        .step_by(batch)
        .map(|start| start..n.min(start + batch))
        .collect();
    if steps.len() > 1 && steps.last().is_some_and(|last| last.len() < least) {
        steps.pop();
        if let Some(last) = steps.last_mut() {
            last.end = n;
        }
    }
    steps
}

/// The noise of an epoch's samples in their order, drawn a window at a time so that a device gets it in few pieces.
pub(crate) struct Noise<'a> {
    pub(crate) seed: u64,
    pub(crate) stage: Stage,
    /// The upper half of the key; the lower is the sample.
    pub(crate) epoch: u32,
    pub(crate) order: &'a [u64],
    pub(crate) width: usize,
    pub(crate) device: Device,
    pub(crate) kind: Kind,
    /// The rows at hand and where in `order` they begin.
    window: Option<(usize, Tensor)>,
}

impl<'a> Noise<'a> {
    pub(crate) fn new(
        seed: u64,
        stage: Stage,
        epoch: u32,
        order: &'a [u64],
        width: usize,
        device: Device,
        kind: Kind,
    ) -> Self {
        Self {
            seed,
            stage,
            epoch,
            order,
            width,
            device,
            kind,
            window: None,
        }
    }

    /// Noise of the samples at the places `range` of the order, [range, width].
    pub(crate) fn rows(&mut self, range: std::ops::Range<usize>) -> Result<Tensor> {
        if let Some((start, rows)) = &self.window {
            let end = start + rows.size().first().copied().unwrap_or(0) as usize;
            if *start <= range.start && range.end <= end {
                return Ok(rows.f_narrow(0, (range.start - start) as i64, range.len() as i64)?);
            }
        }
        let end = self.order.len().min((range.start + WINDOW).max(range.end));
        let keys: Vec<u64> = self.order[range.start..end]
            .iter()
            .map(|i| u64::from(self.epoch) << 32 | i)
            .collect();
        let rows = seed::normal(self.seed, self.stage, &keys, self.width)?
            .f_to_device(self.device)?
            .f_to_kind(self.kind)?;
        let wanted = rows.f_narrow(0, 0, range.len() as i64)?;
        self.window = Some((range.start, rows));
        Ok(wanted)
    }
}
