//! Models that learn together, against the same models each by itself.

use super::{CPU, Impatient, Memory, Shared, conv, images, mixed, mlp, same, spec, state_of, untimed};
use crate::device::{here, on_each_device};
use crate::model::distance;
use crate::roundoff;
use pullback::Error;
use pullback::data::{Batch, ImageShape, Source};
use pullback::event::{Observer, Silent};
use pullback::model::{self, ConvSpec, MlpSpec, ModelSpec, Network};
use pullback::train::{HISTORY_FILE, History, Keep, Member, MixupSpec, Pairing, STATE_FILE, TrainSpec, fit, together};
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tch::{Kind, Tensor};

/// What a model has of its own: beta, mixup, seed.
type Own = (f64, MixupSpec, u64);

/// Two of them share a seed, none a mix.
fn owns() -> [Own; 3] {
    let other = MixupSpec { strength: 1.5, alpha: 2.0, pairing: Pairing::Independent };
    [(0.1, MixupSpec::default(), 1), (2.0, mixed(), 2), (1.0, other, 1)]
}

fn network(model: &ModelSpec, own: &Own, kind: Kind) -> Network {
    Network::new(model, own.2, here(), kind).unwrap()
}

fn settings(epochs: u32) -> TrainSpec {
    TrainSpec { weight_decay: 1e-3, ..spec(epochs) }
}

/// A model by itself.
fn alone(model: &ModelSpec, own: &Own, spec: &TrainSpec, kind: Kind) -> pullback::Result<(History, Vec<Tensor>)> {
    let mut network = network(model, own, kind);
    let spec = TrainSpec { beta: own.0, mixup: own.1, ..spec.clone() };
    let history = fit(&mut network, images(40, "x"), Some(images(10, "v")), &spec, own.2, None, &Silent)?;
    Ok((untimed(history), state_of(&network)))
}

type Results = Vec<(pullback::Result<History>, Vec<Tensor>)>;

/// All of them at once, each in its folder `<i>` of `run`.
fn fleet(
    model: &ModelSpec,
    owns: &[Own],
    spec: &TrainSpec,
    kind: Kind,
    run: Option<&Path>,
    observer: &dyn Observer,
) -> pullback::Result<Results> {
    let mut networks: Vec<Network> = owns.iter().map(|own| network(model, own, kind)).collect();
    let folders: Vec<_> = (0..owns.len()).map(|i| run.map(|run| run.join(i.to_string()))).collect();
    let members = networks.iter_mut().zip(owns).zip(&folders).map(|((network, own), folder)| Member {
        network,
        beta: own.0,
        mixup: own.1,
        seed: own.2,
        keep: Keep::from(folder.as_deref()),
        observer,
    });
    let histories = together(members.collect(), images(40, "x"), Some(images(10, "v")), spec)?;
    Ok(histories.into_iter().map(|h| h.map(untimed)).zip(networks.iter().map(state_of)).collect())
}

/// Largest difference of two histories, each number by its size; NaN counts as a difference.
fn apart(a: &History, b: &History) -> f64 {
    assert_eq!(a.epochs.len(), b.epochs.len());
    let numbers = |h: &History| -> Vec<f64> {
        let of = |e: &pullback::train::Epoch| {
            let v = e.valid.unwrap();
            [e.beta, e.lr, e.loss, e.reconstruction, e.kl, e.mixup, v.elbo, v.reconstruction, v.kl]
        };
        h.epochs.iter().flat_map(of).collect()
    };
    let pairs = numbers(a).into_iter().zip(numbers(b));
    pairs.map(|(a, b)| (a - b).abs() / (1.0 + b.abs())).fold(0.0, |m, d| if d <= m { m } else { d })
}

/// How far training together may lie from training alone after so many epochs of three steps each. A gradient is off by what its sums
/// are, as a share of the largest; Adam divides each by its own size, so that one a thousand times smaller than the largest is off
/// a thousand times more, by which a step of the learning rate is wrong; what an earlier step did wrong the later ones carry on.
fn tolerance(kind: Kind, epochs: i32) -> f64 {
    let rounding = roundoff::apart(kind, &[30, 16, 2, 16, 30, 30, 16, 2, 16, 30]);
    f64::from(3 * epochs) * settings(1).lr * 1e3 * rounding
}

fn far(a: &[Tensor], b: &[Tensor]) -> f64 {
    a.iter().zip(b).map(|(a, b)| distance(a, b)).fold(0.0, |m, d| if d <= m { m } else { d })
}

