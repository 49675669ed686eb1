//! Whole passes, from files to a score file, against float64 reference values (tests/golden/make.py says how those
//! were made).
// `!(a <= b)` and not `a > b`: NaN must fail.
#![allow(clippy::neg_cmp_op_on_partial_ord)]

use crate::device::{here, on_each_device};
use crate::roundoff::apart;
use clap::ValueEnum;
use hdf5::File;
use pullback::config::{HandOut, Precision};
use pullback::data::{Reading, Split};
use pullback::event::Silent;
use pullback::jacobian::BatchSize;
use pullback::metric::MetricKind;
use pullback::model::Interface;
use pullback::pipeline::{self, ScoreRequest, Subject};
use pullback::spectrum::{SpectrumMode, SpectrumSpec};
use pullback::store::Overwrite;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use tch::{Device, Kind};

const METRICS: [&str; 5] = ["mean", "stochastic", "fisher", "output", "output-stochastic"];
const SCORES: [&str; 10] = [
    "spectral_radius",
    "trace",
    "von_neumann_entropy",
    "entropy_maxnorm",
    "rank",
    "log_det",
    "effective_rank",
    "anisotropy",
    "stable_rank",
    "condition",
];
/// Directions are compared where (lambda_1 - lambda_2) / lambda_1 exceeds this.
const GAP: f64 = 0.05;

/// What a precision promises.
#[derive(Clone, Copy)]
struct Tolerance {
    /// Of an eigenvalue, relative to lambda_1, and of a score, relative to itself.
    value: f64,
    /// Of 1 - cos(angle) for the top direction, which is stored in f32.
    direction: f64,
    /// Unit roundoff of the Jacobian.
    roundoff: f64,
}

const F32: Tolerance = Tolerance { value: 1e-4, direction: 1e-6, roundoff: 6e-8 };
const F64: Tolerance = Tolerance { value: 1e-8, direction: 1e-10, roundoff: 1.2e-16 };

impl Tolerance {
    /// Allowed error of a score, relative to the larger of its value and `floor`.
    ///
    /// `condition` and `log_det` hang on the smallest counted eigenvalue. A Jacobian with relative error e moves
    /// its singular values by e sigma_1, so lambda_R by about 2 e sqrt(condition) of itself; the Gram matrix in
    /// double adds 1.2e-16 condition. Eight times that is allowed where it exceeds `value`.
    fn of_score(&self, name: &str, condition: f64) -> f64 {
        match name {
            "condition" | "log_det" if condition.is_finite() => {
                let lost = 2.0 * self.roundoff * condition.sqrt() + 1.2e-16 * condition;
                self.value.max(8.0 * lost)
            }
            _ => self.value,
        }
    }
}

/// Entropies and log_det may be near 0 by cancellation: their errors are absolute below these.
fn floor(name: &str) -> f64 {
    match name {
        "von_neumann_entropy" | "entropy_maxnorm" => 0.01,
        "log_det" => 1.0,
        _ => 0.0,
    }
}

/// Spectra of N samples, from a reference file or from a score file.
#[derive(Clone)]
struct Spectra {
    n: usize,
    r: usize,
    d: usize,
    /// [N, R]
    values: Vec<f64>,
    /// [N, D], the top direction
    tops: Vec<f64>,
    /// [N] each
    scores: BTreeMap<String, Vec<f64>>,
}

fn read(file: &File, name: &str) -> (Vec<usize>, Vec<f64>) {
    let data = file.dataset(name).unwrap_or_else(|e| panic!("{}: {name}: {e}", file.filename()));
    (data.shape(), data.read_raw::<f64>().unwrap())
}

impl Spectra {
    fn expected(path: &Path, metric: &str) -> Self {
        let file = File::open(path).unwrap();
        Self::load(&file, &format!("{metric}/"), &format!("{metric}/eigenvalues"), &format!("{metric}/top_direction"))
    }

    fn found(path: &Path) -> Self {
        let file = File::open(path).unwrap();
        Self::load(&file, "", "spectrum/eigenvalues", "spectrum/directions")
    }

