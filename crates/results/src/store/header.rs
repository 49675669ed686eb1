//! Root attributes: the contents of a result file and the run that made it.

use super::columns::{CHECKSUM, fault};
use super::schema::{FORMAT, FileKind, OLDEST};
use crate::error::{Error, Result, one_of};
use hdf5::File;
use hdf5::types::{TypeDescriptor, VarLenAscii, VarLenUnicode};
use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;
use strum::VariantArray;

/// The run that made a file. Two files with the same header (apart from device and libtorch) hold the same numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The kind of the contents.
    pub kind: FileKind,
    /// The resolved configuration, YAML.
    pub config: String,
    /// Path of the model.
    pub model: String,
    /// SHA-256 of the model's weights, hexadecimal.
    pub model_sha256: String,
    /// Name of the data set.
    pub dataset: String,
    /// SHA-256 of its samples (shape, number, some rows), hexadecimal; empty if no data were read.
    pub data_sha256: String,
    /// The number of samples in the whole run, all shards together; 0 if it is not known.
    pub samples: u64,
    /// `train` or `test`.
    pub split: String,
    /// The device: `cpu`, `cuda:0`.
    pub device: String,
    /// `f32` or `f64`.
    pub precision: String,
    /// Seed of the run.
    pub seed: u64,
    /// The version of the libtorch that computed it; empty if none did.
    pub libtorch: String,
    /// The pullback metric, if one was used.
    pub metric: Option<String>,
    /// Further root attributes, by name.
    pub extra: BTreeMap<String, String>,
}

/// A difference between two runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    /// An attribute, or a key of the request.
    pub name: String,
    pub ours: String,
    pub theirs: String,
}

/// The attributes that every file has; `extra` may not repeat one.
const RESERVED: [&str; 16] = [
    "pullback_format",
    "kind",
    "version",
    "config",
    "model",
    "model_sha256",
    "dataset",
    "data_sha256",
    "samples",
    "split",
    "device",
    "precision",
    "seed",
    "libtorch",
    "metric",
    CHECKSUM,
];

/// The version of this crate, as files name it.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A file's statements about itself.
#[derive(Debug)]
pub(super) struct Stored {
    /// `pullback_format`: at most [`FORMAT`], or 0 in a file that is not finished.
    pub format: i64,
    pub header: Header,
    pub version: String,
}

impl Header {
    /// Model, data and machine in one line, for reports and summaries.
    pub fn provenance(&self) -> String {
        let sha = self.model_sha256.get(..12).unwrap_or(&self.model_sha256);
        let metric = self.metric.as_ref().map(|m| format!(", metric {m}")).unwrap_or_default();
        format!(
            "model {} (sha256 {sha}), data {} ({}), seed {}, {} on {}{metric}",
            self.model, self.dataset, self.split, self.seed, self.precision, self.device
        )
    }

    /// True if the run's samples were drawn from all (`sample` in its request), so that they may have any positions.
    pub(super) fn is_draw(&self) -> bool {
        let request = serde_yaml::from_str::<serde_yaml::Value>(&self.config);
        request.is_ok_and(|request| request.get("sample").is_some_and(|sample| !sample.is_null()))
    }

    /// Every attribute in text: name, value.
    pub(super) fn attributes(&self, version: &str) -> Vec<(String, String)> {
        let own = [
            ("kind", self.kind.name().to_owned()),
            ("version", version.to_owned()),
            ("libtorch", self.libtorch.clone()),
            ("config", self.config.clone()),
            ("model", self.model.clone()),
            ("model_sha256", self.model_sha256.clone()),
            ("dataset", self.dataset.clone()),
            ("data_sha256", self.data_sha256.clone()),
            ("samples", self.samples.to_string()),
            ("split", self.split.clone()),
            ("device", self.device.clone()),
            ("precision", self.precision.clone()),
            ("seed", self.seed.to_string()),
        ];
        let metric = self.metric.iter().map(|m| ("metric".to_owned(), m.clone()));
        let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
        own.chain(metric).chain(self.extra.clone()).collect()
    }

