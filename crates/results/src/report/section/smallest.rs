//! The smallest perturbation that does the required damage: the share of the images that each size reaches.

use super::{Headline, Section, called, each, legend};
use crate::report::figure::{Axis, AxisScale, Curve, Figure, Ink, Mark, Marker, Plot, Point, Stroke, Table, number};
use crate::report::stats::quantile;
use crate::report::study::{Smallest, Study, Trial};
use crate::report::words;

/// One figure for each norm; nothing if no file has such an attack.
pub fn section(study: &Study) -> Option<Section> {
    let mut section = Section {
        id: "smallest",
        title: "Smallest perturbation",
        intro: "For each image, the smallest perturbation that was found to do the damage that was asked for: an upper bound of what is \
                needed. The curve says what share of the images a size reaches; a robust model lies further right."
            .to_owned(),
        ..Section::default()
    };
    let mut norms: Vec<&str> = Vec::new();
    for trial in study.subjects.iter().flat_map(|subject| &subject.trials).filter(|trial| !trial.smallest.is_empty()) {
        if !norms.contains(&trial.norm.as_str()) {
            norms.push(&trial.norm);
        }
    }
    for norm in norms {
        section.add(figure(study, norm), Headline::Yes);
    }
    section.filled()
}

fn figure(study: &Study, norm: &str) -> Figure {
    let mut table = Table::new(&["model", "attack", "index", "smallest"]);
    let (mut marks, mut sizes, mut medians, mut shown) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut fewer: Vec<String> = Vec::new();
    let of_norm = |trial: &&Trial| trial.norm == norm && !trial.smallest.is_empty();
    let several =
        study.subjects.len() > 1 || study.subjects.iter().any(|s| s.trials.iter().filter(of_norm).count() > 1);
    for (ink, subject) in study.subjects.iter().enumerate() {
        for trial in subject.trials.iter().filter(of_norm) {
            let name = called(subject, trial);
            for Smallest { attack, values } in &trial.smallest {
                for (index, value) in trial.index.iter().zip(values) {
                    table.row([(&name).into(), attack.into(), (*index as i64).into(), (*value).into()]);
                }
                let mut reached: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
                reached.sort_by(f64::total_cmp);
                let share = |count: usize| count as f64 / values.len().max(1) as f64;
                let point = |(at, size): (usize, &f64)| Point {
                    x: *size,
                    y: share(at + 1),
                    band: None,
                    tip: format!(
                        "{name}\n{} of the images at {}",
                        number::percent(share(at + 1)),
                        number::short(*size)
                    ),
                    note: None,
                };
                let points = reached.iter().enumerate().map(point).collect();
                match half(&reached, values.len()) {
                    Some(size) => medians.push((name.clone(), size)),
                    None => fewer.push(name.clone()),
                }
                sizes.extend(reached);
                if !shown.iter().any(|(seen, _)| *seen == ink) {
                    shown.push((ink, subject.name.clone()));
                }
                marks.push(Mark::Curve(Curve {
                    ink: Ink::Series(ink),
                    stroke: Stroke::series(ink),
                    marker: Marker::None,
                    label: if several { name.clone() } else { String::new() },
                    points,
                }));
            }
        }
    }
    let x = Axis::fit(words::size_axis(norm), AxisScale::Linear, sizes).from_zero();
    let y = Axis::between("share of the images", AxisScale::Linear, 0.0, 1.0);
    let title = match (medians.len(), fewer.len()) {
        (0, _) => "Less than half of the images were reached".to_owned(),
        (_, 0) => format!("Half of the images are reached at ε = {}", each(&medians)),
        (_, 1..=4) => format!(
            "Half of the images are reached at ε = {}, and at no size for {}",
            each(&medians),
            words::list(&fewer)
        ),
        (_, many) => {
            format!("Half of the images are reached at ε = {}, and at no size for {many} others", each(&medians))
        }
    };
    Figure {
        id: format!("smallest-{norm}"),
        title,
        caption: "Share of the images on which a perturbation of at most this size does the damage asked for."
            .to_owned(),
        legend: legend(shown, |_| Marker::None),
        panels: vec![Plot::new("", x, y, marks).sized(560.0, 300.0).draw()],
        table,
        ..Figure::default()
    }
}

/// The size that reaches half of `count` images, of which `reached`, ascending, were reached: their median, where the others lie beyond all
/// sizes. `None` if less than half were reached.
fn half(reached: &[f64], count: usize) -> Option<f64> {
    let middle = count.checked_sub(1)? as f64 / 2.0;
    match reached.get(middle.ceil() as usize) {
        Some(_) => Some(quantile(&reached[..=middle.ceil() as usize], middle / middle.ceil().max(1.0))),
        // Just half of them: the middle lies between the last of these and what was not reached.
        None if 2 * reached.len() == count => reached.last().copied(),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::half;

    #[test]
    fn half_of_all_images_not_of_those_reached() {
        let sizes = [0.730, 0.754, 0.863, 0.9];
        assert_eq!(half(&sizes[..3], 5), Some(0.863));
        assert!((half(&sizes[..3], 4).unwrap() - (0.754 + 0.863) / 2.0).abs() < 1e-12);
        assert!((half(&sizes, 4).unwrap() - (0.754 + 0.863) / 2.0).abs() < 1e-12);
        assert_eq!(half(&sizes[..2], 4), Some(0.754));
        assert_eq!((half(&sizes[..1], 4), half(&sizes[..1], 1), half(&[], 0)), (None, Some(0.730), None));
    }
}
