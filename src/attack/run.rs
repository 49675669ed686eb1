//! The only judge: it moves an attack's proposals into its budget, keeps the worst for each sample, and measures it.

use super::best::{Best, exceeds};
use super::{Attack, AttackSpec, Budget, Curve, Family, Goal, Passes, TOLERANCE, Victim};
use crate::error::{Error, Result};
use crate::model::shift::{self, Reading};
use tch::{Kind, Tensor};

/// What an attack achieved on a batch; the tensors are on the device.
#[derive(Debug)]
pub struct Attacked {
    /// The name under which it is stored: `/attack/<name>/...`.
    pub name: String,
    /// What kind of search it was.
    pub family: Family,
    /// The attack's goal.
    pub goal: Goal,
    /// x', [B, C, H, W], within the budget.
    pub images: Tensor,
    /// r(x'), [B, C, H, W].
    pub reconstruction: Tensor,
    /// The goal's value at x', `[B]` f64. It and the measures are NaN for a sample for which it is not finite or nothing was proposed.
    pub damage: Tensor,
    /// All of [`shift::NAMES`] for x' against x, `[B]` f64 each.
    pub measures: Vec<(&'static str, Tensor)>,
    /// For an attack that stops at a given damage: the size of x' - x in the budget's norm, `[B]` f64, NaN where x' does less.
    pub smallest: Option<Tensor>,
    /// The allowed size, `[B]` f64: epsilon, or the size that the attack's definition uses in its place.
    pub radius: Tensor,
    /// `[B]` bool: the search met a gradient that was 0 or not a number.
    pub stalled: Tensor,
    /// Passes of the search for each sample; the judge's own passes are not counted.
    pub search: Passes,
    /// Passes of the spectrum that the search began with; 0 if it used none.
    pub spectrum: Passes,
    /// Damage over the passes of the search.
    pub curve: Curve,
    /// `[B]` bool: before it was moved back, a proposal was more than 1 % too large.
    pub overstepped: Tensor,
    /// `[B]` bool: at an image within the budget the goal is NaN or infinite, so that the damage is NaN, and not because nothing was proposed
    /// or the clean image is not finite.
    pub endless: Tensor,
}

impl Attacked {
    /// Passes for each sample: the search, and the spectrum that it began with.
    pub fn passes(&self) -> Passes {
        self.search + self.spectrum
    }
}

/// Runs one attack on the victim's batch. The first result is the attack's own; a spectral attack on K > 1 directions adds `u1` to `uK`;
/// its own result is the worst of them for each sample ([`AttackSpec::results`] has the names).
///
/// # Errors
/// A wrong request if a setting is out of range, the spectrum lacks directions, or pixels lie outside the box.
pub fn run(spec: &AttackSpec, victim: &Victim, budget: &Budget) -> Result<Vec<Attacked>> {
    spec.check(budget.norm)?;
    let mut parts = Vec::new();
    for (name, attack) in spec.parts() {
        parts.push(judge(&name, attack.as_ref(), victim, budget)?);
    }
    if let [only] = &mut parts[..] {
        spec.name().clone_into(&mut only.name);
        victim.remember(budget, &only.name, &only.images);
        return Ok(parts);
    }
    let mut all = vec![worst(spec.name(), spec.family(), &parts)?];
    victim.remember(budget, &all[0].name, &all[0].images);
    all.append(&mut parts);
    Ok(all)
}

/// Judges a single search: projects every candidate, keeps the worst per sample by the attack's goal, measures it.
///
/// # Errors
/// As [`run`]; an internal error where the kept perturbation is beyond its size by more than [`TOLERANCE`].
pub fn judge(name: &str, attack: &dyn Attack, victim: &Victim, budget: &Budget) -> Result<Attacked> {
    budget.check()?;
    victim.fits(budget)?;
    tch::no_grad(|| {
        let x = victim.images();
        victim.passes().take();
        let own = attack.radius(victim, budget)?;
        let whole = Tensor::f_full([x.size()[0]], budget.epsilon, (Kind::Double, x.device()))?;
        let radius = match own {
            Some(own) => own.f_where_self(&own.f_isfinite()?, &whole)?,
            None => whole,
        };
        let none = Tensor::f_zeros([x.size()[0]], (Kind::Bool, x.device()))?;
        let (mut stalled, mut overstepped) = (none.shallow_clone(), none);
        // Samples for which no proposal was a number.
        let mut lost = stalled.f_logical_not()?;
        let mut best = Best::default();
        let (mut search, mut curve) = (Passes::default(), Curve::default());
        for trial in 0..attack.trials() {
            let proposal = attack.propose(victim, budget, trial)?;
            curve.join(search.larger(), &proposal.curve);
            if let Some(s) = &proposal.stalled {
                stalled = stalled.f_logical_or(s)?;
            }
            // A single candidate is the best without a comparison, which saves a pass through the model.
            let lone = attack.trials() == 1 && proposal.candidates.len() == 1;
            for candidate in &proposal.candidates {
                let known = candidate.f_isfinite()?;
                let some = known.f_flatten(1, -1)?.f_any_dim(1, false)?;
                lost = lost.f_logical_and(&some.f_logical_not()?)?;
                let size = budget.measure(x, candidate)?;
                let most = radius.f_mul_scalar(1.01)?.f_add(&rounding(budget, candidate)?)?;
                let beyond = size.f_le_tensor(&most)?.f_logical_not()?;
                overstepped = overstepped.f_logical_or(&beyond.f_logical_and(&some)?)?;
                let finite = candidate.f_where_self(&known, x)?;
                let fair = victim.fair(budget, &finite, &radius)?;
                let damage = if lone {
                    size
                } else {
                    // What is no number is kept as the worst: numbers elsewhere do not make up for it.
                    let damage = attack.goal().value(victim, &fair)?;
                    damage.f_masked_fill(&damage.f_isnan()?.f_logical_and(&some)?, f64::INFINITY)?
                };
                let damage = victim.counted(budget, &fair, &radius, damage)?;
                best.offer(fair, damage)?;
            }
            search = search + victim.passes().take();
            if let (false, true, Some(damage)) = (lone, proposal.curve.is_empty(), best.damage()) {
                curve.note(search.larger(), damage.shallow_clone());
            }
        }
        let spectrum = if attack.directions() > 0 { victim.spectrum_passes() } else { Passes::default() };
        let images = best.into_images().unwrap_or_else(|| x.shallow_clone());
        // Where the grid of pixels left nothing within an attack's own radius, there is no result.
        let astray = victim.counted(budget, &images, &radius, Tensor::f_zeros_like(&radius)?)?.f_isnan()?;
        if astray.f_all()?.f_int64_value(&[])? == 1 {
            let number = |t: Tensor| -> Result<f64> { Ok(t.f_double_value(&[])?) };
            let (least, most) = (number(budget.measure(x, &images)?.f_min()?)?, number(radius.f_max()?)?);
            let expected = format!("a radius that rounding the clean images leaves room for (at least {least:.1e})");
            return Err(Error::request(format!("{name}: images of 8 bits"), expected, format!("at most {most:.1e}")));
        }
        lost = lost.f_logical_or(&astray)?;
        ensure_within(name, budget, x, &x.f_where_self(&astray.f_view([-1, 1, 1, 1])?, &images)?, &radius)?;
        let moved = Reading::of(victim.vae(), &images)?;
        let damage = attack.goal().of(victim, &moved)?;
        // Minus infinity is less than what any other image does.
        let mut endless =
            damage.f_isnan()?.f_logical_or(&damage.f_isposinf()?)?.f_logical_and(&lost.f_logical_not()?)?;
        // If a sample has no result, all of its measures say so.
        lost = lost.f_logical_or(&damage.f_isfinite()?.f_logical_not()?)?;
        if let Some(broken) = victim.broken() {
            lost = lost.f_logical_or(broken)?;
            for sign in [&mut stalled, &mut overstepped, &mut endless] {
                *sign = sign.f_logical_and(&broken.f_logical_not()?)?;
            }
        }
        let unless_lost = |t: &Tensor| -> Result<Tensor> { Ok(t.f_masked_fill(&lost, f64::NAN)?) };
        let mut measures = shift::all(victim.clean(), &moved)?;
        if let Some(target) = victim.target() {
            measures.extend(shift::towards(target, &moved)?);
        }
        let smallest = match attack.reach() {
            None => None,
            Some(reach) => {
                let short = damage.f_ge(reach)?.f_logical_not()?;
                Some(unless_lost(&budget.measure(x, &images)?.f_masked_fill(&short, f64::NAN)?)?)
            }
        };
        let measures: Result<_> = measures.into_iter().map(|(name, t)| Ok((name, unless_lost(&t)?))).collect();
        curve.note(search.larger(), unless_lost(&damage)?);
        curve.lose(lost.shallow_clone());
        Ok(Attacked {
            name: name.to_owned(),
            family: attack.family(),
            goal: attack.goal(),
            damage: unless_lost(&damage)?,
            measures: measures?,
            images: victim.restored(&images)?,
            reconstruction: moved.reconstruction,
            smallest,
            radius,
            stalled,
            search,
            spectrum,
            curve,
            overstepped,
            endless,
        })
    })
}

/// How much the rounding of its pixels may add to a perturbation of the image `x`, `[B]` f64: of a tiny epsilon it is more than a hundredth.
fn rounding(budget: &Budget, x: &Tensor) -> Result<Tensor> {
    let unit = if x.kind() == Kind::Double { f64::EPSILON } else { f64::from(f32::EPSILON) };
    Ok(budget.measure(&x.f_zeros_like()?, x)?.f_mul_scalar(unit)?)
}

/// The worst per sample, by damage, of several results on one batch with one goal. Where one of them met a goal that is not finite, the worst
/// is not finite either; where one has nothing to tell, the others count.
///
/// # Errors
/// If there is no result, or goals differ.
pub fn worst(name: &str, family: Family, results: &[Attacked]) -> Result<Attacked> {
    let Some((first, rest)) = results.split_first() else {
        return Err(Error::request("results to choose from", "at least one", "none"));
    };
    let mut kept = Attacked {
        name: name.to_owned(),
        family,
        goal: first.goal,
        images: first.images.shallow_clone(),
        reconstruction: first.reconstruction.shallow_clone(),
        damage: first.damage.shallow_clone(),
        measures: first.measures.iter().map(|(n, m)| (*n, m.shallow_clone())).collect(),
        smallest: None,
        radius: first.radius.shallow_clone(),
        stalled: first.stalled.shallow_clone(),
        search: first.search,
        spectrum: first.spectrum,
        curve: Curve::default(),
        overstepped: first.overstepped.shallow_clone(),
        endless: first.endless.shallow_clone(),
    };
    kept.curve.join(0.0, &first.curve);
    for other in rest {
        if other.goal != kept.goal {
            let found = format!("{} and {}", kept.goal, other.goal);
            return Err(Error::request("goals of the results to choose from", "one", found));
        }
        kept.curve.join(kept.search.larger(), &other.curve);
        kept.search = kept.search + other.search;
        // One spectrum serves all results.
        if kept.spectrum == Passes::default() {
            kept.spectrum = other.spectrum;
        }
        let worse = exceeds(&other.damage, &kept.damage)?.f_logical_or(&other.endless)?;
        // Nothing is worse than what is not finite.
        let worse = worse.f_logical_and(&kept.endless.f_logical_not()?)?;
        let choose = |a: &Tensor, b: &Tensor| a.f_where_self(&worse, b);
        let pixels = worse.f_reshape([-1, 1, 1, 1])?;
        kept.images = other.images.f_where_self(&pixels, &kept.images)?;
        kept.reconstruction = other.reconstruction.f_where_self(&pixels, &kept.reconstruction)?;
        for ((_, mine), (_, theirs)) in kept.measures.iter_mut().zip(&other.measures) {
            *mine = choose(theirs, mine)?;
        }
        kept.radius = choose(&other.radius, &kept.radius)?;
        kept.stalled = choose(&other.stalled, &kept.stalled)?;
        kept.overstepped = choose(&other.overstepped, &kept.overstepped)?;
        kept.endless = choose(&other.endless, &kept.endless)?;
        kept.damage = choose(&other.damage, &kept.damage)?;
    }
    kept.curve.lose(kept.damage.f_isnan()?);
    Ok(kept)
}

/// Checks what every stored result promises; fails on NaN. This is the only number that is copied to the host.
fn ensure_within(name: &str, budget: &Budget, x: &Tensor, images: &Tensor, radius: &Tensor) -> Result<()> {
    let size = budget.measure(x, images)?;
    let within = size.f_le_tensor(&radius.f_mul_scalar(1.0 + TOLERANCE)?)?.f_all()?;
    if within.f_int64_value(&[])? == 1 {
        return Ok(());
    }
    let excess = size.f_sub(radius)?.f_max()?.f_double_value(&[])?;
    Err(Error::Numeric {
        part: "attack::judge",
        message: format!("{name} left its {} budget by {excess:e}", budget.norm),
    })
}
