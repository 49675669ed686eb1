//! `score`: images to eigenvalues, directions and scores.

use super::job::{Job, Subject, doubles, singles};
use crate::error::Result;
use crate::event::{Event, Observer};
use crate::jacobian::BatchSize;
use crate::metric::MetricKind;
use crate::score;
use crate::spectrum::{Engine, Spectrum};
use crate::store::{Column, FileKind};
use serde::{Deserialize, Serialize};
use tch::Device;

/// What `score` is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoreRequest {
    /// Which model on which data, into which file.
    #[serde(flatten)]
    pub subject: Subject,
    /// The pullback metric.
    pub metric: MetricKind,
    /// How many directions are stored.
    pub top: usize,
}

/// Scores every sample and stores the file (SPEC: `/spectrum`, `/scores`).
///
/// # Errors
/// A wrong request where model, data or output are not what they should be; the rest as it comes.
pub fn score(request: &ScoreRequest, observer: &dyn Observer) -> Result<()> {
    let subject = &request.subject;
    let job = Job::open(subject)?;
    let mut engine = Engine::new(request.metric, request.top, job.device, job.kind, subject.batch)?;
    let writer = job.writer(FileKind::Scores, request, Some(request.metric.to_string()), &[], observer)?;
    let block = block_size(subject.batch, job.device, job.shape.dim() as usize * (1 + request.top));
    job.run(writer, "scoring", block, observer, |images, _| {
        let spectrum = engine.spectra(job.model.vae.as_ref(), images)?;
        columns(&spectrum, &images.size())
    })?;
    observer.on(Event::Detail(&format!("passes: {}", engine.planner())));
    Ok(())
}

/// Columns of one block; `images` is [n, C, H, W].
pub(super) fn columns(spectrum: &Spectrum, images: &[i64]) -> Result<Vec<Column>> {
    let mut columns = vec![doubles("/spectrum/eigenvalues", &spectrum.values, 0)?];
    if let Some(v) = &spectrum.directions {
        let shape = [images[0], v.size()[1], images[1], images[2], images[3]];
        columns.push(singles("/spectrum/directions", &v.f_reshape(shape)?, 0)?);
    }
    for (name, values) in score::all(&spectrum.values)? {
        columns.push(doubles(format!("/scores/{name}"), &values, 0)?);
    }
    Ok(columns)
}

/// Samples a block: a whole number of passes, and few enough that a block's `floats` a sample stay near 64 MiB and an
/// interruption loses seconds.
pub(super) fn block_size(batch: BatchSize, device: Device, floats: usize) -> usize {
    let most = if device.is_cuda() { 8192 } else { 1024 };
    let fits = ((16 << 20) / floats.max(1)).clamp(1, most);
    match batch {
        BatchSize::Auto => fits,
        BatchSize::Fixed(n) => fits.div_ceil(n) * n,
    }
}
