//! First-order theory against measurement: the shift that the largest eigenvalue predicts for a step of size epsilon along its direction,
//! and the shift that the spectral attack measured on the same images.

use super::{Facet, Headline, Section, facets, legend, spread_point, spread_words, theory};
use crate::report::figure::{Axis, AxisScale, Curve, Figure, Ink, Mark, Marker, Panel, Plot, Stroke, Table, number};
use crate::report::law::{Law, law};
use crate::report::stats::{Quartiles, median, spearman};
use crate::report::study::{Scores, Study, Subject, Trial};
use crate::report::words;
use crate::store::direction;

/// Pairs of predicted and actual shift of one model.
struct Pairs<'a> {
    ink: usize,
    subject: &'a Subject,
    measure: &'static str,
    formula: &'static str,
    metric: &'a str,
    norm: &'a str,
    eps: &'a [f64],
    index: Vec<u64>,
    /// [E][rows]
    predicted: Vec<Vec<f64>>,
    actual: Vec<Vec<f64>>,
}

/// A figure for each facet whose directions some attacks took: ratio by size, and single images at the smallest and largest size.
pub fn section(study: &Study) -> Option<Section> {
    let mut section = Section {
        id: "prediction",
        title: "Theory and experiment",
        intro: "To first order, a small step along the most sensitive direction moves the posterior by what the \
                largest eigenvalue λ₁ says. Where the measured shift stays at the prediction, the geometry at the \
                input tells the damage; where it falls short, the encoder bends away, or the image's edges [0, 1] \
                cut the step."
            .to_owned(),
        ..Section::default()
    };
    for facet in facets(study) {
        let group: Vec<Pairs> = facet.subjects.iter().filter_map(|(ink, subject, s)| pairs(*ink, subject, s)).collect();
        if let Some(figure) = figure(&facet, &group) {
            section.add(figure, Headline::Yes);
        }
    }
    section.filled()
}

fn pairs<'a>(ink: usize, subject: &'a Subject, scores: &'a Scores) -> Option<Pairs<'a>> {
    let law = law(&scores.metric)?;
    let radius = scores.column("spectral_radius")?;
    // The law holds for steps along the directions of its own metric.
    let usable = |t: &&Trial| {
        Law::is_of_norm(&t.norm)
            && (t.metric.is_empty() || t.metric == scores.metric)
            && attacked(t, law.measure).is_some()
    };
    let trial = subject.trials.iter().find(usable)?;
    let measure = attacked(trial, law.measure)?;
    let dim = trial
        .gallery
        .as_ref()
        .and_then(|g| g.originals.first().map(|p| p.values.len()))
        .or_else(|| scores.directions.first().and_then(|d| d.vectors.first().map(|p| p.values.len())));
    if dim.is_none() && law.needs_dim() {
        return None;
    }
    let place: std::collections::HashMap<u64, usize> =
        scores.index.iter().enumerate().map(|(row, index)| (*index, row)).collect();
    let matched: Vec<(usize, usize)> =
        trial.index.iter().enumerate().filter_map(|(row, i)| Some((row, *place.get(i)?))).collect();
    if matched.is_empty() {
        return None;
    }
    let dim = dim.unwrap_or(1) as f64;
    let predicted = |eps: &f64| {
        matched.iter().map(|(_, s)| law.predict(radius[*s], trial.scale.length(*eps, radius[*s]), dim)).collect()
    };
    let actual = |values: &Vec<f64>| matched.iter().map(|(row, _)| values[*row]).collect();
    Some(Pairs {
        ink,
        subject,
        measure: law.measure,
        formula: law.formula,
        metric: &scores.metric,
        norm: &trial.norm,
        eps: &trial.eps,
        index: matched.iter().map(|(row, _)| trial.index[*row]).collect(),
        predicted: trial.eps.iter().map(predicted).collect(),
        actual: measure.iter().map(actual).collect(),
    })
}

/// The spectral attack's values of `measure`, by size.
fn attacked<'a>(trial: &'a Trial, measure: &str) -> Option<&'a Vec<Vec<f64>>> {
    let names: Vec<&str> = trial.attacks.iter().map(|a| a.name.as_str()).collect();
    let outcome = trial.attacks.iter().find(|a| direction(&a.name, &names) == Some(1))?;
    outcome.measure(measure).map(|m| &m.by_eps)
}

