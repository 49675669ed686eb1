//! Theory against measurement over the whole sweep.

use super::view::{View, beta_keys, beta_words};
use crate::report::figure::{Cell, Curve, Figure, Mark, Marker, Plot, Stroke, Table, Width, number};
use crate::report::section::{spread_point, spread_words, theory};
use crate::report::stats::{Quartiles, spearman};
use crate::report::words;

/// Ratio of measured to predicted damage by size, then single images at the smallest size.
pub(super) fn figure(view: &View<'_>) -> Option<Figure> {
    let arms = view.arms();
    let law = view.sweep.points.iter().find_map(|p| p.agreement())?.law;
    // One row for each model and size, then one row for each image at the smallest size.
    let mut table =
        Table::new(&["mixup", "beta", "eps", "row", "predicted", "measured", "ratio", "ratio_q25", "ratio_q75"]);
    let mut images = Vec::new();
    let mut ratios = Vec::new();
    let mut clouds = Vec::new();
    let mut keyed = Vec::new();
    let (mut spans, mut both) = (Vec::new(), Vec::new());
    let mut rho: Vec<f64> = Vec::new();
    for arm in &arms {
        let mut curves = Vec::new();
        let mut cloud = Vec::new();
        for (ink, point) in view.chosen(arm) {
            let Some(agreement) = point.agreement() else { continue };
            let mut points = Vec::new();
            for (at, (eps, s)) in view.sweep.eps.iter().zip(&agreement.ratio).enumerate() {
                let tip = format!("{}, {}\n{}", beta_words(point), view.size(at), spread_words(s));
                points.push(spread_point(*eps, s, tip));
                spans.extend([s.low, s.high]);
                table.row([
                    (&arm.name).into(),
                    point.beta.into(),
                    (*eps).into(),
                    "median".into(),
                    "".into(),
                    "".into(),
                    s.median.into(),
                    s.low.into(),
                    s.high.into(),
                ]);
            }
            let label = beta_words(point);
            keyed.push((ink, point));
            curves.push(Mark::Curve(Curve {
                ink,
                stroke: Stroke::Solid,
                marker: Marker::None,
                label: String::new(),
                points,
            }));
            rho.push(spearman(&agreement.predicted, &agreement.actual));
            let pairs = agreement.predicted.iter().zip(&agreement.actual).enumerate().map(|(row, (a, b))| {
                let place: [Cell; 6] = [
                    (&arm.name).into(),
                    point.beta.into(),
                    view.sweep.eps.first().copied().unwrap_or(f64::NAN).into(),
                    row.into(),
                    (*a).into(),
                    (*b).into(),
                ];
                images.push(place.into_iter().chain([(b / a).into(), "".into(), "".into()]).collect::<Vec<_>>());
                both.extend([*a, *b]);
                let tip = format!("{label}\npredicted {}\nmeasured {}", number::short(*a), number::short(*b));
                (*a, *b, tip)
            });
            cloud.push((ink, pairs.collect()));
        }
        ratios.push((arm.name.as_str(), curves));
        clouds.push((arm.name.as_str(), cloud));
    }
    table.rows.extend(images);
    let arm = |name: &str| if arms.len() > 1 { format!(", {name}") } else { String::new() };
    let (ratio_axis, level) = theory::ratios(spans);
    let mut panels: Vec<_> = ratios
        .into_iter()
        .map(|(name, mut marks)| {
            marks.insert(0, level.clone());
            Plot::new(format!("By size{}", arm(name)), view.size_axis(), ratio_axis.clone(), marks).draw()
        })
        .collect();
    panels.extend(
        clouds.into_iter().map(|(name, clouds)| {
            theory::scatter(format!("Each image at {}{}", view.size(0), arm(name)), clouds, &both)
        }),
    );
    let medians: Vec<f64> = view
        .sweep
        .points
        .iter()
        .filter_map(|p| p.agreement()?.ratio.first())
        .map(|s| s.median)
        .filter(|m| m.is_finite())
        .collect();
    let percent = |v: f64| format!("{:.0} %", 100.0 * v);
    let least = medians.iter().copied().fold(f64::INFINITY, f64::min);
    let most = medians.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let typical = Quartiles::of(&rho).median;
    let ranks = if typical.is_finite() {
        format!("; image by image, rank correlation {typical:.2} in the median model")
    } else {
        String::new()
    };
    Some(Figure {
        id: view.id("agreement"),
        title: format!(
            "At {}, a step along u₁ has {} to {} of the effect that λ₁ predicts, by model{ranks}{}",
            view.size(0),
            percent(least),
            percent(most),
            view.suffix()
        ),
        caption: format!(
            "Predicted: {}, with λ₁ of each image under the {} metric and ε the length of its step. Measured: {} after a \
             step along u₁. First, the median ratio and its middle half by size; then each image at the smallest size.",
            law.formula,
            view.metric(),
            words::inline(law.measure)
        ),
        legend: beta_keys(&keyed),
        panels,
        width: Width::Pairs,
        table,
        ..Figure::default()
    })
}
