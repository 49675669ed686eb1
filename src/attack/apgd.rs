//! Auto-PGD on the goal: a projected gradient ascent that adapts its step length.
//!
//! Source: Croce & Hein 2020, algorithm 1 and its constants (momentum 0.75, first step 2 epsilon, rho 0.75). At a checkpoint, a sample's
//! step is halved and the ascent returns to its best iterate if too few steps increased the goal, or if neither the step nor the best value
//! has changed since the last checkpoint.
//! Differs: the start lies on the ball's surface, since goals that are distances vanish at its centre; in L1 a step moves several pixels,
//! each as far as its wall, and the first one is half of epsilon (Croce & Hein 2021 spread L1 steps as well).

use super::best::exceeds;
use super::least::at_least_one;
use super::start::{Origin, Start, carried, origins};
use super::step::vanishes;
use super::{Attack, Budget, Curve, Family, Goal, Norm, Proposal, Victim};
use crate::error::Result;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// The new step's weight; the previous move has the weight 1 - ALPHA.
const ALPHA: f64 = 0.75;
/// Share of the steps between two checkpoints that must increase the goal.
const RHO: f64 = 0.75;

/// `{kind: apgd}` in the YAML.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApgdSpec {
    /// Gradient steps (>= 1).
    pub steps: usize,
    /// Ascents from different starts; the worst result is kept (>= 1).
    pub restarts: usize,
    /// The direction of the start.
    pub start: Start,
    /// The goal that is increased.
    pub goal: Goal,
}

impl Default for ApgdSpec {
    fn default() -> Self {
        Self { steps: 100, restarts: 1, start: Start::default(), goal: Goal::default() }
    }
}

impl ApgdSpec {
    pub(super) fn check(&self) -> Result<()> {
        at_least_one("steps of the apgd attack", self.steps)?;
        at_least_one("restarts of the apgd attack", self.restarts)
    }
}

/// The numbers of steps, out of `steps`, after which the step length is checked: p_0 = 0, p_1 = 0.22 and p_{j+1} = p_j +
/// max(p_j - p_{j-1} - 0.03, 0.06) of them, rounded up.
fn checkpoints(steps: usize) -> Vec<usize> {
    // In whole hundredths: rounding of sums would put some checkpoints a step too late.
    let (mut before, mut at) = (0usize, 22usize);
    let mut all = vec![];
    while at <= 100 {
        all.push((at * steps).div_ceil(100));
        (before, at) = (at, at + (at - before).saturating_sub(3).max(6));
    }
    all
}

/// The ascent.
pub(super) struct Apgd(pub(super) ApgdSpec);

impl Attack for Apgd {
    fn family(&self) -> Family {
        Family::Gradient
    }

    fn goal(&self) -> Goal {
        self.0.goal
    }

    fn trials(&self) -> usize {
        self.0.restarts
    }

    fn directions(&self) -> usize {
        if self.0.start == Start::Spectral { self.0.restarts.div_ceil(2) } else { 0 }
    }

    fn propose(&self, victim: &Victim, budget: &Budget, trial: usize) -> Result<Proposal> {
        let ApgdSpec { goal, start, restarts, .. } = self.0;
        let smaller = carried(victim, budget, "apgd", trial, restarts);
        let origin = match smaller {
            Some(_) => Origin::Smaller,
            None => origins(victim, &[start], trial + 1, 0, false)[trial],
        };
        let mut state = State::at(origin.image(victim, budget, smaller.as_ref())?, goal, victim, budget)?;
        let mut curve = Curve::default();
        let each = goal.draws(victim.aim()) as f64;
        curve.note(each, state.damage.shallow_clone());
        self.ascend(&mut state, victim, budget, |step, state| {
            curve.note(each * (step + 1) as f64, state.damage.shallow_clone());
        })?;
        let candidates = std::iter::once(state.best).chain(smaller).collect();
        Ok(Proposal { candidates, stalled: Some(state.stalled), curve })
    }
}

impl Apgd {
    /// All steps from `state`; `seen` is told of each, from 1, before the step length is checked.
    fn ascend(
        &self,
        state: &mut State,
        victim: &Victim,
        budget: &Budget,
        mut seen: impl FnMut(usize, &State),
    ) -> Result<()> {
        let checkpoints = checkpoints(self.0.steps);
        for step in 1..=self.0.steps {
            crate::event::ensure_wanted()?;
            state.take_step(self.0.goal, victim, budget, step == 1)?;
            seen(step, state);
            if let Some(place) = checkpoints.iter().position(|c| *c == step) {
                let since = step - if place == 0 { 0 } else { checkpoints[place - 1] };
                state.look(since)?;
            }
        }
        Ok(())
    }
}