    /// A line for each attribute, by name; checksums are computed over these lines.
    pub(super) fn lines(&self, version: &str) -> String {
        let attributes: BTreeMap<_, _> = self.attributes(version).into_iter().collect();
        attributes.into_iter().map(|(name, value)| format!("{name}={value}\n")).collect()
    }

    /// The checksum of [`Header::lines`], which is the root's checksum in an unfinished file.
    pub(super) fn checksum(&self, version: &str) -> i64 {
        i64::from(crc32fast::hash(self.lines(version).as_bytes()))
    }

    /// What is different in the file of another run: the name of an attribute, or of a key of the request. `None` for the same run, whichever
    /// of its samples are in the file.
    pub fn differs_from(&self, other: &Self) -> Option<String> {
        self.difference(other).map(|difference| difference.name)
    }

    /// The hash of the file behind a path in the request: of `judge` the attribute `judge_sha256`.
    pub(crate) fn contents(&self, key: &str) -> Option<&String> {
        self.extra.get(&format!("{key}_sha256"))
    }

    /// The first difference for which a run's rows may not be in one file with ours; `None` for the same run. The device, the versions of
    /// the program and libtorch, and the spelling of paths do not count: hashes identify weights and data.
    pub(super) fn difference(&self, other: &Self) -> Option<Difference> {
        let none = || "none".to_owned();
        // If the difference is in the request, it is named as there.
        let hashed = |key: &str| self.contents(key).is_some() && other.contents(key).is_some();
        if let Some(asked) = asked_differently(&self.config, &other.config, hashed).filter(|_| self.kind == other.kind)
        {
            return Some(asked);
        }
        let pairs = [
            ("kind", self.kind.to_string(), other.kind.to_string()),
            ("model_sha256", self.model_sha256.clone(), other.model_sha256.clone()),
            ("data_sha256", self.data_sha256.clone(), other.data_sha256.clone()),
            ("samples", self.samples.to_string(), other.samples.to_string()),
            ("split", self.split.clone(), other.split.clone()),
            ("precision", self.precision.clone(), other.precision.clone()),
            ("seed", self.seed.to_string(), other.seed.to_string()),
            ("metric", self.metric.clone().unwrap_or_else(none), other.metric.clone().unwrap_or_else(none)),
        ];
        if let Some((name, ours, theirs)) = pairs.into_iter().find(|(_, ours, theirs)| ours != theirs) {
            return Some(Difference { name: name.to_owned(), ours, theirs });
        }
        // These attributes follow from the request, which was compared already.
        let told = |name: &&String| {
            !FROM_CONFIG
                .iter()
                .any(|known| known == name || ["further.", "attack."].iter().any(|set| name.starts_with(set)))
        };
        let mut names = self.extra.keys().chain(other.extra.keys()).filter(told);
        let name = names.find(|name| self.extra.get(*name) != other.extra.get(*name))?;
        let shown = |extra: &BTreeMap<String, String>| extra.get(name).cloned().unwrap_or_else(none);
        Some(Difference { name: name.clone(), ours: shown(&self.extra), theirs: shown(&other.extra) })
    }

