//! Eigenvalue curves: the median of each eigenvalue over the images with its quartiles, of runs and of sweeps.

use super::{spread_point, spread_words};
use crate::report::figure::{Axis, AxisScale, Point, number};
use crate::report::stats::Quartiles;

/// Eigenvalues this far below the largest are drawn at the lower edge; otherwise all others would be squeezed.
const DEPTH: f64 = 1e-7;
/// The sentence for figures that have such values.
pub(super) const BELOW: &str = " Values below 10⁻⁷ of the largest lie on the lower edge.";

/// The curves that share axes.
#[derive(Default)]
pub(super) struct Spectra {
    seen: Vec<f64>,
    largest: f64,
    widest: usize,
}

impl Spectra {
    /// Adds the points of a spectrum, one for each eigenvalue.
    pub fn points(&mut self, name: &str, spectrum: &[Quartiles]) -> Vec<Point> {
        self.widest = self.widest.max(spectrum.len());
        let mut points = Vec::new();
        for (k, s) in spectrum.iter().enumerate() {
            self.seen.extend([s.low, s.high]);
            self.largest = [self.largest, s.low, s.high].into_iter().filter(|v| v.is_finite()).fold(0.0, f64::max);
            let tip = format!("{name}\nλ{} = {}", number::subscript(k + 1), spread_words(s));
            points.push(spread_point((k + 1) as f64, s, tip));
        }
        points
    }

    /// Whether there is nothing to draw.
    pub fn is_empty(&self) -> bool {
        self.widest == 0
    }

    /// Whether some values lie below the lower edge.
    pub fn is_cut(&self) -> bool {
        self.seen.iter().any(|v| *v < self.largest * DEPTH)
    }

    /// The axis of the eigenvalues' numbers.
    pub fn ranks(&self) -> Axis {
        let high = self.widest.max(1) as f64 + 0.5;
        Axis::between("i, from the most sensitive direction", AxisScale::Linear, 0.5, high)
    }

    /// The axis of the eigenvalues.
    pub fn values(&self) -> Axis {
        Axis::fit("λᵢ", AxisScale::Log, self.seen.iter().copied()).raised_to(self.largest * DEPTH)
    }
}
