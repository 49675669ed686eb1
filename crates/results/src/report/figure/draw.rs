//! Turns marks into SVG elements.

use super::frame::Frame;
use super::ink::{Ink, Marker};
use super::mark::{Cloud, Curve, Point, Steps};
use crate::report::markup::{Element, element};

/// A coordinate, rounded to a tenth of a pixel.
pub(super) fn px(value: f64) -> String {
    let rounded = (value * 10.0).round() / 10.0;
    if rounded == 0.0 { "0".to_owned() } else { format!("{rounded}") }
}

/// The approximate width of `text` in the page's sans-serif font.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    text.chars()
        .map(|c| match c {
            'i' | 'l' | 'j' | '.' | ',' | ':' | '\'' | '|' | 'I' | ' ' | '\u{202f}' => 0.29,
            'f' | 't' | 'r' | '(' | ')' | '-' | '‖' => 0.37,
            'm' | 'w' | 'M' | 'W' | '%' | '@' | '—' => 0.85,
            '⁰'..='⁹' | '₀'..='₉' | '¹' | '²' | '³' | '⁻' => 0.38,
            'A'..='Z' | '∞' | '−' | '×' | '→' => 0.66,
            _ => 0.56,
        })
        .sum::<f64>()
        * size
}

pub(super) fn text(x: f64, y: f64, class: &str, anchor: &str, words: &str) -> Element {
    let element = element("text").class(class).with("x", px(x)).with("y", px(y));
    let element = if anchor == "start" { element } else { element.with("text-anchor", anchor) };
    element.text(words)
}

pub(super) fn line(x1: f64, y1: f64, x2: f64, y2: f64, class: &str) -> Element {
    element("line").class(class).with("x1", px(x1)).with("y1", px(y1)).with("x2", px(x2)).with("y2", px(y2))
}

/// An invisible point that shows a text on hovering.
pub(super) fn hit(x: f64, y: f64, tip: &str) -> Element {
    element("circle").class("h").with("cx", px(x)).with("cy", px(y)).with("r", 4.5).with("data-t", tip)
}

/// A curve with its band and markers, and how many of its points can be shown.
pub(super) fn curve(curve: &Curve, frame: &Frame, notes: &mut Notes) -> (Element, usize) {
    let mut group = element("g").class(format!("m {}", curve.ink));
    for run in runs(&curve.points, |p| p.band.is_some_and(|(l, h)| showable(frame, p, l, h))) {
        if run.len() > 1 {
            group.push(element("path").class("b").with("d", band(run, frame)));
        } else if let [point] = run {
            // A spread without neighbours is drawn as a whisker.
            let ends = point.band.and_then(|(l, h)| Some((frame.at(point.x, l)?, frame.at(point.x, h)?)));
            if let Some(((x, low), (_, high))) = ends {
                group.push(line(x, low, x, high, "wh"));
            }
        }
    }
    let mut path = String::new();
    let mut shapes = String::new();
    let mut count = 0;
    let mut pen_down = false;
    for point in &curve.points {
        let Some((x, y)) = frame.at(point.x, point.y) else {
            pen_down = false;
            continue;
        };
        count += 1;
        path.push_str(&format!("{}{} {}", if pen_down { "L" } else { "M" }, px(x), px(y)));
        pen_down = true;
        shapes.push_str(&shape(curve.marker, x, y));
        notes.avoid(x, y);
        if let Some(words) = &point.note {
            notes.want(x, y, curve.ink, words);
        }
    }
    if count > 1 {
        group.push(element("path").class(curve.stroke.class()).with("d", path));
    }
    if !shapes.is_empty() {
        let class = if curve.marker == Marker::Ring { "p o" } else { "p" };
        group.push(element("path").class(class).with("d", shapes));
    }
    (group, count)
}

/// The longest runs of neighbouring points that satisfy `good`.
fn runs(points: &[Point], good: impl Fn(&Point) -> bool) -> Vec<&[Point]> {
    points.chunk_by(|a, b| good(a) == good(b)).filter(|run| run.first().is_some_and(&good)).collect()
}

fn showable(frame: &Frame, point: &Point, low: f64, high: f64) -> bool {
    frame.at(point.x, low).is_some() && frame.at(point.x, high).is_some()
}

fn band(run: &[Point], frame: &Frame) -> String {
    let upper = run.iter().filter_map(|p| frame.at(p.x, p.band?.1));
    let lower = run.iter().rev().filter_map(|p| frame.at(p.x, p.band?.0));
    let mut path = String::new();
    for (i, (x, y)) in upper.chain(lower).enumerate() {
        path.push_str(&format!("{}{} {}", if i == 0 { "M" } else { "L" }, px(x), px(y)));
    }
    path.push('Z');
    path
}

/// A single point; nothing if the marker is none.
pub(super) fn marker(marker: Marker, x: f64, y: f64) -> Option<Element> {
    let class = if marker == Marker::Ring { "p o" } else { "p" };
    (marker != Marker::None).then(|| element("path").class(class).with("d", shape(marker, x, y)))
}

