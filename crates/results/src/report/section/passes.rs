//! Damage over passes: what share of the most that is known each attack had found after so many passes; towards a target, where damage has
//! no shares, the damage itself.

use super::{NO_SHARE, called, has_shares, legend, of_largest};
use crate::report::figure::{
    Axis, AxisScale, Cell, Curve, Figure, Ink, Mark, Marker, Panel, Plot, Point, Stroke, Table, number,
};
use crate::report::study::{Effort, Study, Trial};
use crate::report::words;

/// A panel for each model and norm, at the largest size; blank if no file tells damage over passes.
pub(super) fn figure(study: &Study) -> Figure {
    let mut table = Table::new(&["model", "norm", "attack", "eps", "passes", "mean damage", "optimality"]);
    let mut names: Vec<&str> = Vec::new();
    let (mut drawn, mut seen) = (Vec::new(), Vec::new());
    for subject in &study.subjects {
        for trial in &subject.trials {
            let Some(at) = trial.largest() else { continue };
            let best = of_largest(trial, at);
            let has_shares = has_shares(trial, &best);
            let (mut curves, model) = (Vec::new(), called(subject, trial));
            for effort in trial.efforts.iter().filter(|e| is_shown(e)) {
                let points = points(effort, at, &best, has_shares);
                if points.is_empty() {
                    continue;
                }
                let series = names.iter().position(|name| *name == effort.attack).unwrap_or_else(|| {
                    names.push(&effort.attack);
                    names.len() - 1
                });
                let attack = words::attack(&effort.attack);
                seen.extend(points.iter().map(|reached| reached.passes));
                for reached in &points {
                    table.row([
                        (&model).into(),
                        (&trial.norm).into(),
                        (&attack).into(),
                        trial.eps[at].into(),
                        reached.passes.into(),
                        reached.damage.into(),
                        reached.share.map_or_else(|| NO_SHARE.into(), Cell::from),
                    ]);
                }
                curves.push(Curve {
                    ink: Ink::Series(series),
                    stroke: Stroke::series(series),
                    marker: Marker::series(series),
                    label: String::new(),
                    points: points.iter().map(|reached| reached.point(&attack)).collect(),
                });
            }
            if !curves.is_empty() {
                drawn.push((panel_title(&model, trial, at), curves, has_shares));
            }
        }
    }
    let x = Axis::fit("passes for each image", AxisScale::Log, seen);
    let share = Axis::between("share of the most known", AxisScale::Linear, 0.0, 1.0);
    let damage = |curves: &[Curve]| {
        let values = curves.iter().flat_map(|curve| curve.points.iter().map(|point| point.y));
        Axis::fit("mean damage: minus the distance to the target", AxisScale::Linear, values)
    };
    let towards = if drawn.iter().any(|(_, _, has_shares)| !has_shares) {
        " Towards a target, damage is minus the distance that is left and has no shares: there, the mean damage itself, which rises to 0."
    } else {
        ""
    };
    let panel = |(title, curves, has_shares): (String, Vec<Curve>, bool)| -> Panel {
        let y = if has_shares { share.clone() } else { damage(&curves) };
        Plot::new(title, x.clone(), y, curves.into_iter().map(Mark::Curve).collect()).draw()
    };
    let shown = names.iter().enumerate().map(|(i, name)| (i, words::attack(name)));
    Figure {
        id: "passes".to_owned(),
        title: "Damage over passes".to_owned(),
        caption: format!(
            "Damage that an attack had found within so many passes, as a share of the most that any attack of the file found on the same \
             image: mean over the images, at the largest ε. A pass is forward and backward. A curve that still rises at its end asks for \
             more passes.{towards}"
        ),
        legend: legend(shown, Marker::series),
        panels: drawn.into_iter().map(panel).collect(),
        table,
        ..Figure::default()
    }
}

/// The parts of a suite are in the table of attacks; here the suite stands for them.
fn is_shown(effort: &Effort) -> bool {
    !effort.curve.is_empty() && !effort.attack.starts_with("suite-")
}

fn panel_title(model: &str, trial: &Trial, at: usize) -> String {
    format!("{model}, {}, ε = {}", words::norm_sign(&trial.norm), number::plain(trial.eps[at]))
}

/// What an attack had found after so many passes: means over the images.
struct Reached {
    passes: f64,
    damage: f64,
    /// Of the most that is known; `None` where damage has no shares.
    share: Option<f64>,
}

impl Reached {
    fn point(&self, attack: &str) -> Point {
        let Self { passes, damage, share } = self;
        let of = share.map_or_else(String::new, |share| format!("\n{} of the most known", number::percent(share)));
        let tip = format!("{attack}, {} passes{of}\nmean damage {}", number::plain(*passes), number::short(*damage));
        Point { x: *passes, y: share.unwrap_or(*damage), band: None, tip, note: None }
    }
}

/// Of an attack by its passes, where `best` \[N\] is the most that is known; the last point is the attack's end.
fn points(effort: &Effort, at: usize, best: &[f64], has_shares: bool) -> Vec<Reached> {
    let (forward, backward) = effort.passes(at);
    let passes = forward.max(backward);
    let Some(curve) = effort.curve.get(at) else { return vec![] };
    let within = |p: usize| -> Vec<f64> { curve.iter().skip(p).step_by(effort.budgets.len()).copied().collect() };
    let early = effort.budgets.iter().enumerate().filter(|(_, budget)| **budget < passes);
    let mut all: Vec<(f64, Vec<f64>)> = early.map(|(p, budget)| (*budget, within(p))).collect();
    all.push((passes, effort.damage.get(at).cloned().unwrap_or_default()));
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let told = |(passes, damage): (f64, Vec<f64>)| {
        let counts = |(d, b): &(&f64, &f64)| d.is_finite() && b.is_finite() && (!has_shares || **b > 0.0);
        let (found, shares): (Vec<f64>, Vec<f64>) =
            damage.iter().zip(best).filter(counts).map(|(d, b)| (*d, d / b)).unzip();
        let share = has_shares.then(|| mean(&shares));
        (!found.is_empty()).then(|| Reached { passes, damage: mean(&found), share })
    };
    all.into_iter().filter_map(told).collect()
}
