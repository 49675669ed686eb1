//! PGD against a straightforward one in PyTorch (tests/golden/pgd.py): at as many steps it finds at least as much.

use super::toy::list;
use crate::files::root;
use pullback::attack::*;
use pullback::model::open;
use serde::Deserialize;
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

/// What their PGD found: mean damage, and the standard deviation over seeds of the images' mean.
#[derive(Deserialize)]
struct Row {
    case: String,
    norm: Norm,
    eps: f64,
    steps: usize,
    mean: f64,
    deviation: f64,
}

const COUNT: i64 = 16;
const SEEDS: i64 = 4;

/// The same waves as in pgd.py.
fn images(shape: &[i64]) -> Tensor {
    let size: i64 = shape.iter().product();
    let wave = |p: i64| 0.5 + 0.4 * (0.37 * p as f64 + 0.011 * (p * (p % 7)) as f64).sin();
    let pixels: Vec<f64> = (0..COUNT * size).map(wave).collect();
    Tensor::from_slice(&pixels).view([&[COUNT], shape].concat().as_slice())
}

#[test]
fn pgd_finds_what_plain_pytorch_finds() {
    let text = std::fs::read_to_string(root().join("tests/golden/pgd.json")).unwrap();
    let rows: Vec<Row> = serde_yaml::from_str(&text).unwrap();
    let shapes = BTreeMap::from([("free_logvar", [1, 6, 6]), ("batch_norm", [3, 6, 8]), ("attention", [1, 8, 8])]);
    let models: BTreeMap<&str, _> = shapes
        .keys()
        .map(|case| {
            (
                *case,
                open(root().join("tests/golden/cases").join(case).join("vae.pt"), Device::Cpu, Kind::Double).unwrap(),
            )
        })
        .collect();
    assert_eq!(rows.len(), 12);
    // Each image with four starts of its own: the start hangs on the position.
    let index: Vec<u64> = (0..(COUNT * SEEDS) as u64).collect();
    for Row { case, norm, eps, steps, mean, deviation } in rows {
        let x = images(&shapes[case.as_str()]).repeat([SEEDS, 1, 1, 1]);
        let victim = Victim::new(models[case.as_str()].vae.as_ref(), &x, &index, 7, None).unwrap();
        let budget = Budget::new(norm, eps, Some((0.0, 1.0))).unwrap();
        let hit = run(&AttackSpec::Pgd(PgdSpec { steps, ..PgdSpec::default() }), &victim, &budget).unwrap().remove(0);
        let found = list(&hit.damage).iter().sum::<f64>() / index.len() as f64;
        // Theirs is a mean over ten seeds, ours over four.
        let apart = 3.0 * deviation * (1.0 / 10.0 + 1.0 / SEEDS as f64).sqrt();
        assert!(found >= mean - apart, "{case} {norm} {eps} {steps} steps: {found}, theirs {mean} +- {apart}");
        assert!(found < 1.1 * mean, "{case} {norm} {eps} {steps}: {found} is not the same as {mean}");
    }
}
