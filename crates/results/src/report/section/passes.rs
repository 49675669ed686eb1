//! Damage over passes: what share of the most that is known each attack had found after so many passes.

use super::{called, legend, of_largest};
use crate::report::figure::{Axis, AxisScale, Curve, Figure, Ink, Mark, Marker, Plot, Point, Stroke, Table, number};
use crate::report::study::{Effort, Study, Trial};
use crate::report::words;

/// A panel for each model and norm, at the largest size; blank if no file tells damage over passes.
pub(super) fn figure(study: &Study) -> Figure {
    let mut table = Table::new(&["model", "norm", "attack", "eps", "passes", "mean damage", "optimality"]);
    let mut names: Vec<&str> = Vec::new();
    let (mut panels, mut seen) = (Vec::new(), Vec::new());
    for subject in &study.subjects {
        for trial in &subject.trials {
            let Some(at) = trial.largest() else { continue };
            let best = of_largest(trial, at);
            let (mut marks, model) = (Vec::new(), called(subject, trial));
            for effort in trial.efforts.iter().filter(|e| is_shown(e)) {
                let points = points(effort, at, &best);
                if points.is_empty() {
                    continue;
                }
                let series = names.iter().position(|name| *name == effort.attack).unwrap_or_else(|| {
                    names.push(&effort.attack);
                    names.len() - 1
                });
                let attack = words::attack(&effort.attack);
                seen.extend(points.iter().map(|(passes, _, _)| *passes));
                for (passes, mean, share) in &points {
                    table.row([
                        (&model).into(),
                        (&trial.norm).into(),
                        (&attack).into(),
                        trial.eps[at].into(),
                        (*passes).into(),
                        (*mean).into(),
                        (*share).into(),
                    ]);
                }
                let point = |(passes, mean, share): (f64, f64, f64)| Point {
                    x: passes,
                    y: share,
                    band: None,
                    tip: format!(
                        "{attack}, {} passes\n{} of the most known\nmean damage {}",
                        number::plain(passes),
                        number::percent(share),
                        number::short(mean)
                    ),
                    note: None,
                };
                marks.push(Mark::Curve(Curve {
                    ink: Ink::Series(series),
                    stroke: Stroke::series(series),
                    marker: Marker::series(series),
                    label: String::new(),
                    points: points.into_iter().map(point).collect(),
                }));
            }
            if !marks.is_empty() {
                panels.push((panel_title(&model, trial, at), marks));
            }
        }
    }
    let x = Axis::fit("passes for each image", AxisScale::Log, seen);
    let y = Axis { label: "share of the most known".to_owned(), scale: AxisScale::Linear, low: 0.0, high: 1.0 };
    let shown = names.iter().enumerate().map(|(i, name)| (i, words::attack(name)));
    Figure {
        id: "passes".to_owned(),
        title: "Damage over passes".to_owned(),
        caption: "Damage that an attack had found within so many passes, as a share of the most that any attack of the file found on the \
                  same image: mean over the images, at the largest ε. A pass is forward and backward. A curve that still rises at its end \
                  asks for more passes."
            .to_owned(),
        legend: legend(shown, Marker::series),
        panels: panels
            .into_iter()
            .map(|(title, marks)| Plot::new(title, x.clone(), y.clone(), marks).draw())
            .collect(),
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

/// Passes, mean damage and mean share of `best` \[N\]; the last point is the attack's end.
fn points(effort: &Effort, at: usize, best: &[f64]) -> Vec<(f64, f64, f64)> {
    let passes = effort.forward.max(effort.backward);
    let Some(curve) = effort.curve.get(at) else { return vec![] };
    let within = |p: usize| -> Vec<f64> { curve.iter().skip(p).step_by(effort.budgets.len()).copied().collect() };
    let early = effort.budgets.iter().enumerate().filter(|(_, budget)| **budget < passes);
    let mut all: Vec<(f64, Vec<f64>)> = early.map(|(p, budget)| (*budget, within(p))).collect();
    all.push((passes, effort.damage.get(at).cloned().unwrap_or_default()));
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let told = |(passes, damage): (f64, Vec<f64>)| {
        let pairs = damage.iter().zip(best).filter(|(d, b)| d.is_finite() && **b > 0.0);
        let (found, shares): (Vec<f64>, Vec<f64>) = pairs.map(|(d, b)| (*d, d / b)).unzip();
        (!shares.is_empty()).then(|| (passes, mean(&found), mean(&shares)))
    };
    all.into_iter().filter_map(told).collect()
}
