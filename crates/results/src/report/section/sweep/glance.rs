//! The sweep in one row: the paper's two scores against beta, and the cost of robustness.

use super::view::View;
use super::{plane, trend};
use crate::report::figure::{Figure, Panel};
use crate::report::section::{spread_row, spread_table};
use crate::report::stats::Quartiles;
use crate::report::study::{StepScale, SweepPoint};
use crate::report::words;

/// The paper's scores.
const SCORES: [&str; 2] = ["spectral_radius", "von_neumann_entropy"];

/// Three panels.
pub(super) fn figure(view: &View<'_>) -> Option<Figure> {
    let arms = view.arms();
    let mut table = spread_table(&["quantity", "mixup", "beta"]);
    let mut panels: Vec<Panel> = Vec::new();
    for name in SCORES {
        let of = |p: &SweepPoint| p.score(name).map(Quartiles::of);
        panels.extend(trend::against_beta(view, &arms, &words::title(name), name, of, |arm, p, s| {
            table.row(spread_row([name.into(), (&arm.name).into(), p.beta.into()], s));
        }));
    }
    // Steps of one length for all models make a fair comparison; if there are none, the existing steps are used.
    let fair = view.sweep.sets.iter().find(|s| s.scale == StepScale::Unit).or(view.sweep.sets.first())?;
    let only = view.sweep.only(fair);
    let trial = View { sweep: &only, name: view.name.clone(), set: None };
    let (attack, sizes) = (plane::attack(&trial), plane::sizes(&trial));
    let at = *sizes.get(sizes.len() / 2)?;
    let title = format!("Cost and gain: {} at {}", words::attack(attack), trial.size(at));
    panels.extend(plane::panel(&trial.arms(), attack, plane::ERROR, at, title, |arm, p, clean, damage| {
        for (name, s) in [("clean_error", clean), ("attacked_error", damage)] {
            table.row(spread_row([name.into(), (&arm.name).into(), p.beta.into()], s));
        }
    }));
    Some(Figure {
        id: view.id("glance"),
        title: "Geometry against β, and what robustness costs".to_owned(),
        caption: format!(
            "Medians over the images, and the middle half (band). Last, each model's reconstruction error without and \
             under attack ({}, steps of one length for all models): lower left is better, numbers at points are β.",
            words::attack(attack)
        ),
        legend: super::view::legend(&arms),
        panels,
        table,
        ..Figure::default()
    })
}
