//! How ten digits are written: the points that a pen passes, in a box of width and height 1, y downwards.
//!
//! Each digit has several forms, as people write them; `share` is a form's frequency relative to the digit's other forms.

/// A point of a stroke.
#[derive(Clone, Copy, Debug)]
pub struct Knot {
    /// To the right, 0 to 1.
    pub x: f32,
    /// Downwards, 0 to 1.
    pub y: f32,
    /// How the pen passes.
    pub turn: Turn,
}

/// How the pen passes a knot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// In a curve.
    Smooth,
    /// With a corner.
    Sharp,
}

/// One way to write a digit.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// Relative frequency.
    pub share: f32,
    /// Width of the box divided by its height, before a writer's own proportions.
    pub aspect: f32,
    /// The strokes in order.
    pub strokes: &'static [&'static [Knot]],
}

/// A smooth knot.
const fn s(x: f32, y: f32) -> Knot {
    Knot { x, y, turn: Turn::Smooth }
}

/// A corner.
const fn c(x: f32, y: f32) -> Knot {
    Knot { x, y, turn: Turn::Sharp }
}

const fn form(share: f32, aspect: f32, strokes: &'static [&'static [Knot]]) -> Form {
    Form { share, aspect, strokes }
}

/// The forms of each digit.
pub const DIGITS: [&[Form]; 10] = [&ZERO, &ONE, &TWO, &THREE, &FOUR, &FIVE, &SIX, &SEVEN, &EIGHT, &NINE];

const ZERO: [Form; 2] = [
    // closed where it began
    form(3.0, 0.85, &[
        &[
            s(0.55, 0.0), s(0.22, 0.12), s(0.03, 0.5), s(0.18, 0.88), s(0.5, 1.0), s(0.82, 0.86), s(0.97, 0.5),
            s(0.82, 0.13), s(0.52, 0.0),
        ],
    ]),
    // closed with an overlap
    form(1.0, 0.75, &[
        &[
            s(0.72, 0.1), s(0.4, 0.02), s(0.1, 0.3), s(0.05, 0.68), s(0.32, 0.98), s(0.72, 0.88), s(0.96, 0.5),
            s(0.86, 0.14), s(0.6, 0.02), s(0.4, 0.12),
        ],
    ]),
];

const ONE: [Form; 3] = [
    // a plain stroke
    form(6.0, 0.1, &[&[s(0.5, 0.0), s(0.5, 0.5), s(0.5, 1.0)]]),
    // with an upstroke
    form(1.0, 0.45, &[&[s(0.1, 0.3), s(0.5, 0.14), c(0.75, 0.0), s(0.72, 0.5), s(0.7, 1.0)]]),
    // with a foot
    form(0.5, 0.6, &[
        &[c(0.2, 0.24), c(0.55, 0.0), c(0.52, 1.0)],
        &[c(0.1, 1.0), c(0.95, 0.98)],
    ]),
];

const TWO: [Form; 3] = [
    // a corner at the foot
    form(2.0, 0.8, &[
        &[
            s(0.06, 0.24), s(0.3, 0.02), s(0.68, 0.04), s(0.84, 0.28), s(0.66, 0.6), s(0.34, 0.84), c(0.04, 0.98),
            s(0.5, 0.97), s(0.98, 0.95),
        ],
    ]),
    // a loop at the foot
    form(2.0, 0.85, &[
        &[
            s(0.08, 0.18), s(0.38, 0.0), s(0.72, 0.12), s(0.72, 0.42), s(0.46, 0.76), s(0.16, 0.98),
            s(0.02, 0.86), s(0.16, 0.72), s(0.42, 0.82), s(0.7, 0.97), s(0.99, 0.88),
        ],
    ]),
    // round at the foot
    form(1.0, 0.75, &[
        &[
            s(0.12, 0.12), s(0.45, 0.0), s(0.78, 0.14), s(0.76, 0.42), s(0.42, 0.72), s(0.12, 0.93), s(0.4, 0.98),
            s(0.96, 0.93),
        ],
    ]),
];

const THREE: [Form; 3] = [
    // two bows, a corner between
    form(3.0, 0.7, &[
        &[
            s(0.08, 0.12), s(0.42, 0.0), s(0.78, 0.12), s(0.74, 0.34), c(0.36, 0.47), s(0.78, 0.56),
            s(0.92, 0.78), s(0.62, 0.98), s(0.26, 0.98), s(0.03, 0.86),
        ],
    ]),
    // a small loop between
    form(1.0, 0.72, &[
        &[
            s(0.1, 0.1), s(0.45, 0.0), s(0.76, 0.16), s(0.64, 0.38), s(0.38, 0.48), s(0.36, 0.42), s(0.58, 0.46),
            s(0.88, 0.64), s(0.82, 0.88), s(0.46, 1.0), s(0.05, 0.9),
        ],
    ]),
    // a flat top
    form(0.5, 0.75, &[
        &[c(0.06, 0.05), c(0.84, 0.02), c(0.4, 0.4), s(0.8, 0.5), s(0.92, 0.74), s(0.6, 0.98), s(0.06, 0.92)],
    ]),
];

