//! `leaderboard`: the suite's results on several models, as one table that others can extend.
//!
//! An entry states what a comparison needs: suite, norm, sizes, goal, setting and data. Entries that agree in these share a table. JSON that this
//! command wrote is an input as well, so that a table can be extended without its models.

use super::AttackRequest;
use crate::config::{PixelBox, Precision, Target};
use crate::correlate::{Bootstrap, interval};
use crate::error::{Error, Result, one_of};
use crate::metric::MetricKind;
use crate::report;
use crate::report::markup::{Element, element};
use crate::report::stats;
use crate::spectrum::SpectrumSpec;
use crate::store::{FileKind, Overwrite, Reader};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The attack whose result counts.
const SUITE: &str = "suite";

/// The suite's numbers on one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its file, under the name that the user gave.
    pub model: String,
    /// SHA-256 of its weights.
    pub model_sha256: String,
    /// Name of the data set.
    pub dataset: String,
    /// SHA-256 of the data.
    pub data_sha256: String,
    /// How many samples.
    pub samples: u64,
    /// The suite and its version.
    pub suite: String,
    /// The norm of the perturbations.
    pub norm: String,
    /// The goal that was increased.
    pub goal: String,
    /// What else a comparison needs, where it is not the default: target, draws, defences, judge, layers, metric and spectrum of the
    /// directions, precision, box, the samples' choice.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub setting: String,
    /// Sizes of the perturbations, ascending.
    pub eps: Vec<f64>,
    /// The goal's value at each size, mean over the samples, with its 95 % interval.
    pub damage: Vec<[f64; 3]>,
    /// Mean error of the attacked reconstruction against x, at each size.
    pub recon_mse: Vec<f64>,
    /// The same without an attack.
    pub clean_mse: f64,
    /// Area under the mean damage over epsilon from 0, divided by the largest epsilon, with its 95 % interval.
    pub area: [f64; 3],
    /// Forward and backward passes for each sample, the most of any size.
    pub passes: [f64; 2],
    /// Seed of the run.
    pub seed: u64,
    /// Version of pullback that attacked.
    pub version: String,
}

/// Writes the leaderboard of `inputs` (attack files with the suite, JSON of this command) to `output`, whose extension sets the format.
///
/// # Errors
/// A wrong request if an input is none of these, or the output exists already.
pub fn leaderboard(inputs: &[PathBuf], output: &Path, overwrite: Overwrite) -> Result<()> {
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
    let tables = tables(entries);
    let text = match form {
        "json" => {
            let all: Vec<&Entry> = tables.iter().flatten().collect();
            serde_json::to_string_pretty(&all).map_err(|e| Error::internal("leaderboard", e.to_string()))? + "\n"
        }
        "md" => markdown(&tables),
        _ => html(&tables),
    };
    Ok(report::publish(&text, output, overwrite)?)
}

