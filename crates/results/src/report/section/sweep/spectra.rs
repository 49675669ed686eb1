//! Eigenvalue curves at a few betas.

use super::view::{View, beta_words, ways};
use crate::report::figure::{Curve, Figure, Mark, Marker, Plot, Width};
use crate::report::section::eigen::Spectra;
use crate::report::section::{spread_row, spread_table};
use crate::report::study::SweepPoint;

/// One panel for each arm.
pub(super) fn figure(view: &View<'_>) -> Option<Figure> {
    let arms = view.arms();
    let mut table = spread_table(&["mixup", "beta", "i"]);
    let mut spectra = Spectra::default();
    let mut drawn = Vec::new();
    for arm in &arms {
        let mut marks = Vec::new();
        for (ink, point) in view.chosen(arm) {
            let label = beta_words(point);
            let points = spectra.points(&label, &point.spectrum);
            for (k, s) in point.spectrum.iter().enumerate() {
                table.row(spread_row([(&arm.name).into(), point.beta.into(), (k + 1).into()], s));
            }
            marks.push(Mark::Curve(Curve { ink, stroke: Default::default(), marker: Marker::None, label, points }));
        }
        drawn.push((arm.name.clone(), marks));
    }
    if spectra.is_empty() {
        return None;
    }
    let (x, y) = (spectra.ranks(), spectra.values());
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

/// The number of directions that matter, at both ends of each arm.
fn finding(view: &View<'_>) -> String {
    let live = |p: &SweepPoint| {
        let first = p.spectrum.first()?.median;
        Some(p.spectrum.iter().filter(|s| s.median > 1e-2 * first).count().to_string())
    };
    let ways = ways(&view.arms(), live);
    if ways.is_empty() {
        return "Spectra by β".to_owned();
    }
    format!("With β, the number of eigenvalues above 1 % of λ₁ {}", crate::report::words::list(&ways))
}
