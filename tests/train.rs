//! Tests of `train`.

mod fleet; // many models at once

use crate::device::{here, on_each_device};
use crate::model::{close, distance};
use crate::roundoff;
use pullback::config::{RunConfig, Tree};
use pullback::data::{Batch, ImageShape, Source};
use pullback::event::{Event, Observer, Silent};
use pullback::ffi::adam::{AdamStep, fused_adam};
use pullback::model::{
    self, Activation, ConvSpec, Gaussian, Likelihood, Mean, MlpSpec, ModelSpec, Network, Normalization, Phase, Sigma,
    Stack, Vae,
};
use pullback::pipeline::{self, train::TrainRequest};
use pullback::seed::{self, Stage};
use pullback::store::Overwrite;
use pullback::train::{self, History, Loss, Mix, Mixes, Mixing, MixupSpec, Pairing, Schedule, TrainSpec, fit};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tch::{Device, Kind, Tensor};

const CPU: Device = Device::Cpu;

/// Noise images in memory.
struct Memory {
    images: Tensor,
    name: &'static str,
}

/// A tensor is not Sync, so it waits behind a lock.
struct Shared(Mutex<Memory>, ImageShape, usize);

impl Source for Shared {
    fn name(&self) -> &str {
        self.0.lock().unwrap().name
    }
    fn len(&self) -> usize {
        self.2
    }
    fn shape(&self) -> ImageShape {
        self.1
    }
    fn has_labels(&self) -> bool {
        false
    }
    fn read(&self, index: &[u64]) -> pullback::Result<Batch> {
        let rows: Vec<i64> = index.iter().map(|&i| i as i64).collect();
        let images = self.0.lock().unwrap().images.index_select(0, &Tensor::from_slice(&rows));
        Ok(Batch { images, labels: None, index: index.to_vec() })
    }
}

const SHAPE: ImageShape = ImageShape { channels: 1, height: 6, width: 5 };

/// Smooth images of two factors, so that there is something to learn.
fn images(n: usize, name: &'static str) -> Arc<dyn Source> {
    let noise = seed::uniform(99, Stage::Probe, &(0..n as u64).collect::<Vec<_>>(), 2).unwrap();
    let pixels = Tensor::arange(30, (Kind::Float, CPU)).reshape([1, 30]) * 0.4;
    let images = ((noise.narrow(1, 0, 1) * 3.0 + &pixels).sin() * noise.narrow(1, 1, 1) * 2.0).sigmoid();
    let memory = Memory { images: images.reshape([n as i64, 1, 6, 5]), name };
    Arc::new(Shared(Mutex::new(memory), SHAPE, n))
}

/// The same images mirrored.
fn mirrored(n: usize, name: &'static str) -> Arc<dyn Source> {
    let images = images(n, name).read(&(0..n as u64).collect::<Vec<_>>()).unwrap().images.flip([3]);
    Arc::new(Shared(Mutex::new(Memory { images, name }), SHAPE, n))
}

fn mlp() -> ModelSpec {
    ModelSpec::Mlp(MlpSpec {
        image: Some(SHAPE),
        latent: 2,
        hidden: vec![16],
        activation: Activation::Tanh,
        ..MlpSpec::default()
    })
}

fn conv() -> ModelSpec {
    ModelSpec::Conv(ConvSpec {
        image: Some(SHAPE),
        latent: 2,
        channels: vec![3],
        hidden: 8,
        activation: Activation::Elu,
        normalization: Normalization::Batch,
        likelihood: Likelihood::Gaussian(Gaussian { scale: Sigma::Learned, sigma: 0.5, mean: Mean::Identity }),
    })
}

fn spec(epochs: u32) -> TrainSpec {
    TrainSpec { epochs, batch: 16, lr: 1e-2, kl_warmup: 1.5, grad_clip: Some(5.0), ..TrainSpec::default() }
}

fn mixed() -> MixupSpec {
    MixupSpec { strength: 0.5, ..MixupSpec::default() }
}

/// A history without its wall times.
fn untimed(mut history: History) -> History {
    history.epochs.iter_mut().for_each(|e| e.seconds = 0.0);
    history
}

fn state_of(network: &Network) -> Vec<Tensor> {
    network.parameters().tensors().iter().map(Tensor::copy).collect()
}

fn same(a: &[Tensor], b: &[Tensor]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| distance(a, b) == 0.0)
}

fn folder() -> std::path::PathBuf {
    crate::files::root().join("tests/models")
}

