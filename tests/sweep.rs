//! Tests of `sweep`: its config, a tiny study, interruption anywhere, and the published settings.

use crate::roundoff::{apart, unit};
use pullback::config::{Cell, Shard, SweepSpec, Tree};
use pullback::correlate::{Coefficient, Missing, coefficient};
use pullback::event::{Event, Observer, Silent};
use pullback::lock::FolderLock;
use pullback::pipeline::sweep::{SweepRequest, run};
use pullback::store::{Overwrite, Reader, Values};
use pullback::{Error, Result};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use tch::Kind;

fn parse(yaml: &str) -> Result<SweepSpec> {
    SweepSpec::parse(&Tree::text("sweep.yaml", yaml)?)
}

fn refused(yaml: &str) -> String {
    let error = parse(yaml).unwrap_err();
    assert_eq!(error.exit_code(), 2, "{error}");
    let text = error.to_string();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

#[test]
fn a_range_is_numpys_logspace() {
    // numpy.logspace(-2, 1, 50)[[0, 1, 25, 36, 49]], as in the names of the authors' result files.
    let spec = parse("beta: {logspace: {start: -2, stop: 1, num: 50}}").unwrap();
    assert_eq!(spec.beta.len(), 50);
    let expected =
        [(0, 0.01), (1, 0.011513953993264475), (25, 0.3393221771895328), (35, 1.3894954943731375), (49, 10.0)];
    for (i, value) in expected {
        // The exponent is rounded, which counts as often as its logarithm is large: ln 100 at most.
        let allowed = apart(Kind::Double, &[1]) * 100f64.ln();
        assert!((spec.beta[i] / value - 1.0).abs() < allowed, "{i}: {}", spec.beta[i]);
    }
    let steps = parse("attack: {eps: {logspace: {start: -1, stop: 1, num: 40}}}").unwrap().attack.eps.unwrap();
    assert!(steps.len() == 40 && steps[0] == 0.1 && steps[39] == 10.0);
    assert_eq!(parse("beta: {logspace: {start: 0, stop: 5, num: 1}}").unwrap().beta, [1.0]);
    assert_eq!(parse("beta: [0.5, 2]").unwrap().beta, [0.5, 2.0]);
}

#[test]
fn a_resolved_config_reads_as_itself() {
    let spec = parse("beta: {logspace: {start: -2, stop: 1, num: 7}}\nalso: [{beta: [1], mixup: [0, 1], seeds: [1]}]\nfurther: {unit: {box: off}}").unwrap();
    assert_eq!(parse(&spec.to_yaml().unwrap()).unwrap(), spec);
}

#[test]
fn wrong_configs_are_refused_by_key() {
    for (yaml, words) in [
        ("betas: [1]", "betas"),
        ("beta: []", "beta"),
        ("beta: [-1]", "beta"),
        ("beta: 3", "beta"),
        ("beta: {linspace: {start: 0, stop: 1, num: 2}}", "linspace"),
        ("beta: {logspace: {start: 0, stop: 1, num: 0}}", "num"),
        ("beta: {logspace: {start: 0, stop: 1}}", "num"),
        ("beta: [1, 1.0000001]", "six digits"),
        ("seeds: []", "seeds"),
        ("seeds: [9223372036854775808]", "below 2^63"),
        ("mixup: [.nan]", "mixup"),
        ("also: [{beta: [1], mixup: [], seeds: [0]}]", "also: mixup"),
        ("samples: 0", "samples"),
        ("workers: 0", "workers"),
        ("together: 1", "together"),
        ("together: always", "auto, off or a whole number"),
        ("score: {metrics: []}", "score.metrics"),
        ("score: {metrics: [mean, mean]}", "score.metrics"),
        ("train: {epochs: 0}", "train.epochs"),
        ("attack: {eps: [0]}", "attack.eps"),
        ("further: {unit: {eps: [1]}}", "further.unit.eps"),
        ("further: {a-b: {}}", "further"),
        ("correlate: {resamples: 3}", "correlate.resamples"),
        ("measures: [damage]", "measures"),
    ] {
        let text = refused(yaml);
        assert!(text.contains(words), "{yaml}: {text}");
    }
}

#[test]
fn cells_are_each_once_and_named_by_what_they_are() {
    let spec =
        parse("beta: [0.01, 1]\nmixup: [0, 1]\nseeds: [3]\nalso: [{beta: [1], mixup: [0, 1], seeds: [3, 4]}]").unwrap();
    let names: Vec<String> = spec.cells().iter().map(Cell::name).collect();
    assert_eq!(names, ["0.01-0-3", "1-0-3", "0.01-1-3", "1-1-3", "1-0-4", "1-1-4"]);
    assert_eq!(Cell { beta: 0.013257113655901088, mixup: 0.5, seed: 0 }.name(), "0.0132571-0.5-0");
}

#[test]
fn every_sweep_config_loads_and_is_what_it_says() {
    let folder = crate::files::root().join("configs");
    let read = |name: &str| SweepSpec::read(&folder.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let paper = read("paper.yaml");
    assert_eq!(paper.cells().len(), 52, "50 values of beta, and beta = 1 without and with mixup");
    assert_eq!((paper.train.epochs, paper.samples), (100, Some(3072)));
    let small = read("paper-small.yaml");
    let plain = small.cells().iter().filter(|c| c.mixup == 0.0 && c.seed == 0).count();
    assert!(plain >= 14, "{plain}");
    for mixup in [0.0, 1.0] {
        let seeds = small.cells().iter().filter(|c| c.beta == 1.0 && c.mixup == mixup).count();
        assert_eq!(seeds, 3, "seeds of beta 1, mixup {mixup}");
    }
    read("cifar10-sweep.yaml");
}

const TINY: &str = "
beta: [0.1, 1, 8]
mixup: [0, 1]
also: [{beta: [1], mixup: [0], seeds: [5]}]
device: cpu
batch: 8
workers: 1
data: {source: strokes, limit: 96, valid: 0}
model: {kind: mlp, hidden: [12], latent: 3}
train: {epochs: 2, batch: 32}
samples: 24
score: {metrics: [stochastic, output]}
attack: {attacks: [{kind: spectral, top: 2, scale: singular}, {kind: random}], eps: {logspace: {start: -1, stop: 0, num: 3}}, box: off}
further: {unit: {attacks: [{kind: spectral}], metric: mean}}
correlate: {resamples: 200}
";

fn request(yaml: &str, output: &Path) -> SweepRequest {
    SweepRequest { spec: parse(yaml).unwrap(), output: output.to_owned(), overwrite: Overwrite::No, share: None }
}

/// What was computed of every model, by data set; not the clock's.
fn contents(run: &Path) -> BTreeMap<String, Vec<f64>> {
    let reader = Reader::open(&run.join("sweep.h5")).unwrap();
    let paths: Vec<String> = reader.datasets().iter().map(|d| d.path.clone()).collect();
    let kept = paths.into_iter().filter(|p| p != "/training/seconds" && p != "/checksum");
    kept.map(|p| match reader.read(&p).unwrap().values {
        Values::F64(v) => (p, v),
        Values::F32(v) => (p, v.into_iter().map(f64::from).collect()),
        Values::I64(v) => (p, v.into_iter().map(|x| x as f64).collect()),
        Values::U8(v) => (p, v.into_iter().map(f64::from).collect()),
    })
    .collect()
}

/// An eigenvalue in single precision is right to 1e-4 of the largest, the contract says; scores are functions of some ten of them.
const CONTRACT: f64 = 1e-3;

/// The first data set that differs by more than `tolerance` of its largest number, and by how much.
///
/// Not bit by bit: which passes are fastest is measured anew in every run, and sums depend on it. For it a sign of a
/// direction or a rank may turn over, so that of attacks the mean counts, and correlations are only looked for.
fn difference(a: &BTreeMap<String, Vec<f64>>, b: &BTreeMap<String, Vec<f64>>, tolerance: f64) -> Option<String> {
    assert!(!a.is_empty());
    if !a.keys().eq(b.keys()) {
        return Some("data sets".to_owned());
    }
    a.iter().find_map(|(path, x)| {
        let y = &b[path];
        let size = x.iter().filter(|x| x.is_finite()).fold(0.0, |m: f64, x| m.max(x.abs()));
        let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
        let apart = match path.split('/').nth(1) {
            Some("correlation" | "correlation_of_medians" | "kendall" | "kendall_of_medians") => 0.0,
            Some("within" | "kendall_within" | "effect") => 0.0,
            Some("attack" | "further" | "pictures") => (mean(x) - mean(y)).abs(),
            _ => x
                .iter()
                .zip(y)
                .map(|(x, y)| if x.to_bits() == y.to_bits() { 0.0 } else { (x - y).abs() })
                .fold(0.0, |m: f64, d| if d <= m { m } else { d }),
        };
        let same = x.len() == y.len() && apart <= tolerance * size;
        (!same).then(|| format!("{path} by {apart:e} of {size:e}"))
    })
}

/// Asks to stop after a number of events; remembers the epochs that were told.
struct Impatient {
    left: AtomicI64,
    epochs: AtomicU64,
}

impl Impatient {
    fn after(events: i64) -> Self {
        Self { left: AtomicI64::new(events), epochs: AtomicU64::new(0) }
    }
}

impl Observer for Impatient {
    fn on(&self, event: Event<'_>) {
        match event {
            Event::Begin { done, .. } => self.epochs.store(done, Ordering::Relaxed),
            Event::Advance(n) => drop(self.epochs.fetch_add(n, Ordering::Relaxed)),
            _ => {}
        }
    }

    fn interrupted(&self) -> bool {
        self.left.fetch_sub(1, Ordering::Relaxed) <= 0
    }
}

#[test]
fn a_tiny_study_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("run");
    let patient = Impatient::after(i64::MAX);
    let outcome = run(&request(TINY, &output), &patient).unwrap().unwrap();
    assert_eq!(patient.epochs.load(Ordering::Relaxed), 14, "7 models of 2 epochs");
    assert_eq!(outcome.to_string().lines().next().unwrap().split_whitespace().next(), Some("beta"));
    assert!(output.join("report.html").metadata().unwrap().len() > 1000);

    let reader = Reader::open(&output.join("sweep.h5")).unwrap();
    assert_eq!(reader.header().kind.name(), "sweep");
    assert_eq!(reader.read_f64("/beta").unwrap().1, [0.1, 1.0, 8.0, 0.1, 1.0, 8.0, 1.0]);
    assert_eq!(reader.read_u8("/mixup").unwrap().1, [0, 0, 0, 1, 1, 1, 0]);
    assert_eq!(reader.read_i64("/seed").unwrap().1, [0, 0, 0, 0, 0, 0, 5]);
    assert_eq!(reader.index().len(), 24);
    let shape = |path: &str| reader.info(path).unwrap_or_else(|| panic!("no {path}")).shape.clone();
    assert_eq!(shape("/spectrum/eigenvalues"), [7, 24, 6]);
    assert_eq!(shape("/spectrum/output.eigenvalues"), [7, 24, 3]);
    assert_eq!(shape("/scores/output.trace"), [7, 24]);
    assert_eq!(shape("/attack/u2/recon_mse"), [7, 3, 24]);
    assert_eq!(shape("/attack/random/latent_l2"), [7, 3, 24]);
    assert_eq!(shape("/further/unit/attack/spectral/recon_mse"), [7, 3, 24]);
    assert_eq!(shape("/clean/recon_mse"), [7, 24]);
    assert_eq!(shape("/training/kl"), [7]);
    assert_eq!(shape("/pictures/clean/images"), [4, 1, 28, 28]);
    assert_eq!(shape("/pictures/attack/u1/recon"), [7, 3, 4, 1, 28, 28]);
    assert_eq!(shape("/pictures/spectrum/directions"), [7, 4, 3, 1, 28, 28]);

    // Rows are those of the cells' own files, and singular values are roots.
    let cell = output.join("cells/8-1-0");
    let (_, own) = Reader::open(&cell.join("attack.h5")).unwrap().read_f64("/attack/u1/recon_mse").unwrap();
    let (_, all) = reader.read_f64("/attack/u1/recon_mse").unwrap();
    assert_eq!(all[5 * 72..6 * 72], own);
    let (_, lambda) = reader.read_f64("/scores/spectral_radius").unwrap();
    let (_, root) = reader.read_f64("/scores/singular.spectral_radius").unwrap();
    assert!(lambda.iter().zip(&root).all(|(l, r)| (r * r - l).abs() <= apart(Kind::Double, &[1]) * l));

    // x' is where the authors' code puts it: x + s sqrt(lambda_1) v_1.
    let (_, size) = reader.read_f64("/attack/u1/input_l2").unwrap();
    let (_, eps) = reader.read_f64("/eps").unwrap();
    for (i, size) in size.iter().enumerate() {
        let (s, e, n) = (i / 72, i / 24 % 3, i % 24);
        let expected = eps[e] * root[s * 24 + n];
        // 784 pixels are rounded to single precision, of numbers up to 1.
        let allowed = 28.0 * 2.0 * unit(Kind::Float) + apart(Kind::Float, &[784]) * expected;
        assert!((size - expected).abs() <= allowed, "model {s}, step {e}, sample {n}: {size}, not {expected}");
    }

    // The stored correlation is that of beta with the mean score.
    let (_, beta) = reader.read_f64("/beta").unwrap();
    let mean: Vec<f64> = lambda.chunks(24).map(|row| row.iter().sum::<f64>() / 24.0).collect();
    let (rho, _) = coefficient(&beta, &mean, Coefficient::Spearman, Missing::Refuse).unwrap();
    let (_, stored) = reader.read_f64("/correlation/all/beta/scores/spectral_radius").unwrap();
    let last_digits = apart(Kind::Double, &[24]);
    assert!((stored[0] - rho).abs() < last_digits && stored.len() == 3, "{stored:?} {rho}");
    let middle = |row: &[f64]| {
        let mut sorted = row.to_vec();
        sorted.sort_by(f64::total_cmp);
        f64::midpoint(sorted[11], sorted[12])
    };
    let medians: Vec<f64> = lambda.chunks(24).map(middle).collect();
    for (kind, values, which) in [
        ("kendall", &mean, Coefficient::Kendall),
        ("correlation_of_medians", &medians, Coefficient::Spearman),
        ("kendall_of_medians", &medians, Coefficient::Kendall),
    ] {
        let (expected, _) = coefficient(&beta, values, which, Missing::Refuse).unwrap();
        let (_, stored) = reader.read_f64(&format!("/{kind}/all/beta/scores/spectral_radius")).unwrap();
        assert!((stored[0] - expected).abs() < last_digits && stored.len() == 3, "{kind} {stored:?} {expected}");
    }
    assert_eq!(shape("/effect/scores/spectral_radius"), [3]);
    assert_eq!(shape("/within/trace/further/unit/attack/spectral/latent_l2"), [7, 3]);
    for (kind, which) in [("within", Coefficient::Spearman), ("kendall_within", Coefficient::Kendall)] {
        let (_, stored) = reader.read_f64(&format!("/{kind}/spectral_radius/attack/u1/recon_mse")).unwrap();
        for s in 0..7 {
            // At the largest of three sizes, the last.
            let damage = &all[s * 72 + 48..(s + 1) * 72];
            let (expected, _) = coefficient(&lambda[s * 24..(s + 1) * 24], damage, which, Missing::Refuse).unwrap();
            assert!((stored[3 * s] - expected).abs() < last_digits, "{kind} of model {s}: {stored:?}, not {expected}");
        }
    }
    assert!(!cell.join("train.safetensors").exists(), "the optimiser's state is of no more use");

    // Once more: nothing to do, the same file; and another study may not have the folder.
    let before = contents(&output);
    let model = cell.join("model.safetensors");
    let written = model.metadata().unwrap().modified().unwrap();
    run(&request(TINY, &output), &Silent).unwrap();
    assert_eq!(difference(&contents(&output), &before, CONTRACT), None);
    assert_eq!(model.metadata().unwrap().modified().unwrap(), written);
    let other = TINY.replace("latent: 3", "latent: 4");
    let error = run(&request(&other, &output), &Silent).unwrap_err();
    assert!(error.exit_code() == 2 && error.to_string().contains("model.latent"), "{error}");
    // A smaller grid of the same settings is a part of it.
    let fewer = TINY.replace("beta: [0.1, 1, 8]", "beta: [1]");
    run(&request(&fewer, &output), &Silent).unwrap();
    assert_eq!(Reader::open(&output.join("sweep.h5")).unwrap().read_f64("/beta").unwrap().1, [1.0; 3]);
    // And it may be moved.
    let moved = folder.path().join("moved");
    std::fs::rename(&output, &moved).unwrap();
    run(&request(TINY, &moved), &Silent).unwrap();
    assert_eq!(difference(&contents(&moved), &before, CONTRACT), None);
}

/// They are made of the models, which stay as they are.
#[test]
fn the_number_of_pictures_may_change() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("run");
    let few = TINY.replace("beta: [0.1, 1, 8]", "beta: [1]");
    let written = |name: &str| output.join("cells/1-0-0").join(name).metadata().unwrap().modified().unwrap();
    let kept = ["model.safetensors", "scores.h5", "attack.h5"];
    run(&request(&few, &output), &Silent).unwrap();
    let before = kept.map(written);
    for pictures in [2, 6] {
        run(&request(&format!("{few}\npictures: {pictures}"), &output), &Silent).unwrap();
        let reader = Reader::open(&output.join("sweep.h5")).unwrap();
        for (path, axis) in
            [("/pictures/clean/images", 0), ("/pictures/attack/u1/recon", 2), ("/pictures/spectrum/directions", 1)]
        {
            assert_eq!(reader.info(path).unwrap().shape[axis], pictures, "{path}");
        }
    }
    assert_eq!(kept.map(written), before);
    // Those of another model are not replaced.
    let file = output.join("cells/1-0-0/pictures.h5");
    std::fs::copy(output.join("cells/1-0-0/attack.h5"), &file).unwrap();
    let error = run(&request(&few, &output), &Silent).unwrap_err();
    assert!(error.exit_code() == 2 && error.to_string().contains("pictures.h5"), "{error}");
}

