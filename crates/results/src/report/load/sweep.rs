//! Sweep files. Data of shape `[S, E, N]` are read one data set at a time and summarised at once.

use super::format1;
use super::origin::{origin, setting, step_scale};
use super::run::{is_picture, spread};
use super::sizes;
use super::sweep_pictures;
use crate::error::{Error, Result};
use crate::report::law::{Law, law};
use crate::report::stats::{Quartiles, median};
use crate::report::study::{
    Agreement, Interval, Named, OutcomeSummary, StepScale, StepSet, Sweep, SweepModel, SweepPoint, Within,
};
use crate::report::words;
use crate::store::{Reader, Relation, attacks, direction};

/// The number of models in each arm that galleries and per-model panels show.
const SHOWN_BETAS: usize = 5;
/// The number of sizes that galleries show.
const SHOWN_EPS: usize = 4;

/// A sweep's file, the models of each point, and the positions of the sizes, smallest first.
struct Grid<'a> {
    reader: &'a Reader,
    models: usize,
    members: Vec<Vec<usize>>,
    sizes: Vec<usize>,
}

/// Reads a sweep.
pub(super) fn read(reader: &Reader) -> Result<Sweep> {
    let (_, beta) = reader.read_f64("/beta")?;
    let mixup: Vec<f64> = if reader.info("/mixup_strength").is_some() {
        reader.read_f64("/mixup_strength")?.1
    } else if reader.info("/mixup").is_some() {
        reader.read_u8("/mixup")?.1.into_iter().map(f64::from).collect()
    } else {
        vec![0.0; beta.len()]
    };
    let eps = match reader.info("/eps") {
        Some(_) => reader.read_f64("/eps")?.1,
        None => vec![],
    };
    if beta.is_empty() || mixup.len() != beta.len() {
        return Err(Error::request(
            format!("{}: /beta and /mixup", reader.path().display()),
            "one entry a model, at least one",
            format!("{} and {}", beta.len(), mixup.len()),
        ));
    }
    let (mut points, members) = pool(&beta, &mixup);
    let sizes = sizes::ascending(&eps);
    let eps: Vec<f64> = sizes.iter().map(|at| eps[*at]).collect();
    let grid = Grid { reader, models: beta.len(), members, sizes };
    let metric = reader.header().metric.clone().unwrap_or_else(|| setting(reader, &[], "metric"));
    let held = held(reader);
    let sets = sets(reader, &held, &metric);
    grid.columns(&mut points)?;
    grid.attacks(&mut points, &eps, &sets, &held, &metric)?;
    let (losses, models) = grid.training(&beta, &mixup)?;
    let shown_eps = evenly(eps.len(), SHOWN_EPS);
    let shown = shown_points(&points);
    let ranks = points.first().and_then(|p| p.score("spectral_radius")).unwrap_or(&[]);
    let rows = spread(ranks.get(..reader.samples()).unwrap_or(&[]), reader.samples());
    let first: Vec<usize> = grid.members.iter().map(|m| m[0]).collect();
    let in_file: Vec<usize> = shown_eps.iter().map(|at| grid.sizes[*at]).collect();
    sweep_pictures::add(reader, &mut points, &shown, &first, grid.models, &in_file, &rows)?;
    let mut origin = origin(reader);
    origin.metric = metric;
    Ok(Sweep {
        models,
        losses,
        sets,
        eps,
        shown_eps,
        correlations: intervals(reader, "/correlation/")?,
        taus: intervals(reader, "/kendall/")?,
        effects: intervals(reader, "/effect/")?,
        within: grid.within("/within/")?,
        taus_within: grid.within("/kendall_within/")?,
        points,
        origin,
    })
}