/// The loss of one model, a stack of one: images [B, C, H, W], noise [B, L]; mixup's strength, mixes and noise.
fn loss(
    network: &Network,
    x: &Tensor,
    noise: &Tensor,
    beta: f64,
    mixing: Option<(f64, &(Mix, Mix), &Tensor)>,
    mode: Phase,
) -> pullback::Result<Loss> {
    let stack = Stack::of(&[network])?;
    let number = |value: f64| Tensor::from_slice(&[value]).to_kind(x.kind()).to_device(x.device());
    let (x, noise, beta) = (x.unsqueeze(0), noise.unsqueeze(0), number(beta));
    let Some((strength, (images, latents), noise_of_mixed)) = mixing else {
        return train::loss(&stack, &x, &noise, &beta, None, mode);
    };
    let of = |mix| Mixes::of(&[mix], x.device(), x.kind());
    let mixes = (of(images)?, of(latents)?);
    let mixing = Mixing { strength: &number(strength), mixes: &mixes, noise: &noise_of_mixed.unsqueeze(0) };
    train::loss(&stack, &x, &noise, &beta, Some(&mixing), mode)
}

/// torch.distributions' loss and autograd's gradient, in training mode (tests/models/make.py).
#[test]
fn loss_and_gradient_are_pytorchs() {
    for name in ["mlp", "conv"] {
        let expected = model::read_tensors(&folder().join(name).join("expected.safetensors")).unwrap();
        let want: std::collections::HashMap<_, _> = expected.tensors.into_iter().collect();
        let network = model::network(&folder().join(name), CPU, Kind::Double).unwrap();
        let params = network.parameters().trained();
        params.iter().for_each(|p| drop(p.set_requires_grad(true)));
        let got = loss(&network, &want["x"], &want["noise"], 0.7, None, Phase::Train).unwrap();
        // Sums of the longest chain there and back, batch statistics between, and over the pixels.
        let terms = [48, 64, 54, 8, 2, 8, 24, 16, 588];
        let rounding = roundoff::apart(Kind::Double, &[&terms[..], &terms].concat());
        close(&got.total.reshape([1]), &want["loss"], rounding * roundoff::largest(&want["loss"]));
        close(&got.kl, &want["kl"].mean(Kind::Double).reshape([1]), rounding * roundoff::largest(&want["kl"]));
        let grads = Tensor::run_backward(&[&got.total], &params, false, false);
        // A gradient is a sum of terms as large as the largest gradient's.
        let steepest = grads.iter().map(roundoff::largest).fold(0.0, f64::max);
        let names = network.parameters().slots().iter().filter(|s| s.role.is_trained()).map(|s| &s.name);
        for (name, grad) in names.zip(&grads) {
            let want = &want[&format!("grad.{name}")];
            let scale = want.abs().max().double_value(&[]);
            assert!(distance(grad, want) <= rounding * steepest, "{name}: {:e}", distance(grad, want) / steepest);
            // The check can fail.
            assert!(scale < 1e-9 || distance(&(grad * 1.001), want) > rounding * steepest, "{name}");
        }
        // One training-mode pass moved the running statistics as torch does (momentum 0.1, counter 7 -> 8).
        if let Some(counter) = network.parameters().get("encoder.1.num_batches_tracked") {
            assert_eq!(counter.int64_value(&[]), 8);
        }
    }
}

#[test]
fn mixup_gradients_match_differences() {
    on_each_device(|| {
        tch::manual_seed(8);
        for (pairing, model) in [(Pairing::Shared, mlp()), (Pairing::Independent, conv())] {
            let network = Network::new(&model, 4, here(), Kind::Double).unwrap();
            let x = Tensor::rand([5, 1, 6, 5], (Kind::Double, here()));
            let (eps, noise) =
                (Tensor::randn([5, 2], (Kind::Double, here())), Tensor::randn([5, 2], (Kind::Double, here())));
            let mixes = Mix::draw(&MixupSpec { pairing, ..mixed() }, 1, 2, 5).unwrap();
            let value = || loss(&network, &x, &eps, 0.3, Some((0.5, &mixes, &noise)), Phase::Train).unwrap().total;
            let params = network.parameters().trained();
            let directions: Vec<Tensor> = params.iter().map(Tensor::randn_like).collect();
            let start: Vec<Tensor> = params.iter().map(Tensor::copy).collect();
            let shifted = |by: f64| {
                let _guard = tch::no_grad_guard();
                for ((p, d), start) in params.iter().zip(&directions).zip(&start) {
                    p.shallow_clone().copy_(&(start + d * by));
                }
                value().double_value(&[])
            };
            // Layers of 30 pixels or fewer, there and back, for images and mixes; 30 pixels of five images.
            let (difference, tolerance) = roundoff::slope(shifted, &[30, 30, 16, 16, 30, 30, 150]);
            let _ = shifted(0.0);
            params.iter().for_each(|p| drop(p.set_requires_grad(true)));
            let grads = Tensor::run_backward(&[value()], &params, false, false);
            let slope: f64 =
                grads.iter().zip(&directions).map(|(g, d)| (g * d).sum(Kind::Double).double_value(&[])).sum();
            assert!((slope - difference).abs() <= tolerance, "{pairing:?}: {slope} {difference}");
            assert!((1.01 * slope - difference).abs() > tolerance);
        }
    });
}

