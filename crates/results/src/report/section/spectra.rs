//! Eigenvalue curves: the median of each eigenvalue over the images, with its quartiles.

use super::eigen::{BELOW, Spectra};
use super::{Facet, Section, each_in, facets, spread_point};
use crate::report::figure::{Axis, AxisScale, Curve, Figure, Ink, Mark, Marker, Plot, Point, Stroke, Table, number};
use crate::report::stats::Quartiles;
use crate::report::study::{Matrix, Study};

/// One figure for each facet: the spectra of all models in one panel, and the share of the sensitivity in the first directions in another.
pub fn section(study: &Study) -> Option<Section> {
    let mut section = Section {
        id: "spectra",
        title: "Spectra",
        intro: "The pullback metric says how much each small change of an input changes its code. Its eigenvalues \
                are the squared stretches along its own directions: one that towers over the others is a weakness."
            .to_owned(),
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
    let subjects: Vec<(usize, &str, &Matrix)> = facet
        .subjects
        .iter()
        .filter_map(|(i, a, s)| Some((*i, a.name.as_str(), s.eigenvalues.as_ref()?)))
        .filter(|(_, _, m)| m.width > 0 && !m.values.is_empty())
        .collect();
    if subjects.is_empty() {
        return None;
    }
    let mut table = Table::new(&[
        "model",
        "metric",
        "i",
        "samples",
        "undefined",
        "mean",
        "q25",
        "median",
        "q75",
        "cumulative_share_q25",
        "cumulative_share_median",
        "cumulative_share_q75",
    ]);
    let mut spectra = Spectra::default();
    let mut values = Vec::new();
    let mut shares = Vec::new();
    let mut halves = Vec::new();
    for (i, name, matrix) in &subjects {
        let running = cumulative(matrix);
        let curve = |points: Vec<Point>| {
            Mark::Curve(Curve {
                ink: Ink::Series(*i),
                stroke: Stroke::series(*i),
                marker: if matrix.width <= 20 { Marker::series(*i) } else { Marker::None },
                label: if subjects.len() > 1 { (*name).to_owned() } else { String::new() },
                points,
            })
        };
        let summaries: Vec<Quartiles> = (0..matrix.width).map(|k| Quartiles::of(&matrix.column(k))).collect();
        let mut of_share = Vec::new();
        let mut half = None;
        for (k, value) in summaries.iter().enumerate() {
            let share = Quartiles::of(&running.column(k));
            let words =
                format!("{name}\nfirst {} of {}: {} of the trace", k + 1, matrix.width, number::percent(share.median));
            of_share.push(spread_point((k + 1) as f64, &share, words));
            if share.median >= 0.5 && half.is_none() {
                half = Some(k + 1);
            }
            table.row([
                (*name).into(),
                facet.name.into(),
                (k + 1).into(),
                value.count.into(),
                value.undefined.into(),
                value.mean.into(),
                value.low.into(),
                value.median.into(),
                value.high.into(),
                share.low.into(),
                share.median.into(),
                share.high.into(),
            ]);
        }
        halves.extend(half.map(|k| (*name, k, matrix.width)));
        values.push(curve(spectra.points(name, &summaries)));
        shares.push(curve(of_share));
    }
    let spectrum = Plot::new("Eigenvalues", spectra.ranks(), spectra.values(), values);
    let share = Plot::new(
        "Share of the trace in the first i",
        spectra.ranks(),
        Axis::between("cumulative share", AxisScale::Linear, 0.0, 1.0),
        shares,
    );
    Some(Figure {
        id: format!("spectra-eigenvalues{}", facet.anchor),
        title: format!("{}{}", finding(&halves), facet.suffix),
        caption: format!(
            "Eigenvalues of the pullback metric, largest first, and the part of their sum that the first i hold: \
             median over the images (line) and middle half (band).{}",
            if spectra.is_cut() { BELOW } else { "" }
        ),
        panels: vec![spectrum.draw(), share.draw()],
        table,
        ..Figure::default()
    })
}

/// Running sums of each row as shares of its total; NaN if the total is zero.
fn cumulative(matrix: &Matrix) -> Matrix {
    let rows = matrix.rows().flat_map(|row| {
        let total: f64 = row.iter().sum();
        let mut sum = 0.0;
        row.iter()
            .map(move |v| {
                sum += v;
                if total > 0.0 { sum / total } else { f64::NAN }
            })
            .collect::<Vec<_>>()
    });
    Matrix { width: matrix.width, values: rows.collect() }
}

fn finding(halves: &[(&str, usize, usize)]) -> String {
    match halves {
        [] => "The spectra".to_owned(),
        [(_, k, width)] => format!("Half of the sensitivity lies in {k} of {width} directions"),
        [(_, k, width), rest @ ..] if rest.iter().all(|r| (r.1, r.2) == (*k, *width)) => {
            format!("In every model, half of the sensitivity lies in {k} of {width} directions")
        }
        several => {
            let counts: Vec<(&str, f64)> = several.iter().map(|(name, k, _)| (*name, *k as f64)).collect();
            let width = |name: &str| several.iter().find(|h| h.0 == name).map_or(0, |h| h.2);
            let words = each_in(&counts, |name, k| format!("{k} of {}", width(name)));
            format!("Directions that hold half of the sensitivity: {words}")
        }
    }
}