fn figure(facet: &Facet<'_>, group: &[Pairs]) -> Option<Figure> {
    let first = group.first()?;
    // One row for each size, then one row for each image at the sizes whose images are drawn.
    let mut table =
        Table::new(&["model", "metric", "eps", "image", "predicted", "measured", "ratio", "ratio_q25", "ratio_q75"]);
    let ends = if first.eps.len() > 1 { vec![0, first.eps.len() - 1] } else { vec![0] };
    let mut curves = Vec::new();
    let mut spans = Vec::new();
    let mut sizes = Vec::new();
    for p in group {
        let mut points = Vec::new();
        for ((eps, predicted), actual) in p.eps.iter().zip(&p.predicted).zip(&p.actual) {
            let ratios: Vec<f64> = predicted.iter().zip(actual).map(|(a, b)| b / a).collect();
            let summary = Quartiles::of(&ratios);
            table.row([
                (&p.subject.name).into(),
                facet.name.into(),
                (*eps).into(),
                "median".into(),
                median(predicted).into(),
                median(actual).into(),
                summary.median.into(),
                summary.low.into(),
                summary.high.into(),
            ]);
            let tip = format!(
                "{}\nε = {}\nmeasured / predicted: {}",
                p.subject.name,
                number::plain(*eps),
                spread_words(&summary)
            );
            points.push(spread_point(*eps, &summary, tip));
            spans.extend([summary.low, summary.high]);
            sizes.push(*eps);
        }
        curves.push(Mark::Curve(Curve {
            ink: Ink::Series(p.ink),
            stroke: Stroke::series(p.ink),
            marker: Marker::series(p.ink),
            label: if group.len() > 1 { p.subject.name.clone() } else { String::new() },
            points,
        }));
    }
    for (p, at) in group.iter().flat_map(|p| ends.iter().map(move |at| (p, *at))) {
        let (Some(eps), Some(predicted), Some(actual)) = (p.eps.get(at), p.predicted.get(at), p.actual.get(at)) else {
            continue;
        };
        for ((index, a), b) in p.index.iter().zip(predicted).zip(actual) {
            table.row([
                (&p.subject.name).into(),
                facet.name.into(),
                (*eps).into(),
                (*index as i64).into(),
                (*a).into(),
                (*b).into(),
                (b / a).into(),
                "".into(),
                "".into(),
            ]);
        }
    }
    sizes.sort_by(f64::total_cmp);
    sizes.dedup();
    let (ratio_axis, level) = theory::ratios(spans);
    let eps_axis =
        Axis::fit(words::size_axis(first.norm), AxisScale::suiting(sizes.iter().copied(), 1.3), sizes.iter().copied());
    curves.insert(0, level);
    let ratio = Plot::new("How well the prediction holds", eps_axis, ratio_axis, curves)
        .x_ticks(sizes.iter().map(|e| (*e, number::plain(*e))));
    let mut panels = vec![ratio.draw()];
    panels.extend(ends.into_iter().filter_map(|at| scatter(group, at)));
    Some(Figure {
        id: format!("prediction-{}{}", first.measure, facet.anchor),
        title: format!("{}{}", finding(group), facet.suffix),
        caption: format!(
            "Predicted: {} with λ₁ of each image under the {} metric. Measured: {} of the spectral attack. First, \
             the median ratio and its middle half by size; then each image at the smallest and the largest size, \
             logarithmic axes.",
            first.formula,
            first.metric,
            words::inline(first.measure),
        ),
        legend: legend(group.iter().map(|p| (p.ink, p.subject.name.clone())), Marker::series),
        panels,
        table,
        ..Figure::default()
    })
}

fn scatter(group: &[Pairs], at: usize) -> Option<Panel> {
    let mut span = Vec::new();
    let mut clouds = Vec::new();
    let mut size = f64::NAN;
    for p in group {
        let (predicted, actual) = (p.predicted.get(at)?, p.actual.get(at)?);
        size = *p.eps.get(at)?;
        span.extend(predicted.iter().chain(actual));
        let points = p.index.iter().zip(predicted).zip(actual).map(|((index, a), b)| {
            let tip = format!(
                "{}, image {index}\npredicted {}\nmeasured {}",
                p.subject.name,
                number::short(*a),
                number::short(*b)
            );
            (*a, *b, tip)
        });
        clouds.push((Ink::Series(p.ink), points.collect()));
    }
    let panel = theory::scatter(format!("Each image at ε = {}", number::plain(size)), clouds, &span);
    (panel.marks > 0).then_some(panel)
}

/// The median ratio at the smallest and the largest size, over all models.
fn finding(group: &[Pairs]) -> String {
    let ratio = |at: fn(usize) -> usize| -> (f64, f64) {
        let mut ratios = Vec::new();
        let mut eps = f64::NAN;
        for p in group {
            let at = at(p.eps.len());
            eps = p.eps[at];
            ratios.extend(p.predicted[at].iter().zip(&p.actual[at]).map(|(a, b)| b / a));
        }
        (eps, Quartiles::of(&ratios).median)
    };
    let percent = |r: f64| format!("{:.0} %", 100.0 * r);
    let rho: Vec<f64> =
        group.iter().map(|p| spearman(&p.predicted[0], &p.actual[0])).filter(|r| r.is_finite()).collect();
    let ranks = rho.iter().copied().fold(f64::INFINITY, f64::min);
    let ranks = if ranks.is_finite() {
        format!("; image by image, rank correlation at least {ranks:.2}")
    } else {
        String::new()
    };
    let (small, low) = ratio(|_| 0);
    let (large, high) = ratio(|n| n - 1);
    if small == large {
        format!("The measured shift is {} of the predicted one{ranks}", percent(low))
    } else {
        format!(
            "The measured shift is {} of the predicted one at ε = {} and {} at ε = {}{ranks}",
            percent(low),
            number::plain(small),
            percent(high),
            number::plain(large)
        )
    }
}
