//! The data of a sweep's figures: the whole sweep or one set of its attacks, an arm, and how both are named and coloured.

use crate::report::figure::{Axis, AxisScale, Curve, Ink, Key, Mark, Marker, Point, Stroke, number};
use crate::report::load::evenly;
use crate::report::study::{OutcomeSummary, StepScale, StepSet, Sweep, SweepPoint};
use crate::report::words;

/// The number of betas that a panel shows together.
const BETAS: usize = 5;

/// A sweep, or one set of its attacks, and how its figures are named.
pub(super) struct View<'a> {
    pub(super) sweep: &'a Sweep,
    pub(super) name: String,
    /// The set, if the sweep has several.
    pub(super) set: Option<&'a StepSet>,
}

/// One arm of a sweep: the models of one strength of mixup.
pub(super) struct Arm<'a> {
    /// "no mixup", "mixup", "mixup 0.5".
    pub(super) name: String,
    /// "without mixup", "with mixup".
    pub(super) with: String,
    pub(super) ink: Ink,
    pub(super) stroke: Stroke,
    pub(super) points: Vec<&'a SweepPoint>,
}

impl Arm<'_> {
    /// The arm's curve; its name stands at its end if there are `several` arms.
    pub(super) fn curve(&self, points: Vec<Point>, several: bool) -> Mark {
        let marker = if points.len() <= 24 { Marker::Disc } else { Marker::None };
        let label = if several { self.name.clone() } else { String::new() };
        Mark::Curve(Curve { ink: self.ink, stroke: self.stroke, marker, label, points })
    }
}

impl<'a> View<'a> {
    pub(super) fn id(&self, figure: &str) -> String {
        match self.set {
            Some(set) if !set.key.is_empty() => format!("{}-{}-{figure}", self.name, set.key),
            _ => format!("{}-{figure}", self.name),
        }
    }

    /// The attacks of every set in this view.
    pub(super) fn attacks(&self) -> &'a [OutcomeSummary] {
        self.sweep.points.first().map_or(&[], |p| p.attacks.as_slice())
    }

    /// An attack's name in words.
    pub(super) fn words(&self, attack: &str) -> String {
        self.attacks().iter().find(|a| a.name == attack).map_or_else(|| words::attack(attack), OutcomeSummary::words)
    }

    /// The suffix of a title that distinguishes this set's figures from the others'.
    pub(super) fn suffix(&self) -> String {
        match self.set.map(|s| s.scale) {
            None => String::new(),
            Some(StepScale::Unit) => " (equal steps)".to_owned(),
            Some(StepScale::Eigen) => " (steps of s\u{a0}λᵢ)".to_owned(),
            Some(StepScale::Singular) => " (steps of s\u{a0}√λᵢ)".to_owned(),
        }
    }

    pub(super) fn scale(&self) -> StepScale {
        self.sweep.sets.first().map(|s| s.scale).unwrap_or_default()
    }

    /// The metric along whose directions the attacks go.
    pub(super) fn metric(&self) -> &str {
        self.sweep.sets.first().map_or("", |s| s.metric.as_str())
    }

    /// The arms, ascending in beta.
    pub(super) fn arms(&self) -> Vec<Arm<'_>> {
        let arms: Vec<&[SweepPoint]> = self.sweep.points.chunk_by(|a, b| a.mixup == b.mixup).collect();
        let strengths = arms.iter().filter(|arm| arm[0].mixup > 0.0).count();
        let name = |strength: f64| match strength {
            0.0 => "no mixup".to_owned(),
            _ if strengths == 1 => "mixup".to_owned(),
            strength => format!("mixup {}", number::plain(strength)),
        };
        arms.into_iter()
            .enumerate()
            .map(|(i, arm)| Arm {
                name: name(arm[0].mixup),
                with: match arm[0].mixup {
                    0.0 => "without mixup".to_owned(),
                    strength => format!("with {}", name(strength)),
                },
                ink: Ink::Series(i),
                stroke: [Stroke::Solid, Stroke::Dashed, Stroke::Dotted][i % 3],
                points: arm.iter().collect(),
            })
            .collect()
    }

    /// The axis of beta.
    pub(super) fn beta_axis(&self) -> Axis {
        let betas = || self.sweep.points.iter().map(|p| p.beta);
        Axis::fit("β, weight of the KL term", AxisScale::suiting(betas(), 1.0), betas())
    }

    /// A few of an arm's models, each with its beta's position on the ordered scale of colours: those whose betas are evenly spaced over
    /// the longest arm, if this arm has them, so that one colour means one beta in every panel.
    pub(super) fn chosen<'p>(&self, arm: &Arm<'p>) -> Vec<(Ink, &'p SweepPoint)> {
        let arms = self.arms();
        let longest = arms.iter().rev().max_by_key(|l| l.points.len()).map_or(&[][..], |l| l.points.as_slice());
        let betas: Vec<f64> = evenly(longest.len(), BETAS).into_iter().map(|at| longest[at].beta).collect();
        let mut shown: Vec<&SweepPoint> = arm.points.iter().copied().filter(|p| betas.contains(&p.beta)).collect();
        if shown.is_empty() {
            shown = evenly(arm.points.len(), BETAS).into_iter().map(|at| arm.points[at]).collect();
        }
        let place = |beta: f64| betas.iter().position(|b| *b >= beta).unwrap_or(betas.len().saturating_sub(1));
        shown.into_iter().map(|p| (Ink::Ordered { at: place(p.beta), of: betas.len() }, p)).collect()
    }

    /// The axis of step sizes.
    pub(super) fn size_axis(&self) -> Axis {
        let label = match self.scale() {
            StepScale::Eigen => "size s (steps along uᵢ are s λᵢ long)".to_owned(),
            StepScale::Singular => "size s (steps along uᵢ are s √λᵢ long)".to_owned(),
            StepScale::Unit => crate::report::words::size_axis(self.sweep.sets.first().map_or("", |s| s.norm.as_str())),
        };
        let sizes = || self.sweep.eps.iter().copied();
        Axis::fit(label, AxisScale::suiting(sizes(), 1.0), sizes())
    }

    /// The symbol of a step size: ε, or s if it multiplies the eigenvalue or its root.
    pub(super) fn symbol(&self) -> &'static str {
        if self.scale() == StepScale::Unit { "ε" } else { "s" }
    }

    /// A step size in words.
    pub(super) fn size(&self, at: usize) -> String {
        format!("{}\u{a0}=\u{a0}{}", self.symbol(), number::plain(self.sweep.eps.get(at).copied().unwrap_or(f64::NAN)))
    }
}

