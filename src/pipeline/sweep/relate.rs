//! Correlations: over the models of a sweep (beta, mean scores, mean damage) and over the samples of one model; and the effect of mixup.
//!
//! Damage is a mean over the samples at the largest epsilon. `store::Relation` says where a relation lies in the file.

use super::cell::{attack_file, score_file};
use super::summary::{CellSummary, DAMAGE, Middle, singular};
use crate::config::{Cell, SweepSpec};
use crate::correlate::{Bootstrap, Coefficient, Correlation, Missing, correlate, interval};
use crate::error::Result;
use crate::store::{Quantity, Reader, Relation, direction};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// A relation with its interval.
#[derive(Clone, Debug)]
pub(super) struct Related {
    /// The group of the file that contains it: `correlation`, `kendall`, `effect`.
    pub kind: &'static str,
    /// The quantities that it relates.
    pub about: Relation,
    /// Value, lower and upper end.
    pub interval: [f64; 3],
    /// The number of models.
    pub models: usize,
}

impl Related {
    /// Its path in the sweep's file.
    pub fn path(&self) -> String {
        format!("/{}/{}", self.kind, self.about.name())
    }
}

/// Seed of the bootstrap's resamples; it belongs to no model.
const SEED: u64 = 0;
/// The fewest models for a correlation.
const FEWEST: usize = 3;

/// The models of a correlation.
#[derive(Clone, Copy, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
enum Group {
    All,
    Plain,
    Mixup,
}

impl Group {
    fn name(self) -> &'static str {
        self.into()
    }

    fn holds(self, cell: Cell) -> bool {
        match self {
            Self::All => true,
            Self::Plain => cell.mixup == 0.0,
            Self::Mixup => cell.mixup > 0.0,
        }
    }
}

/// A quantity, and its value for every model.
type Values = (Quantity, Vec<f64>);

/// Attacks that enter correlations: of attacks along several directions, only the first direction.
fn is_leading<S: AsRef<str>>(attack: &str, attacks: &[S]) -> bool {
    direction(attack, attacks).map_or(attack != "spectral", |k| k == 1)
}

/// Scores that are correlated with damage: those that the paper finds informative, by the first metric, and the largest eigenvalue by each
/// further metric.
fn is_telling(score: &Quantity) -> bool {
    let Quantity::Score(score) = score else { return false };
    let first = ["spectral_radius", "trace", "von_neumann_entropy", "effective_rank", "singular.entropy_maxnorm"];
    first.contains(&score.as_str()) || (score.ends_with(".spectral_radius") && !score.contains("singular"))
}

/// What is correlated and how, by group of the file: the scores' means, and against beta also their medians.
const KINDS: [(&str, Middle, Coefficient); 4] = [
    ("correlation", Middle::Mean, Coefficient::Spearman),
    ("kendall", Middle::Mean, Coefficient::Kendall),
    ("correlation_of_medians", Middle::Median, Coefficient::Spearman),
    ("kendall_of_medians", Middle::Median, Coefficient::Kendall),
];

fn score_values(rows: &[&CellSummary], middle: Middle) -> Vec<Values> {
    let names = rows.first().map(|r| r.scores.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>()).unwrap_or_default();
    let values = |name: &str| rows.iter().map(|r| r.score(name, middle)).collect();
    names.into_iter().map(|name| (Quantity::Score(name.clone()), values(&name))).collect()
}

fn damage_values(rows: &[&CellSummary]) -> Vec<Values> {
    let Some(first) = rows.first() else { return vec![] };
    let leading = first.damage.iter().map(|(quantity, _)| quantity).filter(|quantity| match quantity {
        Quantity::Damage { set, attack, .. } => is_leading(attack, &first.attacks(set)),
        _ => false,
    });
    leading.map(|quantity| (quantity.clone(), rows.iter().map(|r| r.damage(quantity)).collect())).collect()
}