    /// Writes the attributes; the file counts as unfinished until [`set_format`] is called.
    pub(super) fn write(&self, file: &File, path: &Path) -> Result<()> {
        let text = |name: &str, value: &str| -> Result<()> {
            let value = VarLenUnicode::from_str(value)
                .map_err(|_| Error::request(format!("attribute {name}"), "text without NUL", format!("{value:?}")))?;
            let put = || file.new_attr::<VarLenUnicode>().create(name)?.write_scalar(&value);
            put().map_err(|e| fault(path, e))
        };
        let format = || file.new_attr::<i64>().create("pullback_format")?.write_scalar(&0i64);
        format().map_err(|e| fault(path, e))?;
        text("kind", self.kind.name())?;
        text("version", VERSION)?;
        text("config", &self.config)?;
        text("model", &self.model)?;
        text("model_sha256", &self.model_sha256)?;
        text("dataset", &self.dataset)?;
        text("data_sha256", &self.data_sha256)?;
        let samples = || file.new_attr::<u64>().create("samples")?.write_scalar(&self.samples);
        samples().map_err(|e| fault(path, e))?;
        let sum = self.checksum(VERSION);
        let write_sum = || file.new_attr::<i64>().create(CHECKSUM)?.write_scalar(&sum);
        write_sum().map_err(|e| fault(path, e))?;
        text("split", &self.split)?;
        text("device", &self.device)?;
        text("precision", &self.precision)?;
        let seed = || file.new_attr::<u64>().create("seed")?.write_scalar(&self.seed);
        seed().map_err(|e| fault(path, e))?;
        text("libtorch", &self.libtorch)?;
        if let Some(metric) = &self.metric {
            text("metric", metric)?;
        }
        for (name, value) in &self.extra {
            if RESERVED.contains(&name.as_str()) {
                return Err(Error::request(
                    format!("attribute {name}"),
                    "a name of its own",
                    "one that every result file has",
                ));
            }
            text(name, value)?;
        }
        Ok(())
    }

    /// Reads the attributes and checks that they exist.
    pub(super) fn read(file: &File, path: &Path) -> Result<Stored> {
        let shown = path.display();
        let names = file.attr_names().map_err(|e| fault(path, e))?;
        if !names.iter().any(|n| n == "pullback_format") {
            return Err(Error::request(
                shown.to_string(),
                "a pullback result file (root attribute pullback_format)",
                "an HDF5 file without it",
            ));
        }
        let format = number::<i64>(file, path, "pullback_format")?;
        if format != 0 && !(OLDEST..=FORMAT).contains(&format) {
            let expected = format!("{OLDEST} to {FORMAT}");
            return Err(Error::request(format!("{shown}: pullback_format"), expected, format.to_string()));
        }
        let text = |name: &str| attribute(file, path, name);
        let kind = text("kind")?;
        let kind = FileKind::from_str(&kind).map_err(|_| {
            let expected = one_of(FileKind::VARIANTS.iter().map(|kind| kind.name()));
            Error::request(format!("{shown}: kind"), expected, format!("{kind:?}"))
        })?;
        let there = |name: &str| names.iter().any(|n| n == name);
        // Attributes from other tools that are not text are ignored.
        let extra = names
            .iter()
            .filter(|n| !RESERVED.contains(&n.as_str()))
            .filter_map(|n| text(n).ok().map(|value| (n.clone(), value)))
            .collect();
        let header = Header {
            kind,
            config: text("config")?,
            model: text("model")?,
            model_sha256: text("model_sha256")?,
            dataset: text("dataset")?,
            data_sha256: if there("data_sha256") { text("data_sha256")? } else { String::new() },
            samples: if there("samples") { number::<u64>(file, path, "samples")? } else { 0 },
            split: text("split")?,
            device: text("device")?,
            precision: text("precision")?,
            seed: number::<u64>(file, path, "seed")?,
            libtorch: text("libtorch")?,
            metric: there("metric").then(|| text("metric")).transpose()?,
            extra,
        };
        Ok(Stored { format, header, version: text("version")? })
    }
}

/// Further attributes that only repeat parts of `config`, for readers that cannot parse it.
const FROM_CONFIG: [&str; 3] = ["norm", "scale", "goal"];

/// Keys of a stored request that give paths or the part of a run; they are not part of what was asked.
const WHERE: [&str; 3] = ["model", "data", "shard"];

