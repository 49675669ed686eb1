//! The contents of a result file in a few lines.

use super::FileKind;
use super::reader::Reader;
use super::schema::DatasetInfo;
use crate::error::Result;
use std::fmt;
use std::path::Path;

/// One score over all samples. NaN is counted and never averaged.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreSummary {
    /// The score's name.
    pub name: String,
    /// Mean over the counted samples; NaN if there are none.
    pub mean: f64,
    /// Median over the counted samples; NaN if there are none.
    pub median: f64,
    /// How many samples have the score.
    pub counted: usize,
    /// How many samples' score is not a number.
    pub nan: usize,
}

impl ScoreSummary {
    /// Summarises `values` under `name`.
    pub fn of(name: &str, values: &[f64]) -> Self {
        let mut counted: Vec<f64> = values.iter().copied().filter(|v| !v.is_nan()).collect();
        counted.sort_unstable_by(f64::total_cmp);
        let n = counted.len();
        let (mean, median) = match n {
            0 => (f64::NAN, f64::NAN),
            _ => (
                counted.iter().sum::<f64>() / n as f64,
                if n % 2 == 1 { counted[n / 2] } else { (counted[n / 2 - 1] + counted[n / 2]) / 2.0 },
            ),
        };
        Self { name: name.to_owned(), mean, median, counted: n, nan: values.len() - n }
    }
}

/// The contents of a result file. Its display is a few lines of text.
#[derive(Clone, Debug, PartialEq)]
pub struct Contents {
    /// The kind of file.
    pub kind: FileKind,
    /// Root attributes as (name, value), without configuration and number of samples.
    pub attributes: Vec<(String, String)>,
    /// The resolved configuration, YAML.
    pub config: String,
    /// Number of samples (in a sweep, at each point).
    pub samples: usize,
    /// Every data set.
    pub datasets: Vec<DatasetInfo>,
    /// The scores of a scores file.
    pub scores: Vec<ScoreSummary>,
}

/// Reads the contents of `path`.
pub fn inspect(path: &Path) -> Result<Contents> {
    let reader = Reader::open(path)?;
    let header = reader.header();
    let mut attributes = header.attributes(reader.version());
    // Both have their own line or place.
    attributes.retain(|(name, _)| !["config", "samples"].contains(&name.as_str()));
    let scores = match header.kind {
        FileKind::Scores => reader
            .scores()
            .iter()
            .map(|name| Ok(ScoreSummary::of(name, &reader.read_f64(&format!("/scores/{name}"))?.1)))
            .collect::<Result<_>>()?,
        _ => vec![],
    };
    Ok(Contents {
        kind: header.kind,
        attributes,
        config: header.config.clone(),
        samples: reader.samples(),
        datasets: reader.datasets().to_vec(),
        scores,
    })
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.attributes {
            writeln!(f, "{name:<14}{value}")?;
        }
        writeln!(f, "{:<14}{}", "samples", self.samples)?;
        writeln!(f, "\n{:<40}{:<8}shape", "data set", "type")?;
        for d in &self.datasets {
            let dtype = d.dtype.map_or_else(|| "?".to_owned(), |t| t.to_string());
            writeln!(f, "{:<40}{dtype:<8}{:?}", d.path, d.shape)?;
        }
        if self.scores.is_empty() {
            return Ok(());
        }
        writeln!(f, "\n{:<24}{:>14}{:>14}", "score", "mean", "median")?;
        for s in &self.scores {
            write!(f, "{:<24}{:>14.6e}{:>14.6e}", s.name, s.mean, s.median)?;
            match s.nan {
                0 => writeln!(f)?,
                n => writeln!(f, "  ({n} of {} NaN, left out)", n + s.counted)?,
            }
        }
        Ok(())
    }
}
