//! Scores and attack files: each is added to the subject of its model.

use super::origin::{origin, setting, step_scale};
use super::picture::{ON_SHOW, pictures, wrong_shape};
use super::{asked, effort, sizes, worst};
use crate::error::Result;
use crate::report::figure::{Picture, number};
use crate::report::study::{
    AttackedImages, Directions, Gallery, Matrix, Measure, Named, Origin, Outcome, Sample, Scores, Study, Subject, Trial,
};
use crate::report::words;
use crate::store::{FileKind, Reader};

/// Samples whose first directions are compared with each other.
const ALIGNED: usize = 48;

/// Adds the file to the subject of its model.
pub(super) fn add(reader: &Reader, study: &mut Study) -> Result<()> {
    let origin = origin(reader);
    let show = shown(study, &origin, reader.index());
    let subject = subject(study, origin);
    match reader.header().kind {
        FileKind::Attack => join(&mut subject.trials, trial(reader, show)?),
        _ => subject.scores.push(scores(reader, show)?),
    }
    Ok(())
}

/// The samples that galleries of the same data show already, for a file of the samples `index`: those of a file of the same samples, as the
/// two may become one trial, or of the first that has some of them.
fn shown(study: &Study, origin: &Origin, index: &[u64]) -> Option<Vec<u64>> {
    let subjects = study.subjects.iter().filter(|subject| subject.origin.same_data(origin));
    let trials: Vec<&Trial> = subjects.flat_map(|subject| &subject.trials).collect();
    let of = |trial: &Trial| -> Option<Vec<u64>> {
        let shown: Vec<u64> = trial.gallery.as_ref()?.samples.iter().map(|s| s.index).collect();
        shown.iter().any(|i| index.contains(i)).then_some(shown)
    };
    let alike = trials.iter().filter(|trial| trial.index == index);
    alike.chain(&trials).find_map(|trial| of(trial))
}

/// The subject with the same weights and the same data, whatever their names, or a new one.
pub(super) fn subject(study: &mut Study, origin: Origin) -> &mut Subject {
    let place = study.subjects.iter().position(|subject| subject.has(&origin)).unwrap_or_else(|| {
        study.subjects.push(Subject { origin: origin.clone(), ..Subject::default() });
        study.subjects.len() - 1
    });
    let subject = &mut study.subjects[place];
    if subject.origin != origin && !subject.others.contains(&origin) {
        subject.others.push(origin);
    }
    subject
}

/// Adds a file's attacks to a trial with the same samples, sizes, norm and request but other attacks. Otherwise the file becomes a trial of
/// its own.
fn join(trials: &mut Vec<Trial>, mut new: Trial) {
    let beside = |old: &&mut Trial| {
        // Two metrics may differ if one of them belongs to no attack.
        let metrics = old.metric == new.metric || !old.is_directed() || !new.is_directed();
        (&old.norm, old.scale, &old.index, &old.eps) == (&new.norm, new.scale, &new.index, &new.eps)
            && metrics
            && old.goal == new.goal
            && old.asked == new.asked
            && new.attacks.iter().all(|a| old.attack(&a.name).is_none())
            && old.gallery.is_some() == new.gallery.is_some()
    };
    let Some(old) = trials.iter_mut().find(beside) else { return trials.push(new) };
    if !old.is_directed() {
        std::mem::swap(&mut old.metric, &mut new.metric);
    }
    old.attacks.extend(new.attacks);
    old.attacks.sort_by_key(|a| words::attack_order(&a.name));
    old.efforts.extend(new.efforts);
    old.efforts.sort_by_key(|e| words::attack_order(&e.attack));
    old.smallest.extend(new.smallest);
    old.flags.extend(new.flags.into_iter().filter(|flag| flag.attack != "model"));
    if let (Some(old), Some(new)) = (&mut old.gallery, new.gallery) {
        old.attacks.extend(new.attacks);
        old.attacks.sort_by_key(|a| words::attack_order(&a.name));
    }
    let parts = [old.worst.take(), new.worst];
    old.worst = worst::joined(old, parts);
}

/// What may distinguish a file from others of its model, the most informative first: how the model was read, how many images and which, the
/// precision, the seed, and the device.
fn aspects(reader: &Reader) -> [String; 6] {
    let header = reader.header();
    let index = reader.index();
    let (least, most) = (index.iter().min().copied(), index.iter().max().copied());
    let number = |i: Option<u64>| i.unwrap_or_default().to_string();
    [
        asked::interface(header),
        match index.len() {
            1 => "1 image".to_owned(),
            n => format!("{} images", number::count(n)),
        },
        format!("images {} to {}", number(least), number(most)),
        header.precision.clone(),
        format!("seed {}", header.seed),
        header.device.clone(),
    ]
}

