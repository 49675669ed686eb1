//! The parts of the page: each turns a [`Study`](super::study::Study) into figures, or into nothing where the
//! files hold nothing for it.

pub mod damage; //     how far attacks reach, by size
pub mod directions; // the most sensitive directions as pictures
pub mod gallery; //    images before and after
pub mod overview; //   what was measured; the table of all models
pub mod prediction; // first-order theory against what happened
pub mod scores; //     histograms of every score
pub mod spectra; //    eigenvalue curves
pub mod sweep; //      the grid of beta
pub mod training; //   loss curves

use super::figure::{Cell, Figure, Ink, Key, Point, Stroke, Table};
use super::markup::Element;
use super::stats::Summary;
use super::study::Arm;

/// A part of the page.
#[derive(Debug, Default)]
pub struct Section {
    /// Anchor.
    pub id: &'static str,
    /// Heading.
    pub title: &'static str,
    /// What to know before looking.
    pub intro: String,
    /// Figures and tables, in order.
    pub body: Vec<Element>,
    /// What was found, with the anchor of the figure that shows it; the page begins with these.
    pub findings: Vec<(String, String)>,
}

/// Whether the page's beginning repeats a figure's title.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Headline {
    /// It does.
    Yes,
    /// It does not.
    No,
}

impl Section {
    /// Adds a figure without its blank panels; one that has no other is left out.
    pub fn add(&mut self, mut figure: Figure, headline: Headline) {
        figure.panels.retain(|p| p.marks > 0);
        if figure.is_blank() {
            return;
        }
        if headline == Headline::Yes {
            self.findings.push((figure.title.clone(), figure.id.clone()));
        }
        self.body.push(figure.element());
    }

    /// The section, unless it holds nothing.
    pub fn filled(self) -> Option<Self> {
        (!self.body.is_empty()).then_some(self)
    }
}

/// One legend entry a model.
fn legend(arms: &[&Arm], ink: impl Fn(&Arm) -> usize) -> Vec<Key> {
    if arms.len() < 2 {
        return Vec::new();
    }
    let key = |arm: &&Arm| Key { ink: Ink::Series(ink(arm)), stroke: stroke(ink(arm)), words: arm.name.clone() };
    arms.iter().map(key).collect()
}

/// The line of model `i`: hue and dashes together tell more models apart than there are hues.
pub(crate) fn stroke(i: usize) -> Stroke {
    [Stroke::Solid, Stroke::Dashed, Stroke::Dotted][(i / 2) % 3]
}

/// The point of a curve that shows a median with its quartiles.
pub(crate) fn spread_point(x: f64, summary: &Summary, tip: String) -> Point {
    Point { x, y: summary.median, band: Some((summary.low, summary.high)), tip, note: None }
}

/// A table whose rows end in a summary; `of` names the columns before it.
pub(crate) fn spread_table(of: &[&str]) -> Table {
    Table::new(&[of, &["samples", "undefined", "mean", "q25", "median", "q75"]].concat())
}

/// A row of [`spread_table`]: `of` what, and its summary.
pub(crate) fn spread_row<const N: usize>(of: [Cell; N], s: &Summary) -> impl Iterator<Item = Cell> {
    let numbers: [Cell; 6] =
        [s.count.into(), s.undefined.into(), s.mean.into(), s.low.into(), s.median.into(), s.high.into()];
    of.into_iter().chain(numbers)
}

/// "1.23 (quartiles 1.1 to 1.4)".
pub(crate) fn spread_words(summary: &Summary) -> String {
    use super::figure::number::short;
    let undefined = match summary.undefined {
        0 => String::new(),
        n => format!(", {n} undefined"),
    };
    format!("{} (quartiles {} to {}{undefined})", short(summary.median), short(summary.low), short(summary.high))
}

/// "2.3 times", "87 % of": `ratio` in words.
pub(crate) fn times(ratio: f64) -> String {
    use super::figure::number::significant;
    format!("{} times", significant(ratio, 2))
}
