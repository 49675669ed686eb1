//! Models at a glance: a table with one row for each model, best first, and the same as dots.

use super::overview::badge;
use super::{Headline, Section, spread_row, spread_table, spread_words};
use crate::report::figure::{Axis, Dot, Figure, Ink, Marker, dots, number};
use crate::report::markup::{Element, element};
use crate::report::stats::Quartiles;
use crate::report::study::{Study, Subject, Trial};
use crate::report::words;

/// There is room for this many columns; if there are more, entropies appear only in the tables below.
const ROOM: usize = 7;

/// A quantity for every model.
struct Column {
    /// Its words in a sentence.
    spoken: String,
    /// Whether less is better, and all were asked about the same images.
    ranked: bool,
    /// Whether all were asked about the same images.
    alike: bool,
    title: String,
    axis: String,
    key: &'static str,
    values: Vec<Option<Quartiles>>,
}

impl Column {
    fn median(&self, subject: usize) -> Option<f64> {
        self.values.get(subject)?.as_ref().map(|s| s.median).filter(|m| m.is_finite())
    }

    /// The median of a model by which it is ranked: of one that has a value for every image. Others leave out those that broke it down.
    fn rank(&self, subject: usize) -> Option<f64> {
        let whole = self.values.get(subject)?.as_ref().is_some_and(|s| s.undefined == 0);
        self.median(subject).filter(|_| whole)
    }

    fn has_lost(&self) -> bool {
        self.ranked && self.values.iter().flatten().any(|s| s.undefined > 0)
    }

    /// Whether models can be compared by this quantity.
    fn compares(&self) -> bool {
        (0..self.values.len()).filter(|i| self.median(*i).is_some()).count() > 1
    }
}

/// The comparison of two or more models.
pub fn section(study: &Study) -> Option<Section> {
    let columns: Vec<Column> = columns(study).into_iter().filter(Column::compares).collect();
    if study.subjects.len() < 2 || columns.is_empty() {
        return None;
    }
    // The most informative is what an attack leaves of the picture, then its effect on the code, then the geometry.
    let first = |part: &str| columns.iter().find(|c| c.alike && c.title.starts_with(part));
    let by =
        first("Reconstruction error, ").or_else(|| first("Latent shift")).or_else(|| first("")).or(columns.first())?;
    let mut order: Vec<usize> = (0..study.subjects.len()).collect();
    let value = |i: &usize| by.rank(*i).unwrap_or(f64::INFINITY);
    if by.alike {
        order.sort_by(|a, b| value(a).total_cmp(&value(b)));
    }

    let unlike = if attacked(study).len() > 1 && Attack::common(study).is_none() {
        " No attack was asked for alike of all attacked models, with the same goal, settings and size, so models are not compared by their \
         damage."
    } else {
        ""
    };
    let sorted = if by.alike { format!(", sorted by {}, best first", by.spoken) } else { String::new() };
    let others = if columns.iter().all(|c| c.alike) {
        ""
    } else {
        " Columns for which models were not asked about the same images are not ranked."
    };
    let lost = if columns.iter().any(Column::has_lost) {
        " Nor is a model where it has no finite value for some images, which its median leaves out."
    } else {
        ""
    };
    let told = format!(
        "A row a model{sorted}. Medians over the images; best and worst of each column are marked: \
         less error, less shift and a smaller λ₁ are better.{others}{lost}{unlike}"
    );
    let mut figure = spread_table(&["quantity", "model"]);
    let mut panels = Vec::new();
    for column in &columns {
        let seen = column.values.iter().flatten().flat_map(|s| [s.low, s.median, s.high]);
        let seen: Vec<f64> = seen.filter(|v| v.is_finite()).collect();
        let axis = Axis::fit(column.axis.clone(), words::scale(column.key, &seen), seen).from_zero();
        let rows: Vec<Dot> = order.iter().map(|i| dot(study, column, *i)).collect();
        panels.push(dots(&column.title, &axis, &rows));
        for i in &order {
            if let (Some(subject), Some(Some(s))) = (study.subjects.get(*i), column.values.get(*i)) {
                figure.row(spread_row([(&column.title).into(), (&subject.name).into()], s));
            }
        }
    }
    let mut section = Section { id: "compare", title: "At a glance", intro: told, ..Section::default() };
    section.body.push(table(study, &columns, &order));
    let figure = Figure {
        id: "compare-models".to_owned(),
        title: finding(study, by, &order),
        caption: "The same numbers as dots, a panel a quantity, with the middle half of the images (line).".to_owned(),
        panels,
        table: figure,
        ..Figure::default()
    };
    section.add(figure, Headline::Yes);
    section.filled()
}

