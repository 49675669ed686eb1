//! The YAML as a tree: read, overridden by `--set` and by flags, then parsed into a typed config.
//!
//! Overrides edit the tree before the typed parse, so that a flag, `--set` and the file pass the same checks. An error names the file and
//! key path, or the flag or `--set` that set the value.

use crate::error::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_yaml::{Mapping, Value};
use std::io::ErrorKind;
use std::path::Path;

/// One edit of the tree, and the flag that asked for it.
#[derive(Clone, Debug)]
struct Override {
    /// Key path in dots: `train.epochs`.
    path: String,
    /// The name of this key in errors: `--set train.epochs`, `--eps`.
    label: String,
}

/// A YAML document before it becomes a typed config.
#[derive(Clone, Debug)]
pub struct Tree {
    root: Value,
    origin: String,
    overrides: Vec<Override>,
}

impl Default for Tree {
    fn default() -> Self {
        Self { root: Value::Mapping(Mapping::new()), origin: "config".to_owned(), overrides: Vec::new() }
    }
}

impl Tree {
    /// Reads a YAML file.
    pub fn read(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|e| match e.kind() {
            ErrorKind::NotFound => Error::request(&name, "a YAML file", "no such file"),
            ErrorKind::IsADirectory => Error::request(&name, "a YAML file", "a folder"),
            _ => Error::io(path, e),
        })?;
        let text = String::from_utf8(bytes).map_err(|e| {
            let at = e.utf8_error().valid_up_to();
            Error::request(&name, "YAML text in UTF-8", format!("another byte at offset {at}"))
        })?;
        Self::text(&name, &text)
    }

    /// Parses YAML text; `origin` is its name in errors.
    pub fn text(origin: &str, text: &str) -> Result<Self> {
        let root: Value =
            serde_yaml::from_str(text).map_err(|e| Error::request(origin, "YAML", e.to_string().replace('\n', " ")))?;
        let root = match root {
            Value::Null => Value::Mapping(Mapping::new()),
            Value::Mapping(_) => root,
            other => return Err(Error::request(origin, "keys with values", show(&other))),
        };
        Ok(Self { root, origin: origin.to_owned(), overrides: Vec::new() })
    }

    /// A typed value as a tree.
    pub fn of(origin: &str, value: &impl Serialize) -> Result<Self> {
        let root = serde_yaml::to_value(value)
            .map_err(|e| Error::request(origin, "a value that YAML can hold", e.to_string()))?;
        Ok(Self { root, origin: origin.to_owned(), overrides: Vec::new() })
    }

    /// Applies `key.path=value` as typed after `--set`; the value is YAML, and places in a list are `attacks.0` or `attacks[0]`.
    pub fn set(&mut self, assignment: &str) -> Result<()> {
        let Some((path, text)) = assignment.split_once('=') else {
            return Err(Error::request("--set", "key.path=value", format!("{assignment:?}")));
        };
        let typed = path.trim();
        let label = format!("--set {typed}");
        // `attacks[0]` is `attacks.0`.
        let path = &typed.replace('[', ".").replace(']', "");
        if path.is_empty() || path.split('.').any(str::is_empty) {
            return Err(Error::request("--set", "key.path=value", format!("{assignment:?}")));
        }
        let value: Value = serde_yaml::from_str(text)
            .map_err(|e| Error::request(&label, "a YAML value", e.to_string().replace('\n', " ")))?;
        self.insert(path, &label, value)
    }

    /// Sets `path` to the value of the flag `label`.
    pub fn put(&mut self, label: &str, path: &str, value: &impl Serialize) -> Result<()> {
        let value = serde_yaml::to_value(value)
            .map_err(|e| Error::request(label, "a value that YAML can hold", e.to_string()))?;
        self.insert(path, label, value)
    }

    /// The value at `path`, if there is one.
    pub fn get(&self, path: &str) -> Option<&Value> {
        path.split('.').try_fold(&self.root, |at, key| match at {
            Value::Mapping(map) => map.get(key),
            Value::Sequence(list) => list.get(key.parse::<usize>().ok()?),
            _ => None,
        })
    }

    /// The first key path, in this tree's order, whose value differs in `other`.
    pub fn difference(&self, other: &Self) -> Option<String> {
        differ(&self.root, &other.root, "")
    }

    fn insert(&mut self, path: &str, label: &str, value: Value) -> Result<()> {
        let mut at = &mut self.root;
        let mut seen = String::new();
        for key in path.split('.') {
            if at.is_null() {
                *at = Value::Mapping(Mapping::new());
            }
            at = match at {
                Value::Mapping(map) => map.entry(Value::String(key.to_owned())).or_insert(Value::Null),
                Value::Sequence(list) => {
                    let len = list.len();
                    let slot = key.parse::<usize>().ok().and_then(|i| list.get_mut(i));
                    let wanted = || format!("an index below {len} into {seen}");
                    slot.ok_or_else(|| Error::request(label, wanted(), format!("{key:?}")))?
                }
                other => {
                    return Err(Error::request(label, format!("{seen} to hold keys"), show(other)));
                }
            };
            if !seen.is_empty() {
                seen.push('.');
            }
            seen.push_str(key);
        }
        *at = value;
        self.overrides.push(Override { path: path.to_owned(), label: label.to_owned() });
        Ok(())
    }

    /// The typed config; unknown keys, wrong types and values out of range are wrong requests.
    ///
    /// `check` tests ranges; the subject of its errors is a key path (`train.lr`), which is completed here.
    pub fn parse<T: DeserializeOwned>(&self, check: impl Fn(&T) -> Result<()>) -> Result<T> {
        let value = match deserialize::<T>(&self.root) {
            Ok(value) => value,
            Err((path, message)) => return Err(self.explain::<T>(path, &message)),
        };
        check(&value).map_err(|e| match e {
            Error::Request { subject, expected, found } => Error::request(self.subject(&subject), expected, found),
            other => other,
        })?;
        Ok(value)
    }

    /// Names the place of a failed parse.
    fn explain<T: DeserializeOwned>(&self, path: String, message: &str) -> Error {
        if let Some(key) = message.strip_prefix("missing field `") {
            let expected = format!("the key {}", key.trim_end_matches('`'));
            return Error::request(self.subject(&path), expected, "no such key");
        }
        let path = self.localise::<T>(path, message);
        if let Some((key, expected)) = unknown(message) {
            let inside = path.rsplit('.').next() == Some(key);
            let path = match path.as_str() {
                "" => key.to_owned(),
                _ if inside => path,
                _ => format!("{path}.{key}"),
            };
            return Error::request(self.culprit(&path), expected, format!("unknown key {key:?}"));
        }
        let found = self.get(&path).map(show);
        let (expected, given) = reword(message);
        let expected = self.variants::<T>(&path).unwrap_or(expected);
        Error::request(self.culprit(&path), expected, found.unwrap_or(given))
    }

    /// A tagged enum is parsed from a buffer, which loses the path below it: finds the key within `path` whose
    /// removal makes this error go away.
    fn localise<T: DeserializeOwned>(&self, path: String, message: &str) -> String {
        let here = if path.is_empty() { Some(&self.root) } else { self.get(&path) };
        let Some(Value::Mapping(map)) = here else { return path };
        let keys: Vec<String> =
            map.keys().filter_map(|k| k.as_str().map(str::to_owned)).filter(|k| k != "kind").collect();
        for key in keys {
            let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let mut probe = self.clone();
            probe.remove(&path, &key);
            let same = matches!(deserialize::<T>(&probe.root), Err((_, m)) if m == message);
            if !same {
                return below;
            }
        }
        path
    }

    /// The words among which the value at `path` is one, if it is of such a kind: serde lists them only where it finds another word there.
    fn variants<T: DeserializeOwned>(&self, path: &str) -> Option<String> {
        let mut probe = self.clone();
        *probe.get_mut(path)? = Value::String(String::new());
        let (_, message) = deserialize::<T>(&probe.root).err()?;
        message.starts_with("unknown variant ``, expected ").then(|| reword(&message).0)
    }

    fn get_mut(&mut self, path: &str) -> Option<&mut Value> {
        let start = Some(&mut self.root);
        path.split('.').filter(|part| !part.is_empty()).fold(start, |at, part| match at? {
            Value::Mapping(map) => map.get_mut(part),
            Value::Sequence(list) => list.get_mut(part.parse::<usize>().ok()?),
            _ => None,
        })
    }

    fn remove(&mut self, parent: &str, key: &str) {
        if let Some(Value::Mapping(map)) = self.get_mut(parent) {
            map.remove(key);
        }
    }

    /// As [`Tree::subject`], but an override below `path` counts too, since it changed the value at `path`.
    fn culprit(&self, path: &str) -> String {
        let below = |o: &&Override| o.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
        self.overrides.iter().rev().find(below).map_or_else(|| self.subject(path), |o| o.label.clone())
    }

    /// What an error about `path` names: the flag or `--set` that set it, or file and key.
    fn subject(&self, path: &str) -> String {
        let path = &path.replace('[', ".").replace(']', "");
        let covers = |o: &&Override| *path == o.path || path.strip_prefix(&o.path).is_some_and(|r| r.starts_with('.'));
        match self.overrides.iter().rev().find(covers) {
            Some(o) => o.label.clone(),
            None if path.is_empty() => self.origin.clone(),
            None => format!("{}: {path}", self.origin),
        }
    }
}

