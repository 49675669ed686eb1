//! Images before and after the attacks, with their reconstructions, the same samples under every model.

use super::{Headline, Section};
use crate::error::Result;
use crate::report::figure::{Cell, Figure, Panel, Picture, Table, Tone, Width, number, strip};
use crate::report::markup::{Element, element};
use crate::report::study::{Arm, Gallery, Sample, Study, Trial};
use crate::report::words;

/// Measures told when a picture is touched.
const TOLD: [&str; 4] = ["latent_l2", "latent_kl", "recon_shift", "recon_mse"];

/// The gallery, or how to get one.
pub fn section(study: &Study) -> Result<Option<Section>> {
    if study.arms.iter().all(|a| a.trials.is_empty()) {
        return Ok(None);
    }
    let mut section = Section { id: "gallery", title: "Before and after", ..Section::default() };
    let shown: Vec<(&Arm, &Trial, &Gallery)> = study
        .arms
        .iter()
        .flat_map(|a| a.trials.iter().map(move |t| (a, t)))
        .filter_map(|(a, t)| Some((a, t, t.gallery.as_ref().filter(|g| !g.originals.is_empty())?)))
        .collect();
    let Some((_, first, gallery)) = shown.first() else {
        section.body.push(
            element("p")
                .class("note")
                .text("These files hold no images. Run ")
                .child(element("code").text("pullback attack"))
                .text(" with ")
                .child(element("code").text("--save-images"))
                .text(" to see the inputs, the attacked inputs and their reconstructions here."),
        );
        return Ok(Some(section));
    };
    let mut table = Table::new(&["model", "attack", "eps", "index", "label", "measure", "value"]);
    let mut panels = Vec::new();
    for (arm, trial, gallery) in &shown {
        panels.push(panel(arm, trial, gallery, shown.len())?);
        tabulate(&mut table, arm, trial, gallery);
    }
    let same = shown.iter().all(|(_, t, _)| t.eps == first.eps);
    let figure = Figure {
        id: "gallery-images".to_owned(),
        title: format!("{} images, from the least to the most damaged", gallery.samples.len()),
        caption: "Columns are the same test images under every model, evenly spaced over the ranks of damage by the \
                  first attack at its largest size under the first model. Each attack has its attacked inputs, and \
                  below them what the model reconstructs from these."
            .to_owned(),
        controls: if same { picker(&first.eps, "gallery-images", "ε") } else { vec![] },
        panels,
        width: Width::Pictures,
        table,
        ..Figure::default()
    };
    section.add(figure, Headline::No);
    Ok(Some(section))
}

/// Buttons that choose the size of the attack; the largest is on show at first.
pub(super) fn picker(eps: &[f64], name: &str, symbol: &str) -> Vec<Element> {
    if eps.len() < 2 {
        return vec![];
    }
    let buttons = eps.iter().enumerate().map(|(i, size)| {
        let input = element("input").with("type", "radio").with("name", format!("pick-{name}")).with("value", i);
        let input = if i + 1 == eps.len() { input.with("checked", "checked") } else { input };
        element("label").child(input).child(element("span").text(number::plain(*size)))
    });
    vec![
        element("fieldset")
            .class("pick")
            .child(element("legend").text(format!("Size of the attack, {symbol}")))
            .children(buttons),
    ]
}

fn panel(arm: &Arm, trial: &Trial, gallery: &Gallery, of: usize) -> Result<Panel> {
    let mut marks = 0;
    let mut body = element("div").class("arm");
    if of > 1 || !arm.name.is_empty() {
        body.push(element("h4").text(&arm.name));
    }
    let named: Vec<String> = gallery.samples.iter().map(sample_words).collect();
    let spoken = |what: &str| format!("{}: {what}: {}", arm.name, named.join("; "));
    let original = strip(&gallery.originals, &named, Tone::Photo, &spoken("inputs"))?;
    marks += original.marks;
    body.push(row("input", original.body, None));
    if !gallery.recon.is_empty() {
        let tips: Vec<String> = gallery
            .samples
            .iter()
            .zip(&named)
            .map(|(s, n)| format!("{n}\nreconstruction{}", clean_words(trial, s)))
            .collect();
        let recon = strip(&gallery.recon, &tips, Tone::Photo, &spoken("reconstructions"))?;
        marks += recon.marks;
        body.push(row("reconstruction", recon.body, None));
    }
    for attack in &gallery.attacks {
        let title = words::attack(&attack.name);
        body.push(element("h5").text(format!("{title} attack")));
        for (at, (eps, images)) in trial.eps.iter().zip(&attack.images).enumerate() {
            let tips: Vec<String> = gallery
                .samples
                .iter()
                .zip(&named)
                .map(|(s, n)| format!("{n}\n{title}, ε = {}{}", number::plain(*eps), told(trial, &attack.name, at, s)))
                .collect();
            let words = format!("{title} attack, ε = {}", number::plain(*eps));
            let mut add = |label: &str, pictures: &[Picture], what: &str| -> Result<()> {
                let drawn = strip(pictures, &tips, Tone::Photo, &spoken(&format!("{words}, {what}")))?;
                marks += drawn.marks;
                body.push(row(label, drawn.body, Some((at, trial.eps.len()))));
                Ok(())
            };
            add("attacked input", images, "inputs")?;
            if let Some(recon) = attack.recon.get(at) {
                add("reconstruction", recon, "reconstructions")?;
            }
        }
    }
    Ok(Panel { body, marks })
}

/// A strip with its label; where it belongs to one of several sizes, all but the largest wait to be picked.
pub(super) fn row(label: &str, strip: Element, size: Option<(usize, usize)>) -> Element {
    let row = element("div").class("row").child(element("span").class("rl").text(label)).child(strip);
    match size {
        Some((at, of)) if at + 1 < of => row.with("data-e", at).with("hidden", "hidden"),
        Some((at, _)) => row.with("data-e", at),
        None => row,
    }
}

/// "image 17, class 3".
pub(super) fn sample_words(sample: &Sample) -> String {
    match sample.label {
        Some(label) => format!("image {}, class {label}", sample.index),
        None => format!("image {}", sample.index),
    }
}

fn clean_words(trial: &Trial, sample: &Sample) -> String {
    let tell = |c: &crate::report::study::Named| {
        let value = c.values.get(sample.row)?;
        Some(format!("\n{} {}", words::inline(&c.name), number::short(*value)))
    };
    trial.clean.iter().filter(|c| c.name == "recon_mse").filter_map(tell).collect()
}

fn told(trial: &Trial, attack: &str, at: usize, sample: &Sample) -> String {
    let value = |key: &'static str| Some((key, *trial.attack(attack)?.measure(key)?.by_eps.get(at)?.get(sample.row)?));
    TOLD.into_iter()
        .filter_map(value)
        .map(|(key, v)| format!("\n{} {}", words::inline(key), number::short(v)))
        .collect()
}

fn tabulate(table: &mut Table, arm: &Arm, trial: &Trial, gallery: &Gallery) {
    for outcome in &trial.attacks {
        for measure in &outcome.measures {
            for (eps, values) in trial.eps.iter().zip(&measure.by_eps) {
                for sample in &gallery.samples {
                    let label = sample.label.map_or(Cell::Text(String::new()), Cell::Integer);
                    table.row([
                        (&arm.name).into(),
                        (&outcome.name).into(),
                        (*eps).into(),
                        (sample.index as i64).into(),
                        label,
                        (&measure.name).into(),
                        values.get(sample.row).copied().unwrap_or(f64::NAN).into(),
                    ]);
                }
            }
        }
    }
}
