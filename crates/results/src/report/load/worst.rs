//! The samples on which attacks did most, for the gallery of the worst cases.

use super::picture::{ON_SHOW, pictures};
use crate::error::Result;
use crate::report::figure::Picture;
use crate::report::study::{Sample, Trial, Worst};
use crate::store::Reader;
use std::collections::HashSet;

/// The samples with the largest worst-case damage at the largest size, the worst first, with the images of the attack that did it; nothing
/// if the file has no images, or its attacks have several goals.
pub(super) fn worst(reader: &Reader, trial: &Trial) -> Result<Option<Worst>> {
    let has = |path: &str| reader.info(path).is_some();
    let Some(largest) = trial.largest() else { return Ok(None) };
    let Some(cases) = trial.worst_case(largest).filter(|_| trial.gallery.is_some()) else { return Ok(None) };
    let shown = |attack: &str| has(&format!("/attack/{attack}/images")) && has(&format!("/attack/{attack}/recon"));
    let mut order: Vec<usize> =
        (0..cases.len()).filter(|row| cases[*row].is_some_and(|(_, attack)| shown(attack))).collect();
    let damage = |row: &usize| cases[*row].map_or(f64::NAN, |(damage, _)| damage);
    order.sort_by(|a, b| damage(b).total_cmp(&damage(a)));
    order.truncate(ON_SHOW);
    let mut found = Worst::default();
    for row in order {
        let Some((damage, attack)) = cases[row] else { continue };
        let label = trial.labels.get(row).copied();
        found.samples.push(Sample { row, index: trial.index[row], label });
        found.attacks.push(attack.to_owned());
        found.damage.push(damage);
        let at = |path: String, which: usize| -> Result<_> { Ok(pictures(reader, &path, row)?.into_iter().nth(which)) };
        found.originals.extend(at("/clean/images".to_owned(), 0)?);
        if has("/clean/recon") {
            found.recon.extend(at("/clean/recon".to_owned(), 0)?);
        }
        found.attacked.extend(at(format!("/attack/{attack}/images"), largest)?);
        found.attacked_recon.extend(at(format!("/attack/{attack}/recon"), largest)?);
    }
    Ok((!found.samples.is_empty()).then_some(found))
}

/// The samples with the largest damage in the files of one trial, which knows the damage of all of them. Each file has its own first
/// samples, so that the first of the trial are among these.
pub(super) fn joined(trial: &Trial, parts: [Option<Worst>; 2]) -> Option<Worst> {
    let cases = trial.worst_case(trial.largest()?)?;
    let parts: Vec<Worst> = parts.into_iter().flatten().collect();
    let mut order: Vec<(&Worst, usize)> =
        parts.iter().flat_map(|part| (0..part.samples.len()).map(move |at| (part, at))).collect();
    let row = |(part, at): &(&Worst, usize)| part.samples[*at].row;
    // An attack of another file may have done more and left no images.
    let most = |case: &(&Worst, usize)| cases.get(row(case)).copied().flatten().map_or(f64::NAN, |(damage, _)| damage);
    order.retain(|case| case.0.damage[case.1] >= most(case));
    order.sort_by(|a, b| b.0.damage[b.1].total_cmp(&a.0.damage[a.1]));
    let mut seen = HashSet::new();
    order.retain(|case| seen.insert(row(case)));
    order.truncate(ON_SHOW);
    // A row of pictures is shown only if every sample has one.
    let pictures = |of: fn(&Worst) -> &[Picture]| -> Vec<Picture> {
        order.iter().map(|(part, at)| of(part).get(*at).cloned()).collect::<Option<_>>().unwrap_or_default()
    };
    let found = Worst {
        samples: order.iter().map(|(part, at)| part.samples[*at]).collect(),
        attacks: order.iter().map(|(part, at)| part.attacks[*at].clone()).collect(),
        damage: order.iter().map(|(part, at)| part.damage[*at]).collect(),
        originals: pictures(|part| &part.originals),
        recon: pictures(|part| &part.recon),
        attacked: pictures(|part| &part.attacked),
        attacked_recon: pictures(|part| &part.attacked_recon),
    };
    (!found.samples.is_empty()).then_some(found)
}
