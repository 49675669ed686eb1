//! Measured against predicted, of runs and of sweeps.

use crate::report::figure::{Axis, AxisScale, Cloud, Ink, Mark, Panel, Plot};

/// The label of the line where measured equals predicted.
const AS: &str = "as predicted";

/// The axis of measured over predicted, and the line at 1.
pub(super) fn ratios(spans: impl IntoIterator<Item = f64>) -> (Axis, Mark) {
    let spans = spans.into_iter().chain([1.0]);
    (Axis::fit("measured / predicted", AxisScale::Linear, spans).from_zero(), Mark::Level(1.0, AS.to_owned()))
}

/// One model's points: predicted, measured, and the text that is shown on hovering.
pub(super) type Points = (Ink, Vec<(f64, f64, String)>);

/// Every image, on axes for `span`: both have one range, so that the identity is the diagonal.
pub(super) fn scatter(title: String, clouds: Vec<Points>, span: &[f64]) -> Panel {
    let axis = |label: &str| Axis::fit(label, AxisScale::Log, span.iter().copied());
    let mut marks = vec![Mark::Identity(AS.to_owned())];
    marks.extend(clouds.into_iter().map(|(ink, points)| Mark::Cloud(Cloud { ink, points })));
    Plot::new(title, axis("predicted"), axis("measured"), marks).draw()
}
