//! The search of a [`Pool`]: each image has a race of its own; then each begins from what the others found, twice. This shares what few have
//! found.

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

/// Passes of the race of each image.
const ALONE: usize = 150;
/// Passes of each image from what the others found, each time.
const TOGETHER: usize = 75;
/// How often.
const ROUNDS: usize = 2;
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
            let groups = (0..count).step_by(together).map(|at| at..(at + together).min(count)).collect::<Vec<_>>();
            match wanted.finds(&groups, &tell) {
                Err(error) if error.is_out_of_memory() && together > 1 => together = together.div_ceil(2),
                found => break found?,
            }
        };
        Ok(Self { index: ground.index.clone(), sharers: wanted.sharers, finds })
    }

    /// How many searches [`Pool::search`] tells of.
    pub fn searches(goals: usize, budgets: usize) -> usize {
        goals * budgets * (1 + ROUNDS)
    }
}

impl Gathering<'_> {
    /// The searches, with the images of a group through the model together.
    fn finds(&self, groups: &[Range<usize>], tell: &dyn Fn()) -> Result<Vec<Find>> {
        let loops = Rc::new(Loops::on(self.vae));
        let victim = |group: &Range<usize>| -> Result<Victim> {
            let images = self.ground.images.f_narrow(0, group.start as i64, group.len() as i64)?;
            let victim = Victim::among(loops.clone(), &images, &self.ground.index[group.clone()], self.seed, None)?
                .beside(self.others)?;
            match self.ground.draws {
                Some(draws) => victim.expecting(draws),
                None => Ok(victim),
            }
        };
        let victims = groups.iter().map(victim).collect::<Result<Vec<_>>>()?;
        // The smaller budgets come first: what they found is a start for the larger ones.
        let mut ascending = self.budgets.to_vec();
        ascending.sort_by(|a, b| a.epsilon.total_cmp(&b.epsilon));
        let mut finds = Vec::new();
        for goal in self.goals.iter().copied() {
            for budget in &ascending {
                let mut search = Search { victims: &victims, budget, best: vec![], passes: Passes::default() };
                let spec =
                    RaceSpec { budget: ALONE, starts: vec![Start::Others, Start::Random], goal, ..RaceSpec::default() };
                search.by(&Race { spec, name: NAME, skipped: SKIPPED })?;
                tell();
                for _ in 0..ROUNDS {
                    let perturbations = Some(search.perturbations()?);
                    let spec = TransferSpec { budget: TOGETHER, goal };
                    // What a smaller budget found is among them already.
                    search.by(&Transfer { spec, name: "", skipped: 0, perturbations })?;
                    tell();
                }
                let perturbations = search.perturbations()?;
                for (victim, best) in victims.iter().zip(search.best) {
                    if let Some(images) = best.into_images() {
                        victim.remember(budget, NAME, &images);
                    }
                }
                finds.push(Find { goal, budget: *budget, perturbations, passes: search.passes });
            }
        }
        Ok(finds)
    }
}

/// The searches for one goal and budget.
struct Search<'a> {
    victims: &'a [Victim<'a>],
    budget: &'a Budget,
    /// For each victim.
    best: Vec<Best>,
    passes: Passes,
}

impl Search<'_> {
    /// Takes what an attack finds where it is more.
    fn by(&mut self, attack: &dyn Attack) -> Result<()> {
        self.best.resize_with(self.victims.len(), Best::default);
        for (victim, best) in self.victims.iter().zip(&mut self.best) {
            let found = judge(NAME, attack, victim, self.budget)?;
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