    fn load(file: &File, prefix: &str, values: &str, directions: &str) -> Self {
        let (shape, values) = read(file, values);
        let [n, r] = shape[..] else { panic!("eigenvalues of shape {shape:?}") };
        let (shape, directions) = read(file, directions);
        assert_eq!(shape[0], n);
        let d: usize = shape[shape.len() - 3..].iter().product();
        let width = directions.len() / n;
        let tops = directions.chunks(width).flat_map(|row| &row[..d]).copied().collect();
        let scores = SCORES
            .iter()
            .map(|name| {
                let (shape, score) = read(file, &format!("{prefix}scores/{name}"));
                assert_eq!(shape, [n], "{name}");
                ((*name).to_owned(), score)
            })
            .collect();
        Self { n, r, d, values, tops, scores }
    }

    fn row(&self, i: usize) -> &[f64] {
        &self.values[i * self.r..(i + 1) * self.r]
    }

    fn top(&self, i: usize) -> &[f64] {
        &self.tops[i * self.d..(i + 1) * self.d]
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// Everything that is wrong with `found`, one line each. Every test is written so that NaN fails it.
fn differences(expected: &Spectra, found: &Spectra, tolerance: Tolerance) -> Vec<String> {
    let shape = |s: &Spectra| (s.n, s.r, s.d);
    if shape(expected) != shape(found) {
        return vec![format!("(N, R, D): expected {:?}, found {:?}", shape(expected), shape(found))];
    }
    let mut wrong = Vec::new();
    for i in 0..expected.n {
        eigenvalues(i, expected.row(i), found.row(i), tolerance, &mut wrong);
        scores(i, expected, found, tolerance, &mut wrong);
        direction(i, expected, found, tolerance, &mut wrong);
    }
    wrong
}

fn eigenvalues(i: usize, expected: &[f64], found: &[f64], tolerance: Tolerance, wrong: &mut Vec<String>) {
    let allowed = tolerance.value * expected[0];
    for (k, (want, got)) in expected.iter().zip(found).enumerate() {
        if !((want - got).abs() <= allowed && *got >= 0.0) {
            wrong.push(format!("eigenvalue {} of sample {i}: expected {want:e}, found {got:e}", k + 1));
        }
    }
    if !found.windows(2).all(|w| w[0] >= w[1]) {
        wrong.push(format!("eigenvalues of sample {i} do not descend"));
    }
}

fn scores(i: usize, expected: &Spectra, found: &Spectra, tolerance: Tolerance, wrong: &mut Vec<String>) {
    let condition = expected.scores["condition"][i];
    // Where an eigenvalue lies within a factor of 10 of the rank cut, what hangs on the cut is not defined enough.
    let largest = expected.row(i)[0];
    let clear = expected.row(i).iter().all(|v| !(1e-11 * largest..=1e-9 * largest).contains(v) || *v == 0.0);
    for name in SCORES {
        let (want, got) = (expected.scores[name][i], found.scores[name][i]);
        if !clear && matches!(name, "rank" | "log_det" | "condition") {
            continue;
        }
        let allowed = match name {
            "rank" => 0.0,
            _ => tolerance.of_score(name, condition) * want.abs().max(floor(name)),
        };
        let same = if want.is_nan() { got.is_nan() } else { (want - got).abs() <= allowed };
        if !same {
            wrong.push(format!("{name} of sample {i}: expected {want:e}, found {got:e}"));
        }
    }
}

fn direction(i: usize, expected: &Spectra, found: &Spectra, tolerance: Tolerance, wrong: &mut Vec<String>) {
    let (want, got) = (expected.top(i), found.top(i));
    if !got.iter().all(|x| x.is_finite()) {
        wrong.push(format!("direction of sample {i} is not finite"));
        return;
    }
    let values = expected.row(i);
    let second = values.get(1).copied().unwrap_or(0.0);
    if values[0] == 0.0 || values[0] - second <= GAP * values[0] {
        return;
    }
    let length = dot(got, got).sqrt();
    if !((length - 1.0).abs() <= apart(Kind::Float, &[got.len() as i64])) {
        wrong.push(format!("direction of sample {i} has length {length}"));
    }
    let cosine = dot(want, got) / (length * dot(want, want).sqrt());
    if !(1.0 - cosine.abs() <= tolerance.direction) {
        wrong.push(format!("direction of sample {i}: 1 - |cos| is {:e}", 1.0 - cosine.abs()));
    }
    // The sign rule binds where the largest entry stands clear of every entry of the other sign.
    let largest = want.iter().copied().fold(0.0, f64::max);
    let other = want.iter().map(|x| -x).fold(0.0, f64::max);
    if other < 0.99 * largest && !(cosine > 0.0) {
        wrong.push(format!("direction of sample {i} has the wrong sign"));
    }
}

/// Folders that hold cases, by name.
fn cases(root: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).collect();
    found.retain(|p| p.join("expected.h5").is_file());
    found.sort();
    found
}

fn own() -> PathBuf {
    crate::files::root().join("tests/golden/cases")
}

/// How a case is scored.
#[derive(Clone, Copy)]
enum Through {
    /// The library's job: the same work without a process a run.
    Library,
    /// The same by products with the Jacobian, every eigenvalue asked for.
    MatrixFree,
    /// The binary, as a user types it.
    Binary,
}

/// Scores `case` by `metric` into `output`; a failure is the error's one line.
fn score(
    case: &Path,
    metric: &str,
    precision: Precision,
    through: Through,
    device: Device,
    output: &Path,
) -> Result<(), String> {
    // Passes of two in f64, so that a model is called several times and TorchScript gets its chance to rewrite it.
    let batch = if precision == Precision::F64 { "2" } else { "auto" };
    if !matches!(through, Through::Binary) {
        let subject = Subject {
            model: case.join("vae.pt"),
            data: case.join("inputs.h5").display().to_string(),
            split: Split::Test,
            limit: None,
            sample: None,
            reading: Reading::default(),
            interface: Interface::default(),
            shard: None,
            hand_out: HandOut::default(),
            precision,
            seed: 0,
            device: pullback::device::name(device).parse().unwrap(),
            batch: if batch == "2" { BatchSize::Fixed(2) } else { BatchSize::Auto },
            output: output.to_owned(),
            overwrite: Overwrite::No,
        };
        let metric = MetricKind::from_str(metric, false).unwrap();
        let spectrum = match through {
            Through::MatrixFree => SpectrumSpec { mode: SpectrumMode::Top, pairs: 1000, ..SpectrumSpec::default() },
            _ => SpectrumSpec::default(),
        };
        return pipeline::score(&ScoreRequest { subject, metric, top: 1, spectrum, margin: None }, &Silent)
            .map_err(|e| e.to_string());
    }
    let done = Command::new(crate::files::binary())
        .args(["score", "-q", "--device", &pullback::device::name(device), "--threads", "1", "--top", "1"])
        .args(["--metric", metric, "--precision", precision.name(), "--batch", batch])
        .arg("-m")
        .arg(case.join("vae.pt"))
        .arg("-d")
        .arg(case.join("inputs.h5"))
        .arg("-o")
        .arg(output)
        .output()
        .unwrap();
    if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).trim().to_owned()) }
}

