//! What goes with what: over the models of a sweep (beta, mean scores, mean damage), over the samples of one model, and
//! what mixup changes.
//!
//! Names are made of parts with a dot between them: `all.beta.trace`, `plain.spectral_radius.u1.recon_mse`. Damage is a mean
//! over the samples and counts at the largest epsilon.

use super::cell::{attack_file, score_file};
use super::summary::{CellSummary, DAMAGE, Middle, attack_names, singular};
use crate::config::{Cell, SweepSpec};
use crate::correlate::{Bootstrap, Coefficient, Estimate, Missing, correlate, interval};
use crate::error::Result;
use crate::store::Reader;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// A number with its interval, by its path in the sweep's file.
#[derive(Clone, Debug)]
pub(super) struct Relation {
    /// `/correlation/<name>` or `/effect/<name>`.
    pub path: String,
    /// Value, lower and upper end.
    pub interval: [f64; 3],
    /// Models it rests on.
    pub models: usize,
}

/// Seed of the bootstrap: that of the resamples, not of any model.
const SEED: u64 = 0;
/// Fewest models that a correlation is asked of.
const FEWEST: usize = 3;

/// Which models a correlation is over.
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

/// A quantity of every model.
type Quantity = (String, Vec<f64>);

/// Attacks that correlations are made of: of those along directions, the first.
fn is_leading(attack: &str) -> bool {
    let name = attack.rsplit('-').next().unwrap_or(attack);
    name != "spectral" && !name.strip_prefix('u').is_some_and(|i| i.parse::<usize>().is_ok_and(|i| i > 1))
}

/// Scores that are held against damage: those that the paper holds to be telling, by the first metric, and the largest
/// eigenvalue by each further one.
fn is_telling(score: &str) -> bool {
    let first = ["spectral_radius", "trace", "von_neumann_entropy", "effective_rank", "singular.entropy_maxnorm"];
    first.contains(&score) || (score.ends_with(".spectral_radius") && !score.contains("singular"))
}

/// What is correlated how, by the group of the file that has it: the scores' means, and against beta their medians too.
const KINDS: [(&str, Middle, Coefficient); 4] = [
    ("correlation", Middle::Mean, Coefficient::Spearman),
    ("kendall", Middle::Mean, Coefficient::Kendall),
    ("correlation_of_medians", Middle::Median, Coefficient::Spearman),
    ("kendall_of_medians", Middle::Median, Coefficient::Kendall),
];

fn score_quantities(rows: &[&CellSummary], middle: Middle) -> Vec<Quantity> {
    let names = rows.first().map(|r| r.scores.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>()).unwrap_or_default();
    let values = |name: &str| rows.iter().map(|r| r.score(name, middle)).collect();
    names.into_iter().map(|name| (name.clone(), values(&name))).collect()
}

fn damage_quantities(rows: &[&CellSummary]) -> Vec<Quantity> {
    let names: Vec<(String, &str)> = rows.first().map_or(vec![], |r| {
        r.damage.iter().filter(|(a, _, _)| is_leading(a)).map(|(a, m, _)| (a.clone(), *m)).collect()
    });
    let values = |a: &str, m: &str| rows.iter().map(|r| r.damage(a, m)).collect();
    names.iter().map(|(a, m)| (format!("{a}.{m}"), values(a, m))).collect()
}

/// Rank correlations over the models: beta with scores and damage, scores with damage.
pub(super) fn across(rows: &[CellSummary], bootstrap: &Bootstrap) -> Result<Vec<Relation>> {
    let mut found = Vec::new();
    let arms = [Group::Plain, Group::Mixup];
    let one_arm = arms.iter().any(|arm| rows.iter().all(|r| arm.holds(r.cell)));
    let groups = if one_arm { vec![Group::All] } else { [Group::All].into_iter().chain(arms).collect() };
    for group in groups {
        let rows: Vec<&CellSummary> = rows.iter().filter(|r| group.holds(r.cell)).collect();
        if rows.len() < FEWEST {
            continue;
        }
        let beta: Quantity = ("beta".to_owned(), rows.iter().map(|r| r.cell.beta).collect());
        let damage = damage_quantities(&rows);
        for (kind, middle, coefficient) in KINDS {
            let scores = score_quantities(&rows, middle);
            let mut pairs: Vec<(&Quantity, &Quantity)> = scores.iter().map(|q| (&beta, q)).collect();
            if middle == Middle::Mean {
                pairs.extend(damage.iter().map(|q| (&beta, q)));
                for score in scores.iter().filter(|(name, _)| is_telling(name)) {
                    pairs.extend(damage.iter().map(|d| (score, d)));
                }
            }
            for ((a, x), (b, y)) in pairs {
                let e = correlate(x, y, coefficient, Missing::Drop, bootstrap, SEED)?;
                let path = format!("/{kind}/{}.{a}.{b}", group.name());
                found.push(Relation { path, interval: ends(&e), models: e.pairs });
            }
        }
    }
    Ok(found)
}

