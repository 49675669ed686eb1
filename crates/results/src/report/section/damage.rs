//! Damage by size of the attack: medians with their quartiles, one panel for each model, then the models compared.

use super::{Headline, Section, each, each_in, spread_point, spread_row, spread_table, spread_words, times};
use crate::report::figure::{Axis, AxisScale, Curve, Figure, Ink, Mark, Marker, Panel, Plot, Point, Stroke, number};
use crate::report::stats::Quartiles;
use crate::report::study::{Measure, Study, Subject, Trial};
use crate::report::words;

/// The measures that are drawn for each attack file that has them; the other measures are in the table of the overview.
const DRAWN: [&str; 4] = ["latent_l2", "latent_kl", "recon_shift", "recon_mse"];

/// One figure for each measure and norm.
pub fn section(study: &Study) -> Option<Section> {
    let mut section = Section {
        id: "damage",
        title: "Damage",
        intro: "A spectral attack moves each input along its most sensitive directions; a random one moves it \
                equally far in an arbitrary direction; PGD searches for the worst by gradient steps."
            .to_owned(),
        ..Section::default()
    };
    let mut kinds: Vec<Kind> = Vec::new();
    for kind in study.subjects.iter().flat_map(|a| &a.trials).map(Kind::of) {
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let mut told = Vec::new();
    for kind in &kinds {
        for key in DRAWN {
            if let Some(figure) = figure(study, kind, key, kinds.len() > 1) {
                // The page begins with the findings of the first measure of the code and the first of the picture.
                let part = key.split('_').next().unwrap_or(key);
                let first = !told.contains(&part);
                told.push(part);
                let id = figure.id.clone();
                section.add(figure, if first { Headline::Yes } else { Headline::No });
                // The effect on the picture is described where models are compared at a glance.
                if key == "latent_l2" {
                    section.findings.extend(comparison(study, kind, key).map(|words| (words, id)));
                }
            }
        }
    }
    section.filled()
}

/// Trials of one figure: those of one norm and, if models have several files of it, what distinguishes these.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Kind<'a> {
    norm: &'a str,
    label: &'a str,
}

impl<'a> Kind<'a> {
    fn of(trial: &'a Trial) -> Self {
        Self { norm: &trial.norm, label: &trial.label }
    }

    /// A subject's trial of this kind.
    fn trial<'b>(&self, subject: &'b Subject) -> Option<&'b Trial> {
        subject.trials.iter().find(|t| Kind::of(t) == *self)
    }

    /// What distinguishes this kind's figures from the others': in an anchor, and in words.
    fn suffix(&self) -> (String, String) {
        let norm = if self.norm.is_empty() { "norm-unknown" } else { self.norm };
        let letters = |c: char| if c.is_alphanumeric() { c } else { '-' };
        let (mut anchor, mut words) = (format!("-{norm}"), format!(", {}", words::norm_sign(norm)));
        if !self.label.is_empty() {
            anchor.push_str(&format!("-{}", self.label.chars().map(letters).collect::<String>()));
            words.push_str(&format!(", {}", self.label));
        }
        (anchor, words)
    }
}

/// One subject's trial of one kind.
struct Entry<'a> {
    ink: usize,
    subject: &'a Subject,
    trial: &'a Trial,
}

