//! The worst case as a table: means with their intervals, the area under them, and which attacks found it.
//!
//! It says of any attacks what `pullback leaderboard` says of the suite, on the images and models of one page.

use super::{NO_SHARE, anchor, called, has_shares};
use crate::report::figure::{Cell, Table, number};
use crate::report::markup::{Element, element};
use crate::report::stats::{MeanInterval, area};
use crate::report::study::{Subject, Trial};
use crate::report::words;

/// What the columns are.
const NOTE: &str = "The most that any attack of the file did to an image, mean over the images, with its bootstrap interval of 95 %; an image \
                    on which it is not finite is left out. The area is that under the mean damage over ε, from damage 0 at ε = 0, divided \
                    by the largest ε. There is none where damage is not 0 there: with the goal recon-mse, and towards a target. An attack \
                    is credited with an image where it found the most at the largest ε; of equal ones each is. Distances between codes \
                    compare models only where their codes have one scale.";

/// How rows are sorted.
const RANKED: &str = " Least area first: the most robust by these attacks.";

/// Where images are left out.
const LOST: &str = " A model that loses images, on which an attack drove it beyond finite values, comes last: its means leave out what broke \
                    it down.";

/// Why they are not.
const UNRANKED: &str = " The files did not ask the same of the same images, so the models are not ranked.";

/// The goal that is an error of reconstructions, not a change of them.
const ERROR: &str = "recon-mse";

/// What one file found.
struct Row {
    name: String,
    /// Ascending.
    sizes: Vec<f64>,
    /// By size.
    damage: Vec<MeanInterval>,
    /// None where damage is not 0 without an attack: an error of reconstructions, or minus a distance.
    area: Option<MeanInterval>,
    /// Images whose worst case is not finite, at some size.
    lost: usize,
    /// Attacks and their share of the images, the largest first.
    credited: Vec<(String, f64)>,
}

/// The table of trials of one norm and goal, with its heading, notes and numbers.
pub(super) fn table(entries: &[(&Subject, &Trial)], norm: &str, goal: &str) -> Vec<Element> {
    let mut rows: Vec<Row> = entries.iter().filter_map(|(subject, trial)| row(subject, trial)).collect();
    if rows.is_empty() {
        return vec![];
    }
    let mut note = NOTE.to_owned();
    let areas = rows.iter().all(|row| row.area.is_some());
    if rows.len() > 1 && areas && is_one_question(entries) {
        let of = |row: &Row| row.area.map_or(f64::NAN, |area| area.mean);
        rows.sort_by(|a, b| (a.lost > 0).cmp(&(b.lost > 0)).then(of(a).total_cmp(&of(b))));
        note.push_str(RANKED);
        note.push_str(if rows.iter().any(|row| row.lost > 0) { LOST } else { "" });
    } else if rows.len() > 1 && areas {
        note.push_str(UNRANKED);
    }
    let norm_words = if norm.is_empty() { String::new() } else { format!(", {}", words::norm_sign(norm)) };
    let heading = format!("Worst case over all attacks{norm_words}, goal {goal}");
    let numbers = numbers(&rows);
    vec![
        element("h3").text(heading),
        shown(&rows).element(),
        numbers.download(&format!("board-{}", anchor(&[norm, goal])), "worst case over all attacks"),
        element("p").class("note").text(note),
    ]
}

/// Whether all asked the same of the same images, by the same attacks: only then one is more robust than another.
fn is_one_question(entries: &[(&Subject, &Trial)]) -> bool {
    entries.windows(2).all(|pair| {
        let ((subject, trial), (other_subject, other)) = (pair[0], pair[1]);
        subject.origin.same_data(&other_subject.origin)
            && (&trial.eps, &trial.index) == (&other.eps, &other.index)
            && trial.attacks.len() == other.attacks.len()
            && trial.attacks.iter().all(|attack| trial.asks_as(other, &attack.name))
    })
}

