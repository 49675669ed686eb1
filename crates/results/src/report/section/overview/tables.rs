//! Scores and damage for each model: one or two models have a column each, side by side; more models have a row each.

use crate::report::figure::{Marker, SERIES, number};
use crate::report::load::evenly;
use crate::report::markup::{Element, element};
use crate::report::stats::Quartiles;
use crate::report::study::{Measure, Named, Study, Subject, Trial};
use crate::report::words;

/// Measures of damage that have a table; the CSV contains all measures.
const SHOWN: [&str; 4] = ["latent_l2", "latent_kl", "recon_shift", "recon_mse"];
/// The number of sizes that a table shows, with and without much room; the CSV contains all sizes.
const SIZES: usize = 6;
const FEW_SIZES: usize = 4;
/// Up to this many models have a column each.
const COLUMNS: usize = 2;

/// The tables.
pub(super) fn all(study: &Study) -> Vec<Element> {
    if study.subjects.len() <= COLUMNS {
        let damage = damage(study, &SHOWN, SIZES);
        return [scores(study)].into_iter().chain(damage).collect();
    }
    let damage = SHOWN.iter().filter_map(|key| damage(study, &[key], FEW_SIZES));
    let mut groups = groups(study);
    // A table with one column stands beside the damage.
    groups.sort_by_key(|g| g.rows.len() == 1);
    groups.iter().map(|g| by_model(study, g)).chain(damage).collect()
}

/// A median, and the number of undefined values.
fn median(summary: Option<Quartiles>) -> Element {
    let Some(summary) = summary else { return element("td").class("n").text("–") };
    let cell = element("td").class("n").text(number::short(summary.median));
    if summary.undefined == 0 {
        return cell;
    }
    let words = format!("{} of {} undefined", summary.undefined, summary.count);
    cell.child(element("sup").with("title", words).text(summary.undefined))
}

/// A median with its mean.
fn both(summary: Option<Quartiles>) -> Element {
    let cell = median(summary);
    match summary {
        Some(s) => cell.child(element("span").class("mean").text(format!(" ({})", number::short(s.mean)))),
        None => cell,
    }
}

/// The model's name with its colour and, if colours repeat, its shape.
pub(in crate::report::section) fn badge(study: &Study, subject: usize) -> Element {
    let shape = match Marker::series(subject) {
        Marker::Ring => " ring",
        Marker::Diamond => " diamond",
        _ => "",
    };
    let dot = element("span").class(format!("dot s{}{shape}", subject % SERIES));
    element("span").class("model").child(dot).text(study.subjects.get(subject).map_or("", |a| a.name.as_str()))
}

/// Columns of numbers that belong together: a quantity, and its summary for each model.
struct Group {
    title: String,
    rows: Vec<(String, Vec<Option<Quartiles>>)>,
}

/// Clean errors, then the scores of each facet.
fn groups(study: &Study) -> Vec<Group> {
    let group = |title: String, of: &dyn Fn(&Subject) -> Vec<Named>| {
        let mut rows: Vec<(String, Vec<Option<Quartiles>>)> = Vec::new();
        for (i, subject) in study.subjects.iter().enumerate() {
            for column in of(subject) {
                let name = words::title(&column.name);
                let place = rows.iter().position(|r| r.0 == name).unwrap_or_else(|| {
                    rows.push((name, vec![None; study.subjects.len()]));
                    rows.len() - 1
                });
                rows[place].1[i] = Some(Quartiles::of(&column.values));
            }
        }
        Group { title, rows }
    };
    let clean = group("Without attack".to_owned(), &|subject| {
        subject.trials.first().map_or_else(Vec::new, |trial| trial.clean.clone())
    });
    let facets = study.facets();
    let scores = facets.iter().map(|facet| {
        let title = if facets.len() > 1 { format!("Scores, {}", words::facet(facet)) } else { "Scores".to_owned() };
        group(title, &|subject| subject.facet(facet).map_or_else(Vec::new, |s| s.columns.clone()))
    });
    [clean].into_iter().chain(scores).filter(|g| !g.rows.is_empty()).collect()
}