fn figure(study: &Study, kind: &Kind, key: &str, several: bool) -> Option<Figure> {
    let holds = |t: &&Trial| t.attacks.iter().any(|a| a.measure(key).is_some());
    let entries: Vec<Entry> = study
        .subjects
        .iter()
        .enumerate()
        .filter_map(|(ink, subject)| Some(Entry { ink, subject, trial: kind.trial(subject).filter(holds)? }))
        .collect();
    if entries.is_empty() {
        return None;
    }
    let mut table = spread_table(&["model", "attack", "eps"]);
    let mut eps: Vec<f64> = Vec::new();
    let mut seen = Vec::new();
    let mut curves: Vec<(usize, String, Curve)> = Vec::new();
    for entry in &entries {
        for outcome in &entry.trial.attacks {
            let Some(measure) = outcome.measure(key) else { continue };
            let name = words::attack(&outcome.name);
            let mut points: Vec<Point> = Vec::new();
            for (size, values) in entry.trial.eps.iter().zip(&measure.by_eps) {
                let summary = Quartiles::of(values);
                let tip =
                    format!("{}, {name}\nε = {}\n{}", entry.subject.name, number::plain(*size), spread_words(&summary));
                points.push(spread_point(*size, &summary, tip));
                seen.extend([summary.low, summary.median, summary.high]);
                if !eps.contains(size) {
                    eps.push(*size);
                }
                table.row(spread_row([(&entry.subject.name).into(), (&outcome.name).into(), (*size).into()], &summary));
            }
            let (marker, line) = style(&outcome.name);
            let curve = Curve { ink: Ink::Series(entry.ink), stroke: line, marker, label: name, points };
            curves.push((entry.ink, outcome.name.clone(), curve));
        }
    }
    eps.sort_by(f64::total_cmp);
    // Damage over decades would be invisible on a linear axis; a power law is a straight line on two logarithmic axes.
    let y_scale = AxisScale::suiting(seen.iter().copied(), 2.3);
    let x_scale = AxisScale::suiting(eps.iter().copied(), if y_scale == AxisScale::Log { 0.6 } else { 1.3 });
    let x = Axis::fit(words::size_axis(kind.norm), x_scale, eps.iter().copied());
    let y = Axis::fit(words::axis(key), y_scale, seen).from_zero();
    let ticks: Vec<(f64, String)> = eps.iter().map(|e| (*e, number::plain(*e))).collect();
    let plot = |title: &str, marks: Vec<Mark>| -> Panel {
        Plot::new(title, x.clone(), y.clone(), marks).x_ticks(ticks.clone()).draw()
    };
    let mut panels: Vec<Panel> = entries
        .iter()
        .map(|entry| {
            let own = curves.iter().filter(|(ink, _, _)| *ink == entry.ink);
            plot(&entry.subject.name, own.rev().map(|(_, _, c)| Mark::Curve(c.clone())).collect())
        })
        .collect();
    let strongest = strongest(&entries[0], key)?;
    let alike: Vec<usize> =
        entries.iter().filter(|e| entries[0].trial.asks_as(e.trial, &strongest)).map(|e| e.ink).collect();
    if alike.len() > 1 {
        let of_all = |(ink, attack, _): &&(usize, String, Curve)| *attack == strongest && alike.contains(ink);
        let compared = curves.iter().filter(of_all).map(|(ink, _, curve)| {
            let label = study.subjects[*ink].name.clone();
            Mark::Curve(Curve { label, stroke: Stroke::series(*ink), marker: Marker::series(*ink), ..curve.clone() })
        });
        let compared = plot(&format!("{} attack, models compared", words::attack(&strongest)), compared.collect());
        // If there are many models, their comparison comes before each single model.
        panels.insert(if entries.len() > 2 { 0 } else { panels.len() }, compared);
    }
    let (anchor, suffix) = if several { kind.suffix() } else { Default::default() };
    Some(Figure {
        id: format!("damage-{key}{anchor}"),
        title: format!("{}{suffix}", finding(&entries, key)),
        caption: format!(
            "{}: median over the images (line) and middle half (band), against the size of the attack{}.{}",
            words::title(key),
            if y.scale == AxisScale::Log { "; logarithmic scales" } else { "" },
            directions(&entries)
        ),
        panels,
        table,
        ..Figure::default()
    })
}

/// The metric whose directions the spectral steps took.
fn directions(entries: &[Entry]) -> String {
    let mut taken: Vec<(&str, Vec<String>)> = Vec::new();
    for entry in entries.iter().filter(|e| e.trial.is_directed() && !e.trial.metric.is_empty()) {
        let metric = entry.trial.metric.as_str();
        match taken.iter_mut().find(|t| t.0 == metric) {
            Some(known) => known.1.push(entry.subject.name.clone()),
            None => taken.push((metric, vec![entry.subject.name.clone()])),
        }
    }
    match taken.as_slice() {
        [] => String::new(),
        [(metric, _)] => format!(" Spectral steps take the directions of the {metric} metric."),
        several => {
            let each = |(metric, names): &(&str, Vec<String>)| format!("the {metric} metric ({})", words::list(names));
            format!(
                " Spectral steps take the directions of {}.",
                words::list(&several.iter().map(each).collect::<Vec<_>>())
            )
        }
    }
}

fn style(attack: &str) -> (Marker, Stroke) {
    match attack {
        "random" => (Marker::Ring, Stroke::Dotted),
        "pgd" | "race" | "suite" => (Marker::Square, Stroke::Dashed),
        other => (Marker::nth(words::direction(other).map_or(0, |k| k.saturating_sub(1))), Stroke::Solid),
    }
}

