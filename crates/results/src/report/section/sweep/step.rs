//! Damage against the size of the step, along each of the first directions, at a few betas.

use super::trend::first_attack;
use super::view::{View, beta_words};
use crate::report::figure::{Axis, AxisScale, Curve, Figure, Ink, Mark, Marker, Plot, Stroke, number};
use crate::report::load::evenly;
use crate::report::section::Headline;
use crate::report::section::{spread_point, spread_row, spread_table, spread_words};
use crate::report::stats::{quantile, sorted};
use crate::report::study::SweepPoint;
use crate::report::words;

/// The measures that are drawn.
const DRAWN: [&str; 2] = ["recon_mse", "latent_l2"];
/// The number of betas in each arm.
const BETAS: usize = 3;

/// One figure for each measure, with one panel for each arm and beta.
pub(super) fn figures(view: &View<'_>) -> Vec<(Figure, Headline)> {
    DRAWN.iter().filter_map(|key| figure(view, key)).collect()
}

fn figure(view: &View<'_>, key: &str) -> Option<(Figure, Headline)> {
    let arms = view.arms();
    let shown: Vec<(&str, &SweepPoint)> = arms
        .iter()
        .flat_map(|l| evenly(l.points.len(), BETAS).into_iter().map(|at| (l.name.as_str(), l.points[at])))
        .collect();
    let mut table = spread_table(&["mixup", "beta", "attack", "eps"]);
    let mut seen = Vec::new();
    let mut panels = Vec::new();
    for (arm, point) in &shown {
        let mut marks = Vec::new();
        let directions = point.attacks.iter().filter(|a| a.direction.is_some()).count();
        for outcome in point.attacks.iter().rev() {
            let Some(by_eps) = point.measure(&outcome.name, key) else { continue };
            let name = outcome.words();
            let mut points = Vec::new();
            for (at, (eps, s)) in view.sweep.eps.iter().zip(by_eps).enumerate() {
                let tip = format!("{name}, {}\n{}", view.size(at), spread_words(s));
                let mut shown = spread_point(*eps, s, tip);
                // Five bands one over the other would hide the arms.
                shown.band = shown.band.filter(|_| outcome.direction == Some(1));
                points.push(shown);
                seen.extend([s.low, s.median, s.high]);
                table.row(spread_row([(*arm).into(), point.beta.into(), (&outcome.name).into(), (*eps).into()], s));
            }
            let (ink, stroke) = match outcome.direction {
                Some(k) => (Ink::Ordered { at: k - 1, of: directions.max(5) }, Stroke::Solid),
                None if outcome.name == "random" => (Ink::Muted, Stroke::Dotted),
                None => (Ink::Muted, Stroke::Dashed),
            };
            marks.push(Mark::Curve(Curve { ink, stroke, marker: Marker::None, label: name, points }));
        }
        if !marks.is_empty() {
            let title = if arms.len() > 1 { format!("{}, {arm}", beta_words(point)) } else { beta_words(point) };
            panels.push((title, marks));
        }
    }
    if panels.is_empty() {
        return None;
    }
    let y = Axis::fit(words::axis(key), AxisScale::suiting(seen.iter().copied(), 2.3), seen).from_zero();
    let panels =
        panels.into_iter().map(|(title, marks)| Plot::new(title, view.size_axis(), y.clone(), marks).draw()).collect();
    let figure = Figure {
        id: view.id(&format!("damage-step-{key}")),
        title: format!("{}{}", finding(view, &shown, key), view.suffix()),
        caption: format!(
            "{} against the size of the step: medians over the images, for u₁ with the middle half (band).",
            words::title(key)
        ),
        panels,
        table,
        ..Figure::default()
    };
    Some((figure, if key == "recon_mse" { Headline::Yes } else { Headline::No }))
}

/// u_1 against a random direction (or the last direction, if there is no random one), over the shown models, at the size with the largest
/// typical gap.
fn finding(view: &View<'_>, shown: &[(&str, &SweepPoint)], key: &str) -> String {
    let attacks = view.attacks();
    let along = first_attack(view);
    let random = attacks.iter().find(|a| a.name == "random");
    let rival = random.or_else(|| attacks.iter().max_by_key(|a| a.direction));
    let Some(rival) = rival.map(|a| a.name.as_str()) else { return format!("{} by size", words::title(key)) };
    let ratios = |at: usize| -> Vec<f64> {
        let of = |p: &SweepPoint, attack: &str| Some(p.measure(attack, key)?.get(at)?.median);
        let ratio = |p: &SweepPoint| Some(of(p, along)? / of(p, rival)?);
        sorted(&shown.iter().filter_map(|(_, p)| ratio(p)).collect::<Vec<_>>())
    };
    let widest = (0..view.sweep.eps.len())
        .map(|at| (at, ratios(at)))
        .filter(|(_, r)| !r.is_empty() && rival != along)
        .max_by(|a, b| quantile(&a.1, 0.5).total_cmp(&quantile(&b.1, 0.5)));
    let Some((at, found)) = widest else { return format!("{} against the size of the step", words::title(key)) };
    let (low, high) = (found[0], found[found.len() - 1]);
    let other = if rival == "random" { "a random direction".to_owned() } else { view.words(rival) };
    if high < 1.05 {
        return format!("At every size, the {} along u₁ is about that along {other}", words::inline(key));
    }
    let range = match (number::significant(low, 2), number::significant(high, 2)) {
        (low, high) if low == high => format!("{high} times"),
        (low, high) => format!("{low} to {high} times"),
    };
    format!(
        "The gap is widest at {}: there, the {} along u₁ is {range} that along {other}",
        view.size(at),
        words::inline(key),
    )
}
