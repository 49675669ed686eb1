//! What goes with what: rank correlations over the models and within each, and what mixup changes.

use super::{View, beta_words};
use crate::report::figure::{Axis, Figure, Mark, Plot, Point, Scale, Table, number};
use crate::report::markup::{Element, element};
use crate::report::section::{Headline, Section};
use crate::report::study::Interval;
use crate::report::words;

/// Scores by which the page shows relations; the tables below have all.
const SCORES: [&str; 3] = ["spectral_radius", "von_neumann_entropy", "singular.entropy_maxnorm"];
/// So many relations are shown even where none is of the above.
const FEW: usize = 12;

/// Adds all relations of the sweep.
pub(super) fn add(view: &View<'_>, section: &mut Section) {
    if let Some((element, finding)) = correlations(view) {
        section.findings.push(finding);
        section.body.push(element);
    }
    if let Some((element, finding)) = effects(view) {
        section.findings.push(finding);
        section.body.push(element);
    }
    if let Some(figure) = within(view) {
        section.add(figure, Headline::No);
    }
}

/// A row: a heading, two words, the numbers.
struct Row<'a> {
    group: &'static str,
    words: String,
    interval: &'a Interval,
    /// Whether the page shows it.
    leads: bool,
}

/// `all.beta.trace` as a row.
fn row(interval: &Interval) -> Row<'_> {
    let (group, rest) = match interval.name.split_once('.') {
        Some(("all", rest)) => ("All models", rest),
        Some(("plain", rest)) => ("Models without mixup", rest),
        Some(("mixup", rest)) => ("Models with mixup", rest),
        _ => ("", interval.name.as_str()),
    };
    match words::pair(rest) {
        Some((a, b)) => {
            let telling = |name: &str| SCORES.contains(&name);
            let is_damage = |name: &str| name.ends_with(".recon_mse") || name.ends_with(".latent_l2");
            let leads = (a == "beta" && (telling(&b) || is_damage(&b))) || (telling(&a) && b.ends_with(".recon_mse"));
            let words = format!("{} and {}", words::quantity(&a), words::quantity(&b));
            Row { group, words, interval, leads }
        }
        None => Row { group, words: rest.replace(['_', '-', '/'], " "), interval, leads: false },
    }
}

fn correlations(view: &View<'_>) -> Option<(Element, (String, String))> {
    let mut rows: Vec<Row> = view.sweep.correlations.iter().map(row).collect();
    if rows.is_empty() {
        return None;
    }
    rows.sort_by_key(|r| {
        ["All models", "Models without mixup", "Models with mixup", ""].iter().position(|g| *g == r.group)
    });
    let of = |name: &str| {
        let found = rows.iter().find(|r| r.interval.name == name)?;
        Some(format!("{} {}", found.words, two(found.interval.value)))
    };
    let told: Vec<String> =
        ["all.beta.spectral_radius", "all.beta.von_neumann_entropy", "all.spectral_radius.u1.recon_mse"]
            .iter()
            .filter_map(|n| of(n))
            .collect();
    let title = if told.is_empty() {
        let strongest = rows.iter().max_by(|a, b| a.interval.value.abs().total_cmp(&b.interval.value.abs()))?;
        format!("The strongest rank correlation is that of {}: {}", strongest.words, two(strongest.interval.value))
    } else {
        format!("Rank correlations over the models: {}", words::list(&told))
    };
    let id = view.id("correlations");
    let caption =
        "Spearman's ρ over the models, with its bootstrap interval; the dot is the estimate. The CSV has all.";
    let drawn = table(&rows, |_| 1.0, "from −1 to 1");
    Some((composed(&id, &title, caption, drawn, &view.sweep.correlations), (title.clone(), id.clone())))
}

fn effects(view: &View<'_>) -> Option<(Element, (String, String))> {
    let effects = &view.sweep.effects;
    if effects.is_empty() {
        return None;
    }
    let leads = |name: &str| SCORES.contains(&name) || name.ends_with(".recon_mse") || name.ends_with(".latent_l2");
    let rows: Vec<Row> = effects
        .iter()
        .map(|interval| Row {
            group: "",
            words: words::quantity(&interval.name),
            interval,
            leads: leads(&interval.name),
        })
        .collect();
    let shown = || rows.iter().filter(|r| r.leads);
    let clear = shown().filter(|r| r.interval.low > 0.0 || r.interval.high < 0.0).count();
    let told = rows.iter().find(|r| r.interval.name == "spectral_radius").map_or_else(String::new, |r| {
        let i = r.interval;
        format!("; λ₁ by {} ({} to {})", number::short(i.value), number::short(i.low), number::short(i.high))
    });
    let title = format!("Mixup clearly changes {clear} of these {}{told}", shown().count());
    let id = view.id("effects");
    let caption = "Mean difference, with mixup minus without, over pairs of models of the same β and seed, with its \
                   bootstrap interval. Each line has its own scale about zero. The CSV has all.";
    // A line as long as the interval's farther end.
    let reach = |i: &Interval| i.low.abs().max(i.high.abs()).max(f64::MIN_POSITIVE);
    let drawn = table(&rows, reach, "about zero");
    Some((composed(&id, &title, caption, drawn, effects), (title.clone(), id.clone())))
}

