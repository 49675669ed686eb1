//! Flags of an attack file, and the damage and cost of each attack.

use crate::error::Result;
use crate::report::study::{Effort, Raised, Smallest};
use crate::report::words;
use crate::store::Reader;

/// `/flags/<attack>.<flag>`.
pub(super) fn flags(reader: &Reader) -> Result<Vec<Raised>> {
    let mut all = vec![];
    for name in reader.below("/flags/") {
        if let Some((attack, flag)) = name.split_once('.') {
            let (_, rows) = reader.read_u8(&format!("/flags/{name}"))?;
            let count = rows.iter().filter(|row| **row != 0).count();
            all.push(Raised { attack: attack.to_owned(), flag: flag.to_owned(), count, of: rows.len() });
        }
    }
    Ok(all)
}

/// `/smallest/<attack>` at the largest of the sizes `eps`.
pub(super) fn smallest(reader: &Reader, eps: &[f64]) -> Result<Vec<Smallest>> {
    let largest = (0..eps.len()).max_by(|a, b| eps[*a].total_cmp(&eps[*b])).unwrap_or(0);
    let of = |attack: String| {
        let (_, values) = reader.read_f64(&format!("/smallest/{attack}"))?;
        let values = values.chunks_exact(reader.samples().max(1)).nth(largest).unwrap_or_default().to_vec();
        Ok(Smallest { attack, values })
    };
    reader.below("/smallest/").into_iter().map(of).collect()
}

/// `/damage/<attack>`, `/passes/<attack>` and `/curve/<attack>`.
pub(super) fn efforts(reader: &Reader) -> Result<Vec<Effort>> {
    let mut all = vec![];
    let passes = match reader.info("/curve/passes") {
        Some(_) => reader.read_f64("/curve/passes")?.1,
        None => vec![],
    };
    for attack in reader.below("/damage/") {
        let (_, values) = reader.read_f64(&format!("/damage/{attack}"))?;
        let damage = values.chunks_exact(reader.samples().max(1)).map(<[f64]>::to_vec).collect();
        let most = |way: &str| -> Result<Vec<f64>> {
            let path = format!("/passes/{attack}/{way}");
            if reader.info(&path).is_none() {
                return Ok(vec![]);
            }
            let by_eps = reader.read_f64(&path)?.1;
            let by_eps = by_eps.chunks_exact(reader.samples().max(1));
            Ok(by_eps.map(|passes| passes.iter().copied().fold(0.0, f64::max)).collect())
        };
        let (forward, backward) = (most("forward")?, most("backward")?);
        let path = format!("/curve/{attack}");
        let (budgets, curve) = if passes.is_empty() || reader.info(&path).is_none() {
            (vec![], vec![])
        } else {
            let row = (reader.samples() * passes.len()).max(1);
            let curve = reader.read_f64(&path)?.1.chunks_exact(row).map(<[f64]>::to_vec).collect();
            (passes.clone(), curve)
        };
        let path = format!("/flags/{attack}.not-a-number");
        let endless = match reader.info(&path) {
            Some(_) => reader.read_u8(&path)?.1.iter().map(|flag| *flag != 0).collect(),
            None => vec![],
        };
        all.push(Effort { attack, damage, endless, forward, backward, budgets, curve });
    }
    all.sort_by_key(|effort| words::attack_order(&effort.attack));
    Ok(all)
}
