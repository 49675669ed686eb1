//! What was measured, and the table of all models.

use super::{Section, spread_row, spread_table};
use crate::report::figure::{Cell, Table, number};
use crate::report::load::evenly;
use crate::report::markup::{Element, element};
use crate::report::stats::Summary;
use crate::report::study::{Named, Origin, Study};
use crate::report::words;

/// Measures of damage that have a table; the CSV has all.
const SHOWN: [&str; 4] = ["latent_l2", "latent_kl", "recon_shift", "recon_mse"];
/// Sizes of an attack that a table shows; the CSV has all.
const SIZES: usize = 6;

/// The tables of all models.
pub fn section(study: &Study) -> Option<Section> {
    if study.arms.is_empty() {
        return None;
    }
    let mut section = Section { id: "summary", title: "Summary", ..Section::default() };
    let all = csv(study);
    let undefined = all.rows.iter().any(|row| matches!(row.get(7), Some(Cell::Integer(n)) if *n > 0));
    let note = if undefined {
        "Medians over the images, means of the scores in brackets. A raised number counts the images without a \
         finite value: they are in neither."
    } else {
        "Medians over the images, means of the scores in brackets; every value is finite."
    };
    let mut tables = element("div").class("tables").child(scores(study));
    if let Some(damage) = damage(study) {
        tables.push(damage);
    }
    section.body.push(
        element("div")
            .class("fig")
            .with("id", "summary-table")
            .child(element("p").class("note").text(note))
            .child(tables)
            .child(all.details("summary", "summary of all models")),
    );
    Some(section)
}

/// A median and how many values are undefined.
fn median(summary: Option<Summary>) -> Element {
    let Some(summary) = summary else { return element("td").class("n").text("–") };
    let cell = element("td").class("n").text(number::short(summary.median));
    if summary.undefined == 0 {
        return cell;
    }
    let words = format!("{} of {} undefined", summary.undefined, summary.count);
    cell.child(element("sup").with("title", words).text(summary.undefined))
}

/// A median with its mean.
fn both(summary: Option<Summary>) -> Element {
    let cell = median(summary);
    match summary {
        Some(s) => cell.child(element("span").class("mean").text(format!(" ({})", number::short(s.mean)))),
        None => cell,
    }
}

/// The model's name with its colour.
fn badge(study: &Study, arm: usize) -> Element {
    let dot = element("span").class(format!("dot s{}", arm % crate::report::figure::SERIES));
    element("span").child(dot).text(study.arms.get(arm).map_or("", |a| a.name.as_str()))
}

/// Clean errors and scores: a row a quantity, a column a model.
fn scores(study: &Study) -> Element {
    let mut rows: Vec<(&str, String, Vec<Option<Summary>>)> = Vec::new();
    let mut put = |arm: usize, group: &'static str, column: &Named| {
        let name = words::title(&column.name);
        let summary = Some(Summary::of(&column.values));
        if let Some(row) = rows.iter_mut().find(|r| (r.0, &r.1) == (group, &name)) {
            row.2[arm] = summary;
        } else {
            let mut values = vec![None; study.arms.len()];
            values[arm] = summary;
            rows.push((group, name, values));
        }
    };
    for (i, arm) in study.arms.iter().enumerate() {
        arm.trials.first().iter().flat_map(|t| &t.clean).for_each(|c| put(i, "Without attack", c));
    }
    for (i, arm) in study.arms.iter().enumerate() {
        arm.scores.iter().flat_map(|s| &s.columns).for_each(|c| put(i, "Scores", c));
    }
    let mut head = element("tr").child(element("td").text(""));
    for arm in 0..study.arms.len() {
        head.push(element("th").with("scope", "col").class("n").child(badge(study, arm)));
    }
    let mut body = element("tbody");
    let mut group = "";
    for (of, name, values) in rows {
        if of != group {
            group = of;
            body.push(heading(group, 1 + study.arms.len()));
        }
        let row = element("tr").child(element("th").with("scope", "row").text(name));
        body.push(row.children(values.into_iter().map(both)));
    }
    boxed(element("thead").child(head), body)
}

/// Damage: a row a measure, model and attack, a column a size. `None` where no file has any.
fn damage(study: &Study) -> Option<Element> {
    let trials = || {
        let numbered = study.arms.iter().enumerate();
        numbered.flat_map(|(i, arm)| arm.trials.iter().map(move |trial| (i, trial)))
    };
    let mut sizes: Vec<f64> = trials().flat_map(|(_, t)| t.eps.iter().copied()).collect();
    sizes.sort_by(f64::total_cmp);
    sizes.dedup();
    let shown: Vec<f64> = evenly(sizes.len(), SIZES).into_iter().map(|at| sizes[at]).collect();
    let mut head = element("tr").child(element("td").text("")).child(element("th").with("scope", "col").text("ε ="));
    for size in &shown {
        head.push(element("th").with("scope", "col").class("n").text(number::plain(*size)));
    }
    let mut body = element("tbody");
    let mut rows = 0;
    for key in SHOWN {
        let mut begun = false;
        for (arm, trial) in trials() {
            let held = trial.attacks.iter().filter_map(|a| Some((a.name.as_str(), a.measure(key)?)));
            for (at, (attack, measure)) in held.enumerate() {
                if !begun {
                    body.push(heading(&format!("{} under attack", words::title(key)), 2 + shown.len()));
                    begun = true;
                }
                rows += 1;
                let name = if at == 0 { badge(study, arm) } else { element("span") };
                let norm = match trial.norm.as_str() {
                    "" | "l2" => String::new(),
                    other => format!(" ({})", words::norm_sign(other)),
                };
                let attack = element("th").with("scope", "row").text(format!("{}{norm}", words::attack(attack)));
                let mut row = element("tr").child(element("th").with("scope", "row").child(name)).child(attack);
                for size in &shown {
                    let found = trial.eps.iter().position(|e| e == size).and_then(|e| measure.by_eps.get(e));
                    row.push(median(found.map(|v| Summary::of(v))));
                }
                body.push(row);
            }
        }
    }
    (rows > 0).then(|| boxed(element("thead").child(head), body))
}