/// The models with attacks.
fn attacked(study: &Study) -> Vec<&Subject> {
    study.subjects.iter().filter(|subject| !subject.trials.is_empty()).collect()
}

/// What a model has of a quantity, and the images of which it has it.
type Found<'a> = (&'a [u64], Quartiles);

/// The quantities by which models are compared.
fn columns<'s>(study: &'s Study) -> Vec<Column> {
    let column = |title: String, spoken: String, axis: String, key, of: &dyn Fn(&'s Subject) -> Option<Found<'s>>| {
        let found: Vec<Option<Found>> = study.subjects.iter().map(of).collect();
        let mut asked = study.subjects.iter().zip(&found).filter_map(|(s, found)| Some((&s.origin, found.as_ref()?.0)));
        let first = asked.next();
        let alike = asked.all(|(origin, index)| first.is_some_and(|(o, i)| i == index && o.same_data(origin)));
        let values = found.iter().map(|found| found.as_ref().map(|(_, s)| *s)).collect();
        Column { title, spoken, ranked: alike && key != "von_neumann_entropy", alike, axis, key, values }
    };
    let mut columns = Vec::new();
    if let Some(attack) = Attack::common(study) {
        for key in ["recon_mse", "recon_shift", "latent_l2"] {
            let title = format!("{}, {}", words::title(key), attack.words());
            let spoken = format!("{} under the {}", words::inline(key), attack.spoken());
            columns.push(column(title, spoken, words::axis(key), key, &|subject| attack.of(subject, key)));
        }
    }
    let clean = |subject: &'s Subject| {
        let named = |t: &Trial| t.clean.iter().find(|c| c.name == "recon_mse").map(|c| Quartiles::of(&c.values));
        subject.trials.iter().find_map(|t| Some((t.index.as_slice(), named(t)?)))
    };
    let title = format!("{} without attack", words::title("recon_mse"));
    let spoken = format!("{} without attack", words::inline("recon_mse"));
    columns.push(column(title, spoken, "reconstruction error x̂ − x (mean square)".to_owned(), "recon_mse", &clean));
    let facets = study.facets();
    for key in ["spectral_radius", "von_neumann_entropy"] {
        if key != "spectral_radius" && columns.len() + facets.len() > ROOM {
            continue;
        }
        for facet in &facets {
            let suffix = if facets.len() > 1 { format!(", {}", words::facet(facet)) } else { String::new() };
            let (title, spoken) = (format!("{}{suffix}", words::title(key)), format!("{}{suffix}", words::inline(key)));
            let of = |subject: &'s Subject| {
                let scores = subject.facet(facet)?;
                Some((scores.index.as_slice(), Quartiles::of(scores.column(key)?)))
            };
            columns.push(column(title, spoken, words::axis(key), key, &of));
        }
    }
    columns
}

/// The attack under which models are compared: the strongest that all attacked models have, asked for alike, at the largest size of that
/// norm that all have.
struct Attack<'a> {
    trial: &'a Trial,
    name: &'a str,
    eps: f64,
}

impl<'a> Attack<'a> {
    fn common(study: &'a Study) -> Option<Self> {
        let subjects = attacked(study);
        let first = *subjects.first().filter(|_| subjects.len() > 1)?;
        let mut tried: Vec<Self> = Vec::new();
        for trial in &first.trials {
            for outcome in &trial.attacks {
                tried.extend(trial.eps.iter().map(|eps| Self { trial, name: &outcome.name, eps: *eps }));
            }
        }
        let rank = |a: &Self| words::strength(a.name);
        tried.retain(|a| subjects.iter().all(|subject| a.trial(subject).is_some()));
        tried
            .into_iter()
            .min_by(|a, b| (rank(a), -a.eps).partial_cmp(&(rank(b), -b.eps)).unwrap_or(std::cmp::Ordering::Equal))
    }

