//! Whether a result already exists for this request, by a model with these weights, of the data as they are.

use super::job::Subject;
use crate::data;
use crate::error::{Error, Result};
use crate::store::{Overwrite, Reader};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_yaml::Value;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Fingerprints of the data as they are, each taken once: the results of a study are many, and of the same data.
#[derive(Default)]
pub(super) struct Fingerprints(Mutex<HashMap<String, Option<String>>>);

impl Fingerprints {
    /// That of a subject's data; `None` where they are not at hand.
    fn of(&self, subject: &Subject) -> Result<Option<String>> {
        let Subject { data, split, limit, reading, .. } = subject;
        let key = format!("{data:?} {split:?} {limit:?} {reading:?}");
        // Whoever needs the same waits for it.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(&key) {
            return Ok(known.clone());
        }
        let source = data::open_as(data, *split, *limit, reading).ok();
        let print = source.map(|source| data::fingerprint(source.as_ref())).transpose()?;
        known.insert(key, print.clone());
        Ok(print)
    }
}

/// True if the subject's file holds the results of `request` by the model with these weights, wherever the folder was, of data with these
/// contents; `whole` names the job that the request is a part of. A file that may be replaced, and is of other samples alone, is none.
///
/// # Errors
/// A wrong request if the file holds something else.
pub(super) fn is_done<R: Serialize + DeserializeOwned>(
    request: &R,
    subject: &Subject,
    sha256: &str,
    whole: &str,
    prints: &Fingerprints,
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
    let same = alike(&[MODEL]);
    // Results stay valid where the data are no longer at hand.
    if same && prints.of(subject)?.is_none_or(|now| now == header.data_sha256) {
        return Ok(true);
    }
    if subject.overwrite == Overwrite::Yes && alike(&[MODEL, LIMIT]) {
        return Ok(false);
    }
    let expected = format!("a result of this {whole}, or --force");
    let found = if same { "a result of other data" } else { "a result of another model or request" };
    Err(Error::request(file.display().to_string(), expected, found))
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::{HandOut, Precision};
    use crate::data::{Reading, Split};
    use crate::device::DeviceChoice;
    use crate::jacobian::BatchSize;
    use crate::model::Interface;
    use crate::store::{Block, Column, FileKind, Header, Values, Writer};
    use std::path::Path;

    /// Six pictures of 4 x 4 as a NumPy file.
    fn pictures(path: &Path, least: u8) {
        let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (6, 4, 4), }\n";
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend((0..96u8).map(|pixel| pixel + least));
        std::fs::write(path, bytes).unwrap();
    }

    #[test]
    fn a_result_of_data_that_have_changed_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("x.npy");
        pictures(&data, 0);
        let subject = Subject {
            model: "m.pt".into(),
            data: data.display().to_string(),
            split: Split::default(),
            limit: None,
            sample: None,
            reading: Reading::default(),
            interface: Interface::default(),
            shard: None,
            precision: Precision::default(),
            seed: 0,
            device: DeviceChoice::default(),
            batch: BatchSize::default(),
            output: folder.path().join("s.h5"),
            overwrite: Overwrite::No,
            hand_out: HandOut::default(),
        };
        let weights = "5e".repeat(32);
        let is_done = || is_done(&subject, &subject, &weights, "sweep", &Fingerprints::default());
        assert!(!is_done().unwrap());
        let source = data::open_as(&subject.data, subject.split, subject.limit, &subject.reading).unwrap();
        let header = Header {
            kind: FileKind::Scores,
            config: serde_yaml::to_string(&subject).unwrap(),
            model: "m.pt".to_owned(),
            model_sha256: weights.clone(),
            dataset: source.name().to_owned(),
            data_sha256: data::fingerprint(source.as_ref()).unwrap(),
            split: "test".to_owned(),
            device: "cpu".to_owned(),
            precision: "f32".to_owned(),
            ..Header::default()
        };
        let mut writer = Writer::create(&subject.output, &header, 1, &[], Overwrite::No).unwrap();
        let values = Values::F64(vec![2.0, 1.0]);
        let column = Column { path: "/spectrum/eigenvalues".to_owned(), shape: vec![1, 2], sample_axis: 0, values };
        writer.put(&Block { index: vec![0], labels: None, columns: vec![column] }).unwrap();
        writer.finish().unwrap();
        assert!(is_done().unwrap());
        pictures(&data, 1);
        let error = is_done().unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains("a result of other data"), "{error}");
        pictures(&data, 0);
        assert!(is_done().unwrap());
        std::fs::remove_file(&data).unwrap();
        assert!(is_done().unwrap());
        // One look at the data is enough for all results of a scan, and each part of them has its own.
        let prints = Fingerprints::default();
        pictures(&data, 0);
        let first = prints.of(&subject).unwrap();
        pictures(&data, 1);
        assert_eq!(prints.of(&subject).unwrap(), first);
        assert_ne!(prints.of(&Subject { limit: Some(3), ..subject.clone() }).unwrap(), first);
    }
}
