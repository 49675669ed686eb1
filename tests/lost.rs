//! Samples of which nothing is known: NaN in their own columns, named, and in nobody's way; and variances that only double holds.

use crate::child;
use crate::files::program;
use crate::roundoff::eigenvalues_apart;
use crate::toy::{TanhMlp, rand};
use hdf5::File;
use pullback::Result;
use pullback::jacobian::{BatchSize, Mode, Ways};
use pullback::metric::{Metric, MetricKind};
use pullback::model::{Posterior, Vae};
use pullback::score;
use pullback::spectrum::{Engine, LeadingEngine, Spectrum, SpectrumMode, SpectrumSpec};
use std::path::Path;
use std::time::Duration;
use tch::{Device, Kind, Tensor};

/// Standardises each image first, as many encoders do: an image of one value has no code.
struct Standardised(TanhMlp);

impl Vae for Standardised {
    fn encode(&self, x: &Tensor) -> Result<Posterior> {
        let flat = x.flatten(1, -1);
        let mean = flat.mean_dim([1i64].as_slice(), true, None::<Kind>);
        let centred = &flat - mean;
        let length = centred.square().sum_dim_intlist([1i64].as_slice(), true, None::<Kind>).sqrt();
        self.0.encode(&(centred / length))
    }
    fn decode(&self, z: &Tensor) -> Result<Tensor> {
        self.0.decode(z)
    }
}

/// Images [n, 1, 1, 12] of which these are black.
fn images(n: i64, black: &[i64]) -> Tensor {
    let x = rand(&[n, 1, 1, 12], 5).to_kind(Kind::Float);
    for i in black {
        let _ = x.get(*i).fill_(0.0);
    }
    x
}

fn row(t: &Tensor, i: i64) -> Vec<f64> {
    Vec::try_from(t.get(i).to_kind(Kind::Double).flatten(0, -1)).unwrap()
}

fn close(a: &[f64], b: &[f64], scale: f64) -> bool {
    let allowed = eigenvalues_apart(Kind::Float, &[12, 7, 12], 12, 6);
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= allowed * scale)
}

#[test]
fn a_sample_without_a_spectrum_stops_nobody() {
    let vae = Standardised(TanhMlp::new(12, 7, 3, 2));
    let black = [3, 8];
    let x = images(11, &black);
    let alone: Vec<i64> = (0..11).filter(|i| !black.contains(i)).collect();
    let others = x.index_select(0, &Tensor::from_slice(&alone));
    let index = |n: i64| (0..n as u64).collect::<Vec<_>>();
    for metric in MetricKind::ALL {
        let full = |x: &Tensor| {
            let mut engine = Engine::new(metric, 2, Device::Cpu, Kind::Float, BatchSize::Auto).unwrap();
            let Spectrum { values, directions } = engine.spectra(&vae, x).unwrap();
            let scores = score::all(&values).unwrap();
            (values, directions.unwrap(), scores.into_iter().map(|(_, s)| s).collect::<Vec<_>>())
        };
        let top = |x: &Tensor, index: &[u64]| {
            let spec = SpectrumSpec { pairs: 2, probes: 4, steps: 6, ..SpectrumSpec::default() };
            let place = (Device::Cpu, Kind::Float);
            let mut engine = LeadingEngine::new(metric, spec, 2, 3, 1, place, BatchSize::Auto).unwrap();
            let leading = engine.leading(&vae, x, index).unwrap();
            let scores = score::estimates(&leading.quadrature).unwrap();
            (leading.values, leading.directions, scores.into_iter().map(|s| s.value).collect::<Vec<_>>())
        };
        let positions: Vec<u64> = alone.iter().map(|i| *i as u64).collect();
        for (way, with, without) in
            [("full", full(&x), full(&others)), ("top", top(&x, &index(11)), top(&others, &positions))]
        {
            for i in black {
                let (values, directions, scores) = (&with.0, &with.1, &with.2);
                assert!(row(values, i).iter().all(|v| v.is_nan()), "{metric} {way}: values of {i}");
                assert!(row(directions, i).iter().all(|v| v.is_nan()), "{metric} {way}: directions of {i}");
                for (k, s) in scores.iter().enumerate() {
                    assert!(row(s, i)[0].is_nan(), "{metric} {way}: score {k} of {i} is {:?}", row(s, i));
                }
            }
            for (place, i) in alone.iter().enumerate() {
                let (ours, theirs) = (row(&with.0, *i), row(&without.0, place as i64));
                assert!(close(&ours, &theirs, theirs[0]), "{metric} {way}: {ours:?} against {theirs:?}");
                assert!(close(&row(&with.1, *i), &row(&without.1, place as i64), 100.0), "{metric} {way} {i}");
                for (a, b) in with.2.iter().zip(&without.2) {
                    let (a, b) = (row(a, *i), row(b, place as i64));
                    assert!(close(&a, &b, 10.0 * b[0].abs().max(1.0)) || b[0].is_nan(), "{metric} {way}: {a:?} {b:?}");
                }
            }
        }
    }
}

