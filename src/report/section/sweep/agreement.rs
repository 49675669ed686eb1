//! Theory against experiment over the whole sweep, and the table of rank correlations.

use super::{View, beta_words, chosen};
use crate::report::figure::{
    Axis, Cell, Cloud, Curve, Figure, Key, Mark, Marker, Plot, Scale, Stroke, Table, Width, number,
};
use crate::report::markup::{Element, element};
use crate::report::section::{spread_point, spread_words};
use crate::report::stats::{Summary, spearman};
use crate::report::words;

/// Ratio of measured to predicted damage by size, then each image at the smallest size.
pub(super) fn figure(view: &View<'_>) -> Option<Figure> {
    let lines = view.lines();
    let law = view.sweep.points.iter().find_map(|p| p.agreement.as_ref())?.law;
    // A row a model and size, then a row an image at the smallest size.
    let mut table =
        Table::new(&["mixup", "beta", "eps", "row", "predicted", "measured", "ratio", "ratio_q25", "ratio_q75"]);
    let mut images = Vec::new();
    let mut ratios = Vec::new();
    let mut clouds = Vec::new();
    let mut keys: Vec<Key> = Vec::new();
    let (mut spans, mut both) = (vec![1.0], Vec::new());
    let mut rho: Vec<f64> = Vec::new();
    for line in &lines {
        let mut curves = vec![Mark::Level(1.0, "as predicted".to_owned())];
        let mut cloud = vec![Mark::Identity("as predicted".to_owned())];
        keys.clear();
        for (ink, point) in chosen(line) {
            let Some(agreement) = &point.agreement else { continue };
            let mut points = Vec::new();
            for (eps, s) in view.sweep.eps.iter().zip(&agreement.ratio) {
                let tip = format!("{}, ε = {}\n{}", beta_words(point), number::plain(*eps), spread_words(s));
                points.push(spread_point(*eps, s, tip));
                spans.extend([s.low, s.high]);
                table.row([
                    line.name.into(),
                    point.beta.into(),
                    (*eps).into(),
                    "median".into(),
                    "".into(),
                    "".into(),
                    s.median.into(),
                    s.low.into(),
                    s.high.into(),
                ]);
            }
            let label = beta_words(point);
            keys.push(Key { ink, stroke: Stroke::Solid, words: label.clone() });
            curves.push(Mark::Curve(Curve {
                ink,
                stroke: Stroke::Solid,
                marker: Marker::None,
                label: String::new(),
                points,
            }));
            rho.push(spearman(&agreement.predicted, &agreement.actual));
            let pairs = agreement.predicted.iter().zip(&agreement.actual).enumerate().map(|(row, (a, b))| {
                let place: [Cell; 6] = [
                    line.name.into(),
                    point.beta.into(),
                    view.sweep.eps.first().copied().unwrap_or(f64::NAN).into(),
                    row.into(),
                    (*a).into(),
                    (*b).into(),
                ];
                images.push(place.into_iter().chain([(b / a).into(), "".into(), "".into()]).collect::<Vec<_>>());
                both.extend([*a, *b]);
                let tip = format!("{label}\npredicted {}\nmeasured {}", number::short(*a), number::short(*b));
                (*a, *b, tip)
            });
            cloud.push(Mark::Cloud(Cloud { ink, points: pairs.collect() }));
        }
        ratios.push((line.name, curves));
        clouds.push((line.name, cloud));
    }
    table.rows.extend(images);
    let arm = |name: &str| if lines.len() > 1 { format!(", {name}") } else { String::new() };
    let ratio_axis = Axis::fit("measured / predicted", Scale::Linear, spans).from_zero();
    let mut panels: Vec<_> = ratios
        .into_iter()
        .map(|(name, marks)| {
            Plot::new(format!("By size{}", arm(name)), view.size_axis(), ratio_axis.clone(), marks).draw()
        })
        .collect();
    panels.extend(clouds.into_iter().map(|(name, marks)| {
        let x = Axis::fit("predicted", Scale::Log, both.iter().copied());
        let y = Axis::fit("measured", Scale::Log, both.iter().copied());
        Plot::new(format!("Each image at {}{}", view.size(0), arm(name)), x, y, marks).draw()
    }));
    let medians: Vec<f64> = view
        .sweep
        .points
        .iter()
        .filter_map(|p| p.agreement.as_ref()?.ratio.first())
        .map(|s| s.median)
        .filter(|m| m.is_finite())
        .collect();
    let percent = |v: f64| format!("{:.0} %", 100.0 * v);
    let least = medians.iter().copied().fold(f64::INFINITY, f64::min);
    let most = medians.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let typical = Summary::of(&rho).median;
    let ranks = if typical.is_finite() {
        format!("; image by image, rank correlation {typical:.2} in the median model")
    } else {
        String::new()
    };
    Some(Figure {
        id: view.id("agreement"),
        title: format!(
            "At {}, a step along u₁ has {} to {} of the effect that λ₁ predicts, by model{ranks}",
            view.size(0),
            percent(least),
            percent(most)
        ),
        caption: format!(
            "Predicted: {} with λ₁ of each image under the {} metric. Measured: {} after a step along u₁. First, the \
             median ratio and its middle half by size; then each image at the smallest size.",
            law.formula,
            view.sweep.origin.metric,
            words::inline(law.measure)
        ),
        legend: keys,
        controls: vec![],
        panels,
        width: Width::Pairs,
        table,
    })
}

