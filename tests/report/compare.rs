//! Pages that compare models: an arm is a model, a metric a facet of it.

use super::{fixture, page, place};
use pullback::report::figure::{Ink, Marker, Stroke};
use pullback::report::{render, words};

/// The text of the first element that begins with `open`, up to `close`.
fn text<'a>(html: &'a str, open: &str, close: &str) -> &'a str {
    html.split(open).nth(1).and_then(|t| t.split(close).next()).unwrap_or_default()
}

/// The models as the page names them.
fn models(html: &str) -> Vec<String> {
    text(html, "<dt>models</dt><dd>", "</dd>").split(", ").map(str::to_owned).collect()
}

/// What a figure's CSV file holds.
fn csv(html: &str, name: &str) -> String {
    let start = format!("download=\"{name}.csv\" href=\"data:text/csv;charset=utf-8,");
    text(html, &start, "\"").replace("%20", " ").replace("%0A", "\n").replace("%22", "\"")
}

#[test]
fn five_models_by_three_metrics_are_five_arms() {
    let html = page("five");
    assert_eq!(text(&html, "<h1>", "</h1>"), "How robust are 5 autoencoders?");
    assert_eq!(models(&html), ["m0", "m1", "m2", "m3", "m4"]);
    for metric in ["mean", "stochastic", "fisher"] {
        for figure in ["spectra-eigenvalues", "scores-histograms"] {
            let name = format!("{figure}-{metric}");
            assert_eq!(html.matches(&format!("<figure class=\"fig\" id=\"{name}\"")).count(), 1, "{name}");
            assert!((0..5).all(|i| csv(&html, &name).contains(&format!("m{i},{metric},"))), "{name}");
        }
        assert!(!html.contains(&format!("m0, {metric}")), "no model is named by a metric");
    }
    // Every attack belongs to its model, and only a caption says whose directions it took.
    assert_eq!(csv(&html, "damage-latent_l2").lines().count(), 1 + 5 * 3 * 3);
    assert!(html.contains("Spectral steps take the directions of the stochastic metric."));
    // What another metric says of these steps is no prediction.
    assert!(html.contains("id=\"prediction-latent_w2-stochastic\""));
    assert!(!html.contains("id=\"prediction-latent_l2-mean\"") && !html.contains("id=\"prediction-latent_kl"));
}

#[test]
fn the_best_model_stands_first() {
    let table = |html: &str| text(html, "id=\"compare-table\"", "</table>").to_owned();
    for (name, count) in [("five", 5), ("twelve", 12)] {
        let html = page(name);
        let rows: Vec<String> = table(&html).split("<tr>").skip(2).map(str::to_owned).collect();
        assert_eq!(rows.len(), count);
        for (i, row) in rows.iter().enumerate() {
            assert!(row.contains(&format!("</span>m{i}</span>")), "{name} row {i}: {row}");
        }
        // Their spectra grow, and with them the damage: the first is best of all, the last worst.
        assert!(rows[0].matches(">best<").count() >= 6 && rows[count - 1].matches(">worst<").count() >= 6, "{name}");
        assert!(!rows[1].contains(">best<") || !rows[1].contains(">worst<"));
        assert!(html.contains("sorted by reconstruction error under the PGD attack at ε\u{a0}=\u{a0}4, best first"));
    }
    // Nothing to compare a lone model with.
    let one = render(&[place("run").join("plain")]).unwrap();
    assert_eq!(text(&one, "<h1>", "</h1>"), "How robust is plain?");
    assert!(table(&one).is_empty());
}

#[test]
fn weights_say_what_a_model_is() {
    let html = page("paths");
    // The same weights under two paths are one model.
    assert_eq!(models(&html), ["copy", "vae"], "as the files name them first");
    assert_eq!(text(&html, "<h1>", "</h1>"), "How robust are copy and vae?");
    let summary = csv(&html, "summary");
    assert!(summary.contains("copy,scores,mean,trace") && summary.contains("copy,scores,stochastic,trace"));
    assert!(summary.contains("copy,attack,") && summary.contains("\nvae,attack,"));
    // Two of one name have their folders' names.
    let file = |name: &str| fixture().join("paths").join(name);
    let html = render(&[file("one-scores.h5"), file("again-scores.h5"), file("other-scores.h5")]).unwrap();
    assert_eq!(models(&html), ["a/vae", "b/vae"]);
    // Other weights under the same path are another model, told by the weights.
    let html = page("again");
    let names = models(&html);
    assert!(names.len() == 2 && names.iter().all(|n| n.starts_with("vae (") && n.len() == 13), "{names:?}");
    // One model on two data sets is one model, its data apart.
    let html = page("sets");
    assert_eq!(text(&html, "<h1>", "</h1>"), "How robust is vae?");
    assert_eq!(text(&html, "<dt>models</dt><dd>", "</dd>"), "vae, digits, vae, strokes");
}

#[test]
fn files_of_one_metric_do_not_replace_each_other() {
    let html = page("twice");
    assert_eq!(text(&html, "<h1>", "</h1>"), "How robust is vae?");
    let summary = csv(&html, "summary");
    let of = |facet: &str| summary.lines().filter(|l| l.starts_with(&format!("vae,scores,\"{facet}\",trace,"))).count();
    // Told apart by what differs; the copy of a file is not told twice.
    for facet in ["stochastic, 60 images, f32", "stochastic, 40 images, f32", "stochastic, 60 images, f64"] {
        assert_eq!(of(facet), 1, "{facet}");
    }
    assert_eq!(summary.matches(",trace,").count(), 3);
    // Attacks of two files too.
    for metric in ["stochastic", "fisher"] {
        assert!(html.contains(&format!("id=\"damage-latent_l2-l2-along-{metric}-directions\"")), "{metric}");
        assert!(html.contains(&format!("spectral (along {metric} directions)")), "{metric}");
    }
    assert_eq!(words::facet("stochastic, 40 images"), "stochastic metric, 40 images");
}

#[test]
fn twelve_models_are_told_apart() {
    for i in 0..12 {
        for j in 0..i {
            let look = |i: usize| (Ink::Series(i).to_string(), Stroke::series(i));
            let shape = |i: usize| (Ink::Series(i).to_string(), Marker::series(i));
            assert!(look(i) != look(j) && shape(i) != shape(j), "{i} and {j}");
        }
    }
}

#[test]
fn what_is_masked_counts_for_nothing_and_what_is_no_picture_is_not_drawn() {
    let html = page("special");
    let note = "vae (stochastic): the gradient of 7 of 60 images is masked";
    assert!(html.contains(note), "{}", text(&html, "id=\"summary-table\"", "</p><div"));
    // Seven zeros would be the least; they are undefined.
    let row = csv(&html, "summary").lines().find(|l| l.contains(",spectral_radius,")).unwrap_or_default().to_owned();
    let cells: Vec<&str> = row.split(',').collect();
    assert!(cells.contains(&"60") && cells.contains(&"7"), "{row}");
    assert!(!html.contains("Before and after"), "drawn as pictures");
    assert!(page("run").contains("id=\"gallery-images"));
}
