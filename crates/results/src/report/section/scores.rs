//! Histograms of every score with the models overlaid, one small panel for each score.

use super::histogram::{Bins, Column};
use super::{Facet, Section, each, facets, legend};
use crate::report::figure::{Axis, AxisScale, Figure, Ink, Marker, Panel, Plot, Stroke, Table, Width, number};
use crate::report::stats::Quartiles;
use crate::report::study::{Named, Scores, Study};
use crate::report::words;

const BINS: usize = 24;

/// All scores in the files, one figure for each facet.
pub fn section(study: &Study) -> Option<Section> {
    let mut section = Section {
        id: "scores",
        title: "Scores",
        intro: "Each score sums up one image's spectrum in a number.".to_owned(),
        ..Section::default()
    };
    for facet in facets(study) {
        if let Some(figure) = figure(&facet) {
            section.add(figure, facet.headline);
        }
    }
    section.filled()
}

fn figure(facet: &Facet<'_>) -> Option<Figure> {
    let mut names: Vec<&str> = Vec::new();
    for column in facet.subjects.iter().flat_map(|(_, _, s)| &s.columns) {
        if !names.contains(&column.name.as_str()) {
            names.push(&column.name);
        }
    }
    names.sort_by_key(|n| words::order(n));
    let mut table = Table::new(&["score", "model", "metric", "bin_low", "bin_high", "share"]);
    let mut panels = Vec::new();
    let mut missing = Vec::new();
    for name in &names {
        let mut columns = Vec::new();
        for (i, subject, scores) in &facet.subjects {
            let Some(values) = scores.column(name) else { continue };
            let (ink, stroke) = (Ink::Series(*i), Stroke::series(*i));
            columns.push(Column { ink, stroke, name: subject.name.clone(), values });
        }
        for Column { name: model, values, .. } in &columns {
            let undefined = Quartiles::of(values).undefined;
            if undefined > 0 {
                missing.push(format!(
                    "{} of {} images have no {} under {model}",
                    number::count(undefined),
                    number::count(values.len()),
                    words::inline(name)
                ));
            }
        }
        match panel(name, facet.name, &columns, &mut table) {
            Some(panel) => panels.push(panel),
            None => missing.push(format!("no image has a finite {}", words::inline(name))),
        }
    }
    if panels.is_empty() {
        return None;
    }
    let missing = if missing.is_empty() { String::new() } else { format!(" Not drawn: {}.", missing.join("; ")) };
    Some(Figure {
        id: format!("scores-histograms{}", facet.anchor),
        title: format!("{}{}", finding(facet), facet.suffix),
        caption: format!("Share of the images in each bin; triangles mark medians.{missing}{}", errors(facet)),
        legend: legend(facet.subjects.iter().map(|(i, subject, _)| (*i, subject.name.clone())), |_| Marker::None),
        panels,
        width: Width::Small,
        table,
        ..Figure::default()
    })
}

/// The accuracy of estimated scores: the standard error of the median image, if it is above zero.
fn errors(facet: &Facet<'_>) -> String {
    let mut told = Vec::new();
    for (_, subject, own) in &facet.subjects {
        let known = |e: &Named| Some(Quartiles::of(&e.values).median).filter(|median| *median > 0.0);
        let parts: Vec<String> = own
            .errors
            .iter()
            .filter_map(|e| Some(format!("{} {}", words::inline(&e.name), number::short(known(e)?))))
            .collect();
        if !parts.is_empty() {
            told.push(format!("{} ({})", words::list(&parts), subject.name));
        }
    }
    if told.is_empty() {
        return String::new();
    }
    format!(" Estimated from a part of each spectrum, with a standard error, in the median, of {}.", told.join("; "))
}

/// Histograms of the score called `name`; `None` if no value can be shown.
fn panel(name: &str, metric: &str, columns: &[Column<'_>], table: &mut Table) -> Option<Panel> {
    let pooled: Vec<f64> = columns.iter().flat_map(|c| c.values.iter().copied()).collect();
    let bins = Bins::over(name, &pooled, BINS)?;
    let (marks, tallest) = bins.marks(columns, |at, pair, height| {
        let bin = [pair[0].into(), pair[1].into(), height.into()];
        table.row([name.into(), (&columns[at].name).into(), metric.into()].into_iter().chain(bin));
    });
    let mut y = Axis::fit("share of images", AxisScale::Linear, [0.0, tallest]).from_zero();
    y.high = y.high.min(1.0);
    let x = Axis::fit(words::axis(name), bins.scale, bins.edges.iter().copied());
    Some(Plot::new(words::title(name), x, y, marks).sized(320.0, 200.0).draw())
}

fn finding(facet: &Facet<'_>) -> String {
    let median = |scores: &Scores, name: &str| Some(Quartiles::of(scores.column(name)?).median);
    let radii: Vec<(&str, f64)> =
        facet.subjects.iter().filter_map(|(_, a, s)| Some((a.name.as_str(), median(s, "spectral_radius")?))).collect();
    match radii.as_slice() {
        [] => "Scores of the spectra".to_owned(),
        [(_, value)] => match facet.subjects.first().and_then(|(_, _, s)| median(s, "von_neumann_entropy")) {
            Some(entropy) => format!(
                "The median image has spectral radius {} and entropy {} nats",
                number::short(*value),
                number::short(entropy)
            ),
            None => format!("The median image has spectral radius {}", number::short(*value)),
        },
        several => format!("Median spectral radius: {}", each(several)),
    }
}