/// Scores `cases` by `metrics` on every device and panics with all that differs.
fn run(cases: &[PathBuf], metrics: impl Fn(usize) -> &'static [&'static str], precision: Precision, through: Through) {
    on_each_device(|| run_here(cases, &metrics, precision, through));
}

fn run_here(
    cases: &[PathBuf],
    metrics: &impl Fn(usize) -> &'static [&'static str],
    precision: Precision,
    through: Through,
) {
    assert!(!cases.is_empty(), "no cases");
    let tolerance = match (precision, through) {
        (Precision::F64, _) => F64,
        // What the precision promises, products with the Jacobian included: four sums of at most 64 terms in a row (two layers of
        // encoder and decoder each), twice in lambda, are 2 `roundoff::apart` = 6.3e-5 of lambda_1.
        (Precision::F32, _) => F32,
    };
    let folder = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        for metric in metrics(number) {
            let name = case.file_name().unwrap().to_string_lossy();
            let what = format!("{name} {metric} {} on {:?}", precision.name(), here());
            let output = folder.path().join(format!("{name}-{metric}.h5"));
            if let Err(line) = score(case, metric, precision, through, here(), &output) {
                wrong.push(format!("{what}: {line}"));
                continue;
            }
            let expected = Spectra::expected(&case.join("expected.h5"), metric);
            let failures = differences(&expected, &Spectra::found(&output), tolerance);
            wrong.extend(failures.into_iter().map(|f| format!("{what}: {f}")));
        }
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

fn every(_: usize) -> &'static [&'static str] {
    &METRICS
}