/// "β = 0.34".
pub(super) fn beta_words(point: &SweepPoint) -> String {
    format!("β\u{a0}=\u{a0}{}", number::plain(point.beta))
}

/// A legend of betas, each once.
pub(super) fn beta_keys(shown: &[(Ink, &SweepPoint)]) -> Vec<Key> {
    let mut shown: Vec<_> = shown.iter().collect();
    shown.sort_by(|a, b| a.1.beta.total_cmp(&b.1.beta));
    shown.dedup_by_key(|(_, p)| p.beta);
    shown
        .iter()
        .map(|(ink, p)| Key { ink: *ink, stroke: Stroke::Solid, marker: Marker::None, words: beta_words(p) })
        .collect()
}

/// A legend of the arms.
pub(super) fn legend(arms: &[Arm<'_>]) -> Vec<Key> {
    if arms.len() < 2 {
        return Vec::new();
    }
    arms.iter().map(|l| Key { ink: l.ink, stroke: l.stroke, marker: Marker::None, words: l.name.clone() }).collect()
}

/// "from 1.2 to 3.4 with mixup", for one arm after the other; an arm of one model is left out.
pub(super) fn ways(arms: &[Arm<'_>], of: impl Fn(&SweepPoint) -> Option<String>) -> Vec<String> {
    let way = |arm: &Arm<'_>| {
        let first = of(arm.points.first()?)?;
        let which = if arms.len() > 1 { format!(" {}", arm.with) } else { String::new() };
        match arm.points.as_slice() {
            [one] => Some(format!("is {first}{which} at {}", beta_words(one))),
            [.., last] => {
                let last = of(last)?;
                let way =
                    if last == first { format!("stays at {last}") } else { format!("goes from {first} to {last}") };
                Some(format!("{way}{which}"))
            }
            [] => None,
        }
    };
    arms.iter().filter_map(way).collect()
}
