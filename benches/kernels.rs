//! Each kernel against the library's way to the same result, checked to agree before the clock starts.
//!
//! On the host the device's body runs on threads of the CPU, so these times say what the host's instance is worth, not what
//! a GPU would take. On a machine with CUDA the same benches run there, with the device waited for before the clock stops,
//! and cusolverDnXsyevBatched joins.

#![allow(missing_docs, clippy::unwrap_used)] // criterion's macros; a bench may stop

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pullback::attack::{Budget, Landing, Norm};
use pullback::device::{DeviceChoice, synchronize};
use pullback::ffi::kernels::{self, Algorithm, FACTOR_ORDER};
use pullback::ffi::step::Iterate;
use pullback::score::Score;
use std::time::Duration;
use tch::{Device, Kind, Tensor};

fn device() -> Device {
    DeviceChoice::Auto.resolve().unwrap()
}

/// Runs `work` to its end on the device.
fn finished<T>(work: impl FnOnce() -> T) -> T {
    let done = work();
    synchronize(device()).unwrap();
    done
}

fn largest(t: &Tensor) -> f64 {
    t.abs().max().double_value(&[])
}

fn factors(rows: i64) -> Tensor {
    Tensor::randn([64, rows, 784], (Kind::Float, device()))
}

/// A A^T of 64 factors [R, 784]: single in, double out.
fn gram(c: &mut Criterion) {
    let mut group = c.benchmark_group("gram");
    for rows in [20, 40, 128] {
        let factor = factors(rows);
        let library = |factor: &Tensor| {
            let wide = factor.to_kind(Kind::Double);
            wide.bmm(&wide.transpose(1, 2))
        };
        let off = largest(&(kernels::gram(&factor).unwrap() - library(&factor)));
        assert!(off < 1e-9, "{off}");
        group.throughput(Throughput::Elements(64));
        group.bench_function(BenchmarkId::new("kernel", rows), |b| {
            b.iter(|| finished(|| kernels::gram(&factor).unwrap()));
        });
        group.bench_function(BenchmarkId::new("widened product", rows), |b| b.iter(|| finished(|| library(&factor))));
    }
    group.finish();
}

/// Eigenvalues of 64 matrices of order R, and with them the leading vector.
fn eigh(c: &mut Criterion) {
    let mut group = c.benchmark_group("eigh");
    for rows in [8, 16, 20, 32, 40, 64, 128, 256] {
        let matrices = kernels::gram(&factors(rows)).unwrap();
        let expected = matrices.linalg_eigvalsh("L").flip([-1]);
        let ways =
            [("jacobi", Algorithm::Jacobi), ("tridiagonal", Algorithm::Tridiagonal), ("cusolver", Algorithm::Library)];
        group.throughput(Throughput::Elements(64));
        for (name, way) in ways {
            let absent = way == Algorithm::Library && !(device().is_cuda() && kernels::has_library());
            // On the host, rotations of large matrices take seconds.
            if absent || (way == Algorithm::Jacobi && rows > 64 && !device().is_cuda()) {
                continue;
            }
            for (what, top) in [("values", 0), ("top direction", 1)] {
                let run = || kernels::eigh(&matrices, top, way).unwrap();
                let off = largest(&(run().values - &expected)) / largest(&expected);
                assert!(off < 1e-12, "{name} {rows}: {off}");
                group.bench_function(BenchmarkId::new(format!("{name}/{what}"), rows), |b| b.iter(|| finished(run)));
            }
        }
        group.bench_function(BenchmarkId::new("torch/values", rows), |b| {
            b.iter(|| finished(|| matrices.linalg_eigvalsh("L")));
        });
        group.bench_function(BenchmarkId::new("torch/top direction", rows), |b| {
            b.iter(|| finished(|| matrices.linalg_eigh("L")));
        });
    }
    group.finish();
}

/// Factors [R, 784] to eigenvalues in one kernel.
fn factor_eigh(c: &mut Criterion) {
    let mut group = c.benchmark_group("factor_eigh");
    for rows in [20, 40, FACTOR_ORDER] {
        let factor = factors(rows);
        group.throughput(Throughput::Elements(64));
        for (name, way) in [("jacobi", Algorithm::Jacobi), ("tridiagonal", Algorithm::Tridiagonal)] {
            group.bench_function(BenchmarkId::new(name, rows), |b| {
                b.iter(|| finished(|| kernels::factor_eigh(&factor, 0, way).unwrap()));
            });
        }
    }
    group.finish();
}

/// All scores of 4096 spectra of 40 eigenvalues.
fn scores(c: &mut Criterion) {
    let mut group = c.benchmark_group("scores");
    let (values, _) = Tensor::rand([4096, 40], (Kind::Double, device())).sort(1, true);
    let formulas = |values: &Tensor| Score::ALL.iter().map(|score| score.of(values).unwrap()).collect::<Vec<_>>();
    let off = largest(&(kernels::scores(&values).unwrap() / Tensor::stack(&formulas(&values), 1) - 1.0));
    assert!(off < 1e-12, "{off}");
    group.throughput(Throughput::Elements(4096));
    group.bench_function("kernel", |b| b.iter(|| finished(|| kernels::scores(&values).unwrap())));
    group.bench_function("formulas", |b| b.iter(|| finished(|| formulas(&values))));
    group.finish();
}

/// One step of PGD on 256 images, the best kept.
fn ascent(c: &mut Criterion) {
    let mut group = c.benchmark_group("ascent");
    group.throughput(Throughput::Elements(256));
    for pixels in [784, 3072] {
        let (options, double) = ((Kind::Float, device()), (Kind::Double, device()));
        let x0 = Tensor::rand([256, pixels], options);
        let start = (&x0 + Tensor::randn([256, pixels], options) * 0.01).clamp(0.0, 1.0);
        let gradient = Tensor::randn([256, pixels], options);
        let value = Tensor::rand([256], double);
        let lengths = Tensor::from_slice(&[0.1, 0.3]).to_device(device());
        for norm in [Norm::L2, Norm::Linf, Norm::L1] {
            let budget = Budget::new(norm, 0.3, Some((0.0, 1.0))).unwrap();
            let (mut x, mut best) = (start.copy(), start.copy());
            let mut damage = Tensor::rand([256], double);
            let mut stalled = Tensor::zeros([256], (Kind::Bool, device()));
            let mut step = |by_kernel: bool, x: &mut Tensor| {
                let iterate = Iterate { x, best: &mut best, damage: &mut damage, stalled: &mut stalled };
                if by_kernel {
                    budget.take_step(iterate, &x0, &gradient, &value, &lengths, Landing::Ball).unwrap();
                } else {
                    budget.take_step_by_operations(iterate, &x0, &gradient, &value, &lengths, Landing::Ball).unwrap();
                }
            };
            let mut other = start.copy();
            step(true, &mut x);
            step(false, &mut other);
            assert!(largest(&(&x - other)) < 1e-5, "{norm}");
            for (name, by_kernel) in [("kernel", true), ("operations", false)] {
                group.bench_function(BenchmarkId::new(format!("{name}/{norm}"), pixels), |b| {
                    b.iter(|| finished(|| step(by_kernel, &mut x)));
                });
            }
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = gram, eigh, factor_eigh, scores, ascent
}
criterion_main!(benches);