/// Joins models of one beta and strength into one point, ordered by strength, then by beta; also returns their positions.
fn pool(beta: &[f64], mixup: &[f64]) -> (Vec<SweepPoint>, Vec<Vec<usize>>) {
    let mut order: Vec<usize> = (0..beta.len()).collect();
    order.sort_by(|a, b| mixup[*a].total_cmp(&mixup[*b]).then(beta[*a].total_cmp(&beta[*b])));
    let same = |a: &usize, b: &usize| (beta[*a], mixup[*a]) == (beta[*b], mixup[*b]);
    let members: Vec<Vec<usize>> = order.chunk_by(same).map(<[usize]>::to_vec).collect();
    let point =
        |m: &Vec<usize>| SweepPoint { beta: beta[m[0]], mixup: mixup[m[0]], models: m.len(), ..SweepPoint::default() };
    (members.iter().map(point).collect(), members)
}

/// An attack, and its place in the file.
struct Held {
    set: String,
    name: String,
    /// The group of its measures.
    group: String,
}

/// Every attack of every set.
fn held(reader: &Reader) -> Vec<Held> {
    let main = reader.attacks().into_iter().map(|name| match reader.format() {
        1 => {
            let (set, own) = format1::set_and_name(&name);
            Held { set: set.to_owned(), name: own.to_owned(), group: format!("/attack/{name}") }
        }
        _ => Held { set: String::new(), group: format!("/attack/{name}"), name },
    });
    let further = reader.sets().into_iter().flat_map(|set| {
        let group = attacks(&set);
        let names = reader.below(&format!("{group}/")).into_iter();
        names.map(move |name| Held { set: set.clone(), group: format!("{group}/{name}"), name }).collect::<Vec<_>>()
    });
    main.chain(further).collect()
}

/// The sets of attacks, the main one first.
fn sets(reader: &Reader, held: &[Held], metric: &str) -> Vec<StepSet> {
    let mut keys: Vec<&str> = held.iter().map(|attack| attack.set.as_str()).collect();
    keys.sort_unstable();
    keys.dedup();
    let set = |key: &str| {
        let further = ["further", key];
        let path = if key.is_empty() { &[][..] } else { &further[..] };
        let of = |what: &str| setting(reader, path, what);
        // The root's `metric` is the metric of the scores.
        let own = if key.is_empty() { setting(reader, &["attack"], "metric") } else { of("metric") };
        let metric = if own.is_empty() { metric.to_owned() } else { own };
        StepSet { key: key.to_owned(), norm: of("norm"), scale: step_scale(&of("scale")), metric }
    };
    keys.into_iter().map(set).collect()
}

/// Positions of at most `wanted` of `count` things, evenly spaced, with both ends.
pub(crate) fn evenly(count: usize, wanted: usize) -> Vec<usize> {
    let shown = wanted.min(count);
    if shown < 2 {
        return (0..shown).collect();
    }
    (0..shown).map(|i| (i * (count - 1) + (shown - 1) / 2) / (shown - 1)).collect()
}

/// The models in galleries: a few of each arm, evenly spaced over its betas.
fn shown_points(points: &[SweepPoint]) -> Vec<usize> {
    let all: Vec<usize> = (0..points.len()).collect();
    let arms = all.chunk_by(|a, b| points[*a].mixup == points[*b].mixup);
    arms.flat_map(|arm| evenly(arm.len(), SHOWN_BETAS).into_iter().map(|at| arm[at])).collect()
}

