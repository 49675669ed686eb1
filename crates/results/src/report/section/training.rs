//! Loss curves of the training runs.

use super::{Headline, Section, each};
use crate::report::figure::{
    Axis, AxisScale, Curve, Figure, Ink, Mark, Marker, Panel, Plot, Point, Stroke, Table, Width, number,
};
use crate::report::study::{History, Study};

/// One panel for each column of `history.csv`.
pub fn section(study: &Study) -> Option<Section> {
    let mut columns: Vec<&str> = Vec::new();
    for column in study.histories.iter().flat_map(|h| h.columns.iter().skip(1)) {
        if !columns.contains(&column.as_str()) {
            columns.push(column);
        }
    }
    let mut table = Table::new(&["run", "quantity", "epoch", "value"]);
    let mut panels = Vec::new();
    for name in columns {
        let mut curves = Vec::new();
        let (mut x, mut y) = (Vec::new(), Vec::new());
        for (i, history) in study.histories.iter().enumerate() {
            let Some(at) = history.columns.iter().position(|c| c == name) else { continue };
            let ink = study.subjects.iter().position(|a| a.name == history.name).unwrap_or(i);
            let mut points = Vec::new();
            for row in &history.rows {
                let (epoch, value) = (row[0], row[at]);
                table.row([(&history.name).into(), name.into(), epoch.into(), value.into()]);
                let tip = format!(
                    "{}\nepoch {}\n{} {}",
                    history.name,
                    number::plain(epoch),
                    words(name).0,
                    number::short(value)
                );
                points.push(Point { x: epoch, y: value, tip, ..Point::default() });
                x.push(epoch);
                y.push(value);
            }
            curves.push(Mark::Curve(Curve {
                ink: Ink::Series(ink),
                stroke: Stroke::series(ink),
                marker: if points.len() <= 12 { Marker::series(ink) } else { Marker::None },
                label: if study.histories.len() > 1 { history.name.clone() } else { String::new() },
                points,
            }));
        }
        if !SETTINGS.contains(&name) {
            panels.extend(panel(name, Axis::fit("epoch", AxisScale::Linear, x), &y, 1.5, curves));
        }
    }
    if panels.is_empty() {
        return None;
    }
    let figure = Figure {
        id: "training-curves".to_owned(),
        title: finding(study),
        caption: "What training logged after each epoch.".to_owned(),
        panels,
        width: Width::Small,
        table,
        ..Figure::default()
    };
    let mut section = Section { id: "training", title: "Training", ..Section::default() };
    section.add(figure, Headline::No);
    section.filled()
}

/// Settings of training, as opposed to results: they are in the table, not drawn.
const SETTINGS: [&str; 3] = ["beta", "lr", "seconds"];

/// The panel of a quantity, logarithmic if its values span `decades`; none if it never changes, such as a constant learning rate.
pub(super) fn panel(name: &str, x: Axis, values: &[f64], decades: f64, marks: Vec<Mark>) -> Option<Panel> {
    let first = values.first()?;
    if !values.iter().any(|v| v.is_finite() && v != first) {
        return None;
    }
    let (title, axis) = words(name);
    let y = Axis::fit(axis, AxisScale::suiting(values.iter().copied(), decades), values.iter().copied());
    let panel = Plot::new(title, x, y, marks).sized(320.0, 210.0).draw();
    (panel.marks > 0).then_some(panel)
}

/// A panel's title and its axis.
fn words(column: &str) -> (String, String) {
    let (part, of) = column.strip_prefix("valid_").map_or((column, "training"), |rest| (rest, "validation"));
    let (title, axis) = match part {
        "loss" => ("Loss", "β-weighted, nats an image"),
        "reconstruction" => ("Reconstruction term", "−ln p(x|z), nats an image"),
        "kl" => ("KL term", "KL(q(z|x) ‖ p(z)), nats an image"),
        "mixup" => ("Mixup terms", "nats an image"),
        "elbo" => ("ELBO", "nats an image"),
        "seconds" => ("Time", "seconds"),
        other => return (format!("{}, {of}", other.replace('_', " ")), other.replace('_', " ")),
    };
    (format!("{title}, {of}"), axis.to_owned())
}

/// The final ELBO (or loss) of each run.
fn finding(study: &Study) -> String {
    let epochs = study.histories.iter().map(|h| h.rows.len()).max().unwrap_or(0);
    for (column, words) in [("valid_elbo", "the validation ELBO is"), ("loss", "the loss is")] {
        let end = |h: &History| {
            let at = h.columns.iter().position(|c| c == column)?;
            h.rows.last()?.get(at).copied().filter(|v| v.is_finite())
        };
        let ends: Vec<(&str, f64)> = study.histories.iter().filter_map(|h| Some((h.name.as_str(), end(h)?))).collect();
        if !ends.is_empty() {
            return format!("After {epochs} epochs {words} {}", each(&ends));
        }
    }
    format!("Training over {epochs} epochs")
}
