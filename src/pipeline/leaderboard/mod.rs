//! `leaderboard`: the suite's results on several models, as one table that others can extend.
//!
//! An entry states what a comparison needs: suite, norm, sizes, goal, setting and data. Entries that agree in these share a table, in which the
//! same weights, read alike and with the same seed, stand once. JSON that this command wrote is an input as well, so that a table can be
//! extended without its models.

mod entry; //  one model's numbers
mod number; // numbers of JSON, which has no word for NaN
mod page; //   tables as Markdown and HTML
mod table; //  what compares with what, and in which order

pub use entry::Entry;

use super::AttackRequest;
use crate::config::{PixelBox, Precision, Target};
use crate::correlate::{Bootstrap, interval};
use crate::error::{Error, Result, one_of};
use crate::event::Observer;
use crate::metric::MetricKind;
use crate::model::Interface;
use crate::report;
use crate::report::stats;
use crate::store::{FileKind, Overwrite, Reader};
use entry::{TOWARDS, short};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The attack whose result counts.
const SUITE: &str = "suite";

/// Writes the leaderboard of `inputs` (attack files with the suite, JSON of this command) to `output`, whose extension sets the format. The
/// observer hears of entries that newer ones replace.
///
/// # Errors
/// A wrong request if an input is none of these, or the output exists already.
pub fn leaderboard(inputs: &[PathBuf], output: &Path, overwrite: Overwrite, observer: &dyn Observer) -> Result<()> {
    let form = output.extension().and_then(|e| e.to_str()).unwrap_or_default();
    let forms = ["html", "md", "json"];
    if !forms.contains(&form) {
        let expected = format!("a file that ends in {}", one_of([".html", ".md", ".json"]));
        return Err(Error::request(output.display().to_string(), expected, format!("{form:?}")));
    }
    let mut entries = vec![];
    for input in inputs {
        entries.extend(read(input)?);
    }
    for entry in entries.iter_mut().filter(|entry| !entry.has_area()) {
        // Entries of before have one from damage 0.
        entry.area = [f64::NAN; 3];
    }
    let tables = table::tables(entries, observer);
    let text = match form {
        "json" => {
            let all: Vec<&Entry> = tables.iter().flatten().collect();
            serde_json::to_string_pretty(&all).map_err(|e| Error::internal("leaderboard", e.to_string()))? + "\n"
        }
        "md" => page::markdown(&tables),
        _ => page::html(&tables),
    };
    Ok(report::publish(&text, output, overwrite)?)
}

fn read(path: &Path) -> Result<Vec<Entry>> {
    if path.extension().is_some_and(|e| e == "json") {
        let text = Error::read_text(path)?;
        return serde_json::from_str(&text).map_err(|e| {
            Error::request(path.display().to_string(), "entries that `pullback leaderboard` wrote", e.to_string())
        });
    }
    Ok(vec![of(&Reader::open(path)?)?])
}

/// The entry of an attack file.
fn of(reader: &Reader) -> Result<Entry> {
    let header = reader.header();
    let shown = reader.path().display().to_string();
    let wrong = |found: String| Error::request(&shown, "an attack file with the suite (--attack suite)", found);
    if header.kind != FileKind::Attack {
        return Err(wrong(format!("a {} file", header.kind.name())));
    }
    if !reader.attacks().iter().any(|name| name == SUITE) {
        return Err(wrong(reader.attacks().join(", ")));
    }
    if (reader.samples() as u64) < header.samples {
        let found = format!("{} samples of {}: a part, which `pullback merge` joins", reader.samples(), header.samples);
        return Err(wrong(found));
    }
    let request: AttackRequest = serde_yaml::from_str(&header.config).map_err(Error::yaml)?;
    let (_, eps) = reader.read_f64("/eps")?;
    let mut order: Vec<usize> = (0..eps.len()).collect();
    order.sort_by(|a, b| eps[*a].total_cmp(&eps[*b]));
    let rows = |path: &str| -> Result<Vec<Vec<f64>>> {
        let (_, values) = reader.read_f64(path)?;
        let width = (values.len() / eps.len().max(1)).max(1);
        Ok(order.iter().filter_map(|i| values.chunks(width).nth(*i)).map(<[f64]>::to_vec).collect())
    };
    let damage = rows(&format!("/damage/{SUITE}"))?;
    let recon = rows(&format!("/attack/{SUITE}/recon_mse"))?;
    let eps: Vec<f64> = order.iter().map(|i| eps[*i]).collect();
    let (_, clean) = reader.read_f64("/clean/recon_mse")?;
    let most = |path: String| -> Result<f64> { Ok(reader.read_f64(&path)?.1.into_iter().fold(0.0, f64::max)) };
    let area: Vec<f64> = (0..reader.samples()).map(|i| stats::area(&eps, |e| damage[e][i])).collect();
    let is_lost = |i: &usize| damage.iter().any(|values| !values[*i].is_finite());
    let intervals: Result<Vec<_>> = damage.iter().map(|values| interval_of(values, header.seed)).collect();
    Ok(Entry {
        model: header.model.clone(),
        model_sha256: header.model_sha256.clone(),
        interface: told_interface(&request.subject.interface),
        dataset: header.dataset.clone(),
        data_sha256: header.data_sha256.clone(),
        samples: reader.samples() as u64,
        lost: Some((0..reader.samples()).filter(is_lost).count() as u64),
        suite: header.extra.get(SUITE).cloned().unwrap_or_else(|| SUITE.to_owned()),
        norm: request.norm.to_string(),
        goal: request.attacks.iter().find(|a| a.name() == SUITE).map(|a| a.goal().to_string()).unwrap_or_default(),
        setting: setting(&request, &header.extra),
        damage: intervals?,
        recon_mse: recon.iter().map(|values| mean(values)).collect(),
        clean_mse: mean(&clean),
        area: interval_of(&area, header.seed)?,
        passes: [most(format!("/passes/{SUITE}/forward"))?, most(format!("/passes/{SUITE}/backward"))?],
        seed: header.seed,
        version: reader.version().to_owned(),
        eps,
    })
}

