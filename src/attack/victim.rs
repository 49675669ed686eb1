//! What is attacked: a model at a batch of images, and the data that all attacks on them share.

use super::aim::Aim;
use super::broken::Broken;
use super::draws::{self, Of};
use super::others::Others;
use super::passes::{Counter, Passes};
use super::pool::Pool;
use super::universal::{Fit, Universal};
use super::{Budget, Goal, Loops};
use crate::error::{Error, Result, ensure_shape};
use crate::event::{Event, Observer, Silent};
use crate::ffi;
use crate::metric::MetricKind;
use crate::model::Vae;
use crate::model::shift::Reading;
use crate::spectrum::Spectrum;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use tch::{Kind, Tensor};

/// What is attacked: a model at a batch of images. What all attacks on it need is computed once.
pub struct Victim<'a> {
    loops: Rc<Loops<'a>>,
    clean: Reading,
    index: Cow<'a, [u64]>,
    seed: u64,
    spectrum: Option<&'a Spectrum>,
    /// Forward and backward passes that the spectrum took for each sample.
    spectrum_passes: Passes,
    others: Option<&'a Others>,
    /// Perturbations that were fitted on other samples.
    universal: Option<&'a Universal>,
    /// Perturbations that were found for other samples.
    pool: Option<&'a Pool>,
    /// The target; without one, attacks lead away from the clean images.
    target: Option<Reading>,
    /// Noise of the draws of the code that searches see, [N, B, L]; `None`: the code is mu.
    draws: Option<Tensor>,
    /// Pixels are those of 8-bit files.
    rounded: bool,
    passes: Counter,
    /// What attacks found at other budgets.
    found: RefCell<Vec<Found>>,
    /// What each of the pool's perturbations does to each sample.
    screened: RefCell<Vec<(Goal, Budget, Tensor)>>,
    /// Lowest and highest pixel of the clean images.
    range: (f64, f64),
    /// The images of which nothing can be said, if there are any: searches see others in their place.
    broken: Option<Broken>,
    observer: &'a dyn Observer,
    /// Whether the reason why steps are not a graph was reported.
    told: Cell<bool>,
}

impl<'a> Victim<'a> {
    /// The images `x` [B, C, H, W], on the model's device and of its kind, with the positions 0 to B - 1 and the seed 0 for everything
    /// random. [`Victim::along`] gives it a spectrum.
    ///
    /// # Errors
    /// As [`Victim::new`].
    pub fn of(vae: &'a dyn Vae, x: &Tensor) -> Result<Self> {
        let batch = x.size().first().copied().unwrap_or(0).max(0) as u64;
        Self::with(Rc::new(Loops::on(vae)), x, Cow::Owned((0..batch).collect()), 0)
    }

    /// `x` [B, C, H, W] on the model's device and of its kind; `index` holds the B positions in the data set, from
    /// which, with `seed`, all noise is drawn; `spectrum` is that of the same samples in the same order.
    ///
    /// All results of an image with a pixel that is not finite are NaN.
    ///
    /// # Errors
    /// If shapes do not fit together.
    pub fn new(
        vae: &'a dyn Vae,
        x: &Tensor,
        index: &'a [u64],
        seed: u64,
        spectrum: Option<&'a Spectrum>,
    ) -> Result<Self> {
        Self::among(Rc::new(Loops::on(vae)), x, index, seed, spectrum)
    }

    /// [`Victim::new`] for one of many batches of a model; these batches share what its attacks can keep.
    ///
    /// # Errors
    /// As [`Victim::new`].
    pub fn among(
        loops: Rc<Loops<'a>>,
        x: &Tensor,
        index: &'a [u64],
        seed: u64,
        spectrum: Option<&'a Spectrum>,
    ) -> Result<Self> {
        let victim = Self::with(loops, x, Cow::Borrowed(index), seed)?;
        match spectrum {
            Some(spectrum) => victim.along(spectrum),
            None => Ok(victim),
        }
    }

    fn with(loops: Rc<Loops<'a>>, x: &Tensor, index: Cow<'a, [u64]>, seed: u64) -> Result<Self> {
        ffi::exact_math()?;
        ensure_shape("images to attack", x, &[index.len() as i64, -1, -1, -1])?;
        let range = |x: &Tensor| -> Result<(f64, f64)> { Ok((extreme(&x.f_min()?)?, extreme(&x.f_max()?)?)) };
        let mut x = x.f_detach()?;
        let (mut extremes, mut broken) = (range(&x)?, None);
        if !(extremes.0.is_finite() && extremes.1.is_finite()) {
            let (found, stand_ins) = Broken::among(&x)?;
            x = stand_ins;
            (extremes, broken) = (range(&x)?, Some(found));
        }
        let clean = Reading::of(loops.vae(), &x)?;
        let passes = Counter::of(index.len());
        Ok(Self {
            loops,
            clean,
            index,
            seed,
            spectrum: None,
            spectrum_passes: Passes::default(),
            others: None,
            universal: None,
            pool: None,
            target: None,
            draws: None,
            rounded: false,
            passes,
            found: RefCell::default(),
            screened: RefCell::default(),
            range: extremes,
            broken,
            observer: &Silent,
            told: Cell::new(false),
        })
    }

