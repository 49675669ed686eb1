//! The worst case: for each image the most that any attack of a file did, by size and model, and the images on which it is largest.

use super::board;
use super::rows::{Look, Rows, sample_words};
use super::{Headline, Section, anchor, called, each, legend, spread_point, spread_row, spread_table, spread_words};
use crate::error::Result;
use crate::report::figure::{
    Axis, AxisScale, Cell, Curve, Figure, Ink, Mark, Marker, Panel, Plot, Stroke, Table, Width, number,
};
use crate::report::stats::{MeanInterval, Quartiles};
use crate::report::study::{Study, Subject, Trial, Worst};
use crate::report::words;

/// One figure for each norm and goal, and the pictures; nothing for files that do not tell the damage.
pub fn section(study: &Study) -> Result<Option<Section>> {
    let mut section = Section {
        id: "worst",
        title: "Worst case",
        intro: "For each image, the most that any of a file's attacks did: what is known of how bad it can be. A better attack may do more."
            .to_owned(),
        ..Section::default()
    };
    let told = |trial: &&Trial| trial.largest().is_some_and(|at| trial.worst_case(at).is_some());
    let entries: Vec<(usize, &Subject, &Trial)> = study
        .subjects
        .iter()
        .enumerate()
        .flat_map(|(ink, subject)| subject.trials.iter().filter(told).map(move |trial| (ink, subject, trial)))
        .collect();
    let mut kinds: Vec<(&str, &str)> = Vec::new();
    for (_, _, trial) in &entries {
        if !kinds.contains(&(&trial.norm, &trial.goal)) {
            kinds.push((&trial.norm, &trial.goal));
        }
    }
    for (norm, goal) in &kinds {
        let own: Vec<_> = entries.iter().filter(|(_, _, t)| t.norm == *norm && t.goal == *goal).copied().collect();
        section.add(curves(&own, norm, goal), Headline::Yes);
        let rows: Vec<(&Subject, &Trial)> = own.iter().map(|(_, subject, trial)| (*subject, *trial)).collect();
        section.body.extend(board::table(&rows, norm, goal));
    }
    if let Some(figure) = gallery(&entries)? {
        section.add(figure, Headline::No);
    }
    Ok(section.filled())
}

/// Medians and middle halves over the images, by size, a curve for each file.
fn curves(entries: &[(usize, &Subject, &Trial)], norm: &str, goal: &str) -> Figure {
    let mut table = spread_table(&["model", "eps"]);
    table.columns.extend(["mean_low", "mean_high"].map(str::to_owned));
    let (mut marks, mut sizes, mut seen, mut shown) = (vec![], vec![], vec![], vec![]);
    let mut last: Vec<(String, f64)> = vec![];
    let common = common(&entries.iter().map(|(_, _, trial)| trial.eps.as_slice()).collect::<Vec<_>>());
    for (ink, subject, trial) in entries {
        let mut order: Vec<usize> = (0..trial.eps.len()).collect();
        order.sort_by(|a, b| trial.eps[*a].total_cmp(&trial.eps[*b]));
        let (mut points, name) = (vec![], called(subject, trial));
        for at in order {
            let Some(cases) = trial.worst_case(at) else { continue };
            let values: Vec<f64> = cases.iter().map(|case| case.map_or(f64::NAN, |(damage, _)| damage)).collect();
            let (summary, eps) = (Quartiles::of(&values), trial.eps[at]);
            let mean = MeanInterval::of(&values);
            let tip = format!("{name}\nε = {}\n{}", number::plain(eps), spread_words(&summary));
            points.push(spread_point(eps, &summary, tip));
            table.row(spread_row([(&name).into(), eps.into()], &summary).chain([mean.low.into(), mean.high.into()]));
            seen.extend([summary.low, summary.median, summary.high]);
            sizes.push(eps);
            if eps == common {
                last.push((name.clone(), summary.median));
            }
        }
        if !shown.iter().any(|(seen, _)| seen == ink) {
            shown.push((*ink, subject.name.clone()));
        }
        marks.push(Mark::Curve(Curve {
            ink: Ink::Series(*ink),
            stroke: Stroke::series(*ink),
            marker: Marker::series(*ink),
            label: if entries.len() > 1 { name } else { String::new() },
            points,
        }));
    }
    sizes.sort_by(f64::total_cmp);
    sizes.dedup();
    let x = Axis::fit(words::size_axis(norm), AxisScale::suiting(sizes.iter().copied(), 1.3), sizes.iter().copied());
    let y = Axis::fit(format!("damage (goal {goal})"), AxisScale::suiting(seen.iter().copied(), 2.3), seen).from_zero();
    let ticks: Vec<(f64, String)> = sizes.iter().map(|e| (*e, number::plain(*e))).collect();
    Figure {
        id: format!("worst-{}", anchor(&[norm, goal])),
        title: format!(
            "Worst case at ε\u{a0}=\u{a0}{}, goal {goal}, median over the images: {}",
            number::plain(common),
            each(&last)
        ),
        caption: "The most that any attack of the file did to an image: median over the images (line) and middle half (band). \
                  The numbers have the bootstrap interval of the mean, too."
            .to_owned(),
        legend: legend(shown, Marker::series),
        panels: vec![Plot::new("", x, y, marks).sized(560.0, 300.0).x_ticks(ticks).draw()],
        table,
        ..Figure::default()
    }
}

