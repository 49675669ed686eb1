//! A plot as inline SVG: axes, marks, words. Sized for a phone's width, so that its text needs no scaling there.

use super::Panel;
use super::axis::{Axis, AxisScale};
use super::draw;
use super::frame::Frame;
use super::mark::Mark;
use crate::report::markup::{Element, element};

/// The most points in one cloud that show a text on hovering; the rest are only drawn.
const CLOUD_TIPS: usize = 300;

/// Axes and the marks within.
#[derive(Clone, Debug)]
pub struct Plot {
    /// Written above; nothing if empty.
    pub title: String,
    /// Width and height in units of one CSS pixel on a phone.
    pub size: (f64, f64),
    /// Horizontal axis.
    pub x: Axis,
    /// Vertical axis.
    pub y: Axis,
    /// Values to mark on the x axis in place of round numbers.
    pub x_ticks: Option<Vec<(f64, String)>>,
    /// From back to front.
    pub marks: Vec<Mark>,
}

impl Plot {
    /// A plot of the usual size.
    pub fn new(title: impl Into<String>, x: Axis, y: Axis, marks: Vec<Mark>) -> Self {
        Self { title: title.into(), size: (360.0, 264.0), x, y, x_ticks: None, marks }
    }

    /// The same plot in another size.
    pub fn sized(mut self, width: f64, height: f64) -> Self {
        self.size = (width, height);
        self
    }

    /// The same plot with these values marked on the x axis.
    pub fn x_ticks(mut self, ticks: impl IntoIterator<Item = (f64, String)>) -> Self {
        self.x_ticks = Some(ticks.into_iter().collect());
        self
    }

    /// Draws it.
    pub fn draw(&self) -> Panel {
        let (width, height) = self.size;
        let y_ticks = self.y.ticks(((height - 80.0) / 42.0).round().max(2.0) as usize);
        let tick_width = y_ticks.iter().map(|(_, t)| draw::text_width(t, 11.0)).fold(0.0, f64::max);
        let label_width = self
            .marks
            .iter()
            .map(|m| match m {
                Mark::Curve(c) if !c.label.is_empty() => draw::text_width(&c.label, 11.5) + 13.0,
                _ => 0.0,
            })
            .fold(0.0, f64::max);
        let frame = Frame {
            left: (tick_width + 8.0).ceil(),
            top: if self.title.is_empty() { 24.0 } else { 42.0 },
            right: width - label_width.max(8.0).ceil().min(width * 0.4),
            bottom: height - 36.0,
            x: &self.x,
            y: &self.y,
        };

        let mut svg = element("svg")
            .class("plot")
            .with("viewBox", format!("0 0 {width} {height}"))
            .with("role", "img")
            .with("aria-label", self.spoken())
            .child(element("desc").text(self.described()));
        if !self.title.is_empty() {
            svg.push(draw::text(0.0, 13.0, "pt", "start", &self.title));
        }
        svg.push(draw::text(0.0, frame.top - 12.0, "al", "start", &self.y.label));
        svg.push(self.grid(&frame, &y_ticks));

        let mut drawn = 0;
        let mut hits = element("g").class("hits");
        let mut labels = Vec::new();
        let mut notes = draw::Notes::default();
        for mark in &self.marks {
            match mark {
                Mark::Curve(curve) => {
                    let (group, count) = draw::curve(curve, &frame, &mut notes);
                    svg.push(group);
                    drawn += count;
                    for point in curve.points.iter().filter(|p| !p.tip.is_empty()) {
                        if let Some((x, y)) = frame.at(point.x, point.y) {
                            hits.push(draw::hit(x, y, &point.tip));
                        }
                    }
                    let end = curve.points.iter().rev().find_map(|p| frame.at(p.x, p.y));
                    if let (Some(end), false) = (end, curve.label.is_empty()) {
                        let room = width - frame.right - 11.0;
                        labels.push((end, curve.ink, draw::fitted(&curve.label, room, 11.5)));
                    }
                }
                Mark::Cloud(cloud) => {
                    let (group, count) = draw::cloud(cloud, &frame);
                    svg.push(group);
                    drawn += count;
                    let stride = cloud.points.len().div_ceil(CLOUD_TIPS).max(1);
                    for (x, y, tip) in cloud.points.iter().step_by(stride) {
                        if let Some((x, y)) = frame.at(*x, *y) {
                            hits.push(draw::hit(x, y, tip));
                        }
                    }
                }
                Mark::Steps(steps) => {
                    let (group, count) = draw::steps(steps, &frame);
                    svg.push(group);
                    drawn += count;
                }
                Mark::Zones { edges, tips } => {
                    hits = hits.children(draw::zones(edges, tips, &frame));
                }
                Mark::Identity(words) => svg.push(draw::identity(words, &frame)),
                Mark::Level(value, words) => svg.push(draw::level(*value, words, &frame)),
            }
        }
        svg.push(draw::end_labels(labels, &frame));
        svg.push(notes.draw(&frame));
        svg.push(hits);
        Panel { body: svg, marks: drawn }
    }

    /// Grid, base line and the words of both axes.
    fn grid(&self, frame: &Frame, y_ticks: &[(f64, String)]) -> Element {
        let mut group = element("g").class("ax");
        for (value, words) in y_ticks {
            if let Some(part) = self.y.place(*value) {
                let y = frame.bottom - part * (frame.bottom - frame.top);
                group.push(draw::line(frame.left, y, frame.right, y, "gr"));
                group.push(draw::text(frame.left - 6.0, y + 3.8, "tk", "end", words));
            }
        }
        group.push(draw::line(frame.left, frame.bottom, frame.right, frame.bottom, "bl"));
        let round = || self.x.ticks(((frame.right - frame.left) / 52.0).round().max(2.0) as usize);
        let mut free_from = f64::NEG_INFINITY;
        for (value, words) in self.x_ticks.clone().unwrap_or_else(round) {
            let Some(part) = self.x.place(value) else { continue };
            let x = frame.left + part * (frame.right - frame.left);
            group.push(draw::line(x, frame.bottom, x, frame.bottom + 4.0, "bl"));
            let half = draw::text_width(&words, 11.0) / 2.0;
            if x - half > free_from {
                group.push(draw::text(x, frame.bottom + 16.0, "tk", "middle", &words));
                free_from = x + half + 5.0;
            }
        }
        let middle = (frame.left + frame.right) / 2.0;
        let half = draw::text_width(&self.x.label, 11.5) / 2.0;
        let centre = middle.clamp(half.min(self.size.0 / 2.0), (self.size.0 - half).max(self.size.0 / 2.0));
        group.push(draw::text(centre, self.size.1 - 4.0, "al", "middle", &self.x.label));
        group
    }

    /// One line for screen readers.
    fn spoken(&self) -> String {
        let what = format!("{} against {}", self.y.label, self.x.label);
        if self.title.is_empty() { what } else { format!("{}: {what}", self.title) }
    }

    /// The curves' ends in words.
    fn described(&self) -> String {
        let scale = |axis: &Axis| if axis.scale == AxisScale::Log { "logarithmic" } else { "linear" };
        let mut words = format!("{} x axis, {} y axis.", scale(&self.x), scale(&self.y));
        for mark in &self.marks {
            if let Mark::Curve(curve) = mark {
                let name = if curve.label.is_empty() { "curve" } else { curve.label.as_str() };
                if let (Some(a), Some(b)) = (curve.points.first(), curve.points.last()) {
                    let n = super::number::short;
                    words.push_str(&format!(" {name}: {} at {}, {} at {}.", n(a.y), n(a.x), n(b.y), n(b.x)));
                }
            }
        }
        words
    }
}