    /// The same, with the spectrum of the same samples in the same order.
    ///
    /// # Errors
    /// If shapes do not fit together.
    pub fn along(self, spectrum: &'a Spectrum) -> Result<Self> {
        let size = self.images().size();
        ensure_shape("eigenvalues", &spectrum.values, &[size[0], -1])?;
        if let Some(directions) = &spectrum.directions {
            ensure_shape("directions", directions, &[size[0], -1, size[1..].iter().product()])?;
        }
        Ok(Self { spectrum: Some(spectrum), ..self })
    }

    /// The same, with the passes for each sample that the spectrum took: attacks that use the spectrum count them as their own.
    pub fn for_passes(self, passes: Passes) -> Self {
        Self { spectrum_passes: passes, ..self }
    }

    /// The same, with other images of the data set, towards which attacks may move.
    ///
    /// # Errors
    /// If shapes do not fit together.
    pub fn beside(self, others: &'a Others) -> Result<Self> {
        let mut size = self.images().size();
        size[0] = others.index.len() as i64;
        ensure_shape("other images", &others.images, &size)?;
        Ok(Self { others: Some(others), ..self })
    }

    /// The same, with perturbations that were fitted on other samples of the data set.
    ///
    /// # Errors
    /// If shapes do not fit together.
    pub fn carrying(self, universal: &'a Universal) -> Result<Self> {
        let mut size = self.images().size();
        size[0] = 1;
        for fit in &universal.fits {
            ensure_shape("perturbation for all images", &fit.perturbation, &size)?;
        }
        Ok(Self { universal: Some(universal), ..self })
    }

    /// The same, with perturbations that were found for some images of the data set.
    ///
    /// # Errors
    /// If shapes do not fit together.
    pub fn pooling(self, pool: &'a Pool) -> Result<Self> {
        let mut size = self.images().size();
        // Fewer than its images: what was found for some only served the others.
        size[0] = -1;
        for perturbations in pool.shapes() {
            ensure_shape("perturbations of a pool", perturbations, &size)?;
        }
        Ok(Self { pool: Some(pool), ..self })
    }

    /// The same, with targets: a goal is then minus the distance from the model's output for `target`, which has the victim's shapes.
    ///
    /// # Errors
    /// If shapes do not fit together.
    pub fn towards(self, target: Reading) -> Result<Self> {
        let Reading { images, posterior, reconstruction, features } = &self.clean;
        ensure_shape("target images", &target.images, &images.size())?;
        ensure_shape("mu of the targets", &target.posterior.mean, &posterior.mean.size())?;
        ensure_shape("logvar of the targets", &target.posterior.log_var, &posterior.log_var.size())?;
        ensure_shape("reconstructions of the targets", &target.reconstruction, &reconstruction.size())?;
        for (feature, own) in target.features.iter().zip(features) {
            ensure_shape("features of the targets", feature, &own.size())?;
        }
        Ok(Self { target: Some(target), ..self })
    }

    /// The same, of a model whose code is drawn from q(z|x): goals of the reconstruction take the mean over `count` draws, which are the same
    /// at every step of every search and depend on the seed and a sample's position only. The judge has draws of its own.
    ///
    /// # Errors
    /// If memory runs out.
    pub fn expecting(self, count: usize) -> Result<Self> {
        let draws = draws::search(self.seed, &self.index, count.max(1), &self.clean.posterior.mean)?;
        Ok(Self { draws: Some(draws), ..self })
    }

    /// The same, and says whether pixels of attacked images are multiples of 1/255, as in 8-bit files ([`Budget::on_grid`]).
    pub fn rounded(self, rounded: bool) -> Self {
        Self { rounded, ..self }
    }

    /// The same, with an observer for details.
    pub fn with_observer(self, observer: &'a dyn Observer) -> Self {
        Self { observer, ..self }
    }

    /// Reports once why an attack's steps do not run as a CUDA graph.
    pub(super) fn refused(&self, reason: &str) {
        if !self.told.replace(true) {
            let text = format!("attack steps run one kernel after another, not as a CUDA graph: {reason}");
            self.observer.on(Event::Detail(&text));
        }
    }