fn heading(words: &str, width: usize) -> Element {
    let cell = element("th").with("scope", "rowgroup").with("colspan", width).text(words);
    element("tr").class("group").child(cell)
}

fn boxed(head: Element, body: Element) -> Element {
    let table = element("table").class("summary").child(head).child(body);
    element("div").class("scroll").with("tabindex", "0").child(table)
}

/// Every column of every file in short, one row each.
fn csv(study: &Study) -> Table {
    let mut table = spread_table(&["model", "part", "name", "attack", "norm", "eps"]);
    let mut put = |place: [Cell; 6], values: &[f64]| {
        table.row(spread_row(place, &Summary::of(values)));
    };
    for arm in &study.arms {
        let name = || Cell::from(&arm.name);
        let none = || Cell::from("");
        for column in arm.scores.iter().flat_map(|s| &s.columns) {
            put([name(), "scores".into(), (&column.name).into(), none(), none(), none()], &column.values);
        }
        for trial in &arm.trials {
            let norm = || Cell::from(&trial.norm);
            for column in &trial.clean {
                put([name(), "clean".into(), (&column.name).into(), none(), norm(), none()], &column.values);
            }
            for outcome in &trial.attacks {
                for measure in &outcome.measures {
                    for (eps, values) in trial.eps.iter().zip(&measure.by_eps) {
                        let of = [
                            name(),
                            "attack".into(),
                            (&measure.name).into(),
                            (&outcome.name).into(),
                            norm(),
                            (*eps).into(),
                        ];
                        put(of, values);
                    }
                }
            }
        }
    }
    table
}

/// "strokes (test): 64 images attacked, 256 scored", a line a data set.
fn data(study: &Study) -> Vec<String> {
    let mut sets: Vec<(String, Vec<String>)> = Vec::new();
    for o in &study.files {
        let name = format!("{} ({})", words::dataset(&o.dataset), o.split);
        let verb = match o.kind.as_str() {
            "scores" => "scored",
            "attack" => "attacked",
            _ => "a model",
        };
        let images = match o.samples {
            1 => format!("1 image {verb}"),
            n => format!("{} images {verb}", number::count(n)),
        };
        let place = sets.iter().position(|(n, _)| *n == name).unwrap_or_else(|| {
            sets.push((name, Vec::new()));
            sets.len() - 1
        });
        if !sets[place].1.contains(&images) {
            sets[place].1.push(images);
        }
    }
    sets.into_iter().map(|(name, images)| format!("{name}: {}", images.join(", "))).collect()
}

/// Models, data, metric, device, seed and versions, each once where all files agree.
pub fn facts(study: &Study) -> Element {
    let mut list = element("dl").class("facts");
    let mut add = |name: &str, values: Vec<String>| {
        let mut seen: Vec<String> = Vec::new();
        for value in values {
            if !value.is_empty() && !seen.contains(&value) {
                seen.push(value);
            }
        }
        if !seen.is_empty() {
            let pair = element("div").child(element("dt").text(name)).child(element("dd").text(seen.join(", ")));
            list.push(pair);
        }
    };
    let each = |of: &dyn Fn(&Origin) -> String| study.files.iter().map(of).collect::<Vec<_>>();
    let models: Vec<String> = study
        .arms
        .iter()
        .map(|a| a.name.clone())
        .chain(study.sweeps.iter().map(|s| format!("{} of a sweep", s.models.len())))
        .collect();
    add("models", models);
    add("data", data(study));
    add("metric", each(&|o| o.metric.clone()));
    add("device", each(&|o| o.device.clone()));
    add("precision", each(&|o| o.precision.clone()));
    let single = study.files.iter().filter(|o| o.kind != "sweep").map(|o| o.seed.to_string());
    let of_sweeps = study.sweeps.iter().flat_map(|s| &s.models).filter_map(|m| m.seed).map(|s| s.to_string());
    add("seeds", single.chain(of_sweeps).collect());
    add("versions", each(&|o| format!("pullback {}, libtorch {}", o.version, o.libtorch)));
    list
}

/// The files read, with their hashes and configurations.
pub fn sources(study: &Study) -> Section {
    let mut section = Section { id: "sources", title: "Sources", ..Section::default() };
    let mut table = Table::new(&[
        "file",
        "kind",
        "model",
        "model_sha256",
        "dataset",
        "split",
        "samples",
        "metric",
        "device",
        "precision",
        "seed",
        "version",
        "libtorch",
    ]);
    for o in &study.files {
        table.row([
            (&o.file).into(),
            (&o.kind).into(),
            (&o.model).into(),
            (&o.sha256).into(),
            (&o.dataset).into(),
            (&o.split).into(),
            o.samples.into(),
            (&o.metric).into(),
            (&o.device).into(),
            (&o.precision).into(),
            Cell::Text(o.seed.to_string()),
            (&o.version).into(),
            (&o.libtorch).into(),
        ]);
    }
    section.body.push(table.element());
    for o in study.files.iter().filter(|o| !o.config.trim().is_empty()) {
        section.body.push(
            element("details")
                .class("data")
                .child(element("summary").text(format!("Configuration of {}", o.file)))
                .child(element("pre").with("tabindex", "0").text(o.config.trim_end())),
        );
    }
    section
}