/// State of an ascent of B samples; all fields are `[B]` f64 except the images.
struct State {
    x: Tensor,
    before: Tensor,
    value: Tensor,
    gradient: Tensor,
    best: Tensor,
    damage: Tensor,
    /// The gradient at the best iterate.
    slope: Tensor,
    step: Tensor,
    /// Steps that increased the goal since the last checkpoint.
    rises: Tensor,
    /// The damage, and whether the step was halved, at the last checkpoint.
    damage_then: Tensor,
    halved_then: Tensor,
    stalled: Tensor,
}

impl State {
    fn at(x: Tensor, goal: Goal, victim: &Victim, budget: &Budget) -> Result<Self> {
        let (value, gradient) = goal.value_and_gradient(victim, &x)?;
        Ok(Self {
            before: x.shallow_clone(),
            best: x.shallow_clone(),
            damage: value.shallow_clone(),
            damage_then: value.shallow_clone(),
            step: value.f_full_like(first_length(budget.norm) * budget.epsilon)?,
            rises: value.f_zeros_like()?,
            halved_then: value.f_zeros_like()?.f_to_kind(Kind::Bool)?,
            stalled: vanishes(&gradient)?,
            slope: gradient.shallow_clone(),
            x,
            value,
            gradient,
        })
    }

    fn take_step(&mut self, goal: Goal, victim: &Victim, budget: &Budget, first: bool) -> Result<()> {
        let x0 = victim.images();
        let length = pixels(&self.step)?.f_to_kind(self.x.kind())?;
        let way = match budget.norm {
            // The steepest pixel alone would stay at its wall for ever.
            Norm::L1 => budget.uphill(&self.x, &self.gradient, &length)?,
            Norm::L2 | Norm::Linf => budget.steepest(&self.gradient)?.f_mul(&length)?,
        };
        let mut next = budget.contract(x0, &self.x.f_add(&way)?)?;
        if !first {
            let ahead = next.f_sub(&self.x)?.f_mul_scalar(ALPHA)?;
            let moved = ahead.f_add(&self.x.f_sub(&self.before)?.f_mul_scalar(1.0 - ALPHA)?)?;
            next = budget.contract(x0, &self.x.f_add(&moved)?)?;
        }
        let (value, gradient) = goal.value_and_gradient(victim, &next)?;
        self.stalled = self.stalled.f_logical_or(&vanishes(&gradient)?)?;
        self.rises = self.rises.f_add(&value.f_gt_tensor(&self.value)?)?;
        let better = exceeds(&value, &self.damage)?;
        let wide = pixels(&better)?;
        self.best = next.f_where_self(&wide, &self.best)?;
        self.slope = gradient.f_where_self(&wide, &self.slope)?;
        self.damage = value.f_where_self(&better, &self.damage)?;
        self.before = std::mem::replace(&mut self.x, next);
        (self.value, self.gradient) = (value, gradient);
        Ok(())
    }

    /// A checkpoint that comes `since` steps after the last one.
    fn look(&mut self, since: usize) -> Result<()> {
        let few = self.rises.f_lt(RHO * since as f64)?;
        let still = self.damage.f_le_tensor(&self.damage_then)?;
        let halved = few.f_logical_or(&still.f_logical_and(&self.halved_then.f_logical_not()?)?)?;
        self.step = self.step.f_div_scalar(2.0)?.f_where_self(&halved, &self.step)?;
        let wide = pixels(&halved)?;
        self.x = self.best.f_where_self(&wide, &self.x)?;
        self.gradient = self.slope.f_where_self(&wide, &self.gradient)?;
        self.value = self.damage.f_where_self(&halved, &self.value)?;
        self.damage_then = self.damage.shallow_clone();
        self.halved_then = halved;
        self.rises = self.rises.f_zeros_like()?;
        Ok(())
    }
}