/// The terms written out row by row.
#[test]
fn mixup_is_its_formula() {
    tch::manual_seed(9);
    let network = Network::new(&mlp(), 4, CPU, Kind::Double).unwrap();
    let x = Tensor::rand([3, 1, 6, 5], (Kind::Double, CPU));
    let (eps, noise) = (Tensor::randn([3, 2], (Kind::Double, CPU)), Tensor::randn([3, 2], (Kind::Double, CPU)));
    let mix = |a: f64, p: [i64; 3]| Mix { coefficient: a, partner: Tensor::from_slice(&p) };
    let mixes = (mix(0.25, [2, 1, 0]), mix(0.75, [1, 2, 0]));
    let got = loss(&network, &x, &eps, 0.5, Some((2.0, &mixes, &noise)), Phase::Eval).unwrap();

    let row = |t: &Tensor, i: i64| t.narrow(0, i, 1);
    let sample = |x: &Tensor, eps: &Tensor| {
        let q = network.encode(x).unwrap();
        (&q.mean + (&q.log_var / 2.0).exp() * eps, q)
    };
    let mut term = 0.0;
    for i in 0..3 {
        let partner = [2, 1, 0][i as usize];
        let x_mixed = row(&x, i) * 0.25 + row(&x, partner) * 0.75;
        let z = |i: i64| sample(&row(&x, i), &row(&eps, i)).0;
        let z_mixed = z(i) * 0.75 + z([1, 2, 0][i as usize]) * 0.25;
        let (zeta, q) = sample(&x_mixed, &row(&noise, i));
        let kl = (&q.mean * &q.mean + q.log_var.exp() - &q.log_var - 1.0).sum(Kind::Double) * 0.5;
        let image = (&x_mixed - network.decode(&z_mixed).unwrap()).square().sum(Kind::Double);
        term += (kl + image + (z_mixed - zeta).square().sum(Kind::Double)).double_value(&[]) / 3.0;
    }
    // Layers of 30, 16 and 2 terms; 30 pixels of three images.
    let allowed = |size: f64| roundoff::apart(Kind::Double, &[30, 16, 2, 16, 90]) * size;
    assert!((got.mixup.as_ref().unwrap().double_value(&[]) - term).abs() < allowed(term));
    let total = got.reconstruction.double_value(&[]) + 0.5 * got.kl.double_value(&[]) + 2.0 * term;
    assert!((got.total.double_value(&[]) - total).abs() < allowed(total));
}

#[test]
fn mixes_are_drawn_as_told() {
    let draw = |pairing, key| Mix::draw(&MixupSpec { pairing, ..mixed() }, 5, key, 64).unwrap();
    let (a, b) = draw(Pairing::Shared, 1);
    assert!(a.coefficient == b.coefficient && a.partner == b.partner);
    let (c, d) = draw(Pairing::Independent, 1);
    assert!(a.coefficient == c.coefficient && c.coefficient != d.coefficient && c.partner != d.partner);
    assert!(draw(Pairing::Shared, 2).0.coefficient != a.coefficient);
    assert_eq!(Vec::<i64>::try_from(a.partner.sort(0, false).0).unwrap(), (0..64).collect::<Vec<_>>());
    // Beta(1/2, 1/2) has mean 1/2 and variance 1/8; 4000 draws, 5 standard errors.
    let all: Vec<f64> = (0..4000).map(|key| draw(Pairing::Shared, key).0.coefficient).collect();
    let mean = all.iter().sum::<f64>() / 4000.0;
    let variance = all.iter().map(|a| (a - mean).powi(2)).sum::<f64>() / 4000.0;
    assert!((mean - 0.5).abs() < 5.0 * (0.125f64 / 4000.0).sqrt(), "{mean}");
    assert!((variance - 0.125).abs() < 0.01, "{variance}");
}

