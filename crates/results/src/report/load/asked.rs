//! The request behind an attack file: two files are of one experiment only if both asked the same question.

use crate::report::words;
use crate::store::{Header, Reader};
use serde_yaml::{Mapping, Value};
use std::collections::BTreeMap;

/// Keys that say where things lie, which samples and attacks are in the file, and what a trial holds by itself.
const LEFT_OUT: [&str; 14] = [
    "model",
    "data",
    "split",
    "limit",
    "sample",
    "shard",
    "output",
    "images",
    "attacks",
    "norm",
    "eps",
    "metric",
    "spectrum",
    "precision",
];

/// What was asked for, apart from the attacks, the samples and the sizes: keys of the stored request and their values.
pub(super) fn asked(header: &Header) -> BTreeMap<String, String> {
    let Ok(Value::Mapping(request)) = serde_yaml::from_str(&header.config) else { return BTreeMap::new() };
    let text = |value: &Value| serde_json::to_string(value).unwrap_or_default();
    let keys = request.iter().filter_map(|(key, value)| Some((key.as_str()?, value)));
    let mut found: BTreeMap<String, String> = keys
        .filter(|(key, value)| !LEFT_OUT.contains(key) && !value.is_null())
        .map(|(key, value)| (key.to_owned(), text(value)))
        .collect();
    // The seed is an attack's own, but for targets that it draws.
    if target_of(&request) != Some("shuffle") {
        found.remove("seed");
    }
    for (key, value) in &mut found {
        // The same file may have been given by another path.
        if let Some(hash) = header.contents(key) {
            value.clone_from(hash);
        }
    }
    found
}

/// The settings of one attack in the request, in one text; empty if the file does not say. The parts of an attack have its settings.
pub(super) fn of_attack(header: &Header, name: &str) -> String {
    let kind = match name {
        part if words::direction(part).is_some() => "spectral",
        part if part.starts_with("suite-") => "suite",
        own => own,
    };
    let request: Value = serde_yaml::from_str(&header.config).unwrap_or_default();
    let attacks = request.get("attacks").and_then(Value::as_sequence);
    let settings = attacks.and_then(|all| all.iter().find(|a| a.get("kind").and_then(Value::as_str) == Some(kind)));
    settings.and_then(|settings| serde_json::to_string(settings).ok()).unwrap_or_default()
}

fn target_of(request: &Mapping) -> Option<&str> {
    request.get("target")?.as_str()
}

/// The number of samples from the first that a run was limited to, as its request says.
pub(super) fn limit(header: &Header) -> Option<u64> {
    serde_yaml::from_str::<Value>(&header.config).ok()?.get("limit")?.as_u64()
}

/// How the model was read, in words: "input range -1,1, posterior logstd".
pub(super) fn interface(header: &Header) -> String {
    let request: Value = serde_yaml::from_str(&header.config).unwrap_or_default();
    let Some(keys) = request.get("interface").and_then(Value::as_mapping) else {
        return "default interface".to_owned();
    };
    let word = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Sequence(list) => list.iter().map(number).collect::<Vec<_>>().join(","),
        _ => String::new(),
    };
    let each = keys.iter().filter_map(|(key, value)| Some((key.as_str()?.replace('_', " "), word(value))));
    each.filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| format!("{key} {value}"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// A number as YAML has it.
fn number(value: &Value) -> String {
    value.as_f64().map_or_else(String::new, |number| number.to_string())
}

/// What may distinguish a file's request from others of its model, in words; empty where the file does not say.
pub(super) fn aspects(reader: &Reader) -> [String; 7] {
    let config: Value = serde_yaml::from_str(&reader.header().config).unwrap_or_default();
    let text = |key: &str| match config.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Sequence(list)) => list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
        _ => String::new(),
    };
    let worded = |key: &str, none: &str, some: &dyn Fn(&str) -> String| match text(key).as_str() {
        "" => none.to_owned(),
        value => some(value),
    };
    [
        worded("through", "undefended", &|defences| format!("through {defences}")),
        worded("target", "away from the image", &|target| match target {
            "zero" => "towards code 0".to_owned(),
            "shuffle" => "towards other images".to_owned(),
            at if at.bytes().all(|b| b.is_ascii_digit()) => format!("towards image {at}"),
            file => format!("towards {}", words::dataset(file)),
        }),
        worded("eot", "at the mean code", &|draws| format!("over {draws} draws of the code")),
        worded("box", "", &|on| format!("box {on}")),
        worded("judge", "", &|file| format!("judged by {}", words::model(file))),
        worded("layers", "", &|layers| format!("layers {layers}")),
        match config.get("rounded").and_then(Value::as_bool) {
            Some(true) => "rounded to 8 bits".to_owned(),
            _ => String::new(),
        },
    ]
}