/// Every stored correlation with its interval, as numbers and as a line on a scale from -1 to 1.
pub(super) fn correlations(view: &View<'_>) -> Option<Element> {
    let found = &view.sweep.correlations;
    if found.is_empty() {
        return None;
    }
    let mut table = Table::new(&["correlation", "rho", "lower", "upper"]);
    let mut body = element("tbody");
    for c in found {
        table.row([(&c.name).into(), c.rho.into(), c.low.into(), c.high.into()]);
        let place = |v: f64| 100.0 + 92.0 * v.clamp(-1.0, 1.0);
        let mut svg = element("svg")
            .class("whisker")
            .with("viewBox", "0 0 200 16")
            .with("role", "img")
            .with("aria-label", format!("{} between {} and {}", two(c.rho), two(c.low), two(c.high)));
        for tick in [-1.0, 0.0, 1.0] {
            let x = place(tick);
            svg.push(element("line").class("gr").with("x1", x).with("x2", x).with("y1", 0).with("y2", 16));
        }
        if c.low.is_finite() && c.high.is_finite() {
            let (a, b) = (place(c.low), place(c.high));
            svg.push(element("line").class("l s0").with("x1", a).with("x2", b).with("y1", 8).with("y2", 8));
        }
        if c.rho.is_finite() {
            svg.push(element("circle").class("p s0").with("cx", place(c.rho)).with("cy", 8).with("r", 4.5));
        }
        body.push(
            element("tr")
                .child(element("th").with("scope", "row").text(readable(&c.name)))
                .child(element("td").class("n").text(two(c.rho)))
                .child(element("td").class("n").text(format!("{} to {}", two(c.low), two(c.high))))
                .child(element("td").child(svg)),
        );
    }
    let head = ["", "ρ", "interval", "from −1 to 1"].map(|w| {
        let cell = element("th").with("scope", "col").text(w);
        if matches!(w, "ρ" | "interval") { cell.class("n") } else { cell }
    });
    let drawn =
        element("table").class("summary corr").child(element("thead").child(element("tr").children(head))).child(body);
    let strongest = found
        .iter()
        .filter(|c| c.rho.is_finite())
        .max_by(|a, b| a.rho.abs().total_cmp(&b.rho.abs()))
        .map(|c| format!("Rank correlations: the strongest is {} ({})", readable(&c.name), two(c.rho)));
    let id = view.id("correlations");
    Some(
        element("figure")
            .class("fig")
            .with("id", &id)
            .child(element("h3").text(strongest.unwrap_or_else(|| "Rank correlations".to_owned())))
            .child(element("figcaption").text(
                "Spearman's ρ between the two named, with the interval stored beside it; the dot is the estimate.",
            ))
            .child(element("div").class("scroll").with("tabindex", "0").child(drawn))
            .child(table.details(&id, "rank correlations")),
    )
}

fn two(value: f64) -> String {
    if value.is_finite() { format!("{value:.3}").replace('-', "−") } else { "undefined".to_owned() }
}

/// A stored name as words: the parts of a path and of a compound apart.
fn readable(name: &str) -> String {
    name.replace('/', ": ").replace(['-', '_'], " ").replace('.', ", ")
}