/// Adam as its paper writes it, number by number in f64.
#[test]
fn fused_adam_is_adam() {
    let lr = Tensor::from(0.01f64);
    let step = AdamStep { beta1: 0.9, beta2: 0.99, weight_decay: 0.1, eps: 1e-8 };
    for kind in [Kind::Double, Kind::Float] {
        // Five times a step of a hundredth, of moments and their quotient, is added to numbers of up to 2.
        let tolerance = 5.0 * (0.01 * roundoff::apart(kind, &[3, 3]) + 2.0 * 2.0 * roundoff::unit(kind));
        let mut plain = [[1.0f64, -2.0, 0.5], [0.3, 0.0, -0.7]];
        let params: Vec<Tensor> = plain.iter().map(|p| Tensor::from_slice(p).to_kind(kind)).collect();
        let zeros = || params.iter().map(Tensor::zeros_like).collect::<Vec<_>>();
        let steps: Vec<Tensor> = params.iter().map(|_| Tensor::zeros([0i64; 0], (Kind::Float, CPU))).collect();
        let (m, v) = (zeros(), zeros());
        let (mut pm, mut pv) = ([[0.0f64; 3]; 2], [[0.0f64; 3]; 2]);
        for t in 1..=5 {
            let grad = |i: usize, j: usize| ((t * (i + 1) * (j + 2)) as f64).sin();
            let grads: Vec<Tensor> =
                (0..2).map(|i| Tensor::from_slice(&[grad(i, 0), grad(i, 1), grad(i, 2)]).to_kind(kind)).collect();
            fused_adam(&params, &grads, &m, &v, &steps, &lr, step).unwrap();
            for i in 0..2 {
                for j in 0..3 {
                    let g = grad(i, j) + 0.1 * plain[i][j];
                    pm[i][j] = 0.9 * pm[i][j] + 0.1 * g;
                    pv[i][j] = 0.99 * pv[i][j] + 0.01 * g * g;
                    let (m_hat, v_hat) =
                        (pm[i][j] / (1.0 - 0.9f64.powi(t as i32)), pv[i][j] / (1.0 - 0.99f64.powi(t as i32)));
                    plain[i][j] -= 0.01 * m_hat / (v_hat.sqrt() + 1e-8);
                }
                close(&params[i], &Tensor::from_slice(&plain[i]), tolerance);
            }
        }
        assert_eq!(steps[0].double_value(&[]), 5.0);
        // A transposed gradient would be walked in the wrong order: it is refused.
        let square = vec![Tensor::zeros([3, 3], (kind, CPU))];
        let one = vec![Tensor::zeros([0i64; 0], (Kind::Float, CPU))];
        let transposed = vec![Tensor::rand([3, 3], (kind, CPU)).tr()];
        assert!(fused_adam(&square, &transposed, &square, &square, &one, &lr, step).is_err());
        assert!(fused_adam(&square, &[], &square, &square, &one, &lr, step).is_err());
        // The kernel reads the learning rate as a double.
        let single = Tensor::from(0.01f32);
        assert!(fused_adam(&square, &square, &square, &square, &one, &single, step).is_err());
    }
}

#[test]
fn schedules_are_their_formulas() {
    let spec = TrainSpec { lr: 0.2, lr_min: 0.1, beta: 4.0, kl_warmup: 2.0, ..TrainSpec::default() };
    assert_eq!(spec.lr_at(0, 100), 0.2);
    assert!((spec.lr_at(50, 100) - 0.15).abs() < roundoff::apart(Kind::Double, &[1]));
    assert!((spec.lr_at(100, 100) - 0.1).abs() < roundoff::apart(Kind::Double, &[1]));
    assert_eq!(TrainSpec { schedule: Schedule::Constant, ..spec.clone() }.lr_at(99, 100), 0.2);
    // Two epochs of ten steps: a twentieth of beta more each step.
    let last_digits = roundoff::apart(Kind::Double, &[1]);
    assert!((spec.beta_at(0, 10) - 0.2).abs() < last_digits && (spec.beta_at(9, 10) - 2.0).abs() < last_digits);
    assert_eq!((spec.beta_at(19, 10), spec.beta_at(500, 10)), (4.0, 4.0));
    assert_eq!(TrainSpec { kl_warmup: 0.0, ..spec }.beta_at(0, 10), 4.0);
}

#[test]
fn ranges_name_the_key() {
    let ok = TrainSpec::default();
    ok.validate().unwrap();
    let wrong: Vec<(&str, TrainSpec)> = vec![
        ("train.epochs", TrainSpec { epochs: 0, ..ok.clone() }),
        ("train.batch", TrainSpec { batch: 0, ..ok.clone() }),
        ("train.lr", TrainSpec { lr: 0.0, ..ok.clone() }),
        ("train.lr", TrainSpec { lr: f64::NAN, ..ok.clone() }),
        ("train.lr_min", TrainSpec { lr_min: 0.5, ..ok.clone() }),
        ("train.beta", TrainSpec { beta: -1.0, ..ok.clone() }),
        ("train.beta", TrainSpec { beta: f64::INFINITY, ..ok.clone() }),
        ("train.kl_warmup", TrainSpec { kl_warmup: -1.0, ..ok.clone() }),
        ("train.weight_decay", TrainSpec { weight_decay: f64::NAN, ..ok.clone() }),
        ("train.grad_clip", TrainSpec { grad_clip: Some(0.0), ..ok.clone() }),
        ("train.beta1", TrainSpec { beta1: 1.0, ..ok.clone() }),
        ("train.mixup.strength", TrainSpec { mixup: MixupSpec { strength: -0.1, ..mixed() }, ..ok.clone() }),
        ("train.mixup.alpha", TrainSpec { mixup: MixupSpec { alpha: 0.0, ..mixed() }, ..ok.clone() }),
    ];
    for (key, spec) in wrong {
        let error = spec.validate().unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().starts_with(&format!("{key}: expected")), "{error}");
    }
    let text = "{epochs: 3, mixup: {strength: 1, pairing: independent}, schedule: constant, grad_clip: 1}";
    let spec: TrainSpec = serde_yaml::from_str(text).unwrap();
    assert_eq!((spec.epochs, spec.mixup.pairing, spec.grad_clip), (3, Pairing::Independent, Some(1.0)));
    assert!(serde_yaml::from_str::<TrainSpec>("{epochz: 3}").is_err());
    assert!(serde_yaml::from_str::<TrainSpec>("{mixup: {strenght: 3}}").is_err());
}

