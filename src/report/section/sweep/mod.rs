//! The grid of beta, with and without mixup: the paper's figures.
//!
//! Source: Khan & Storkey 2023, figures 2 to 6.

mod agreement; // theory against experiment; correlations
mod pictures; //  images and directions by beta
mod plane; //     clean error against robustness
mod spectra; //   eigenvalues by beta
mod step; //      damage against the size of the step
mod trend; //     scores and damage against beta

use super::{Headline, Section};
use crate::error::Result;
use crate::report::figure::{Axis, Ink, Key, Scale, Stroke, number};
use crate::report::load::evenly;
use crate::report::study::{Mixup, StepScale, Study, Sweep, SweepPoint};

/// Betas that a panel shows beside each other.
const BETAS: usize = 5;

/// All figures of all sweeps, by what they are about.
pub fn sections(study: &Study) -> Result<Vec<Section>> {
    let new = |id, title, intro: &str| Section { id, title, intro: intro.to_owned(), ..Section::default() };
    let mut geometry = new(
        "beta-geometry",
        "Geometry against β",
        "β weighs the KL term in training. Every point is a model of its own; mixup trains on blends of images.",
    );
    let mut damage = new(
        "beta-damage",
        "Damage against β",
        "Attacks move each image along u₁, u₂, ..., the most sensitive directions of the encoder at that image.",
    );
    let mut trade = new("beta-trade-off", "Trade-off", "");
    let mut theory = new("beta-theory", "Theory and experiment", "");
    let mut images = new("beta-pictures", "Pictures", "");
    for (i, sweep) in study.sweeps.iter().enumerate() {
        let view = View { sweep, prefix: if i == 0 { "sweep".to_owned() } else { format!("sweep{}", i + 1) } };
        for (figure, headline) in trend::scores(&view).into_iter().chain(trend::histograms(&view)) {
            geometry.add(figure, headline);
        }
        spectra::figure(&view).into_iter().for_each(|f| geometry.add(f, Headline::Yes));
        geometry.body.extend(agreement::correlations(&view));
        for (figure, headline) in trend::damage(&view).into_iter().chain(step::figures(&view)) {
            damage.add(figure, headline);
        }
        plane::figure(&view).into_iter().for_each(|f| trade.add(f, Headline::Yes));
        agreement::figure(&view).into_iter().for_each(|f| theory.add(f, Headline::Yes));
        pictures::figures(&view)?.into_iter().for_each(|f| images.add(f, Headline::No));
    }
    Ok([geometry, damage, trade, theory, images].into_iter().filter_map(Section::filled).collect())
}

/// A sweep and how its figures are named.
struct View<'a> {
    sweep: &'a Sweep,
    prefix: String,
}

/// One arm of a sweep: the models with, or without, mixup.
struct Line<'a> {
    name: &'static str,
    ink: Ink,
    stroke: Stroke,
    points: Vec<&'a SweepPoint>,
}

impl View<'_> {
    fn id(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// The arms that have models, ascending in beta.
    fn lines(&self) -> Vec<Line<'_>> {
        [(Mixup::Without, "no mixup", Stroke::Solid), (Mixup::With, "mixup", Stroke::Dashed)]
            .into_iter()
            .enumerate()
            .map(|(i, (mixup, name, stroke))| Line {
                name,
                ink: Ink::Series(i),
                stroke,
                points: self.sweep.points.iter().filter(|p| p.mixup == mixup).collect(),
            })
            .filter(|line| !line.points.is_empty())
            .collect()
    }

    /// The axis of beta.
    fn beta_axis(&self) -> Axis {
        let betas = || self.sweep.points.iter().map(|p| p.beta);
        Axis::fit("β, weight of the KL term", Scale::suiting(betas(), 1.0), betas())
    }

    /// The axis of step sizes.
    fn size_axis(&self) -> Axis {
        let label = match self.sweep.scale {
            StepScale::Eigen => "step s (the image moves by s λᵢ)".to_owned(),
            StepScale::Singular => "step s (the image moves by s √λᵢ)".to_owned(),
            StepScale::Unit => crate::report::words::size_axis(&self.sweep.norm),
        };
        let sizes = || self.sweep.eps.iter().copied();
        Axis::fit(label, Scale::suiting(sizes(), 1.0), sizes())
    }

    /// The symbol of a step size: ε, or s where it multiplies the eigenvalue or its root.
    fn size(&self, at: usize) -> String {
        let symbol = if self.sweep.scale == StepScale::Unit { "ε" } else { "s" };
        format!("{symbol}\u{a0}=\u{a0}{}", number::plain(self.sweep.eps.get(at).copied().unwrap_or(f64::NAN)))
    }
}

/// A few of an arm's models, evenly spaced over its betas, each with its place on the ordered scale of colours.
fn chosen<'a>(line: &Line<'a>) -> Vec<(Ink, &'a SweepPoint)> {
    let places = evenly(line.points.len(), BETAS);
    let of = places.len();
    places.into_iter().enumerate().map(|(at, place)| (Ink::Ordered { at, of }, line.points[place])).collect()
}

/// "β = 0.34".
fn beta_words(point: &SweepPoint) -> String {
    format!("β\u{a0}=\u{a0}{}", number::plain(point.beta))
}

/// A legend of the arms.
fn legend(lines: &[Line<'_>]) -> Vec<Key> {
    if lines.len() < 2 {
        return Vec::new();
    }
    lines.iter().map(|l| Key { ink: l.ink, stroke: l.stroke, words: l.name.to_owned() }).collect()
}