fn ends(e: &Estimate) -> [f64; 3] {
    [e.value, e.lower, e.upper]
}

/// What mixup changes: the mean difference (with minus without) over pairs of models of the same beta and seed. The
/// largest strength counts.
pub(super) fn effects(rows: &[CellSummary], bootstrap: &Bootstrap) -> Result<Vec<Relation>> {
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
    let quantities = |rows: &[&CellSummary]| [score_quantities(rows, Middle::Mean), damage_quantities(rows)].concat();
    let mut found = Vec::new();
    for ((name, a), (_, b)) in quantities(&plain).into_iter().zip(quantities(&mixed)) {
        let change: Vec<f64> = a.iter().zip(&b).map(|(a, b)| b - a).filter(|d| !d.is_nan()).collect();
        let mean = |counts: &[u32]| {
            let total: u32 = counts.iter().sum();
            change.iter().zip(counts).map(|(d, c)| d * f64::from(*c)).sum::<f64>() / f64::from(total)
        };
        let e = interval(change.len(), bootstrap, SEED, || (), |(), counts| mean(counts))?;
        let path = format!("/effect/{name}");
        found.push(Relation { path, interval: [e.value, e.lower, e.upper], models: change.len() });
    }
    Ok(found)
}

/// Scores whose correlation with damage over the samples of a model is told.
const WITHIN: [&str; 3] = ["spectral_radius", "trace", "von_neumann_entropy"];

/// Both coefficients, by the group of the file that has them.
const WITHIN_KINDS: [(&str, Coefficient); 2] =
    [("within", Coefficient::Spearman), ("kendall_within", Coefficient::Kendall)];

/// Rank correlations over the samples of each model, of a score with the damage at the largest epsilon: path
/// (`/within/<name>`, `/kendall_within/<name>`) and [value, lower, upper] of every model, for [S, 3].
pub(super) fn within(
    spec: &SweepSpec,
    cells: &[Cell],
    folder: &impl Fn(&Cell) -> PathBuf,
) -> Result<Vec<(String, Vec<[f64; 3]>)>> {
    // The samples are many: a fifth of the resamples is plenty.
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
        for (key, _) in spec.attacks() {
            let reader = Reader::open(&folder.join(attack_file(&key)))?;
            let (_, eps) = reader.read_f64("/eps")?;
            let largest = (0..eps.len()).max_by(|a, b| eps[*a].total_cmp(&eps[*b])).unwrap_or(0);
            for (attack, shown) in attack_names(&reader).into_iter().filter(|(_, shown)| is_leading(shown)) {
                for measure in DAMAGE {
                    let (_, values) = reader.read_f64(&format!("/attack/{attack}/{measure}"))?;
                    let n = values.len() / eps.len().max(1);
                    let damage = &values[largest * n..(largest + 1) * n];
                    for ((score, values), (kind, coefficient)) in
                        scores.iter().flat_map(|s| WITHIN_KINDS.map(|kind| (s, kind)))
                    {
                        let e = correlate(values, damage, coefficient, Missing::Drop, &bootstrap, SEED)?;
                        let path = format!("/{kind}/{score}.{key}{shown}.{measure}");
                        found.entry(path).or_default().push(ends(&e));
                    }
                }
            }
        }
    }
    Ok(found.into_iter().collect())
}

/// Lines of what the paper is about: how beta, geometry and damage go together, and what mixup changes.
pub(super) fn leading(f: &mut fmt::Formatter<'_>, relations: &[Relation], effects: &[Relation]) -> fmt::Result {
    let wanted = [
        "beta.spectral_radius",
        "beta.von_neumann_entropy",
        "beta.u1.recon_mse",
        "beta.output.spectral_radius",
        "beta.output.entropy_maxnorm",
        "beta.unit-u1.recon_mse",
        "spectral_radius.u1.recon_mse",
        "spectral_radius.unit-u1.recon_mse",
    ];
    for r in relations {
        let Some(name) = r.path.strip_prefix("/correlation/") else { continue };
        let told = name.split_once('.').is_some_and(|(_, rest)| wanted.contains(&rest));
        let [rho, lower, upper] = r.interval;
        if told {
            writeln!(f, "rho {rho:>6.3} [{lower:.3}, {upper:.3}] over {} models: {name}", r.models)?;
        }
    }
    for r in effects {
        let name = r.path.trim_start_matches("/effect/");
        let [change, lower, upper] = r.interval;
        if ["spectral_radius", "u1.recon_mse", "unit-u1.recon_mse", "unit-pgd.recon_mse"].contains(&name) {
            writeln!(f, "mixup changes {name} by {change:.4} [{lower:.4}, {upper:.4}] over {} pairs", r.models)?;
        }
    }
    Ok(())
}
