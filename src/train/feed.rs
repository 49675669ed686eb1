//! Batches for training: small data sets are held on the device, large ones are read when needed.

use crate::data::{self, Batches, Source};
use crate::error::{Error, Result};
use crate::ffi::Lane;
use crate::ffi::lane::Upload;
use crate::seed::{self, Stage};
use rand::seq::SliceRandom;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// Samples read in one go while the data set is loaded.
const PIECE: usize = 4096;
/// Rows of noise drawn in one go.
const WINDOW: usize = 16384;

/// A data set for training.
pub(crate) struct Feed {
    source: Arc<dyn Source>,
    /// [N, C, H, W] on the device, if the data set is small enough.
    held: Option<Tensor>,
    device: Device,
    kind: Kind,
}

impl Feed {
    /// `hold` is the largest data set, in bytes of `kind`, that is held on the device.
    pub(crate) fn new(source: Arc<dyn Source>, device: Device, kind: Kind, hold: u64) -> Result<Self> {
        let (n, shape) = (source.len(), source.shape());
        if n == 0 || n as u64 >= u64::from(u32::MAX) {
            return Err(Error::request(source.name(), "1 to 2^32 - 2 samples", n.to_string()));
        }
        let bytes = n as u64 * shape.dim() as u64 * kind.elt_size_in_bytes() as u64;
        let held = if bytes <= hold {
            let all = Tensor::f_empty([n as i64, shape.channels, shape.height, shape.width], (kind, device))?;
            for start in (0..n).step_by(PIECE) {
                let index: Vec<u64> = (start..n.min(start + PIECE)).map(|i| i as u64).collect();
                let images = source.read(&index)?.images;
                all.f_narrow(0, start as i64, index.len() as i64)?.f_copy_(&images)?;
            }
            Some(all)
        } else {
            None
        };
        Ok(Self { source, held, device, kind })
    }

    pub(crate) fn len(&self) -> usize {
        self.source.len()
    }

    pub(crate) fn name(&self) -> &str {
        self.source.name()
    }

    pub(crate) fn source(&self) -> &dyn Source {
        self.source.as_ref()
    }

    /// Reads the data set once, in the given order and steps of `batch`.
    pub(crate) fn pass(&self, order: &[u64], batch: usize) -> Result<Pass<'_>> {
        let rows = match &self.held {
            Some(all) => {
                let index: Vec<i64> = order.iter().map(|&i| i as i64).collect();
                Rows::Held(all, Tensor::f_from_slice(&index)?.f_to_device(self.device)?)
            }
            None => {
                let (source, lane, kind) = (self.source.clone(), Lane::new(self.device)?, self.kind);
                Rows::Read(data::ahead(
                    order.to_vec(),
                    move || batch,
                    move |index| Ok((index.len(), lane.upload(&source.read(index)?.images, kind)?)),
                ))
            }
        };
        Ok(Pass { rows })
    }
}

/// One pass over a data set.
pub(crate) struct Pass<'a> {
    rows: Rows<'a>,
}

enum Rows<'a> {
    /// All images and the order, both on the device.
    Held(&'a Tensor, Tensor),
    /// Batches that are read and sent to the device ahead, each with its length.
    Read(Batches<(usize, Upload)>),
}

impl Pass<'_> {
    /// The images of the next step, at the positions `range` of the order: [B, C, H, W] on the device. Steps follow each other without
    /// gaps.
    pub(crate) fn images(&mut self, range: std::ops::Range<usize>) -> Result<Tensor> {
        let (start, len) = (range.start as i64, range.len() as i64);
        match &mut self.rows {
            Rows::Held(all, order) => Ok(all.f_index_select(0, &order.f_narrow(0, start, len)?)?),
            Rows::Read(batches) => {
                let mut images: Vec<Tensor> = Vec::with_capacity(1);
                let mut have = 0;
                // A step may take two batches: see `steps`.
                while have < len {
                    let Some((length, batch)) = batches.next().transpose()? else {
                        let message = format!("{have} samples where {len} were due");
                        return Err(Error::internal("training data", message));
                    };
                    have += length as i64;
                    images.push(batch.receive()?);
                }
                Ok(if images.len() == 1 { images.remove(0) } else { Tensor::f_cat(&images, 0)? })
            }
        }
    }
}

/// The order of the training samples in an epoch.
pub(crate) fn order(seed: u64, epoch: u32, n: usize) -> Vec<u64> {
    let mut order: Vec<u64> = (0..n as u64).collect();
    order.shuffle(&mut seed::generator(seed, Stage::Shuffle, u64::from(epoch), 0));
    order
}

/// Cuts an epoch's order into steps. No sample is dropped. If `least` is 2, a last batch of one sample joins the batch before, because one
/// sample has no batch statistics.
pub(crate) fn steps(n: usize, batch: usize, least: usize) -> Vec<std::ops::Range<usize>> {
    let mut steps: Vec<_> = (0..n).step_by(batch).map(|start| start..n.min(start + batch)).collect();
    if steps.len() > 1 && steps.last().is_some_and(|last| last.len() < least) {
        steps.pop();
        if let Some(last) = steps.last_mut() {
            last.end = n;
        }
    }
    steps
}

/// The noise of an epoch's samples in their order, drawn one window at a time so that few pieces go to the device.
pub(crate) struct Noise<'a> {
    pub(crate) seed: u64,
    pub(crate) stage: Stage,
    /// The upper half of the key; the lower half is the sample.
    pub(crate) epoch: u32,
    pub(crate) order: &'a [u64],
    pub(crate) width: usize,
    pub(crate) device: Device,
    pub(crate) kind: Kind,
    /// The present rows, and where in `order` they begin.
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
        Self { seed, stage, epoch, order, width, device, kind, window: None }
    }

    /// Noise of the samples at the positions `range` of the order, [range, width].
    pub(crate) fn rows(&mut self, range: std::ops::Range<usize>) -> Result<Tensor> {
        if let Some((start, rows)) = &self.window {
            let end = start + rows.size().first().copied().unwrap_or(0) as usize;
            if *start <= range.start && range.end <= end {
                return Ok(rows.f_narrow(0, (range.start - start) as i64, range.len() as i64)?);
            }
        }
        let end = self.order.len().min((range.start + WINDOW).max(range.end));
        let keys: Vec<u64> = self.order[range.start..end].iter().map(|i| u64::from(self.epoch) << 32 | i).collect();
        let rows =
            seed::normal(self.seed, self.stage, &keys, self.width)?.f_to_device(self.device)?.f_to_kind(self.kind)?;
        let wanted = rows.f_narrow(0, 0, range.len() as i64)?;
        self.window = Some((range.start, rows));
        Ok(wanted)
    }
}
