//! One row for each thing, such as a model: its name, a dot at its value and a whisker over its spread.

use super::Panel;
use super::axis::Axis;
use super::draw;
use super::ink::{Ink, Marker};
use super::number;
use crate::report::markup::element;

/// Height of a row, and of the space above and below the rows.
const ROW: f64 = 21.0;
const HEAD: f64 = 28.0;
const FOOT: f64 = 38.0;
const WIDTH: f64 = 360.0;

/// One row.
#[derive(Clone, Debug)]
pub struct Dot {
    /// Colour.
    pub ink: Ink,
    /// Shape.
    pub marker: Marker,
    /// The thing that it stands for.
    pub name: String,
    /// Value, lower and upper end of its spread; `None` if there is none.
    pub value: Option<(f64, f64, f64)>,
    /// The text shown on hovering.
    pub tip: String,
}

/// The rows along `axis`, from top to bottom.
pub fn dots(title: &str, axis: &Axis, rows: &[Dot]) -> Panel {
    let widest = rows.iter().map(|r| draw::text_width(&r.name, 12.0)).fold(0.0, f64::max);
    let left = (widest + 10.0).min(WIDTH * 0.42).ceil();
    let right = WIDTH - 10.0;
    let bottom = HEAD + ROW * rows.len() as f64;
    let spoken: Vec<String> = rows
        .iter()
        .map(|r| format!("{} {}", r.name, r.value.map_or("none".to_owned(), |v| number::short(v.0))))
        .collect();
    let mut svg = element("svg")
        .class("plot")
        .with("viewBox", format!("0 0 {WIDTH} {}", bottom + FOOT))
        .with("role", "img")
        .with("aria-label", format!("{title}: {}", axis.label))
        .child(element("desc").text(spoken.join("; ")))
        .child(draw::text(0.0, 13.0, "pt", "start", title));
    let across = |value: f64| axis.place(value).map(|part| left + part * (right - left));
    let mut grid = element("g").class("ax");
    let mut free_from = f64::NEG_INFINITY;
    for (value, words) in axis.ticks(4) {
        let Some(x) = across(value) else { continue };
        grid.push(draw::line(x, HEAD, x, bottom, "gr"));
        let half = draw::text_width(&words, 11.0) / 2.0;
        if x - half > free_from {
            grid.push(draw::text(x.min(WIDTH - half), bottom + 15.0, "tk", "middle", &words));
            free_from = x + half + 5.0;
        }
    }
    grid.push(draw::line(left, bottom, right, bottom, "bl"));
    let label = draw::fitted(&axis.label, WIDTH, 11.5);
    let half = draw::text_width(&label, 11.5) / 2.0;
    let middle = ((left + right) / 2.0).min(WIDTH - half).max(half);
    grid.push(draw::text(middle, bottom + FOOT - 5.0, "al", "middle", &label));
    svg.push(grid);
    let mut hits = element("g").class("hits");
    let mut marks = 0;
    for (i, row) in rows.iter().enumerate() {
        let y = HEAD + ROW * (i as f64 + 0.5);
        svg.push(draw::text(0.0, y + 4.0, "rn", "start", &draw::fitted(&row.name, left - 8.0, 12.0)));
        let place = row.value.and_then(|(value, low, high)| Some((across(value)?, across(low), across(high))));
        let Some((x, low, high)) = place else {
            svg.push(draw::text(left + 2.0, y + 4.0, "tk", "start", "–"));
            continue;
        };
        let mut group = element("g").class(format!("m {}", row.ink));
        if let (Some(low), Some(high)) = (low, high) {
            group.push(draw::line(low, y, high, y, "wh w2"));
        }
        svg.push(group.children(draw::marker(row.marker, x, y)));
        hits.push(draw::hit(x, y, &row.tip));
        marks += 1;
    }
    svg.push(hits);
    Panel { body: svg, marks }
}