const FOUR: [Form; 3] = [
    // open
    form(3.0, 0.75, &[
        &[s(0.14, 0.02), s(0.05, 0.34), s(0.14, 0.53), s(0.5, 0.54), s(0.84, 0.44)],
        &[s(0.9, 0.0), s(0.84, 0.45), s(0.76, 1.0)],
    ]),
    // open, with a corner, the bar crossing the stem
    form(2.0, 0.75, &[
        &[s(0.2, 0.04), s(0.12, 0.26), c(0.03, 0.54), s(0.5, 0.53), s(0.98, 0.5)],
        &[s(0.74, 0.06), s(0.69, 0.5), s(0.66, 1.0)],
    ]),
    // closed
    form(1.0, 0.8, &[
        &[s(0.68, 0.0), s(0.36, 0.34), c(0.02, 0.62), s(0.5, 0.62), s(0.98, 0.6)],
        &[s(0.68, 0.0), s(0.68, 0.5), s(0.66, 1.0)],
    ]),
];

const FIVE: [Form; 3] = [
    // the roof written last
    form(2.0, 0.8, &[
        &[s(0.26, 0.05), c(0.16, 0.45), s(0.48, 0.38), s(0.82, 0.54), s(0.82, 0.82), s(0.46, 1.0), s(0.04, 0.92)],
        &[s(0.26, 0.05), s(0.6, 0.05), s(0.98, 0.0)],
    ]),
    // one stroke, from the right
    form(2.0, 0.85, &[
        &[
            s(0.98, 0.02), s(0.66, 0.04), c(0.34, 0.07), c(0.22, 0.42), s(0.5, 0.44), s(0.78, 0.6), s(0.72, 0.88),
            s(0.36, 1.0), s(0.03, 0.9),
        ],
    ]),
    // one stroke, curved all along
    form(1.0, 0.75, &[
        &[
            s(0.96, 0.0), s(0.5, 0.06), s(0.22, 0.22), s(0.36, 0.42), s(0.66, 0.58), s(0.68, 0.84), s(0.36, 1.0),
            s(0.04, 0.9),
        ],
    ]),
];

const SIX: [Form; 2] = [
    // a bowed back
    form(2.0, 0.68, &[
        &[
            s(0.74, 0.0), s(0.38, 0.2), s(0.1, 0.56), s(0.12, 0.86), s(0.46, 1.0), s(0.84, 0.86), s(0.8, 0.62),
            s(0.46, 0.56), s(0.14, 0.76),
        ],
    ]),
    // a straight back, a small eye
    form(1.0, 0.62, &[
        &[
            s(0.66, 0.0), s(0.32, 0.34), s(0.08, 0.72), s(0.24, 0.97), s(0.64, 0.95), s(0.82, 0.74), s(0.56, 0.6),
            s(0.22, 0.74), s(0.14, 0.86),
        ],
    ]),
];

const SEVEN: [Form; 3] = [
    // plain
    form(4.0, 0.72, &[&[s(0.03, 0.1), s(0.46, 0.08), c(0.92, 0.02), s(0.68, 0.46), s(0.46, 1.0)]]),
    // with a bar
    form(1.5, 0.75, &[
        &[s(0.04, 0.07), s(0.46, 0.07), c(0.92, 0.03), s(0.64, 0.46), s(0.42, 1.0)],
        &[s(0.24, 0.52), s(0.88, 0.48)],
    ]),
    // with a tick, round at the shoulder
    form(1.5, 0.75, &[
        &[c(0.04, 0.28), c(0.1, 0.06), s(0.5, 0.07), s(0.86, 0.06), s(0.84, 0.24), s(0.64, 0.58), s(0.52, 1.0)],
    ]),
];

const EIGHT: [Form; 2] = [
    // one stroke that crosses itself
    form(3.0, 0.68, &[
        &[
            s(0.84, 0.14), s(0.5, 0.0), s(0.16, 0.16), s(0.3, 0.4), s(0.66, 0.57), s(0.86, 0.8), s(0.5, 1.0),
            s(0.12, 0.82), s(0.34, 0.58), s(0.72, 0.36), s(0.88, 0.12),
        ],
    ]),
    // two rings
    form(1.0, 0.62, &[
        &[s(0.54, 0.0), s(0.2, 0.12), s(0.24, 0.38), s(0.54, 0.48), s(0.82, 0.32), s(0.76, 0.08), s(0.48, 0.0)],
        &[s(0.52, 0.48), s(0.14, 0.62), s(0.12, 0.88), s(0.5, 1.0), s(0.88, 0.86), s(0.84, 0.6), s(0.48, 0.48)],
    ]),
];

const NINE: [Form; 3] = [
    // a straight stem
    form(3.0, 0.65, &[
        &[
            s(0.84, 0.12), s(0.48, 0.0), s(0.12, 0.2), s(0.18, 0.46), s(0.52, 0.5), s(0.82, 0.26), c(0.88, 0.08),
            s(0.84, 0.5), s(0.76, 1.0),
        ],
    ]),
    // round, without a corner
    form(1.5, 0.62, &[
        &[
            s(0.8, 0.3), s(0.46, 0.5), s(0.12, 0.34), s(0.26, 0.06), s(0.64, 0.02), s(0.86, 0.22), s(0.8, 0.6),
            s(0.62, 1.0),
        ],
    ]),
    // a hooked tail
    form(1.0, 0.68, &[
        &[
            s(0.82, 0.1), s(0.46, 0.0), s(0.12, 0.18), s(0.22, 0.44), s(0.56, 0.46), s(0.84, 0.2), s(0.88, 0.56),
            s(0.74, 0.9), s(0.4, 1.0), s(0.12, 0.92),
        ],
    ]),
];