#[test]
fn killed_anywhere_it_ends_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = TINY.replace("beta: [0.1, 1, 8]", "beta: [0.1, 8]");
    let whole = folder.path().join("whole");
    run(&request(&yaml, &whole), &Silent).unwrap();
    let expected = contents(&whole);
    let broken = folder.path().join("broken");
    let mut interruptions = 0;
    for patience in [1, 4, 7, 12, 17, 23, 31, 40, 60, 80, i64::MAX] {
        match run(&request(&yaml, &broken), &Impatient::after(patience)) {
            Ok(_) => break,
            Err(Error::Interrupted) => interruptions += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(interruptions >= 5, "only {interruptions} interruptions");
    assert_eq!(difference(&contents(&broken), &expected, CONTRACT), None);

    // Two at a time end the same too, as far as sums over more or fewer threads are the same: Adam's first steps have
    // the size of the learning rate whatever the gradient's, and so carry rounding on.
    let two = folder.path().join("two");
    run(&request(&yaml.replace("workers: 1", "workers: 2"), &two), &Silent).unwrap();
    assert_eq!(difference(&contents(&two), &expected, 0.02), None);

    // The comparison can fail: another seed gives other numbers.
    let other = folder.path().join("other");
    run(&request(&format!("{yaml}\nseeds: [9]"), &other), &Silent).unwrap();
    assert!(difference(&contents(&other), &expected, 0.02).is_some());
}

#[test]
fn trained_together_it_is_the_same_study() {
    let folder = tempfile::tempdir().unwrap();
    let apart = folder.path().join("apart");
    run(&request(TINY, &apart), &Silent).unwrap();
    let expected = contents(&apart);
    // Seven models, four at once at most: a fleet of four and one of three, killed in training and after it.
    let yaml = format!("{TINY}\ntogether: 4");
    let together = folder.path().join("together");
    let mut interruptions = 0;
    for patience in [3, 12, 30, 60, 90, i64::MAX] {
        let patient = Impatient::after(patience);
        match run(&request(&yaml, &together), &patient) {
            Ok(_) => assert_eq!(patient.epochs.load(Ordering::Relaxed), 14, "7 models of 2 epochs"),
            Err(Error::Interrupted) => interruptions += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(interruptions >= 4, "only {interruptions} interruptions");
    assert_eq!(difference(&contents(&together), &expected, 0.02), None);
    for name in ["0.1-0-0", "8-1-0", "1-0-5"] {
        let cell = together.join("cells").join(name);
        assert_eq!(std::fs::read_to_string(cell.join("history.csv")).unwrap().lines().count(), 3);
        let files = |folder: &Path| -> Vec<_> {
            let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(files(&cell), files(&apart.join("cells").join(name)));
    }
    // How models are trained is no part of the study: the folder may be gone on with either way.
    run(&request(TINY, &together), &Silent).unwrap();
}

#[test]
fn parts_of_a_study_beside_each_other_are_the_study() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = TINY.replace("beta: [0.1, 1, 8]", "beta: [0.1]");
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    run(&request(&yaml, &whole), &Silent).unwrap();
    // Three models, and a part more than there are models.
    let of_part = |part| SweepRequest { share: Some(Shard { part, of: 4 }), ..request(&yaml, &parts) };
    let joined: Vec<bool> = std::thread::scope(|scope| {
        let of_part = &of_part;
        let threads: Vec<_> = (1..=4).map(|part| scope.spawn(move || run(&of_part(part), &Silent))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap().unwrap().is_some()).collect()
    });
    assert!(joined.contains(&true), "{joined:?}");
    assert_eq!(difference(&contents(&parts), &contents(&whole), 0.02), None);
    // A part that has done its own models does those that nobody has begun; a model that another part has is left to it.
    let alone = folder.path().join("alone");
    let second = SweepRequest { share: Some(Shard { part: 2, of: 2 }), ..request(&yaml, &alone) };
    std::fs::create_dir_all(alone.join("cells")).unwrap();
    std::fs::write(alone.join("sweep.yaml"), second.spec.to_yaml().unwrap()).unwrap();
    let claim = FolderLock::of_work(&alone.join("cells"), "0.1-0-0").unwrap();
    assert!(run(&second, &Silent).unwrap().is_none());
    let done: Vec<bool> = ["0.1-0-0", "0.1-1-0", "1-0-5"]
        .iter()
        .map(|n| alone.join("cells").join(n).join("attack.h5").exists())
        .collect();
    assert_eq!(done, [false, true, true]);
    drop(claim);
    assert!(run(&second, &Silent).unwrap().is_some());
    assert_eq!(difference(&contents(&alone), &contents(&whole), 0.02), None);
    // With --force each would clear what the others do.
    let error = run(&SweepRequest { overwrite: Overwrite::Yes, ..of_part(1) }, &Silent).unwrap_err();
    assert!(error.exit_code() == 2 && error.to_string().contains("--force"), "{error}");
}

#[test]
fn models_of_other_data_are_not_joined() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("run");
    let few = TINY.replace("beta: [0.1, 1, 8]", "beta: [1]");
    let cell = |name: &str| output.join("cells").join(name);
    run(&request(&few, &output), &Silent).unwrap();
    // The state is gone, but not what it says of the data.
    let data = cell("1-0-0").join("data.json");
    assert!(!cell("1-0-0").join("train.safetensors").exists());
    let told = std::fs::read_to_string(&data).unwrap();
    assert!(told.contains("\"samples\":96") && told.contains("sha256") && told.contains("\"valid\":null"), "{told}");
    let refused = |part: &str| {
        let error = run(&request(&few, &output), &Silent).unwrap_err();
        assert!(error.exit_code() == 2, "{error}");
        assert!(["1-0-0", part].iter().all(|part| error.to_string().contains(part)), "{error}");
    };
    std::fs::write(&data, told.replace("sha256\":\"", "sha256\":\"0")).unwrap();
    refused("one trained on other data");
    // Models of version 0.1.0 say nothing: no others are joined to them, and they stay among themselves.
    std::fs::remove_file(&data).unwrap();
    refused("one of version 0.1.0 beside others");
    for name in ["1-1-0", "1-0-5"] {
        std::fs::remove_file(cell(name).join("data.json")).unwrap();
    }
    run(&request(&few, &output), &Silent).unwrap();
}

#[test]
fn a_sweep_that_is_done_again_goes_on_too() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("run");
    let few = TINY.replace("beta: [0.1, 1, 8]", "beta: [1]");
    let again = |few: &str| SweepRequest { overwrite: Overwrite::Yes, ..request(few, &output) };
    let cells = output.join("cells");
    let made = |name: &str| cells.join(name).join("attack.h5").metadata().and_then(|file| file.modified()).ok();
    run(&request(&few, &output), &Silent).unwrap();
    let before = made("1-0-0");
    let mut first = None;
    for patience in (8..).step_by(4) {
        // What the first has done stays, whatever comes after it.
        assert!(matches!(run(&again(&few), &Impatient::after(patience)), Err(Error::Interrupted)), "{patience}");
        first = made("1-0-0");
        if first.is_some() && made("1-0-5").is_none() {
            break;
        }
    }
    assert_ne!(first, before);
    // A model that does not fit is trained anew, and no other.
    std::fs::create_dir_all(cells.join("1-1-0")).unwrap();
    let _ = std::fs::remove_file(cells.join("1-1-0/train.safetensors"));
    std::fs::write(cells.join("1-1-0/data.json"), "{}").unwrap();
    run(&again(&few), &Silent).unwrap();
    assert_eq!(made("1-0-0"), first);
    // A sweep that is done is done again.
    run(&again(&few), &Silent).unwrap();
    assert_ne!(made("1-0-0"), first);
}

#[test]
fn a_study_that_cannot_be_read_is_done_again_only_by_force() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("run");
    let few = TINY.replace("beta: [0.1, 1, 8]", "beta: [1]").replace("mixup: [0, 1]", "mixup: [0]");
    run(&request(&few, &output), &Silent).unwrap();
    let made = || output.join("cells/1-0-0/attack.h5").metadata().unwrap().modified().unwrap();
    let before = made();
    for text in ["beta: [", "none: of ours"] {
        std::fs::write(output.join("sweep.yaml"), text).unwrap();
        let error = run(&request(&few, &output), &Silent).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains("sweep.yaml"), "{error}");
        assert_eq!(made(), before);
    }
    let again = SweepRequest { overwrite: Overwrite::Yes, ..request(&few, &output) };
    run(&again, &Silent).unwrap();
    assert_ne!(made(), before);
}

