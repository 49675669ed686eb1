//! The search of a [`Pool`]: each image has a race of its own; then each begins from what the others found, several times. This shares what few
//! have found.
//!
//! The first searches run in a ball twice as large, where the landscape is smoother and few miss its highest summit; what they find is drawn
//! into epsilon at the end. Half of the images take part only until then (docs/evaluation.md has what this gains).

use super::best::Best;
use super::pool::Find;
use super::race::{Race, RaceSpec};
use super::run::judge;
use super::start::Start;
use super::transfer::{Transfer, TransferSpec};
use super::{Attack, Budget, Goal, Ground, Loops, Others, Passes, Pool, Victim};
use crate::error::{Error, Result, ensure_shape};
use crate::model::Vae;
use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;
use tch::Tensor;

/// Passes of each search of an image.
const EACH: usize = 75;
/// How often images begin from what the others found: in the larger ball, and within epsilon.
const ROUNDS: (usize, usize) = (1, 2);
/// Radius of the larger ball, as a multiple of epsilon.
const FAR: f64 = 2.0;
/// Starts that the race leaves out: those of a sample's own races, if an image is one of the samples.
const SKIPPED: usize = 48;
/// The name of its searches.
const NAME: &str = "pool";

/// What a pool is searched for, and on what.
pub struct Gathering<'a> {
    /// The model.
    pub vae: &'a dyn Vae,
    /// The images.
    pub ground: &'a Ground,
    /// Images towards which searches may move.
    pub others: &'a Others,
    /// The goals; each has perturbations of its own for each budget.
    pub goals: &'a [Goal],
    /// The budgets.
    pub budgets: &'a [Budget],
    /// The number of samples of the run, which share the passes.
    pub sharers: usize,
    /// The run's seed.
    pub seed: u64,
}

impl Pool {
    /// Searches perturbations; `tell` hears of each search that is done. Where memory runs out, fewer images go through the model together.
    ///
    /// # Errors
    /// If shapes do not fit together, or the model fails.
    pub fn search(wanted: &Gathering, tell: &dyn Fn()) -> Result<Self> {
        let (ground, count) = (wanted.ground, wanted.ground.index.len());
        ensure_shape("images of a pool", &ground.images, &[count as i64, -1, -1, -1])?;
        let mut together = count.max(1);
        // Searches that are done again with fewer images together were told of.
        let told = Cell::new(0);
        let finds = loop {
            let done = Cell::new(0);
            let tell = || {
                done.set(done.get() + 1);
                if done.get() > told.get() {
                    told.set(done.get());
                    tell();
                }
            };
            match wanted.finds(together, &tell) {
                Err(error) if error.is_out_of_memory() && together > 1 => together = together.div_ceil(2),
                found => break found?,
            }
        };
        Ok(Self { index: ground.index.clone(), sharers: wanted.sharers, finds })
    }

    /// How many searches [`Pool::search`] tells of.
    pub fn searches(goals: usize, budgets: usize) -> usize {
        goals * budgets * (1 + ROUNDS.0 + ROUNDS.1)
    }
}

impl Gathering<'_> {
    /// The searches, with so many images through the model together.
    fn finds(&self, together: usize, tell: &dyn Fn()) -> Result<Vec<Find>> {
        let loops = Rc::new(Loops::on(self.vae));
        let victim = |group: Range<usize>| -> Result<Victim> {
            let images = self.ground.images.f_narrow(0, group.start as i64, group.len() as i64)?;
            let victim = Victim::among(loops.clone(), &images, &self.ground.index[group], self.seed, None)?
                .beside(self.others)?;
            match self.ground.draws {
                Some(draws) => victim.expecting(draws),
                None => Ok(victim),
            }
        };
        let victims = |part: Range<usize>| -> Result<Vec<Victim>> {
            part.clone().step_by(together).map(|at| victim(at..(at + together).min(part.end))).collect()
        };
        let count = self.ground.index.len();
        // The half that goes on within epsilon comes first.
        let mut all = victims(0..count.div_ceil(2))?;
        let stay = all.len();
        all.extend(victims(count.div_ceil(2)..count)?);
        // The smaller budgets come first: what they found is a start for the larger ones.
        let mut ascending = self.budgets.to_vec();
        ascending.sort_by(|a, b| a.epsilon.total_cmp(&b.epsilon));
        let mut finds = Vec::new();
        for goal in self.goals.iter().copied() {
            // What a smaller budget found is among the race's starts.
            let from = |perturbations| {
                let spec = TransferSpec { budget: EACH, goal };
                Transfer { spec, name: "", skipped: 0, perturbations: Some(perturbations) }
            };
            for budget in &ascending {
                let mut far = Search::of(&all, Budget { epsilon: budget.epsilon * FAR, ..*budget });
                let spec =
                    RaceSpec { budget: EACH, starts: vec![Start::Others, Start::Random], goal, ..RaceSpec::default() };
                far.by(&Race { spec, name: NAME, skipped: SKIPPED, anew: false })?;
                tell();
                for _ in 0..ROUNDS.0 {
                    far.by(&from(far.perturbations()?))?;
                    tell();
                }
                let mut near = Search::of(&all[..stay], *budget);
                for round in 0..ROUNDS.1 {
                    let known = if round == 0 { far.perturbations()? } else { near.perturbations()? };
                    near.by(&from(known))?;
                    tell();
                }
                let perturbations = near.perturbations()?;
                let passes = far.passes + near.passes;
                for (victim, best) in all.iter().zip(near.best) {
                    if let Some(images) = best.into_images() {
                        victim.remember(budget, NAME, &images);
                    }
                }
                finds.push(Find { goal, budget: *budget, perturbations, passes });
            }
        }
        Ok(finds)
    }
}

/// The searches for one goal within one ball.
struct Search<'a> {
    victims: &'a [Victim<'a>],
    ball: Budget,
    /// For each victim.
    best: Vec<Best>,
    passes: Passes,
}

impl<'a> Search<'a> {
    fn of(victims: &'a [Victim<'a>], ball: Budget) -> Self {
        let best = victims.iter().map(|_| Best::default()).collect();
        Self { victims, ball, best, passes: Passes::default() }
    }

    /// Takes what an attack finds where it is more.
    fn by(&mut self, attack: &dyn Attack) -> Result<()> {
        for (victim, best) in self.victims.iter().zip(&mut self.best) {
            let found = judge(NAME, attack, victim, &self.ball)?;
            self.passes = self.passes + found.search.map(|passes| passes * victim.index().len() as f64);
            best.offer(found.images, found.damage)?;
        }
        Ok(())
    }

    /// What was found, [M, C, H, W].
    fn perturbations(&self) -> Result<Tensor> {
        let lacking = || Error::internal("attack::gather", "a search that found nothing");
        let each =
            self.victims.iter().zip(&self.best).map(|(victim, best)| -> Result<Tensor> {
                Ok(best.images().ok_or_else(lacking)?.f_sub(victim.images())?)
            });
        Ok(Tensor::f_cat(&each.collect::<Result<Vec<_>>>()?, 0)?)
    }
}
