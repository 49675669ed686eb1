//! Whether a result already exists for this request, by a model with these weights.

use super::job::Subject;
use crate::error::{Error, Result};
use crate::store::Reader;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// True if the subject's file holds the results of `request` by the model with these weights, wherever the folder was; `whole` names the
/// job that the request is a part of.
///
/// # Errors
/// A wrong request if the file holds something else.
pub(super) fn is_done<R: Serialize + DeserializeOwned>(
    request: &R,
    subject: &Subject,
    sha256: &str,
    whole: &str,
) -> Result<bool> {
    let file = &subject.output;
    if !file.exists() {
        return Ok(false);
    }
    let reader = Reader::open(file)?;
    let header = reader.header();
    if header.model_sha256 == sha256 && stored::<R>(&header.config)? == without_model(request)? {
        return Ok(true);
    }
    let expected = format!("a result of this {whole}, or --force");
    Err(Error::request(file.display().to_string(), expected, "a result of another model or request"))
}

/// A stored request without the path of its model.
fn stored<R: Serialize + DeserializeOwned>(config: &str) -> Result<Option<serde_yaml::Value>> {
    match serde_yaml::from_str::<R>(config) {
        Ok(request) => without_model(&request),
        Err(_) => Ok(None),
    }
}

fn without_model<R: Serialize>(request: &R) -> Result<Option<serde_yaml::Value>> {
    let mut value = serde_yaml::to_value(request).map_err(Error::yaml)?;
    if let Some(map) = value.as_mapping_mut() {
        map.remove("model");
    }
    Ok(Some(value))
}
