//! Scores and damage against beta, and the scores' histograms at a few betas.

use super::view::{Arm, View, beta_keys, beta_words, ways};
use crate::report::figure::{Axis, AxisScale, Figure, Panel, Plot, Stroke, Table, Width, number};
use crate::report::load::evenly;
use crate::report::section::Headline;
use crate::report::section::histogram::{Bins, Column};
use crate::report::section::{spread_point, spread_row, spread_table, spread_words, times};
use crate::report::stats::{Quartiles, spearman};
use crate::report::study::SweepPoint;
use crate::report::words;

/// Scores drawn against beta; the paper's two scores come first.
const SCORES: [&str; 7] = [
    "spectral_radius",
    "von_neumann_entropy",
    "singular.entropy_maxnorm",
    "entropy_maxnorm",
    "trace",
    "effective_rank",
    "anisotropy",
];
/// The scores of further metrics, `<metric>.<score>`, that are drawn.
const FURTHER: [&str; 2] = [".spectral_radius", ".von_neumann_entropy"];
/// Scores whose histograms are drawn.
const SPREAD: [&str; 2] = ["spectral_radius", "von_neumann_entropy"];
/// Damage drawn against beta.
const DAMAGE: [&str; 3] = ["recon_mse", "recon_shift", "latent_l2"];
/// The number of sizes for which damage is drawn against beta.
const SIZES: usize = 3;

/// Every score against beta: medians with quartiles.
pub(super) fn scores(view: &View<'_>) -> Vec<(Figure, Headline)> {
    let arms = view.arms();
    let mut table = spread_table(&["score", "mixup", "beta"]);
    let mut panels = Vec::new();
    let held = view.sweep.points.first().map_or(&[][..], |p| p.scores.as_slice());
    let is_further = |n: &&str| FURTHER.iter().any(|f| n.ends_with(f)) && !n.contains("singular.");
    let further = held.iter().map(|c| c.name.as_str()).filter(is_further);
    for name in SCORES.into_iter().chain(further) {
        let of = |p: &SweepPoint| p.score(name).map(Quartiles::of);
        panels.extend(against_beta(view, &arms, &words::title(name), name, of, |arm, p, s| {
            table.row(spread_row([name.into(), (&arm.name).into(), p.beta.into()], s));
        }));
    }
    let title = trend_words(&arms, "spectral_radius", "λ₁");
    vec![(
        Figure {
            id: view.id("scores"),
            title,
            caption: "Median over the images of each model (line) and middle half (band), against β.".to_owned(),
            panels,
            table,
            ..Figure::default()
        },
        Headline::Yes,
    )]
}

