//! The worst case and the classes: numbers by hand, pictures of those that were hit hardest.

use super::faults;
use pullback::report::render;
use pullback::store::{Block, Column, FileKind, Header, Overwrite, Values, Writer};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const SAMPLES: usize = 12;
const EPS: [f64; 2] = [2.0, 1.0];
const ATTACKS: [&str; 2] = ["race", "universal"];

/// The damage of `race` to sample i, and of `universal`, which knows nothing of the first three and is worse on sample 7.
fn damage(attack: &str, scale: f64, eps: f64, i: usize) -> f64 {
    match attack {
        "race" => scale * eps * (1 + i) as f64,
        _ if i < 3 => f64::NAN,
        _ if i == 7 => scale * eps * 20.0,
        _ => scale * eps * 0.5,
    }
}

/// An attack file of 12 samples of three classes, with images.
fn file(folder: &Path, model: &str, scale: f64) -> PathBuf {
    let damage = &|attack: &str, eps, i| damage(attack, scale, eps, i);
    file_of(&folder.join(format!("{model}.h5")), model, ["latent", "{}\n"], ATTACKS, damage)
}

/// The same at `path` with this goal, this request and this damage of these attacks.
fn file_of(
    path: &Path,
    model: &str,
    [goal, config]: [&str; 2],
    attacks: [&str; 2],
    damage: &dyn Fn(&str, f64, usize) -> f64,
) -> PathBuf {
    let of = |attack: &str, measure: &str| Column {
        path: if measure.is_empty() { format!("/damage/{attack}") } else { format!("/attack/{attack}/{measure}") },
        shape: vec![2, SAMPLES],
        sample_axis: 1,
        values: Values::F64(EPS.iter().flat_map(|e| (0..SAMPLES).map(|i| damage(attack, *e, i))).collect()),
    };
    let pictures = |path: &str, sizes: &[usize], shade: f32| Column {
        path: path.to_owned(),
        shape: [sizes, &[SAMPLES, 1, 4, 4]].concat(),
        sample_axis: sizes.len(),
        values: Values::F32(vec![shade; sizes.iter().product::<usize>() * SAMPLES * 16]),
    };
    let mut columns = vec![pictures("/clean/images", &[], 0.2), pictures("/clean/recon", &[], 0.3)];
    for attack in attacks {
        columns.extend(["", "latent_l2"].map(|measure| of(attack, measure)));
        // More at the first size, 2.
        columns.extend([("forward", [120.0, 80.0]), ("backward", [60.0, 50.0])].map(|(way, passes)| Column {
            path: format!("/passes/{attack}/{way}"),
            shape: vec![2, SAMPLES],
            sample_axis: 1,
            values: Values::F64(passes.iter().flat_map(|p| [*p; SAMPLES]).collect()),
        }));
        columns.push(pictures(&format!("/attack/{attack}/images"), &[2], 0.5));
        columns.push(pictures(&format!("/attack/{attack}/recon"), &[2], 0.6));
    }
    let extra = [("norm", "l2"), ("goal", goal), ("classes", "ant\nbee\ncat")];
    let header = Header {
        kind: FileKind::Attack,
        config: config.to_owned(),
        model: format!("{model}.pt"),
        model_sha256: model.to_owned(),
        dataset: "digits".to_owned(),
        split: "test".to_owned(),
        device: "cpu".to_owned(),
        precision: "f32".to_owned(),
        extra: extra.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<BTreeMap<_, _>>(),
        ..Header::default()
    };
    let eps = Column { path: "/eps".to_owned(), shape: vec![2], sample_axis: 0, values: Values::F64(EPS.to_vec()) };
    let mut writer = Writer::create(path, &header, SAMPLES, &[eps], Overwrite::No).unwrap();
    let labels = (0..SAMPLES as i64).map(|i| i % 3).collect();
    writer.put(&Block { index: (0..SAMPLES as u64).collect(), labels: Some(labels), columns }).unwrap();
    writer.finish().unwrap();
    path.to_owned()
}

