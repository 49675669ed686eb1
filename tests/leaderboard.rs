//! The leaderboard: which entries compare, who is first, and what a reader is told.

use crate::attack::flags::half_lost;
use pullback::pipeline::leaderboard::leaderboard;
use pullback::store::Overwrite;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// An entry as version 0.1 would have written it, with this mean damage at 0.5 and 1.
fn entry(model: &str, weights: &str, damage: [f64; 2]) -> Value {
    let area = 0.5 * damage[0] + 0.25 * damage[1];
    let with_ends = |value: f64| json!([value, 0.9 * value, 1.1 * value]);
    json!({
        "model": model, "model_sha256": weights, "dataset": "images", "data_sha256": "cdcdcdcd", "samples": 70, "suite": "suite-4",
        "norm": "l2", "goal": "latent", "eps": [0.5, 1.0], "damage": [with_ends(damage[0]), with_ends(damage[1])],
        "recon_mse": [0.05, 0.1], "clean_mse": 0.01, "area": with_ends(area), "passes": [900.0, 850.0], "seed": 0, "version": "0.1.0"
    })
}

/// The entry with other values under some keys.
fn with(entry: &Value, other: Value) -> Value {
    let mut entry = entry.clone();
    let (Some(all), Value::Object(other)) = (entry.as_object_mut(), other) else { panic!("{entry}") };
    all.extend(other);
    entry
}

fn put(folder: &Path, entries: &[Value]) -> PathBuf {
    let path = folder.join("entries.json");
    fs::write(&path, serde_json::to_string(entries).unwrap()).unwrap();
    path
}

/// The leaderboard of files in one form.
fn board(inputs: &[PathBuf], form: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join(format!("board.{form}"));
    leaderboard(inputs, &output, Overwrite::No).unwrap();
    fs::read_to_string(output).unwrap()
}

/// The cells of each row of the first Markdown table, its head first.
fn rows(page: &str) -> Vec<Vec<&str>> {
    let lines = page.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = |line| -> Vec<&str> { str::split(line, '|').map(str::trim).filter(|cell| !cell.is_empty()).collect() };
    lines.filter(|line| !line.starts_with("| ---")).map(cells).collect()
}

/// The column of this name, without its head.
fn column<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let rows = rows(page);
    let place = rows[0].iter().position(|head| *head == name).unwrap_or_else(|| panic!("no {name}: {page}"));
    rows[1..].iter().map(|row| row[place]).collect()
}

#[test]
fn a_model_that_loses_samples_is_no_winner() {
    let folder = tempfile::tempdir().unwrap();
    let lossy = with(&entry("lossy", "aa", [1.0, 2.0]), json!({"lost": 15}));
    let whole = with(&entry("whole", "bb", [3.0, 4.0]), json!({"lost": 0}));
    // Of a version that did not count.
    let input = put(folder.path(), &[lossy, whole, entry("before", "cc", [2.0, 3.0])]);
    for _ in 0..2 {
        let page = board(std::slice::from_ref(&input), "md");
        assert_eq!(column(&page, "rank"), ["1", "2", "–"], "{page}");
        assert_eq!(column(&page, "model"), ["before", "whole", "lossy"], "{page}");
        assert_eq!(column(&page, "lost"), ["unknown", "0", "15"], "{page}");
        assert!(board(std::slice::from_ref(&input), "html").contains("<td>15</td>"));
        // What it wrote says the same.
        let again = board(std::slice::from_ref(&input), "json");
        fs::write(&input, again).unwrap();
    }
}

#[test]
fn lost_samples_of_a_file_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let entries: Vec<Value> = serde_json::from_str(&board(&[half_lost(folder.path())], "json")).unwrap();
    assert_eq!((&entries[0]["samples"], &entries[0]["lost"]), (&json!(4), &json!(2)), "{entries:?}");
}