#[test]
fn training_learns_and_tells() {
    struct Ear(Mutex<Vec<String>>, AtomicU64);
    impl Observer for Ear {
        fn on(&self, event: Event<'_>) {
            match event {
                Event::Note(line) => self.0.lock().unwrap().push(line.to_owned()),
                Event::Advance(n) => drop(self.1.fetch_add(n, Ordering::Relaxed)),
                Event::Training { total, done } => assert_eq!((total, done), (24, 0)),
                _ => {}
            }
        }
    }
    let ear = Ear(Mutex::default(), AtomicU64::new(0));
    let mut network = Network::new(&mlp(), 1, CPU, Kind::Float).unwrap();
    let (train, valid) = (images(50, "train"), images(20, "valid"));
    let history = fit(&mut network, train, Some(valid.clone()), &spec(6), 1, None, &ear).unwrap();
    assert_eq!(history.epochs.len(), 6);
    let (first, last) = (history.epochs[0], history.epochs[5]);
    assert!(last.reconstruction < first.reconstruction - 0.1, "{history:?}");
    let told = ear.0.into_inner().unwrap();
    assert!(
        told.len() == 6 && told[5].starts_with("epoch 6/6: loss ") && told[5].contains("validation ELBO"),
        "{told:?}"
    );
    // Three batches of 16 and one of 2: none dropped.
    assert_eq!(ear.1.into_inner(), 24);
    let v = last.valid.unwrap();
    assert!((v.elbo + v.reconstruction + v.kl).abs() < roundoff::apart(Kind::Double, &[20]) * v.elbo.abs());
    assert!(history.epochs.iter().zip(1..).all(|(e, n)| e.epoch == n));
    assert!(network.parameters().tensors().iter().all(|t| !t.requires_grad()));

    // The validation losses are those of the network as it is now, on its fixed noise.
    let index: Vec<u64> = (0..20).collect();
    let keys: Vec<u64> = index.iter().map(|i| u64::from(u32::MAX) << 32 | i).collect();
    let eps = seed::normal(1, Stage::Reparameterize, &keys, 2).unwrap();
    let x = valid.read(&index).unwrap().images;
    let now = loss(&network, &x, &eps, 1.0, None, Phase::Eval).unwrap();
    let allowed = roundoff::apart(Kind::Float, &[30, 16, 2, 16, 30]) * v.elbo.abs();
    assert!((now.total.double_value(&[]) + v.elbo).abs() < allowed);

    let csv = history.to_csv();
    assert_eq!(csv.lines().count(), 7);
    assert!(csv.lines().all(|line| line.split(',').count() == 11));
}

#[test]
fn one_seed_one_result() {
    on_each_device(|| {
        for (model, mixup) in [(mlp(), MixupSpec::default()), (conv(), mixed())] {
            let train = |seed: u64| {
                let mut network = Network::new(&model, 1, here(), Kind::Float).unwrap();
                let spec = TrainSpec { mixup, ..spec(2) };
                let history = fit(&mut network, images(40, "x"), None, &spec, seed, None, &Silent).unwrap();
                (untimed(history), state_of(&network))
            };
            let (a, b, c) = (train(1), train(1), train(2));
            assert!(a.0 == b.0 && same(&a.1, &b.1));
            assert!(a.0 != c.0 && !same(&a.1, &c.1));
        }
    });
}

/// Held on the device or read as needed: the same, the step of batch + 1 samples included.
#[test]
fn reading_ahead_changes_nothing() {
    for (model, n) in [(mlp(), 40), (conv(), 33)] {
        let train = |hold_mib| {
            let mut network = Network::new(&model, 1, CPU, Kind::Float).unwrap();
            let spec = TrainSpec { hold_mib, ..spec(2) };
            let valid = Some(images(10, "valid"));
            let history = fit(&mut network, images(n, "x"), valid, &spec, 1, None, &Silent).unwrap();
            (untimed(history), state_of(&network))
        };
        let (held, read) = (train(1), train(0));
        assert!(held.0 == read.0 && same(&held.1, &read.1));
    }
}

/// Stops after some batches.
struct Impatient(AtomicU64, u64);

impl Observer for Impatient {
    fn on(&self, event: Event<'_>) {
        if let Event::Advance(n) = event {
            self.0.fetch_add(n, Ordering::Relaxed);
        }
    }
    fn interrupted(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= self.1
    }
}