fn scores(reader: &Reader, show: Option<Vec<u64>>) -> Result<Scores> {
    let masked = masked(reader)?;
    let mut columns = Vec::new();
    for name in reader.scores() {
        let (_, mut values) = reader.read_f64(&format!("/scores/{name}"))?;
        blank(&mut values, 1, &masked);
        columns.push(Named { name, values });
    }
    columns.sort_by_key(|c| words::order(&c.name));
    let mut errors = Vec::new();
    for Named { name, .. } in &columns {
        let path = format!("/scores_se/{name}");
        if reader.info(&path).is_some() {
            errors.push(Named { name: name.clone(), values: reader.read_f64(&path)?.1 });
        }
    }
    let eigenvalues = match reader.info("/spectrum/eigenvalues") {
        Some(info) if info.shape.len() == 2 => {
            let (shape, mut values) = reader.read_f64("/spectrum/eigenvalues")?;
            blank(&mut values, shape[1], &masked);
            Some(Matrix { width: shape[1], values })
        }
        _ => None,
    };
    let index = reader.index().to_vec();
    let rows = match show {
        Some(shown) => shown.iter().filter_map(|i| index.iter().position(|j| j == i)).collect(),
        None => {
            let key = columns.iter().find(|c| c.name == "spectral_radius");
            spread(key.map_or(&[], |c| c.values.as_slice()), index.len())
        }
    };
    let stored = has_pictures(reader)
        && reader.info("/spectrum/directions").is_some_and(|i| i.shape.len() == 5 && i.shape[1] > 0);
    let (directions, alignment) =
        if stored { (directions(reader, &rows)?, alignment(reader)?) } else { (vec![], vec![]) };
    let values = eigenvalues.as_ref().map_or_else(String::new, |m| format!("{} eigenvalues", m.width));
    Ok(Scores {
        facet: String::new(),
        aspects: aspects(reader).into_iter().chain([values]).collect(),
        metric: reader.header().metric.clone().unwrap_or_default(),
        index,
        masked: masked.len(),
        columns,
        errors,
        eigenvalues,
        directions,
        alignment,
    })
}

/// Rows whose gradient is masked: their stored zeros have no meaning.
fn masked(reader: &Reader) -> Result<Vec<usize>> {
    if reader.info("/flags/masked").is_none() {
        return Ok(vec![]);
    }
    let flags = reader.read_u8("/flags/masked")?.1;
    Ok(flags.iter().enumerate().filter(|(_, flag)| **flag != 0).map(|(row, _)| row).collect())
}

/// Makes `rows` of `width` values undefined.
fn blank(values: &mut [f64], width: usize, rows: &[usize]) {
    for row in rows {
        if let Some(values) = values.get_mut(row * width..(row + 1) * width) {
            values.fill(f64::NAN);
        }
    }
}

/// Whether a file's samples are pictures; other samples are not drawn.
fn has_pictures(reader: &Reader) -> bool {
    reader.header().extra.get("pictures").is_none_or(|said| said != "no")
}

fn directions(reader: &Reader, rows: &[usize]) -> Result<Vec<Directions>> {
    let mut found = Vec::new();
    for row in rows {
        let vectors = pictures(reader, "/spectrum/directions", *row)?;
        let index = reader.index().get(*row).copied().unwrap_or(*row as u64);
        found.push(Directions { index, vectors });
    }
    Ok(found)
}

/// |cos| between the first directions of each pair of the first few samples.
fn alignment(reader: &Reader) -> Result<Vec<f64>> {
    let count = reader.samples().min(ALIGNED);
    let mut first = Vec::new();
    for row in 0..count {
        first.extend(pictures(reader, "/spectrum/directions", row)?.into_iter().next().map(|p| p.values));
    }
    let dot = |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum() };
    let norms: Vec<f64> = first.iter().map(|v| dot(v, v).sqrt()).collect();
    let mut cosines = Vec::new();
    for i in 0..first.len() {
        for j in 0..i {
            cosines.push((dot(&first[i], &first[j]) / (norms[i] * norms[j])).abs());
        }
    }
    Ok(cosines)
}