    fn trial<'b>(&self, subject: &'b Subject) -> Option<(&'b Trial, usize)> {
        subject.trials.iter().find_map(|t| {
            let at = t.eps.iter().position(|e| *e == self.eps)?;
            self.trial.asks_as(t, self.name).then_some((t, at))
        })
    }

    fn of<'b>(&self, subject: &'b Subject, key: &str) -> Option<Found<'b>> {
        let (trial, at) = self.trial(subject)?;
        Some((&trial.index, Quartiles::of(trial.attack(self.name)?.measure(key)?.by_eps.get(at)?)))
    }

    fn norm(&self) -> String {
        match self.trial.norm.as_str() {
            "" | "l2" => String::new(),
            other => format!(" {}", words::norm_sign(other)),
        }
    }

    /// Its words in a title.
    fn words(&self) -> String {
        format!("{}{}, ε\u{a0}=\u{a0}{}", words::attack(self.name), self.norm(), number::plain(self.eps))
    }

    /// Its words in a sentence.
    fn spoken(&self) -> String {
        format!("{} attack at{} ε\u{a0}=\u{a0}{}", words::attack(self.name), self.norm(), number::plain(self.eps))
    }
}

fn dot(study: &Study, column: &Column, subject: usize) -> Dot {
    let name = study.subjects.get(subject).map_or_else(String::new, |a| a.name.clone());
    let summary = column.values.get(subject).copied().flatten().filter(|s| s.median.is_finite());
    Dot {
        ink: Ink::Series(subject),
        marker: Marker::series(subject),
        tip: summary.map_or_else(String::new, |s| format!("{name}\n{}\n{}", column.title, spread_words(&s))),
        value: summary.map(|s| (s.median, s.low, s.high)),
        name,
    }
}

/// One row for each model; best and worst of each column are marked.
fn table(study: &Study, columns: &[Column], order: &[usize]) -> Element {
    let mut head = element("tr").child(element("th").with("scope", "col").text("model"));
    for column in columns {
        head.push(element("th").with("scope", "col").class("n").text(&column.title));
    }
    let ends: Vec<(f64, f64)> = columns
        .iter()
        .map(|c| {
            let all = || order.iter().filter_map(|i| c.rank(*i));
            (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max))
        })
        .collect();
    let mut body = element("tbody");
    for subject in order {
        let mut row = element("tr").child(element("th").with("scope", "row").child(badge(study, *subject)));
        for (column, (low, high)) in columns.iter().zip(&ends) {
            let Some(value) = column.median(*subject) else {
                row.push(element("td").class("n").text("–"));
                continue;
            };
            let tag = match value {
                _ if low == high || !column.ranked || column.rank(*subject).is_none() => None,
                v if v == *low => Some("best"),
                v if v == *high => Some("worst"),
                _ => None,
            };
            let mut cell = element("td").class("n");
            if let Some(tag) = tag {
                cell.push(element("span").class(format!("tag {tag}")).text(tag));
            }
            row.push(cell.child(element("span").text(number::short(value))));
        }
        body.push(row);
    }
    let table = element("table").class("summary models compare").child(element("thead").child(head)).child(body);
    element("div").class("scroll wide").with("id", "compare-table").with("tabindex", "0").child(table)
}

fn finding(study: &Study, by: &Column, order: &[usize]) -> String {
    let named = |i: &usize| Some((study.subjects.get(*i)?.name.as_str(), by.rank(*i)?));
    let known: Vec<(&str, f64)> = order.iter().filter_map(named).collect();
    match known.as_slice() {
        _ if !by.alike => "Models side by side, on images that are not the same".to_owned(),
        [(best, low), .., (worst, high)] => format!(
            "The {} is least for {best} ({}) and largest for {worst} ({})",
            by.spoken,
            number::short(*low),
            number::short(*high)
        ),
        _ => "Models compared".to_owned(),
    }
}