/// Rank correlations over the models: beta with scores and damage, scores with damage.
pub(super) fn across(rows: &[CellSummary], bootstrap: &Bootstrap) -> Result<Vec<Related>> {
    let mut found = Vec::new();
    let arms = [Group::Plain, Group::Mixup];
    let one_arm = arms.iter().any(|arm| rows.iter().all(|r| arm.holds(r.cell)));
    let groups = if one_arm { vec![Group::All] } else { [Group::All].into_iter().chain(arms).collect() };
    for group in groups {
        let rows: Vec<&CellSummary> = rows.iter().filter(|r| group.holds(r.cell)).collect();
        if rows.len() < FEWEST {
            continue;
        }
        let beta: Values = (Quantity::Beta, rows.iter().map(|r| r.cell.beta).collect());
        let damage = damage_values(&rows);
        for (kind, middle, coefficient) in KINDS {
            let scores = score_values(&rows, middle);
            let mut pairs: Vec<(&Values, &Values)> = scores.iter().map(|q| (&beta, q)).collect();
            if middle == Middle::Mean {
                pairs.extend(damage.iter().map(|q| (&beta, q)));
                for score in scores.iter().filter(|(score, _)| is_telling(score)) {
                    pairs.extend(damage.iter().map(|d| (score, d)));
                }
            }
            for ((a, x), (b, y)) in pairs {
                let e = correlate(x, y, coefficient, Missing::Drop, bootstrap, SEED)?;
                let about = Relation { models: Some(group.name().to_owned()), of: Some(a.clone()), with: b.clone() };
                found.push(Related { kind, about, interval: ends(&e), models: e.pairs });
            }
        }
    }
    Ok(found)
}

fn ends(e: &Correlation) -> [f64; 3] {
    [e.value, e.lower, e.upper]
}

/// The effect of mixup: the mean difference (with minus without) over pairs of models of the same beta and seed. The largest strength is
/// used.
pub(super) fn effects(rows: &[CellSummary], bootstrap: &Bootstrap) -> Result<Vec<Related>> {
    let most = rows.iter().map(|r| r.cell.mixup).fold(0.0, f64::max);
    let of = |mixup: f64| -> BTreeMap<(u64, u64), &CellSummary> {
        let key = |c: Cell| (c.beta.to_bits(), c.seed);
        rows.iter().filter(|r| r.cell.mixup == mixup).map(|r| (key(r.cell), r)).collect()
    };
    let (plain, mixed) = (of(0.0), of(most));
    let pairs: Vec<_> = plain.iter().filter_map(|(key, p)| mixed.get(key).map(|m| (*p, *m))).collect();
    if most == 0.0 || pairs.len() < FEWEST {
        return Ok(vec![]);
    }
    let (plain, mixed): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    let quantities = |rows: &[&CellSummary]| [score_values(rows, Middle::Mean), damage_values(rows)].concat();
    let mut found = Vec::new();
    for ((quantity, a), (_, b)) in quantities(&plain).into_iter().zip(quantities(&mixed)) {
        let change: Vec<f64> = a.iter().zip(&b).map(|(a, b)| b - a).filter(|d| !d.is_nan()).collect();
        let mean = |counts: &[u32]| {
            let total: u32 = counts.iter().sum();
            change.iter().zip(counts).map(|(d, c)| d * f64::from(*c)).sum::<f64>() / f64::from(total)
        };
        let e = interval(change.len(), bootstrap, SEED, || (), |(), counts| mean(counts))?;
        let about = Relation { models: None, of: None, with: quantity };
        found.push(Related { kind: "effect", about, interval: [e.value, e.lower, e.upper], models: change.len() });
    }
    Ok(found)
}

/// Scores whose correlation with damage over the samples of a model is reported.
const WITHIN: [&str; 3] = ["spectral_radius", "trace", "von_neumann_entropy"];

/// Both coefficients, by the group of the file that contains them.
const WITHIN_KINDS: [(&str, Coefficient); 2] =
    [("within", Coefficient::Spearman), ("kendall_within", Coefficient::Kendall)];

