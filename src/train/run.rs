//! One model in training: its settings, its progress, and its folder.

use super::history::History;
use super::mixup::MixupSpec;
use super::spec::TrainSpec;
use super::state::{Adam, STATE_FILE, State};
use super::{HISTORY_FILE, Keep};
use crate::data::{self, Source};
use crate::error::{Error, Result};
use crate::event::Observer;
use crate::model::{self, Network};
use serde_json::{Value, json};

/// A model to train, and all settings in which it may differ from the models that are trained with it.
pub struct Member<'a> {
    /// Trained in place.
    pub network: &'a mut Network,
    /// Weight of the KL term, in place of [`TrainSpec::beta`].
    pub beta: f64,
    /// Its mixup, in place of [`TrainSpec::mixup`].
    pub mixup: MixupSpec,
    /// Seed of its noise, order and mixup.
    pub seed: u64,
    /// Where its state is kept, and its follower.
    pub keep: Keep<'a>,
    /// The observer of its batches and epochs.
    pub observer: &'a dyn Observer,
}

/// What the data of a training run are by their contents, by which a run knows them again wherever they lie.
///
/// # Errors
/// If they cannot be read.
pub(crate) fn contents(train: &dyn Source, valid: Option<&dyn Source>) -> Result<Value> {
    let valid = match valid {
        Some(source) => Some(json!({ "samples": source.len(), "sha256": data::fingerprint(source)? })),
        None => None,
    };
    Ok(json!({ "samples": train.len(), "sha256": data::fingerprint(train)?, "valid": valid }))
}

/// What a state says of the data: their contents, and the name of the training data.
pub(crate) fn data(train: &dyn Source, valid: Option<&dyn Source>) -> Result<Value> {
    let mut data = contents(train, valid)?;
    data["name"] = train.name().into();
    Ok(data)
}

/// The settings that must not change between a run's beginning and its resume; `data` is what [`data`] says.
pub(crate) fn settings(network: &Network, spec: &TrainSpec, seed: u64, data: &Value) -> Value {
    json!({
        "model": network.spec(),
        "train": TrainSpec { hold_mib: 0, ..spec.clone() },
        "seed": seed,
        "kind": format!("{:?}", network.kind()),
        "data": data,
    })
}

/// One model in training.
pub(super) struct Run<'a> {
    pub(super) member: Member<'a>,
    /// With the member's own beta and mixup.
    pub(super) spec: TrainSpec,
    pub(super) adam: Adam,
    pub(super) history: History,
    pub(super) failure: Option<Error>,
}

impl Run<'_> {
    pub(super) fn epochs(&self) -> u32 {
        self.history.epochs.len() as u32
    }

    fn settings(&self, data: &Value) -> Value {
        settings(self.member.network, &self.spec, self.member.seed, data)
    }

    /// Loads the state in its folder, if there is one.
    pub(super) fn resume(&mut self, data: &Value) -> Result<()> {
        let Some(folder) = self.member.keep.folder else {
            return self.follow();
        };
        // Before any work, because the weights are saved beside the configuration that is there.
        model::ensure_own(folder, self.member.network.spec())?;
        let file = folder.join(STATE_FILE);
        if file.exists() {
            let settings = self.settings(data);
            let parameters = self.member.network.parameters();
            self.history = State { parameters, adam: &self.adam, settings: &settings }.read(&file)?;
        }
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        // A run may have been stopped after its state was written and before the other files were.
        if self.epochs() > 0 { self.save_others() } else { self.follow() }
    }

    pub(super) fn save(&mut self, data: &Value) -> Result<()> {
        let Some(folder) = self.member.keep.folder else {
            return self.follow();
        };
        let (settings, parameters) = (self.settings(data), self.member.network.parameters());
        // The state is written first, because it alone decides where a resumed run continues.
        State { parameters, adam: &self.adam, settings: &settings }.write(&folder.join(STATE_FILE), &self.history)?;
        self.save_others()
    }

    /// Brings what lies beside the state up to it. The history comes last: by its epochs a run counts as finished, and nobody would go on
    /// with a finished run whose log lacks an epoch.
    fn save_others(&mut self) -> Result<()> {
        let Some(folder) = self.member.keep.folder else {
            return self.follow();
        };
        model::save(folder, self.member.network)?;
        self.follow()?;
        self.history.write(&folder.join(HISTORY_FILE))
    }

    fn follow(&mut self) -> Result<()> {
        match &mut self.member.keep.follower {
            Some(follower) => follower.follow(self.member.network, &self.history),
            None => Ok(()),
        }
    }
}
