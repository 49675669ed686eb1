//! `inspect`: the contents of a model, data or result file.

use crate::data::{self, ImageShape, Reading, Source, Split};
use crate::error::{Error, Result};
use crate::model::{self, CONFIG_FILE, WEIGHTS_FILE};
use crate::store::{self, Contents, FileKind, Reader, ScoreSummary};
use crate::train::HISTORY_FILE;
use pullback_results::history::Table;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use tch::{Device, Kind};

/// Describes a run folder, a TorchScript file, a result file or a data set; data are read as `reading` says.
///
/// # Errors
/// A wrong request if it is none of them.
pub fn describe(file: &str, reading: &Reading) -> Result<String> {
    let path = Path::new(file);
    if path.is_dir() && (path.join(CONFIG_FILE).exists() || path.join(WEIGHTS_FILE).exists()) {
        return run_folder(path);
    }
    if path.is_file() && is_zip(path)? && !data::is_npz(path) {
        return torchscript(path);
    }
    if path.is_file() && store::is_result(path) {
        return Ok(format!("{}{}", store::inspect(path)?, attack_tables(&Reader::open(path)?)?));
    }
    data_set(file, reading)
}

/// The numbers of a scores or attack file in a few lines, which a command shows at its end.
///
/// # Errors
/// The errors of [`Reader::open`] and of reading.
pub fn findings(path: &Path) -> Result<String> {
    let reader = Reader::open(path)?;
    let head = format!("{}: {} samples\n", path.display(), reader.samples());
    Ok(match reader.header().kind {
        FileKind::Scores => head + &score_table(&store::inspect(path)?),
        _ => head + &attack_tables(&reader)?,
    })
}

fn score_table(summary: &Contents) -> String {
    let mut lines = format!("{:<24}{:>14}{:>14}\n", "score", "mean", "median");
    for s in &summary.scores {
        let left_out = if s.nan > 0 { format!("  ({} NaN, left out)", s.nan) } else { String::new() };
        // Writing to a string cannot fail.
        let _ = writeln!(lines, "{:<24}{:>14}{:>14}{left_out}", s.name, number(s.mean), number(s.median));
    }
    lines
}

/// Mean damage by attack and epsilon, in the latent space and in the image; empty if the file has no attacks.
fn attack_tables(reader: &Reader) -> Result<String> {
    let mut lines = String::new();
    if reader.header().kind != FileKind::Attack {
        return Ok(lines);
    }
    let (_, eps) = reader.read_f64("/eps")?;
    for measure in ["latent_l2", "recon_mse"] {
        let _ = write!(lines, "\n{:<24}", format!("{measure} (mean)"));
        eps.iter().for_each(|e| lines.push_str(&format!("{:>14}", format!("eps {e}"))));
        for attack in reader.attacks() {
            let (shape, values) = reader.read_f64(&format!("/attack/{attack}/{measure}"))?;
            let samples = shape.last().copied().unwrap_or(0).max(1);
            let _ = write!(lines, "\n{attack:<24}");
            for row in values.chunks_exact(samples) {
                let _ = write!(lines, "{:>14.5}", ScoreSummary::of(&attack, row).mean);
            }
        }
        lines.push('\n');
    }
    Ok(lines)
}

/// TorchScript files are zip archives; of the other files that pullback reads only those of NumPy's arrays are.
fn is_zip(path: &Path) -> Result<bool> {
    use std::io::Read;
    let mut head = Vec::new();
    let file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
    file.take(4).read_to_end(&mut head).map_err(|e| Error::io(path, e))?;
    Ok(head == *b"PK\x03\x04")
}

/// Aligned lines of names and values.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, name: &str, value: impl std::fmt::Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{name:<13} {value}");
    }
}