/// The spectral attack if there is one, otherwise the first.
fn strongest(entry: &Entry, key: &str) -> Option<String> {
    let held = || entry.trial.attacks.iter().filter(|a| a.measure(key).is_some());
    let named = held().find(|a| a.name == "spectral");
    named.or_else(|| held().next()).map(|a| a.name.clone())
}

/// Model against model, under the strongest attack that all were asked for alike, at the largest size that all have.
fn comparison(study: &Study, kind: &Kind, key: &str) -> Option<String> {
    let trials: Vec<(&str, &Trial)> =
        study.subjects.iter().filter_map(|a| Some((a.name.as_str(), kind.trial(a)?))).collect();
    let (_, first) = trials.first().filter(|_| trials.len() > 1)?;
    let attack = ["suite", "race", "pgd", "spectral"].into_iter().find(|a| {
        trials.iter().all(|(_, t)| first.asks_as(t, a) && t.attack(a).is_some_and(|o| o.measure(key).is_some()))
    })?;
    let eps = first
        .eps
        .iter()
        .copied()
        .filter(|e| trials.iter().all(|(_, t)| t.eps.contains(e)))
        .fold(f64::NEG_INFINITY, f64::max);
    let medians: Option<Vec<(&str, f64)>> = trials
        .iter()
        .map(|(name, trial)| {
            let at = trial.eps.iter().position(|e| *e == eps)?;
            Some((*name, Quartiles::of(trial.attack(attack)?.measure(key)?.by_eps.get(at)?).median))
        })
        .collect();
    Some(format!(
        "{} under the {} attack at ε\u{a0}=\u{a0}{}: {}",
        words::title(key),
        words::attack(attack),
        number::plain(eps),
        each(&medians?)
    ))
}

/// What the medians show: spectral against random if both exist, otherwise model against model.
fn finding(entries: &[Entry], key: &str) -> String {
    let both: Vec<(&Entry, [&Measure; 2])> = entries
        .iter()
        .filter_map(|e| {
            let of = |name: &str| e.trial.attack(name)?.measure(key);
            Some((e, [of("spectral")?, of("random")?]))
        })
        .collect();
    // The middle one of the sizes that all have; if there is none, each has its own.
    let common: Vec<f64> = both.first().map_or(vec![], |(first, _)| {
        let held = |eps: &f64| both.iter().all(|(e, _)| e.trial.eps.contains(eps));
        first.trial.eps.iter().copied().filter(held).collect()
    });
    let size = |entry: &Entry| {
        let own = &entry.trial.eps;
        let sizes = if common.is_empty() { own } else { &common };
        sizes.get(sizes.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let ratio = |(entry, measures): &(&Entry, [&Measure; 2])| -> Option<(f64, f64)> {
        let at = entry.trial.eps.iter().position(|e| *e == size(entry))?;
        let [spectral, random] = measures.map(|m| m.by_eps.get(at).map(|v| Quartiles::of(v).median));
        Some((size(entry), spectral? / random?)).filter(|(_, ratio)| ratio.is_finite())
    };
    let named: Vec<(&str, f64, f64)> = both
        .iter()
        .filter_map(|pair| ratio(pair).map(|(size, ratio)| (pair.0.subject.name.as_str(), size, ratio)))
        .collect();
    let ratios: Vec<f64> = named.iter().map(|(_, _, ratio)| *ratio).collect();
    let low = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let high = ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if ratios.is_empty() {
        return format!("{} against size", words::title(key));
    }
    let range = if number::significant(low, 2) == number::significant(high, 2) {
        times(high)
    } else {
        format!("{} to {}", number::significant(low, 2), times(high))
    };
    let sizes: Vec<(&str, f64)> = named.iter().map(|(name, size, _)| (*name, *size)).collect();
    let at = match sizes.as_slice() {
        [(_, size), others @ ..] if others.iter().all(|(_, other)| other == size) => number::plain(*size),
        several => each_in(several, |_, size| number::plain(size)),
    };
    let tail = format!("a random one of the same size (ε\u{a0}=\u{a0}{at})");
    let none = high < 1.02;
    match key {
        "latent_l2" if none => format!("A spectral step moves the code no farther than {tail}"),
        "latent_l2" => format!("A spectral step moves the code {range} as far as {tail}"),
        "latent_kl" => format!("A spectral step changes the posterior {range} as much (KL) as {tail}"),
        "recon_shift" => format!("A spectral step changes the reconstruction {range} as much (mean square) as {tail}"),
        _ => format!("A spectral step leaves {range} the reconstruction error of {tail}"),
    }
}
