//! Adam's state, and everything that a run needs to continue where it stopped.

use super::history::{History, ROW};
use crate::error::{Error, Result};
use crate::ffi::adam::{self, AdamStep};
use crate::model::{self, Parameters};
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// The file in a run folder from which training resumes.
pub const STATE_FILE: &str = "train.safetensors";
/// Key of the settings in that file's header.
const SETTINGS: &str = "settings";
/// Keys of the data in the settings: what tells where data lie, and what tells what they are.
const PLACE: &[&str] = &["name"];
const CONTENTS: &[&str] = &["sha256", "valid"];

/// Adam's moments, one pair for each trained parameter: of one model, or of several models after the same number of steps.
pub(crate) struct Adam {
    exp_avgs: Vec<Tensor>,
    exp_avg_sqs: Vec<Tensor>,
    /// Scalars f32.
    steps: Vec<Tensor>,
}

impl Adam {
    /// The state before the first step.
    pub(crate) fn new(parameters: &Parameters) -> Result<Self> {
        let mut adam = Self { exp_avgs: vec![], exp_avg_sqs: vec![], steps: vec![] };
        for p in parameters.trained() {
            adam.exp_avgs.push(p.f_detach()?.f_zeros_like()?);
            adam.exp_avg_sqs.push(p.f_detach()?.f_zeros_like()?);
            adam.steps.push(Tensor::f_zeros([1i64; 0], (Kind::Float, p.device()))?);
        }
        Ok(adam)
    }

    /// The moments of several models as those of a [`Stack`](crate::model::Stack); a single model's moments are shared.
    pub(crate) fn stack(of: &[&Self]) -> Result<Self> {
        let stacked = |list: fn(&Self) -> &[Tensor]| -> Result<Vec<Tensor>> {
            let one = |i: usize| -> Result<Tensor> {
                match of {
                    [only] => Ok(list(only)[i].f_unsqueeze(0)?),
                    _ => Ok(Tensor::f_stack(&of.iter().map(|adam| &list(adam)[i]).collect::<Vec<_>>(), 0)?),
                }
            };
            (0..of.first().map_or(0, |adam| list(adam).len())).map(one).collect()
        };
        let steps = of.first().map_or(vec![], |adam| adam.steps.iter().map(Tensor::shallow_clone).collect());
        Ok(Self { exp_avgs: stacked(|a| &a.exp_avgs)?, exp_avg_sqs: stacked(|a| &a.exp_avg_sqs)?, steps })
    }

    /// Views of model `s` of a stack.
    pub(crate) fn model(&self, s: i64) -> Result<Self> {
        let view = |list: &[Tensor]| list.iter().map(|t| Ok(t.f_select(0, s)?)).collect::<Result<Vec<_>>>();
        let steps = self.steps.iter().map(Tensor::shallow_clone).collect();
        Ok(Self { exp_avgs: view(&self.exp_avgs)?, exp_avg_sqs: view(&self.exp_avg_sqs)?, steps })
    }

    /// One step in place on the parameters whose moments these are.
    pub(crate) fn step(&self, params: &[Tensor], grads: &[Tensor], lr: &Tensor, step: AdamStep) -> Result<()> {
        adam::fused_adam(params, grads, &self.exp_avgs, &self.exp_avg_sqs, &self.steps, lr, step)
    }
}

/// The state of a run after an epoch, as stored in its file.
pub(crate) struct State<'a> {
    pub(crate) parameters: &'a Parameters,
    pub(crate) adam: &'a Adam,
    pub(crate) settings: &'a Value,
}