/// Clean errors and scores: one row for each quantity, one column for each model.
fn scores(study: &Study) -> Element {
    let mut head = element("tr").child(element("td").text(""));
    for subject in 0..study.subjects.len() {
        head.push(element("th").with("scope", "col").class("n").child(badge(study, subject)));
    }
    let mut body = element("tbody");
    for group in groups(study) {
        body.push(heading(&group.title, 1 + study.subjects.len()));
        for (name, values) in group.rows {
            let row = element("tr").child(element("th").with("scope", "row").text(name));
            body.push(row.children(values.into_iter().map(both)));
        }
    }
    boxed(element("thead").child(head), body)
}

/// One group: one row for each model, one column for each quantity.
fn by_model(study: &Study, group: &Group) -> Element {
    let mut head = element("tr").child(element("th").with("scope", "col").text(&group.title));
    for (name, _) in &group.rows {
        head.push(element("th").with("scope", "col").class("n").text(name));
    }
    let mut body = element("tbody");
    for subject in (0..study.subjects.len()).filter(|i| group.rows.iter().any(|r| r.1[*i].is_some())) {
        let row = element("tr").child(element("th").with("scope", "row").child(badge(study, subject)));
        body.push(row.children(group.rows.iter().map(|r| both(r.1[subject]))));
    }
    let table = element("table").class("summary models").child(element("thead").child(head)).child(body);
    let class = if group.rows.len() == 1 { "scroll" } else { "scroll wide" };
    element("div").class(class).with("tabindex", "0").child(table)
}

/// Damage by the measures `keys`: one row for each measure, model and attack, one column for each size. `None` if no file has any.
fn damage(study: &Study, keys: &[&str], most: usize) -> Option<Element> {
    let trials = || {
        let numbered = study.subjects.iter().enumerate();
        numbered.flat_map(|(i, subject)| subject.trials.iter().map(move |trial| (i, trial)))
    };
    let mut sizes: Vec<f64> = trials().flat_map(|(_, t)| t.eps.iter().copied()).collect();
    sizes.sort_by(f64::total_cmp);
    sizes.dedup();
    let shown: Vec<f64> = evenly(sizes.len(), most).into_iter().map(|at| sizes[at]).collect();
    let mut head = element("tr").child(element("td").text("")).child(element("th").with("scope", "col").text("ε ="));
    for size in &shown {
        head.push(element("th").with("scope", "col").class("n").text(number::plain(*size)));
    }
    let mut body = element("tbody");
    let mut rows = 0;
    for key in keys {
        let mut begun = false;
        for (subject, trial) in trials() {
            let held = trial.attacks.iter().filter_map(|a| Some((a.name.as_str(), a.measure(key)?)));
            for (at, (attack, measure)) in held.enumerate() {
                if !begun {
                    body.push(heading(&format!("{} under attack", words::title(key)), 2 + shown.len()));
                    begun = true;
                }
                rows += 1;
                let name = if at == 0 { badge(study, subject) } else { element("span") };
                body.push(row(name, trial, attack, measure, &shown));
            }
        }
    }
    (rows > 0).then(|| boxed(element("thead").child(head), body))
}

/// One attack's medians at the sizes `shown`.
fn row(name: Element, trial: &Trial, attack: &str, measure: &Measure, shown: &[f64]) -> Element {
    let mut told: Vec<&str> = Vec::new();
    if !matches!(trial.norm.as_str(), "" | "l2") {
        told.push(words::norm_sign(&trial.norm));
    }
    if !trial.label.is_empty() {
        told.push(&trial.label);
    }
    let told = if told.is_empty() { String::new() } else { format!(" ({})", told.join(", ")) };
    let attack = element("th").with("scope", "row").text(format!("{}{told}", words::attack(attack)));
    let mut row = element("tr").child(element("th").with("scope", "row").child(name)).child(attack);
    for size in shown {
        let found = trial.eps.iter().position(|e| e == size).and_then(|e| measure.by_eps.get(e));
        row.push(median(found.map(|v| Quartiles::of(v))));
    }
    row
}

fn heading(words: &str, width: usize) -> Element {
    let cell = element("th").with("scope", "rowgroup").with("colspan", width).text(words);
    element("tr").class("group").child(cell)
}

fn boxed(head: Element, body: Element) -> Element {
    let table = element("table").class("summary").child(head).child(body);
    element("div").class("scroll").with("tabindex", "0").child(table)
}
