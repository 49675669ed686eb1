//! Correlations over the models and within each model, and the effect of mixup.

use super::trend::first_attack;
use super::view::{View, beta_words};
use crate::report::figure::{Axis, AxisScale, Figure, Mark, Plot, Point, Table, number};
use crate::report::markup::{Element, element};
use crate::report::section::{Headline, Section};
use crate::report::stats::median;
use crate::report::study::{Interval, OutcomeSummary};
use crate::report::words;
use crate::store::{Quantity, Relation};

/// Scores whose relations the page shows; the CSV files contain all.
const SCORES: [&str; 3] = ["spectral_radius", "von_neumann_entropy", "singular.entropy_maxnorm"];
/// The groups of models of a correlation: the name in a file, and the words.
const GROUPS: [(&str, &str); 3] = [("all", "all models"), ("plain", "without mixup"), ("mixup", "with mixup")];

/// Adds all relations of the sweep.
pub(super) fn add(view: &View<'_>, section: &mut Section) {
    for (element, finding) in correlations(view).into_iter().chain(effects(view)) {
        section.findings.push(finding);
        section.body.push(element);
    }
    if let Some(figure) = within(view) {
        section.add(figure, Headline::No);
    }
}

/// A table as a figure, and its title with its anchor.
type Drawn = (Element, (String, String));

/// A row: its subject, and its numbers, one for each column.
struct Row<'a> {
    heading: String,
    words: String,
    cells: Vec<Option<&'a Interval>>,
}

fn is_score(quantity: &Quantity) -> bool {
    matches!(quantity, Quantity::Score(name) if SCORES.contains(&name.as_str()))
}

fn is_error(quantity: &Quantity) -> bool {
    matches!(quantity, Quantity::Damage { measure, .. } if measure == "recon_mse")
}

fn is_damage(quantity: &Quantity) -> bool {
    is_error(quantity) || matches!(quantity, Quantity::Damage { measure, .. } if measure == "latent_l2")
}

/// Position among the rows: scores in the order above, then damage by the main set, then by the others.
fn order(quantity: &Quantity) -> (usize, &Quantity) {
    let place = match quantity {
        Quantity::Score(name) => SCORES.iter().position(|score| score == name).unwrap_or(SCORES.len()),
        Quantity::Damage { set, .. } if !set.is_empty() => SCORES.len() + 1,
        _ => SCORES.len(),
    };
    (place, quantity)
}

/// A quantity in words.
fn quantity(view: &View<'_>, quantity: &Quantity) -> String {
    words::quantity(quantity, |set, name| {
        let known = view.attacks().iter().find(|attack| attack.set == set && attack.name == name);
        known.map_or_else(|| words::attack(name), OutcomeSummary::words)
    })
}

/// `/correlation`: one row for each pair that leads, one column for each group of models.
fn correlations(view: &View<'_>) -> Option<Drawn> {
    let all = &view.sweep.correlations;
    let found = |group: &str, pair: &Pair<'_>| {
        let is = |about: &Relation| about.models.as_deref() == Some(group) && pair_of(about).as_ref() == Some(pair);
        all.iter().find(|i| i.about.as_ref().is_some_and(is))
    };
    let mut pairs: Vec<Pair<'_>> = Vec::new();
    for (a, b) in all.iter().filter_map(|i| pair_of(i.about.as_ref()?)) {
        let leads = (*a == Quantity::Beta && (is_score(b) || is_damage(b))) || (is_score(a) && is_error(b));
        if leads && !pairs.contains(&(a, b)) {
            pairs.push((a, b));
        }
    }
    pairs.sort_by_key(|(a, b)| (**a != Quantity::Beta, order(a), order(b)));
    let groups: Vec<_> = GROUPS.iter().filter(|(g, _)| pairs.iter().any(|p| found(g, p).is_some())).collect();
    let rows: Vec<Row> = if pairs.is_empty() {
        // Names that the page does not know are shown unchanged.
        all.iter().map(|i| Row { heading: String::new(), words: i.name.clone(), cells: vec![Some(i)] }).collect()
    } else {
        let row = |pair: &Pair<'_>| Row {
            heading: format!("{} and", sentence(&quantity(view, pair.0))),
            words: quantity(view, pair.1),
            cells: groups.iter().map(|(group, _)| found(group, pair)).collect(),
        };
        pairs.iter().map(row).collect()
    };
    let strongest = rows.iter().filter_map(|r| Some((r, r.cells.first().copied()??)));
    let strongest = strongest.max_by(|a, b| a.1.value.abs().total_cmp(&b.1.value.abs()))?;
    // If mixup changes all values, both arms together show less about beta than one arm does.
    let arm = if groups.iter().any(|(group, _)| *group == "plain") { "plain" } else { "all" };
    let score = |name: &str| Quantity::Score(name.to_owned());
    let error =
        Quantity::Damage { set: String::new(), attack: first_attack(view).to_owned(), measure: "recon_mse".to_owned() };
    let (radius, entropy) = (score(SCORES[0]), score(SCORES[1]));
    let told: Vec<String> = [(&Quantity::Beta, &radius), (&Quantity::Beta, &entropy), (&radius, &error)]
        .iter()
        .filter_map(|pair| {
            let value = two(found(arm, pair)?.value);
            Some(format!("{} and {} {value}", quantity(view, pair.0), quantity(view, pair.1)))
        })
        .collect();
    let title = if told.is_empty() {
        let (row, interval) = strongest;
        format!("The strongest rank correlation: {} {} {}", row.heading, row.words, two(interval.value))
    } else {
        let models = if arm == "plain" { "models without mixup" } else { "models" };
        format!("Rank correlations over the {models}: {}", words::list(&told))
    };
    let caption = "Spearman's ρ over the models (of their means; damage at the largest size), and its bootstrap \
                   interval as a line from −1 to 1. In brackets, the key of a further set of attacks. The numbers below \
                   have Kendall's τ too.";
    let columns: Vec<&str> = groups.iter().map(|(_, words)| *words).collect();
    let drawn = table(&rows, if columns.is_empty() { &["ρ"] } else { &columns }, two, |_| 1.0);
    let both = [("spearman", all.as_slice()), ("kendall", view.sweep.taus.as_slice())];
    Some(composed(&view.id("correlations"), title, caption, drawn, &both))
}