/// One metric a case, each in turn.
fn one(number: usize) -> &'static [&'static str] {
    let at = number % METRICS.len();
    &METRICS[at..=at]
}

/// The shared cases, where this checkout has them.
fn shared() -> Option<PathBuf> {
    let root = crate::files::root().join("../shared/golden/cases");
    if root.is_dir() {
        return Some(root);
    }
    println!("skipped: {} is not there", root.display());
    None
}

#[test]
fn own_cases_in_f32() {
    run(&cases(&own()), every, Precision::F32, Through::Library);
}

#[test]
fn own_cases_in_f64() {
    run(&cases(&own()), every, Precision::F64, Through::Library);
}

#[test]
fn own_cases_matrix_free_in_f32() {
    run(&cases(&own()), every, Precision::F32, Through::MatrixFree);
}

#[test]
fn own_cases_matrix_free_in_f64() {
    run(&cases(&own()), every, Precision::F64, Through::MatrixFree);
}

#[test]
fn shared_cases_in_f32() {
    if let Some(root) = shared() {
        run(&cases(&root), every, Precision::F32, Through::Library);
    }
}

#[test]
fn shared_cases_in_f64() {
    if let Some(root) = shared() {
        run(&cases(&root), every, Precision::F64, Through::Library);
    }
}

#[test]
fn the_binary_in_f32() {
    run(&cases(&own()), one, Precision::F32, Through::Binary);
}

#[test]
fn the_binary_in_f64() {
    run(&cases(&own())[1..6], one, Precision::F64, Through::Binary);
}

/// The comparison itself: it accepts the reference, and refuses each way of being slightly wrong.
#[test]
fn a_perturbed_expectation_fails() {
    let case = own().join("clamped_logvar/expected.h5");
    let good = Spectra::expected(&case, "stochastic");
    assert_eq!(differences(&good, &good, F64), Vec::<String>::new());

    type Spoil = fn(&mut Spectra);
    let spoils: [(&str, Spoil); 11] = [
        ("an eigenvalue off by 2e-4 of lambda_1", |s| s.values[1] += 2e-4 * s.values[0]),
        ("a NaN eigenvalue", |s| s.values[2] = f64::NAN),
        ("a negative eigenvalue", |s| s.values[s.r - 1] = -1e-9),
        ("eigenvalues out of order", |s| s.values[s.r - 1] = s.values[s.r - 2] + 1e-6),
        ("a score off by 2e-4", |s| s.scores.get_mut("trace").unwrap()[0] *= 1.0002),
        ("a NaN score", |s| s.scores.get_mut("anisotropy").unwrap()[1] = f64::NAN),
        ("a rank off by one", |s| s.scores.get_mut("rank").unwrap()[2] += 1.0),
        ("a rotated direction", |s| s.tops[0] += 0.01),
        ("a direction of the wrong sign", |s| s.tops.iter_mut().for_each(|x| *x = -*x)),
        ("a direction that is not unit", |s| s.tops.iter_mut().for_each(|x| *x *= 1.01)),
        ("a NaN direction", |s| s.tops[3] = f64::NAN),
    ];
    for (what, spoil) in spoils {
        let mut bad = good.clone();
        spoil(&mut bad);
        assert!(!differences(&good, &bad, F32).is_empty(), "{what} went unnoticed");
    }
    let mut bad = good.clone();
    bad.values[0] *= 1.0 + 5e-8;
    assert!(differences(&good, &bad, F32).is_empty() && !differences(&good, &bad, F64).is_empty());
}

/// A collapsed sample (the black image of this case) has undefined ratios: a number there is wrong.
#[test]
fn undefined_scores_must_be_nan() {
    let case = own().join("collapsed/expected.h5");
    let good = Spectra::expected(&case, "mean");
    assert_eq!(good.row(0)[0], 0.0);
    assert!(good.scores["condition"][0].is_nan());
    let mut bad = good.clone();
    bad.scores.get_mut("condition").unwrap()[0] = 1.0;
    assert_eq!(differences(&good, &good, F64), Vec::<String>::new());
    assert_eq!(differences(&good, &bad, F32).len(), 1);
}
