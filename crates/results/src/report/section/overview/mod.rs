//! What was measured, and the tables of all models.

mod sources; // the files
mod tables; //  scores and damage, model by model

pub use sources::sources;
pub(super) use tables::badge;

use super::{Section, spread_row, spread_table};
use crate::report::figure::{Cell, Table, number};
use crate::report::markup::{Element, element};
use crate::report::stats::Quartiles;
use crate::report::study::{Origin, Scores, Study, Subject};
use crate::report::words;

/// The tables of all models.
pub fn section(study: &Study) -> Option<Section> {
    if study.subjects.is_empty() {
        return None;
    }
    let mut section = Section { id: "summary", title: "Quartiles", ..Section::default() };
    let all = csv(study);
    let undefined = all.columns.iter().position(|c| c == "undefined");
    let undefined = all.rows.iter().any(|row| matches!(undefined.map(|at| &row[at]), Some(Cell::Integer(n)) if *n > 0));
    let note = if undefined {
        "Medians over the images, means of the scores in brackets. A raised number counts the images without a \
         finite value: they are in neither."
    } else {
        "Medians over the images, means of the scores in brackets; every value is finite."
    };
    section.body.push(
        element("div")
            .class("fig")
            .with("id", "summary-table")
            .child(element("p").class("note").text(note))
            .children(masked(study).map(|line| element("p").class("note").text(line)))
            .child(element("div").class("tables").children(tables::all(study)))
            .child(all.details("summary", "summary of all models")),
    );
    Some(section)
}

/// Which models hide their gradient, one line for each: a spectrum of zeros does not mean robustness there.
fn masked(study: &Study) -> impl Iterator<Item = String> {
    let of = |subject: &Subject, scores: &Scores| {
        let (count, all) = (scores.masked, scores.index.len());
        (count > 0).then(|| {
            format!(
                "{} ({}): the gradient of {count} of {all} images is masked, by a rounding or the like: what the metric \
                 measures moves with noise on the pixels, the metric is 0. Their scores are counted as undefined.",
                subject.name, scores.metric
            )
        })
    };
    study.subjects.iter().flat_map(move |subject| subject.scores.iter().filter_map(move |scores| of(subject, scores)))
}

/// A summary of every column of every file, one row each.
fn csv(study: &Study) -> Table {
    let mut table = spread_table(&["model", "part", "metric", "name", "attack", "norm", "set", "eps"]);
    let mut put = |place: [Cell; 8], values: &[f64]| {
        table.row(spread_row(place, &Quartiles::of(values)));
    };
    for subject in &study.subjects {
        let name = || Cell::from(&subject.name);
        let none = || Cell::from("");
        for scores in &subject.scores {
            let facet = || Cell::from(&scores.facet);
            for column in &scores.columns {
                let of = [name(), "scores".into(), facet(), (&column.name).into(), none(), none(), none(), none()];
                put(of, &column.values);
            }
        }
        for trial in &subject.trials {
            let (norm, set) = (|| Cell::from(&trial.norm), || Cell::from(&trial.label));
            for column in &trial.clean {
                let of = [name(), "clean".into(), none(), (&column.name).into(), none(), norm(), set(), none()];
                put(of, &column.values);
            }
            for outcome in &trial.attacks {
                for measure in &outcome.measures {
                    for (eps, values) in trial.eps.iter().zip(&measure.by_eps) {
                        let of = [
                            name(),
                            "attack".into(),
                            (&trial.metric).into(),
                            (&measure.name).into(),
                            (&outcome.name).into(),
                            norm(),
                            set(),
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

/// "strokes (test): 64 images attacked, 256 scored", one line for each data set.
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

/// Models, data, metric, device, seed and versions; each only once if all files agree.
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
        .subjects
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