/// What a figure's CSV file holds, row by row.
fn csv(html: &str, name: &str) -> Vec<Vec<String>> {
    let start = format!("download=\"{name}.csv\" href=\"data:text/csv;charset=utf-8,");
    let text = html.split(&start).nth(1).and_then(|t| t.split('"').next()).unwrap_or_default();
    let text = text.replace("%20", " ").replace("%0A", "\n").replace("%28", "(").replace("%29", ")");
    text.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

#[test]
fn the_worst_case_and_the_classes_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let html = render(&[file(folder.path(), "firm", 0.1), file(folder.path(), "soft", 1.0)]).unwrap();
    assert_eq!(faults(&html), "");

    // The curve: at 2 the worst of sample i is 2 (i + 1), but 40 on sample 7; of the other model a tenth of it.
    let curve = csv(&html, "worst-l2-latent");
    assert_eq!(curve.len(), 4, "{curve:?}");
    let mut worst: Vec<f64> = (0..SAMPLES).map(|i| if i == 7 { 40.0 } else { 2.0 * (1 + i) as f64 }).collect();
    worst.sort_by(f64::total_cmp);
    let median = (worst[5] + worst[6]) / 2.0;
    let row = curve.iter().find(|row| row[0] == "soft" && row[1] == "2").unwrap();
    let number = |row: &[String], at: usize| row[at].parse::<f64>().unwrap();
    assert_eq!((number(row, 2), number(row, 3), number(row, 6)), (12.0, 0.0, median), "{row:?}");
    let title = "Worst case at ε\u{a0}=\u{a0}2, goal latent, median over the images: 1.30 for firm and 13 for soft";
    assert_eq!(median, 13.0);
    assert!(
        html.contains(title),
        "{:?}",
        html.split("Worst case at").nth(1).map(|t| t.chars().take(90).collect::<String>())
    );

    // The interval of the mean, by the same draws in Python; damage grows with the size, so the area is the damage at 1.
    let near = |found: f64, expected: f64| (found - expected).abs() < 1e-9 * expected;
    let (low, high) = (59.0 / 6.0, 127.0 / 6.0);
    assert!(near(number(row, 4), 15.0) && near(number(row, 8), low) && near(number(row, 9), high), "{row:?}");
    let board = csv(&html, "board-l2-latent");
    assert_eq!(board.len(), 2 * 5, "{board:?}");
    let soft: Vec<(&str, &str, &str)> =
        board[5..].iter().map(|r| (r[0].as_str(), r[1].as_str(), r[2].as_str())).collect();
    let kinds = [("damage", ""), ("damage", ""), ("area", ""), ("credited", "race"), ("credited", "universal")];
    assert_eq!(soft, kinds.map(|(quantity, attack)| ("soft", quantity, attack)), "the least area first");
    let area = &board[7];
    assert!(near(number(area, 4), 7.5) && near(number(area, 5), low / 2.0) && near(number(area, 6), high / 2.0));
    assert_eq!((number(&board[8], 4), number(&board[9], 4)), (11.0 / 12.0, 1.0 / 12.0));
    let shown = "<td>soft</td><td>7.50 [4.92, 10.6]</td><td>15 [9.83, 21.2]</td><td>7.50 [4.92, 10.6]</td>\
                 <td>race 92 %, universal 8 %</td>";
    assert!(
        html.contains(shown),
        "{:?}",
        html.split("Worst case over").nth(1).map(|t| t.chars().take(600).collect::<String>())
    );
    assert!(html.contains("Least area first"));

    // The pictures: sample 7 by the universal perturbation, then 11, 10, ... by the race.
    let shown = csv(&html, "worst-images");
    let soft: Vec<(&str, &str, f64)> =
        shown.iter().filter(|r| r[0] == "soft").map(|r| (r[1].as_str(), r[3].as_str(), number(r, 5))).collect();
    assert_eq!(soft.len(), 8);
    assert_eq!(soft[..3], [("7", "universal", 40.0), ("11", "race", 24.0), ("10", "race", 22.0)]);

    // Classes: 0, 3, 6, 9 are ants. What the universal perturbation was fitted on counts nowhere.
    let classes = csv(&html, "classes");
    assert_eq!(classes.len(), 2 * 2 * 2 * 3, "{classes:?}");
    let of = |attack: &str, class: &str| {
        let row = classes.iter().find(|r| r[0] == "soft" && r[3] == attack && r[4] == "2" && r[5] == class).unwrap();
        (number(row, 6), number(row, 7), number(row, 8), number(row, 9))
    };
    assert_eq!(of("race", "0 (ant)"), (4.0, 11.0, 11.0, 20.0));
    assert_eq!(of("universal", "1 (bee)"), (3.0, (1.0 + 40.0 + 1.0) / 3.0, 1.0, 40.0));
    assert!(html.contains("Of the classes, 1 (bee) is hit hardest and 0 (ant) least"), "no finding");
}

