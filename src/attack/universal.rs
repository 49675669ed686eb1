//! One perturbation for all images of a set: fitted on some of them, judged on the others.
//!
//! Source: Moosavi-Dezfooli, Fawzi, Fawzi & Frossard 2017 (one perturbation for all images); Shafahi, Najibi, Xu, Dickerson, Davis & Goldstein
//! 2020, algorithm 1: ascent on the mean over small batches by steps of a length of their own, then back into the ball.
//! Differs: a goal in place of a classifier's loss; several starts, of which the best on the whole set is kept; steps become shorter; pixels
//! that the box holds take no part in a step.
//!
//! For a linear encoder and the goal `latent` the result is v_1 of the metric `mean`, since all images share the metric. In general a small
//! perturbation ascends the quadratic form of the mean of the images' metrics (Khrulkov & Oseledets 2018).

use super::aim::Aim;
use super::crew::Crew;
use super::draws;
use super::goal::Folding;
use super::least::at_least_one;
use super::passes::Passes;
use super::step::vanishes;
use super::{Budget, Goal, Norm};
use crate::error::{Error, Result, ensure_shape};
use crate::ffi;
use crate::model::Vae;
use crate::model::shift::Reading;
use crate::ops::Reduce;
use crate::seed::{self, Stage};
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// The most images that go through the model together on a CPU, whatever the number of threads: sums have one order then.
const TOGETHER: usize = 16;

/// The stream of [`Stage::AttackStart`] of the first start; streams below belong to the samples' own starts.
const STARTS: u64 = 1 << 32;

/// `{kind: universal}` in the YAML.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UniversalSpec {
    /// How many samples it is fitted on (>= 1), chosen by the seed; half of them, and at most 512, if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fit: Option<usize>,
    /// Steps of each ascent (>= 1).
    pub steps: usize,
    /// Images for each step (>= 1).
    pub batch: usize,
    /// Ascents from different starts; the best on the fitted samples is kept (>= 1).
    pub restarts: usize,
    /// The goal whose mean is increased.
    pub goal: Goal,
}

impl Default for UniversalSpec {
    fn default() -> Self {
        Self { fit: None, steps: 100, batch: 64, restarts: 3, goal: Goal::default() }
    }
}

impl UniversalSpec {
    /// The most samples that it is fitted on if the user does not say.
    const MOST: usize = 512;

    pub(super) fn check(&self) -> Result<()> {
        at_least_one("samples that the universal attack is fitted on (--universal-on)", self.fit.unwrap_or(1))?;
        at_least_one("steps of the universal attack", self.steps)?;
        at_least_one("batch of the universal attack", self.batch)?;
        at_least_one("restarts of the universal attack", self.restarts)
    }

    /// How many of `samples` samples it is fitted on; the others judge it.
    ///
    /// # Errors
    /// A wrong request if none is left for one of both.
    pub fn fitted(&self, samples: usize) -> Result<usize> {
        let wanted = self.fit.unwrap_or((samples / 2).min(Self::MOST));
        if wanted >= 1 && wanted < samples {
            return Ok(wanted);
        }
        let (subject, expected) = match self.fit {
            Some(_) if samples > 1 => ("--universal-on", format!("1 to {} of {samples} samples", samples - 1)),
            _ => {
                ("samples of the universal attack", "at least two, to fit it on one and judge it on another".to_owned())
            }
        };
        let found = if samples > 1 { wanted } else { samples };
        Err(Error::request(subject, expected, found.to_string()))
    }
}

/// What a perturbation is fitted on: images, and what attacks on them lead towards.
pub struct Ground {
    /// [M, C, H, W], on the model's device and of its kind.
    pub images: Tensor,
    /// Their positions in the data set, M of them.
    pub index: Vec<u64>,
    /// The model's outputs for their targets, if attacks do not lead away.
    pub target: Option<Reading>,
    /// Draws of the code over which goals of the reconstruction take the mean ([`Victim::expecting`]), if it is drawn.
    ///
    /// [`Victim::expecting`]: super::Victim::expecting
    pub draws: Option<usize>,
}

/// The perturbations that were fitted, one for each budget.
#[derive(Debug)]
pub struct Universal {
    /// Positions in the data set of the samples that they were fitted on, M of them.
    pub index: Vec<u64>,
    /// How many samples share the passes of the fits: those that are judged.
    pub judged: usize,
    /// In the order of the budgets.
    pub fits: Vec<Fit>,
}