    /// The model.
    pub fn vae(&self) -> &dyn Vae {
        self.loops.vae()
    }

    /// The loops of attacks on the model.
    pub(super) fn loops(&self) -> &Loops<'a> {
        &self.loops
    }

    /// x, [B, C, H, W].
    pub fn images(&self) -> &Tensor {
        &self.clean.images
    }

    /// `[B]` bool: the images with a pixel that is not finite, in whose place [`Victim::images`] has others; `None` if there are none.
    pub fn broken(&self) -> Option<&Tensor> {
        self.broken.as_ref().map(Broken::mask)
    }

    /// `images` [B, C, H, W] of the victim's samples, of which the broken are as they were given.
    ///
    /// # Errors
    /// If shapes do not fit together.
    pub fn restored(&self, images: &Tensor) -> Result<Tensor> {
        self.broken.as_ref().map_or_else(|| Ok(images.shallow_clone()), |broken| broken.restored(images))
    }

    /// `values` `[B]` f64 of the victim's samples, NaN for the broken.
    ///
    /// # Errors
    /// If shapes do not fit together.
    pub fn known(&self, values: &Tensor) -> Result<Tensor> {
        Ok(match self.broken() {
            Some(broken) => values.f_masked_fill(broken, f64::NAN)?,
            None => values.shallow_clone(),
        })
    }

    /// x, q(z|x) and r(x).
    pub fn clean(&self) -> &Reading {
        &self.clean
    }

    /// Position of each sample in the data set.
    pub fn index(&self) -> &[u64] {
        &self.index
    }

    /// The run's seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// What attacks lead away from, or lead towards.
    pub(super) fn aim(&self) -> Aim<'_> {
        Aim {
            reference: self.target.as_ref().unwrap_or(&self.clean),
            towards: self.target.is_some(),
            draws: self.draws.as_ref(),
        }
    }

    /// The noise of draws that no search has seen, [B, L] each; none if the code is mu.
    pub(super) fn fresh_draws(&self) -> impl Iterator<Item = Result<Tensor>> {
        let count = if self.draws.is_some() { draws::FRESH } else { 0 };
        (0..count).map(|k| draws::draw(self.seed, &self.index, Of::Judge, k, &self.clean.posterior.mean))
    }

    /// What the model computes for the target, if there is one.
    pub fn target(&self) -> Option<&Reading> {
        self.target.as_ref()
    }

    /// A proposed image as the judge sees it: within the budget, and on the grid of pixels.
    pub(super) fn fair(&self, budget: &Budget, image: &Tensor, radius: &Tensor) -> Result<Tensor> {
        let within = budget.project_to(self.images(), image, radius)?;
        if self.rounded { budget.on_grid(self.images(), &within, radius) } else { Ok(within) }
    }

    /// The damage `[B]` that images from [`Victim::fair`] do; NaN where none on the grid of pixels is within the radius.
    pub(super) fn counted(&self, budget: &Budget, fair: &Tensor, radius: &Tensor, damage: Tensor) -> Result<Tensor> {
        if !self.rounded {
            return Ok(damage);
        }
        let beyond = budget.holds(self.images(), fair, radius)?.f_logical_not()?;
        Ok(damage.f_masked_fill(&beyond, f64::NAN)?)
    }

    /// The count of passes through the model.
    pub(super) fn passes(&self) -> &Counter {
        &self.passes
    }

    /// The passes that the spectrum took.
    pub(super) fn spectrum_passes(&self) -> Passes {
        self.spectrum_passes
    }

    /// Other images of the data set, if they were given.
    pub(super) fn others(&self) -> Option<&Others> {
        self.others
    }

    /// The k-th other image of each sample, [B, C, H, W].
    pub(super) fn other(&self, k: usize) -> Result<Tensor> {
        let lacking = || Error::request("other images of the data set", "some, to move towards", "none");
        self.others.ok_or_else(lacking)?.kth(self.seed, &self.index, k)
    }

    /// The perturbation for all images that was fitted to a budget, if one was, and the passes for each sample that this took.
    pub(super) fn universal(&self, budget: &Budget) -> Option<(&Fit, Passes)> {
        self.universal?.at(budget)
    }

    /// The pool's perturbations for a goal within a budget, [M, C, H, W], if there is a pool, and the passes for each sample that they took.
    pub(super) fn pooled(&self, goal: Goal, budget: &Budget) -> Option<(&Tensor, Passes)> {
        self.pool?.at(goal, budget)
    }

    /// What each of the pool's perturbations does to each sample, [M, B] f64, if a search has asked the model before.
    pub(super) fn screened(&self, goal: Goal, budget: &Budget) -> Option<Tensor> {
        let screened = self.screened.borrow();
        screened.iter().find(|(of, at, _)| *of == goal && at == budget).map(|(_, _, values)| values.shallow_clone())
    }

    /// Keeps what [`Victim::screened`] tells.
    pub(super) fn know_screened(&self, goal: Goal, budget: &Budget, values: &Tensor) {
        self.screened.borrow_mut().push((goal, *budget, values.shallow_clone()));
    }

    /// v_1 of `metric` at `x` in the images' shape.
    pub(super) fn leading_at(&self, metric: MetricKind, x: &Tensor) -> Result<Tensor> {
        let (direction, passes) = self.loops.leading(metric, x, &self.index, self.seed)?;
        self.passes.add(passes);
        self.shaped(&direction)
    }

    /// sqrt(lambda_1) `[B]` f64, if there is a spectrum.
    pub fn steepest_slope(&self) -> Result<Option<Tensor>> {
        let Some(spectrum) = self.spectrum else { return Ok(None) };
        let lambda = spectrum.values.f_select(1, 0)?.f_to_device(self.images().device())?;
        Ok(Some(lambda.f_to_kind(Kind::Double)?.f_sqrt()?))
    }

    /// How many directions v_i there are.
    pub(super) fn held_directions(&self) -> usize {
        let held = |s: &Spectrum| s.directions.as_ref().map_or(0, |d| d.size()[1].min(s.values.size()[1]));
        self.spectrum.map_or(0, held).max(0) as usize
    }

    /// Keeps what an attack found, for larger budgets.
    pub(super) fn remember(&self, budget: &Budget, name: &str, images: &Tensor) {
        let images = images.shallow_clone();
        self.found.borrow_mut().push(Found { name: name.to_owned(), budget: *budget, images });
    }

    /// What the attack of this name found at the largest smaller epsilon, [B, C, H, W].
    pub(super) fn smaller(&self, name: &str, budget: &Budget) -> Option<Tensor> {
        let found = self.found.borrow();
        let below = found.iter().filter(|f| {
            let Budget { norm, epsilon, pixels } = f.budget;
            f.name == name && (norm, pixels) == (budget.norm, budget.pixels) && epsilon < budget.epsilon
        });
        below.max_by(|a, b| a.budget.epsilon.total_cmp(&b.budget.epsilon)).map(|f| f.images.shallow_clone())
    }

    /// D = C*H*W.
    pub(super) fn dim(&self) -> usize {
        self.images().size()[1..].iter().product::<i64>() as usize
    }

    /// Whether the clean images lie in the budget's box; only then does clipping never lengthen a perturbation.
    pub(super) fn fits(&self, budget: &Budget) -> Result<()> {
        let (low, high) = self.range;
        match budget.pixels {
            Some((bottom, top)) if low < bottom || high > top => Err(Error::request(
                "pixels of the images to attack",
                format!("within the box, {bottom} to {top}"),
                format!("{low} to {high}"),
            )),
            _ => Ok(()),
        }
    }

    /// B f64 or f32 values in the images' shape, kind and device.
    pub(super) fn shaped(&self, rows: &Tensor) -> Result<Tensor> {
        let x = self.images();
        Ok(rows.f_to_device(x.device())?.f_to_kind(x.kind())?.f_reshape(x.size())?)
    }

    /// v_i of every sample in the images' shape, and lambda_i `[B]` f64; `i` counts from 1.
    pub(super) fn direction(&self, i: usize) -> Result<(Tensor, Tensor)> {
        let lacking =
            |found: &str| Error::request("spectrum of the samples", format!("at least {i} directions (top)"), found);
        let spectrum = self.spectrum.ok_or_else(|| lacking("none"))?;
        let directions = spectrum.directions.as_ref().ok_or_else(|| lacking("eigenvalues alone"))?;
        let held = directions.size()[1].min(spectrum.values.size()[1]);
        if i == 0 || i as i64 > held {
            return Err(lacking(&held.to_string()));
        }
        let v = self.shaped(&directions.f_select(1, i as i64 - 1)?)?;
        let lambda = spectrum.values.f_select(1, i as i64 - 1)?.f_to_device(v.device())?;
        Ok((v, lambda.f_to_kind(Kind::Double)?))
    }
}

/// The number in a tensor of one element.
fn extreme(value: &Tensor) -> Result<f64> {
    Ok(value.f_double_value(&[])?)
}

/// What an attack found at a budget.
#[derive(Debug)]
struct Found {
    name: String,
    budget: Budget,
    images: Tensor,
}
