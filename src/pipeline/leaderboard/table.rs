//! Which entries compare, and which model is the most robust of those that do.

use super::entry::{Entry, short};
use crate::event::{Event, Observer};

/// Groups of comparable entries, the most robust first, and those with lost samples last: the samples that break a model down are left out of
/// its means, which are smaller for it. The larger groups come first.
pub(super) fn tables(entries: Vec<Entry>, observer: &dyn Observer) -> Vec<Vec<Entry>> {
    let mut tables: Vec<Vec<Entry>> = vec![];
    for entry in entries {
        match tables.iter_mut().find(|table| table.first().is_some_and(|first| compares(first, &entry))) {
            // If the same model occurs twice, the newer entry is kept.
            Some(table) => match table.iter_mut().find(|old| is_same(old, &entry)) {
                Some(old) => {
                    let what = format!("{} ({}, seed {})", old.model, short(&old.model_sha256), old.seed);
                    if *old != entry {
                        let line = format!("leaderboard: an entry of {what} gives way to the one that follows it");
                        observer.on(Event::Note(&line));
                    }
                    *old = entry;
                }
                None => table.push(entry),
            },
            None => tables.push(vec![entry]),
        }
    }
    for table in &mut tables {
        table.sort_by(|a, b| b.is_whole().cmp(&a.is_whole()).then(a.height().total_cmp(&b.height())));
    }
    tables.sort_by_key(|table| std::cmp::Reverse(table.len()));
    tables
}

/// Whether two entries of one table are of the same run: the same weights, read alike, and the same seed.
fn is_same(a: &Entry, b: &Entry) -> bool {
    (a.weights(), &a.interface, a.seed) == (b.weights(), &b.interface, b.seed)
}

fn compares(a: &Entry, b: &Entry) -> bool {
    let key = |e: &Entry| {
        (
            e.suite.clone(),
            e.norm.clone(),
            e.goal.clone(),
            e.setting.clone(),
            e.data_sha256.clone(),
            e.samples,
            format!("{:?}", e.eps),
        )
    };
    key(a) == key(b)
}