impl Grid<'_> {
    /// A whole data set whose first axis counts the models, cut into one part for each: shape of a part, parts.
    fn parts(&self, path: &str, rank: usize) -> Result<(Vec<usize>, Vec<f64>)> {
        let (shape, values) = self.reader.read_f64(path)?;
        if shape.len() != rank || shape[0] != self.models {
            return Err(Error::request(
                format!("{}: shape of {path}", self.reader.path().display()),
                format!("{rank} axes, {} models on the first", self.models),
                format!("{shape:?}"),
            ));
        }
        Ok((shape[1..].to_vec(), values))
    }

    /// The parts of one point's models one after the other.
    fn pooled(&self, point: usize, width: usize, values: &[f64]) -> Vec<f64> {
        let part = |m: &usize| values.get(m * width..(m + 1) * width).unwrap_or(&[]);
        self.members[point].iter().flat_map(part).copied().collect()
    }

    fn columns(&self, points: &mut [SweepPoint]) -> Result<()> {
        let mut names = self.reader.scores();
        names.sort_by_key(|n| words::order(n));
        for name in names {
            let (shape, values) = self.parts(&format!("/scores/{name}"), 2)?;
            for (i, point) in points.iter_mut().enumerate() {
                point.scores.push(Named { name: name.clone(), values: self.pooled(i, shape[0], &values) });
            }
        }
        let mut names: Vec<String> = self.reader.clean().into_iter().filter(|n| !is_picture(n)).collect();
        names.sort_by_key(|n| words::order(n));
        for name in names {
            let (shape, values) = self.parts(&format!("/clean/{name}"), 2)?;
            for (i, point) in points.iter_mut().enumerate() {
                point.clean.push((name.clone(), Quartiles::of(&self.pooled(i, shape[0], &values))));
            }
        }
        if self.reader.info("/spectrum/eigenvalues").is_some() {
            let (shape, values) = self.parts("/spectrum/eigenvalues", 3)?;
            let (rows, width) = (shape[0], shape[1]);
            for (i, point) in points.iter_mut().enumerate() {
                let part = self.pooled(i, rows * width, &values);
                let column = |k| part.iter().skip(k).step_by(width).copied().collect::<Vec<_>>();
                point.spectrum = (0..width).map(|k| Quartiles::of(&column(k))).collect();
            }
        }
        Ok(())
    }

    fn attacks(
        &self,
        points: &mut [SweepPoint],
        eps: &[f64],
        sets: &[StepSet],
        held: &[Held],
        metric: &str,
    ) -> Result<()> {
        let dim = sweep_pictures::dim(self.reader);
        let mut ordered: Vec<&Held> = held.iter().collect();
        ordered.sort_by_key(|attack| words::attack_order(&attack.name));
        for attack in ordered {
            let Some(set) = sets.iter().find(|s| s.key == attack.set) else { continue };
            let names: Vec<&str> = held.iter().filter(|a| a.set == set.key).map(|a| a.name.as_str()).collect();
            let along = direction(&attack.name, &names);
            let law = law(&set.metric).filter(|l| Law::is_of_norm(&set.norm) && (!l.needs_dim() || dim.is_some()));
            // The first metric gives the scores their plain names.
            let radius =
                if set.metric == metric { String::new() } else { format!("{}.", set.metric) } + "spectral_radius";
            let below = self.reader.below(&format!("{}/", attack.group));
            let mut measures: Vec<String> = below.into_iter().filter(|n| !is_picture(n)).collect();
            measures.sort_by_key(|n| words::order(n));
            for point in points.iter_mut() {
                let (set, name) = (attack.set.clone(), attack.name.clone());
                point.attacks.push(OutcomeSummary { set, name, direction: along, measures: vec![] });
            }
            for name in measures {
                let path = format!("{}/{name}", attack.group);
                let (shape, values) = self.parts(&path, 3)?;
                if shape[0] != eps.len() {
                    return Err(Error::request(
                        format!("{}: shape of {path}", self.reader.path().display()),
                        format!("{} sizes on the second axis", eps.len()),
                        format!("{shape:?}"),
                    ));
                }
                for (i, point) in points.iter_mut().enumerate() {
                    // [models, E, N] to [E][models * N].
                    let part = self.pooled(i, shape[0] * shape[1], &values);
                    let by_eps: Vec<Vec<f64>> = self
                        .sizes
                        .iter()
                        .map(|e| {
                            let rows = part.chunks_exact(shape[1].max(1)).skip(*e).step_by(eps.len());
                            rows.flatten().copied().collect()
                        })
                        .collect();
                    if let (Some(law), Some(1)) = (law.filter(|l| l.measure == name), along) {
                        let lambda = point.score(&radius);
                        let found = lambda.and_then(|l| agreement(law, l, eps, &by_eps, set.scale, dim.unwrap_or(1)));
                        point.agreements.extend(found.map(|a| (set.key.clone(), a)));
                    }
                    let summaries = by_eps.iter().map(|v| Quartiles::of(v)).collect();
                    if let Some(outcome) = point.attacks.last_mut() {
                        outcome.measures.push((name.clone(), summaries));
                    }
                }
            }
        }
        Ok(())
    }

    /// The losses' names, and every model with its final losses.
    fn training(&self, beta: &[f64], mixup: &[f64]) -> Result<(Vec<String>, Vec<SweepModel>)> {
        let seeds = match self.reader.info("/seed") {
            Some(_) => self.reader.read_i64("/seed")?.1,
            None => vec![],
        };
        let mut models: Vec<SweepModel> = beta
            .iter()
            .zip(mixup)
            .enumerate()
            .map(|(i, (b, m))| SweepModel { beta: *b, mixup: *m, seed: seeds.get(i).copied(), losses: vec![] })
            .collect();
        let names = self.below("/training/");
        for name in &names {
            let (_, values) = self.parts(&format!("/training/{name}"), 1)?;
            models.iter_mut().zip(values).for_each(|(model, value)| model.losses.push(value));
        }
        Ok((names, models))
    }

    /// Names of the data sets below `prefix`.
    fn below(&self, prefix: &str) -> Vec<String> {
        self.reader.datasets().iter().filter_map(|d| d.path.strip_prefix(prefix)).map(str::to_owned).collect()
    }

    /// `<prefix><name>` [S, 3], with a point's models summarised by their median.
    fn within(&self, prefix: &str) -> Result<Vec<Within>> {
        let mut found = Vec::new();
        for name in self.below(prefix) {
            let path = format!("{prefix}{name}");
            let about = about(self.reader, &name, false);
            let (shape, values) = self.parts(&path, 2)?;
            if shape[0] != 3 {
                return Err(wrong_interval(self.reader, &path, &shape));
            }
            let of_point = |i: usize| {
                let all = self.pooled(i, 3, &values);
                let at = |k: usize| median(&all.iter().skip(k).step_by(3).copied().collect::<Vec<_>>());
                [at(0), at(1), at(2)]
            };
            found.push(Within { name, about, by_point: (0..self.members.len()).map(of_point).collect() });
        }
        Ok(found)
    }
}

