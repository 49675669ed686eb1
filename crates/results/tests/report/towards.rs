//! Attacks towards a target, whose damage is minus a distance.

use super::{SAMPLES, by_size, csv, header, sizes_of, write};
use pullback_results::report::render;
use pullback_results::store::{Column, FileKind, Values};

/// The page of two attacks whose damage is `sign` times something.
fn page(config: &str, sign: f64) -> String {
    let folder = tempfile::tempdir().unwrap();
    let eps = [1.0, 2.0];
    let budgets = Column {
        path: "/curve/passes".to_owned(),
        shape: vec![2],
        sample_axis: 0,
        values: Values::F64(vec![1.0, 2.0]),
    };
    let mut columns = vec![];
    for (attack, factor) in [("race", 1.0), ("random", 2.0)] {
        let damage = |e: f64, i: usize| sign * factor * (1 + i) as f64 / e;
        columns.push(by_size(&format!("/attack/{attack}/latent_l2"), &eps, |e, _| e));
        columns.push(by_size(&format!("/damage/{attack}"), &eps, damage));
        columns.push(by_size(&format!("/passes/{attack}/forward"), &eps, |_, _| 4.0));
        let found = eps.iter().flat_map(|e| (0..2 * SAMPLES).map(|at| 2.0 * damage(*e, at / 2)).collect::<Vec<_>>());
        let values = Values::F64(found.collect());
        columns.push(Column { path: format!("/curve/{attack}"), shape: vec![2, SAMPLES, 2], sample_axis: 1, values });
    }
    let file =
        write(folder.path().join("attack.h5"), &header(FileKind::Attack, config), &[sizes_of(&eps), budgets], columns);
    render(&[file]).unwrap()
}

#[test]
fn what_is_left_to_a_target_has_no_shares_and_is_drawn_as_it_is() {
    let number = |cell: &String| cell.parse::<f64>().unwrap();
    for config in ["target: zero\n", "{}\n"] {
        let html = page(config, -1.0);
        let efforts = csv(&html, "optimality");
        assert!(efforts.len() == 4 && efforts.iter().all(|row| row[5] == "none" && row[6] == "none"), "{efforts:?}");
        // At 2: the mean of 1 to 8, halved; twice as much was left before.
        let passes = csv(&html, "passes");
        let race: Vec<(f64, f64)> =
            passes.iter().filter(|row| row[2] == "race").map(|row| (number(&row[4]), number(&row[5]))).collect();
        assert_eq!(race, [(1.0, -4.5), (2.0, -4.5), (4.0, -2.25)], "{passes:?}");
        assert!(passes.iter().all(|row| row[6] == "none"));
        assert!(html.contains("id=\"passes\"") && html.contains("minus the distance to the target"));
        assert_eq!(html.matches("Towards a target, damage is minus the distance").count(), 2);
    }
    let html = page("{}\n", 1.0);
    assert!(!html.contains("Towards a target"));
    // At both sizes the race does half as much as noise, on every image.
    let efforts = csv(&html, "optimality");
    let shares: Vec<(&str, f64, f64)> =
        efforts.iter().map(|row| (row[2].as_str(), number(&row[5]), number(&row[6]))).collect();
    let each = [("race", 0.5, 0.5), ("random", 1.0, 1.0)];
    assert_eq!(shares, [each, each].concat());
}
