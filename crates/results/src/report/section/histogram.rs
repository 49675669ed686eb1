//! Overlaid histograms on common bins, of runs and of sweeps.

use crate::report::figure::{AxisScale, Ink, Mark, Steps, Stroke, bins, number, shares};
use crate::report::stats::Quartiles;
use crate::report::words;

/// One outline's values.
pub(super) struct Column<'a> {
    pub ink: Ink,
    pub stroke: Stroke,
    pub name: String,
    pub values: &'a [f64],
}

/// The bins of one score.
pub(super) struct Bins {
    pub edges: Vec<f64>,
    pub scale: AxisScale,
}

impl Bins {
    /// Bins over all `values` of the score `name`; `None` if no value can be shown.
    pub fn over(name: &str, values: &[f64], wanted: usize) -> Option<Self> {
        let scale = words::scale(name, values);
        let edges = bins(values, scale == AxisScale::Log, wanted);
        (edges.len() > 1).then_some(Self { edges, scale })
    }

    /// The outlines with the text for each bin that is shown on hovering, and the largest height. `note` gets the position of a column, the
    /// edges of a bin and its height, for each bin.
    pub fn marks(&self, columns: &[Column<'_>], mut note: impl FnMut(usize, &[f64], f64)) -> (Vec<Mark>, f64) {
        let edges = &self.edges;
        let mut tallest = 0.0f64;
        let mut marks = Vec::new();
        let mut tips: Vec<String> =
            edges.windows(2).map(|e| format!("{} to {}", number::short(e[0]), number::short(e[1]))).collect();
        for (at, column) in columns.iter().enumerate() {
            let heights = shares(column.values, edges);
            for ((tip, pair), height) in tips.iter_mut().zip(edges.windows(2)).zip(&heights) {
                if *height > 0.0 || columns.len() <= 2 {
                    tip.push_str(&format!("\n{}: {:.1} %", column.name, 100.0 * height));
                }
                tallest = tallest.max(*height);
                note(at, pair, *height);
            }
            let median = Some(Quartiles::of(column.values).median);
            let (ink, stroke) = (column.ink, column.stroke);
            marks.push(Mark::Steps(Steps { ink, stroke, edges: edges.clone(), heights, median }));
        }
        marks.push(Mark::Zones { edges: edges.clone(), tips });
        (marks, tallest)
    }
}
