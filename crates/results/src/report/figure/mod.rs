//! A small plotting layer: inline SVG that follows the page's theme, with the numbers behind it as table and CSV.

mod axis; //    scales and ticks
mod dots; //    one row for each thing: dots with whiskers
mod draw; //    marks -> SVG
mod frame; //   where marks are drawn
mod ink; //     colours and shapes by meaning
mod mark; //    what a plot can hold
pub mod number; // numbers as people read them
mod picture; // images -> strips of PNG
mod plot; //    axes and marks -> one panel
mod table; //   numbers -> table, CSV

pub use axis::{Axis, AxisScale};
pub use dots::{Dot, dots};
pub use ink::{Ink, Marker, SERIES, Stroke};
pub use mark::{Cloud, Curve, Mark, Point, Steps, bins, shares};
pub use picture::{Picture, Tone, strip};
pub use plot::Plot;
pub use table::{Cell, Table};

use super::markup::{Element, element};

/// One drawing of a figure.
#[derive(Clone, Debug)]
pub struct Panel {
    /// The drawing: an SVG, or several with their labels.
    pub body: Element,
    /// How many data points, bins or pictures it shows.
    pub marks: usize,
}

/// The intended width of a figure's panels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Width {
    /// Many small panels in a row.
    Small,
    /// Three in a row on a desk, one on a phone.
    #[default]
    Usual,
    /// At most two in a row, for figures of two or four panels.
    Pairs,
    /// Rows of pictures.
    Pictures,
}

/// An entry of a legend.
#[derive(Clone, Debug)]
pub struct Key {
    /// Colour.
    pub ink: Ink,
    /// Line.
    pub stroke: Stroke,
    /// Point; none if only lines are drawn.
    pub marker: Marker,
    /// The thing that it stands for.
    pub words: String,
}

/// A figure: what was found, the panels that show it, what is plotted, and the numbers.
#[derive(Clone, Debug, Default)]
pub struct Figure {
    /// Anchor and name of the CSV file.
    pub id: String,
    /// The finding.
    pub title: String,
    /// What is plotted.
    pub caption: String,
    /// Shown above the panels if curves have no labels of their own.
    pub legend: Vec<Key>,
    /// What the reader can choose; shown above the panels.
    pub controls: Vec<Element>,
    /// The drawings.
    pub panels: Vec<Panel>,
    /// Their width.
    pub width: Width,
    /// The numbers behind it.
    pub table: Table,
}

impl Figure {
    /// True if some panel shows nothing, or there is none: such a figure must not be printed.
    pub fn is_blank(&self) -> bool {
        self.panels.is_empty() || self.panels.iter().any(|p| p.marks == 0)
    }

    /// The figure as HTML.
    pub fn element(&self) -> Element {
        let width = match self.width {
            Width::Small => "panels small",
            Width::Usual => "panels",
            Width::Pairs => "panels pairs",
            Width::Pictures => "panels pictures",
        };
        let mut figure = element("figure")
            .class("fig")
            .with("id", &self.id)
            .child(element("h3").text(&self.title))
            .child(element("figcaption").text(&self.caption));
        if !self.legend.is_empty() {
            figure.push(legend(&self.legend));
        }
        let mut figure = figure.children(self.controls.iter().cloned());
        let panels = self.panels.iter().map(|p| element("div").class("panel").child(p.body.clone()));
        figure.push(element("div").class(width).children(panels));
        figure.child(self.table.details(&self.id, &self.title))
    }
}

/// The legend as HTML.
pub fn legend(keys: &[Key]) -> Element {
    let entries = keys.iter().map(|key| {
        let swatch = element("svg")
            .class(format!("sw {}", key.ink))
            .with("viewBox", "0 0 24 10")
            .with("aria-hidden", "true")
            .child(element("path").class(key.stroke.class()).with("d", "M1 5H23"))
            .children(draw::marker(key.marker, 12.0, 5.0));
        element("li").child(swatch).text(&key.words)
    });
    element("ul").class("legend").children(entries)
}