#[test]
fn an_interrupted_run_goes_on_as_if_it_had_not_been() {
    on_each_device(|| {
        for (model, mixup) in [(mlp(), MixupSpec::default()), (conv(), mixed())] {
            let spec = TrainSpec { mixup, weight_decay: 1e-3, ..spec(5) };
            let run = |folder: &Path, observer: &dyn Observer| {
                let mut network = Network::new(&model, 3, here(), Kind::Float).unwrap();
                let valid = Some(images(10, "valid"));
                let result = fit(&mut network, images(40, "train"), valid, &spec, 7, Some(folder), observer);
                (result.map(untimed), state_of(&network))
            };
            let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let (expected, weights) = run(whole.path(), &Silent);
            let expected = expected.unwrap();

            // Three batches an epoch: within the third epoch, within the first of the rest, then to the end.
            for (batches, epochs) in [(7, 2), (1, 2)] {
                let stopped = run(parts.path(), &Impatient(AtomicU64::new(0), batches)).0.unwrap_err();
                assert!(matches!(stopped, pullback::Error::Interrupted));
                let csv = std::fs::read_to_string(parts.path().join(train::HISTORY_FILE)).unwrap();
                assert_eq!(csv.lines().count(), 1 + epochs);
                // What lies there is a model.
                model::open(parts.path(), here(), Kind::Float).unwrap();
            }
            let (history, resumed) = run(parts.path(), &Silent);
            assert_eq!(history.unwrap(), expected);
            assert!(same(&resumed, &weights));
            let files = |folder: &Path| std::fs::read(folder.join("model.safetensors")).unwrap();
            assert_eq!(files(whole.path()), files(parts.path()));

            // A finished run is left as it is.
            let again = run(parts.path(), &Impatient(AtomicU64::new(0), 0)).0.unwrap();
            assert_eq!(again, expected);
        }
    });
}

#[test]
fn a_state_of_another_run_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = |spec: &TrainSpec, seed: u64, kind: Kind, n: usize| {
        let mut network = Network::new(&mlp(), 3, CPU, kind).unwrap();
        fit(&mut network, images(n, "train"), None, spec, seed, Some(folder.path()), &Silent)
    };
    run(&spec(1), 7, Kind::Float, 40).unwrap();
    let faster = TrainSpec { lr: 0.02, ..spec(1) };
    for (result, told) in [
        (run(&faster, 7, Kind::Float, 40), "train.lr = 0.01, found train.lr = 0.02"),
        (run(&spec(2), 7, Kind::Float, 40), "train.epochs = 1"),
        (run(&spec(1), 8, Kind::Float, 40), "seed = 7"),
        (run(&spec(1), 7, Kind::Double, 40), "kind = "),
        (run(&spec(1), 7, Kind::Float, 41), "data.samples = 40"),
    ] {
        let error = result.unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains(told), "{error}");
    }
    let file = folder.path().join(train::STATE_FILE);
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let error = run(&spec(1), 7, Kind::Float, 40).unwrap_err().to_string();
    assert!(error.contains("train.safetensors"), "{error}");
}

/// The shortest digits of a number are read as that number, and no other.
#[test]
fn a_run_goes_on_with_any_beta() {
    let folder = tempfile::tempdir().unwrap();
    // Of configs/paper.yaml.
    let spec = TrainSpec { beta: 0.011513953993264475, ..spec(1) };
    let run = || {
        let mut network = Network::new(&mlp(), 3, CPU, Kind::Float).unwrap();
        fit(&mut network, images(40, "train"), None, &spec, 7, Some(folder.path()), &Silent)
    };
    let first = run().unwrap();
    assert_eq!(run().unwrap(), first);
}

#[test]
fn a_run_knows_its_data_by_their_contents() {
    let folder = tempfile::tempdir().unwrap();
    let run = |train: Arc<dyn Source>, valid: Arc<dyn Source>| {
        let mut network = Network::new(&mlp(), 3, CPU, Kind::Float).unwrap();
        fit(&mut network, train, Some(valid), &spec(1), 7, Some(folder.path()), &Silent)
    };
    let first = run(images(40, "here"), images(10, "valid")).unwrap();
    assert_eq!(run(images(40, "moved"), images(10, "moved too")).unwrap(), first);
    let refused = |train, valid, told: &str| {
        let error = run(train, valid).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains(told), "{error}");
    };
    refused(mirrored(40, "here"), images(10, "valid"), "data.sha256 = ");
    refused(images(40, "here"), mirrored(10, "valid"), "data.valid.sha256 = ");
    refused(images(40, "here"), images(9, "valid"), "data.valid.samples = 10");

    // A state of version 0.1.0 knows their name and number alone.
    let file = folder.path().join(train::STATE_FILE);
    let model::Contents { tensors, metadata } = model::read_tensors(&file).unwrap();
    let mut settings: serde_json::Value = serde_json::from_str(&metadata["settings"]).unwrap();
    settings["data"] = serde_json::json!({ "name": "here", "samples": 40 });
    let metadata = std::collections::HashMap::from([("settings".to_owned(), settings.to_string())]);
    model::write_tensors(&file, &tensors, Some(metadata)).unwrap();
    refused(images(40, "moved"), images(10, "valid"), "data.name = \"here\"");
    assert_eq!(run(images(40, "here"), images(10, "valid")).unwrap(), first);
}

