//! The spectra along whose directions attacks begin.

use super::job::Job;
use super::score::spectrum_attribute;
use crate::attack::{AttackSpec, Passes};
use crate::error::{Error, Result};
use crate::metric::MetricKind;
use crate::model::Vae;
use crate::spectrum::{Spectra, Spectrum, SpectrumSpec, Wanted};
use std::collections::BTreeMap;
use tch::Tensor;

/// Where the spectral directions of the victims come from; none where no attack takes one.
pub(super) struct Finder(Option<Spectra>);

impl Finder {
    /// What `attacks` on the job's samples need of the spectra of `metric`, found as `spec` says.
    ///
    /// # Errors
    /// A wrong request where an attack needs more directions than there are.
    pub(super) fn new(job: &Job, attacks: &[AttackSpec], metric: MetricKind, spec: &SpectrumSpec) -> Result<Self> {
        let most = |of: fn(&AttackSpec) -> usize| attacks.iter().map(of).max().unwrap_or(0);
        let (needed, hoped) = (most(AttackSpec::directions), most(AttackSpec::wishes));
        if hoped == 0 {
            return Ok(Self(None));
        }
        let (seed, batch) = (job.subject().seed, job.subject().batch);
        // Directions are all that is asked for: no more pairs than they are.
        let spectra = |top: usize| {
            let wanted = Wanted { spec: spec.clone(), top, pairs: Some(top), seed, batch };
            Spectra::wanted(job.model.vae.as_ref(), &job.sample()?, metric, &wanted)
        };
        let least = spectra(needed.max(1))?;
        // Some attacks take as many as there are.
        let held = hoped.min(least.bound().max(1) as usize);
        Ok(Self(Some(if held > needed.max(1) { spectra(held)? } else { least })))
    }

    pub(super) fn attributes(&self) -> BTreeMap<String, String> {
        self.0.as_ref().map_or_else(BTreeMap::new, spectrum_attribute)
    }

    /// The spectra and what they took.
    pub(super) fn spectrum(&mut self, vae: &dyn Vae, x: &Tensor, index: &[u64]) -> Result<(Option<Spectrum>, Passes)> {
        let Some(spectra) = &mut self.0 else { return Ok((None, Passes::default())) };
        let found = spectra.find(vae, x, index)?;
        let (forward, backward) = found.passes();
        let spectrum = found.into_spectrum();
        // Those of some samples alone: the process was asked to stop.
        if spectrum.values.size()[0] < x.size()[0] {
            return Err(Error::Interrupted);
        }
        Ok((Some(spectrum), Passes { forward, backward }))
    }
}
