//! Damage by class: which classes of the data are hit hardest, by attack and size.

use super::{Section, called};
use crate::report::figure::{Cell, Table, number};
use crate::report::stats::Quartiles;
use crate::report::study::{Study, Trial};
use crate::report::words;

/// A table of all models and attacks; nothing if files have no classes, or only one.
pub fn section(study: &Study) -> Option<Section> {
    let mut section = Section {
        id: "classes",
        title: "Damage by class",
        intro: "The value of each attack's goal over the images of a class. A mean over all images may hide a class that is hit much harder than \
                others."
            .to_owned(),
        ..Section::default()
    };
    let mut table = Table::new(&["model", "norm", "goal", "attack", "ε", "class", "images", "mean", "median", "worst"]);
    for subject in &study.subjects {
        for trial in &subject.trials {
            let before = table.rows.len();
            let name = called(subject, trial);
            rows(&mut table, &name, trial);
            if table.rows.len() > before {
                section.findings.extend(finding(&name, trial).map(|words| (words, "classes".to_owned())));
            }
        }
    }
    // Each model could have its own finding: the page begins with the first alone.
    section.findings.truncate(1);
    if !table.rows.is_empty() {
        section.body.push(table.element());
        section.body.push(table.download("classes", "damage by class"));
    }
    section.filled()
}

/// The classes that occur, ascending; none if there are fewer than two.
fn classes(trial: &Trial) -> Vec<i64> {
    let mut found = trial.labels.clone();
    found.sort_unstable();
    found.dedup();
    if found.len() < 2 { vec![] } else { found }
}

/// "3", or "3 (cat)".
fn named(trial: &Trial, class: i64) -> String {
    let name = usize::try_from(class).ok().and_then(|at| trial.classes.get(at));
    name.map_or_else(|| class.to_string(), |name| format!("{class} ({name})"))
}

/// What was done to the images of one class; where no attack has a value, the image is left out.
fn of_class(trial: &Trial, damage: &[f64], class: i64) -> Vec<f64> {
    let own = trial.labels.iter().zip(damage).filter(|(label, damage)| **label == class && damage.is_finite());
    own.map(|(_, damage)| *damage).collect()
}

fn rows(table: &mut Table, model: &str, trial: &Trial) {
    let classes = classes(trial);
    for effort in trial.efforts.iter().filter(|effort| effort.damage.len() == trial.eps.len()) {
        for (eps, damage) in trial.eps.iter().zip(&effort.damage) {
            for class in &classes {
                let values = of_class(trial, damage, *class);
                let summary = Quartiles::of(&values);
                table.row([
                    Cell::from(model),
                    Cell::from(&trial.norm),
                    Cell::from(&trial.goal),
                    Cell::from(&words::attack(&effort.attack)),
                    Cell::from(*eps),
                    Cell::from(&named(trial, *class)),
                    Cell::from(values.len()),
                    Cell::from(summary.mean),
                    Cell::from(summary.median),
                    Cell::from(values.iter().copied().fold(f64::NAN, f64::max)),
                ]);
            }
        }
    }
}

/// The class that is hit hardest and the one that is hit least, in the worst case at the largest size.
fn finding(model: &str, trial: &Trial) -> Option<String> {
    let largest = trial.largest()?;
    let cases = trial.worst_case(largest)?;
    let damage: Vec<f64> = cases.iter().map(|case| case.map_or(f64::NAN, |(damage, _)| damage)).collect();
    let medians =
        classes(trial).into_iter().map(|class| (class, Quartiles::of(&of_class(trial, &damage, class)).median));
    let known: Vec<(i64, f64)> = medians.filter(|(_, median)| median.is_finite()).collect();
    let most = known.iter().max_by(|a, b| a.1.total_cmp(&b.1))?;
    let least = known.iter().min_by(|a, b| a.1.total_cmp(&b.1))?;
    let eps = number::plain(trial.eps[largest]);
    (most.1 > least.1).then(|| {
        format!(
            "Of the classes, {} is hit hardest and {} least: medians of {} and {} at ε\u{a0}=\u{a0}{eps} for {model}, goal {}",
            named(trial, most.0),
            named(trial, least.0),
            number::short(most.1),
            number::short(least.1),
            trial.goal
        )
    })
}
