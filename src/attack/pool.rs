//! What was found for some images of the data set: a pool of perturbations, each of which may do as much to other images
//! ([`super::transfer`]). The images are the same for every batch and shard, and so is the pool.
//!
//! Each image has a race of its own; then each begins from what the others found, twice. This shares what few have found.

use super::best::Best;
use super::race::{Race, RaceSpec};
use super::run::judge;
use super::start::Start;
use super::transfer::{Transfer, TransferSpec};
use super::{Attack, Budget, Goal, Ground, Loops, Others, Passes, Victim};
use crate::error::{Error, Result, ensure_shape};
use crate::model::Vae;
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

/// Perturbations that were found for some images, for each goal and budget.
#[derive(Debug)]
pub struct Pool {
    /// Positions in the data set of the images that they were found for, M of them.
    pub index: Vec<u64>,
    /// How many samples share its passes: all of the run.
    pub sharers: usize,
    finds: Vec<Find>,
}

/// What was found for a goal within a budget.
#[derive(Debug)]
struct Find {
    goal: Goal,
    budget: Budget,
    /// [M, C, H, W], of the images' kind.
    perturbations: Tensor,
    /// Passes of the search, all images together.
    passes: Passes,
}

impl Pool {
    /// The number of images of a pool for a run of so many samples: half of them, and at most 32. A single sample has no pool.
    pub fn size(samples: usize) -> usize {
        (samples / 2).min(32)
    }

    /// Searches perturbations of the images of `ground` for each of `goals` within each of `budgets`; `others` are images towards which
    /// searches may move, and `sharers` is the number of samples of the run. `tell` hears of each search that is done.
    ///
    /// # Errors
    /// If shapes do not fit together, or the model fails.
    pub fn search(
        vae: &dyn Vae,
        ground: &Ground,
        others: &Others,
        goals: &[Goal],
        budgets: &[Budget],
        (sharers, seed): (usize, u64),
        tell: &dyn Fn(),
    ) -> Result<Self> {
        let count = ground.index.len();
        ensure_shape("images of a pool", &ground.images, &[count as i64, -1, -1, -1])?;
        let mut together = count.max(1);
        let finds = loop {
            let groups = (0..count).step_by(together).map(|at| at..(at + together).min(count)).collect::<Vec<_>>();
            match finds(vae, ground, others, goals, budgets, seed, &groups, tell) {
                Err(error) if error.is_out_of_memory() && together > 1 => together = together.div_ceil(2),
                found => break found?,
            }
        };
        Ok(Self { index: ground.index.clone(), sharers, finds })
    }

    /// How many searches [`Pool::search`] tells of.
    pub fn searches(goals: usize, budgets: usize) -> usize {
        goals * budgets * (1 + ROUNDS)
    }

    /// The same pool for another thread.
    pub fn handle(&self) -> Self {
        let finds = self.finds.iter().map(|find| Find { perturbations: find.perturbations.shallow_clone(), ..*find });
        Self { index: self.index.clone(), sharers: self.sharers, finds: finds.collect() }
    }

    /// The perturbations [M, C, H, W] for a goal within a budget, and the passes for each sample that they took.
    pub(super) fn at(&self, goal: Goal, budget: &Budget) -> Option<(&Tensor, Passes)> {
        let find = self.finds.iter().find(|find| find.goal == goal && find.budget == *budget)?;
        let share = |passes: f64| passes / self.sharers.max(1) as f64;
        let share = Passes { forward: share(find.passes.forward), backward: share(find.passes.backward) };
        Some((&find.perturbations, share))
    }

    /// The shape of each perturbation set.
    pub(super) fn shapes(&self) -> impl Iterator<Item = &Tensor> {
        self.finds.iter().map(|find| &find.perturbations)
    }
}

/// The searches, with the images of a group through the model together.
#[allow(clippy::too_many_arguments)]
fn finds(
    vae: &dyn Vae,
    ground: &Ground,
    others: &Others,
    goals: &[Goal],
    budgets: &[Budget],
    seed: u64,
    groups: &[Range<usize>],
    tell: &dyn Fn(),
) -> Result<Vec<Find>> {
    let loops = Rc::new(Loops::on(vae));
    let victim = |group: &Range<usize>| -> Result<Victim> {
        let images = ground.images.f_narrow(0, group.start as i64, group.len() as i64)?;
        let victim = Victim::among(loops.clone(), &images, &ground.index[group.clone()], seed, None)?.beside(others)?;
        match ground.draws {
            Some(draws) => victim.expecting(draws),
            None => Ok(victim),
        }
    };
    let victims = groups.iter().map(victim).collect::<Result<Vec<_>>>()?;
    // The smaller budgets come first: what they found is a start for the larger ones.
    let mut ascending = budgets.to_vec();
    ascending.sort_by(|a, b| a.epsilon.total_cmp(&b.epsilon));
    let mut finds = Vec::new();
    for goal in goals.iter().copied() {
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
            let samples = victim.index().len() as f64;
            let all = |passes: f64| passes * samples;
            let passes = Passes { forward: all(found.search.forward), backward: all(found.search.backward) };
            self.passes = self.passes + passes;
            best.offer(found.images, found.damage)?;
        }
        Ok(())
    }

    /// What was found, [M, C, H, W].
    fn perturbations(&self) -> Result<Tensor> {
        let lacking = || Error::internal("attack::pool", "a search that found nothing");
        let each =
            self.victims.iter().zip(&self.best).map(|(victim, best)| -> Result<Tensor> {
                Ok(best.images().ok_or_else(lacking)?.f_sub(victim.images())?)
            });
        Ok(Tensor::f_cat(&each.collect::<Result<Vec<_>>>()?, 0)?)
    }
}
