//! The pool of perturbations that attacks on all samples begin from: the images that it is searched on, and its place in result files.

use super::job::Job;
use crate::attack::{AttackSpec, Budget, Gathering, Goal, Ground, Others, Pool};
use crate::error::Result;
use crate::event::{Event, Observer};
use crate::seed::{self, Stage};
use crate::store::{Column, Values};

/// A stream of [`Stage::Others`]; streams 1 to 3 belong to other choices of images.
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
        let count = Pool::size(samples).min(self.source.len());
        if goals.is_empty() || count == 0 {
            return Ok(None);
        }
        let mut rng = seed::generator(self.subject().seed, Stage::Others, 0, CHOICE);
        let mut index: Vec<u64> =
            rand::seq::index::sample(&mut rng, self.source.len(), count).into_iter().map(|i| i as u64).collect();
        index.sort_unstable();
        let images = self.source.read(&index)?.images.f_to_device(self.device)?.f_to_kind(self.kind)?;
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

/// Positions of its images, as in result files.
pub(super) fn column(pool: &Pool) -> Column {
    let index = pool.index.iter().map(|i| *i as i64).collect::<Vec<_>>();
    Column { path: "/pool".to_owned(), shape: vec![index.len()], sample_axis: 0, values: Values::I64(index) }
}