/// mu = W x and logvar = c + V x with W, V diagonal, so that every spectrum is known.
struct Diagonal {
    log_var: f64,
}

const MEAN: [f64; 3] = [2.0, 1.0, 0.5];
const SPREAD: [f64; 3] = [1.0, 3.0, 2.0];
const DECODE: [f64; 3] = [1.0, 2.0, 4.0];

impl Vae for Diagonal {
    fn encode(&self, x: &Tensor) -> Result<Posterior> {
        let x = x.flatten(1, -1);
        let by = |w: [f64; 3]| Tensor::from_slice(&w).to_kind(x.kind());
        // Centred, so that logvar is c at x = 1/2.
        Ok(Posterior { mean: &x * by(MEAN), log_var: (&x - 0.5) * by(SPREAD) + self.log_var })
    }
    fn decode(&self, z: &Tensor) -> Result<Tensor> {
        Ok((z * Tensor::from_slice(&DECODE).to_kind(z.kind())).reshape([-1, 1, 1, 3]))
    }
}

/// The diagonal of G at x = 1/2, descending.
fn expected(metric: MetricKind, log_var: f64) -> Vec<f64> {
    let variance = log_var.exp();
    let mut g: Vec<f64> = (0..3)
        .map(|i| {
            let (m, s, d) = (MEAN[i].powi(2), SPREAD[i].powi(2), DECODE[i].powi(2));
            match metric {
                MetricKind::Mean => m,
                MetricKind::Stochastic => m + variance / 4.0 * s,
                MetricKind::Fisher => m / variance + s / 2.0,
                MetricKind::Output => d * m,
                MetricKind::OutputStochastic => d * m + d * variance / 4.0 * s,
                MetricKind::Decoder => d,
            }
        })
        .collect();
    g.sort_by(|a, b| b.total_cmp(a));
    g
}

#[test]
fn variances_beyond_single_precision_are_taken_in_double() {
    let x = Tensor::full([3, 1, 1, 3], 0.5, (Kind::Float, Device::Cpu));
    for log_var in [0.0, 50.0, -50.0, 120.0, -120.0, 200.0, -200.0, 400.0, -400.0, 650.0, -650.0] {
        for metric in MetricKind::ALL {
            for kind in [Kind::Float, Kind::Double] {
                let mut engine = Engine::new(metric, 1, Device::Cpu, kind, BatchSize::Auto).unwrap();
                let found = engine.spectra(&Diagonal { log_var }, &x).unwrap();
                let (values, expected) = (row(&found.values, 1), expected(metric, log_var));
                for (got, want) in values.iter().zip(&expected) {
                    // f32 holds logvar itself to 2^-24 of it, which its exponential multiplies by |logvar|.
                    let unit = if kind == Kind::Float { 2f64.powi(-24) } else { f64::EPSILON };
                    let allowed = expected[0] * unit * (16.0 + 4.0 * f64::abs(log_var));
                    assert!((got - want).abs() <= allowed, "{metric} {kind:?} {log_var}: {values:?} not {expected:?}");
                }
                assert!(row(found.directions.as_ref().unwrap(), 1).iter().all(|v| v.is_finite()));
            }
        }
    }
    // sigma^2 = e^800 is beyond double as well: that sample is lost, and known to be.
    for metric in [MetricKind::Stochastic, MetricKind::OutputStochastic] {
        for kind in [Kind::Float, Kind::Double] {
            let mut engine = Engine::new(metric, 0, Device::Cpu, kind, BatchSize::Auto).unwrap();
            let found = engine.spectra(&Diagonal { log_var: 800.0 }, &x).unwrap();
            assert!(row(&found.values, 0).iter().all(|v| v.is_nan()), "{metric}");
        }
    }
}

