//! Distinguishes files of one model, and models of one name, by the shortest description.

use crate::report::study::{Outcome, Scores, Study, Subject, Trial};
use crate::report::words;

/// Names each model's scores by their metric and, if the model has several files of a metric, by the differences between them. Files that
/// say the same count as one.
pub(super) fn facets(subjects: &mut [Subject]) {
    for subject in subjects.iter_mut() {
        once(&mut subject.scores, |a: &Scores, b: &Scores| {
            (&a.metric, &a.aspects, &a.index) == (&b.metric, &b.aspects, &b.index)
                && a.columns.len() == b.columns.len()
                && a.columns.iter().zip(&b.columns).all(|(a, b)| a.name == b.name && same(&a.values, &b.values))
        });
    }
    tell(subjects, scores_of, |kind, told| [&[kind.to_owned()], told].concat().join(", "));
}

/// Labels each model's attack files of one norm by their differences. Files that say the same count as one.
pub(super) fn trials(subjects: &mut [Subject]) {
    for subject in subjects.iter_mut() {
        once(&mut subject.trials, |a: &Trial, b: &Trial| {
            let alike = |(a, b): (&Outcome, &Outcome)| {
                a.name == b.name
                    && a.measures.len() == b.measures.len()
                    && a.measures.iter().zip(&b.measures).all(|(a, b)| same(&a.by_eps.concat(), &b.by_eps.concat()))
            };
            (&a.norm, &a.aspects, &a.index, &a.eps) == (&b.norm, &b.aspects, &b.index, &b.eps)
                && a.attacks.len() == b.attacks.len()
                && a.attacks.iter().zip(&b.attacks).all(alike)
        });
    }
    tell(subjects, trials_of, |_, told| told.join(", "));
}

/// Compares bit for bit, so that NaN equals itself.
fn same(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// Keeps the first of each group of equal items.
fn once<T>(items: &mut Vec<T>, alike: impl Fn(&T, &T) -> bool) {
    let mut at = 0;
    while at < items.len() {
        let (before, rest) = items.split_at(at);
        if before.iter().any(|b| rest.first().is_some_and(|i| alike(b, i))) {
            items.remove(at);
        } else {
            at += 1;
        }
    }
}

/// A file of a model: its kind, what may distinguish it from others of its kind, and where its name is stored.
struct Item<'a> {
    kind: &'a String,
    aspects: &'a [String],
    name: &'a mut String,
}

fn scores_of(subject: &mut Subject) -> Vec<Item<'_>> {
    let each = subject.scores.iter_mut();
    each.map(|Scores { facet, metric, aspects, .. }| Item { kind: metric, aspects, name: facet }).collect()
}

fn trials_of(subject: &mut Subject) -> Vec<Item<'_>> {
    let each = subject.trials.iter_mut();
    each.map(|Trial { label, norm, aspects, .. }| Item { kind: norm, aspects, name: label }).collect()
}

/// Names every model's items by their kind and those aspects in which some model's items of that kind differ. The aspects are the same for
/// all models, so that one name has one meaning. Items that no aspect distinguishes are numbered.
fn tell(subjects: &mut [Subject], items: fn(&mut Subject) -> Vec<Item<'_>>, name: impl Fn(&str, &[String]) -> String) {
    let all: Vec<Vec<(String, Vec<String>)>> = subjects
        .iter_mut()
        .map(|subject| items(subject).iter().map(|i| (i.kind.clone(), i.aspects.to_vec())).collect())
        .collect();
    let told = |kind: &str| -> Vec<usize> {
        let mut chosen: Vec<usize> = Vec::new();
        for aspect in 0.. {
            let mut held = false;
            let splits = all.iter().any(|subject| {
                let of_kind: Vec<&Vec<String>> = subject.iter().filter(|i| i.0 == kind).map(|i| &i.1).collect();
                held |= of_kind.iter().any(|a| aspect < a.len());
                of_kind.iter().enumerate().any(|(i, a)| {
                    let alike = |b: &&&Vec<String>| chosen.iter().all(|c| a.get(*c) == b.get(*c));
                    of_kind[..i].iter().filter(alike).any(|b| a.get(aspect) != b.get(aspect))
                })
            });
            if splits {
                chosen.push(aspect);
            }
            if !held {
                return chosen;
            }
        }
        chosen
    };
    for subject in subjects.iter_mut() {
        let mut given: Vec<String> = Vec::new();
        let mut kinds: Vec<String> = Vec::new();
        for item in items(subject) {
            let words: Vec<String> = told(item.kind)
                .iter()
                .filter_map(|a| item.aspects.get(*a))
                .filter(|w| !w.is_empty())
                .cloned()
                .collect();
            let mut own = name(item.kind, &words);
            let twins = given.iter().zip(&kinds).filter(|(n, k)| **n == own && *k == item.kind).count();
            given.push(own.clone());
            kinds.push(item.kind.clone());
            if twins > 0 {
                // Where the number is all that there is, whoever shows it adds the brackets.
                let number = twins + 1;
                own = if own.is_empty() { number.to_string() } else { format!("{own} ({number})") };
            }
            *item.name = own;
        }
    }
}

