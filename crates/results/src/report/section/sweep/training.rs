//! The final losses of training for each model.

use super::view::{View, beta_words};
use crate::report::figure::{Figure, Point, Table, Width, number};
use crate::report::section::training::panel;
use crate::report::stats::Quartiles;

/// One panel for each loss: the mean over the seeds of a beta, and the range from the least to the largest.
pub(super) fn figure(view: &View<'_>) -> Option<Figure> {
    let arms = view.arms();
    let models = &view.sweep.models;
    let losses: Vec<&str> = view.sweep.losses.iter().map(String::as_str).collect();
    let mut table = Table::new(&[&["mixup_strength", "beta", "seed"], &losses[..]].concat());
    for m in models {
        let seed = m.seed.map_or_else(|| "".into(), Into::into);
        let place = [m.mixup.into(), m.beta.into(), seed];
        table.row(place.into_iter().chain(m.losses.iter().map(|l| (*l).into())));
    }
    let mut panels = Vec::new();
    for (at, name) in losses.iter().enumerate() {
        let mut marks = Vec::new();
        let mut seen = Vec::new();
        for arm in &arms {
            let mut points = Vec::new();
            for point in &arm.points {
                let same = models.iter().filter(|m| (m.beta, m.mixup) == (point.beta, point.mixup));
                let values: Vec<f64> = same.filter_map(|m| m.losses.get(at).copied()).collect();
                let mean = Quartiles::of(&values).mean;
                let low = values.iter().copied().fold(f64::INFINITY, f64::min);
                let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                seen.extend([low, high]);
                let seeds = if values.len() > 1 { format!(" (mean of {} seeds)", values.len()) } else { String::new() };
                let tip = format!("{}, {}\n{}{seeds}", arm.name, beta_words(point), number::short(mean));
                let band = (values.len() > 1).then_some((low, high));
                points.push(Point { x: point.beta, y: mean, band, tip, note: None });
            }
            marks.push(arm.curve(points, arms.len() > 1));
        }
        panels.extend(panel(name, view.beta_axis(), &seen, 2.3, marks));
    }
    Some(Figure {
        id: view.id("training"),
        title: format!("What the training of {} models ended with", models.len()),
        caption: "Means over the last epoch, against β; the time is that of all epochs. Where a β has several seeds, \
                  their mean, and a line from the least to the largest."
            .to_owned(),
        panels,
        width: Width::Small,
        table,
        ..Figure::default()
    })
}