#[test]
fn leading_pairs_of_such_variances_are_taken_in_double() {
    let x = Tensor::full([3, 1, 1, 3], 0.5, (Kind::Float, Device::Cpu));
    let place = (Device::Cpu, Kind::Float);
    for log_var in [50.0, 200.0, -200.0, 400.0, -400.0, 650.0, -650.0] {
        for metric in MetricKind::ALL {
            let spec = SpectrumSpec { mode: SpectrumMode::Top, ..SpectrumSpec::default() };
            let mut engine = LeadingEngine::new(metric, spec, 3, 3, 1, place, BatchSize::Auto).unwrap();
            let found = engine.leading(&Diagonal { log_var }, &x, &[0, 1, 2]).unwrap();
            let (values, expected) = (row(&found.values, 1), expected(metric, log_var));
            for (got, want) in values.iter().zip(&expected) {
                let allowed = expected[0] * 2f64.powi(-24) * (16.0 + 4.0 * f64::abs(log_var));
                assert!((got - want).abs() <= allowed, "{metric} {log_var}: {values:?} not {expected:?}");
            }
            let trace = score::estimates(&found.quadrature).unwrap();
            let trace = trace.iter().find(|e| e.score == score::Score::Trace).unwrap().value.double_value(&[1]);
            let sum: f64 = expected.iter().sum();
            assert!(
                (trace / sum - 1.0).abs() <= 2f64.powi(-24) * (16.0 + 4.0 * f64::abs(log_var)),
                "{metric} {log_var}"
            );
            assert!(row(&found.directions, 1).iter().all(|v| v.is_finite()));
        }
    }
}

#[test]
fn scales_in_double_make_the_same_metric() {
    let vae = TanhMlp::new(9, 6, 3, 4);
    let x = rand(&[4, 1, 1, 9], 3);
    let ways = Ways { rows: Mode::Vmapped(usize::MAX), columns: Mode::Vmapped(usize::MAX) };
    for metric in MetricKind::ALL {
        let values = |m: Metric| Spectrum::of(&m, 0).unwrap().values;
        let usual = values(Metric::at(&vae, &x, metric, ways).unwrap());
        let scaled = values(Metric::scaled_in_double(&vae, &x, metric, ways).unwrap());
        let off = (&usual - scaled).abs().max().double_value(&[]);
        // Twice a Gram matrix of 9 products in double.
        assert!(off <= 64.0 * f64::EPSILON * usual.max().double_value(&[]), "{metric}: {off}");
    }
}

