//! Histograms of every score, models overlaid, one small panel a score.

use super::{Headline, Section, legend, stroke};
use crate::report::figure::{Axis, Figure, Ink, Mark, Panel, Plot, Scale, Steps, Table, Width, bins, number, shares};
use crate::report::stats::Summary;
use crate::report::study::{Arm, Named, Study};
use crate::report::words;

const BINS: usize = 24;

/// All scores that the files hold.
pub fn section(study: &Study) -> Option<Section> {
    let arms: Vec<(usize, &Arm)> = study.arms.iter().enumerate().filter(|(_, a)| a.scores.is_some()).collect();
    let mut names: Vec<&str> = Vec::new();
    for (_, arm) in &arms {
        for column in arm.scores.iter().flat_map(|s| &s.columns) {
            if !names.contains(&column.name.as_str()) {
                names.push(&column.name);
            }
        }
    }
    names.sort_by_key(|n| words::order(n));
    let mut table = Table::new(&["score", "model", "bin_low", "bin_high", "share"]);
    let mut panels = Vec::new();
    let mut missing = Vec::new();
    for name in &names {
        let columns: Vec<(usize, &str, &[f64])> =
            arms.iter().filter_map(|(i, a)| Some((*i, a.name.as_str(), a.scores.as_ref()?.column(name)?))).collect();
        for (_, model, values) in &columns {
            let undefined = Summary::of(values).undefined;
            if undefined > 0 {
                missing.push(format!(
                    "{} of {} images have no {} under {model}",
                    number::count(undefined),
                    number::count(values.len()),
                    words::inline(name)
                ));
            }
        }
        match panel(name, &columns, &mut table) {
            Some(panel) => panels.push(panel),
            None => missing.push(format!("no image has a finite {}", words::inline(name))),
        }
    }
    if panels.is_empty() {
        return None;
    }
    let missing = if missing.is_empty() { String::new() } else { format!(" Not drawn: {}.", missing.join("; ")) };
    let plain: Vec<&Arm> = arms.iter().map(|(_, a)| *a).collect();
    let place = |arm: &Arm| arms.iter().find(|(_, a)| a.name == arm.name).map_or(0, |(i, _)| *i);
    let figure = Figure {
        id: "scores-histograms".to_owned(),
        title: finding(&plain),
        caption: format!("Share of the images in each bin; triangles mark medians.{missing}{}", errors(&plain)),
        legend: legend(&plain, place),
        panels,
        width: Width::Small,
        table,
        ..Figure::default()
    };
    let mut section = Section {
        id: "scores",
        title: "Scores",
        intro: "Each score sums up one image's spectrum in a number.".to_owned(),
        ..Section::default()
    };
    section.add(figure, Headline::Yes);
    section.filled()
}

/// How exact estimated scores are: the standard error of the median image, where it has one above zero.
fn errors(arms: &[&Arm]) -> String {
    let mut told = Vec::new();
    for arm in arms {
        let known = |e: &Named| Some(Summary::of(&e.values).median).filter(|median| *median > 0.0);
        let scores = arm.scores.iter().flat_map(|s| &s.errors);
        let parts: Vec<String> =
            scores.filter_map(|e| Some(format!("{} {}", words::inline(&e.name), number::short(known(e)?)))).collect();
        if !parts.is_empty() {
            told.push(format!("{} ({})", words::list(&parts), arm.name));
        }
    }
    if told.is_empty() {
        return String::new();
    }
    format!(" Estimated from a part of each spectrum, with a standard error, in the median, of {}.", told.join("; "))
}

/// Histograms of the score called `name`; `None` where no value can be shown.
fn panel(name: &str, columns: &[(usize, &str, &[f64])], table: &mut Table) -> Option<Panel> {
    let pooled: Vec<f64> = columns.iter().flat_map(|(_, _, v)| v.iter().copied()).collect();
    let scale = words::scale(name, &pooled);
    let edges = bins(&pooled, scale == Scale::Log, BINS);
    if edges.len() < 2 {
        return None;
    }
    let heights: Vec<Vec<f64>> = columns.iter().map(|(_, _, v)| shares(v, &edges)).collect();
    for ((_, model, _), heights) in columns.iter().zip(&heights) {
        for (pair, height) in edges.windows(2).zip(heights) {
            table.row([name.into(), (*model).into(), pair[0].into(), pair[1].into(), (*height).into()]);
        }
    }
    let tips = edges.windows(2).enumerate().map(|(bin, pair)| {
        let mut tip = format!("{} to {}", number::short(pair[0]), number::short(pair[1]));
        for ((_, model, _), heights) in columns.iter().zip(&heights) {
            tip.push_str(&format!("\n{model}: {:.1} %", 100.0 * heights[bin]));
        }
        tip
    });
    let zones = Mark::Zones { tips: tips.collect(), edges: edges.clone() };
    let steps = columns.iter().zip(&heights).map(|((ink, _, values), heights)| {
        let median = Summary::of(values).median;
        Mark::Steps(Steps {
            ink: Ink::Series(*ink),
            stroke: stroke(*ink),
            edges: edges.clone(),
            heights: heights.clone(),
            median: Some(median),
        })
    });
    let percent = heights.iter().flatten().copied();
    let mut y = Axis::fit("share of images", Scale::Linear, percent).from_zero();
    y.high = y.high.min(1.0);
    let x = Axis::fit(words::axis(name), scale, edges.iter().copied());
    let marks = steps.chain([zones]).collect();
    Some(Plot::new(words::title(name), x, y, marks).sized(320.0, 200.0).draw())
}

fn finding(arms: &[&Arm]) -> String {
    let radius = |arm: &Arm| {
        let scores = arm.scores.as_ref()?;
        Some(Summary::of(scores.column("spectral_radius")?).median)
    };
    let entropy = |arm: &Arm| {
        let scores = arm.scores.as_ref()?;
        Some(Summary::of(scores.column("von_neumann_entropy")?).median)
    };
    let all: Vec<(String, f64)> = arms.iter().filter_map(|a| Some((a.name.clone(), radius(a)?))).collect();
    match all.as_slice() {
        [] => "Scores of the spectra".to_owned(),
        [(_, value)] => match arms.first().and_then(|a| entropy(a)) {
            Some(entropy) => format!(
                "The median image has spectral radius {} and entropy {} nats",
                number::short(*value),
                number::short(entropy)
            ),
            None => format!("The median image has spectral radius {}", number::short(*value)),
        },
        several => {
            let parts: Vec<String> =
                several.iter().map(|(name, value)| format!("{} for {name}", number::short(*value))).collect();
            format!("Median spectral radius: {}", words::list(&parts))
        }
    }
}