fn differ(a: &Value, b: &Value, path: &str) -> Option<String> {
    let (Value::Mapping(left), Value::Mapping(right)) = (a, b) else {
        return (a != b).then(|| path.to_owned());
    };
    let keys = left.keys().chain(right.keys().filter(|k| !left.contains_key(*k)));
    keys.filter_map(Value::as_str).find_map(|key| {
        let below = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        let of = |map: &Mapping| map.get(key).cloned().unwrap_or(Value::Null);
        differ(&of(left), &of(right), &below)
    })
}

/// Parses, or returns the dotted path where it failed, and the reason.
fn deserialize<T: DeserializeOwned>(root: &Value) -> Result<T, (String, String)> {
    serde_path_to_error::deserialize(root.clone()).map_err(|e| {
        let path = e.path().to_string().replace('[', ".").replace(']', "");
        let path = if path == "." { String::new() } else { path };
        (path, e.into_inner().to_string().replace('\n', " "))
    })
}

/// A value as errors show it.
fn show(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => n.to_string(),
        Value::String(s) => format!("{s:?}"),
        Value::Sequence(_) => "a list".to_owned(),
        Value::Mapping(_) => "keys with values".to_owned(),
        Value::Tagged(t) => format!("the tag {}", t.tag),
    }
}

