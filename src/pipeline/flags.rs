//! Flags of a block of attacked samples: flags of a single budget, and flags that need several budgets or the data.

use super::flow::{Asked, bytes};
use crate::attack::{Attacked, Budget, Family, Flag, Victim, signs};
use crate::error::Result;
use crate::metric::MetricKind;
use crate::model::shift;
use crate::store::direction;
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// Samples that are flagged at any budget, `[B]` bool, by attack and flag.
type Flagged = BTreeMap<(String, Flag), Tensor>;

/// The least relative drop of damage at a larger epsilon that counts; smaller drops are rounding.
const FALL: f64 = 1e-3;

/// All flags of a block; `ascending` has the results of every attack at each budget, the smallest epsilon first.
pub(super) fn of(victim: &Victim, ascending: &[(Budget, Vec<Attacked>)], metric: MetricKind) -> Result<Flagged> {
    let mut all = Flagged::new();
    let mut add = |key: (String, Flag), mask: Tensor| -> Result<()> {
        let mask = match all.get(&key) {
            Some(before) => before.f_logical_or(&mask)?,
            None => mask,
        };
        all.insert(key, mask);
        Ok(())
    };
    for (place, (budget, results)) in ascending.iter().enumerate() {
        for (key, mask) in signs(results)? {
            add(key, mask)?;
        }
        for attacked in results {
            // An attack that wants a small perturbation does not fill its budget, and a step along no direction is none of the box's.
            if budget.pixels.is_some() && attacked.smallest.is_none() {
                let size = budget.measure(victim.images(), &attacked.images)?;
                let short = size.f_lt_tensor(&attacked.radius.f_mul_scalar(0.5)?)?;
                add((attacked.name.clone(), Flag::Boxed), short.f_logical_and(&size.f_gt(0.0)?)?)?;
            }
            // Of several directions, only the first is used.
            let names: Vec<&str> = results.iter().map(|r| r.name.as_str()).collect();
            if place == 0
                && direction(&attacked.name, &names) == Some(1)
                && let Some(bent) = bent(victim, attacked, budget, metric)?
            {
                add((attacked.name.clone(), Flag::Bent), bent)?;
            }
            let smaller = place.checked_sub(1).map(|before| &ascending[before].1);
            if let Some(before) = smaller.and_then(|all| all.iter().find(|b| b.name == attacked.name)) {
                let fall = before.damage.f_sub(&attacked.damage)?;
                let falls = fall.f_gt_tensor(&before.damage.f_abs()?.f_mul_scalar(FALL)?)?;
                // A single step can miss a maximum, so only searches count here.
                if matches!(attacked.family, Family::Gradient | Family::Blind) {
                    add((attacked.name.clone(), Flag::Falling), falls)?;
                }
            }
        }
    }
    let clean = victim.clean();
    let error = shift::mean_square(&clean.images, &clean.reconstruction)?;
    let pixels = clean.images.f_flatten(1, -1)?.f_to_kind(Kind::Double)?;
    let spread = pixels.f_var_dim([1i64].as_slice(), false, false)?;
    // No number is larger than NaN: nothing is said of a model at an image that is not finite.
    let error = victim.known(&error)?;
    add(("model".to_owned(), Flag::Untrained), error.f_ge_tensor(&spread)?)?;
    Ok(all)
}

/// True if the first-order prediction for a step of epsilon along v_1, epsilon sqrt(lambda_1), is far from the result.
fn bent(victim: &Victim, attacked: &Attacked, budget: &Budget, metric: MetricKind) -> Result<Option<Tensor>> {
    let measure = match metric {
        MetricKind::Mean => "latent_l2",
        MetricKind::Stochastic => "latent_w2",
        _ => return Ok(None),
    };
    let found = attacked.measures.iter().find(|(name, _)| *name == measure);
    let (Some((_, found)), Some(slope)) = (found, victim.steepest_slope()?) else {
        return Ok(None);
    };
    if budget.norm != crate::attack::Norm::L2 {
        return Ok(None);
    }
    // The box may have shortened the step.
    let predicted = slope.f_mul(&budget.measure(victim.images(), &attacked.images)?)?;
    let less = found.f_lt_tensor(&predicted.f_mul_scalar(0.5)?)?;
    Ok(Some(less.f_logical_or(&found.f_gt_tensor(&predicted.f_mul_scalar(2.0)?)?)?))
}

/// As columns: `/flags/<attack>.<flag>`, `[n]` u8.
pub(super) fn columns(flagged: &Flagged) -> Result<Vec<Asked>> {
    flagged.iter().map(|((attack, flag), mask)| bytes(format!("/flags/{attack}.{}", flag.name()), mask)).collect()
}
