//! Where a plot's marks fall.

use super::axis::Axis;

/// Where the plot area lies within the SVG, and how values fall on it.
pub(super) struct Frame<'a> {
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
    pub x: &'a Axis,
    pub y: &'a Axis,
}

impl Frame<'_> {
    /// The point's place in the SVG; `None` where it cannot be shown.
    pub fn at(&self, x: f64, y: f64) -> Option<(f64, f64)> {
        let (u, v) = (self.x.place(x)?, self.y.place(y)?);
        Some((self.left + u * (self.right - self.left), self.bottom - v * (self.bottom - self.top)))
    }
}
