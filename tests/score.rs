//! Scores against values worked out by hand.

use pullback::score;
use tch::Tensor;

fn scores(values: &[f64]) -> Vec<(&'static str, f64)> {
    let values = Tensor::from_slice(values).unsqueeze(0);
    score::all(&values).unwrap().into_iter().map(|(score, t)| (score.name(), t.double_value(&[0]))).collect()
}

/// Up to four terms, p ln p or ln lambda, none above 4.
fn allowed() -> f64 {
    4.0 * crate::roundoff::apart(tch::Kind::Double, &[4])
}

fn check(values: &[f64], expected: &[(&str, f64)]) {
    let got = scores(values);
    assert_eq!(got.len(), expected.len());
    for ((name, got), (expected_name, expected)) in got.iter().zip(expected) {
        assert_eq!(name, expected_name);
        let close =
            (got - expected).abs() <= allowed() * expected.abs().max(1.0) || (got.is_nan() && expected.is_nan());
        assert!(close, "{name}: {got}, expected {expected}");
    }
}

#[test]
fn a_flat_spectrum() {
    let ln3 = 3f64.ln();
    check(
        &[2.0, 2.0, 2.0],
        &[
            ("spectral_radius", 2.0),
            ("trace", 6.0),
            ("von_neumann_entropy", ln3),
            ("entropy_maxnorm", -3.0 * 1e-10f64.ln_1p()),
            ("rank", 3.0),
            ("log_det", 3.0 * 2f64.ln()),
            ("effective_rank", 3.0),
            ("anisotropy", 1.0 / 3.0),
            ("stable_rank", 3.0),
            ("condition", 1.0),
        ],
    );
}

#[test]
fn a_spectrum_with_zeros() {
    // p = (3/4, 1/4); the last two do not count.
    let entropy = -(0.75 * 0.75f64.ln() + 0.25 * 0.25f64.ln());
    let third = 1.0 / 3.0;
    check(
        &[3.0, 1.0, 2e-10, 0.0],
        &[
            ("spectral_radius", 3.0),
            ("trace", 4.0 + 2e-10),
            ("von_neumann_entropy", {
                let total: f64 = 4.0 + 2e-10;
                -[3.0, 1.0, 2e-10].iter().map(|l| l / total * (l / total).ln()).sum::<f64>()
            }),
            ("entropy_maxnorm", {
                let s = 2e-10 / 3.0;
                -((1.0 + 1e-10f64).ln() + third * (third + 1e-10f64).ln() + s * (s + 1e-10f64).ln())
            }),
            ("rank", 2.0),
            ("log_det", 3f64.ln()),
            ("effective_rank", {
                let total: f64 = 4.0 + 2e-10;
                (-[3.0, 1.0, 2e-10].iter().map(|l| l / total * (l / total).ln()).sum::<f64>()).exp()
            }),
            ("anisotropy", 3.0 / (4.0 + 2e-10)),
            ("stable_rank", (4.0 + 2e-10) / 3.0),
            ("condition", 3.0),
        ],
    );
    assert!((entropy - scores(&[3.0, 1.0, 0.0])[2].1).abs() < allowed());
}

#[test]
fn a_collapsed_posterior() {
    let nan = f64::NAN;
    check(
        &[0.0, 0.0],
        &[
            ("spectral_radius", 0.0),
            ("trace", 0.0),
            ("von_neumann_entropy", 0.0),
            ("entropy_maxnorm", nan),
            ("rank", 0.0),
            ("log_det", 0.0),
            ("effective_rank", 1.0),
            ("anisotropy", nan),
            ("stable_rank", nan),
            ("condition", nan),
        ],
    );
}

#[test]
fn one_collapsed_sample_does_not_touch_its_neighbours() {
    let values = Tensor::from_slice(&[4.0, 1.0, 0.0, 0.0]).reshape([2, 2]);
    for (name, score) in score::all(&values).unwrap() {
        let alone = score::all(&Tensor::from_slice(&[4.0, 1.0]).unsqueeze(0)).unwrap();
        let alone = alone.iter().find(|(n, _)| *n == name).unwrap().1.double_value(&[0]);
        assert_eq!(score.double_value(&[0]), alone, "{name}");
    }
}

#[test]
fn a_wrong_shape_is_refused() {
    assert_eq!(score::all(&Tensor::from_slice(&[1.0])).unwrap_err().exit_code(), 2);
}