/// The size that most files have, and the largest of these: the title compares models there.
fn common(files: &[&[f64]]) -> f64 {
    let having = |size: f64| files.iter().filter(|sizes| sizes.contains(&size)).count();
    let sizes = files.iter().copied().flatten().copied();
    sizes.max_by(|a, b| having(*a).cmp(&having(*b)).then(a.total_cmp(b))).unwrap_or(f64::NAN)
}

/// The images that were hit hardest; nothing if no file has images.
fn gallery(entries: &[(usize, &Subject, &Trial)]) -> Result<Option<Figure>> {
    let mut table = Table::new(&["model", "index", "label", "attack", "eps", "damage"]);
    let mut panels = Vec::new();
    for (_, subject, trial) in entries {
        let (Some(worst), Some(largest)) = (&trial.worst, trial.largest()) else { continue };
        let name = called(subject, trial);
        panels.push(panel(&name, worst)?);
        for ((sample, attack), damage) in worst.samples.iter().zip(&worst.attacks).zip(&worst.damage) {
            table.row([
                (&name).into(),
                (sample.index as i64).into(),
                sample.label.map_or(Cell::Text(String::new()), Cell::Integer),
                attack.into(),
                trial.eps[largest].into(),
                (*damage).into(),
            ]);
        }
    }
    if panels.is_empty() {
        return Ok(None);
    }
    Ok(Some(Figure {
        id: "worst-images".to_owned(),
        title: "The images on which attacks did most".to_owned(),
        caption: "At the largest size, the worst first, each after the attack that did most to it. These are extremes, and chosen as such; \
                  the gallery above has images from the whole range."
            .to_owned(),
        panels,
        width: Width::Pictures,
        table,
        ..Figure::default()
    }))
}

fn panel(name: &str, worst: &Worst) -> Result<Panel> {
    let mut rows = Rows::new(name);
    let named: Vec<String> = worst.samples.iter().map(sample_words).collect();
    let hit: Vec<String> = named
        .iter()
        .zip(worst.attacks.iter().zip(&worst.damage))
        .map(|(name, (attack, damage))| format!("{name}\n{}: damage {}", words::attack(attack), number::short(*damage)))
        .collect();
    let spoken = |what: &str| format!("{what}: {}", named.join("; "));
    rows.add("input", Look::photos(&worst.originals, named.clone(), spoken("inputs")), None)?;
    rows.add("reconstruction", Look::photos(&worst.recon, named.clone(), spoken("reconstructions")), None)?;
    rows.add("attacked input", Look::photos(&worst.attacked, hit.clone(), spoken("attacked inputs")), None)?;
    let after = Look::photos(&worst.attacked_recon, hit, spoken("reconstructions of attacked inputs"));
    rows.add("reconstruction", after, None)?;
    Ok(rows.panel())
}

#[cfg(test)]
mod tests {
    use super::common;

    #[test]
    fn titles_compare_at_a_size_that_most_files_have() {
        assert_eq!(common(&[&[0.5, 1.0], &[1.0, 2.0, 0.5]]), 1.0);
        // The least of the largest would be 3, of one model alone.
        assert_eq!(common(&[&[1.0, 3.0], &[1.0, 2.0, 4.0], &[1.0, 2.0]]), 1.0);
        assert_eq!(common(&[&[1.0], &[2.0]]), 2.0);
        assert!(common(&[]).is_nan());
    }
}
