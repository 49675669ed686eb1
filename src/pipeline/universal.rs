//! One perturbation for all images: what it is fitted on, and its place in result files.

use super::aim::{self, Aimed};
use super::job::Job;
use super::others;
use crate::attack::{AttackSpec, Budget, Ground, Universal, UniversalSpec};
use crate::error::Result;
use crate::event::{Event, Observer};
use crate::seed::{self, Stage};
use crate::store::{Column, Values};
use tch::{Device, Kind, Tensor};

/// A stream of [`Stage::Others`]; streams 1 and 2 belong to the images that attacks may move towards.
const CHOICE: u64 = 3;

/// The attack among those of a request, if it is one of them.
pub(super) fn asked(attacks: &[AttackSpec]) -> Option<&UniversalSpec> {
    attacks.iter().find_map(|attack| match attack {
        AttackSpec::Universal(spec) => Some(spec),
        _ => None,
    })
}

impl Job<'_> {
    /// Fits the perturbation for each of `budgets` on some of the run's samples, chosen by the seed: the same for every batch and shard.
    ///
    /// # Errors
    /// A wrong request if there are too few samples; other errors as they occur.
    pub(super) fn universal(
        &self,
        spec: &UniversalSpec,
        budgets: &[Budget],
        aimed: Option<&Aimed>,
        draws: Option<usize>,
        observer: &dyn Observer,
    ) -> Result<Universal> {
        let (seed, positions) = (self.subject().seed, self.positions());
        let count = spec.fitted(positions.len())?;
        let mut rng = seed::generator(seed, Stage::Others, 0, CHOICE);
        // In the order of the draw: data sets are often sorted by class, and neighbours go through the model together.
        let index: Vec<u64> = rand::seq::index::sample(&mut rng, positions.len(), count)
            .into_iter()
            .map(|place| positions[place])
            .collect();
        let vae = self.model.vae.as_ref();
        let images = self.source.read(&index)?.images.f_to_device(self.device)?.f_to_kind(self.kind)?;
        let (index, images) = others::finite(index, images)?;
        let count = index.len();
        let target = match aimed {
            None => None,
            Some(aimed) => Some(aim::reading(vae, &images, self.target_images(aimed, &index)?.as_ref())?),
        };
        let judged = positions.len() - count;
        observer.on(Event::Detail(&format!("universal: fitted on {count} samples, judged on {judged}")));
        Universal::fit(vae, spec, &Ground { images, index, target, draws }, budgets, judged, seed)
    }

    /// As in result files: `/universal/fitted` [M], `/universal/damage` [E, M] and `/universal/perturbation` [E, ...].
    pub(super) fn universal_columns(&self, universal: &Universal) -> Result<Vec<Column>> {
        let fitted = universal.index.iter().map(|i| *i as i64).collect::<Vec<_>>();
        let (sizes, samples) = (universal.fits.len(), fitted.len());
        let doubles = |each: fn(&crate::attack::Fit) -> &Tensor| -> Result<Values> {
            let all: Vec<&Tensor> = universal.fits.iter().map(each).collect();
            let all = Tensor::f_stack(&all, 0)?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?;
            Ok(Values::F64(Vec::try_from(all.f_flatten(0, -1)?)?))
        };
        let whole = |name: &str, shape: Vec<usize>, values| Column {
            path: format!("/universal/{name}"),
            shape,
            sample_axis: 0,
            values,
        };
        let image = self.axes().iter().map(|n| *n as usize);
        Ok(vec![
            whole("fitted", vec![samples], Values::I64(fitted)),
            whole("damage", vec![sizes, samples], doubles(|fit| &fit.damage)?),
            whole("perturbation", std::iter::once(sizes).chain(image).collect(), doubles(|fit| &fit.perturbation)?),
        ])
    }
}

/// `[n]` bool: which samples it was fitted on.
pub(super) fn fitted(universal: &Universal, index: &[u64], device: Device) -> Result<Tensor> {
    let known: Vec<bool> = index.iter().map(|i| universal.index.contains(i)).collect();
    Ok(Tensor::f_from_slice(&known)?.f_to_device(device)?)
}
