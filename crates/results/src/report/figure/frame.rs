//! Where a plot's marks are drawn.

use super::axis::Axis;

/// The place of the plot area in the SVG, and the places of values on it.
pub(super) struct Frame<'a> {
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
    pub x: &'a Axis,
    pub y: &'a Axis,
}

impl Frame<'_> {
    /// The point's place in the SVG; `None` if it cannot be shown.
    pub fn at(&self, x: f64, y: f64) -> Option<(f64, f64)> {
        let (u, v) = (self.x.place(x)?, self.y.place(y)?);
        Some((self.left + u * (self.right - self.left), self.bottom - v * (self.bottom - self.top)))
    }
}
