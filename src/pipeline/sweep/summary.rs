//! One cell in a few numbers: the columns of the table, and the values for correlations.

use super::cell::{attack_file, score_file};
use crate::config::{Cell, SweepSpec};
use crate::error::Result;
use crate::score::Score;
use crate::store::{Quantity, Reader, ScoreSummary, direction};
use crate::train::{Epoch, HISTORY_FILE, History};
use std::fmt;
use std::path::Path;
use tch::Tensor;

/// Scores of the singular values sqrt(lambda_i), which the authors' code computes: name and score.
pub(super) const SINGULAR: [(&str, Score); 2] =
    [("singular.spectral_radius", Score::SpectralRadius), ("singular.entropy_maxnorm", Score::EntropyMaxnorm)];

/// Measures whose means are kept.
pub(super) const DAMAGE: [&str; 2] = ["recon_mse", "latent_l2"];

/// How the scores of many samples are reduced to one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Middle {
    Mean,
    Median,
}

/// A cell's results, each summarised over the samples.
#[derive(Clone, Debug)]
pub(super) struct CellSummary {
    pub cell: Cell,
    /// Losses of the last epoch, by column of `history.csv`: loss, reconstruction, kl, mixup, seconds (of all epochs).
    pub losses: Vec<(&'static str, f64)>,
    /// Scores by their names in the sweep's file: mean and median over the samples that have them.
    pub scores: Vec<(String, ScoreSummary)>,
    /// Means of the measures of [`DAMAGE`] for each epsilon and each attack of each set.
    pub damage: Vec<(Quantity, Vec<f64>)>,
    /// Means of the clean measures.
    pub clean: Vec<(String, f64)>,
    /// The sizes of the perturbation.
    pub eps: Vec<f64>,
    pub sha256: String,
}

impl CellSummary {
    /// Reads a finished cell.
    pub fn read(spec: &SweepSpec, cell: Cell, folder: &Path) -> Result<Self> {
        let mut scores = Vec::new();
        let mut sha256 = String::new();
        for (i, metric) in spec.score.metrics.iter().enumerate() {
            let reader = Reader::open(&folder.join(score_file(spec, i)))?;
            sha256.clone_from(&reader.header().model_sha256);
            let prefix = if i == 0 { String::new() } else { format!("{metric}.") };
            for name in reader.scores() {
                let (_, values) = reader.read_f64(&format!("/scores/{name}"))?;
                scores.push((format!("{prefix}{name}"), ScoreSummary::of(&name, &values)));
            }
            for (name, values) in singular(&reader)? {
                scores.push((format!("{prefix}{name}"), ScoreSummary::of(name, &values)));
            }
        }
        let (mut damage, mut clean, mut eps) = (Vec::new(), Vec::new(), Vec::new());
        for (set, _) in spec.attacks() {
            let reader = Reader::open(&folder.join(attack_file(&set)))?;
            (_, eps) = reader.read_f64("/eps")?;
            for attack in reader.attacks() {
                for measure in DAMAGE {
                    let (_, values) = reader.read_f64(&format!("/attack/{attack}/{measure}"))?;
                    let rows = values.chunks_exact((values.len() / eps.len().max(1)).max(1));
                    let (set, attack, measure) = (set.clone(), attack.clone(), measure.to_owned());
                    damage.push((Quantity::Damage { set, attack, measure }, rows.map(mean).collect()));
                }
            }
            if set.is_empty() {
                for name in reader.clean() {
                    clean.push((name.clone(), mean(&reader.read_f64(&format!("/clean/{name}"))?.1)));
                }
            }
        }
        Ok(Self { cell, losses: losses(&folder.join(HISTORY_FILE))?, scores, damage, clean, eps, sha256 })
    }

    /// The score called `name`, over the samples; NaN if it does not exist.
    pub fn score(&self, name: &str, middle: Middle) -> f64 {
        let of = |s: &ScoreSummary| match middle {
            Middle::Mean => s.mean,
            Middle::Median => s.median,
        };
        self.scores.iter().find(|(n, _)| n == name).map_or(f64::NAN, |(_, s)| of(s))
    }

    /// Mean damage at the largest epsilon; NaN if it does not exist.
    pub fn damage(&self, quantity: &Quantity) -> f64 {
        let found = self.damage.iter().find(|(of, _)| of == quantity);
        let largest = (0..self.eps.len()).max_by(|a, b| self.eps[*a].total_cmp(&self.eps[*b]));
        found.zip(largest).and_then(|((_, values), e)| values.get(e).copied()).unwrap_or(f64::NAN)
    }