/// One fitted perturbation.
#[derive(Debug)]
pub struct Fit {
    /// What it may be.
    pub budget: Budget,
    /// [1, C, H, W], of the images' kind.
    pub perturbation: Tensor,
    /// The goal's value at each of the samples that it was fitted on, `[M]` f64.
    pub damage: Tensor,
    /// Passes of the fit, all images together.
    pub passes: Passes,
    /// Whether a gradient of a whole batch was 0 or not a number.
    pub stalled: bool,
}

impl Universal {
    /// Fits a perturbation for each of `budgets`, which `judged` samples will be judged by. The result depends neither on the number of
    /// threads nor on which samples are judged.
    ///
    /// # Errors
    /// If a setting is out of range, shapes do not fit together, or the model fails.
    pub fn fit(
        vae: &dyn Vae,
        spec: &UniversalSpec,
        ground: &Ground,
        budgets: &[Budget],
        judged: usize,
        seed: u64,
    ) -> Result<Self> {
        spec.check()?;
        ffi::exact_math()?;
        let count = ground.index.len();
        ensure_shape("images to fit a perturbation on", &ground.images, &[count as i64, -1, -1, -1])?;
        at_least_one("images to fit a perturbation on", count)?;
        let fitting = Fitting::new(vae, spec, ground, seed)?;
        // The smaller budgets come first: what they found is a start for the larger ones.
        let mut order: Vec<usize> = (0..budgets.len()).collect();
        order.sort_by(|a, b| budgets[*a].epsilon.total_cmp(&budgets[*b].epsilon));
        let mut fits: Vec<(usize, Fit)> = vec![];
        for place in order {
            let smaller = fits.last().map(|(_, fit)| fit.perturbation.shallow_clone());
            fits.push((place, fitting.best(budgets[place], smaller.as_ref())?));
        }
        fits.sort_by_key(|(place, _)| *place);
        Ok(Self { index: ground.index.clone(), judged, fits: fits.into_iter().map(|(_, fit)| fit).collect() })
    }

    /// The same perturbations for another thread.
    pub fn handle(&self) -> Self {
        let fits = self.fits.iter().map(|fit| Fit {
            budget: fit.budget,
            perturbation: fit.perturbation.shallow_clone(),
            damage: fit.damage.shallow_clone(),
            passes: fit.passes,
            stalled: fit.stalled,
        });
        Self { index: self.index.clone(), judged: self.judged, fits: fits.collect() }
    }

    /// The fit for a budget, and its passes for each sample that is judged.
    pub(super) fn at(&self, budget: &Budget) -> Option<(&Fit, Passes)> {
        let fit = self.fits.iter().find(|fit| fit.budget == *budget)?;
        Some((fit, fit.passes.map(|passes| passes / self.judged.max(1) as f64)))
    }
}

/// Some of the images, which go through the model together.
struct Part {
    clean: Reading,
    target: Option<Reading>,
    /// Noise of the draws of the code, [N, B, L].
    draws: Option<Tensor>,
}

/// What is the same for all budgets.
struct Fitting<'a> {
    vae: &'a dyn Vae,
    crew: Crew,
    spec: &'a UniversalSpec,
    parts: Vec<Part>,
    /// Shape [1, C, H, W], kind and device of the perturbation.
    zero: Tensor,
    /// Images of all parts.
    count: usize,
    seed: u64,
    folding: Folding,
}

impl<'a> Fitting<'a> {
    fn new(vae: &'a dyn Vae, spec: &'a UniversalSpec, ground: &Ground, seed: u64) -> Result<Self> {
        let (images, count) = (&ground.images, ground.index.len());
        let device = images.device();
        // Equal parts, which make up a batch.
        let parts = if device == Device::Cpu { spec.batch.div_ceil(TOGETHER) } else { 1 };
        let together = spec.batch.div_ceil(parts).min(count);
        let slices = (0..count).step_by(together).map(|at| (at as i64, together.min(count - at) as i64));
        let part = |(start, length): (i64, i64)| -> Result<Part> {
            let clean = Reading::of(vae, &images.f_narrow(0, start, length)?.f_contiguous()?)?;
            let target = ground.target.as_ref().map(|target| target.narrow(start, length)).transpose()?;
            let index = &ground.index[start as usize..(start + length) as usize];
            let drawn = |count| draws::search(seed, index, count, &clean.posterior.mean);
            Ok(Part { draws: ground.draws.map(drawn).transpose()?, clean, target })
        };
        Ok(Self {
            vae,
            crew: Crew::of(vae, device),
            spec,
            parts: slices.map(part).collect::<Result<_>>()?,
            zero: images.f_narrow(0, 0, 1)?.f_zeros_like()?,
            count,
            seed,
            folding: Folding::on(device),
        })
    }

