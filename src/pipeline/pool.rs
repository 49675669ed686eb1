//! The pool of perturbations that attacks on all samples begin from: the images that it is searched on, the same for every process.

use super::job::Job;
use crate::attack::{AttackSpec, Budget, Gathering, Goal, Ground, Others, Pool};
use crate::error::Result;
use crate::event::{Event, Observer};

/// A stream of [`crate::seed::Stage::Others`]; streams 1 to 3 belong to other choices of images.
const CHOICE: u64 = 4;

/// The goals for which attacks of a request need a pool, each once.
fn goals(attacks: &[AttackSpec]) -> Vec<Goal> {
    let mut goals = Vec::new();
    for goal in attacks.iter().filter_map(AttackSpec::pooled) {
        if !goals.contains(&goal) {
            goals.push(goal);
        }
    }
    goals
}

impl Job<'_> {
    /// The pool for the attacks of a request, searched on images of the data set that the seed chooses: the same for every batch and shard.
    /// `None` if no attack needs one, or the run has a single sample.
    ///
    /// # Errors
    /// If the images cannot be read, or the search fails.
    pub(super) fn pool(
        &self,
        attacks: &[AttackSpec],
        budgets: &[Budget],
        others: &Others,
        draws: Option<usize>,
        observer: &dyn Observer,
    ) -> Result<Option<Pool>> {
        let (goals, samples) = (goals(attacks), self.positions().len());
        let count = Pool::size(samples);
        if goals.is_empty() || count == 0 {
            return Ok(None);
        }
        let (index, images) = self.choice(count, CHOICE)?;
        let ground = Ground { images, index, target: None, draws };
        let total = Pool::searches(goals.len(), budgets.len()) as u64;
        observer.on(Event::Begin { task: "searching a pool of starts", unit: "searches", total, done: 0 });
        let gathering = Gathering {
            vae: self.model.vae.as_ref(),
            ground: &ground,
            others,
            goals: &goals,
            budgets,
            sharers: samples,
            seed: self.subject().seed,
        };
        let pool = Pool::search(&gathering, &|| observer.on(Event::Advance(1)))?;
        observer.on(Event::End);
        Ok(Some(pool))
    }
}