impl State<'_> {
    /// Every tensor of the state under its name in the file; handles on the live storage.
    fn tensors(&self) -> Vec<(String, Tensor)> {
        let mut tensors = Vec::new();
        let mut trained = 0;
        for (slot, tensor) in self.parameters.iter() {
            tensors.push((format!("parameter.{}", slot.name), tensor.shallow_clone()));
            if slot.role.is_trained() {
                for (what, list) in [
                    ("exp_avg", &self.adam.exp_avgs),
                    ("exp_avg_sq", &self.adam.exp_avg_sqs),
                    ("step", &self.adam.steps),
                ] {
                    tensors.push((format!("{what}.{}", slot.name), list[trained].shallow_clone()));
                }
                trained += 1;
            }
        }
        tensors
    }

    pub(crate) fn write(&self, path: &Path, history: &History) -> Result<()> {
        let mut tensors = self.tensors();
        let rows = Tensor::f_from_slice(&history.to_rows())?.f_reshape([-1, ROW as i64])?;
        tensors.push(("history".to_owned(), rows));
        let settings = HashMap::from([(SETTINGS.to_owned(), self.settings.to_string())]);
        model::write_tensors(path, &tensors, Some(settings))
    }

    /// Fills parameters and moments from a file and returns the history so far.
    ///
    /// # Errors
    /// If the file is broken, or was written with other settings; the error names the first that differs.
    pub(crate) fn read(&self, path: &Path) -> Result<History> {
        let subject = path.display().to_string();
        let contents = model::read_tensors(path)?;
        ensure_same(path, &settings_in(path, &contents.metadata)?, self.settings)?;
        let mut named: HashMap<_, _> = contents.tensors.into_iter().collect();
        for (name, mut tensor) in self.tensors() {
            let from = named.remove(&name).filter(|from| from.size() == tensor.size()).ok_or_else(|| {
                Error::request(subject.clone(), format!("a tensor {name} of shape {:?}", tensor.size()), "none")
            })?;
            tch::no_grad(|| tensor.f_copy_(&from))?;
        }
        let rows = named.remove("history").filter(|t| t.dim() == 2 && t.size()[1] == ROW as i64);
        let rows = rows.ok_or_else(|| Error::request(subject, "a history", "none"))?;
        let mut numbers = vec![0f64; rows.numel()];
        rows.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?.f_copy_data(&mut numbers, rows.numel())?;
        Ok(History::from_rows(&numbers))
    }
}

/// The settings in a state's free text.
fn settings_in(path: &Path, metadata: &HashMap<String, String>) -> Result<Value> {
    let settings = metadata.get(SETTINGS).and_then(|text| serde_json::from_str(text).ok());
    settings
        .ok_or_else(|| Error::request(path.display().to_string(), "the state of a training run", "no settings in it"))
}

/// Checks that a run with the settings `now` may go on with the state at `path`, of a run with the settings `before`.
fn ensure_same(path: &Path, before: &Value, now: &Value) -> Result<()> {
    // States of version 0.1.0 know their data by name and number; later ones go on wherever the same data lie.
    let left_out = if before.pointer("/data/sha256").is_some() { PLACE } else { CONTENTS };
    match difference("", &less(before, left_out), &less(now, left_out)) {
        None => Ok(()),
        Some((key, before, now)) => Err(Error::request(
            path.display().to_string(),
            format!("the settings that this run began with, {key} = {before}"),
            format!("{key} = {now} (take another output folder, or train anew)"),
        )),
    }
}

/// True if a run with these settings goes on with the state at `path`: it is there, whole, and of such a run.
///
/// # Errors
/// If the system does not allow reading.
pub(crate) fn goes_on(path: &Path, settings: &Value) -> Result<bool> {
    let same = |contents: model::Contents| ensure_same(path, &settings_in(path, &contents.metadata)?, settings);
    match model::read_tensors(path).and_then(same) {
        Ok(()) => Ok(true),
        Err(Error::Request { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What the state at `path` says of its data, by which they are known wherever they lie; `None` of a state of version 0.1.0, which knows
/// them by name.
///
/// # Errors
/// If it cannot be read, or is none.
pub(crate) fn data_in(path: &Path) -> Result<Option<Value>> {
    let settings = less(&settings_in(path, &model::read_tensors(path)?.metadata)?, PLACE);
    Ok(settings.get("data").filter(|data| data.get("sha256").is_some()).cloned())
}

/// The settings without these keys of the data.
fn less(settings: &Value, keys: &[&str]) -> Value {
    let mut settings = settings.clone();
    if let Some(data) = settings.get_mut("data").and_then(Value::as_object_mut) {
        data.retain(|key, _| !keys.contains(&key.as_str()));
    }
    settings
}

/// The first place where two settings differ: key path and both values.
fn difference(at: &str, before: &Value, now: &Value) -> Option<(String, String, String)> {
    match (before, now) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
            keys.into_iter().find_map(|key| {
                let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                difference(&path, a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null))
            })
        }
        _ if before == now => None,
        _ => Some((at.to_owned(), before.to_string(), now.to_string())),
    }
}
