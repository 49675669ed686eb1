//! The most sensitive directions as pictures.

use super::rows::{DIRECTIONS, Look, Rows};
use super::{Facet, Section, each_in, facets};
use crate::error::Result;
use crate::report::figure::{Figure, Panel, Picture, Table, Width, number};
use crate::report::stats::Quartiles;
use crate::report::study::{Directions, Origin, Study};

/// Directions of the samples in galleries: one figure for each facet, one row for each rank.
pub fn section(study: &Study) -> Result<Option<Section>> {
    let mut section = Section { id: "directions", title: "Directions", ..Section::default() };
    for facet in facets(study) {
        if let Some(figure) = figure(study, &facet)? {
            section.add(figure, super::Headline::No);
        }
    }
    Ok(section.filled())
}

fn figure(study: &Study, facet: &Facet<'_>) -> Result<Option<Figure>> {
    let mut table = Table::new(&["model", "metric", "index", "k", "eigenvalue", "largest_pixel_change"]);
    let mut panels = Vec::new();
    let mut aligned = Vec::new();
    for (_, subject, scores) in facet.subjects.iter().filter(|(_, _, s)| !s.directions.is_empty()) {
        let originals = originals(study, &subject.origin, &scores.directions);
        panels.push(panel(&subject.name, &scores.directions, originals)?);
        aligned.push((subject.name.as_str(), Quartiles::of(&scores.alignment).median));
        for sample in &scores.directions {
            let row = scores.index.iter().position(|i| *i == sample.index);
            for (k, vector) in sample.vectors.iter().enumerate() {
                let eigenvalue = scores.eigenvalues.as_ref().and_then(|m| m.values.get(row? * m.width + k));
                table.row([
                    (&subject.name).into(),
                    facet.name.into(),
                    (sample.index as i64).into(),
                    (k + 1).into(),
                    eigenvalue.copied().unwrap_or(f64::NAN).into(),
                    vector.peak().into(),
                ]);
            }
        }
    }
    Ok((!panels.is_empty()).then(|| Figure {
        id: format!("directions-pictures{}", facet.anchor),
        title: format!("{}{}", finding(&aligned), facet.suffix),
        caption: format!("{DIRECTIONS} The images are in the top row."),
        panels,
        width: Width::Pictures,
        table,
        ..Figure::default()
    }))
}

/// The images themselves, if some attack file of that data set contains all of them.
fn originals(study: &Study, origin: &Origin, directions: &[Directions]) -> Option<Vec<Picture>> {
    let subjects = study.subjects.iter().filter(|a| a.origin.same_data(origin));
    let galleries = subjects.flat_map(|a| &a.trials).filter_map(|t| t.gallery.as_ref());
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
fn panel(name: &str, directions: &[Directions], originals: Option<Vec<Picture>>) -> Result<Panel> {
    let named: Vec<String> = directions.iter().map(|d| format!("image {}", d.index)).collect();
    let mut rows = Rows::new(name);
    let spoken = format!("inputs: {}", named.join("; "));
    rows.add("input", Look::photos(&originals.unwrap_or_default(), named.clone(), spoken), None)?;
    let ranks = directions.iter().map(|d| d.vectors.len()).min().unwrap_or(0);
    for k in 0..ranks {
        let pictures: Vec<Picture> = directions.iter().map(|d| d.vectors[k].clone()).collect();
        let symbol = format!("v{}", number::subscript(k + 1));
        let tips: Vec<String> = named.iter().map(|n| format!("{symbol} of {n}")).collect();
        rows.add(&symbol, Look::signed(&pictures, tips, format!("{symbol} of {}", named.join("; "))), None)?;
    }
    Ok(rows.panel())
}

fn finding(aligned: &[(&str, f64)]) -> String {
    let known: Vec<(&str, f64)> = aligned.iter().copied().filter(|(_, c)| c.is_finite()).collect();
    let cosines = match known.as_slice() {
        [] => return "The most sensitive directions".to_owned(),
        [(_, one)] if aligned.len() == 1 => number::significant(*one, 2),
        several => each_in(several, |_, c| number::significant(c, 2)),
    };
    format!("Between the first directions of two images, the median |cos| is {cosines}")
}