#[test]
fn only_damage_that_begins_at_0_has_an_area() {
    let folder = tempfile::tempdir().unwrap();
    for (goal, areas) in [("latent", 2), ("recon-mse", 0)] {
        let of = |name: &str, scale: f64| {
            let path = folder.path().join(format!("{name}-{goal}.h5"));
            file_of(&path, name, [goal, "{}\n"], ATTACKS, &|attack, eps, i| damage(attack, scale, eps, i))
        };
        let html = render(&[of("firm", 0.1), of("soft", 1.0)]).unwrap();
        let board = csv(&html, &format!("board-l2-{goal}"));
        assert!(board.iter().any(|row| row[1] == "damage"), "{board:?}");
        assert_eq!(board.iter().filter(|row| row[1] == "area").count(), areas, "{goal}: {board:?}");
    }
}

#[test]
fn passes_are_those_of_their_size() {
    let folder = tempfile::tempdir().unwrap();
    let html = render(&[file(folder.path(), "m", 1.0)]).unwrap();
    let rows = csv(&html, "optimality");
    let passes = |eps: &str| -> Vec<Vec<String>> {
        rows.iter().filter(|row| row[3] == eps).map(|row| row[8..].to_vec()).collect()
    };
    assert_eq!(passes("1"), [["80", "50"]; 2], "{rows:?}");
    assert_eq!(passes("2"), [["120", "60"]; 2], "{rows:?}");
}

#[test]
fn no_class_is_hit_hardest_where_all_are_hit_alike() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.h5");
    let html = render(&[file_of(&path, "m", ["latent", "{}\n"], ATTACKS, &|_, eps, _| eps)]).unwrap();
    assert_eq!(csv(&html, "classes").len(), 2 * 2 * 3);
    assert!(!html.contains("is hit hardest"));
}

/// Files of the same weights are told apart by how the model was read, or else by a number.
#[test]
fn runs_of_one_model_have_names_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let scaled = "interface: {input_range: [-1.0, 1.0], posterior: logstd, outputs: null}\n";
    for (config, names) in
        [(scaled, ["m (default interface)", "m (input range -1,1, posterior logstd)"]), ("{}\n", ["m", "m (2)"])]
    {
        let of = |name: &str, config: &str, scale: f64| {
            let damage = &|attack: &str, eps, i| damage(attack, scale, eps, i);
            file_of(&folder.path().join(name), "m", ["latent", config], ATTACKS, damage)
        };
        let html = render(&[of("a.h5", "{}\n", 0.1), of("b.h5", config, 1.0)]).unwrap();
        for name in names {
            assert!(html.contains(&format!("<td>{name}</td>")), "{name}: {:?}", csv(&html, "board-l2-latent"));
        }
        std::fs::remove_file(folder.path().join("a.h5")).unwrap();
        std::fs::remove_file(folder.path().join("b.h5")).unwrap();
    }
}

/// A suite without a value for an image on which a part has one met a goal that is not finite: what the part found is no worst case.
#[test]
fn weaker_parts_are_no_worst_case() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.h5");
    let of = |whole: &str, part: &str| {
        let damage = |attack: &str, eps: f64, i: usize| if attack == whole && i == 5 { f64::NAN } else { eps };
        let html = render(&[file_of(&path, "m", ["latent", "{}\n"], [whole, part], &damage)]).unwrap();
        std::fs::remove_file(&path).unwrap();
        let row = csv(&html, "worst-l2-latent").into_iter().find(|row| row[1] == "2").unwrap();
        (row[2].clone(), row[3].clone())
    };
    for [whole, part] in [["suite", "suite-random"], ["spectral", "u1"]] {
        assert_eq!(of(whole, part), ("12".to_owned(), "1".to_owned()), "{whole}");
    }
    // Of attacks of their own each counts, unless one of them says that the goal is not finite.
    assert_eq!(of("race", "random"), ("12".to_owned(), "0".to_owned()));
}
