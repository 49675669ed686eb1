//! The grid of beta, with and without mixup: the paper's figures.
//!
//! Source: Khan & Storkey 2023, figures 2 to 6.

mod agreement; // theory against measurement
mod glance; //    the leading panels side by side
mod pictures; //  images and directions by beta
mod plane; //     clean error against robustness
mod relations; // correlations, and the effect of mixup
mod spectra; //   eigenvalues by beta
mod step; //      damage against the size of the step
mod training; //  the final losses of training
mod view; //     the data of the figures
mod trend; //     scores and damage against beta

use super::{Headline, Section};
use crate::error::Result;
use crate::report::study::Study;
use view::View;

/// All figures of all sweeps, grouped by subject.
pub fn sections(study: &Study) -> Result<Vec<Section>> {
    let new = |id, title, intro: &str| Section { id, title, intro: intro.to_owned(), ..Section::default() };
    let mut glance = new("beta-glance", "At a glance", "");
    let mut geometry = new(
        "beta-geometry",
        "Geometry against β",
        "β weighs the KL term in training. Every point is a model, or the models of several seeds; mixup trains on \
         blends of images.",
    );
    let mut damage = new(
        "beta-damage",
        "Damage against β",
        "Attacks move each image along u₁, u₂, ..., the most sensitive directions of the encoder at that image.",
    );
    let mut trade = new(
        "beta-trade-off",
        "Trade-off",
        "What a model loses without attack and what it loses under one belong together.",
    );
    let mut relations = new("beta-relations", "What goes with what", "");
    let mut theory = new(
        "beta-theory",
        "Theory and experiment",
        "To first order, a small step along u₁ moves the code by what λ₁ says. More or less comes of it where the \
         encoder bends, and less where the step is cut because pixels are held within [0, 1].",
    );
    let mut images = new("beta-pictures", "Pictures", "");
    let mut losses = new("beta-training", "Training", "");
    for (i, sweep) in study.sweeps.iter().enumerate() {
        let name = if i == 0 { "sweep".to_owned() } else { format!("sweep{}", i + 1) };
        let whole = View { sweep, name: name.clone(), set: None };
        glance::figure(&whole).into_iter().for_each(|f| glance.add(f, Headline::No));
        trend::scores(&whole).into_iter().chain(trend::histograms(&whole)).for_each(|(f, h)| geometry.add(f, h));
        spectra::figure(&whole).into_iter().for_each(|f| geometry.add(f, Headline::Yes));
        for (k, set) in sweep.sets.iter().enumerate() {
            let only = sweep.only(set);
            let several = sweep.sets.len() > 1;
            let view = View { sweep: &only, name: name.clone(), set: several.then_some(set) };
            // The page begins with the findings of the first set.
            let headline = |h: Headline| if k == 0 { h } else { Headline::No };
            trend::damage(&view).into_iter().chain(step::figures(&view)).for_each(|(f, h)| damage.add(f, headline(h)));
            plane::figure(&view).into_iter().for_each(|f| trade.add(f, headline(Headline::Yes)));
            agreement::figure(&view).into_iter().for_each(|f| theory.add(f, headline(Headline::Yes)));
            if k == 0 {
                pictures::figures(&view)?.into_iter().for_each(|f| images.add(f, Headline::No));
            }
        }
        relations::add(&whole, &mut relations);
        training::figure(&whole).into_iter().for_each(|f| losses.add(f, Headline::No));
    }
    let sections = [glance, geometry, damage, trade, relations, theory, images, losses];
    Ok(sections.into_iter().filter_map(Section::filled).collect())
}
