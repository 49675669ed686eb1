//! The trade-off: clean reconstruction error against damage, one point for each beta, joined in the order of beta.

use super::trend::first_attack;
use super::view::{Arm, View, beta_words};
use crate::report::figure::{Axis, AxisScale, Curve, Figure, Mark, Marker, Panel, Plot, Point, number};
use crate::report::load::evenly;
use crate::report::section::{spread_row, spread_table};
use crate::report::stats::Quartiles;
use crate::report::study::SweepPoint;
use crate::report::words;

/// The error that training keeps small, without an attack and under one.
pub(super) const ERROR: &str = "recon_mse";
/// Measures of damage.
const DAMAGE: [&str; 3] = [ERROR, "recon_shift", "latent_l2"];
/// The number of sizes for which damage is drawn.
const SIZES: usize = 3;

/// The strongest attack of the sweep.
pub(super) fn attack<'a>(view: &View<'a>) -> &'a str {
    let strong = view.attacks().iter().filter(|a| ["suite", "race", "pgd"].contains(&a.name.as_str()));
    strong.min_by_key(|a| words::strength(&a.name)).map_or_else(|| first_attack(view), |a| a.name.as_str())
}

/// Positions of a few sizes: the smaller half would only repeat the clean errors.
pub(super) fn sizes(view: &View<'_>) -> Vec<usize> {
    let (count, skipped) = (view.sweep.eps.len(), view.sweep.eps.len() / 2);
    evenly(count - skipped, SIZES).into_iter().map(|at| at + skipped).collect()
}

/// One panel for each measure and size.
pub(super) fn figure(view: &View<'_>) -> Option<Figure> {
    let arms = view.arms();
    let (attack, sizes) = (attack(view), sizes(view));
    let middle = *sizes.get(sizes.len() / 2)?;
    let mut table = spread_table(&["measure", "attack", "eps", "mixup", "beta"]);
    let mut panels = Vec::new();
    for key in DAMAGE {
        for at in &sizes {
            let eps = view.sweep.eps.get(*at).copied().unwrap_or(f64::NAN);
            let title = format!("{}, {}", words::title(key), view.size(*at));
            panels.extend(panel(&arms, attack, key, *at, title, |arm, p, clean, damage| {
                for (attack, eps, key, s) in [("", f64::NAN, ERROR, clean), (attack, eps, key, damage)] {
                    table
                        .row(spread_row([key.into(), attack.into(), eps.into(), (&arm.name).into(), p.beta.into()], s));
                }
            }));
        }
    }
    // The clean error appears once, although it is in several panels.
    let mut seen = std::collections::HashSet::new();
    table.rows.retain(|row| seen.insert(format!("{row:?}")));
    Some(Figure {
        id: view.id("trade-off"),
        title: format!("{}{}", finding(view, attack, middle), view.suffix()),
        caption: format!(
            "Each point is a model: its median reconstruction error without attack, and its median damage by {}. Lower \
             left is better. Numbers at points are β.",
            view.words(attack),
        ),
        legend: super::view::legend(&arms),
        panels,
        table,
        ..Figure::default()
    })
}

/// One panel: clean error horizontally, and vertically the measure `key` under `attack` at the size `at`. `note` gets every point.
pub(super) fn panel(
    arms: &[Arm<'_>],
    attack: &str,
    key: &str,
    at: usize,
    title: String,
    mut note: impl FnMut(&Arm<'_>, &SweepPoint, &Quartiles, &Quartiles),
) -> Option<Panel> {
    let mut marks = Vec::new();
    let (mut xs, mut ys) = (Vec::new(), Vec::new());
    for (i, arm) in arms.iter().enumerate() {
        let noted = evenly(arm.points.len(), 4);
        let mut points = Vec::new();
        for (k, p) in arm.points.iter().enumerate() {
            let (Some(clean), Some(damage)) = (p.clean(ERROR), p.measure(attack, key).and_then(|m| m.get(at))) else {
                continue;
            };
            note(arm, p, clean, damage);
            let (x, y) = (clean.median, damage.median);
            xs.push(x);
            ys.push(y);
            let tip = format!(
                "{}, {}\nclean error {}\n{} {}",
                arm.name,
                beta_words(p),
                number::short(x),
                words::inline(key),
                number::short(y)
            );
            let note = noted.contains(&k).then(|| number::plain(p.beta));
            points.push(Point { x, y, tip, note, band: None });
        }
        let marker = Marker::nth(i);
        marks.push(Mark::Curve(Curve { ink: arm.ink, stroke: arm.stroke, marker, label: String::new(), points }));
    }
    if xs.is_empty() {
        return None;
    }
    let x = Axis::fit("clean reconstruction error (mean square)", AxisScale::Linear, xs);
    let y = Axis::fit(words::axis(key), AxisScale::suiting(ys.iter().copied(), 1.3), ys);
    Some(Plot::new(title, x, y, marks).draw())
}

/// For each arm, the number of models that no other model beats in both respects.
fn finding(view: &View<'_>, attack: &str, at: usize) -> String {
    let place = |p: &SweepPoint| Some((p.clean(ERROR)?.median, p.measure(attack, ERROR)?.get(at)?.median));
    let all: Vec<(f64, f64)> = view.sweep.points.iter().filter_map(place).collect();
    let beaten = |(x, y): (f64, f64)| all.iter().any(|(a, b)| *a <= x && *b <= y && (*a < x || *b < y));
    let arms = view.arms();
    let parts: Vec<String> = arms
        .iter()
        .map(|arm| {
            let free = arm.points.iter().filter_map(|p| place(p)).filter(|p| !beaten(*p)).count();
            format!("{free} of {} {}", arm.points.len(), arm.with)
        })
        .collect();
    if all.is_empty() || arms.len() < 2 {
        return "Clean error against damage".to_owned();
    }
    format!(
        "Unbeaten in both clean error and error under attack ({}, {}): {}",
        view.words(attack),
        view.size(at),
        words::list(&parts)
    )
}