/// Rank correlations over the samples of each model, of a score with the damage at the largest epsilon: path
/// (`/within/<name>`, `/kendall_within/<name>`) and [value, lower, upper] of every model, for [S, 3].
pub(super) fn within(
    spec: &SweepSpec,
    cells: &[Cell],
    folder: &impl Fn(&Cell) -> PathBuf,
) -> Result<Vec<(String, Vec<[f64; 3]>)>> {
    // There are many samples, so a fifth of the resamples is enough.
    let bootstrap = Bootstrap { resamples: (spec.correlate.resamples / 5).max(100), ..spec.correlate };
    let mut found: BTreeMap<String, Vec<[f64; 3]>> = BTreeMap::new();
    for cell in cells {
        let folder = folder(cell);
        let reader = Reader::open(&folder.join(score_file(spec, 0)))?;
        let mut scores: Vec<(&str, Vec<f64>)> = Vec::new();
        for name in WITHIN {
            scores.push((name, reader.read_f64(&format!("/scores/{name}"))?.1));
        }
        scores.extend(singular(&reader)?.into_iter().filter(|(name, _)| name.ends_with("entropy_maxnorm")));
        for (set, _) in spec.attacks() {
            let reader = Reader::open(&folder.join(attack_file(&set)))?;
            let (_, eps) = reader.read_f64("/eps")?;
            let largest = (0..eps.len()).max_by(|a, b| eps[*a].total_cmp(&eps[*b])).unwrap_or(0);
            let attacks = reader.attacks();
            for attack in attacks.iter().filter(|attack| is_leading(attack, &attacks)) {
                for measure in DAMAGE {
                    let (_, values) = reader.read_f64(&format!("/attack/{attack}/{measure}"))?;
                    let n = values.len() / eps.len().max(1);
                    let damage = &values[largest * n..(largest + 1) * n];
                    for ((score, values), (kind, coefficient)) in
                        scores.iter().flat_map(|s| WITHIN_KINDS.map(|kind| (s, kind)))
                    {
                        let e = correlate(values, damage, coefficient, Missing::Drop, &bootstrap, SEED)?;
                        let (set, attack, measure) = (set.clone(), attack.clone(), measure.to_owned());
                        let with = Quantity::Damage { set, attack, measure };
                        let of = Some(Quantity::Score((*score).to_owned()));
                        let path = format!("/{kind}/{}", Relation { models: None, of, with }.name());
                        found.entry(path).or_default().push(ends(&e));
                    }
                }
            }
        }
    }
    Ok(found.into_iter().collect())
}

/// Scores that the lines below report.
const TOLD: [&str; 4] = ["spectral_radius", "von_neumann_entropy", "output.spectral_radius", "output.entropy_maxnorm"];

/// Lines about the paper's subject: how beta, geometry and damage are related, and the effect of mixup.
pub(super) fn leading(f: &mut fmt::Formatter<'_>, relations: &[Related], effects: &[Related]) -> fmt::Result {
    // Only the first of the attacks along directions are here.
    let along = |attack: &str| ["u1", "spectral"].contains(&attack);
    let radius = Quantity::Score("spectral_radius".to_owned());
    for r in relations.iter().filter(|r| r.kind == "correlation") {
        let (Some(of), with) = (&r.about.of, &r.about.with) else { continue };
        let told = match with {
            Quantity::Score(name) => *of == Quantity::Beta && TOLD.contains(&name.as_str()),
            Quantity::Damage { attack, measure, .. } => {
                (*of == Quantity::Beta || *of == radius) && along(attack) && measure == "recon_mse"
            }
            Quantity::Beta => false,
        };
        let [rho, lower, upper] = r.interval;
        if told {
            let models = r.about.models.as_deref().unwrap_or_default();
            writeln!(f, "rho {rho:>6.3} [{lower:.3}, {upper:.3}] over {} models ({models}): {of}, {with}", r.models)?;
        }
    }
    for r in effects {
        let told = match &r.about.with {
            Quantity::Damage { attack, measure, .. } => (along(attack) || attack == "pgd") && measure == "recon_mse",
            with => *with == radius,
        };
        let [change, lower, upper] = r.interval;
        if told {
            let with = &r.about.with;
            writeln!(f, "mixup changes {with} by {change:.4} [{lower:.4}, {upper:.4}] over {} pairs", r.models)?;
        }
    }
    Ok(())
}