fn read(path: &Path) -> Result<Vec<Entry>> {
    if path.extension().is_some_and(|e| e == "json") {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
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
    let intervals: Result<Vec<_>> = damage.iter().map(|values| interval_of(values, header.seed)).collect();
    Ok(Entry {
        model: header.model.clone(),
        model_sha256: header.model_sha256.clone(),
        dataset: header.dataset.clone(),
        data_sha256: header.data_sha256.clone(),
        samples: reader.samples() as u64,
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
        Target::File(_) => format!("target image{}", hash("target_sha256")),
        Target::Code(_) => format!("target codes{}", hash("target_sha256")),
        target => format!("target {target}"),
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

/// The keys of a spectrum's settings that are not the default, with their values.
fn changed(spec: &SpectrumSpec) -> BTreeMap<String, String> {
    let values = |spec: &SpectrumSpec| -> BTreeMap<String, String> {
        match serde_json::to_value(spec) {
            Ok(Value::Object(map)) => map.into_iter().map(|(key, value)| (key, text(&value))).collect(),
            _ => BTreeMap::new(),
        }
    };
    let default = values(&SpectrumSpec::default());
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

/// Groups of comparable entries, the most robust first; the larger groups first.
fn tables(entries: Vec<Entry>) -> Vec<Vec<Entry>> {
    let mut tables: Vec<Vec<Entry>> = vec![];
    for entry in entries {
        match tables.iter_mut().find(|table| table.first().is_some_and(|first| compares(first, &entry))) {
            // If the same model occurs twice, the newer entry is kept.
            Some(table) => {
                table.retain(|old| old.model_sha256 != entry.model_sha256);
                table.push(entry);
            }
            None => tables.push(vec![entry]),
        }
    }
    for table in &mut tables {
        table.sort_by(|a, b| a.area[0].total_cmp(&b.area[0]));
    }
    tables.sort_by_key(|table| std::cmp::Reverse(table.len()));
    tables
}

fn compares(a: &Entry, b: &Entry) -> bool {
    let key = |e: &Entry| {
        (
            e.suite.clone(),
            e.norm.clone(),
            e.goal.clone(),
            e.setting.clone(),
            e.data_sha256.clone(),
            e.samples,
            format!("{:?}", e.eps),
        )
    };
    key(a) == key(b)
}

/// A table's title, its columns and rows.
fn cells(table: &[Entry]) -> (String, Vec<String>, Vec<Vec<String>>) {
    let Some(first) = table.first() else { return (String::new(), vec![], vec![]) };
    let title = format!(
        "{}, {}, goal {}{}: {} samples of {} (data {})",
        first.suite,
        first.norm,
        first.goal,
        if first.setting.is_empty() { String::new() } else { format!("; {}", first.setting) },
        first.samples,
        first.dataset,
        short(&first.data_sha256)
    );
    let mut columns = vec!["rank".to_owned(), "model".to_owned(), "mean damage over epsilon".to_owned()];
    columns.extend(first.eps.iter().map(|e| format!("damage at {e}")));
    columns.extend(["clean mse", "mse at the largest", "passes", "weights"].map(str::to_owned));
    let with_interval =
        |[value, lower, upper]: [f64; 3]| format!("{} [{}, {}]", figures(value), figures(lower), figures(upper));
    let rows = table.iter().enumerate().map(|(i, e)| {
        let mut row = vec![(i + 1).to_string(), e.model.clone(), with_interval(e.area)];
        row.extend(e.damage.iter().map(|d| with_interval(*d)));
        row.push(figures(e.clean_mse));
        row.push(e.recon_mse.last().map_or_else(String::new, |v| figures(*v)));
        row.push(format!("{:.0} + {:.0}", e.passes[0], e.passes[1]));
        row.push(short(&e.model_sha256));
        row
    });
    (title, columns, rows.collect())
}

fn short(hash: &str) -> String {
    hash.chars().take(8).collect()
}

/// Three significant figures.
fn figures(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let digits = (2 - value.abs().log10().floor() as i32).clamp(0, 12) as usize;
    format!("{value:.digits$}")
}

/// What a reader must know about every table.
const NOTE: &str = "Most robust first: by the area under the mean damage over epsilon, divided by the largest epsilon. Each damage is the worst \
                    over all attacks of the suite, mean over the samples, with a bootstrap interval of 95 %. Latent distances of models \
                    whose codes have other scales do not compare; errors of reconstructions do. Passes are forward and backward, a sample.";

fn markdown(tables: &[Vec<Entry>]) -> String {
    let mut text = format!("# Leaderboard\n\n{NOTE}\n");
    for table in tables {
        let (title, columns, rows) = cells(table);
        let line = |cells: &[String]| {
            format!("| {} |", cells.iter().map(|c| c.replace('|', "\\|")).collect::<Vec<_>>().join(" | "))
        };
        let rule = vec!["---".to_owned(); columns.len()];
        let _ = write!(text, "\n## {title}\n\n{}\n{}\n", line(&columns), line(&rule));
        for row in rows {
            let _ = writeln!(text, "{}", line(&row));
        }
    }
    text
}

fn html(tables: &[Vec<Entry>]) -> String {
    let row = |tag: &'static str, cells: Vec<String>| -> Element {
        element("tr").children(cells.into_iter().map(|c| element(tag).text(c)))
    };
    let mut body = element("body").child(element("h1").text("Leaderboard")).child(element("p").text(NOTE));
    for table in tables {
        let (title, columns, rows) = cells(table);
        let head = element("thead").child(row("th", columns));
        let rows = element("tbody").children(rows.into_iter().map(|r| row("td", r)));
        body.push(element("h2").text(title));
        body.push(element("div").class("wide").child(element("table").child(head).child(rows)));
    }
    let style = "body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#222;background:#fff}\
                 .wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}\
                 th,td{padding:.3rem .8rem;text-align:left;border-bottom:1px solid #8884;white-space:nowrap}\
                 @media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}}";
    let head = element("head")
        .child(element("meta").with("charset", "utf-8"))
        .child(element("meta").with("name", "viewport").with("content", "width=device-width, initial-scale=1"))
        .child(element("title").text("Leaderboard"))
        .child(element("style").text(style));
    format!("<!doctype html>\n{}\n", element("html").with("lang", "en").child(head).child(body).render())
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
    fn figures_are_three() {
        assert_eq!(
            ["1234.6", "12.345", "0.00123456", "0"].map(|t| figures(t.parse().unwrap())),
            ["1235", "12.3", "0.00123", "0"]
        );
    }
}