/// The settings of a run, beside norm, sizes and goal, without which its numbers do not compare; `extra` are its file's further attributes.
fn setting(request: &AttackRequest, extra: &BTreeMap<String, String>) -> String {
    let known = |name: &str| extra.get(name).map(|value| short(value));
    let hash = |name: &str| known(name).map_or_else(String::new, |hash| format!(" ({hash})"));
    let mut told = vec![];
    told.extend(request.target.as_ref().map(|target| match target {
        Target::File(_) => format!("{TOWARDS}image{}", hash("target_sha256")),
        Target::Code(_) => format!("{TOWARDS}codes{}", hash("target_sha256")),
        target => format!("{TOWARDS}{target}"),
    }));
    told.extend(request.eot.map(|draws| format!("{draws} draws of the code")));
    told.extend(request.through.iter().map(|defence| format!("through {defence}")));
    told.extend(request.judge.as_ref().map(|judge| {
        // One that is a function has a name that tells it apart.
        let judge = known("judge_sha256").unwrap_or_else(|| judge.display().to_string());
        let of = if request.judge_reads.is_default() { "reconstruction" } else { "latent" };
        format!("judge of the {of} ({judge})")
    }));
    if !request.layers.is_empty() {
        told.push(format!("layers {}", request.layers.join(", ")));
    }
    if request.metric != MetricKind::default() {
        told.push(format!("directions of the metric {}", request.metric));
    }
    told.extend(changed(&request.spectrum).into_iter().map(|(key, value)| format!("spectrum.{key} {value}")));
    if request.subject.precision != Precision::default() {
        told.push(request.subject.precision.to_string());
    }
    if request.pixels == PixelBox::Off {
        told.push("no box".to_owned());
    }
    if request.rounded {
        told.push("8-bit images".to_owned());
    }
    if let Some(drawn) = request.subject.sample {
        told.push(format!("{drawn} samples drawn by seed {}", request.subject.seed));
    }
    told.join("; ")
}

/// How a model is read, where that is not the default, as it is typed: "input range -1,1; posterior logstd".
fn told_interface(interface: &Interface) -> String {
    let typed = |list: &str| -> String {
        let numbers = list.trim_matches(['[', ']']).split(',');
        numbers.map(|number| number.strip_suffix(".0").unwrap_or(number)).collect::<Vec<_>>().join(",")
    };
    let keys =
        changed(interface).into_iter().map(|(key, value)| format!("{} {}", key.replace('_', " "), typed(&value)));
    keys.collect::<Vec<_>>().join("; ")
}

/// The keys of some settings that are not the default, with their values.
fn changed<T: Serialize + Default>(spec: &T) -> BTreeMap<String, String> {
    let values = |spec: &T| -> BTreeMap<String, String> {
        match serde_json::to_value(spec) {
            Ok(Value::Object(map)) => map.into_iter().map(|(key, value)| (key, text(&value))).collect(),
            _ => BTreeMap::new(),
        }
    };
    let default = values(&T::default());
    values(spec).into_iter().filter(|(key, value)| default.get(key) != Some(value)).collect()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The mean of the values that are numbers.
fn mean(values: &[f64]) -> f64 {
    let known: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    known.iter().sum::<f64>() / known.len() as f64
}

/// The mean and its bootstrap interval.
fn interval_of(values: &[f64], seed: u64) -> Result<[f64; 3]> {
    let known: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    let statistic = |(): &mut (), counts: &[u32]| {
        known.iter().zip(counts).map(|(v, n)| v * f64::from(*n)).sum::<f64>() / known.len() as f64
    };
    let found = interval(known.len(), &Bootstrap { resamples: 2000, ..Bootstrap::default() }, seed, || (), statistic)?;
    Ok([found.value, found.lower, found.upper])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_the_attack_is_a_setting() {
        let of = |more: &str| {
            let common =
                "model: m, data: d, split: test, limit: 8, shard: null, seed: 0, attacks: [{kind: suite}], norm: l2";
            let text = format!("{{{common}, eps: [1.0], box: on, images: no, {more}}}");
            setting(&serde_yaml::from_str(&text).unwrap(), &BTreeMap::new())
        };
        assert_eq!(of("metric: stochastic, precision: f32"), "");
        assert_eq!(
            of("metric: mean, precision: f64, spectrum: {mode: top, pairs: 3}"),
            "directions of the metric mean; spectrum.mode top; spectrum.pairs 3; f64"
        );
    }

    #[test]
    fn how_a_model_is_read_is_told() {
        assert_eq!(told_interface(&Interface::default()), "");
        let read = "{input_range: [-1, 1], posterior: logstd, outputs: [1, 2]}";
        let told = told_interface(&serde_yaml::from_str(read).unwrap());
        assert_eq!(told, "input range -1,1; outputs 1,2; posterior logstd");
    }
}
