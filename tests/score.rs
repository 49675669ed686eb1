//! Scores against values worked out by hand.

use crate::child;
use crate::files::{program, root};
use crate::toy::rand;
use pullback::event::Silent;
use pullback::jacobian::BatchSize;
use pullback::model::{Model, Posterior, Vae};
use pullback::pipeline::{Provided, ScoreRequest, score_with};
use pullback::score::{self, Margins};
use pullback::store::Reader;
use pullback::{Error, Result};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tch::{Device, Kind, Tensor};

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

/// One direction alone has an entropy of 0, and not of -0, which files and tables would show.
#[test]
fn no_entropy_is_minus_zero() {
    for values in [[2.0, 0.0], [0.0, 0.0]] {
        let entropy = scores(&values).into_iter().find(|(name, _)| *name == "von_neumann_entropy").unwrap().1;
        assert!(entropy == 0.0 && entropy.is_sign_positive(), "{values:?}: {entropy}");
    }
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

fn list(t: &Tensor) -> Vec<f64> {
    Vec::try_from(t.to_device(Device::Cpu)).unwrap()
}

#[test]
fn the_margin_is_the_bound_of_camuto_et_al() {
    let x = Tensor::zeros([4, 1, 1, 2], (Kind::Double, Device::Cpu));
    // |J_mu|_F^2 of mu = 3 (x_1 + x_2).
    let squares = Tensor::from_slice(&[18.0, 18.0, 18.0, f64::NAN]);
    let of = |r: f64| score::margin(&Straight, &x, &[5, 6, 7, 8], 1, &squares, r).unwrap();
    // P(sqrt 2 |noise| <= r) for a normal noise is 0.95 at r = 1.96 sqrt 2.
    let found = of(1.959_963_985 * 2f64.sqrt());
    let standard = (0.95 * 0.05 / score::MARGIN_DRAWS as f64).sqrt();
    for p in &list(&found.probability)[..3] {
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
    assert!(radii[3].is_nan() && list(&found.probability)[3].is_nan(), "no spectrum, no margin");
    // Where the noise alone moves the image further than r half the time, nothing is left.
    let none = of(0.5);
    assert!(list(&none.probability)[..3].iter().all(|p| *p < 0.5) && list(&none.radius)[..3].iter().all(|r| *r == 0.0));
    // The same draws, whatever the batch.
    let alone = score::margin(&Straight, &x.narrow(0, 1, 1), &[6], 1, &squares.narrow(0, 1, 1), 1.0).unwrap();
    assert_eq!(list(&alone.probability)[0], list(&of(1.0).probability)[1]);
    let most = of(1e9);
    assert!(list(&most.radius)[..3].iter().all(|r| r.is_finite()), "{most:?}");
}

#[test]
fn a_sample_that_is_lost_has_no_margin() {
    let x = Tensor::zeros([4, 1, 1, 2], (Kind::Double, Device::Cpu));
    // It has no code, or its code no spectrum.
    let _ = x.get(1).fill_(f64::NAN);
    let squares = Tensor::from_slice(&[18.0, 18.0, f64::NAN, f64::INFINITY]);
    let found = score::margin(&Straight, &x, &[0, 1, 2, 3], 1, &squares, 3.0).unwrap();
    for values in [list(&found.probability), list(&found.radius)] {
        assert!(values[0] > 0.0 && values[1..].iter().all(|v| v.is_nan()), "{values:?}");
    }
}

/// [`Straight`] with room for so many codes at a time; it keeps how many came at most, and after so many calls the user wants it to stop.
struct Narrow {
    room: i64,
    most: Cell<i64>,
    calls: Cell<usize>,
}

impl Narrow {
    fn new(room: i64, calls: usize) -> Self {
        Self { room, most: Cell::new(0), calls: Cell::new(calls) }
    }
}

impl Vae for Narrow {
    fn encode(&self, x: &Tensor) -> Result<Posterior> {
        Straight.encode(x)
    }
    fn decode(&self, z: &Tensor) -> Result<Tensor> {
        self.calls.set(self.calls.get().checked_sub(1).ok_or(Error::Interrupted)?);
        let rows = z.size()[0];
        if rows > self.room {
            let message = "DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes".to_owned();
            return Err(Error::Native { routine: "decode", message });
        }
        self.most.set(self.most.get().max(rows));
        Straight.decode(z)
    }
}

/// Seven samples, their positions and |J_mu|_F^2.
fn seven() -> (Tensor, Vec<u64>, Tensor) {
    (rand(&[7, 1, 1, 2], 3), (10..17).collect(), Tensor::full([7], 18.0, (Kind::Double, Device::Cpu)))
}

#[test]
fn margins_are_found_in_pieces_that_fit() {
    let (x, index, squares) = seven();
    let whole = score::margin(&Straight, &x, &index, 1, &squares, 1.0).unwrap();
    for (room, most) in [(100, 3), (3, 7)] {
        let vae = Narrow::new(room, usize::MAX);
        let mut margins = Margins::new(1, 1.0);
        for _ in 0..2 {
            let found = margins.at(&vae, &x, &index, &squares, most).unwrap();
            assert_eq!(list(&found.probability), list(&whole.probability), "{room} {most}");
            for (a, b) in list(&found.radius).iter().zip(list(&whole.radius)) {
                assert!((a - b).abs() <= allowed() * b, "{room} {most}: {a} {b}");
            }
        }
        assert_eq!(vae.most.get(), 3, "{room} {most}");
    }
    assert!(Margins::new(1, 1.0).at(&Straight, &x, &index[1..], &squares, 3).is_err());
    let error = Margins::new(1, 1.0).at(&Narrow::new(0, usize::MAX), &x, &index, &squares, 3).unwrap_err();
    assert!(error.is_out_of_memory(), "{error}");
}

#[test]
fn a_stop_leaves_the_margins_that_are_finished() {
    let (x, index, squares) = seven();
    let whole = score::margin(&Straight, &x, &index, 1, &squares, 1.0).unwrap();
    // What one sample takes, then a piece, then half of the next.
    let piece = 1 + score::MARGIN_DRAWS;
    let at = |calls: usize| Margins::new(1, 1.0).at(&Narrow::new(100, calls), &x, &index, &squares, 3);
    let found = at(2 + piece + piece / 2).unwrap();
    assert_eq!(list(&found.probability), list(&whole.probability)[..3]);
    assert_eq!(found.radius.size(), [3]);
    assert!(matches!(at(2 + piece / 2), Err(Error::Interrupted)));
}

/// A model that keeps how many codes it decoded at a time, at most.
struct Watched {
    vae: Box<dyn Vae>,
    most: Arc<AtomicI64>,
}

impl Vae for Watched {
    fn encode(&self, x: &Tensor) -> Result<Posterior> {
        self.vae.encode(x)
    }
    fn decode(&self, z: &Tensor) -> Result<Tensor> {
        self.most.fetch_max(z.size()[0], Ordering::Relaxed);
        self.vae.decode(z)
    }
}

#[test]
fn margins_keep_to_the_batch_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let text = "{model: standardised, data: 'strokes:size=12', split: test, limit: 8, precision: f32, seed: 1, metric: mean, \
                top: 0, margin: 1.0}";
    let mut request: ScoreRequest = serde_yaml::from_str(text).unwrap();
    request.subject.output = folder.path().join("s.h5");
    request.subject.device = "cpu".parse().unwrap();
    request.subject.batch = BatchSize::Fixed(3);
    let most = Arc::new(AtomicI64::new(0));
    let open = |device, kind, _| {
        let model = pullback::open(root().join("tests/models/standardised.pt"), device, kind)?;
        Ok(Model { vae: Box::new(Watched { vae: model.vae, most: most.clone() }), ..model })
    };
    score_with(&request, &Provided { model: Some(&open), ..Provided::default() }, &Silent).unwrap();
    assert_eq!(most.load(Ordering::Relaxed), 3);
    let (shape, radii) = Reader::open(&request.subject.output).unwrap().read_f64("/margin/radius").unwrap();
    assert!(shape == [8] && radii.iter().all(|r| r.is_finite()), "{radii:?}");
}

#[test]
fn a_margin_asks_whether_the_decoder_draws_noise() {
    let folder = tempfile::tempdir().unwrap();
    let model = root().join("tests/models/dropout.pt");
    let line = format!("score -m {} -d strokes:size=12 --limit 3 -o x.h5 -q --metric mean --margin 1", model.display());
    let mut command = program();
    command.args(line.split_whitespace()).current_dir(folder.path());
    let out = child::within(Duration::from_secs(120), &mut command).unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(said.contains("the model's decoder") && !folder.path().join("x.h5").exists(), "{said}");
}