    fn loss(&self, name: &str) -> f64 {
        self.losses.iter().find(|(n, _)| *n == name).map_or(f64::NAN, |(_, v)| *v)
    }

    /// The attacks of a set.
    pub fn attacks(&self, of: &str) -> Vec<&str> {
        let named = self.damage.iter().filter_map(|(quantity, _)| match quantity {
            Quantity::Damage { set, attack, measure } if set == of && measure == DAMAGE[0] => Some(attack.as_str()),
            _ => None,
        });
        named.collect()
    }

    /// The error by the attack along the first direction; by another attack if there is none.
    fn first_error(&self) -> Quantity {
        let attacks = self.attacks("");
        let first = attacks.iter().find(|attack| direction(attack, &attacks) == Some(1)).or(attacks.first());
        let attack = first.copied().unwrap_or_default().to_owned();
        Quantity::Damage { set: String::new(), attack, measure: "recon_mse".to_owned() }
    }
}

/// The [`SINGULAR`] scores of a file's samples.
pub(super) fn singular(reader: &Reader) -> Result<Vec<(&'static str, Vec<f64>)>> {
    let (shape, values) = reader.read_f64("/spectrum/eigenvalues")?;
    let shape: Vec<i64> = shape.iter().map(|n| *n as i64).collect();
    let values = Tensor::f_from_slice(&values)?.f_reshape(&shape)?.f_sqrt()?;
    SINGULAR.iter().map(|(name, score)| Ok((*name, Vec::<f64>::try_from(score.of(&values)?)?))).collect()
}

/// The losses of the last epoch, and the time of all epochs.
fn losses(path: &Path) -> Result<Vec<(&'static str, f64)>> {
    let epochs = History::read(path)?.epochs;
    let last = |of: fn(&Epoch) -> f64| epochs.last().map_or(f64::NAN, of);
    Ok(vec![
        ("loss", last(|e| e.loss)),
        ("reconstruction", last(|e| e.reconstruction)),
        ("kl", last(|e| e.kl)),
        ("mixup", last(|e| e.mixup)),
        ("seconds", epochs.iter().map(|e| e.seconds).sum()),
    ])
}

/// The mean over the samples that have a value: lost ones have none, and neither have those that a universal attack was fitted on.
fn mean(values: &[f64]) -> f64 {
    ScoreSummary::of("", values).mean
}

impl fmt::Display for CellSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cell { beta, mixup, seed } = self.cell;
        let (loss, recon, kl) = (self.loss("loss"), self.loss("reconstruction"), self.loss("kl"));
        let radius = self.score("spectral_radius", Middle::Median);
        let error = self.first_error();
        write!(
            f,
            "beta {beta:.4}, mixup {mixup}, seed {seed}: loss {loss:.2} (reconstruction {recon:.2}, kl {kl:.2}), median \
             lambda_1 {radius:.3e}, error {:.4} under {}",
            self.damage(&error),
            attack_of(&error)
        )
    }
}

fn attack_of(error: &Quantity) -> &str {
    if let Quantity::Damage { attack, .. } = error { attack } else { "" }
}

/// One line for each cell.
pub(super) fn table(f: &mut fmt::Formatter<'_>, rows: &[CellSummary]) -> fmt::Result {
    let attacked = rows.first().map_or(Quantity::Beta, |r| r.first_error());
    let error = format!("error {}", attack_of(&attacked));
    writeln!(
        f,
        "{:>9} {:>6} {:>5} {:>9} {:>8} {:>11} {:>8} {:>9} {:>9}",
        "beta", "mixup", "seed", "recon", "kl", "lambda_1", "entropy", "error", error
    )?;
    for row in rows {
        let Cell { beta, mixup, seed } = row.cell;
        let median = |name: &str| row.score(name, Middle::Median);
        let clean = row.clean.iter().find(|(n, _)| n == "recon_mse").map_or(f64::NAN, |(_, v)| *v);
        writeln!(
            f,
            "{beta:>9.4} {mixup:>6} {seed:>5} {:>9.3} {:>8.3} {:>11.4e} {:>8.4} {clean:>9.4} {:>9.4}",
            row.loss("reconstruction"),
            row.loss("kl"),
            median("spectral_radius"),
            median("von_neumann_entropy"),
            row.damage(&attacked),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_is_of_those_that_have_a_value() {
        assert_eq!(mean(&[1.0, f64::NAN, 3.0]), 2.0);
        assert!(mean(&[f64::NAN]).is_nan());
    }
}