#[test]
fn each_model_learns_as_if_it_were_alone() {
    on_each_device(|| {
        for model in [mlp(), conv()] {
            for kind in [Kind::Double, Kind::Float] {
                let tolerance = tolerance(kind, 3);
                let (owns, spec) = (owns(), settings(3));
                let fleet = fleet(&model, &owns, &spec, kind, None, &Silent).unwrap();
                for ((history, weights), own) in fleet.iter().zip(&owns) {
                    let (expected, expected_weights) = alone(&model, own, &spec, kind).unwrap();
                    let loss = apart(history.as_ref().unwrap(), &expected);
                    assert!(loss <= tolerance, "{kind:?}, seed {}: losses differ by {loss:e}", own.2);
                    // In single precision a bias before batch normalisation, which no loss depends on, walks at random.
                    if kind == Kind::Double || matches!(model, ModelSpec::Mlp(_)) {
                        let weights = far(weights, &expected_weights);
                        assert!(weights <= tolerance, "{kind:?}, seed {}: weights differ by {weights:e}", own.2);
                    }
                    // The comparison can fail: another seed, another beta, another mixup.
                    let mixup = MixupSpec { strength: own.1.strength + 1.0, ..own.1 };
                    for other in [(own.0, own.1, 9), (own.0 * 2.0, own.1, own.2), (own.0, mixup, own.2)] {
                        let (expected, _) = alone(&model, &other, &spec, kind).unwrap();
                        assert!(apart(history.as_ref().unwrap(), &expected) > 10.0 * tolerance, "{other:?}");
                    }
                }
            }
        }
    });
}

#[test]
fn a_killed_fleet_goes_on_together_or_apart() {
    on_each_device(|| {
        for model in [mlp(), conv()] {
            let (owns, spec) = (owns(), settings(5));
            let expected = fleet(&model, &owns, &spec, Kind::Double, None, &Silent).unwrap();
            let run = tempfile::tempdir().unwrap();
            let lines = |i: usize| {
                let csv = std::fs::read_to_string(run.path().join(i.to_string()).join(HISTORY_FILE)).unwrap();
                csv.lines().count() - 1
            };
            // Three batches an epoch, told by each of three models: killed within the third epoch.
            let stop = Impatient(AtomicU64::new(0), 3 * 7);
            let stopped = fleet(&model, &owns, &spec, Kind::Double, Some(run.path()), &stop);
            assert!(matches!(stopped, Err(Error::Interrupted)));
            assert_eq!([lines(0), lines(1), lines(2)], [2, 2, 2]);
            // One goes on alone and is killed in its fourth epoch.
            let apart_from_them = |i: usize, observer: &dyn Observer| {
                let own = &owns[i];
                let mut network = network(&model, own, Kind::Double);
                let spec = TrainSpec { beta: own.0, mixup: own.1, ..spec.clone() };
                let folder = run.path().join(i.to_string());
                fit(
                    &mut network,
                    images(40, "x"),
                    Some(images(10, "v")),
                    &spec,
                    own.2,
                    Some(folder.as_path()),
                    observer,
                )
            };
            assert!(apart_from_them(1, &Impatient(AtomicU64::new(0), 4)).is_err());
            assert_eq!([lines(0), lines(1), lines(2)], [2, 3, 2]);
            // One is done before the rest.
            apart_from_them(2, &Silent).unwrap();
            let resumed = fleet(&model, &owns, &spec, Kind::Double, Some(run.path()), &Silent).unwrap();
            for (i, ((history, weights), (expected, expected_weights))) in resumed.iter().zip(&expected).enumerate() {
                let loss = apart(history.as_ref().unwrap(), expected.as_ref().unwrap());
                assert!(
                    loss <= tolerance(Kind::Double, 5) && far(weights, expected_weights) <= tolerance(Kind::Double, 5),
                    "model {i}: {loss:e}"
                );
                assert_eq!(lines(i), 5);
                // What lies there is the model, and the state of a run of its own.
                let folder = run.path().join(i.to_string());
                let stored = model::network(&folder, here(), Kind::Double).unwrap();
                assert!(same(&state_of(&stored), weights));
                assert!(folder.join(STATE_FILE).exists() && folder.join(model::CONFIG_FILE).exists());
                assert_eq!(untimed(apart_from_them(i, &Silent).unwrap()), *history.as_ref().unwrap());
            }
            // A fleet of other settings may not have the folders.
            let other = TrainSpec { lr: 0.02, ..spec.clone() };
            let error = fleet(&model, &owns, &other, Kind::Double, Some(run.path()), &Silent).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains("train.lr"), "{error}");
        }
    });
}

#[test]
fn a_model_fails_alone() {
    on_each_device(|| {
        for model in [mlp(), conv()] {
            let (spec, [first, second, _]) = (settings(3), owns());
            // Its weighted KL overflows.
            let lost = (f64::MAX, first.1, 1);
            let owns = [first, lost, second];
            let run = tempfile::tempdir().unwrap();
            let fleet = fleet(&model, &owns, &spec, Kind::Double, Some(run.path()), &Silent).unwrap();
            let error = fleet[1].0.as_ref().unwrap_err();
            assert!(error.to_string().contains("expected a finite loss, found"), "{error}");
            assert_eq!(alone(&model, &lost, &spec, Kind::Double).unwrap_err().to_string(), error.to_string());
            assert!(!run.path().join("1").join(STATE_FILE).exists());
            for i in [0, 2] {
                let (expected, expected_weights) = alone(&model, &owns[i], &spec, Kind::Double).unwrap();
                let history = fleet[i].0.as_ref().unwrap();
                assert!(
                    apart(history, &expected) <= tolerance(Kind::Double, 3)
                        && far(&fleet[i].1, &expected_weights) <= tolerance(Kind::Double, 3),
                    "model {i}"
                );
            }
        }
    });
}

