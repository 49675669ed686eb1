//! Signs that an evaluation is weaker than it looks, or does not mean what a reader may think; counted for each sample over a run.
//!
//! Source: Croce & Hein 2020, the checks of AutoAttack (`flags_doc.md`): gradients of zero, and a blind attack that beats an attack that
//! sees the model. docs/flags.md explains each flag and says what to do.

use super::suite::{LONG, SHORT};
use super::{Attacked, Family};
use crate::error::Result;
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// A sign of a doubtful evaluation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flag {
    /// The goal's value was not a number.
    NotANumber,
    /// The gradient was 0 or not a number at some step.
    Vanishing,
    /// A proposal had to be moved back into the budget.
    Overstepped,
    /// An attack that knows less about the model did more damage.
    WeakerThan(String),
    /// The longer of the suite's two searches from other images' perturbations found more than the shorter one.
    Rising,
    /// A larger epsilon did less damage.
    Falling,
    /// The box let the perturbation reach less than half of epsilon.
    Boxed,
    /// One step along an eigenvector did less than half, or more than twice, of the damage that its eigenvalue predicts.
    Bent,
    /// The reconstruction is no better than a grey image.
    Untrained,
}

/// The relative growth of damage, for about twice the passes, from which damage counts as rising.
const RISE: f64 = 0.05;

impl Flag {
    /// Its name in result files: `/flags/<attack>.<name>`.
    pub fn name(&self) -> String {
        match self {
            Self::NotANumber => "not-a-number".to_owned(),
            Self::Vanishing => "vanishing".to_owned(),
            Self::Overstepped => "overstepped".to_owned(),
            Self::WeakerThan(other) => format!("weaker-than-{other}"),
            Self::Rising => "rising".to_owned(),
            Self::Falling => "falling".to_owned(),
            Self::Boxed => "boxed".to_owned(),
            Self::Bent => "bent".to_owned(),
            Self::Untrained => "untrained".to_owned(),
        }
    }

    /// The share of the samples up to which there is no warning.
    fn share(&self) -> f64 {
        match self {
            Self::NotANumber => 0.0,
            Self::Vanishing | Self::Overstepped | Self::WeakerThan(_) | Self::Falling => 0.01,
            Self::Rising => 0.25,
            Self::Boxed | Self::Bent | Self::Untrained => 0.5,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::NotANumber => "the goal is not a number".to_owned(),
            Self::Vanishing => "the gradient vanished on the way".to_owned(),
            Self::Overstepped => "the attack ignored its budget and was brought back".to_owned(),
            Self::WeakerThan(other) => format!("{other} does more damage: more steps or restarts may help"),
            Self::Rising => "twice the passes find over 5 % more: a larger budget (--attack transfer --budget 3000) finds more still".to_owned(),
            Self::Falling => "a larger epsilon does less damage: more steps or restarts may help".to_owned(),
            Self::Boxed => "the box leaves less than half of epsilon: epsilon says little there".to_owned(),
            Self::Bent => {
                "the smallest step along v_1 does less than half, or more than twice, of what lambda_1 foretells: eigenvalues \
                 say little of sizes such as these"
                    .to_owned()
            }
            Self::Untrained => "the reconstruction is no better than a grey image: is the model trained, and its input range right?".to_owned(),
        }
    }
}

/// Counts doubtful samples over batches and budgets.
#[derive(Clone, Debug, Default)]
pub struct Doubts {
    /// (attack, flag) to (doubtful, seen).
    counts: BTreeMap<(String, Flag), (u64, u64)>,
}

impl Doubts {
    /// Counts the samples of `results`, which are all attacks of one batch at one budget. Copies to the host once.
    pub fn note(&mut self, results: &[Attacked]) -> Result<()> {
        self.count(&signs(results)?)
    }

    /// Counts flagged samples: masks `[B]` bool. Copies to the host once.
    pub fn count(&mut self, flagged: &[((String, Flag), Tensor)]) -> Result<()> {
        let masks: Vec<&Tensor> = flagged.iter().map(|(_, mask)| mask).collect();
        if masks.is_empty() {
            return Ok(());
        }
        let masks = Tensor::f_stack(&masks, 0)?;
        let seen = masks.size()[1] as u64;
        let sums = masks.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Int64)?;
        for ((key, _), sum) in flagged.iter().zip(Vec::<i64>::try_from(&sums)?) {
            let count = self.counts.entry(key.clone()).or_default();
            count.0 += sum.max(0) as u64;
            count.1 += seen;
        }
        Ok(())
    }

    /// One line for each flag that deserves a warning.
    pub fn lines(&self) -> Vec<String> {
        let worth = |((_, flag), (n, seen)): &(&(String, Flag), &(u64, u64))| *n as f64 > flag.share() * *seen as f64;
        let line = |((attack, flag), (n, seen)): (&(String, Flag), &(u64, u64))| {
            let what = match flag {
                // The attack makes one step, so no setting could be larger.
                Flag::WeakerThan(other) if attack.ends_with("spectral") => {
                    format!("{other} does more damage: one step along v is no search at such sizes")
                }
                _ => flag.text(),
            };
            match flag {
                // The images as they are.
                Flag::Untrained => format!("{attack}: on {n} of {seen} clean images {what}"),
                _ => format!("attack {attack}: on {n} of {seen} attacked images {what}"),
            }
        };
        self.counts.iter().filter(worth).map(line).collect()
    }
}

/// `[B]` bool masks of all flags of `results`, which are all attacks of one batch at one budget.
///
/// # Errors
/// If their shapes differ.
pub fn signs(results: &[Attacked]) -> Result<Vec<((String, Flag), Tensor)>> {
    let mut all = Vec::new();
    for r in results {
        let mut add = |flag, mask: Tensor| all.push(((r.name.clone(), flag), mask));
        add(Flag::NotANumber, r.endless.shallow_clone());
        add(Flag::Vanishing, r.stalled.shallow_clone());
        add(Flag::Overstepped, r.overstepped.shallow_clone());
        if let Some(short) = results.iter().find(|o| r.name == LONG && o.name == SHORT) {
            let more = r.damage.f_sub(&short.damage)?;
            add(Flag::Rising, more.f_gt_tensor(&short.damage.f_abs()?.f_mul_scalar(RISE)?)?);
        }
        for other in results.iter().filter(|o| should_lose(o.family, r.family) && o.goal == r.goal) {
            // Only results of equal size are compared, and the eigen scale has its own size. A difference within rounding does not count.
            let equal = other.radius.f_eq_tensor(&r.radius)?;
            let stronger = other.damage.f_sub(&r.damage)?.f_gt_tensor(&r.damage.f_abs()?.f_mul_scalar(1e-4)?)?;
            add(Flag::WeakerThan(other.name.clone()), equal.f_logical_and(&stronger)?);
        }
    }
    Ok(all)
}

/// True if `weaker` knows less about the model than `stronger` does.
fn should_lose(weaker: Family, stronger: Family) -> bool {
    matches!(
        (weaker, stronger),
        (Family::Noise, Family::Spectral | Family::Gradient)
            | (Family::Blind | Family::Spectral | Family::Universal, Family::Gradient)
    )
}
