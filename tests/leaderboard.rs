//! The leaderboard: which entries compare, who is first, and what a reader is told.

use crate::attack::flags::half_lost;
use crate::files::program;
use pullback::event::{Event, Observer};
use pullback::pipeline::leaderboard::leaderboard;
use pullback::store::Overwrite;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

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

/// Keeps notes.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Observer for Notes {
    fn on(&self, event: Event<'_>) {
        if let Event::Note(line) = event {
            self.0.lock().unwrap().push(line.to_owned());
        }
    }
}

/// The leaderboard of files in one form, and the notes.
fn noted(inputs: &[PathBuf], form: &str) -> (String, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join(format!("board.{form}"));
    let notes = Notes::default();
    leaderboard(inputs, &output, Overwrite::No, &notes).unwrap();
    (fs::read_to_string(output).unwrap(), notes.0.into_inner().unwrap())
}

fn board(inputs: &[PathBuf], form: &str) -> String {
    noted(inputs, form).0
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

#[test]
fn weights_stand_once_for_each_interface_and_seed() {
    let folder = tempfile::tempdir().unwrap();
    let plain = entry("m", "aa", [1.0, 2.0]);
    let scaled = with(&entry("m", "aa", [3.0, 4.0]), json!({"interface": "input range -1,1"}));
    let reseeded = with(&entry("m", "aa", [2.0, 3.0]), json!({"seed": 7}));
    let input = put(folder.path(), &[plain.clone(), scaled, reseeded, entry("other", "bb", [5.0, 6.0])]);
    let (page, notes) = noted(std::slice::from_ref(&input), "md");
    let expected =
        ["m (default interface; seed 0)", "m (default interface; seed 7)", "m (input range -1,1; seed 0)", "other"];
    assert_eq!(column(&page, "model"), expected, "{page}");
    assert!(notes.is_empty(), "{notes:?}");
    // The same run again: what is equal needs no words, what is new takes the old one's place.
    let (page, notes) = noted(&[input.clone(), input.clone()], "md");
    assert_eq!((column(&page, "model").len(), notes.len()), (4, 0), "{page} {notes:?}");
    let newer = folder.path().join("newer.json");
    fs::write(&newer, serde_json::to_string(&[with(&plain, json!({"version": "0.2.0", "clean_mse": 0.5}))]).unwrap())
        .unwrap();
    let (page, notes) = noted(&[input, newer], "md");
    assert_eq!(column(&page, "clean mse"), ["0.500", "0.0100", "0.0100", "0.0100"], "{page}");
    assert_eq!(notes, ["leaderboard: an entry of m (aa, seed 0) gives way to the one that follows it"]);
}

/// As of functions in Python.
#[test]
fn models_whose_weights_are_not_known_are_told_by_their_path() {
    let folder = tempfile::tempdir().unwrap();
    let input = put(folder.path(), &[entry("one", "", [1.0, 2.0]), entry("two", "", [2.0, 3.0])]);
    assert_eq!(column(&board(&[input], "md"), "model"), ["one", "two"]);
}

/// JSON has no NaN: what is none is written as null.
#[test]
fn means_that_are_no_numbers_are_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let nulls = json!([null, null, null]);
    let none =
        json!({"clean_mse": null, "recon_mse": [0.05, null], "damage": [nulls, nulls], "area": nulls, "lost": 70});
    let input = put(folder.path(), &[with(&entry("none", "aa", [1.0, 2.0]), none), entry("m", "bb", [1.0, 2.0])]);
    let again = folder.path().join("again.json");
    fs::write(&again, board(&[input], "json")).unwrap();
    let page = board(&[again], "md");
    assert_eq!(column(&page, "model"), ["m", "none"], "{page}");
    assert_eq!(column(&page, "damage at 1")[1], "NaN [NaN, NaN]", "{page}");
}

#[test]
fn json_that_is_no_text_is_a_wrong_request() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    // What a shell of Windows makes of `>`.
    fs::write(at.join("wide.json"), b"\xff\xfe[\0]\0").unwrap();
    let out = program().args(["leaderboard", "wide.json", "-o", "board.md"]).current_dir(at).output().unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    assert_eq!((out.status.code(), said.lines().count()), (Some(2), 1), "{said}");
    assert!(said.contains("wide.json: expected text in UTF-8"), "{said}");
}

/// Without an attack the error of a reconstruction is not 0, and neither is the distance to a target.
#[test]
fn only_damage_that_begins_at_0_has_an_area() {
    let folder = tempfile::tempdir().unwrap();
    let area = "mean damage over epsilon";
    let page = board(&[put(folder.path(), &[entry("a", "aa", [1.0, 2.0])])], "md");
    assert_eq!(column(&page, area), ["1.00 [0.900, 1.10]"], "{page}");
    for aim in
        [json!({"goal": "recon-mse"}), json!({"setting": "target zero"}), json!({"setting": "target image (ab); f64"})]
    {
        // By their areas from 0, the other way round.
        let first = with(&entry("first", "aa", [3.0, 3.5]), aim.clone());
        let input = put(folder.path(), &[with(&entry("second", "bb", [1.0, 4.0]), aim.clone()), first]);
        let page = board(std::slice::from_ref(&input), "md");
        assert_eq!(column(&page, "model"), ["first", "second"], "{page}");
        assert!(!rows(&page)[0].contains(&area), "{page}");
        let written: Vec<Value> = serde_json::from_str(&board(&[input], "json")).unwrap();
        assert_eq!(written[0]["area"], json!([null, null, null]), "{aim}");
    }
}
