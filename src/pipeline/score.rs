//! `score`: images to eigenvalues, directions and scores.

use super::block::Block;
use super::flow::{Asked, bytes, doubles, singles};
use super::job::{Job, Subject};
use super::masked::Masked;
use super::parts::Stage;
use super::provided::Provided;
use crate::error::{Error, Result};
use crate::event::{Event, Observer};
use crate::jacobian::{Planner, Reach};
use crate::metric::{MetricKind, ensure_independent};
use crate::score::{self, Margins};
use crate::spectrum::{Found, Leading, Spectra, Spectrum, SpectrumMode, SpectrumSpec, Wanted};
use crate::store::FileKind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tch::Kind;

/// The request of `score`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoreRequest {
    /// The model, the data and the result file.
    #[serde(flatten)]
    pub subject: Subject,
    /// The pullback metric.
    pub metric: MetricKind,
    /// How many directions are stored.
    pub top: usize,
    /// How spectra are found.
    #[serde(default, skip_serializing_if = "SpectrumSpec::is_default")]
    pub spectrum: SpectrumSpec,
    /// How far a reconstruction may change for the margin of robustness; no margin if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
}

/// Scores every sample and stores the file: `/spectrum`, `/scores` (docs/formats.md).
///
/// # Errors
/// A wrong request if model, data or output are wrong; other errors as they occur.
pub fn score(request: &ScoreRequest, observer: &dyn Observer) -> Result<()> {
    score_with(request, &Provided::default(), observer)
}

/// [`score()`] with a model or data that are there already.
///
/// # Errors
/// As [`score()`].
pub fn score_with(request: &ScoreRequest, provided: &Provided, observer: &dyn Observer) -> Result<()> {
    let subject = &request.subject;
    let job = Job::open(subject, provided, observer)?;
    if job.is_idle(observer) {
        return Ok(());
    }
    job.ensure_metric(request.metric)?;
    let mut reach = request.metric.reach();
    if request.margin.is_some() {
        if request.metric != MetricKind::Mean {
            let wants = "score.margin (--margin)";
            return Err(Error::request(
                wants,
                "the metric mean (--metric mean), whose trace it needs",
                request.metric.to_string(),
            ));
        }
        job.ensure_scale("score.margin (--margin)", "none")?;
        reach = Reach::EncoderAndDecoder;
    }
    job.examine(reach, observer)?;
    let ScoreRequest { spectrum: spec, top, .. } = request;
    let wanted = Wanted { spec: spec.clone(), top: *top, pairs: None, seed: subject.seed, batch: subject.batch };
    let vae = job.model.vae.as_ref();
    let mut spectra = Spectra::wanted(vae, &job.sample()?, request.metric, &wanted)?;
    if request.margin.is_some() {
        if spectra.mode() == SpectrumMode::Top {
            return Err(Error::request("score.margin (--margin)", "whole spectra (--spectrum full)", "leading pairs"));
        }
        // The spectra of `mean` ask the encoder alone.
        ensure_independent(vae, &job.sample()?, Reach::EncoderAndDecoder)?;
    }
    let mut margins = request.margin.map(|r| Margins::new(subject.seed, r));
    let kept = match spectra.mode() {
        SpectrumMode::Top => {
            let pairs = spec.leading(*top, spectra.bound());
            if spec.mode == SpectrumMode::Auto {
                let text = "the whole spectrum is too large";
                let left = format!("{text}: its {pairs} leading pairs, and estimates of other scores");
                observer.on(Event::Note(&left));
            }
            pairs
        }
        _ => *top,
    };
    let metric = Some(request.metric.to_string());
    // Directions of the decoder's metric are codes.
    let codes = [-1];
    let axes = if request.metric == MetricKind::Decoder { &codes[..] } else { job.axes() };
    let block = Block::about(subject.batch, job.device, job.shape.dim() as usize * (1 + kept));
    let mut masked = Masked::of_metric(request.metric);
    let extra = spectrum_attribute(&spectra);
    let kind = FileKind::Scores;
    let stage = Stage { kind, task: "scoring", metric, extra, fixed: &[], block, tells: has_spectrum };
    let of = |subject| ScoreRequest { subject, ..request.clone() };
    job.carry_out(stage, of, observer, |images, index| {
        let mut found = spectra.find(vae, images, index)?;
        let mut margin = None;
        if let (Some(margins), Found::Whole(spectrum)) = (&mut margins, &mut found) {
            let squares = spectrum.values.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Double)?;
            let most = spectra.planner().next(index.len()).samples;
            let own = margins.at(vae, images, index, &squares, most)?;
            // After a stop, the samples that are finished.
            *spectrum = spectrum.narrow(0, own.radius.size()[0])?;
            margin = Some(own);
        }
        let mut columns = match &found {
            Found::Whole(spectrum) => columns(spectrum, axes)?,
            Found::Leading(leading) => leading_columns(leading, *top, axes)?,
        };
        if let Some(lengths) = spectra.log_lengths() {
            columns.push(doubles("/spectrum/log_lengths", lengths, 0)?);
        }
        if let Some(margin) = &margin {
            columns.push(doubles("/margin/probability", &margin.probability, 0)?);
            columns.push(doubles("/margin/radius", &margin.radius, 0)?);
        }
        // The flag is about the encoder's gradient, which the decoder's metric does not contain.
        if request.metric == MetricKind::Decoder {
            return Ok(columns);
        }
        columns.push(bytes(MASKED, &masked.of(vae, images, index, found.values())?)?);
        Ok(columns)
    })?;
    masked.tell(observer);
    tell_passes(spectra.planner(), observer);
    if let Some(contest) = spectra.contest() {
        observer.on(Event::Detail(&format!("eigensolvers, {contest}")));
    }
    Ok(())
}