/// Names the subjects as their models were named; subjects with one name get as much more of their path as distinguishes them. A model on
/// several data sets has the data sets in its names.
pub(super) fn subjects(subjects: &mut [Subject]) {
    let mut models: Vec<(&str, &str)> = Vec::new();
    for subject in subjects.iter() {
        if !models.iter().any(|m| m.0 == subject.origin.identity()) {
            models.push((subject.origin.identity(), &subject.origin.model));
        }
    }
    let mut called = paths(&models.iter().map(|m| m.1).collect::<Vec<_>>());
    // Other weights under the same path: the weights themselves distinguish them.
    for i in 0..called.len() {
        if models.iter().enumerate().any(|(j, m)| j != i && m.1 == models[i].1) {
            called[i].push_str(&format!(" ({})", models[i].0.chars().take(7).collect::<String>()));
        }
    }
    let mut names = Vec::new();
    for subject in subjects.iter() {
        let place = models.iter().position(|m| m.0 == subject.origin.identity()).unwrap_or_default();
        let twins: Vec<&Subject> =
            subjects.iter().filter(|a| a.origin.identity() == subject.origin.identity()).collect();
        let mut name = called[place].clone();
        let mut sets: Vec<&str> = Vec::new();
        for twin in &twins {
            if !sets.contains(&twin.origin.dataset.as_str()) {
                sets.push(&twin.origin.dataset);
            }
        }
        if let (true, Some(at)) = (sets.len() > 1, sets.iter().position(|s| *s == subject.origin.dataset)) {
            name.push_str(&format!(", {}", paths(&sets)[at]));
        }
        if twins.iter().any(|t| t.origin.split != subject.origin.split) {
            name.push_str(&format!(", {}", subject.origin.split));
        }
        // Other contents under the same name: the contents themselves distinguish them.
        let (set, data) = ((&subject.origin.dataset, &subject.origin.split), &subject.origin.data);
        if twins.iter().any(|t| (&t.origin.dataset, &t.origin.split) == set && t.origin.data != *data) {
            name.push_str(&format!(" ({})", data.chars().take(7).collect::<String>()));
        }
        names.push(name);
    }
    // Names that are still equal are numbered.
    for (i, subject) in subjects.iter_mut().enumerate() {
        let before = names[..i].iter().filter(|n| **n == names[i]).count();
        subject.name = if before > 0 { format!("{} ({})", names[i], before + 1) } else { names[i].clone() };
    }
}

/// Names training runs as their models are named, in their order.
pub(super) fn histories(study: &mut Study) {
    let folders: Vec<String> = study.histories.iter().map(|h| h.folder.clone()).collect();
    let mut named = paths(&folders.iter().map(String::as_str).collect::<Vec<_>>());
    for (name, folder) in named.iter_mut().zip(&folders) {
        let whole = |path: &str| parts(path).join("/");
        let own = study.subjects.iter().find(|a| {
            let (model, folder) = (whole(&a.origin.model), whole(folder));
            // A path may be given relative to another folder than the other path.
            model == folder || model.ends_with(&format!("/{folder}")) || folder.ends_with(&format!("/{model}"))
        });
        if let Some(subject) = own {
            *name = subject.name.clone();
        } else if name.is_empty() {
            *name = "training".to_owned();
        }
    }
    for (history, name) in study.histories.iter_mut().zip(named) {
        history.name = name;
    }
    let place = |name: &str| study.subjects.iter().position(|a| a.name == name).unwrap_or(usize::MAX);
    study.histories.sort_by_key(|h| place(&h.name));
}

/// The informative parts of a model's path.
fn parts(path: &str) -> Vec<&str> {
    let path = path.trim_end_matches('/').trim_end_matches("/model.safetensors");
    let mut parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
    if let Some(last) = parts.last_mut() {
        *last = words::model(last);
    }
    parts
}

/// The last part of each path; for paths that share it, as many parts as distinguish them.
fn paths(paths: &[&str]) -> Vec<String> {
    let parts: Vec<Vec<&str>> = paths.iter().map(|p| parts(p)).collect();
    let tail = |i: usize, k: usize| parts[i][parts[i].len().saturating_sub(k)..].join("/");
    (0..paths.len())
        .map(|i| {
            let twins: Vec<usize> = (0..paths.len()).filter(|j| tail(*j, 1) == tail(i, 1)).collect();
            let longest = twins.iter().map(|j| parts[*j].len()).max().unwrap_or(1);
            let several = |k: usize| twins.iter().map(|j| tail(*j, k)).collect::<std::collections::HashSet<_>>().len();
            let apart = |k: &usize| several(*k) == several(longest);
            tail(i, (1..=longest).find(apart).unwrap_or(longest))
        })
        .collect()
}
