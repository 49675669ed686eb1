//! The spectra whose directions are starts of attacks.

use super::job::Job;
use super::score::spectrum_attribute;
use crate::attack::{AttackSpec, Passes};
use crate::error::{Error, Result};
use crate::metric::MetricKind;
use crate::model::Vae;
use crate::spectrum::{Spectra, Spectrum, SpectrumSpec, Wanted};
use std::collections::BTreeMap;
use tch::Tensor;

/// The solver for the victims' directions; `None` if no attack takes one.
pub(super) struct Finder(Option<Spectra>);

impl Finder {
    /// The part of the spectra of `metric` that `attacks` on the job's samples need, found as `spec` says.
    ///
    /// # Errors
    /// A wrong request if an attack needs more directions than there are.
    pub(super) fn new(job: &Job, attacks: &[AttackSpec], metric: MetricKind, spec: &SpectrumSpec) -> Result<Self> {
        let most = |of: fn(&AttackSpec) -> usize| attacks.iter().map(of).max().unwrap_or(0);
        let (needed, hoped) = (most(AttackSpec::directions), most(AttackSpec::wishes));
        if hoped == 0 {
            return Ok(Self(None));
        }
        let (seed, batch) = (job.subject().seed, job.subject().batch);
        // Only directions are needed, so no more pairs than directions are found.
        let spectra = |top: usize| {
            let wanted = Wanted { spec: spec.clone(), top, pairs: Some(top), seed, batch };
            Spectra::wanted(job.model.vae.as_ref(), &job.sample()?, metric, &wanted)
        };
        let least = spectra(needed.max(1))?;
        // Some attacks take as many directions as there are.
        let held = hoped.min(least.bound().max(1) as usize);
        Ok(Self(Some(if held > needed.max(1) { spectra(held)? } else { least })))
    }

    pub(super) fn attributes(&self) -> BTreeMap<String, String> {
        self.0.as_ref().map_or_else(BTreeMap::new, spectrum_attribute)
    }

    /// The spectra and the passes that they took.
    pub(super) fn spectrum(&mut self, vae: &dyn Vae, x: &Tensor, index: &[u64]) -> Result<(Option<Spectrum>, Passes)> {
        let Some(spectra) = &mut self.0 else { return Ok((None, Passes::default())) };
        let found = spectra.find(vae, x, index)?;
        let (forward, backward) = found.passes();
        let spectrum = found.into_spectrum();
        // Only some samples have spectra: the process was asked to stop.
        if spectrum.values.size()[0] < x.size()[0] {
            return Err(Error::Interrupted);
        }
        Ok((Some(spectrum), Passes { forward, backward }))
    }
}
