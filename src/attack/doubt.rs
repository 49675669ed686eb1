//! Signs that an evaluation is weaker than it looks, counted over a run.
//!
//! Source: Croce & Hein 2020, the checks of AutoAttack (`flags_doc.md`): gradients of zero, a blind attack that beats one
//! that sees the model.

use super::{Attacked, Family};
use crate::error::Result;
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// Below this share of the samples a doubt is not worth a warning.
const SHARE: f64 = 0.01;

/// A sign of a doubtful evaluation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Doubt {
    /// The goal's value was not a number.
    NotANumber,
    /// The gradient was 0 or not a number somewhere on the way.
    Stalled,
    /// A proposal had to be brought back into the budget.
    Overstepped,
    /// An attack that should be weaker did more damage.
    WeakerThan(String),
}

/// Counts doubtful samples over batches and budgets.
#[derive(Clone, Debug, Default)]
pub struct Doubts {
    /// (attack, doubt) to (doubtful, seen).
    counts: BTreeMap<(String, Doubt), (u64, u64)>,
}

impl Doubts {
    /// Counts the samples of `results`: all attacks of one batch at one budget. Visits the host once.
    pub fn note(&mut self, results: &[Attacked]) -> Result<()> {
        let (keys, masks): (Vec<_>, Vec<_>) = signs(results)?.into_iter().unzip();
        if masks.is_empty() {
            return Ok(());
        }
        let masks = Tensor::f_stack(&masks, 0)?;
        let seen = masks.size()[1] as u64;
        let sums = masks.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Int64)?;
        for (key, sum) in keys.into_iter().zip(Vec::<i64>::try_from(&sums)?) {
            let count = self.counts.entry(key).or_default();
            count.0 += sum.max(0) as u64;
            count.1 += seen;
        }
        Ok(())
    }

    /// One line for each doubt worth a warning: any value that is not a number, others above 1 % of the samples.
    pub fn lines(&self) -> Vec<String> {
        let worth = |((_, doubt), (n, seen)): &(&(String, Doubt), &(u64, u64))| match doubt {
            Doubt::NotANumber => *n > 0,
            _ => *n as f64 > SHARE * *seen as f64,
        };
        let line = |((attack, doubt), (n, seen)): (&(String, Doubt), &(u64, u64))| {
            let what = match doubt {
                Doubt::NotANumber => "the goal is not a number".to_owned(),
                Doubt::Stalled => "the gradient vanished on the way".to_owned(),
                Doubt::Overstepped => "the attack ignored its budget and was brought back".to_owned(),
                Doubt::WeakerThan(other) => {
                    format!("{other} does more damage: more steps or restarts may help")
                }
            };
            format!("attack {attack}: on {n} of {seen} attacked images {what}")
        };
        self.counts.iter().filter(worth).map(line).collect()
    }
}

/// `[B]` bool masks of all doubts about `results`.
fn signs(results: &[Attacked]) -> Result<Vec<((String, Doubt), Tensor)>> {
    let mut all = Vec::new();
    for r in results {
        let mut add = |doubt, mask: Tensor| all.push(((r.name.clone(), doubt), mask));
        add(Doubt::NotANumber, r.damage.f_isnan()?);
        add(Doubt::Stalled, r.stalled.shallow_clone());
        add(Doubt::Overstepped, r.overstepped.shallow_clone());
        for other in results.iter().filter(|o| should_lose(o.family, r.family) && o.goal == r.goal) {
            // Only at equal size: the eigen scale has its own. Rounding is no victory.
            let equal = other.radius.f_eq_tensor(&r.radius)?;
            let stronger = other.damage.f_gt_tensor(&(&r.damage * (1.0 + 1e-4)))?;
            add(Doubt::WeakerThan(other.name.clone()), equal.f_logical_and(&stronger)?);
        }
    }
    Ok(all)
}

/// True where `weaker` knows less of the model than `stronger` uses.
fn should_lose(weaker: Family, stronger: Family) -> bool {
    matches!(
        (weaker, stronger),
        (Family::Noise, Family::Spectral | Family::Gradient) | (Family::Spectral, Family::Gradient)
    )
}
