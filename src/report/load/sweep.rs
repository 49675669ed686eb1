//! Sweep files. What the page needs of `[S, E, N]` is read one data set at a time and summed up at once.

use super::run::{is_picture, spread};
use super::{origin, setting, step_scale, sweep_pictures};
use crate::error::{Error, Result};
use crate::report::law::law;
use crate::report::stats::Summary;
use crate::report::study::{Agreement, Correlation, Mixup, Named, OutcomeSummary, StepScale, Sweep, SweepPoint};
use crate::report::words;
use crate::store::Reader;

/// Models of each arm that galleries and per-model panels show.
const SHOWN_BETAS: usize = 5;
/// Sizes that galleries show.
const SHOWN_EPS: usize = 4;

/// Reads a sweep.
pub(super) fn read(reader: &Reader) -> Result<Sweep> {
    let (_, beta) = reader.read_f64("/beta")?;
    let mixup = match reader.info("/mixup") {
        Some(_) => reader.read_u8("/mixup")?.1,
        None => vec![0; beta.len()],
    };
    let eps = match reader.info("/eps") {
        Some(_) => reader.read_f64("/eps")?.1,
        None => vec![],
    };
    if beta.is_empty() || mixup.len() != beta.len() {
        return Err(Error::request(
            format!("{}: /beta and /mixup", reader.path().display()),
            "one entry a model, at least one",
            format!("{} and {}", beta.len(), mixup.len()),
        ));
    }
    let arm = |m: &u8| if *m == 0 { Mixup::Without } else { Mixup::With };
    let mut points: Vec<SweepPoint> = beta
        .iter()
        .zip(&mixup)
        .map(|(beta, m)| SweepPoint { beta: *beta, mixup: arm(m), ..SweepPoint::default() })
        .collect();
    columns(reader, &mut points)?;
    let scale = step_scale(reader);
    let metric = reader.header().metric.clone().unwrap_or_else(|| setting(reader, "metric"));
    attacks(reader, &mut points, &eps, scale, &metric)?;
    let shown_eps = evenly(eps.len(), SHOWN_EPS);
    let shown = shown_points(&points);
    let ranks = points.first().and_then(|p| p.score("spectral_radius")).unwrap_or(&[]);
    let rows = spread(ranks, reader.samples());
    sweep_pictures::add(reader, &mut points, &shown, &shown_eps, &rows)?;
    points.sort_by(|a, b| a.mixup.cmp(&b.mixup).then(a.beta.total_cmp(&b.beta)));
    let mut origin = origin(reader);
    origin.metric = metric;
    Ok(Sweep {
        name: words::model(&origin.model).to_owned(),
        norm: setting(reader, "norm"),
        scale,
        eps,
        points,
        shown_eps,
        correlations: correlations(reader)?,
        origin,
    })
}

/// Places of at most `wanted` of `count` things, evenly spaced, both ends among them.
pub(crate) fn evenly(count: usize, wanted: usize) -> Vec<usize> {
    let shown = wanted.min(count);
    if shown < 2 {
        return (0..shown).collect();
    }
    (0..shown).map(|i| (i * (count - 1) + (shown - 1) / 2) / (shown - 1)).collect()
}

/// The models that galleries show: a few of each arm, evenly spaced over its betas.
fn shown_points(points: &[SweepPoint]) -> Vec<usize> {
    let mut shown = Vec::new();
    for mixup in [Mixup::Without, Mixup::With] {
        let mut own: Vec<usize> = (0..points.len()).filter(|i| points[*i].mixup == mixup).collect();
        own.sort_by(|a, b| points[*a].beta.total_cmp(&points[*b].beta));
        shown.extend(evenly(own.len(), SHOWN_BETAS).into_iter().map(|at| own[at]));
    }
    shown
}

/// A whole data set whose first axis counts the models, cut into their parts.
fn by_point(reader: &Reader, path: &str, points: usize, rank: usize) -> Result<(Vec<usize>, Vec<f64>)> {
    let (shape, values) = reader.read_f64(path)?;
    if shape.len() != rank || shape[0] != points {
        return Err(Error::request(
            format!("{}: shape of {path}", reader.path().display()),
            format!("{rank} axes, {points} models on the first"),
            format!("{shape:?}"),
        ));
    }
    Ok((shape, values))
}