fn composed(id: &str, title: &str, caption: &str, drawn: Element, all: &[Interval]) -> Element {
    let mut table = Table::new(&["name", "value", "lower", "upper"]);
    for i in all {
        table.row([(&i.name).into(), i.value.into(), i.low.into(), i.high.into()]);
    }
    element("figure")
        .class("fig")
        .with("id", id)
        .child(element("h3").text(title))
        .child(element("figcaption").text(caption))
        .child(element("div").class("scroll").with("tabindex", "0").child(drawn))
        .child(table.details(id, title))
}

/// The leading rows (all, where few lead), each with a line from its lower to its upper end; `reach` is the value at
/// the line's end.
fn table(rows: &[Row<'_>], reach: impl Fn(&Interval) -> f64, scale: &str) -> Element {
    let leading = rows.iter().filter(|r| r.leads).count();
    let shown: Vec<&Row> = match leading {
        0 => rows.iter().take(FEW).collect(),
        _ => rows.iter().filter(|r| r.leads).collect(),
    };
    let mut body = element("tbody");
    let mut group = "";
    for row in shown {
        if row.group != group {
            group = row.group;
            let cell = element("th").with("scope", "rowgroup").with("colspan", 4).text(group);
            body.push(element("tr").class("group").child(cell));
        }
        let i = row.interval;
        let interval = format!("{} to {}", two(i.low), two(i.high));
        body.push(
            element("tr")
                .child(element("th").with("scope", "row").text(&row.words))
                .child(element("td").class("n").text(two(i.value)))
                .child(element("td").class("n").text(&interval))
                .child(element("td").child(whisker(i, reach(i), &interval))),
        );
    }
    let head = ["", "value", "interval", scale].map(|words| {
        let cell = element("th").with("scope", "col").text(words);
        if matches!(words, "value" | "interval") { cell.class("n") } else { cell }
    });
    let head = element("thead").child(element("tr").children(head));
    element("table").class("summary corr").child(head).child(body)
}

fn whisker(i: &Interval, reach: f64, words: &str) -> Element {
    let place = |v: f64| (100.0 + 92.0 * (v / reach).clamp(-1.0, 1.0)).round();
    let upright = |x: f64| element("line").class("gr").with("x1", x).with("x2", x).with("y1", 0).with("y2", 16);
    let mut svg = element("svg")
        .class("whisker")
        .with("viewBox", "0 0 200 16")
        .with("role", "img")
        .with("aria-label", format!("{} between {words}", two(i.value)))
        .children([-reach, 0.0, reach].map(|v| upright(place(v))));
    if i.low.is_finite() && i.high.is_finite() {
        let line = element("line").class("l s0").with("x1", place(i.low)).with("x2", place(i.high));
        svg.push(line.with("y1", 8).with("y2", 8));
    }
    if i.value.is_finite() {
        svg.push(element("circle").class("p s0").with("cx", place(i.value)).with("cy", 8).with("r", 4.5));
    }
    svg
}

/// Does a score tell, image by image, which images suffer? By beta, a panel a score and attack.
fn within(view: &View<'_>) -> Option<Figure> {
    let lines = view.lines();
    let mut table = Table::new(&["name", "mixup", "beta", "rho", "lower", "upper"]);
    let mut panels = Vec::new();
    let mut middle = Vec::new();
    for within in &view.sweep.within {
        let Some((score, damage)) = words::pair(&within.name) else { continue };
        // How a random direction fares is in the table.
        let drawn =
            SCORES.contains(&score.as_str()) && damage.ends_with(".recon_mse") && !damage.ends_with("random.recon_mse");
        let mut marks = Vec::new();
        let mut at = 0;
        for line in &lines {
            let mut points = Vec::new();
            for (point, [rho, low, high]) in line.points.iter().zip(&within.by_point[at..]) {
                table.row([
                    (&within.name).into(),
                    (&line.name).into(),
                    point.beta.into(),
                    (*rho).into(),
                    (*low).into(),
                    (*high).into(),
                ]);
                let tip = format!(
                    "{}, {}\nρ = {} ({} to {})",
                    line.name,
                    beta_words(point),
                    two(*rho),
                    two(*low),
                    two(*high)
                );
                points.push(Point { x: point.beta, y: *rho, band: Some((*low, *high)), tip, note: None });
                if drawn && score == "spectral_radius" {
                    middle.push(*rho);
                }
            }
            at += line.points.len();
            marks.push(line.curve(points, lines.len() > 1));
        }
        if drawn {
            marks.insert(0, Mark::Level(0.0, String::new()));
            let y = Axis { label: "rank correlation ρ".to_owned(), scale: Scale::Linear, low: -1.0, high: 1.0 };
            let title = format!("{}, {}", words::title(&score), words::quantity(&damage));
            panels.push(Plot::new(title, view.beta_axis(), y, marks).sized(360.0, 250.0).draw());
        }
    }
    if panels.is_empty() {
        return None;
    }
    Some(Figure {
        id: view.id("within"),
        title: format!(
            "Within the median model, λ₁ and the reconstruction error of an image have rank correlation {}",
            two(crate::report::stats::median(&middle))
        ),
        caption:
            "Spearman's ρ over the images of each model, between a score and the damage at the largest size, with \
                  its bootstrap interval (band)."
                .to_owned(),
        panels,
        table,
        ..Figure::default()
    })
}

fn two(value: f64) -> String {
    if !value.is_finite() {
        return "undefined".to_owned();
    }
    if value.abs() >= 10.0 || (value != 0.0 && value.abs() < 0.005) {
        return number::significant(value, 2);
    }
    format!("{value:.2}").replace('-', "−")
}
