//! Attacks on the encoder: an [`Attack`] proposes, [`run`] alone projects, measures and judges.
//!
//! A new attack is one file with an `impl Attack`, one variant of [`AttackSpec`] and one row in tests/attack.rs.

mod ascent;
mod best;
mod budget;
mod crew;
mod doubt;
mod goal;
mod least;
mod loops;
mod pgd;
mod random;
mod run;
mod spec;
mod spectral;

pub use budget::{Budget, Norm, TOLERANCE};
pub use crew::Crew;
pub use doubt::Doubts;
pub use goal::Goal;
pub use loops::Loops;
pub use pgd::{PgdSpec, Schedule, Start};
pub use random::RandomSpec;
pub use run::{Attacked, judge, run, worst};
pub use spec::{AttackSpec, Overrides, distinct};
pub use spectral::{Scale, SpectralSpec};

use crate::error::{Error, Result, ensure_shape};
use crate::event::{Event, Observer, Silent};
use crate::ffi;
use crate::model::Vae;
use crate::model::shift::Reading;
use crate::spectrum::Spectrum;
use std::borrow::Cow;
use std::cell::Cell;
use std::rc::Rc;
use tch::{Kind, Tensor};

/// What is attacked: a model at a batch of images. What every attack on it needs is computed once.
pub struct Victim<'a> {
    loops: Rc<Loops<'a>>,
    clean: Reading,
    index: Cow<'a, [u64]>,
    seed: u64,
    spectrum: Option<&'a Spectrum>,
    /// Lowest and highest pixel of the clean images.
    range: (f64, f64),
    observer: &'a dyn Observer,
    /// Whether it was told why steps are no graph.
    told: Cell<bool>,
}

impl<'a> Victim<'a> {
    /// The images `x` [B, C, H, W], on the model's device and of its kind, where nothing random hangs on which images they are:
    /// positions 0 to B - 1 and the seed 0. [`Victim::along`] gives it a spectrum.
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
    /// # Errors
    /// Where shapes do not fit together, or a pixel is not a finite number.
    pub fn new(
        vae: &'a dyn Vae,
        x: &Tensor,
        index: &'a [u64],
        seed: u64,
        spectrum: Option<&'a Spectrum>,
    ) -> Result<Self> {
        Self::among(Rc::new(Loops::on(vae)), x, index, seed, spectrum)
    }

    /// [`Victim::new`] for one of many batches of a model, which share what its attacks can keep.
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
        let x = x.f_detach()?;
        let clean = Reading::of(loops.vae(), &x)?;
        let range = (extreme(&x.f_min()?)?, extreme(&x.f_max()?)?);
        if !(range.0.is_finite() && range.1.is_finite()) {
            return Err(Error::request(
                "pixels of the images to attack",
                "finite numbers",
                format!("from {} to {}", range.0, range.1),
            ));
        }
        Ok(Self { loops, clean, index, seed, spectrum: None, range, observer: &Silent, told: Cell::new(false) })
    }

    /// The same, with the spectrum of the same samples in the same order.
    ///
    /// # Errors
    /// Where shapes do not fit together.
    pub fn along(self, spectrum: &'a Spectrum) -> Result<Self> {
        let size = self.images().size();
        ensure_shape("eigenvalues", &spectrum.values, &[size[0], -1])?;
        if let Some(directions) = &spectrum.directions {
            ensure_shape("directions", directions, &[size[0], -1, size[1..].iter().product()])?;
        }
        Ok(Self { spectrum: Some(spectrum), ..self })
    }

    /// The same, with somebody to tell details to.
    pub fn with_observer(self, observer: &'a dyn Observer) -> Self {
        Self { observer, ..self }
    }

    /// Tells once why an attack's steps do not run as a CUDA graph.
    fn refused(&self, reason: &str) {
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
    fn loops(&self) -> &Loops<'a> {
        &self.loops
    }

    /// x, [B, C, H, W].
    pub fn images(&self) -> &Tensor {
        &self.clean.images
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

    /// D = C*H*W.
    fn dim(&self) -> usize {
        self.images().size()[1..].iter().product::<i64>() as usize
    }

    /// Whether the clean images lie in the budget's box: only then does clipping never lengthen a perturbation.
    fn fits(&self, budget: &Budget) -> Result<()> {
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
    fn shaped(&self, rows: &Tensor) -> Result<Tensor> {
        let x = self.images();
        Ok(rows.f_to_device(x.device())?.f_to_kind(x.kind())?.f_reshape(x.size())?)
    }

    /// v_i of every sample in the images' shape, and lambda_i `[B]` f64; `i` counts from 1.
    fn direction(&self, i: usize) -> Result<(Tensor, Tensor)> {
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

fn extreme(value: &Tensor) -> Result<f64> {
    Ok(value.f_double_value(&[])?)
}

/// What kind of search an attack is: decides which others it must not fall behind ([`Doubts`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Directions without knowledge of the model.
    Noise,
    /// Directions from the spectrum.
    Spectral,
    /// One direction of several, reported by itself.
    Direction,
    /// Ascent along the goal's gradient.
    Gradient,
}

/// Some x' for every sample.
pub struct Proposal {
    /// Images [B, C, H, W] of which the judge keeps, per sample, the worst by the goal.
    pub candidates: Vec<Tensor>,
    /// `[B]` bool: the search met a gradient that was 0 or not a number.
    pub stalled: Option<Tensor>,
}

/// A way to look for a harmful x'. It need not obey the budget: the judge sees to that.
pub trait Attack {
    /// What kind of search it is.
    fn family(&self) -> Family;
    /// What it wants.
    fn goal(&self) -> Goal;
    /// How many proposals it has; restarts are trials, so that no attack codes its own.
    fn trials(&self) -> usize;
    /// Proposal `trial` < [`Attack::trials`]. It runs without a graph; noise depends on (seed, index, trial) alone.
    fn propose(&self, victim: &Victim, budget: &Budget, trial: usize) -> Result<Proposal>;
    /// The size `[B]` f64 that the attack is allowed by its own definition in place of the budget's epsilon.
    fn radius(&self, _victim: &Victim, _budget: &Budget) -> Result<Option<Tensor>> {
        Ok(None)
    }
}