/// One panel: one curve for each arm against beta.
pub(super) fn against_beta(
    view: &View<'_>,
    arms: &[Arm<'_>],
    title: &str,
    key: &str,
    of: impl Fn(&SweepPoint) -> Option<Quartiles>,
    mut note: impl FnMut(&Arm<'_>, &SweepPoint, &Quartiles),
) -> Option<Panel> {
    let mut seen = Vec::new();
    let mut marks = Vec::new();
    for arm in arms {
        let mut points = Vec::new();
        for point in &arm.points {
            let Some(summary) = of(point) else { continue };
            note(arm, point, &summary);
            seen.extend([summary.low, summary.median, summary.high]);
            let tip = format!("{}, {}\n{}", arm.name, beta_words(point), spread_words(&summary));
            points.push(spread_point(point.beta, &summary, tip));
        }
        if points.is_empty() {
            continue;
        }
        marks.push(arm.curve(points, arms.len() > 1));
    }
    if marks.is_empty() {
        return None;
    }
    let y = Axis::fit(words::axis(key), words::scale(key, &seen), seen).from_zero();
    Some(Plot::new(title, view.beta_axis(), y, marks).draw())
}

/// How a score's median changes with beta, for each arm.
fn trend_words(arms: &[Arm<'_>], name: &str, symbol: &str) -> String {
    let parts: Vec<String> = arms
        .iter()
        .filter_map(|arm| {
            let medians: Vec<f64> =
                arm.points.iter().filter_map(|p| Some(Quartiles::of(p.score(name)?).median)).collect();
            let betas: Vec<f64> = arm.points.iter().map(|p| p.beta).collect();
            let (first, last) = (medians.first()?, medians.last()?);
            let rho = spearman(&betas, &medians);
            if !(first / last).is_finite() || medians.len() < 2 {
                return None;
            }
            let (verb, factor) = if last < first { ("falls", first / last) } else { ("rises", last / first) };
            let way = match factor {
                small if small < 1.05 => "hardly changes".to_owned(),
                factor => format!("{verb} {}", times(factor).replace(" times", "-fold")),
            };
            let rho = if rho.is_finite() {
                format!(" (rank correlation {rho:.2})").replace('-', "−")
            } else {
                String::new()
            };
            let arm = if arms.len() > 1 { format!(" {}", arm.with) } else { String::new() };
            Some(format!("{way}{arm}{rho}"))
        })
        .collect();
    if parts.is_empty() {
        return "Scores against β".to_owned();
    }
    format!("From the smallest β to the largest, the median {symbol} {}", words::list(&parts))
}

/// Histograms at a few betas, one panel for each arm and score.
pub(super) fn histograms(view: &View<'_>) -> Vec<(Figure, Headline)> {
    let arms = view.arms();
    let mut table = Table::new(&["score", "mixup", "beta", "bin_low", "bin_high", "share"]);
    let mut panels = Vec::new();
    let mut keyed = Vec::new();
    for name in SPREAD {
        let all: Vec<f64> = arms
            .iter()
            .flat_map(|l| view.chosen(l))
            .filter_map(|(_, p)| p.score(name))
            .flat_map(|v| v.iter().copied())
            .collect();
        let Some(bins) = Bins::over(name, &all, 40) else { continue };
        let mut tallest = 0.0f64;
        let mut drawn = Vec::new();
        for arm in &arms {
            let mut columns = Vec::new();
            for (ink, point) in view.chosen(arm) {
                let Some(values) = point.score(name) else { continue };
                keyed.push((ink, point));
                columns.push((point.beta, Column { ink, stroke: Stroke::Solid, name: beta_words(point), values }));
            }
            let (betas, columns): (Vec<f64>, Vec<Column>) = columns.into_iter().unzip();
            let (marks, height) = bins.marks(&columns, |at, pair, height| {
                let bin = [pair[0].into(), pair[1].into(), height.into()];
                table.row([name.into(), (&arm.name).into(), betas[at].into()].into_iter().chain(bin));
            });
            tallest = tallest.max(height);
            drawn.push((arm.name.as_str(), marks));
        }
        for (arm, marks) in drawn {
            let mut y = Axis::fit("share of images", AxisScale::Linear, [0.0, tallest]).from_zero();
            y.high = y.high.min(1.0);
            let x = Axis::fit(words::axis(name), bins.scale, bins.edges.iter().copied());
            let title = if arms.len() > 1 { format!("{}, {arm}", words::title(name)) } else { words::title(name) };
            panels.push(Plot::new(title, x, y, marks).draw());
        }
    }
    vec![(
        Figure {
            id: view.id("histograms"),
            title: spread_title(&arms),
            caption: "Share of the images in each bin, for a few models; triangles mark medians.".to_owned(),
            legend: beta_keys(&keyed),
            panels,
            width: Width::Pairs,
            table,
            ..Figure::default()
        },
        Headline::No,
    )]
}

/// The middle half of the images at both ends of the first arm.
fn spread_title(arms: &[Arm<'_>]) -> String {
    let half = |p: &&SweepPoint| {
        let s = Quartiles::of(p.score("spectral_radius")?);
        Some(format!("{} to {} at {}", number::short(s.low), number::short(s.high), beta_words(p)))
    };
    let ends = arms.first().and_then(|l| Some((half(l.points.first()?)?, half(l.points.last()?)?)));
    match ends {
        Some((first, last)) => format!("The middle half of the images has λ₁ from {first}, and {last}"),
        None => "Scores over the images".to_owned(),
    }
}

/// Damage by the first direction against beta, one panel for each size.
pub(super) fn damage(view: &View<'_>) -> Vec<(Figure, Headline)> {
    let arms = view.arms();
    let attack = first_attack(view);
    let sizes = evenly(view.sweep.eps.len(), SIZES);
    DAMAGE
        .iter()
        .filter_map(|key| {
            let mut table = spread_table(&["attack", "eps", "mixup", "beta"]);
            let panels: Vec<Panel> = sizes
                .iter()
                .filter_map(|at| {
                    let of = |p: &SweepPoint| p.measure(attack, key)?.get(*at).copied();
                    let title = view.size(*at);
                    against_beta(view, &arms, &title, key, of, |arm, p, s| {
                        table.row(spread_row(
                            [attack.into(), view.sweep.eps[*at].into(), (&arm.name).into(), p.beta.into()],
                            s,
                        ));
                    })
                })
                .collect();
            let figure = Figure {
                id: view.id(&format!("damage-beta-{key}")),
                title: format!("{}{}", damage_words(view, &arms, attack, key, *sizes.last()?), view.suffix()),
                caption: format!(
                    "{} after a step along {}, against β: median over the images (line) and middle half (band), a \
                     panel a step size.",
                    words::title(key),
                    view.words(attack)
                ),
                panels,
                table,
                ..Figure::default()
            };
            Some((figure, if *key == "recon_mse" { Headline::Yes } else { Headline::No }))
        })
        .collect()
}

/// The attack whose damage is drawn: the first direction, otherwise the first attack.
pub(super) fn first_attack<'a>(view: &View<'a>) -> &'a str {
    let attacks = view.attacks();
    let named = attacks.iter().find(|a| a.direction == Some(1)).or_else(|| attacks.first());
    named.map_or("u1", |a| a.name.as_str())
}

fn damage_words(view: &View<'_>, arms: &[Arm<'_>], attack: &str, key: &str, at: usize) -> String {
    let of = |p: &SweepPoint| Some(number::short(p.measure(attack, key)?.get(at)?.median));
    let ways = ways(arms, of);
    if ways.is_empty() {
        return format!("{} against β", words::title(key));
    }
    format!(
        "With β, the {} after a step along {} ({}) {}",
        words::inline(key),
        view.words(attack),
        view.size(at),
        words::list(&ways)
    )
}