/// The first key in which two stored requests differ, outside [`WHERE`] and those of files whose hashes both have (`judge`, `target`); texts are
/// compared if they are not mappings.
fn asked_differently(a: &str, b: &str, hashed: impl Fn(&str) -> bool) -> Option<Difference> {
    use serde_yaml::Value;
    let mapping = |text: &str| match serde_yaml::from_str::<Value>(text) {
        Ok(Value::Mapping(mapping)) => Some(mapping),
        _ => None,
    };
    let (Some(a), Some(b)) = (mapping(a), mapping(b)) else {
        let other = || "another".to_owned();
        return (a != b).then(|| Difference { name: "config".to_owned(), ours: other(), theirs: other() });
    };
    let key = a.keys().chain(b.keys()).find(|key| {
        let named = key.as_str().is_some_and(|key| WHERE.contains(&key) || hashed(key));
        !named && a.get(key) != b.get(key)
    })?;
    let shown = |value: Option<&Value>| match value {
        None => "none".to_owned(),
        Some(value) => serde_json::to_string(value).unwrap_or_else(|_| "another".to_owned()),
    };
    let name = key.as_str().unwrap_or("config").to_owned();
    Some(Difference { name, ours: shown(a.get(key)), theirs: shown(b.get(key)) })
}

/// The request of a whole run, made from that of one of its shards.
pub(super) fn of_all_shards(config: &str) -> String {
    let whole = || -> Option<String> {
        let mut value: serde_yaml::Value = serde_yaml::from_str(config).ok()?;
        let shard = value.as_mapping_mut()?.get_mut("shard")?;
        *shard = serde_yaml::Value::Null;
        serde_yaml::to_string(&value).ok()
    };
    whole().unwrap_or_else(|| config.to_owned())
}

/// Marks the file as finished.
pub(super) fn set_format(file: &File, path: &Path) -> Result<()> {
    let set = || file.attr("pullback_format")?.write_scalar(&FORMAT);
    set().map_err(|e| fault(path, e))
}

/// A text attribute.
fn attribute(file: &File, path: &Path, name: &str) -> Result<String> {
    let wrong = |found: &str| Error::request(format!("{}: attribute {name}", path.display()), "text", found);
    let attribute = file.attr(name).map_err(|_| wrong("nothing"))?;
    let described = attribute.dtype().and_then(|d| d.to_descriptor()).map_err(|e| fault(path, e))?;
    let bytes = match described {
        _ if !attribute.is_scalar() => return Err(wrong("a list")),
        TypeDescriptor::VarLenUnicode => attribute.read_scalar::<VarLenUnicode>().map(|t| t.as_bytes().to_vec()),
        TypeDescriptor::VarLenAscii => attribute.read_scalar::<VarLenAscii>().map(|t| t.as_bytes().to_vec()),
        other => return Err(wrong(&other.to_string())),
    };
    String::from_utf8(bytes.map_err(|e| fault(path, e))?).map_err(|_| wrong("bytes that are not UTF-8"))
}

/// An integer attribute. HDF5 would clamp a value that does not fit, so it is read in the widest types.
fn number<T: TryFrom<i128>>(file: &File, path: &Path, name: &str) -> Result<T> {
    let wrong = |found: &str| Error::request(format!("{}: attribute {name}", path.display()), "an integer", found);
    let attribute = file.attr(name).map_err(|_| wrong("nothing"))?;
    if !attribute.is_scalar() {
        return Err(wrong("a list"));
    }
    let described = attribute.dtype().and_then(|d| d.to_descriptor()).map_err(|e| fault(path, e))?;
    let value = match described {
        TypeDescriptor::Integer(_) => attribute.read_scalar::<i64>().map(i128::from),
        TypeDescriptor::Unsigned(_) => attribute.read_scalar::<u64>().map(i128::from),
        other => return Err(wrong(&other.to_string())),
    };
    let value = value.map_err(|e| fault(path, e))?;
    T::try_from(value).map_err(|_| wrong(&value.to_string()))
}
