//! Eigenvalue curves: the median of each eigenvalue over the images, with its quartiles.

use super::{Headline, Section, spread_point, spread_words, stroke};
use crate::report::figure::{Axis, Curve, Figure, Ink, Mark, Marker, Plot, Point, Scale, Table, number};
use crate::report::stats::Summary;
use crate::report::study::{Matrix, Study};

/// Eigenvalues this far below the largest are drawn at the lower edge: they would squeeze all others.
const DEPTH: f64 = 1e-7;

/// Spectra of all models in one panel, and what share of the sensitivity the first directions hold in another.
pub fn section(study: &Study) -> Option<Section> {
    let arms: Vec<(usize, &str, &Matrix)> = study
        .arms
        .iter()
        .enumerate()
        .filter_map(|(i, a)| Some((i, a.name.as_str(), a.scores.as_ref()?.eigenvalues.as_ref()?)))
        .filter(|(_, _, m)| m.width > 0 && !m.values.is_empty())
        .collect();
    if arms.is_empty() {
        return None;
    }
    let mut table = Table::new(&[
        "model",
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
    let mut largest = 0.0f64;
    let mut seen = Vec::new();
    let mut values = Vec::new();
    let mut shares = Vec::new();
    let mut halves = Vec::new();
    for (i, name, matrix) in &arms {
        let running = cumulative(matrix);
        let curve = |points: Vec<Point>| {
            Mark::Curve(Curve {
                ink: Ink::Series(*i),
                stroke: stroke(*i),
                marker: if matrix.width <= 20 { Marker::Disc } else { Marker::None },
                label: if arms.len() > 1 { (*name).to_owned() } else { String::new() },
                points,
            })
        };
        let (mut of_value, mut of_share) = (Vec::new(), Vec::new());
        let mut half = None;
        for k in 0..matrix.width {
            let (value, share) = (Summary::of(&matrix.column(k)), Summary::of(&running.column(k)));
            let at = (k + 1) as f64;
            let head = |symbol: &str| format!("{name}\n{symbol}{}", number::subscript(k + 1));
            of_value.push(spread_point(at, &value, format!("{} = {}", head("λ"), spread_words(&value))));
            let words =
                format!("{name}\nfirst {} of {}: {} of the trace", k + 1, matrix.width, number::percent(share.median));
            of_share.push(spread_point(at, &share, words));
            if share.median >= 0.5 && half.is_none() {
                half = Some(k + 1);
            }
            largest = largest.max(value.high);
            seen.extend([value.low, value.high]);
            table.row([
                (*name).into(),
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
        values.push(curve(of_value));
        shares.push(curve(of_share));
    }
    let below = seen.iter().any(|v| *v < largest * DEPTH);
    let widest = arms.iter().map(|(_, _, m)| m.width).max().unwrap_or(1) as f64;
    let x = || Axis {
        label: "i, from the most sensitive direction".to_owned(),
        scale: Scale::Linear,
        low: 0.5,
        high: widest + 0.5,
    };
    let spectrum = Plot::new(
        "Eigenvalues",
        x(),
        Axis::fit("λᵢ", Scale::Log, seen.iter().copied()).raised_to(largest * DEPTH),
        values,
    );
    let share = Plot::new(
        "Share of the trace in the first i",
        x(),
        Axis { label: "cumulative share".to_owned(), scale: Scale::Linear, low: 0.0, high: 1.0 },
        shares,
    );
    let note = if below { " Values below 10⁻⁷ of the largest lie on the lower edge." } else { "" };
    let figure = Figure {
        id: "spectra-eigenvalues".to_owned(),
        title: finding(&halves),
        caption: format!(
            "Eigenvalues of the pullback metric, largest first, and the part of their sum that the first i hold: \
             median over the images (line) and middle half (band).{note}"
        ),
        panels: vec![spectrum.draw(), share.draw()],
        table,
        ..Figure::default()
    };
    let mut section = Section {
        id: "spectra",
        title: "Spectra",
        intro: "The pullback metric says how much each small change of an input changes its code. Its eigenvalues \
                are the squared stretches along its own directions: one that towers over the others is a weakness."
            .to_owned(),
        ..Section::default()
    };
    section.add(figure, Headline::Yes);
    section.filled()
}

/// Running sums of each row as shares of its total; NaN where the total is zero.
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
            let parts: Vec<String> =
                several.iter().map(|(name, k, width)| format!("{k} of {width} directions for {name}")).collect();
            format!("Half of the sensitivity lies in {}", crate::report::words::list(&parts))
        }
    }
}
