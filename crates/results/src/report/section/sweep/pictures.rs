//! Images and most sensitive directions of each model.

use super::view::{Arm, View, beta_words};
use crate::error::Result;
use crate::report::figure::{Figure, Panel, Picture, Table, Width, number};
use crate::report::section::rows::{DIRECTIONS, Look, Rows, picker, sample_words};
use crate::report::study::{Gallery, SweepPoint};

/// Galleries of attacked images, then of directions.
pub(super) fn figures(view: &View<'_>) -> Result<Vec<Figure>> {
    let mut found = Vec::new();
    found.extend(attacked(view)?);
    found.extend(directions(view)?);
    Ok(found)
}

fn attacked(view: &View<'_>) -> Result<Option<Figure>> {
    let sizes = &view.sweep.shown_eps;
    let eps: Vec<f64> = sizes.iter().filter_map(|at| view.sweep.eps.get(*at).copied()).collect();
    let attack = super::trend::first_attack(view);
    let mut panels = Vec::new();
    let mut table = Table::new(&["mixup", "beta", "attack", "eps", "measure", "median"]);
    for arm in view.arms() {
        let shown: Vec<(&SweepPoint, &Gallery)> =
            arm.points.iter().filter_map(|p| Some((*p, p.gallery.as_ref()?))).collect();
        let Some((_, first)) = shown.first() else { continue };
        let named: Vec<String> = first.samples.iter().map(sample_words).collect();
        let spoken = |what: &str| format!("{what}: {}", named.join("; "));
        let mut rows = Rows::new(&arm.name);
        rows.add("input", Look::photos(&first.originals, named.clone(), spoken("inputs")), None)?;
        for (point, gallery) in &shown {
            let beta = beta_words(point);
            rows.heading(&beta);
            let mut add = |label: &str, pictures: &[Picture], size: Option<usize>| -> Result<()> {
                let at = size.map_or(String::new(), |i| format!(", {}", view.size(sizes[i])));
                let tips: Vec<String> = named.iter().map(|n| format!("{n}\n{beta}{at}\n{label}")).collect();
                let look = Look::photos(pictures, tips, spoken(&format!("{beta}{at}, {label}")));
                rows.add(label, look, size.map(|i| (i, eps.len())))
            };
            add("reconstruction", &gallery.recon, None)?;
            if let Some(images) = gallery.attacks.iter().find(|a| a.name == attack) {
                for i in 0..eps.len() {
                    add("attacked input", images.images.get(i).map_or(&[], Vec::as_slice), Some(i))?;
                    add("its reconstruction", images.recon.get(i).map_or(&[], Vec::as_slice), Some(i))?;
                }
            }
            tabulate(&mut table, view, &arm, point, attack);
        }
        panels.push(rows.panel());
    }
    let id = view.id("gallery");
    Ok((!panels.is_empty()).then(|| Figure {
        title: format!("The same images under growing β, attacked along {}", view.words(attack)),
        caption: "Rows: what each model makes of the inputs, the inputs after the attack, and what it makes of those. \
                  Columns: the same images throughout."
            .to_owned(),
        controls: picker(&eps, &id, view.symbol()),
        id,
        panels,
        width: Width::Pictures,
        table,
        ..Figure::default()
    }))
}

fn tabulate(table: &mut Table, view: &View<'_>, arm: &Arm<'_>, point: &SweepPoint, attack: &str) {
    let Some(outcome) = point.attacks.iter().find(|a| a.name == attack) else { return };
    for (measure, by_eps) in &outcome.measures {
        for at in &view.sweep.shown_eps {
            if let (Some(eps), Some(s)) = (view.sweep.eps.get(*at), by_eps.get(*at)) {
                table.row([
                    (&arm.name).into(),
                    point.beta.into(),
                    attack.into(),
                    (*eps).into(),
                    measure.into(),
                    s.median.into(),
                ]);
            }
        }
    }
}

/// v_1 of several images and v_1, v_2, ... of one, one row for each beta.
fn directions(view: &View<'_>) -> Result<Option<Figure>> {
    let mut panels = Vec::new();
    let mut table = Table::new(&["mixup", "beta", "index", "k", "largest_pixel_change"]);
    for arm in view.arms() {
        let shown: Vec<&SweepPoint> = arm.points.iter().copied().filter(|p| !p.directions.is_empty()).collect();
        let Some(first) = shown.first() else { continue };
        let index = first.directions.first().map_or(0, |d| d.index);
        for p in &shown {
            for d in &p.directions {
                for (k, v) in d.vectors.iter().enumerate() {
                    table.row([
                        (&arm.name).into(),
                        p.beta.into(),
                        (d.index as i64).into(),
                        (k + 1).into(),
                        v.peak().into(),
                    ]);
                }
            }
        }
        let inputs = shown.iter().find_map(|p| p.gallery.as_ref()).map(|g| g.originals.clone());
        let named: Vec<String> = first.directions.iter().map(|d| format!("image {}", d.index)).collect();
        let title = format!("v₁ of each image, {}", arm.name);
        let each = |p: &SweepPoint| p.directions.iter().filter_map(|d| d.vectors.first().cloned()).collect();
        panels.push(panel(&title, inputs, &named, &shown, each)?);
        let ranks = first.directions.first().map_or(0, |d| d.vectors.len());
        if ranks > 1 {
            let title = format!("All of image {index}, {}", arm.name);
            let named: Vec<String> = (1..=ranks).map(|k| format!("v{}", number::subscript(k))).collect();
            let each = |p: &SweepPoint| p.directions.first().map(|d| d.vectors.clone()).unwrap_or_default();
            panels.push(panel(&title, None, &named, &shown, each)?);
        }
    }
    Ok((!panels.is_empty()).then(|| Figure {
        id: view.id("directions"),
        title: "The most sensitive directions, model by model".to_owned(),
        caption: DIRECTIONS.to_owned(),
        panels,
        width: Width::Pictures,
        table,
        ..Figure::default()
    }))
}

fn panel(
    title: &str,
    inputs: Option<Vec<Picture>>,
    named: &[String],
    points: &[&SweepPoint],
    pictures: impl Fn(&SweepPoint) -> Vec<Picture>,
) -> Result<Panel> {
    let mut rows = Rows::new(title);
    rows.add("input", Look::photos(&inputs.unwrap_or_default(), named.to_vec(), "inputs".to_owned()), None)?;
    for point in points {
        let beta = beta_words(point);
        let tips: Vec<String> = named.iter().map(|n| format!("{n}\n{beta}")).collect();
        rows.add(&beta, Look::signed(&pictures(point), tips, format!("{beta}: {}", named.join("; "))), None)?;
    }
    Ok(rows.panel())
}