/// By a request, whose config names them: the same data may lie elsewhere, other data may not take their place.
#[test]
fn a_run_goes_on_where_its_data_were_moved() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let write = |name: &str, shift: usize| {
        let values: Vec<f32> = (0..40 * 30).map(|i| ((i * 29 + shift) % 97) as f32 / 96.0).collect();
        let file = hdf5::File::create(at(name)).unwrap();
        file.new_dataset::<f32>().shape([40, 1, 6, 5]).create("images").unwrap().write_raw(&values).unwrap();
    };
    let run = |data: &str, observer: &dyn Observer| {
        let yaml = format!(
            "{{device: cpu, data: {{source: {}, valid: 0}}, model: {{kind: mlp, hidden: [4], latent: 2}}, train: {{epochs: 3, batch: 16}}}}",
            at(data).display()
        );
        let config = RunConfig::parse(&Tree::text("run.yaml", &yaml).unwrap()).unwrap();
        pipeline::train::run(&TrainRequest { config, output: at("run"), overwrite: Overwrite::No }, observer)
    };
    let config = || std::fs::read_to_string(at("run/config.yaml")).unwrap();
    let refused = |data: &str, told: &str| {
        let before = config();
        let error = run(data, &Silent).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains(told), "{error}");
        assert_eq!(config(), before);
    };
    write("a.h5", 0);
    write("other.h5", 5);
    // Three batches an epoch: within the second.
    run("a.h5", &Impatient(AtomicU64::new(0), 4)).unwrap_err();
    refused("other.h5", "data.sha256");
    std::fs::rename(at("a.h5"), at("b.h5")).unwrap();
    assert_eq!(run("b.h5", &Silent).unwrap().epochs.len(), 3);
    assert!(config().contains("b.h5"), "{}", config());
    // What is finished is of the data that its config names.
    refused("b.h5", "a finished one of this config");
    refused("other.h5", "another data.source there");
}

/// A stop promises that the same command goes on, and --force is part of it.
#[test]
fn a_run_that_replaces_another_goes_on_too() {
    let folder = tempfile::tempdir().unwrap();
    let run = |seed: u64, hold: u64, overwrite: Overwrite, observer: &dyn Observer| {
        let yaml = format!(
            "{{device: cpu, seed: {seed}, data: {{source: strokes, limit: 40, valid: 0}}, model: {{kind: mlp, hidden: [4], latent: 2}}, \
             train: {{epochs: 4, batch: 16, hold_mib: {hold}}}}}"
        );
        let config = RunConfig::parse(&Tree::text("run.yaml", &yaml).unwrap()).unwrap();
        let output = folder.path().to_owned();
        pipeline::train::run(&TrainRequest { config, output, overwrite }, observer).map(untimed)
    };
    let after = |batches| Impatient(AtomicU64::new(0), batches);
    let epochs = || std::fs::read_to_string(folder.path().join(train::HISTORY_FILE)).unwrap().lines().count() - 1;
    let first = run(1, 64, Overwrite::No, &Silent).unwrap();
    // Three batches an epoch.
    run(2, 64, Overwrite::Yes, &after(4)).unwrap_err();
    assert_eq!(epochs(), 1);
    run(2, 64, Overwrite::Yes, &after(4)).unwrap_err();
    assert_eq!(epochs(), 2);
    // Where data are held is no part of a run.
    let second = run(2, 0, Overwrite::Yes, &Silent).unwrap();
    assert_ne!(second, first);
    // What is finished, of another config, or damaged is begun anew.
    run(2, 64, Overwrite::Yes, &after(4)).unwrap_err();
    assert_eq!(epochs(), 1);
    run(1, 64, Overwrite::Yes, &after(7)).unwrap_err();
    assert_eq!(epochs(), 2);
    std::fs::write(folder.path().join(train::STATE_FILE), "no state").unwrap();
    run(1, 64, Overwrite::Yes, &after(4)).unwrap_err();
    assert_eq!(epochs(), 1);
    assert_eq!(run(1, 64, Overwrite::Yes, &Silent).unwrap(), first);
}

#[test]
fn odd_sizes_train_too() {
    // A last batch of one sample has no batch statistics: it joins the one before.
    for n in [17, 33, 2] {
        let mut network = Network::new(&conv(), 1, CPU, Kind::Float).unwrap();
        fit(&mut network, images(n, "x"), None, &spec(1), 1, None, &Silent).unwrap();
    }
    let mut network = Network::new(&conv(), 1, CPU, Kind::Float).unwrap();
    let error = fit(&mut network, images(1, "x"), None, &spec(1), 1, None, &Silent).unwrap_err();
    assert!(error.to_string().contains("2 samples"), "{error}");
    let mut network = Network::new(&mlp(), 1, CPU, Kind::Float).unwrap();
    fit(&mut network, images(1, "x"), None, &spec(1), 1, None, &Silent).unwrap();
    assert_eq!(fit(&mut network, images(0, "none"), None, &spec(1), 1, None, &Silent).unwrap_err().exit_code(), 2);
}