/// Length of the first step as a multiple of epsilon. In L1 the ball takes from the start what a step adds, and one of epsilon or more
/// leaves nothing of it.
fn first_length(norm: Norm) -> f64 {
    match norm {
        Norm::L2 | Norm::Linf => 2.0,
        Norm::L1 => 0.5,
    }
}

/// Reshapes `[B]` to [B, 1, 1, 1].
fn pixels(t: &Tensor) -> Result<Tensor> {
    Ok(t.f_view([-1, 1, 1, 1])?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{Posterior, Vae};

    const PIXELS: usize = 6;
    const HIDDEN: usize = 5;
    const LATENTS: usize = 2;
    const SAMPLES: usize = 4;

    fn hidden(i: usize, j: usize) -> f64 {
        9.0 * (1.0 + 3.0 * i as f64 + 7.0 * j as f64).sin()
    }

    fn mean(l: usize, i: usize) -> f64 {
        (2.0 + 5.0 * l as f64 + i as f64).cos()
    }

    fn matrix(rows: usize, columns: usize, entry: fn(usize, usize) -> f64) -> Tensor {
        let values: Vec<f64> = (0..rows * columns).map(|at| entry(at / columns, at % columns)).collect();
        Tensor::from_slice(&values).view([rows as i64, columns as i64])
    }

    /// mu = W sin(H x): so rugged that for 30 steps no comparison of two losses hangs on rounding.
    struct Waves;

    impl Vae for Waves {
        fn encode(&self, x: &Tensor) -> Result<Posterior> {
            let h = x.flatten(1, -1).matmul(&matrix(HIDDEN, PIXELS, hidden).tr()).sin();
            let mean = h.matmul(&matrix(LATENTS, HIDDEN, mean).tr());
            Ok(Posterior { log_var: mean.zeros_like(), mean })
        }
        fn decode(&self, z: &Tensor) -> Result<Tensor> {
            Ok(z.narrow(1, 0, 1).view([-1, 1, 1, 1]).repeat([1, 1, 2, 3]))
        }
    }

    /// H x.
    fn waves(i: usize, x: &[f64]) -> f64 {
        (0..PIXELS).map(|j| hidden(i, j) * x[j]).sum()
    }

    /// mu(x).
    fn code(x: &[f64]) -> Vec<f64> {
        (0..LATENTS).map(|l| (0..HIDDEN).map(|i| mean(l, i) * waves(i, x).sin()).sum()).collect()
    }

    /// |mu(x) - mu(x0)| and its gradient.
    fn loss(x: &[f64], clean: &[f64]) -> (f64, Vec<f64>) {
        let moved: Vec<f64> = code(x).iter().zip(clean).map(|(a, b)| a - b).collect();
        let size = moved.iter().map(|m| m * m).sum::<f64>().sqrt();
        let gradient = (0..PIXELS).map(|j| {
            let through = |i: usize| {
                (0..LATENTS).map(|l| moved[l] / size * mean(l, i)).sum::<f64>() * waves(i, x).cos() * hidden(i, j)
            };
            (0..HIDDEN).map(through).sum()
        });
        (size, gradient.collect())
    }

    /// Algorithm 1 of one sample: the length of each step, and the loss after it.
    fn transcript(x0: &[f64], start: &[f64], budget: &Budget, steps: usize) -> Vec<(f64, f64)> {
        let epsilon = budget.epsilon;
        let length = |d: &[f64]| d.iter().map(|d| d * d).sum::<f64>().sqrt();
        let inside = |x: &[f64]| -> Vec<f64> {
            let d: Vec<f64> = x.iter().zip(x0).map(|(x, o)| x - o).collect();
            let shrink = (epsilon / length(&d)).min(1.0);
            let within = |d: f64| if budget.norm == Norm::L2 { d * shrink } else { d.clamp(-epsilon, epsilon) };
            let boxed = |x: f64| budget.pixels.map_or(x, |(low, high)| x.clamp(low, high));
            x0.iter().zip(&d).map(|(o, d)| boxed(o + within(*d))).collect()
        };
        let along = |g: &[f64]| -> Vec<f64> {
            let size = length(g);
            g.iter().map(|g| if budget.norm == Norm::L2 { g / size } else { g.signum() }).collect()
        };
        let clean = code(x0);
        // p_j in hundredths.
        let mut p = vec![0i64, 22];
        while p[p.len() - 1] < 100 {
            let (a, b) = (p[p.len() - 2], p[p.len() - 1]);
            p.push(b + (b - a - 3).max(6));
        }
        let w: Vec<usize> = p.iter().map(|p| (*p as usize * steps).div_ceil(100)).collect();
        let (mut eta, mut x, mut before) = (2.0 * epsilon, start.to_vec(), start.to_vec());
        let (mut f, mut g) = loss(&x, &clean);
        let (mut best, mut most, mut slope) = (x.clone(), f, g.clone());
        let (mut rises, mut eta_then, mut most_then, mut last, mut told) = (0, eta, f, 0, vec![]);
        for k in 1..=steps {
            let z: Vec<f64> = x.iter().zip(along(&g)).map(|(x, d)| x + eta * d).collect();
            let z = inside(&z);
            let next: Vec<f64> = if k == 1 {
                z
            } else {
                let mixed = (0..PIXELS).map(|j| x[j] + 0.75 * (z[j] - x[j]) + 0.25 * (x[j] - before[j]));
                inside(&mixed.collect::<Vec<_>>())
            };
            before = std::mem::replace(&mut x, next);
            let was = f;
            (f, g) = loss(&x, &clean);
            told.push((eta, f));
            rises += usize::from(f > was);
            if f > most {
                (best, most, slope) = (x.clone(), f, g.clone());
            }
            if w[1..].contains(&k) {
                // As they were at the last checkpoint: the step and the most.
                let stuck = eta == eta_then && most == most_then;
                eta_then = eta;
                if (rises as f64) < 0.75 * (k - last) as f64 || stuck {
                    eta /= 2.0;
                    (x, f, g) = (best.clone(), most, slope.clone());
                }
                (most_then, rises, last) = (most, 0, k);
            }
        }
        told
    }

    #[test]
    fn every_step_is_as_published() {
        let clean: Vec<f64> = (0..SAMPLES * PIXELS).map(|at| 0.5 + 0.3 * (1.7 * at as f64).sin()).collect();
        let push: Vec<f64> = (0..SAMPLES * PIXELS).map(|at| (2.3 * at as f64).cos()).collect();
        let steps = 30;
        for (norm, epsilon, pixels) in [(Norm::L2, 0.9, None), (Norm::Linf, 0.3, Some((0.0, 1.0)))] {
            let budget = Budget::new(norm, epsilon, pixels).unwrap();
            let shaped = |values: &[f64]| Tensor::from_slice(values).view([SAMPLES as i64, 1, 2, 3]);
            let x0 = shaped(&clean);
            let start = budget.contract(&x0, &(&x0 + budget.along(&shaped(&push)).unwrap() * epsilon)).unwrap();
            let victim = Victim::of(&Waves, &x0).unwrap();
            let attack = Apgd(ApgdSpec { steps, ..ApgdSpec::default() });
            let mut state = State::at(start.copy(), Goal::Latent, &victim, &budget).unwrap();
            let mut told: Vec<(Vec<f64>, Vec<f64>)> = vec![];
            let list = |t: &Tensor| Vec::<f64>::try_from(t).unwrap();
            tch::no_grad(|| {
                attack.ascend(&mut state, &victim, &budget, |_, state| {
                    told.push((list(&state.step), list(&state.value)));
                })
            })
            .unwrap();
            let starts = list(&start.flatten(0, -1));
            let mut halvings = vec![];
            for sample in 0..SAMPLES {
                let own = sample * PIXELS..(sample + 1) * PIXELS;
                let expected = transcript(&clean[own.clone()], &starts[own], &budget, steps);
                assert_eq!(told.len(), expected.len());
                for (k, (found, (step, loss))) in told.iter().zip(&expected).enumerate() {
                    assert_eq!(found.0[sample], *step, "{norm} sample {sample} step {k}");
                    assert!((found.1[sample] - loss).abs() < 1e-7 * loss, "{norm} sample {sample} step {k}");
                }
                halvings.push((2.0 * epsilon / expected[steps - 1].0).log2().round() as i64);
            }
            assert!(halvings.iter().all(|n| *n >= 2), "{norm}: {halvings:?}");
        }
    }

    #[test]
    fn checkpoints_are_as_published() {
        assert_eq!(checkpoints(100), [22, 41, 57, 70, 80, 87, 93, 99]);
        assert_eq!(checkpoints(20), [5, 9, 12, 14, 16, 18, 19, 20]);
    }
}