fn row(subject: &Subject, trial: &Trial) -> Option<Row> {
    let largest = trial.largest()?;
    let mut by_size: Vec<Vec<f64>> = Vec::new();
    for at in 0..trial.eps.len() {
        let cases = trial.worst_case(at)?;
        by_size.push(cases.iter().map(|case| case.map_or(f64::NAN, |(damage, _)| damage)).collect());
    }
    let of_image = |i: usize| area(&trial.eps, |at| by_size[at][i]);
    let areas: Vec<f64> = (0..trial.index.len()).map(of_image).collect();
    Some(Row {
        name: called(subject, trial),
        sizes: trial.eps.clone(),
        damage: by_size.iter().map(|values| MeanInterval::of(values)).collect(),
        lost: (0..trial.index.len()).filter(|i| by_size.iter().any(|values| !values[*i].is_finite())).count(),
        area: (has_shares(trial, &by_size[largest]) && trial.goal != ERROR).then(|| MeanInterval::of(&areas)),
        credited: credited(trial, largest, &by_size[largest]),
    })
}

/// The share of the images on which each attack did the most, `best`, at the size `at`. The suite is the worst of its parts, which stand for
/// it.
fn credited(trial: &Trial, at: usize, best: &[f64]) -> Vec<(String, f64)> {
    let has_parts = trial.searches().any(|e| e.attack.starts_with("suite-"));
    let known = best.iter().filter(|most| most.is_finite()).count().max(1) as f64;
    let mut shares: Vec<(String, f64)> = Vec::new();
    for effort in trial.searches().filter(|e| !(has_parts && e.attack == "suite")) {
        // NaN is equal to nothing.
        let count = effort.damage[at].iter().zip(best).filter(|(damage, most)| damage == most).count();
        if count > 0 {
            shares.push((words::attack(&effort.attack), count as f64 / known));
        }
    }
    shares.sort_by(|a, b| b.1.total_cmp(&a.1));
    shares
}

/// The table that the page shows: a row a model.
fn shown(rows: &[Row]) -> Table {
    let mut sizes: Vec<f64> = rows.iter().flat_map(|row| row.sizes.iter().copied()).collect();
    sizes.sort_by(f64::total_cmp);
    sizes.dedup();
    let at_size = sizes.iter().map(|eps| format!("ε\u{a0}=\u{a0}{}", number::plain(*eps)));
    let first = ["model".to_owned()].into_iter();
    let any_lost = rows.iter().any(|row| row.lost > 0);
    let last = ["area", "lost", "credited"].into_iter().filter(|name| any_lost || *name != "lost");
    let columns: Vec<String> = first.chain(at_size).chain(last.map(str::to_owned)).collect();
    let mut table = Table { columns, rows: Vec::new() };
    for row in rows {
        let cell = |eps: &f64| {
            let at = row.sizes.iter().position(|own| own == eps);
            at.map_or_else(|| Cell::from("–"), |at| Cell::from(&with_interval(&row.damage[at])))
        };
        let credited = row.credited.iter().map(|(attack, share)| format!("{attack} {}", number::percent(*share)));
        let area = row.area.as_ref().map_or_else(|| NO_SHARE.to_owned(), with_interval);
        let lost = any_lost.then(|| Cell::from(row.lost));
        let last = [Cell::from(&area)].into_iter().chain(lost);
        let last = last.chain([Cell::from(&credited.collect::<Vec<_>>().join(", "))]);
        table.row([Cell::from(&row.name)].into_iter().chain(sizes.iter().map(cell)).chain(last));
    }
    table
}

/// "2.29 [2.07, 2.53]".
fn with_interval(found: &MeanInterval) -> String {
    format!("{} [{}, {}]", number::short(found.mean), number::short(found.low), number::short(found.high))
}

/// The same in full precision, a row a number.
fn numbers(rows: &[Row]) -> Table {
    let mut table = Table::new(&["model", "quantity", "attack", "eps", "value", "low", "high"]);
    for row in rows {
        let mut add = |quantity: &str, attack: &str, eps: f64, value: f64, ends: [Cell; 2]| {
            let [low, high] = ends;
            let cells = [Cell::from(&row.name), quantity.into(), attack.into(), eps.into(), value.into(), low, high];
            table.row(cells);
        };
        for (eps, found) in row.sizes.iter().zip(&row.damage) {
            add("damage", "", *eps, found.mean, [found.low.into(), found.high.into()]);
        }
        let largest = row.sizes.last().copied().unwrap_or(f64::NAN);
        if let Some(found) = &row.area {
            add("area", "", largest, found.mean, [found.low.into(), found.high.into()]);
        }
        if row.lost > 0 {
            add("lost", "", f64::NAN, row.lost as f64, ["", ""].map(Cell::from));
        }
        for (attack, share) in &row.credited {
            add("credited", attack, largest, *share, ["", ""].map(Cell::from));
        }
    }
    table
}
