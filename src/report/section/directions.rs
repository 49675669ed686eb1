//! The most sensitive directions as pictures.

use super::gallery::row;
use super::{Headline, Section};
use crate::error::Result;
use crate::report::figure::{Figure, Panel, Picture, Table, Tone, Width, number, strip};
use crate::report::markup::element;
use crate::report::stats::Summary;
use crate::report::study::{Directions, Study};

/// Directions of the samples on show, a row a rank.
pub fn section(study: &Study) -> Result<Option<Section>> {
    let mut table = Table::new(&["model", "index", "k", "eigenvalue", "largest_pixel_change"]);
    let mut panels = Vec::new();
    let mut aligned = Vec::new();
    for arm in &study.arms {
        let Some(scores) = arm.scores.as_ref().filter(|s| !s.directions.is_empty()) else { continue };
        let originals = originals(study, &scores.directions);
        panels.push(panel(&arm.name, &scores.directions, originals)?);
        aligned.push((arm.name.as_str(), Summary::of(&scores.alignment).median));
        for sample in &scores.directions {
            let row = scores.index.iter().position(|i| *i == sample.index);
            for (k, vector) in sample.vectors.iter().enumerate() {
                let eigenvalue = scores.eigenvalues.as_ref().and_then(|m| m.values.get(row? * m.width + k));
                let largest = vector.values.iter().fold(0.0f32, |a, v| a.max(v.abs()));
                table.row([
                    (&arm.name).into(),
                    (sample.index as i64).into(),
                    (k + 1).into(),
                    eigenvalue.copied().unwrap_or(f64::NAN).into(),
                    f64::from(largest).into(),
                ]);
            }
        }
    }
    if panels.is_empty() {
        return Ok(None);
    }
    let figure = Figure {
        id: "directions-pictures".to_owned(),
        title: finding(&aligned),
        caption: "Unit directions in the space of images, v₁ the most sensitive, for the images in the top row. Blue \
                  pixels darken, red ones brighten; each picture has its own scale, and its sign is a convention."
            .to_owned(),
        panels,
        width: Width::Pictures,
        table,
        ..Figure::default()
    };
    let mut section = Section { id: "directions", title: "Directions", ..Section::default() };
    section.add(figure, Headline::No);
    Ok(section.filled())
}

/// The images themselves, where some attack file holds all of them.
pub(crate) fn originals(study: &Study, directions: &[Directions]) -> Option<Vec<Picture>> {
    let galleries = study.arms.iter().flat_map(|a| &a.trials).filter_map(|t| t.gallery.as_ref());
    for gallery in galleries {
        let find = |index: u64| {
            let at = gallery.samples.iter().position(|s| s.index == index)?;
            gallery.originals.get(at).cloned()
        };
        let found: Option<Vec<Picture>> = directions.iter().map(|d| find(d.index)).collect();
        if found.is_some() {
            return found;
        }
    }
    None
}

/// The images on top, then v_1 of each, v_2 of each, and so on.
pub(crate) fn panel(name: &str, directions: &[Directions], originals: Option<Vec<Picture>>) -> Result<Panel> {
    let named: Vec<String> = directions.iter().map(|d| format!("image {}", d.index)).collect();
    let mut marks = 0;
    let mut body = element("div").class("arm").child(element("h4").text(name));
    if let Some(originals) = originals {
        let drawn = strip(&originals, &named, Tone::Photo, &format!("{name}: inputs: {}", named.join("; ")))?;
        marks += drawn.marks;
        body.push(row("input", drawn.body, None));
    }
    let ranks = directions.iter().map(|d| d.vectors.len()).min().unwrap_or(0);
    for k in 0..ranks {
        let pictures: Vec<Picture> = directions.iter().map(|d| d.vectors[k].clone()).collect();
        let symbol = format!("v{}", number::subscript(k + 1));
        let tips: Vec<String> = named.iter().map(|n| format!("{symbol} of {n}")).collect();
        let drawn = strip(&pictures, &tips, Tone::Signed, &format!("{name}: {symbol} of {}", named.join("; ")))?;
        marks += drawn.marks;
        body.push(row(&symbol, drawn.body, None));
    }
    Ok(Panel { body, marks })
}

fn finding(aligned: &[(&str, f64)]) -> String {
    let known: Vec<String> = aligned
        .iter()
        .filter(|(_, c)| c.is_finite())
        .map(|(name, c)| {
            let cosine = number::significant(*c, 2);
            if aligned.len() > 1 { format!("{cosine} for {name}") } else { cosine }
        })
        .collect();
    if known.is_empty() {
        "The most sensitive directions".to_owned()
    } else {
        format!(
            "Between the first directions of two images, the median |cos| is {}",
            crate::report::words::list(&known)
        )
    }
}
