//! What a file says about itself and about the settings of its run.

use super::asked;
use crate::report::study::{Origin, StepScale};
use crate::store::Reader;

/// What a file says about itself.
pub(super) fn origin(reader: &Reader) -> Origin {
    let header = reader.header();
    Origin {
        file: reader.path().display().to_string(),
        kind: header.kind.name().to_owned(),
        model: header.model.clone(),
        sha256: header.model_sha256.clone(),
        dataset: header.dataset.clone(),
        data: header.data_sha256.clone(),
        limit: asked::limit(header),
        split: header.split.clone(),
        device: header.device.clone(),
        precision: header.precision.clone(),
        seed: header.seed,
        metric: header.metric.clone().unwrap_or_default(),
        version: reader.version().to_owned(),
        libtorch: reader.libtorch().to_owned(),
        config: header.config.clone(),
        samples: reader.samples(),
    }
}

/// A setting of the run: a root attribute. Files of format 1 had few of them, so there also the first key of that name in the stored
/// configuration, below the keys `path`.
pub(super) fn setting(reader: &Reader, path: &[&str], key: &str) -> String {
    let header = reader.header();
    let attribute = path.iter().chain([&key]).copied().collect::<Vec<_>>().join(".");
    match header.extra.get(&attribute) {
        Some(value) => value.clone(),
        None if reader.format() < 2 => find_setting(&header.config, path, key),
        None => String::new(),
    }
}

/// The first text under a key of that name in a YAML document, below the keys `path`; empty if there is none.
fn find_setting(config: &str, path: &[&str], key: &str) -> String {
    fn find(value: &serde_yaml::Value, key: &str) -> Option<String> {
        if let Some(list) = value.as_sequence() {
            return list.iter().find_map(|v| find(v, key));
        }
        let map = value.as_mapping()?;
        if let Some(found) = map.get(key).and_then(|v| v.as_str()) {
            return Some(found.to_owned());
        }
        map.values().find_map(|v| find(v, key))
    }
    let document: serde_yaml::Value = serde_yaml::from_str(config).unwrap_or_default();
    let place = path.iter().try_fold(&document, |value, key| value.as_mapping()?.get(*key));
    place.and_then(|value| find(value, key)).unwrap_or_default()
}

/// The scale of steps along a direction, as named in files.
pub(super) fn step_scale(name: &str) -> StepScale {
    match name {
        "eigen" => StepScale::Eigen,
        "singular" => StepScale::Singular,
        _ => StepScale::Unit,
    }
}