/// The column that is 1 if a metric of 0 has no meaning.
const MASKED: &str = "/flags/masked";

/// The column that is NaN if a sample has no spectrum.
fn has_spectrum(path: &str) -> bool {
    path == "/spectrum/eigenvalues"
}

/// Reports the pass that the planner chose, and the ways that the model does not support.
pub(super) fn tell_passes(planner: &Planner, observer: &dyn Observer) {
    for reason in planner.refused() {
        observer.on(Event::Detail(reason));
    }
    observer.on(Event::Detail(&format!("passes: {planner}")));
}

/// The root attribute of files whose spectra are leading pairs; none if they are whole.
pub(super) fn spectrum_attribute(spectra: &Spectra) -> BTreeMap<String, String> {
    match spectra.mode() {
        SpectrumMode::Top => BTreeMap::from([("spectrum".to_owned(), SpectrumMode::Top.name().to_owned())]),
        _ => BTreeMap::new(),
    }
}

/// Columns of one block from leading pairs; the first `top` directions are kept, and `axes` are a sample's axes.
fn leading_columns(leading: &Leading, top: usize, axes: &[i64]) -> Result<Vec<Asked>> {
    let mut columns = vec![
        doubles("/spectrum/eigenvalues", &leading.values, 0)?,
        doubles("/spectrum/residuals", &leading.residuals, 0)?,
    ];
    if top > 0 {
        let kept = leading.directions.f_narrow(1, 0, top as i64)?;
        let shape = [&kept.size()[..2], axes].concat();
        columns.push(singles("/spectrum/directions", &kept.f_reshape(shape)?, 0)?);
    }
    for estimate in score::estimates(&leading.quadrature)? {
        columns.push(doubles(format!("/scores/{}", estimate.score), &estimate.value, 0)?);
        columns.push(doubles(format!("/scores_se/{}", estimate.score), &estimate.error, 0)?);
    }
    Ok(columns)
}

/// Columns of one block; `axes` are a sample's axes.
pub(super) fn columns(spectrum: &Spectrum, axes: &[i64]) -> Result<Vec<Asked>> {
    let mut columns = vec![doubles("/spectrum/eigenvalues", &spectrum.values, 0)?];
    if let Some(v) = &spectrum.directions {
        let shape = [&v.size()[..2], axes].concat();
        columns.push(singles("/spectrum/directions", &v.f_reshape(shape)?, 0)?);
    }
    for (name, values) in score::all(&spectrum.values)? {
        columns.push(doubles(format!("/scores/{name}"), &values, 0)?);
    }
    Ok(columns)
}