/// Remembers the most samples that were read at once.
struct Counted(Arc<dyn Source>, AtomicUsize);

impl Source for Counted {
    fn name(&self) -> &str {
        self.0.name()
    }
    fn len(&self) -> usize {
        self.0.len()
    }
    fn shape(&self) -> ImageShape {
        self.0.shape()
    }
    fn has_labels(&self) -> bool {
        self.0.has_labels()
    }
    fn read(&self, index: &[u64]) -> pullback::Result<Batch> {
        self.1.fetch_max(index.len(), Ordering::Relaxed);
        self.0.read(index)
    }
}

/// How many models there are together is measured by a training step.
#[test]
fn a_fleet_is_validated_in_steps_of_its_training() {
    let (owns, spec) = (owns(), TrainSpec { hold_mib: 0, ..settings(1) });
    for (count, most) in [(1, 40), (3, 16)] {
        let counted = Arc::new(Counted(images(40, "v"), AtomicUsize::new(0)));
        let valid: Arc<dyn Source> = counted.clone();
        let mut networks: Vec<Network> = owns[..count].iter().map(|own| network(&mlp(), own, Kind::Float)).collect();
        let members = networks.iter_mut().zip(&owns).map(|(network, own)| Member {
            network,
            beta: own.0,
            mixup: own.1,
            seed: own.2,
            keep: Keep::default(),
            observer: &Silent,
        });
        let histories = together(members.collect(), images(40, "x"), Some(valid), &spec).unwrap();
        assert!(histories.iter().all(Result::is_ok));
        assert_eq!(counted.1.load(Ordering::Relaxed), most, "{count} models");
    }
}

#[test]
fn what_is_no_fleet_is_refused() {
    let (mut a, mut b) = (network(&mlp(), &owns()[0], Kind::Float), network(&conv(), &owns()[0], Kind::Float));
    let member =
        |network| Member { network, beta: 1.0, mixup: mixed(), seed: 0, keep: Keep::default(), observer: &Silent };
    let error = together(vec![member(&mut a), member(&mut b)], images(40, "x"), None, &spec(1)).unwrap_err();
    assert!(error.exit_code() == 2 && error.to_string().contains("one architecture"), "{error}");
    assert!(together(vec![], images(40, "x"), None, &spec(1)).unwrap().is_empty());
}

/// Milliseconds a step of models by themselves and together, at the thread count of OMP_NUM_THREADS:
/// `cargo test fleet_time -- --ignored --nocapture`. Adam, batches of 128, 28x28.
#[test]
#[ignore = "a measurement"]
fn fleet_time() {
    const STEPS: i64 = 10;
    let shape = ImageShape { channels: 1, height: 28, width: 28 };
    let pixels = Tensor::rand([128 * STEPS, 1, 28, 28], (Kind::Float, CPU));
    let memory = Memory { images: pixels, name: "noise" };
    let source: Arc<dyn Source> = Arc::new(Shared(Mutex::new(memory), shape, 128 * STEPS as usize));
    let image = Some(shape);
    let mlp = |hidden: &[i64], latent| {
        ModelSpec::Mlp(MlpSpec { image, hidden: hidden.to_vec(), latent, ..MlpSpec::default() })
    };
    let conv = ModelSpec::Conv(ConvSpec { image, channels: vec![8, 16], hidden: 64, ..ConvSpec::default() });
    let spec = TrainSpec { epochs: 1, batch: 128, ..TrainSpec::default() };
    let seconds = |model: &ModelSpec, models: usize, at_once: usize| {
        let mut networks: Vec<Network> = (0..models).map(|_| network(model, &owns()[0], Kind::Float)).collect();
        let start = Instant::now();
        for few in networks.chunks_mut(at_once) {
            let (beta, mixup, seed) = owns()[0];
            let member = |network| Member { network, beta, mixup, seed, keep: Keep::default(), observer: &Silent };
            drop(together(few.iter_mut().map(member).collect(), source.clone(), None, &spec).unwrap());
        }
        start.elapsed().as_secs_f64()
    };
    let models = [
        ("mlp 16", mlp(&[16], 2)),
        ("mlp 64", mlp(&[64], 8)),
        ("mlp 512-256", mlp(&[512, 256], 16)),
        ("conv 8-16", conv),
    ];
    for (name, model) in models {
        for count in [2, 8] {
            let mut best = [f64::INFINITY; 2];
            for _ in 0..3 {
                best[0] = best[0].min(seconds(&model, count, 1));
                best[1] = best[1].min(seconds(&model, count, count));
            }
            let [apart, together] = best.map(|s| 1e3 * s / STEPS as f64);
            println!("{name}, {count}: {apart:.2} ms apart, {together:.2} ms together, {:.2}x", apart / together);
        }
    }
}
