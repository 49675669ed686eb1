//! Eigenvalue curves at a few betas.

use super::{View, beta_words, ways};
use crate::report::figure::{Axis, Curve, Figure, Mark, Marker, Plot, Scale, Width, number};
use crate::report::section::{spread_point, spread_row, spread_table, spread_words};
use crate::report::study::SweepPoint;

/// Eigenvalues this far below the largest are drawn at the lower edge.
const DEPTH: f64 = 1e-7;

/// A panel an arm.
pub(super) fn figure(view: &View<'_>) -> Option<Figure> {
    let lines = view.lines();
    let mut table = spread_table(&["mixup", "beta", "i"]);
    let mut seen = Vec::new();
    let mut widest = 0;
    let mut drawn = Vec::new();
    for line in &lines {
        let mut marks = Vec::new();
        for (ink, point) in view.chosen(line) {
            widest = widest.max(point.spectrum.len());
            let mut points = Vec::new();
            for (k, s) in point.spectrum.iter().enumerate() {
                let tip = format!("{}\nλ{} = {}", beta_words(point), number::subscript(k + 1), spread_words(s));
                points.push(spread_point((k + 1) as f64, s, tip));
                seen.extend([s.low, s.high]);
                table.row(spread_row([(&line.name).into(), point.beta.into(), (k + 1).into()], s));
            }
            let label = beta_words(point);
            marks.push(Mark::Curve(Curve { ink, stroke: Default::default(), marker: Marker::None, label, points }));
        }
        drawn.push((line.name.clone(), marks));
    }
    if widest == 0 {
        return None;
    }
    let largest = seen.iter().copied().filter(|v| v.is_finite()).fold(0.0, f64::max);
    let y = Axis::fit("λᵢ", Scale::Log, seen).raised_to(largest * DEPTH);
    let x = Axis {
        label: "i, from the most sensitive direction".to_owned(),
        scale: Scale::Linear,
        low: 0.5,
        high: widest as f64 + 0.5,
    };
    let panels = drawn
        .into_iter()
        .map(|(arm, marks)| Plot::new(arm, x.clone(), y.clone(), marks).sized(380.0, 280.0).draw())
        .collect();
    Some(Figure {
        id: view.id("spectra"),
        title: finding(view),
        caption: "Eigenvalues of the pullback metric, largest first, for a few models: median over the images (line) \
                  and middle half (band)."
            .to_owned(),
        panels,
        width: Width::Pairs,
        table,
        ..Figure::default()
    })
}

/// How many directions matter, at both ends of each arm.
fn finding(view: &View<'_>) -> String {
    let live = |p: &SweepPoint| {
        let first = p.spectrum.first()?.median;
        Some(p.spectrum.iter().filter(|s| s.median > 1e-2 * first).count().to_string())
    };
    let ways = ways(&view.lines(), live);
    if ways.is_empty() {
        return "Spectra by β".to_owned();
    }
    format!("With β, the number of eigenvalues above 1 % of λ₁ {}", crate::report::words::list(&ways))
}
