//! Which entries compare, and which model is the most robust of those that do.

use super::Entry;

/// Groups of comparable entries, the most robust first, and those with lost samples last: the samples that break a model down are left out of
/// its means, which are smaller for it. The larger groups come first.
pub(super) fn tables(entries: Vec<Entry>) -> Vec<Vec<Entry>> {
    let mut tables: Vec<Vec<Entry>> = vec![];
    for entry in entries {
        match tables.iter_mut().find(|table| table.first().is_some_and(|first| compares(first, &entry))) {
            // If the same model occurs twice, the newer entry is kept.
            Some(table) => {
                table.retain(|old| old.model_sha256 != entry.model_sha256);
                table.push(entry);
            }
            None => tables.push(vec![entry]),
        }
    }
    for table in &mut tables {
        table.sort_by(|a, b| b.is_whole().cmp(&a.is_whole()).then(a.area[0].total_cmp(&b.area[0])));
    }
    tables.sort_by_key(|table| std::cmp::Reverse(table.len()));
    tables
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