fn pullback(folder: &Path, line: &str) -> (Option<i32>, String) {
    let mut command = program();
    command.args(line.split_whitespace()).current_dir(folder).env("OMP_NUM_THREADS", "1");
    let out = child::within(Duration::from_secs(120), &mut command).unwrap_or_else(|| panic!("{line}: hangs"));
    (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
}

/// A hundred images, of which one, half or most are black.
const IMAGES: &str = "
import sys, h5py, numpy as np
x = np.random.default_rng(0).random((100, 12, 12)).astype('f4')
for name, black in (('clean', []), ('one', [70]), ('most', range(0, 100, 2)), ('more', range(1, 60))):
    y = x.copy()
    y[list(black)] = 0
    h5py.File(sys.argv[1] + '/' + name + '.h5', 'w')['images'] = y
";

#[test]
fn the_program_names_lost_samples_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    crate::python::python(IMAGES, &[at]).unwrap();
    std::fs::copy(crate::files::root().join("tests/models/standardised.pt"), at.join("m.pt")).unwrap();
    let jobs = [
        ("score", "--top 2", "spectrum/eigenvalues"),
        ("score", "--spectrum top --set score.spectrum.pairs=2", "spectrum/eigenvalues"),
        ("attack", "--attack spectral,random,pgd --steps 5 --eps 1 --save-images", "attack/pgd/latent_l2"),
    ];
    for (n, (command, more, column)) in jobs.into_iter().enumerate() {
        let read = |data: &str| {
            let line = format!("{command} -m m.pt -d {data}.h5 -o {data}{n}.h5 {more}");
            let (code, said) = pullback(at, &line);
            assert_eq!(code, Some(0), "{line}: {said}");
            let file = File::open(at.join(format!("{data}{n}.h5"))).unwrap();
            (file.dataset(column).unwrap().read_raw::<f64>().unwrap(), said)
        };
        let ((one, said), (clean, quiet)) = (read("one"), read("clean"));
        assert!(said.contains("1 of 100 samples is not finite and NaN in the file: sample 70"), "{said}");
        assert!(!quiet.contains("not finite"), "{quiet}");
        let width = one.len() / 100;
        for (place, (a, b)) in one.iter().zip(&clean).enumerate() {
            let lost = place / width == 70;
            // As exact as the contract has it in single precision.
            assert!(
                if lost { a.is_nan() } else { (a - b).abs() <= 1e-4 * b.abs().max(1e-3) },
                "{command} {place}: {a} {b}"
            );
        }
        let (code, said) = pullback(at, &format!("inspect one{n}.h5"));
        assert_eq!(code, Some(0), "{said}");
    }
    let (code, said) = pullback(at, "report one0.h5 one2.h5 -o r.html");
    assert_eq!(code, Some(0), "{said}");
    // Half of them is not most, more is.
    assert_eq!(pullback(at, "score -m m.pt -d most.h5 -o most.h5x").0, Some(0));
    let (code, said) = pullback(at, "score -m m.pt -d more.h5 -o more.h5x -q");
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("expected finite numbers"), "{said}");
}

/// Its columns are NaN for the samples that it was fitted on as well, which are not lost.
#[test]
fn the_universal_attack_alone_names_lost_samples() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    crate::python::python(IMAGES, &[at]).unwrap();
    std::fs::copy(crate::files::root().join("tests/models/standardised.pt"), at.join("m.pt")).unwrap();
    for (data, lost) in [("one", true), ("clean", false)] {
        let line = format!("attack -m m.pt -d {data}.h5 -o {data}.u.h5 --attack universal --steps 3 --eps 1");
        let (code, said) = pullback(at, &line);
        assert_eq!(code, Some(0), "{line}: {said}");
        let named = said.contains("1 of 100 samples is not finite and NaN in the file: sample 70");
        assert!(named == lost && said.contains("not finite and NaN") == lost, "{said}");
    }
}

/// Sixty-four samples of 12 values of any size; in the second file one has a value that is not a number, and another an infinite one.
const VALUES: &str = "
import sys, h5py, numpy as np
x = 3 * np.random.default_rng(0).standard_normal((64, 1, 12, 12)).astype('f4')
h5py.File(sys.argv[1] + '/clean.h5', 'w')['images'] = x
x[5, 0, 3, 2], x[40, 0, 0, 1] = np.nan, np.inf
h5py.File(sys.argv[1] + '/some.h5', 'w')['images'] = x
";