fn agreement(
    law: Law,
    radius: &[f64],
    eps: &[f64],
    actual: &[Vec<f64>],
    scale: StepScale,
    dim: usize,
) -> Option<Agreement> {
    let predict = |size: f64| -> Vec<f64> {
        radius.iter().map(|lambda| law.predict(*lambda, scale.length(size, *lambda), dim as f64)).collect()
    };
    let ratio = eps.iter().zip(actual).map(|(size, actual)| {
        let ratios: Vec<f64> = predict(*size).iter().zip(actual).map(|(p, a)| a / p).collect();
        Quartiles::of(&ratios)
    });
    Some(Agreement { law, ratio: ratio.collect(), predicted: predict(*eps.first()?), actual: actual.first()?.clone() })
}

/// What the relation with this name is about.
fn about(reader: &Reader, name: &str, across: bool) -> Option<Relation> {
    if reader.format() == 1 { format1::relation(name, across) } else { Relation::named(name) }
}

/// Data sets below `prefix` whose last axis is (value, lower, upper).
fn intervals(reader: &Reader, prefix: &str) -> Result<Vec<Interval>> {
    let mut found = Vec::new();
    for info in reader.datasets() {
        let Some(name) = info.path.strip_prefix(prefix) else { continue };
        if info.shape.last() != Some(&3) {
            return Err(wrong_interval(reader, &info.path, &info.shape));
        }
        let (_, values) = reader.read_f64(&info.path)?;
        let several = values.len() > 3;
        for (i, triple) in values.chunks_exact(3).enumerate() {
            let name = if several { format!("{name} {}", i + 1) } else { name.to_owned() };
            let about = about(reader, &name, prefix != "/effect/");
            found.push(Interval { name, about, value: triple[0], low: triple[1], high: triple[2] });
        }
    }
    Ok(found)
}

fn wrong_interval(reader: &Reader, path: &str, shape: &[usize]) -> Error {
    Error::request(
        format!("{}: shape of {path}", reader.path().display()),
        "value, lower and upper on the last axis",
        format!("{shape:?}"),
    )
}