/// The two sides of a relation.
type Pair<'a> = (&'a Quantity, &'a Quantity);

fn pair_of(about: &Relation) -> Option<Pair<'_>> {
    Some((about.of.as_ref()?, &about.with))
}

/// `/effect`: one row for each quantity that leads.
fn effects(view: &View<'_>) -> Option<Drawn> {
    let mut leading: Vec<(&Quantity, &Interval)> =
        view.sweep.effects.iter().filter_map(|i| Some((&i.about.as_ref()?.with, i))).collect();
    leading.retain(|(of, _)| is_score(of) || is_damage(of));
    leading.sort_by_key(|(of, _)| order(of));
    let radius = leading.iter().find(|(of, _)| matches!(of, Quantity::Score(name) if name == SCORES[0]));
    let told = radius.map_or_else(String::new, |(_, i)| {
        format!("; λ₁ changes by {} ({} to {})", number::short(i.value), number::short(i.low), number::short(i.high))
    });
    let clear = leading.iter().filter(|(_, i)| i.low > 0.0 || i.high < 0.0).count();
    let title = format!("The intervals of {clear} of {} changes by mixup leave out zero{told}", leading.len());
    let caption = "Mean difference, with mixup minus without, over pairs of models of the same β and seed, and its \
                   bootstrap interval as a line, on a scale of its own about zero.";
    let named = |of: &Quantity| sentence(&quantity(view, of));
    let rows: Vec<Row> =
        leading.iter().map(|(of, i)| Row { heading: String::new(), words: named(of), cells: vec![Some(*i)] }).collect();
    if rows.is_empty() {
        return None;
    }
    let reach = |i: &Interval| i.low.abs().max(i.high.abs()).max(f64::MIN_POSITIVE);
    let drawn = table(&rows, &["change"], number::short, reach);
    Some(composed(&view.id("effects"), title, caption, drawn, &[("mean difference", &view.sweep.effects)]))
}

/// `all` are the numbers behind the figure, by their kind.
fn composed(id: &str, title: String, caption: &str, drawn: Element, all: &[(&str, &[Interval])]) -> Drawn {
    let mut table = Table::new(&["name", "statistic", "value", "lower", "upper"]);
    for (statistic, intervals) in all {
        for i in *intervals {
            table.row([(&i.name).into(), (*statistic).into(), i.value.into(), i.low.into(), i.high.into()]);
        }
    }
    let figure = element("figure")
        .class("fig")
        .with("id", id)
        .child(element("h3").text(&title))
        .child(element("figcaption").text(caption))
        .child(element("div").class("scroll").with("tabindex", "0").child(drawn))
        .child(table.details(id, &title));
    (figure, (title, id.to_owned()))
}

