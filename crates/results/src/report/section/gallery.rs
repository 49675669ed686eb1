//! Images before and after the attacks, with their reconstructions; the samples are the same for every model on the same data.

use super::rows::{Look, Rows, picker, sample_words};
use super::{Headline, Section, called};
use crate::error::Result;
use crate::report::figure::{Cell, Figure, Panel, Picture, Table, Width, number};
use crate::report::markup::element;
use crate::report::study::{Gallery, Sample, Study, Subject, Trial};
use crate::report::words;

/// Measures in the text that is shown on hovering over a picture.
const TOLD: [&str; 4] = ["latent_l2", "latent_kl", "recon_shift", "recon_mse"];

/// The gallery, or a hint how to get one.
pub fn section(study: &Study) -> Result<Option<Section>> {
    if study.subjects.iter().flat_map(|a| &a.trials).all(|t| t.shapeless) {
        return Ok(None);
    }
    let mut section = Section { id: "gallery", title: "Before and after", ..Section::default() };
    let shown: Vec<(&Subject, &Trial, &Gallery)> = study
        .subjects
        .iter()
        .flat_map(|a| a.trials.iter().map(move |t| (a, t)))
        .filter_map(|(a, t)| Some((a, t, t.gallery.as_ref().filter(|g| !g.originals.is_empty())?)))
        .collect();
    let Some((model, first, gallery)) = shown.first() else {
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
    for (subject, trial, gallery) in &shown {
        let name = called(subject, trial);
        panels.push(panel(&name, trial, gallery)?);
        tabulate(&mut table, &name, trial, gallery);
    }
    let same = shown.iter().all(|(_, t, _)| t.eps == first.eps);
    let alike = shown.iter().all(|(subject, _, other)| {
        let indices = |gallery: &Gallery| gallery.samples.iter().map(|s| s.index).collect::<Vec<_>>();
        model.origin.same_data(&subject.origin) && indices(gallery) == indices(other)
    });
    let (count, columns) = if alike {
        (
            format!("{} images", gallery.samples.len()),
            "Columns are the same images under every model, evenly spaced over the ranks of damage by the first attack at its largest size \
             under the first model.",
        )
    } else {
        (
            "Images".to_owned(),
            "Columns are the same images only where models have the same samples of the same data: evenly spaced over the ranks of damage by \
             the first attack at its largest size under the first of these models.",
        )
    };
    let figure = Figure {
        id: "gallery-images".to_owned(),
        title: format!("{count}, from the least to the most damaged"),
        caption: format!(
            "{columns} Each attack has its attacked inputs, and below them what the model reconstructs from these."
        ),
        controls: if same { picker(&first.eps, "gallery-images", "ε") } else { vec![] },
        panels,
        width: Width::Pictures,
        table,
        ..Figure::default()
    };
    section.add(figure, Headline::No);
    Ok(Some(section))
}

fn panel(name: &str, trial: &Trial, gallery: &Gallery) -> Result<Panel> {
    let mut rows = Rows::new(name);
    let named: Vec<String> = gallery.samples.iter().map(sample_words).collect();
    let spoken = |what: &str| format!("{what}: {}", named.join("; "));
    let told_each = |tell: &dyn Fn(&Sample) -> String| -> Vec<String> {
        gallery.samples.iter().zip(&named).map(|(s, n)| format!("{n}{}", tell(s))).collect()
    };
    rows.add("input", Look::photos(&gallery.originals, named.clone(), spoken("inputs")), None)?;
    let tips = told_each(&|s| format!("\nreconstruction{}", clean_words(trial, s)));
    rows.add("reconstruction", Look::photos(&gallery.recon, tips, spoken("reconstructions")), None)?;
    for attack in &gallery.attacks {
        let title = words::attack(&attack.name);
        rows.heading(&format!("{title} attack"));
        for (at, (eps, images)) in trial.eps.iter().zip(&attack.images).enumerate() {
            let eps = number::plain(*eps);
            let tips = told_each(&|s| format!("\n{title}, ε = {eps}{}", told(trial, &attack.name, at, s)));
            let mut add = |label: &str, pictures: &[Picture], what: &str| -> Result<()> {
                let spoken = spoken(&format!("{title} attack, ε = {eps}, {what}"));
                rows.add(label, Look::photos(pictures, tips.clone(), spoken), Some((at, trial.eps.len())))
            };
            add("attacked input", images, "inputs")?;
            add("reconstruction", attack.recon.get(at).map_or(&[], Vec::as_slice), "reconstructions")?;
        }
    }
    Ok(rows.panel())
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

fn tabulate(table: &mut Table, name: &String, trial: &Trial, gallery: &Gallery) {
    for outcome in &trial.attacks {
        for measure in &outcome.measures {
            for (eps, values) in trial.eps.iter().zip(&measure.by_eps) {
                for sample in &gallery.samples {
                    let label = sample.label.map_or(Cell::Text(String::new()), Cell::Integer);
                    table.row([
                        name.into(),
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
