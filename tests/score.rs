//! Scores against values worked out by hand.

use pullback::Result;
use pullback::model::{Posterior, Vae};
use pullback::score;
use tch::{Kind, Tensor};

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

/// One latent of width 1/2, decoded to two pixels, each twice the code: the noise alone moves the image by 2 sqrt(2) |noise| / 2.
struct Straight;

impl Vae for Straight {
    fn encode(&self, x: &Tensor) -> Result<Posterior> {
        let mean = x.flatten(1, -1).sum_dim_intlist([1i64].as_slice(), true, x.kind()) * 3.0;
        let log_var = mean.full_like(2.0 * 0.5f64.ln());
        Ok(Posterior { mean, log_var })
    }
    fn decode(&self, z: &Tensor) -> Result<Tensor> {
        Ok((z * 2.0).view([-1, 1, 1, 1]).expand([-1, 1, 1, 2], false).contiguous())
    }
}

#[test]
fn the_margin_is_the_bound_of_camuto_et_al() {
    let x = Tensor::zeros([4, 1, 1, 2], (Kind::Double, tch::Device::Cpu));
    // |J_mu|_F^2 of mu = 3 (x_1 + x_2).
    let squares = Tensor::from_slice(&[18.0, 18.0, 18.0, f64::NAN]);
    let of = |r: f64| score::margin(&Straight, &x, &[5, 6, 7, 8], 1, &squares, r).unwrap();
    let list = |t: &Tensor| Vec::<f64>::try_from(t.to_device(tch::Device::Cpu)).unwrap();
    // P(sqrt 2 |noise| <= r) for a normal noise is 0.95 at r = 1.96 sqrt 2.
    let found = of(1.959_963_985 * 2f64.sqrt());
    let standard = (0.95 * 0.05 / score::MARGIN_DRAWS as f64).sqrt();
    for p in list(&found.probability) {
        assert!((p - 0.95).abs() < 4.0 * standard, "{p}");
    }
    // Phi^-1(0.95) = 1.645, with the quantile's slope there, 1 / 0.103; sigma is 1/2.
    let radii = list(&found.radius);
    let expected = 1.644_853_627 * 0.5 / 18f64.sqrt();
    for radius in &radii[..3] {
        assert!(
            (radius - expected).abs() < 4.0 * standard / 0.103 * 0.5 / 18f64.sqrt() * 1.5,
            "{radius}, not {expected}"
        );
    }
    assert!(radii[3].is_nan(), "no spectrum, no margin");
    // Where the noise alone moves the image further than r half the time, nothing is left.
    let none = of(0.5);
    assert!(list(&none.probability)[..3].iter().all(|p| *p < 0.5) && list(&none.radius)[..3].iter().all(|r| *r == 0.0));
    // The same draws, whatever the batch.
    let alone = score::margin(&Straight, &x.narrow(0, 1, 1), &[6], 1, &squares.narrow(0, 1, 1), 1.0).unwrap();
    assert_eq!(list(&alone.probability)[0], list(&of(1.0).probability)[1]);
    let most = of(1e9);
    assert!(list(&most.radius)[..3].iter().all(|r| r.is_finite()), "{most:?}");
}