    /// The perturbation, of all ascents, whose mean damage is largest.
    fn best(&self, budget: Budget, smaller: Option<&Tensor>) -> Result<Fit> {
        let (mut passes, mut asked, mut stalled) = (0.0, 0.0, false);
        let mut best: Option<(f64, Tensor, Tensor)> = None;
        let mut offer = |delta: Tensor| -> Result<()> {
            // Between ascents and at the end: the whole set is asked.
            let damage = self.damage(&budget, &delta)?;
            asked += (self.count * self.draws()) as f64;
            let mean = damage.f_nanmean([0i64].as_slice(), false, Kind::Double)?.f_double_value(&[])?;
            if best.as_ref().is_none_or(|(before, ..)| mean > *before || before.is_nan()) {
                best = Some((mean, delta, damage));
            }
            Ok(())
        };
        for trial in 0..self.spec.restarts + usize::from(smaller.is_some()) {
            let start = match smaller {
                Some(smaller) if trial == self.spec.restarts => smaller.shallow_clone(),
                _ => self.noise(trial)?,
            };
            let (delta, images, flat) = self.ascend(&budget, &start, trial)?;
            passes += (images * self.draws()) as f64;
            stalled |= flat;
            offer(delta)?;
        }
        // A larger budget holds all that a smaller one does.
        if let Some(smaller) = smaller {
            offer(smaller.shallow_clone())?;
        }
        let lacking = || Error::internal("attack::universal", "no ascent was made");
        let (_, perturbation, damage) = best.ok_or_else(lacking)?;
        let passes = Passes { forward: passes + asked, backward: passes };
        Ok(Fit { budget, perturbation, damage, passes, stalled })
    }

    fn noise(&self, trial: usize) -> Result<Tensor> {
        let dim = self.zero.size()[1..].iter().product::<i64>() as usize;
        let normal = seed::normal_stream(self.seed, Stage::AttackStart, STARTS + trial as u64, &[0], dim)?;
        Ok(normal.f_to_device(self.zero.device())?.f_to_kind(self.zero.kind())?.f_view_as(&self.zero)?)
    }

    /// Ascends the mean of the goal; returns the last perturbation, the number of images that went through the model and back, and whether
    /// a gradient vanished.
    fn ascend(&self, budget: &Budget, start: &Tensor, trial: usize) -> Result<(Tensor, usize, bool)> {
        let steps = self.spec.steps;
        // A perturbation may go from one wall of the box to the other.
        let pixels = budget.pixels.map(|(low, high)| (low - high, high - low));
        let space = Budget { pixels, ..*budget };
        let (first, last) = match budget.norm {
            Norm::L2 | Norm::L1 => (1.0, 0.02),
            Norm::Linf => (0.5, 0.01),
        };
        let mut delta = space.surface(&self.zero, start)?;
        let sizes = (0..self.parts.len()).map(|part| self.size(part)).collect();
        let mut order = Order::new(sizes, self.seed, trial);
        let (mut images, mut stalled) = (0, false);
        for step in 0..steps {
            crate::event::ensure_wanted()?;
            let batch = order.next(self.spec.batch);
            images += batch.iter().map(|part| self.size(*part)).sum::<usize>();
            let gradient = self.gradient(budget, &delta, &batch)?;
            stalled = stalled || vanishes(&gradient)?.f_any()?.f_int64_value(&[])? == 1;
            let length = budget.epsilon * (first + (last - first) * step as f64 / (steps.max(2) - 1) as f64);
            let length = Tensor::f_full([1], length, (delta.kind(), delta.device()))?;
            let moved = delta.f_add(&space.uphill(&delta, &gradient, &length)?)?;
            delta = match budget.norm {
                Norm::L2 => space.surface(&self.zero, &moved)?,
                Norm::Linf | Norm::L1 => space.contract(&self.zero, &moved)?,
            };
        }
        Ok((delta, images, stalled))
    }