fn columns(reader: &Reader, points: &mut [SweepPoint]) -> Result<()> {
    let count = points.len();
    let mut names = reader.scores();
    names.sort_by_key(|n| words::order(n));
    for name in names {
        let (shape, values) = by_point(reader, &format!("/scores/{name}"), count, 2)?;
        for (point, part) in points.iter_mut().zip(values.chunks_exact(shape[1].max(1))) {
            point.scores.push(Named { name: name.clone(), values: part.to_vec() });
        }
    }
    let mut names: Vec<String> = reader.clean().into_iter().filter(|n| !is_picture(n)).collect();
    names.sort_by_key(|n| words::order(n));
    for name in names {
        let (shape, values) = by_point(reader, &format!("/clean/{name}"), count, 2)?;
        for (point, part) in points.iter_mut().zip(values.chunks_exact(shape[1].max(1))) {
            point.clean.push((name.clone(), Summary::of(part)));
        }
    }
    if reader.info("/spectrum/eigenvalues").is_some() {
        let (shape, values) = by_point(reader, "/spectrum/eigenvalues", count, 3)?;
        let (rows, width) = (shape[1], shape[2]);
        for (point, part) in points.iter_mut().zip(values.chunks_exact((rows * width).max(1))) {
            point.spectrum = (0..width)
                .map(|k| Summary::of(&part.iter().skip(k).step_by(width).copied().collect::<Vec<_>>()))
                .collect();
        }
    }
    Ok(())
}

fn attacks(reader: &Reader, points: &mut [SweepPoint], eps: &[f64], scale: StepScale, metric: &str) -> Result<()> {
    let dim = sweep_pictures::dim(reader);
    let law = law(metric).filter(|l| !l.needs_dim() || dim.is_some());
    let mut names = reader.attacks();
    names.sort_by_key(|n| words::attack_order(n));
    for attack in names {
        let mut measures: Vec<String> = reader.measures(&attack).into_iter().filter(|n| !is_picture(n)).collect();
        measures.sort_by_key(|n| words::order(n));
        let start = |p: &mut SweepPoint| {
            p.attacks.push(OutcomeSummary { name: attack.clone(), measures: vec![] });
        };
        points.iter_mut().for_each(start);
        for name in measures {
            let path = format!("/attack/{attack}/{name}");
            let (shape, values) = by_point(reader, &path, points.len(), 3)?;
            if shape[1] != eps.len() {
                return Err(Error::request(
                    format!("{}: shape of {path}", reader.path().display()),
                    format!("{} sizes on the second axis", eps.len()),
                    format!("{shape:?}"),
                ));
            }
            let samples = shape[2].max(1);
            for (point, part) in points.iter_mut().zip(values.chunks_exact((eps.len() * samples).max(1))) {
                let by_eps: Vec<&[f64]> = part.chunks_exact(samples).collect();
                if let (Some(law), "u1") = (law.filter(|l| l.measure == name), attack.as_str()) {
                    point.agreement = agreement(law, point, eps, &by_eps, scale, dim.unwrap_or(1));
                }
                let summaries = by_eps.into_iter().map(Summary::of).collect();
                if let Some(outcome) = point.attacks.last_mut() {
                    outcome.measures.push((name.clone(), summaries));
                }
            }
        }
    }
    Ok(())
}

fn agreement(
    law: crate::report::law::Law,
    point: &SweepPoint,
    eps: &[f64],
    actual: &[&[f64]],
    scale: StepScale,
    dim: usize,
) -> Option<Agreement> {
    let radius = point.score("spectral_radius")?;
    let predict = |size: f64| -> Vec<f64> {
        let length = |lambda: f64| match scale {
            StepScale::Unit => size,
            StepScale::Eigen => size * lambda,
            StepScale::Singular => size * lambda.max(0.0).sqrt(),
        };
        radius.iter().map(|lambda| law.predict(*lambda, length(*lambda), dim as f64)).collect()
    };
    let ratio = eps.iter().zip(actual).map(|(size, actual)| {
        let ratios: Vec<f64> = predict(*size).iter().zip(*actual).map(|(p, a)| a / p).collect();
        Summary::of(&ratios)
    });
    Some(Agreement { law, ratio: ratio.collect(), predicted: predict(*eps.first()?), actual: actual.first()?.to_vec() })
}

/// `/correlation/...`: data sets whose last axis is (rho, lower, upper).
fn correlations(reader: &Reader) -> Result<Vec<Correlation>> {
    let mut found = Vec::new();
    for info in reader.datasets() {
        let Some(name) = info.path.strip_prefix("/correlation/") else { continue };
        if info.shape.last() != Some(&3) {
            return Err(Error::request(
                format!("{}: shape of {}", reader.path().display(), info.path),
                "rho, lower and upper on the last axis",
                format!("{:?}", info.shape),
            ));
        }
        let (_, values) = reader.read_f64(&info.path)?;
        let several = values.len() > 3;
        for (i, triple) in values.chunks_exact(3).enumerate() {
            let name = if several { format!("{name} {}", i + 1) } else { name.to_owned() };
            found.push(Correlation { name, rho: triple[0], low: triple[1], high: triple[2] });
        }
    }
    Ok(found)
}
