//! Tables of entries as Markdown and as HTML.

use super::entry::{Entry, short};
use crate::report::markup::{Element, element};
use std::fmt::Write as _;

/// A table's title, its columns and rows.
fn cells(table: &[Entry]) -> (String, Vec<String>, Vec<Vec<String>>) {
    let Some(first) = table.first() else { return (String::new(), vec![], vec![]) };
    let title = format!(
        "{}, {}, goal {}{}: {} samples of {} (data {})",
        first.suite,
        first.norm,
        first.goal,
        if first.setting.is_empty() { String::new() } else { format!("; {}", first.setting) },
        first.samples,
        first.dataset,
        short(&first.data_sha256)
    );
    let mut columns = vec!["rank".to_owned(), "model".to_owned()];
    columns.extend(first.has_area().then(|| "mean damage over epsilon".to_owned()));
    columns.extend(first.eps.iter().map(|e| format!("damage at {e}")));
    columns.extend(["lost", "clean mse", "mse at the largest", "passes", "weights"].map(str::to_owned));
    let with_interval =
        |[value, lower, upper]: [f64; 3]| format!("{} [{}, {}]", figures(value), figures(lower), figures(upper));
    let rows = table.iter().enumerate().map(|(i, e)| {
        // Those without a rank come last.
        let rank = if e.is_whole() { (i + 1).to_string() } else { "–".to_owned() };
        let mut row = vec![rank, named(table, e)];
        row.extend(e.has_area().then(|| with_interval(e.area)));
        row.extend(e.damage.iter().map(|d| with_interval(*d)));
        row.push(e.lost.map_or_else(|| "unknown".to_owned(), |lost| lost.to_string()));
        row.push(figures(e.clean_mse));
        row.push(e.recon_mse.last().map_or_else(String::new, |v| figures(*v)));
        row.push(format!("{:.0} + {:.0}", e.passes[0], e.passes[1]));
        row.push(short(&e.model_sha256));
        row
    });
    (title, columns, rows.collect())
}

/// An entry's model, with what tells it from others of the same weights.
fn named(table: &[Entry], entry: &Entry) -> String {
    let differs = |is_other: fn(&Entry, &Entry) -> bool| {
        table.iter().any(|e| e.weights() == entry.weights() && is_other(e, entry))
    };
    let mut told = vec![];
    if differs(|a, b| a.interface != b.interface) {
        let read = if entry.interface.is_empty() { "default interface" } else { &entry.interface };
        told.push(read.to_owned());
    }
    if differs(|a, b| a.seed != b.seed) {
        told.push(format!("seed {}", entry.seed));
    }
    if told.is_empty() { entry.model.clone() } else { format!("{} ({})", entry.model, told.join("; ")) }
}

/// Three significant figures.
fn figures(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let digits = (2 - value.abs().log10().floor() as i32).clamp(0, 12) as usize;
    format!("{value:.digits$}")
}

/// What a reader must know about every table.
const NOTE: &str = "Most robust first: by the area under the mean damage over epsilon, divided by the largest epsilon. Where damage is not 0 \
                    without an attack, as the error of a reconstruction and the distance to a target, there is no such area, and the \
                    damage at the largest epsilon ranks. Each damage is the worst over all attacks of the suite, mean over the samples, \
                    with a bootstrap interval of 95 %. A sample is lost where its damage is not finite: means are over the others, so a \
                    model that loses samples stands last, without a rank. Latent distances of models whose codes have other scales do \
                    not compare; errors of reconstructions do. Passes are forward and backward, a sample.";

pub(super) fn markdown(tables: &[Vec<Entry>]) -> String {
    let mut text = format!("# Leaderboard\n\n{NOTE}\n");
    for table in tables {
        let (title, columns, rows) = cells(table);
        let line = |cells: &[String]| {
            format!("| {} |", cells.iter().map(|c| c.replace('|', "\\|")).collect::<Vec<_>>().join(" | "))
        };
        let rule = vec!["---".to_owned(); columns.len()];
        let _ = write!(text, "\n## {title}\n\n{}\n{}\n", line(&columns), line(&rule));
        for row in rows {
            let _ = writeln!(text, "{}", line(&row));
        }
    }
    text
}

pub(super) fn html(tables: &[Vec<Entry>]) -> String {
    let row = |tag: &'static str, cells: Vec<String>| -> Element {
        element("tr").children(cells.into_iter().map(|c| element(tag).text(c)))
    };
    let mut body = element("body").child(element("h1").text("Leaderboard")).child(element("p").text(NOTE));
    for table in tables {
        let (title, columns, rows) = cells(table);
        let head = element("thead").child(row("th", columns));
        let rows = element("tbody").children(rows.into_iter().map(|r| row("td", r)));
        body.push(element("h2").text(title));
        body.push(element("div").class("wide").child(element("table").child(head).child(rows)));
    }
    let style = "body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#222;background:#fff}\
                 .wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}\
                 th,td{padding:.3rem .8rem;text-align:left;border-bottom:1px solid #8884;white-space:nowrap}\
                 @media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}}";
    let head = element("head")
        .child(element("meta").with("charset", "utf-8"))
        .child(element("meta").with("name", "viewport").with("content", "width=device-width, initial-scale=1"))
        .child(element("title").text("Leaderboard"))
        .child(element("style").text(style));
    format!("<!doctype html>\n{}\n", element("html").with("lang", "en").child(head).child(body).render())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_three() {
        assert_eq!(
            ["1234.6", "12.345", "0.00123456", "0"].map(|t| figures(t.parse().unwrap())),
            ["1235", "12.3", "0.00123", "0"]
        );
    }
}
