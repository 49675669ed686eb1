//! The parts of the page: each turns a [`Study`] into figures, or into nothing if the files contain no data for it.

mod board; //          the worst case as a table
pub mod classes; //    damage by class
pub mod compare; //    models at a glance, best first
pub mod damage; //     damage by size of the attack
pub mod directions; // the most sensitive directions as pictures
pub mod gallery; //    images before and after
mod eigen; //          eigenvalue curves, of runs and of sweeps
mod histogram; //      histograms, of runs and of sweeps
pub mod overview; //   what was measured; the table of all models
mod passes; //         damage over passes
mod rows; //           rows of pictures, of runs and of sweeps
pub mod prediction; // first-order theory against measurement
pub mod scores; //     histograms of every score
pub mod smallest; //   the smallest perturbation that does a given damage
pub mod spectra; //    eigenvalue curves
pub mod sweep; //      the grid of beta
mod theory; //         measured against predicted, of runs and of sweeps
pub mod trust; //    flags, and each attack's share of the largest damage found
pub mod training; //   loss curves
pub mod worst; //      the worst case of all attacks

use super::figure::{Cell, Figure, Ink, Key, Marker, Point, Stroke, Table, number};
use super::markup::Element;
use super::stats::Quartiles;
use super::study::{Scores, Study, Subject, Trial};
use super::words;

/// A part of the page.
#[derive(Debug, Default)]
pub struct Section {
    /// Anchor.
    pub id: &'static str,
    /// Heading.
    pub title: &'static str,
    /// What a reader should know before the figures.
    pub intro: String,
    /// Figures and tables, in order.
    pub body: Vec<Element>,
    /// The findings, each with the anchor of the figure that shows it; the page begins with them.
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
    /// Adds a figure without its blank panels; a figure without other panels is left out.
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

    /// The section, unless it is empty.
    pub fn filled(self) -> Option<Self> {
        (!self.body.is_empty()).then_some(self)
    }
}

/// One facet of the models: a metric by which some models were scored, and how its figures are named.
struct Facet<'a> {
    name: &'a str,
    /// The models that have it, with their positions in the study.
    subjects: Vec<(usize, &'a Subject, &'a Scores)>,
    /// Whether the page begins with its finding: this is so for the first facet.
    headline: Headline,
    /// The suffix of an anchor, and of a title: empty if there is no other facet.
    anchor: String,
    suffix: String,
}

/// The facets of all models.
fn facets(study: &Study) -> Vec<Facet<'_>> {
    let names = study.facets();
    let several = names.len() > 1;
    let facet = |(i, name)| {
        let letters = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        Facet {
            name,
            subjects: study
                .subjects
                .iter()
                .enumerate()
                .filter_map(|(i, subject)| Some((i, subject, subject.facet(name)?)))
                .collect(),
            headline: if i == 0 { Headline::Yes } else { Headline::No },
            anchor: if several { format!("-{}", name.chars().map(letters).collect::<String>()) } else { String::new() },
            suffix: if several { format!(" ({})", words::facet(name)) } else { String::new() },
        }
    };
    names.into_iter().enumerate().map(facet).collect()
}

/// The name of a model, with what distinguishes one of its trials from others.
fn called(subject: &Subject, trial: &Trial) -> String {
    let set = if trial.label.is_empty() { String::new() } else { format!(" ({})", trial.label) };
    format!("{}{set}", subject.name)
}

/// One legend entry for each model.
fn legend(subjects: impl IntoIterator<Item = (usize, String)>, marker: impl Fn(usize) -> Marker) -> Vec<Key> {
    let keys: Vec<Key> = subjects
        .into_iter()
        .map(|(i, words)| Key { ink: Ink::Series(i), stroke: Stroke::series(i), marker: marker(i), words })
        .collect();
    if keys.len() < 2 { Vec::new() } else { keys }
}

/// For each sample the most damage of all of a trial's attacks at the size `at`, \[N\]; NaN where none has a value, or the most is not finite.
fn of_largest(trial: &Trial, at: usize) -> Vec<f64> {
    let most = |i: usize| trial.searches().filter_map(|e| e.damage[at].get(i)).copied().fold(f64::NAN, f64::max);
    (0..trial.index.len()).map(|i| if trial.breaks_down(at, i) { f64::NAN } else { most(i) }).collect()
}

/// "l2-latent" of letters that an anchor may have.
fn anchor(parts: &[&str]) -> String {
    let letters = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    parts.join("-").chars().map(letters).collect()
}

/// Stands in tables in place of a share where there is none.
const NO_SHARE: &str = "none";

/// Whether damage can be told as a share of `best`, the most that is known: not where it is minus the distance to a target.
fn has_shares(trial: &Trial, best: &[f64]) -> bool {
    let is_distance = best.iter().any(|most| *most < 0.0) && !best.iter().any(|most| *most > 0.0);
    !trial.is_towards() && !is_distance
}

/// "0.1 for plain and 0.2 for mixup"; for more than four models only the least and the largest.
pub(crate) fn each<S: AsRef<str>>(values: &[(S, f64)]) -> String {
    let values: Vec<(&str, f64)> = values.iter().map(|(name, value)| (name.as_ref(), *value)).collect();
    each_in(&values, |_, v| number::short(v))
}

/// [`each`], with values worded by `say`.
pub(crate) fn each_in(values: &[(&str, f64)], say: impl Fn(&str, f64) -> String) -> String {
    let part = |(name, value): &(&str, f64)| format!("{} for {name}", say(name, *value));
    let mut sorted: Vec<(&str, f64)> = values.iter().copied().filter(|v| v.1.is_finite()).collect();
    sorted.sort_by(|a, b| a.1.total_cmp(&b.1));
    match sorted.as_slice() {
        [low, .., high] if values.len() > 4 => {
            format!("from {} to {}", part(low), part(high))
        }
        _ => words::list(&values.iter().map(part).collect::<Vec<_>>()),
    }
}

/// The point of a curve that shows a median with its quartiles.
pub(crate) fn spread_point(x: f64, summary: &Quartiles, tip: String) -> Point {
    Point { x, y: summary.median, band: Some((summary.low, summary.high)), tip, note: None }
}

/// A table whose rows end in a summary; `of` names the columns before it.
pub(crate) fn spread_table(of: &[&str]) -> Table {
    Table::new(&[of, &["samples", "undefined", "mean", "q25", "median", "q75"]].concat())
}

/// A row of [`spread_table`]: the cells `of` that name it, and its summary.
pub(crate) fn spread_row<const N: usize>(of: [Cell; N], s: &Quartiles) -> impl Iterator<Item = Cell> {
    let numbers: [Cell; 6] =
        [s.count.into(), s.undefined.into(), s.mean.into(), s.low.into(), s.median.into(), s.high.into()];
    of.into_iter().chain(numbers)
}

/// "1.23 (quartiles 1.1 to 1.4)".
pub(crate) fn spread_words(summary: &Quartiles) -> String {
    use number::short;
    let undefined = match summary.undefined {
        0 => String::new(),
        n => format!(", {n} undefined"),
    };
    format!("{} (quartiles {} to {}{undefined})", short(summary.median), short(summary.low), short(summary.high))
}

/// "2.3 times", "87 % of": `ratio` in words.
pub(crate) fn times(ratio: f64) -> String {
    format!("{} times", number::significant(ratio, 2))
}