/// serde's message about an unknown key: the key, and the keys that are known.
fn unknown(message: &str) -> Option<(&str, String)> {
    let (key, rest) = message.strip_prefix("unknown field `")?.split_once('`')?;
    let known = rest.trim_start_matches(", ").replace("expected ", "").replace('`', "");
    let none = known.is_empty() || known == "there are no fields";
    Some((key, if none { "no further key".to_owned() } else { known }))
}

/// serde's message in our wording: (expected, found).
fn reword(message: &str) -> (String, String) {
    let wanted = |text: &str| match text {
        "f32" | "f64" => "a number".to_owned(),
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number >= 0".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a string" => "text".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "keys with values".to_owned(),
        other if other.starts_with("struct ") => "keys with values".to_owned(),
        other if other.contains("enum ") => "keys with values and a `kind`".to_owned(),
        other => other.replace('`', ""),
    };
    for prefix in ["invalid type: ", "invalid value: ", "invalid length "] {
        if let Some((found, expected)) = message.strip_prefix(prefix).and_then(|m| m.rsplit_once(", expected ")) {
            return (wanted(expected), found.replace('`', ""));
        }
    }
    if let Some((found, expected)) = message.strip_prefix("unknown variant ").and_then(|m| m.split_once(", expected "))
    {
        return (expected.replace('`', ""), found.replace('`', "\""));
    }
    if message.starts_with("data did not match any variant") {
        return ("another kind of value".to_owned(), message.to_owned());
    }
    // The text of our own Error: `subject: expected X, found Y`.
    if let Some((expected, found)) = message.split_once("expected ").and_then(|(_, m)| m.rsplit_once(", found ")) {
        return (expected.to_owned(), found.to_owned());
    }
    ("a value that fits".to_owned(), message.to_owned())
}