fn trial(reader: &Reader, show: Option<Vec<u64>>) -> Result<Trial> {
    let (_, eps) = reader.read_f64("/eps")?;
    let mut clean = Vec::new();
    for name in reader.clean().into_iter().filter(|n| !is_picture(n)) {
        let (_, values) = reader.read_f64(&format!("/clean/{name}"))?;
        clean.push(Named { name, values });
    }
    clean.sort_by_key(|c| words::order(&c.name));
    let samples = reader.samples();
    let mut attacks = Vec::new();
    for attack in reader.attacks() {
        let mut measures = Vec::new();
        for name in reader.measures(&attack).into_iter().filter(|n| !is_picture(n)) {
            let path = format!("/attack/{attack}/{name}");
            let (shape, values) = reader.read_f64(&path)?;
            if shape != [eps.len(), samples] {
                return Err(wrong_shape(reader, &path, &[eps.len(), samples], &shape));
            }
            let by_eps = values.chunks_exact(samples.max(1)).map(<[f64]>::to_vec).collect();
            measures.push(Measure { name, by_eps });
        }
        measures.sort_by_key(|m| words::order(&m.name));
        let asked = asked::of_attack(reader.header(), &attack);
        attacks.push(Outcome { name: attack, asked, measures });
    }
    attacks.sort_by_key(|a| words::attack_order(&a.name));
    let (flags, efforts) = (effort::flags(reader)?, effort::efforts(reader)?);
    let smallest = effort::smallest(reader, &eps)?;
    let index = reader.index().to_vec();
    let norm = setting(reader, &[], "norm");
    let scale = step_scale(&setting(reader, &[], "scale"));
    let metric = reader.header().metric.clone().unwrap_or_default();
    let own = [if metric.is_empty() { String::new() } else { format!("along {metric} directions") }];
    let goals = [setting(reader, &[], "goal"), scale.words().to_owned(), format!("{} sizes", eps.len())];
    let aspects = own.into_iter().chain(asked::aspects(reader)).chain(aspects(reader)).chain(goals).collect();
    let label = String::new();
    let shapeless = !has_pictures(reader);
    let labels = match reader.info("/label") {
        Some(_) => reader.read_i64("/label")?.1,
        None => vec![],
    };
    let classes = reader.header().extra.get("classes").map(|names| names.lines().map(str::to_owned).collect());
    let mut trial = Trial {
        goal: setting(reader, &[], "goal"),
        labels,
        classes: classes.unwrap_or_default(),
        label,
        metric,
        aspects,
        asked: asked::asked(reader.header()),
        norm,
        scale,
        index,
        eps,
        clean,
        attacks,
        flags,
        efforts,
        smallest,
        shapeless,
        gallery: None,
        worst: None,
    };
    trial.gallery = gallery(reader, &trial, show)?;
    trial.worst = worst::worst(reader, &trial)?;
    // Only now: rows of pictures are in the order of the file.
    sizes::sort(&mut trial);
    Ok(trial)
}

pub(super) fn is_picture(name: &str) -> bool {
    matches!(name, "images" | "recon")
}

fn gallery(reader: &Reader, trial: &Trial, show: Option<Vec<u64>>) -> Result<Option<Gallery>> {
    let has = |path: &str| reader.info(path).is_some();
    if !has("/clean/images") || !has_pictures(reader) {
        return Ok(None);
    }
    let rows = match show {
        Some(shown) => shown.iter().filter_map(|i| trial.index.iter().position(|j| j == i)).collect(),
        None => spread(damage(trial), trial.index.len()),
    };
    let samples: Vec<Sample> = rows
        .iter()
        .map(|row| Sample { row: *row, index: trial.index[*row], label: trial.labels.get(*row).copied() })
        .collect();
    let one_each = |path: &str| -> Result<Vec<Picture>> {
        let mut found = Vec::new();
        for row in &rows {
            found.extend(pictures(reader, path, *row)?);
        }
        Ok(found)
    };
    let by_eps = |path: &str| -> Result<Vec<Vec<Picture>>> {
        let mut found = vec![Vec::new(); trial.eps.len()];
        for row in &rows {
            for (images, picture) in found.iter_mut().zip(pictures(reader, path, *row)?) {
                images.push(picture);
            }
        }
        Ok(found)
    };
    let recon = if has("/clean/recon") { one_each("/clean/recon")? } else { vec![] };
    let mut attacks = Vec::new();
    for outcome in &trial.attacks {
        let path = |what: &str| format!("/attack/{}/{what}", outcome.name);
        if has(&path("images")) {
            attacks.push(AttackedImages {
                name: outcome.name.clone(),
                images: by_eps(&path("images"))?,
                recon: if has(&path("recon")) { by_eps(&path("recon"))? } else { vec![] },
            });
        }
    }
    Ok(Some(Gallery { samples, originals: one_each("/clean/images")?, recon, attacks }))
}

/// The damage by which the gallery's samples are chosen: that of the first attack at its largest size.
fn damage(trial: &Trial) -> &[f64] {
    let measure = trial.attacks.first().and_then(|a| a.measures.first());
    measure.and_then(|m| m.by_eps.get(trial.largest()?)).map_or(&[], Vec::as_slice)
}

/// Rows evenly spaced over the ranks of `values`, least first; evenly spaced over the file if there are no values.
pub(super) fn spread(values: &[f64], rows: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows).collect();
    if values.len() == rows {
        order.retain(|i| values[*i].is_finite());
        order.sort_by(|i, j| values[*i].total_cmp(&values[*j]));
    }
    let wanted = ON_SHOW.min(order.len());
    // The middle of each of `wanted` equal parts, which is neither an extreme nor our own choice.
    (0..wanted).map(|i| order[(2 * i + 1) * order.len() / (2 * wanted)]).collect()
}
