//! Whether an evaluation can be trusted: the raised flags, and each attack's share of the largest damage found, with its cost.

use super::{Headline, NO_SHARE, Section, called, has_shares, of_largest, passes};
use crate::report::figure::{Cell, Table};
use crate::report::markup::element;
use crate::report::study::{Effort, Study, Trial};
use crate::report::words;

/// Why there is no share.
const TOWARDS: &str = "Towards a target, damage is minus the distance that is left, so the most is the nearest to 0. A share of it would \
                       mean nothing: there is no optimality.";

/// Raised flags, and the share of each attack in the worst case; nothing for files that contain neither.
pub fn section(study: &Study) -> Option<Section> {
    let mut section = Section {
        id: "trust",
        title: "Can this evaluation be trusted?",
        intro: "A model looks robust where attacks are weak. Optimality is the damage of an attack as a share of the most that any attack \
                found on the same image, mean over the images; an attack is credited with an image where it found the most. Passes \
                are forward and backward through the model, for each image."
            .to_owned(),
        ..Section::default()
    };
    let trials = || {
        study
            .subjects
            .iter()
            .flat_map(|subject| subject.trials.iter().map(move |trial| (called(subject, trial), trial)))
    };
    let mut flags = Table::new(&["model", "attack", "flag", "images", "of", "share", "what it means"]);
    for (model, trial) in trials() {
        for raised in trial.flags.iter().filter(|f| f.count > 0) {
            flags.row([
                Cell::from(&model),
                Cell::from(&words::attack(&raised.attack)),
                Cell::from(&raised.flag),
                Cell::from(raised.count),
                Cell::from(raised.of),
                Cell::from(raised.count as f64 / raised.of.max(1) as f64),
                Cell::from(words::flag(&raised.flag)),
            ]);
        }
    }
    if !flags.rows.is_empty() {
        section.body.push(element("h3").text("Flags"));
        section.body.push(flags.element());
        section.findings.push((finding(&flags), "trust".to_owned()));
    }
    let columns = [
        "model",
        "norm",
        "attack",
        "ε",
        "mean damage",
        "optimality",
        "worst image",
        "credited",
        "passes forward",
        "back",
    ];
    let mut efforts = Table::new(&columns);
    for (model, trial) in trials() {
        rows(&mut efforts, &model, trial);
    }
    if !efforts.rows.is_empty() {
        section.body.push(element("h3").text("What each attack found"));
        section.body.push(efforts.element());
        section.body.push(efforts.download("optimality", "what each attack found"));
        if efforts.rows.iter().any(|row| matches!(&row[5], Cell::Text(text) if text == NO_SHARE)) {
            section.body.push(element("p").class("note").text(TOWARDS));
        }
    }
    section.add(passes::figure(study), Headline::No);
    section.filled()
}

/// The finding at the beginning of the page.
fn finding(flags: &Table) -> String {
    let most = flags.rows.iter().max_by(|a, b| match (&a[5], &b[5]) {
        (Cell::Number(a), Cell::Number(b)) => a.total_cmp(b),
        _ => std::cmp::Ordering::Equal,
    });
    let text = |cell: &Cell| match cell {
        Cell::Text(text) => text.clone(),
        Cell::Number(value) => format!("{:.0}\u{a0}%", 100.0 * value),
        Cell::Integer(count) => count.to_string(),
    };
    let count = flags.rows.len();
    let said = most
        .map(|r| format!("{} of {} under {} on {} of the images", text(&r[2]), text(&r[0]), text(&r[1]), text(&r[5])));
    let raised = if count == 1 { "1 flag was raised".to_owned() } else { format!("{count} flags were raised") };
    said.map_or_else(String::new, |said| format!("{raised}; the widest is {said}"))
}

/// Rows of each attack at each size; the suite's own row is the worst of its parts, which are compared with it.
fn rows(table: &mut Table, model: &str, trial: &Trial) {
    let efforts: Vec<&Effort> = trial.searches().collect();
    if efforts.len() < 2 {
        return;
    }
    for (at, eps) in trial.eps.iter().enumerate() {
        let best = of_largest(trial, at);
        let has_shares = has_shares(trial, &best);
        let share = |value: f64| if has_shares { Cell::from(value) } else { Cell::from(NO_SHARE) };
        for effort in &efforts {
            let pairs = || effort.damage[at].iter().zip(&best).filter(|(d, b)| d.is_finite() && b.is_finite());
            let shares: Vec<f64> = pairs().filter(|(_, b)| **b > 0.0).map(|(d, b)| d / b).collect();
            let count = pairs().count() as f64;
            let mean = pairs().map(|(d, _)| d).sum::<f64>() / count;
            let credited = pairs().filter(|(d, b)| d >= b).count();
            let (forward, backward) = effort.passes(at);
            let optimality = shares.iter().sum::<f64>() / shares.len() as f64;
            table.row([
                Cell::from(model),
                Cell::from(&trial.norm),
                Cell::from(&words::attack(&effort.attack)),
                Cell::from(*eps),
                Cell::from(mean),
                share(optimality),
                share(shares.iter().copied().fold(f64::NAN, f64::min)),
                Cell::from(credited),
                Cell::from(forward),
                Cell::from(backward),
            ]);
        }
    }
}
