//! What an attack does to every block of samples, on any thread: all attacks at all budgets, and their results as columns.

use super::aim::{self, Ends};
use super::attack_request::AttackRequest;
use super::flow::{Asked, positions};
use super::job::Job;
use super::pictures::Pictures;
use super::told::Told;
use super::{flags, universal};
use crate::attack::{self, Attacked, Budget, Doubts, Family, Flag, Loops, Others, Passes, Pool, Universal, Victim};
use crate::error::Result;
use crate::event::Observer;
use crate::spectrum::Spectrum;
use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};
use tch::Tensor;

/// The targets for the attacks on some samples.
pub(super) enum Wish {
    Away,
    Zero,
    At(Ends),
}

/// Samples and what belongs to them.
pub(super) struct Given {
    pub images: Tensor,
    pub target: Wish,
    pub index: Vec<u64>,
    pub spectrum: Option<Spectrum>,
    /// Passes that the spectrum took for each sample.
    pub cost: Passes,
    pub others: Option<Others>,
    pub universal: Option<Universal>,
    pub pool: Option<Pool>,
    /// Positions of the targets, if samples have targets of their own.
    pub partners: Option<Vec<u64>>,
}

/// What is done to every block, on any thread.
pub(super) struct Search<'a> {
    request: &'a AttackRequest,
    budgets: &'a [Budget],
    told: Told<'a>,
    files: Option<Pictures>,
    observer: &'a dyn Observer,
    counted: Mutex<Counted>,
}

impl<'a> Search<'a> {
    pub fn new(
        request: &'a AttackRequest,
        budgets: &'a [Budget],
        job: &'a Job,
        files: Option<Pictures>,
        observer: &'a dyn Observer,
    ) -> Self {
        // Else the judge has draws of its own, or images that were rounded after the search.
        let curves = request.eot.is_none() && !request.rounded;
        let told = Told::of(job, request.images, curves);
        Self { request, budgets, told, files, observer, counted: Mutex::default() }
    }

    /// The results of every attack at every budget on some samples, as columns.
    pub fn block<'v>(&self, loops: Rc<Loops<'v>>, given: &'v Given, listener: &'v dyn Observer) -> Result<Vec<Asked>> {
        let Given { images, target, index, spectrum, cost, others, universal, pool, partners } = given;
        let seed = self.request.subject.seed;
        let mut victim = Victim::among(loops, images, index, seed, spectrum.as_ref())?
            .with_observer(listener)
            .for_passes(*cost)
            .rounded(self.request.rounded);
        let vae = victim.vae();
        let target = match target {
            Wish::Away => None,
            Wish::Zero => Some(aim::reading(vae, images, None)?),
            Wish::At(ends) => Some(aim::reading(vae, images, Some(ends))?),
        };
        if let Some(target) = target {
            victim = victim.towards(target)?;
        }
        if let Some(draws) = self.request.eot {
            victim = victim.expecting(draws)?;
        }
        if let Some(others) = others {
            victim = victim.beside(others)?;
        }
        if let Some(pool) = pool {
            victim = victim.pooling(pool)?;
        }
        let mut fitted = None;
        if let Some(universal) = universal {
            victim = victim.carrying(universal)?;
            fitted = Some(universal::fitted(universal, index, images.device())?);
        }
        let mut columns = self.told.clean(&victim)?;
        columns.extend(partners.as_ref().map(|index| positions("/target", index)).transpose()?);
        // The smaller budgets come first: their results are starts for the larger ones.
        let mut order: Vec<usize> = (0..self.budgets.len()).collect();
        order.sort_by(|a, b| self.budgets[*a].epsilon.total_cmp(&self.budgets[*b].epsilon));
        let mut ascending = Vec::with_capacity(order.len());
        for place in &order {
            self.observer.check()?;
            let budget = self.budgets[*place];
            let mut at_budget = Vec::new();
            for spec in &self.request.attacks {
                at_budget.extend(attack::run(spec, &victim, &budget)?);
            }
            ascending.push((budget, at_budget));
        }
        let flagged = flags::of(&victim, &ascending, self.request.metric)?;
        columns.extend(flags::columns(&flagged)?);
        let flagged: Vec<_> = flagged.into_iter().collect();
        let mut results: BTreeMap<String, BTreeMap<usize, Attacked>> = BTreeMap::new();
        for (place, (_, at_budget)) in order.into_iter().zip(ascending) {
            for attacked in at_budget {
                results.entry(attacked.name.clone()).or_default().insert(place, attacked);
            }
        }
        for (name, by_eps) in results {
            let by_eps: Vec<Attacked> = by_eps.into_values().collect();
            if let Some(files) = &self.files {
                for (attacked, budget) in by_eps.iter().zip(self.budgets) {
                    files.write(&name, budget.epsilon, index, &attacked.images)?;
                }
            }
            // What was fitted on a sample is not judged by it.
            let known = fitted.as_ref().filter(|_| by_eps.iter().all(|a| a.family == Family::Universal));
            columns.extend(self.told.attack(&name, &by_eps, known)?);
        }
        // Last: where memory runs out before, the samples come again.
        self.counted.lock().unwrap_or_else(PoisonError::into_inner).note(index, &flagged)?;
        Ok(columns)
    }

    /// What the user is told of doubtful results, in the end.
    pub fn doubts(&self) -> Vec<String> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner).doubts.lines()
    }
}

/// Doubts about samples, each of which counts once.
#[derive(Default)]
struct Counted {
    doubts: Doubts,
    samples: HashSet<u64>,
}

impl Counted {
    /// Counts flagged samples at the positions `index`: masks `[B]` bool. Where memory runs out in one part of a block, all parts come
    /// again, those that were counted as well.
    fn note(&mut self, index: &[u64], flagged: &[((String, Flag), Tensor)]) -> Result<()> {
        let new: Vec<i64> =
            (0i64..).zip(index).filter(|(_, sample)| !self.samples.contains(sample)).map(|(place, _)| place).collect();
        if new.len() == index.len() {
            self.doubts.count(flagged)?;
        } else if !new.is_empty() {
            let places = Tensor::f_from_slice(&new)?;
            let some = flagged.iter().map(|(key, mask)| {
                let places = places.f_to_device(mask.device())?;
                Ok((key.clone(), mask.f_index_select(0, &places)?))
            });
            self.doubts.count(&some.collect::<Result<Vec<_>>>()?)?;
        }
        self.samples.extend(index);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_that_comes_again_counts_once() {
        let mut counted = Counted::default();
        let flagged = |mask: &[bool]| vec![(("pgd".to_owned(), Flag::NotANumber), Tensor::from_slice(mask))];
        counted.note(&[4, 5], &flagged(&[true, false])).unwrap();
        counted.note(&[4, 5], &flagged(&[true, false])).unwrap();
        // A larger block with the same and with others.
        counted.note(&[3, 4, 6], &flagged(&[false, true, true])).unwrap();
        let lines = counted.doubts.lines();
        assert!(lines.len() == 1 && lines[0].contains("on 2 of 4 attacked images"), "{lines:?}");
    }
}