/// However many models there are: their locks are held together, each an open file.
#[cfg(unix)]
#[test]
fn a_sweep_of_many_models_needs_no_other_limits_of_the_shell() {
    let folder = tempfile::tempdir().unwrap();
    let seeds: Vec<String> = (0..300).map(|seed| seed.to_string()).collect();
    let yaml = format!(
        "{{beta: [1], mixup: [0], seeds: [{}], device: cpu, data: {{source: {}}}, model: {{kind: mlp, hidden: [4], latent: 2}}}}",
        seeds.join(", "),
        folder.path().join("none.h5").display()
    );
    let output = folder.path().join("run");
    for seed in &seeds {
        std::fs::create_dir_all(output.join(format!("cells/1-0-{seed}"))).unwrap();
    }
    std::fs::write(folder.path().join("c.yaml"), &yaml).unwrap();
    std::fs::write(output.join("sweep.yaml"), &yaml).unwrap();
    std::fs::write(output.join("sweep.h5"), "").unwrap();
    let program = crate::files::program();
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "ulimit -Sn 300 && exec \"$@\"", "sh"]).arg(program.get_program());
    shell.args(["sweep", "--force", "-q", "-c"]).arg(folder.path().join("c.yaml")).arg("-o").arg(&output);
    shell.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let out = shell.output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    // All locks were taken and all models cleared; then the data are missed.
    assert!(out.status.code() == Some(2) && said.contains("none.h5"), "{said}");
    assert!(!output.join("sweep.h5").exists());
}

#[test]
fn a_folder_of_other_files_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("thesis.tex"), "x").unwrap();
    let error = run(&request(TINY, folder.path()), &Silent).unwrap_err();
    assert!(error.exit_code() == 2 && error.to_string().contains("other files"), "{error}");
}