    fn draws(&self) -> usize {
        self.parts.first().map_or(1, |part| self.spec.goal.draws(part.aim()))
    }

    fn size(&self, part: usize) -> usize {
        self.parts[part].clean.images.size()[0].max(0) as usize
    }

    /// The mean gradient [1, C, H, W] of the goal over the images of some parts; samples whose gradient is not a number are left out.
    fn gradient(&self, budget: &Budget, delta: &Tensor, batch: &[usize]) -> Result<Tensor> {
        let (goal, folding) = (self.spec.goal, &self.folding);
        let parts = batch.iter().map(|part| (self.parts[*part].handle(), delta.shallow_clone())).collect();
        let sums = self.crew.each(self.vae, parts, |vae, (part, delta): (Part, Tensor)| {
            let x = part.moved(budget, &delta)?;
            let (_, gradient) = goal.value_and_gradient_at(vae, part.aim(), &x, folding)?;
            budget.admissible(&x, &gradient)?.f_nan_to_num(0.0, 0.0, 0.0)?.sum_kept([0])
        })?;
        let images: usize = batch.iter().map(|part| self.size(*part)).sum();
        // In the order of the parts, whichever thread was faster.
        let mut sum = self.zero.f_to_kind(Kind::Double)?;
        for part in sums {
            sum = sum.f_add(&part)?;
        }
        Ok(sum.f_div_scalar(images as f64)?.f_to_kind(delta.kind())?)
    }

    /// The goal's value at each image, `[M]` f64.
    fn damage(&self, budget: &Budget, delta: &Tensor) -> Result<Tensor> {
        let goal = self.spec.goal;
        let parts = self.parts.iter().map(|part| (part.handle(), delta.shallow_clone())).collect();
        let values = self.crew.each(self.vae, parts, |vae, (part, delta): (Part, Tensor)| {
            tch::no_grad(|| goal.value_at(vae, part.aim(), &part.moved(budget, &delta)?))
        })?;
        Ok(Tensor::f_cat(&values, 0)?)
    }
}

impl Part {
    fn handle(&self) -> Self {
        Self {
            clean: self.clean.handle(),
            target: self.target.as_ref().map(Reading::handle),
            draws: self.draws.as_ref().map(Tensor::shallow_clone),
        }
    }

    fn aim(&self) -> Aim<'_> {
        Aim {
            reference: self.target.as_ref().unwrap_or(&self.clean),
            towards: self.target.is_some(),
            draws: self.draws.as_ref(),
        }
    }

    /// The images with the perturbation, in the box.
    fn moved(&self, budget: &Budget, delta: &Tensor) -> Result<Tensor> {
        budget.boxed(self.clean.images.f_add(delta)?)
    }
}

/// The parts in a random order, anew whenever all have had their turn.
struct Order {
    left: Vec<usize>,
    /// Images of each part.
    sizes: Vec<usize>,
    rng: ChaCha8Rng,
}

impl Order {
    fn new(sizes: Vec<usize>, seed: u64, trial: usize) -> Self {
        let rng = seed::generator(seed, Stage::AttackStart, 0, 2 * STARTS + trial as u64);
        Self { left: vec![], sizes, rng }
    }

    /// The next parts, none of them twice, with at least `images` images, or all that there are. What the last parts of a round lack comes
    /// from the next round: a step is as long for few images as for many.
    fn next(&mut self, images: usize) -> Vec<usize> {
        let wanted = images.min(self.sizes.iter().sum());
        let (mut taken, mut found) = (vec![], 0);
        while found < wanted {
            if self.left.is_empty() {
                self.left.extend(0..self.sizes.len());
                self.left.shuffle(&mut self.rng);
                // What this step has already waits: the last of them comes first.
                self.left.sort_by_key(|part| !taken.contains(part));
            }
            let Some(part) = self.left.pop() else { break };
            found += self.sizes[part];
            taken.push(part);
        }
        taken.reverse();
        taken
    }
}