#[test]
fn samples_that_are_not_finite_are_in_no_attacks_way() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    crate::python::python(VALUES, &[at]).unwrap();
    std::fs::copy(crate::files::root().join("tests/models/standardised.pt"), at.join("m.pt")).unwrap();
    let attacks = "spectral,random,pgd,apgd,square,spectral-iterated,race,transfer,minimal,universal,suite";
    let all = format!("--attack {attacks} --queries 20 --budget 24 --reach 0.01 --save-images");
    let run = |data: &str, more: &str| {
        let flags = "--full-scale none --force --eps 0.5,1 --steps 3";
        let line = format!("attack -m m.pt -d {data}.h5 -o {data}.a.h5 {flags} {more}");
        let (code, said) = pullback(at, &line);
        assert_eq!(code, Some(0), "{line}: {said}");
        (File::open(at.join(format!("{data}.a.h5"))).unwrap(), said)
    };
    let ((some, said), (clean, _)) = (run("some", &all), run("clean", &all));
    assert!(said.contains("2 of 64 samples are not finite and NaN in the file: samples 5, 40"), "{said}");
    assert!(!said.contains("not a number"), "{said}");
    let broken = [5, 40];
    for attack in attacks.split(',') {
        // What moves towards other images, or comes from them, has two fewer of them; other attacks see the sample alone.
        let alone = !matches!(attack, "race" | "transfer" | "minimal" | "universal" | "suite");
        for measure in ["latent_l2", "recon_mse", "input_l2"] {
            let read =
                |file: &File| file.dataset(&format!("attack/{attack}/{measure}")).unwrap().read_raw::<f64>().unwrap();
            for (place, (a, b)) in read(&some).iter().zip(read(&clean)).enumerate() {
                match broken.contains(&(place % 64)) {
                    true => assert!(a.is_nan(), "{attack} {place}: {a}"),
                    // The samples on which the universal attack was fitted are NaN in both.
                    false if !alone => assert!(attack == "universal" || a.is_finite(), "{attack} {place}: {a}"),
                    false => assert!((a - b).abs() <= 1e-4 * b.abs().max(1e-3), "{attack} {place}: {a} {b}"),
                }
            }
        }
    }
    let integers = |path: &str| some.dataset(path).unwrap().read_raw::<i64>().unwrap();
    for path in ["others", "pool", "universal/fitted"] {
        assert!(integers(path).iter().all(|i| !broken.contains(&(*i as usize))), "{path}");
    }
    // The images are those of the data, the broken ones too.
    for path in ["clean/images", "attack/pgd/images"] {
        let stored = some.dataset(path).unwrap().read_raw::<f32>().unwrap();
        let odd: Vec<usize> = (0..stored.len()).filter(|i| !stored[*i].is_finite()).map(|i| i / 144 % 64).collect();
        assert!(odd.iter().all(|i| broken.contains(i)) && odd.len().is_multiple_of(2) && !odd.is_empty(), "{path}");
    }
    // Towards the others' codes: those that are led towards what is not finite have no result.
    let (shuffled, _) = run("some", "--target shuffle --attack pgd,spectral,race");
    let partners = shuffled.dataset("target").unwrap().read_raw::<i64>().unwrap();
    let found = shuffled.dataset("attack/pgd/latent_l2").unwrap().read_raw::<f64>().unwrap();
    for (place, value) in found.iter().enumerate() {
        let sample = place % 64;
        let lost = broken.contains(&sample) || broken.contains(&(partners[sample] as usize));
        assert_eq!(value.is_nan(), lost, "{place}: {value}");
    }
    for (more, words) in [
        ("--target 5", "pixels of target 5: expected finite numbers"),
        ("--target some.h5", ""),
        ("--box on", "--box: expected off: values of any size (--full-scale none) have no box"),
        ("--save-png png", "pixels in [0, 1], as files hold, found --full-scale none"),
        ("--eps 3.5e38", "at most 1e15"),
        ("--target zero --goal cosine", "a code with a direction"),
    ] {
        let line = format!("attack -m m.pt -d some.h5 -o x.h5 --full-scale none --attack pgd --steps 2 {more}");
        let (code, said) = pullback(at, &line);
        assert_eq!(code, Some(if words.is_empty() { 0 } else { 2 }), "{line}: {said}");
        assert!(said.contains(words), "{line}: {said}");
    }
    // Nothing is written of a box that is not there.
    let text = some.attr("config").unwrap().read_scalar::<hdf5::types::VarLenUnicode>().unwrap().to_string();
    assert!(text.contains("\nbox: off\n"), "{text}");
}