/// `words` within `width`; if they are too long, dots replace the middle, because names differ at both ends.
pub(super) fn fitted(words: &str, width: f64, size: f64) -> String {
    if text_width(words, size) <= width {
        return words.to_owned();
    }
    let letters: Vec<char> = words.chars().collect();
    let cut = |kept: usize| -> String {
        let head = kept.div_ceil(2);
        letters[..head].iter().chain(&['…']).chain(&letters[letters.len() - (kept - head)..]).collect()
    };
    (1..letters.len()).rev().map(cut).find(|w| text_width(w, size) <= width).unwrap_or_else(|| "…".to_owned())
}

fn shape(marker: Marker, x: f64, y: f64) -> String {
    let at = |dx: f64, dy: f64| format!("{} {}", px(x + dx), px(y + dy));
    match marker {
        Marker::None => String::new(),
        Marker::Disc => format!("M{}a3 3 0 1 0 6 0a3 3 0 1 0 -6 0", at(-3.0, 0.0)),
        Marker::Ring => format!("M{}a2.6 2.6 0 1 0 5.2 0a2.6 2.6 0 1 0 -5.2 0", at(-2.6, 0.0)),
        Marker::Square => format!("M{}h5.4v5.4h-5.4z", at(-2.7, -2.7)),
        Marker::Diamond => format!("M{}l3.8 3.8l-3.8 3.8l-3.8 -3.8z", at(0.0, -3.8)),
        Marker::Triangle => format!("M{}l3.6 6.2h-7.2z", at(0.0, -3.8)),
    }
}

/// A cloud, and how many of its points can be shown. If hues repeat, its points have a shape.
pub(super) fn cloud(cloud: &Cloud, frame: &Frame) -> (Element, usize) {
    let marker = match cloud.ink {
        Ink::Series(i) => Marker::series(i),
        _ => Marker::Disc,
    };
    let mut path = String::new();
    let mut count = 0;
    for (x, y, _) in &cloud.points {
        if let Some((x, y)) = frame.at(*x, *y) {
            match marker {
                Marker::Disc => path.push_str(&format!("M{} {}h0", px(x), px(y))),
                other => path.push_str(&shape(other, x, y)),
            }
            count += 1;
        }
    }
    let mut group = element("g").class(format!("m {}", cloud.ink));
    if count > 0 {
        let class = if marker == Marker::Disc { "c" } else { "c o" };
        group.push(element("path").class(class).with("d", path));
    }
    (group, count)
}

/// A histogram, and how many of its bins are not empty.
pub(super) fn steps(steps: &Steps, frame: &Frame) -> (Element, usize) {
    let mut group = element("g").class(format!("m {}", steps.ink));
    let mut path = String::new();
    let mut count = 0;
    let mut last = None;
    for (pair, height) in steps.edges.windows(2).zip(&steps.heights) {
        let (Some((a, y)), Some((b, _))) = (frame.at(pair[0], *height), frame.at(pair[1], *height)) else {
            continue;
        };
        if path.is_empty() {
            path.push_str(&format!("M{} {}", px(a), px(frame.bottom)));
        }
        path.push_str(&format!("V{}H{}", px(y), px(b)));
        count += usize::from(*height > 0.0);
        last = Some(b);
    }
    if count > 0 && last.is_some() {
        path.push_str(&format!("V{}", px(frame.bottom)));
        group.push(element("path").class("b").with("d", format!("{path}Z")));
        group.push(element("path").class(format!("{} th", steps.stroke.class())).with("d", path));
        let foot = steps.median.and_then(|m| frame.at(m, frame.y.low));
        if let Some((x, y)) = foot {
            group.push(element("path").class("p").with("d", format!("M{} {}l4 6.5h-8z", px(x), px(y + 0.5))));
        }
    }
    (group, count)
}

/// Invisible columns over the plot area.
pub(super) fn zones(edges: &[f64], tips: &[String], frame: &Frame) -> Vec<Element> {
    edges
        .windows(2)
        .zip(tips)
        .filter_map(|(pair, tip)| {
            let (a, b) = (frame.x.place(pair[0])?, frame.x.place(pair[1])?);
            let width = frame.right - frame.left;
            Some(
                element("rect")
                    .class("h z")
                    .with("x", px(frame.left + a * width))
                    .with("y", px(frame.top))
                    .with("width", px((b - a) * width))
                    .with("height", px(frame.bottom - frame.top))
                    .with("data-t", tip),
            )
        })
        .collect()
}

