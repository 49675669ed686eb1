//! Whether a result already exists for this request, by a model with these weights.

use super::job::Subject;
use crate::error::{Error, Result};
use crate::store::{Overwrite, Reader};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_yaml::Value;

/// True if the subject's file holds the results of `request` by the model with these weights, wherever the folder was; `whole` names the
/// job that the request is a part of. A file that may be replaced, and is of other samples alone, is none.
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
    // A request that cannot be read is another one.
    let there = match serde_yaml::from_str::<R>(&header.config) {
        Ok(stored) => Some(serde_yaml::to_value(&stored).map_err(Error::yaml)?),
        Err(_) => None,
    };
    let asked = serde_yaml::to_value(request).map_err(Error::yaml)?;
    let alike = |left_out: &[&str]| {
        let same = there.as_ref().is_some_and(|there| without(there, left_out) == without(&asked, left_out));
        same && header.model_sha256 == sha256
    };
    if alike(&[MODEL]) {
        return Ok(true);
    }
    if subject.overwrite == Overwrite::Yes && alike(&[MODEL, LIMIT]) {
        return Ok(false);
    }
    let expected = format!("a result of this {whole}, or --force");
    Err(Error::request(file.display().to_string(), expected, "a result of another model or request"))
}

/// Keys of a request: the path of its model, and the number of samples from the first.
const MODEL: &str = "model";
const LIMIT: &str = "limit";

/// A request without these keys.
fn without(request: &Value, keys: &[&str]) -> Value {
    let mut request = request.clone();
    if let Some(map) = request.as_mapping_mut() {
        for key in keys {
            map.remove(*key);
        }
    }
    request
}