#[test]
fn data_of_another_shape_are_refused() {
    let mut network = Network::new(&mlp(), 1, CPU, Kind::Float).unwrap();
    let images = Tensor::zeros([4, 1, 5, 6], (Kind::Float, CPU));
    let shape = ImageShape { channels: 1, height: 5, width: 6 };
    let other = Arc::new(Shared(Mutex::new(Memory { images, name: "turned" }), shape, 4));
    let error = fit(&mut network, other, None, &spec(1), 1, None, &Silent).unwrap_err();
    assert!(error.to_string().contains("turned: expected images of 1x6x5, the model's, found 1x5x6"), "{error}");
}

#[test]
fn divergence_is_told() {
    let gaussian = Likelihood::Gaussian(Gaussian { mean: Mean::Identity, sigma: 1e-4, ..Gaussian::default() });
    let model = ModelSpec::Mlp(MlpSpec { image: Some(SHAPE), latent: 2, likelihood: gaussian, ..MlpSpec::default() });
    let mut network = Network::new(&model, 1, CPU, Kind::Float).unwrap();
    let spec = TrainSpec { lr: 1.0, lr_min: 1.0, epochs: 50, batch: 4, ..TrainSpec::default() };
    let error = fit(&mut network, images(40, "x"), None, &spec, 1, None, &Silent).unwrap_err();
    assert!(error.exit_code() == 1 && error.to_string().contains("expected a finite loss"), "{error}");
    assert!(network.parameters().tensors().iter().all(|t| !t.requires_grad()));
}

/// MNIST's training images, where they are, held in memory: `cargo test --release epoch_time -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn epoch_time() {
    let data =
        std::env::var_os("PULLBACK_DATA").map_or_else(|| crate::files::root().join("../shared/data"), Into::into);
    let Ok(file) = std::fs::File::open(data.join("mnist/train-images-idx3-ubyte.gz")) else {
        println!("skipped: no MNIST in {}", data.display());
        return;
    };
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(file), &mut bytes).unwrap();
    let pixels = Tensor::from_slice(&bytes[16..]).to_kind(Kind::Float) / 255.0;
    let shape = ImageShape { channels: 1, height: 28, width: 28 };
    let memory = Memory { images: pixels.reshape([60000, 1, 28, 28]), name: "mnist" };
    let source: Arc<dyn Source> = Arc::new(Shared(Mutex::new(memory), shape, 60000));
    for batch in [128, 512] {
        let model = ModelSpec::Mlp(MlpSpec { image: Some(shape), ..MlpSpec::default() });
        let mut network = Network::new(&model, 1, CPU, Kind::Float).unwrap();
        let spec = TrainSpec { epochs: 1, batch, ..TrainSpec::default() };
        let history = fit(&mut network, source.clone(), None, &spec, 1, None, &Silent).unwrap();
        println!("batch {batch}: {:?}", history.epochs.iter().map(|e| (e.seconds, e.loss)).collect::<Vec<_>>());
    }
}

/// What a step of a stack copies for Adam: no gradient but that of the decoder's last weight, which comes transposed.
#[test]
fn gradients_of_a_stack_lie_as_its_weights_do() {
    let spec =
        |hidden: &[i64]| MlpSpec { image: Some(SHAPE), latent: 2, hidden: hidden.to_vec(), ..MlpSpec::default() };
    let networks: Vec<Network> =
        (0..3).map(|seed| Network::new(&ModelSpec::Mlp(spec(&[16, 12])), seed, CPU, Kind::Float).unwrap()).collect();
    let stack = Stack::of(&networks.iter().collect::<Vec<_>>()).unwrap();
    let params = stack.trained();
    params.iter().for_each(|p| drop(p.set_requires_grad(true)));
    let x = Tensor::rand([1, 8, 1, 6, 5], (Kind::Float, CPU)).expand([3, 8, 1, 6, 5], false);
    let (noise, beta) = (Tensor::zeros([3, 8, 2], (Kind::Float, CPU)), Tensor::ones([3], (Kind::Float, CPU)));
    let total = train::loss(&stack, &x, &noise, &beta, None, Phase::Train).unwrap().total.sum(Kind::Float);
    let gradients = Tensor::run_backward(&[total], &params, false, false);
    let copied: Vec<Vec<i64>> = gradients.iter().filter(|g| !g.is_contiguous()).map(Tensor::size).collect();
    assert_eq!(copied, [[3, 30, 16]], "all: {:?}", params.iter().map(Tensor::size).collect::<Vec<_>>());
}

/// On CUDA a model learns by convolutions that give the same bits, in TF32 where that is asked for, and nothing else computes so.
#[test]
fn settings_of_training_end_with_it() {
    use pullback::ffi::{Products, Settings, exact_math, settings};
    exact_math().unwrap();
    let before = settings().unwrap();
    assert_eq!(before, Settings { tf32: false, deterministic: false });
    for tf32 in [true, false] {
        let products = Products::new(tf32).unwrap();
        assert_eq!(settings().unwrap(), Settings { tf32, deterministic: true });
        drop(products);
        assert_eq!(settings().unwrap(), before);
    }
}
