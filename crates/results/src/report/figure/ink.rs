//! Colours by meaning. The style sheet turns each class into the hue of the reader's theme. The hues begin with blue and vermillion of
//! Okabe & Ito (2008); all can be told apart under simulated protanopia, deuteranopia and tritanopia and stand out from the background, as
//! a test checks.

use std::fmt;

/// What a mark stands for; this decides its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    /// Model `0`, `1`, ...: the same colour wherever the model appears.
    Series(usize),
    /// Position `at` of `of` on an ordered scale, such as beta or the number of a direction.
    Ordered {
        /// Position, from 0.
        at: usize,
        /// How many there are.
        of: usize,
    },
    /// Things in the background: a random direction, an identity line.
    Muted,
}

/// Hues in the style sheet for [`Ink::Series`].
pub const SERIES: usize = 6;
/// Steps in the style sheet for [`Ink::Ordered`].
pub const STEPS: usize = 6;

impl fmt::Display for Ink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Series(i) => write!(f, "s{}", i % SERIES),
            Self::Ordered { at, of } => {
                let last = of.saturating_sub(1).max(1);
                write!(f, "r{}", ((at * (STEPS - 1)) as f64 / last as f64).round().min(5.0) as usize)
            }
            Self::Muted => f.write_str("mu"),
        }
    }
}

/// How a line is drawn: it repeats what the colour says, so that no curve is known by its colour alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stroke {
    /// Unbroken.
    #[default]
    Solid,
    /// Long dashes.
    Dashed,
    /// Dots.
    Dotted,
    /// No line, points only.
    None,
}

impl Stroke {
    /// The line of model `i`. With its hue it distinguishes eighteen models: each round of hues uses other dashes.
    pub fn series(i: usize) -> Self {
        [Self::Solid, Self::Dashed, Self::Dotted][(i / 2 + i / SERIES) % 3]
    }

    /// The class in the style sheet.
    pub fn class(self) -> &'static str {
        match self {
            Self::Solid => "l",
            Self::Dashed => "l d1",
            Self::Dotted => "l d2",
            Self::None => "l d0",
        }
    }
}

/// The shape of a point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Marker {
    /// Nothing is drawn at the point.
    #[default]
    None,
    /// A filled circle.
    Disc,
    /// An open circle.
    Ring,
    /// A filled square.
    Square,
    /// A filled diamond.
    Diamond,
    /// A filled triangle.
    Triangle,
}

impl Marker {
    /// The point of model `i`, if no line distinguishes it: each round of hues has its own shape.
    pub fn series(i: usize) -> Self {
        [Self::Disc, Self::Ring, Self::Diamond][(i / SERIES) % 3]
    }

    /// A different shape for each of the first five.
    pub fn nth(i: usize) -> Self {
        [Self::Disc, Self::Square, Self::Diamond, Self::Triangle, Self::Ring][i % 5]
    }
}
