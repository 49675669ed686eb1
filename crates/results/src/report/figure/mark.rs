//! What a plot can hold: curves with bands, clouds of points, histograms, reference lines.

use super::ink::{Ink, Marker, Stroke};

/// One point of a curve.
#[derive(Clone, Debug, Default)]
pub struct Point {
    /// Position along the x axis.
    pub x: f64,
    /// Position along the y axis.
    pub y: f64,
    /// Lower and upper end of the band at this point.
    pub band: Option<(f64, f64)>,
    /// The text shown on hovering; one fact on each line.
    pub tip: String,
    /// Words written beside the point.
    pub note: Option<String>,
}

/// Points joined by a line, with a band where the points have one.
#[derive(Clone, Debug)]
pub struct Curve {
    /// Colour.
    pub ink: Ink,
    /// Line.
    pub stroke: Stroke,
    /// Shape at each point.
    pub marker: Marker,
    /// Written at the curve's end; nothing if empty.
    pub label: String,
    /// The points in drawing order; the line breaks where one cannot be shown.
    pub points: Vec<Point>,
}

/// Unjoined points.
#[derive(Clone, Debug)]
pub struct Cloud {
    /// Colour.
    pub ink: Ink,
    /// Positions, and the text of each that is shown on hovering.
    pub points: Vec<(f64, f64, String)>,
}

/// A histogram's outline.
#[derive(Clone, Debug)]
pub struct Steps {
    /// Colour.
    pub ink: Ink,
    /// Line, so that overlaid outlines differ by more than colour.
    pub stroke: Stroke,
    /// Bin edges, one more than heights, ascending.
    pub edges: Vec<f64>,
    /// Height of each bin.
    pub heights: Vec<f64>,
    /// Marked on the base line if given.
    pub median: Option<f64>,
}

/// A mark of a plot.
#[derive(Clone, Debug)]
pub enum Mark {
    /// A line with its band and points.
    Curve(Curve),
    /// Points alone.
    Cloud(Cloud),
    /// A histogram.
    Steps(Steps),
    /// Invisible columns between `edges` that show a text on hovering.
    Zones {
        /// Column edges, one more than tips.
        edges: Vec<f64>,
        /// The text of each column.
        tips: Vec<String>,
    },
    /// The line y = x, with its words.
    Identity(String),
    /// A horizontal reference line at a value, with its words.
    Level(f64, String),
}

/// Equal bins over all `values` together, on the axis' scale: [`Steps`] edges. Whole numbers get bins of whole width.
pub fn bins(values: &[f64], log: bool, wanted: usize) -> Vec<f64> {
    let shown: Vec<f64> = values.iter().copied().filter(|v| v.is_finite() && (!log || *v > 0.0)).collect();
    let low = shown.iter().copied().fold(f64::INFINITY, f64::min);
    let high = shown.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if low > high {
        return Vec::new();
    }
    if shown.iter().all(|v| v.fract() == 0.0) && high - low < 2.0 * wanted as f64 && !log {
        // An empty bin on either side shows that a single value stands alone.
        return (0..=(high - low) as usize + 3).map(|i| low - 1.5 + i as f64).collect();
    }
    // Values that differ only by rounding are one bin, not a spread.
    let spread = if log { (high / low).ln() } else { high - low };
    if spread <= 1e-9 * if log { 1.0 } else { low.abs().max(high.abs()).max(1e-300) } {
        let half = if low == 0.0 { 0.5 } else { 0.05 * low.abs() };
        return vec![low - 3.0 * half, low - half, low + half, low + 3.0 * half];
    }
    (0..=wanted)
        .map(|i| {
            let t = i as f64 / wanted as f64;
            if log { low * (high / low).powf(t) } else { low + t * (high - low) }
        })
        .collect()
}

/// Share of the finite `values` in each bin; the last bin includes its upper edge.
pub fn shares(values: &[f64], edges: &[f64]) -> Vec<f64> {
    let cells = edges.len().saturating_sub(1);
    let mut counts = vec![0usize; cells];
    let mut total = 0usize;
    for v in values.iter().filter(|v| v.is_finite()) {
        total += 1;
        let above = edges.partition_point(|e| e <= v);
        let cell = if above == edges.len() && cells > 0 {
            // The value is at the last edge, within the rounding of its computation.
            (*v <= edges[cells] * (1.0 + 1e-9 * edges[cells].signum())).then_some(cells - 1)
        } else if above == 0 && cells > 0 {
            (*v >= edges[0] * (1.0 - 1e-9 * edges[0].signum())).then_some(0)
        } else {
            above.checked_sub(1)
        };
        if let Some(cell) = cell.filter(|c| *c < cells) {
            counts[cell] += 1;
        }
    }
    counts.into_iter().map(|c| c as f64 / total.max(1) as f64).collect()
}
