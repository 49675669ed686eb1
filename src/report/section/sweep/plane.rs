//! The trade-off: clean reconstruction error against damage, a point a model, joined in the order of beta.

use super::{View, beta_words, trend::first_attack};
use crate::report::figure::{Axis, Curve, Figure, Mark, Marker, Plot, Point, Scale, Table, Width, number};
use crate::report::load::evenly;
use crate::report::study::SweepPoint;
use crate::report::words;

const DAMAGE: [&str; 3] = ["recon_shift", "latent_l2", "recon_mse"];

/// A panel a measure of damage.
pub(super) fn figure(view: &View<'_>) -> Option<Figure> {
    let lines = view.lines();
    let attacks = &view.sweep.points.first()?.attacks;
    let attack = if attacks.iter().any(|a| a.name == "pgd") { "pgd" } else { first_attack(view) };
    let at = view.sweep.eps.len().checked_sub(1)? / 2;
    let mut table = Table::new(&["measure", "attack", "eps", "mixup", "beta", "clean_recon_mse", "damage"]);
    let mut panels = Vec::new();
    for key in DAMAGE {
        let place = |p: &SweepPoint| Some((p.clean("recon_mse")?.median, p.measure(attack, key)?.get(at)?.median));
        let mut marks = Vec::new();
        let (mut xs, mut ys) = (Vec::new(), Vec::new());
        for line in &lines {
            let noted = evenly(line.points.len(), 4);
            let mut points = Vec::new();
            for (i, p) in line.points.iter().enumerate() {
                let Some((x, y)) = place(p) else { continue };
                xs.push(x);
                ys.push(y);
                table.row([
                    key.into(),
                    attack.into(),
                    view.sweep.eps[at].into(),
                    line.name.into(),
                    p.beta.into(),
                    x.into(),
                    y.into(),
                ]);
                let tip = format!(
                    "{}, {}\nclean error {}\n{} {}",
                    line.name,
                    beta_words(p),
                    number::short(x),
                    words::inline(key),
                    number::short(y)
                );
                let note = noted.contains(&i).then(|| number::plain(p.beta));
                points.push(Point { x, y, tip, note, band: None });
            }
            let marker = if line.name == "mixup" { Marker::Square } else { Marker::Disc };
            marks.push(Mark::Curve(Curve { ink: line.ink, stroke: line.stroke, marker, label: String::new(), points }));
        }
        if !xs.is_empty() {
            let x = Axis::fit("clean reconstruction error (mean square)", Scale::Linear, xs);
            let y = Axis::fit(words::axis(key), Scale::suiting(ys.iter().copied(), 1.3), ys);
            panels.push(Plot::new(words::title(key), x, y, marks).draw());
        }
    }
    if panels.is_empty() {
        return None;
    }
    Some(Figure {
        id: view.id("trade-off"),
        title: finding(view, attack, at),
        caption: format!(
            "Each point is a model: its median reconstruction error without attack, and its median damage by {} at \
             {}. Lower left is better. Numbers at points are β.",
            words::attack(attack),
            view.size(at)
        ),
        legend: super::legend(&lines),
        controls: vec![],
        panels,
        width: Width::Usual,
        table,
    })
}

/// How many models no other model beats in both respects, arm by arm.
fn finding(view: &View<'_>, attack: &str, at: usize) -> String {
    let place =
        |p: &SweepPoint| Some((p.clean("recon_mse")?.median, p.measure(attack, "recon_shift")?.get(at)?.median));
    let all: Vec<(f64, f64)> = view.sweep.points.iter().filter_map(place).collect();
    let beaten = |(x, y): (f64, f64)| all.iter().any(|(a, b)| *a <= x && *b <= y && (*a < x || *b < y));
    let lines = view.lines();
    let parts: Vec<String> = lines
        .iter()
        .map(|line| {
            let free = line.points.iter().filter_map(|p| place(p)).filter(|p| !beaten(*p)).count();
            format!("{free} of {} {}", line.points.len(), if line.name == "mixup" { "with mixup" } else { "without" })
        })
        .collect();
    if all.is_empty() || lines.len() < 2 {
        return "Clean error against damage".to_owned();
    }
    format!("Models that no other beats in both clean error and reconstruction shift: {}", words::list(&parts))
}