fn run_folder(path: &Path) -> Result<String> {
    let mut lines = Lines::default();
    lines.add("kind", "run folder");
    if !path.join(WEIGHTS_FILE).exists() {
        lines.add("state", "no epoch is finished yet");
        return Ok(lines.0 + &config(path)?);
    }
    let network = model::network(path, Device::Cpu, Kind::Float)?;
    let count: usize = network.parameters().iter().map(|(_, tensor)| tensor.numel()).sum();
    lines.add("image", text(network.architecture().image()));
    lines.add("latent", network.architecture().latent());
    lines.add("parameters", count);
    lines.add("sha256", model::sha256(&path.join(WEIGHTS_FILE))?);
    if let Ok(Table { columns, rows }) = Table::read(&path.join(HISTORY_FILE)) {
        let asked = super::train::half_way(path).map_or_else(String::new, |(_, asked)| format!(" of {asked}"));
        lines.add("epochs", format!("{}{asked}", rows.len()));
        let last = columns.iter().zip(rows.last().into_iter().flatten());
        for (name, value) in last.filter(|(n, v)| !v.is_nan() && *n != "epoch" && *n != "seconds") {
            lines.add(&format!("  {name}"), value);
        }
    }
    Ok(lines.0 + &config(path)?)
}

fn config(folder: &Path) -> Result<String> {
    let path = folder.join(CONFIG_FILE);
    let text = Error::read_text(&path)?;
    Ok(format!("\n{CONFIG_FILE}\n{text}"))
}

fn torchscript(path: &Path) -> Result<String> {
    let model = model::open(path, Device::Cpu, Kind::Float)?;
    let mut lines = Lines::default();
    lines.add("kind", "TorchScript VAE (encode, decode)");
    lines.add("sha256", model.sha256);
    Ok(lines.0)
}

/// All splits; a data set may have only one of them.
fn data_set(file: &str, reading: &Reading) -> Result<String> {
    let splits = Split::ALL.map(|split| (split, data::open_as(file, split, None, reading)));
    let mut lines = Lines::default();
    lines.add("kind", "data");
    let mut formats: Option<&'static str> = None;
    for (split, opened) in &splits {
        match opened {
            Ok(source) => {
                if formats.replace(source.format()).is_none() {
                    lines.add("format", source.format());
                }
                lines.add(split.name(), summary(source));
            }
            Err(error) if data::is_no_split(error, *split) => {}
            Err(error) => lines.add(split.name(), format!("cannot be read: {error}")),
        }
    }
    let opened = || splits.iter().filter_map(|(_, opened)| opened.as_ref().ok());
    if let Some(names) = opened().find_map(|source| source.classes()) {
        let shown = names.iter().take(10).map(String::as_str).collect::<Vec<_>>().join(", ");
        let rest = if names.len() > 10 { format!(" and {} more", names.len() - 10) } else { String::new() };
        lines.add("classes", format!("{shown}{rest}"));
    }
    let mut notes: Vec<String> = opened().flat_map(|source| source.notes()).collect();
    notes.dedup();
    notes.into_iter().for_each(|note| lines.add("note", note));
    if opened().next().is_some() {
        return Ok(lines.0);
    }
    // What is wrong with a part that is there comes first, then the part that commands read by themselves.
    let failed = splits.into_iter().filter_map(|(split, opened)| opened.err().map(|error| (split, error)));
    let error = failed.min_by_key(|(split, error)| (data::is_no_split(error, *split), *split != Split::Test));
    Err(error.map_or_else(|| Error::request(file, "data", "none"), |(_, error)| error))
}

fn summary(source: &Arc<dyn Source>) -> String {
    let labels = if source.has_labels() { "labelled" } else { "no labels" };
    format!("{} images {}, {labels}", source.len(), text(source.shape()))
}

fn text(shape: ImageShape) -> String {
    format!("{}x{}x{}", shape.channels, shape.height, shape.width)
}

/// A number in a column of 14: five decimal places, or an exponent if they do not fit.
fn number(x: f64) -> String {
    if x.abs() < 1e6 { format!("{x:.5}") } else { format!("{x:.5e}") }
}
