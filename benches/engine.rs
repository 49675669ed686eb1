//! Where a scoring pass spends its time: Jacobians by each way, factors by metric, spectra by size, scores, intervals of correlations.
//!
//! Weights are initial ones and images noise: neither changes the work. On a machine with CUDA the same benches run
//! there, with the device waited for before the clock stops.

#![allow(missing_docs, clippy::unwrap_used)] // criterion's macros; a bench may stop

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pullback::correlate::{Bootstrap, Coefficient, Missing, correlate};
use pullback::data::ImageShape;
use pullback::device::{DeviceChoice, synchronize};
use pullback::jacobian::{self, Mode, Ways};
use pullback::metric::{MatrixFree, Metric, MetricKind, StemCache};
use pullback::model::{ConvSpec, MlpSpec, ModelSpec, Network, Vae};
use pullback::score;
use pullback::spectrum::{Leading, Spectrum, SpectrumSpec};
use std::time::Duration;
use tch::{Device, Kind, Tensor};

const LATENT: i64 = 20;
const MNIST: ImageShape = ImageShape { channels: 1, height: 28, width: 28 };

fn device() -> Device {
    DeviceChoice::Auto.resolve().unwrap()
}

fn networks() -> [(&'static str, Network); 2] {
    let mlp = MlpSpec { image: Some(MNIST), latent: LATENT, ..MlpSpec::default() };
    let conv = ConvSpec { image: Some(MNIST), latent: LATENT, hidden: 0, ..ConvSpec::default() };
    let network = |spec| Network::new(&spec, 0, device(), Kind::Float).unwrap();
    [("mlp", network(ModelSpec::Mlp(mlp))), ("conv", network(ModelSpec::Conv(conv)))]
}

fn images(count: i64) -> Tensor {
    Tensor::rand([count, 1, 28, 28], (Kind::Float, device()))
}

/// Rows of J_mu, by the number of cotangents a backward pass.
fn jacobians(c: &mut Criterion) {
    let mut group = c.benchmark_group("jacobian");
    for (name, network) in networks() {
        for batch in [1, 32, 256] {
            let x = images(batch).set_requires_grad(true);
            group.throughput(Throughput::Elements(batch as u64));
            for (way, mode) in [("looped", Mode::Looped), ("vmapped", Mode::Vmapped(LATENT as usize))] {
                group.bench_function(BenchmarkId::new(format!("{name}/{way}"), batch), |b| {
                    b.iter(|| {
                        let mean = network.encode(&x).unwrap().mean;
                        let done = jacobian::rows(&mean, &x, mode).unwrap();
                        synchronize(device()).unwrap();
                        done
                    });
                });
            }
        }
    }
    group.finish();
}

/// Factors of every metric, 64 images.
fn metrics(c: &mut Criterion) {
    let mut group = c.benchmark_group("metric");
    let ways = Ways { rows: Mode::Looped, columns: Mode::Looped };
    let x = images(64);
    for (name, network) in networks() {
        for kind in MetricKind::ALL {
            group.bench_function(BenchmarkId::new(name, kind), |b| {
                b.iter(|| {
                    let done = Metric::at(&network, &x, kind, ways).unwrap();
                    synchronize(device()).unwrap();
                    done
                });
            });
        }
    }
    // In front of the encoder's first layer, which only the fully connected one has.
    let (name, network) = &networks()[0];
    let vmapped = Mode::Vmapped(usize::MAX);
    let mut stem = StemCache::default();
    for kind in [MetricKind::Mean, MetricKind::Stochastic] {
        group.bench_function(BenchmarkId::new(format!("{name}, behind its stem"), kind), |b| {
            b.iter(|| {
                let ways = Ways { rows: vmapped, columns: vmapped };
                let done = Metric::behind(network, &x, kind, ways, &mut stem).unwrap();
                synchronize(device()).unwrap();
                done
            });
        });
    }
    group.finish();
}

/// Eigenvalues, and with them one direction, of 64 factors [R, 784].
fn spectra(c: &mut Criterion) {
    let mut group = c.benchmark_group("spectrum");
    for rows in [20, 40, 128] {
        let metric = Metric::from_factor(Tensor::randn([64, rows, 784], (Kind::Double, device()))).unwrap();
        for (name, top) in [("values", 0), ("top direction", 1)] {
            group.bench_function(BenchmarkId::new(name, rows), |b| {
                b.iter(|| {
                    let done = Spectrum::of(&metric, top).unwrap();
                    synchronize(device()).unwrap();
                    done
                });
            });
        }
    }
    group.finish();
}

/// One image of 3 x 32 x 32 and a code of 512: 1024 rows by their Gram matrix, and the leading ten pairs by products.
fn leading(c: &mut Criterion) {
    let image = ImageShape { channels: 3, height: 32, width: 32 };
    let spec = ConvSpec { image: Some(image), latent: 512, hidden: 0, ..ConvSpec::default() };
    let network = Network::new(&ModelSpec::Conv(spec), 0, device(), Kind::Float).unwrap();
    let x = Tensor::rand([1, 3, 32, 32], (Kind::Float, device()));
    let all = Mode::Vmapped(usize::MAX);
    let mut group = c.benchmark_group("large code");
    group.bench_function("full", |b| {
        let ways = Ways { rows: Mode::Vmapped(16), columns: all };
        b.iter(|| {
            let metric = Metric::at(&network, &x, MetricKind::Stochastic, ways).unwrap();
            let done = Spectrum::of(&metric, 10).unwrap();
            synchronize(device()).unwrap();
            done
        });
    });
    group.bench_function("top", |b| {
        b.iter(|| {
            let op = MatrixFree::at(&network, &x, MetricKind::Stochastic, Ways { rows: all, columns: all }).unwrap();
            let done = Leading::of(&op, &SpectrumSpec::default(), 10, 0, &[0]).unwrap();
            synchronize(device()).unwrap();
            done
        });
    });
    group.finish();
}

/// All scores of 4096 spectra of 40 eigenvalues.
fn scores(c: &mut Criterion) {
    let (values, _) = Tensor::rand([4096, 40], (Kind::Double, device())).sort(1, true);
    c.bench_function("score/all", |b| {
        b.iter(|| {
            let done = score::all(&values).unwrap();
            synchronize(device()).unwrap();
            done
        });
    });
}

/// Intervals of 400 resamples. Pair by pair, ten times the rows would take a hundred times as long; their rate should hold instead.
fn correlations(c: &mut Criterion) {
    let mut group = c.benchmark_group("correlate");
    for rows in [300u32, 3000] {
        // Multiples of an odd number below a power of two: an order that has nothing to do with that of the rows.
        let shuffled = |by: u32| (0..rows).map(|k| f64::from(k.wrapping_mul(by) % 4096)).collect::<Vec<_>>();
        let (x, y) = (shuffled(1663), shuffled(2731));
        group.throughput(Throughput::Elements(u64::from(rows)));
        for which in [Coefficient::Spearman, Coefficient::Kendall] {
            group.bench_function(BenchmarkId::new(format!("{which:?}").to_lowercase(), rows), |b| {
                let bootstrap = Bootstrap { resamples: 400, ..Bootstrap::default() };
                b.iter(|| correlate(&x, &y, which, Missing::Refuse, &bootstrap, 8).unwrap());
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = engine;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = jacobians, metrics, spectra, leading, scores, correlations
}
criterion_main!(engine);
