//! Eigenvalue curves at a few betas.

use super::{View, beta_words, chosen};
use crate::report::figure::{Axis, Curve, Figure, Mark, Marker, Plot, Scale, Table, Width, number};
use crate::report::section::{spread_point, spread_words};

/// Eigenvalues this far below the largest are drawn at the lower edge.
const DEPTH: f64 = 1e-7;

/// A panel an arm.
pub(super) fn figure(view: &View<'_>) -> Option<Figure> {
    let lines = view.lines();
    let mut table = Table::new(&["mixup", "beta", "i", "samples", "undefined", "mean", "q25", "median", "q75"]);
    let mut seen = Vec::new();
    let mut widest = 0;
    let mut drawn = Vec::new();
    let mut counts = Vec::new();
    for line in &lines {
        let mut marks = Vec::new();
        for (ink, point) in chosen(line) {
            widest = widest.max(point.spectrum.len());
            let mut points = Vec::new();
            for (k, s) in point.spectrum.iter().enumerate() {
                let tip = format!("{}\nλ{} = {}", beta_words(point), number::subscript(k + 1), spread_words(s));
                points.push(spread_point((k + 1) as f64, s, tip));
                seen.extend([s.low, s.high]);
                table.row([
                    line.name.into(),
                    point.beta.into(),
                    (k + 1).into(),
                    s.count.into(),
                    s.undefined.into(),
                    s.mean.into(),
                    s.low.into(),
                    s.median.into(),
                    s.high.into(),
                ]);
            }
            let label = beta_words(point);
            marks.push(Mark::Curve(Curve { ink, stroke: Default::default(), marker: Marker::None, label, points }));
        }
        let live = |p: &super::SweepPoint| {
            let first = p.spectrum.first()?.median;
            Some(p.spectrum.iter().filter(|s| s.median > 1e-2 * first).count())
        };
        if let (Some(a), Some(b)) =
            (line.points.first().and_then(|p| live(p)), line.points.last().and_then(|p| live(p)))
        {
            let arm = if line.name == "mixup" { "with mixup" } else { "without" };
            counts.push(format!("from {a} to {b} {arm}"));
        }
        drawn.push((line.name, marks));
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
        title: format!("With β, the directions above 1 % of λ₁ go {}", crate::report::words::list(&counts)),
        caption: "Eigenvalues of the pullback metric, largest first, for a few models: median over the images (line) \
                  and middle half (band)."
            .to_owned(),
        legend: vec![],
        controls: vec![],
        panels,
        width: Width::Pairs,
        table,
    })
}