/// The part of y = x within the frame.
pub(super) fn identity(words: &str, frame: &Frame) -> Element {
    let (low, high) = (frame.x.low.max(frame.y.low), frame.x.high.min(frame.y.high));
    let mut group = element("g").class("rf");
    if let (true, Some((x1, y1)), Some((x2, y2))) = (low < high, frame.at(low, low), frame.at(high, high)) {
        group.push(line(x1, y1, x2, y2, "rl"));
        // The words stand above the line, where it leaves the frame.
        group.push(text(x2 - 14.0, y2 + 4.0, "rt", "end", words));
    }
    group
}

/// A horizontal line at `value`.
pub(super) fn level(value: f64, words: &str, frame: &Frame) -> Element {
    let mut group = element("g").class("rf");
    if let Some((_, y)) = frame.at(frame.x.high, value) {
        group.push(line(frame.left, y, frame.right, y, "rl"));
        group.push(text(frame.right, y - 5.0, "rt", "end", words));
    }
    group
}

/// Labels at the ends of curves, moved apart vertically so that none covers another.
pub(super) fn end_labels(mut labels: Vec<((f64, f64), Ink, String)>, frame: &Frame) -> Element {
    labels.sort_by(|a, b| a.0.1.total_cmp(&b.0.1));
    let heights = apart(&labels.iter().map(|l| l.0.1).collect::<Vec<_>>(), frame.top, frame.bottom);
    let mut group = element("g").class("el");
    for (((x, end), ink, words), y) in labels.into_iter().zip(heights) {
        if (end - y).abs() > 3.0 {
            group.push(line(x + 3.5, end, x + 9.0, y, &format!("ld {ink}")));
        }
        group.push(text(x + 11.0, y + 4.0, &format!("lb {ink}"), "start", &words));
    }
    group
}

/// Ascending heights moved as little as possible (least squares) so that neighbours are a line of text apart, and within `top` and `bottom`
/// as far as they fit: isotonic regression of the heights minus their places, by pooling.
fn apart(heights: &[f64], top: f64, bottom: f64) -> Vec<f64> {
    const LINE: f64 = 13.0;
    // Pools of neighbours that touch: the mean and the number of neighbours.
    let mut pools: Vec<(f64, usize)> = Vec::new();
    for (i, height) in heights.iter().enumerate() {
        pools.push((height - i as f64 * LINE, 1));
        while let [.., (a, n), (b, m)] = pools[..] {
            if a <= b {
                break;
            }
            pools.truncate(pools.len() - 2);
            pools.push(((a * n as f64 + b * m as f64) / (n + m) as f64, n + m));
        }
    }
    let most = bottom - heights.len().saturating_sub(1) as f64 * LINE;
    let levels = pools.into_iter().flat_map(|(level, n)| std::iter::repeat_n(level, n));
    levels.enumerate().map(|(i, level)| level.clamp(top, most.max(top)) + i as f64 * LINE).collect()
}

/// Words beside points, each on the side where it covers the least.
#[derive(Default)]
pub(super) struct Notes {
    wanted: Vec<(f64, f64, Ink, String)>,
    points: Vec<(f64, f64)>,
}

impl Notes {
    fn want(&mut self, x: f64, y: f64, ink: Ink, words: &str) {
        self.wanted.push((x, y, ink, words.to_owned()));
    }

    fn avoid(&mut self, x: f64, y: f64) {
        self.points.push((x, y));
    }

    /// Draws the notes; a note that would cover another on every side is left out (its value is in the tip).
    pub fn draw(self, frame: &Frame) -> Element {
        let mut group = element("g").class("no");
        let mut taken: Vec<(f64, f64, f64, f64)> = Vec::new();
        for (x, y, ink, words) in &self.wanted {
            let width = text_width(words, 11.0);
            let places = [
                (x + 7.0, y - 5.0),
                (x - 7.0 - width, y - 5.0),
                (x + 7.0, y + 13.0),
                (x - 7.0 - width, y + 13.0),
                (x - width / 2.0, y - 9.0),
                (x - width / 2.0, y + 17.0),
            ];
            let cost = |(left, base): (f64, f64)| {
                let area = (left - 2.0, base - 10.0, left + width + 2.0, base + 3.0);
                let outside = area.0 < frame.left - 4.0
                    || area.2 > frame.right + 8.0
                    || area.1 < frame.top - 8.0
                    || area.3 > frame.bottom;
                let over = |b: &(f64, f64, f64, f64)| area.0 < b.2 && b.0 < area.2 && area.1 < b.3 && b.1 < area.3;
                if outside || taken.iter().any(over) {
                    return None;
                }
                let covered = self
                    .points
                    .iter()
                    .filter(|(px, py)| (area.0..area.2).contains(px) && (area.1..area.3).contains(py));
                Some((covered.count(), area))
            };
            let best =
                places.into_iter().filter_map(|p| cost(p).map(|(c, area)| (c, p, area))).min_by_key(|(c, _, _)| *c);
            if let Some((_, (left, base), area)) = best {
                taken.push(area);
                group.push(text(left, base, &format!("nt {ink}"), "start", words));
            }
        }
        group
    }
}