/// The rows below their headings, with a number and its interval in each column; `reach` is the value at the end of an interval's line.
fn table(rows: &[Row<'_>], columns: &[&str], say: fn(f64) -> String, reach: impl Fn(&Interval) -> f64) -> Element {
    let mut body = element("tbody");
    let mut heading = "";
    for row in rows {
        if row.heading != heading {
            heading = &row.heading;
            let cell = element("th").with("scope", "rowgroup").with("colspan", 1 + columns.len()).text(heading);
            body.push(element("tr").class("group").child(cell));
        }
        let mut line = element("tr").child(element("th").with("scope", "row").text(&row.words));
        for cell in &row.cells {
            let Some(i) = cell else {
                line.push(element("td").text("–"));
                continue;
            };
            let words = format!("{}, {} to {}", say(i.value), say(i.low), say(i.high));
            let both = element("div").child(element("span").text(say(i.value))).child(whisker(i, reach(i), &words));
            line.push(element("td").with("title", &words).child(both));
        }
        body.push(line);
    }
    let mut head = element("tr").child(element("th").with("scope", "col").text(""));
    for column in columns {
        head.push(element("th").with("scope", "col").text(column));
    }
    element("table").class("summary corr").child(element("thead").child(head)).child(body)
}

fn whisker(i: &Interval, reach: f64, words: &str) -> Element {
    let place = |v: f64| (60.0 + 54.0 * (v / reach).clamp(-1.0, 1.0)).round();
    let upright = |x: f64| element("line").class("gr").with("x1", x).with("x2", x).with("y1", 0).with("y2", 16);
    let mut svg = element("svg")
        .class("whisker")
        .with("viewBox", "0 0 120 16")
        .with("role", "img")
        .with("aria-label", words)
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

/// Does a score predict, for single images, which images are damaged? By beta, one panel for each score and attack.
fn within(view: &View<'_>) -> Option<Figure> {
    let arms = view.arms();
    let mut table = Table::new(&["name", "statistic", "mixup", "beta", "value", "lower", "upper"]);
    let mut panels = Vec::new();
    let mut middle = Vec::new();
    let mut found: Vec<_> =
        view.sweep.within.iter().filter_map(|w| pair_of(w.about.as_ref()?).map(|(a, b)| (a, b, w))).collect();
    found.sort_by_key(|(a, b, _)| (order(a), order(b)));
    for (statistic, all) in [("spearman", &view.sweep.within), ("kendall", &view.sweep.taus_within)] {
        for within in all {
            let points = arms.iter().flat_map(|arm| arm.points.iter().map(move |point| (arm, point)));
            for ((arm, point), [value, low, high]) in points.zip(&within.by_point) {
                table.row([
                    (&within.name).into(),
                    statistic.into(),
                    (&arm.name).into(),
                    point.beta.into(),
                    (*value).into(),
                    (*low).into(),
                    (*high).into(),
                ]);
            }
        }
    }
    for (score, damage, within) in found {
        // The result for a random direction is in the table.
        let random = matches!(damage, Quantity::Damage { attack, .. } if attack == "random");
        let drawn = is_score(score) && is_error(damage) && !random;
        let score = score.to_string();
        let mut marks = Vec::new();
        let mut at = 0;
        for arm in &arms {
            let mut points = Vec::new();
            for (point, [rho, low, high]) in arm.points.iter().zip(&within.by_point[at..]) {
                let spread = format!("ρ = {} ({} to {})", two(*rho), two(*low), two(*high));
                let tip = format!("{}, {}\n{spread}", arm.name, beta_words(point));
                points.push(Point { x: point.beta, y: *rho, band: Some((*low, *high)), tip, note: None });
                if drawn && score == "spectral_radius" {
                    middle.push(*rho);
                }
            }
            at += arm.points.len();
            marks.push(arm.curve(points, arms.len() > 1));
        }
        if drawn {
            marks.insert(0, Mark::Level(0.0, String::new()));
            let label = format!("ρ with {}", quantity(view, damage));
            let y = Axis::between(label, AxisScale::Linear, -1.0, 1.0);
            panels.push(Plot::new(words::title(&score), view.beta_axis(), y, marks).sized(360.0, 250.0).draw());
        }
    }
    Some(Figure {
        id: view.id("within"),
        title: format!(
            "Within the median model, λ₁ and the reconstruction error of an image have rank correlation {}",
            two(median(&middle))
        ),
        caption:
            "Spearman's ρ over the images of each model, between a score and the damage at the largest size, with \
                  its bootstrap interval (band); of several seeds, the median. The numbers below have Kendall's τ too."
                .to_owned(),
        panels,
        table,
        ..Figure::default()
    })
}

/// Two decimal places.
fn two(value: f64) -> String {
    if value.is_finite() { format!("{value:.2}").replace('-', "−") } else { "undefined".to_owned() }
}

/// Makes the first letter a capital.
fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    // Greek β stays small, because the capital looks like B.
    if words.starts_with('β') { words.to_owned() } else { first + letters.as_str() }
}
