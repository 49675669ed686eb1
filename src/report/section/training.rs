//! Loss curves of the training runs.

use super::{Headline, Section, stroke};
use crate::report::figure::{Axis, Curve, Figure, Ink, Mark, Marker, Plot, Point, Scale, Table, Width, number};
use crate::report::study::Study;

/// One panel a column of `history.csv`.
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
            let ink = study.arms.iter().position(|a| a.name == history.name).unwrap_or(i);
            let mut points = Vec::new();
            for row in &history.rows {
                let (epoch, value) = (row[0], row[at]);
                table.row([(&history.name).into(), name.into(), epoch.into(), value.into()]);
                let tip = format!(
                    "{}\nepoch {}\n{} {}",
                    history.name,
                    number::plain(epoch),
                    title(name),
                    number::short(value)
                );
                points.push(Point { x: epoch, y: value, tip, ..Point::default() });
                x.push(epoch);
                y.push(value);
            }
            curves.push(Mark::Curve(Curve {
                ink: Ink::Series(ink),
                stroke: stroke(ink),
                marker: if points.len() <= 12 { Marker::Disc } else { Marker::None },
                label: if study.histories.len() > 1 { history.name.clone() } else { String::new() },
                points,
            }));
        }
        // A quantity that never changes, such as a constant learning rate, needs no picture.
        let varies = y.iter().any(|v| v.is_finite() && *v != y[0]);
        let panel = Plot::new(
            title(name),
            Axis::fit("epoch", Scale::Linear, x),
            Axis::fit(title(name), Scale::suiting(y.iter().copied(), 1.5), y.iter().copied()),
            curves,
        )
        .sized(320.0, 210.0)
        .draw();
        if varies && panel.marks > 0 {
            panels.push(panel);
        }
    }
    if panels.is_empty() {
        return None;
    }
    let epochs = study.histories.iter().map(|h| h.rows.len()).max().unwrap_or(0);
    let figure = Figure {
        id: "training-curves".to_owned(),
        title: format!("Training over {epochs} epochs"),
        caption: "What training logged after each epoch.".to_owned(),
        legend: Vec::new(),
        controls: Vec::new(),
        panels,
        width: Width::Small,
        table,
    };
    let mut section = Section { id: "training", title: "Training", ..Section::default() };
    section.add(figure, Headline::No);
    section.filled()
}

fn title(column: &str) -> String {
    match column {
        "kl" => "KL term (nats)".to_owned(),
        other => other.replace('_', " "),
    }
}
