//! Matrix-free spectra: operators against finite differences and dense matrices, Krylov spaces against known spectra,
//! estimates against their own standard errors.

use crate::device::{here, on_each_device};
use crate::roundoff::{apart, difference_quotient};
use crate::toy::{Collapsed, TanhMlp, rand};
use pullback::jacobian::{BatchSize, Mode, Ways};
use pullback::metric::{MatrixFree, Metric, MetricKind, Operator};
use pullback::model::{Posterior, Vae};
use pullback::score;
use pullback::spectrum::{Leading, LeadingEngine, Sizes, Spectrum, SpectrumMode, SpectrumSpec};
use tch::{Device, Kind, Tensor};

const ALL: Mode = Mode::Vmapped(usize::MAX);
const WAYS: [Ways; 3] = [
    Ways { rows: ALL, columns: ALL },
    Ways { rows: Mode::Looped, columns: Mode::Looped },
    Ways { rows: Mode::Vmapped(2), columns: Mode::Vmapped(3) },
];

fn max(t: &Tensor) -> f64 {
    let m = t.abs().max().double_value(&[]);
    if m.is_nan() { f64::INFINITY } else { m }
}

fn spec(probes: usize, steps: usize) -> SpectrumSpec {
    SpectrumSpec { probes, steps, ..SpectrumSpec::default() }
}

/// What every operator owes: products that are each other's adjoint, G v = A^T A v, and G itself.
fn check_operator(op: &dyn Operator, g: &Tensor, tolerance: f64) {
    let shape = op.shape();
    let v = rand(&[shape.batch, shape.dim, 3], 11) - 0.5;
    let u = rand(&[shape.batch, shape.rows, 3], 12) - 0.5;
    let (av, au) = (op.forward(&v).unwrap(), op.adjoint(&u).unwrap());
    assert_eq!(av.size(), [shape.batch, shape.rows, 3]);
    assert_eq!(au.size(), [shape.batch, shape.dim, 3]);
    let inner = |a: &Tensor, b: &Tensor| (a * b).sum_dim_intlist([1i64].as_slice(), false, Kind::Double);
    let scale = max(g).max(f64::MIN_POSITIVE);
    assert!(max(&(inner(&av, &u) - inner(&v, &au))) <= tolerance * scale.sqrt() * 10.0);
    let gv = op.apply(&v).unwrap();
    assert!(max(&(&gv - g.bmm(&v))) <= tolerance * scale, "{:e}", max(&(&gv - g.bmm(&v))));
    // Negative control: another G does not fit.
    assert!(max(&(&gv - (g * 1.01).bmm(&v))) > tolerance * scale || max(g) == 0.0);
    assert!(op.forward(&u.narrow(2, 0, 1).narrow(1, 0, 1)).is_err());
}

#[test]
fn dense_and_matrix_free_operators_apply_the_same_metric() {
    on_each_device(|| {
        let vae = TanhMlp::new(12, 9, 3, 1);
        let x = rand(&[4, 1, 3, 4], 7);
        for kind in MetricKind::ALL {
            let metric = Metric::at(&vae, &x, kind, WAYS[0]).unwrap();
            let g = metric.factor().unwrap().transpose(1, 2).bmm(&metric.factor().unwrap());
            // Two products with a factor of up to 6 rows of 12 pixels, on either side.
            check_operator(&metric, &g, 2.0 * apart(Kind::Double, &[12, 6, 12]));
            for ways in WAYS {
                let free = MatrixFree::at(&vae, &x, kind, ways).unwrap();
                assert_eq!(Operator::rank_bound(&free), metric.rank_bound(), "{kind}");
                // Each product passes the hidden units (9) of encoder and decoder, forward and back, where the factor did once.
                check_operator(&free, &g, 2.0 * apart(Kind::Double, &[12, 9, 3, 9, 12, 12, 9, 3, 9, 12]));
            }
        }
    });
}

#[test]
fn products_with_the_jacobian_are_directional_derivatives() {
    on_each_device(|| {
        let vae = TanhMlp::new(12, 9, 3, 1);
        let x = rand(&[4, 1, 3, 4], 7);
        let v = rand(&[4, 12, 2], 5) - 0.5;
        let h = 1e-5;
        // |v| <= 1/2 and weights <= 1: as of rows; through the decoder, whose sigmoid is below 1, with derivatives of sums of sums.
        let allowed = difference_quotient(h, 9.0, &[12, 9, 3, 9], 18.0 * 9.0);
        let step = |k: i64| v.select(2, k).reshape([4, 1, 3, 4]) * h;
        let along = |f: &dyn Fn(&Tensor) -> Tensor, k: i64| (f(&(&x + step(k))) - f(&(&x - step(k)))) / (2.0 * h);
        let mean = |x: &Tensor| vae.encode(x).unwrap().mean;
        let whole = |x: &Tensor| vae.decode(&vae.encode(x).unwrap().mean).unwrap().flatten(1, -1);
        for (kind, f) in [(MetricKind::Mean, &mean as &dyn Fn(&Tensor) -> Tensor), (MetricKind::Output, &whole)] {
            let found = MatrixFree::at(&vae, &x, kind, WAYS[0]).unwrap().forward(&v).unwrap();
            for k in 0..2 {
                assert!(max(&(found.select(2, k) - along(f, k))) < allowed, "{kind}");
                assert!(max(&(found.select(2, k) - along(f, 1 - k))) > 1e-6, "negative control");
            }
        }
    });
}

/// Samples its image along a grid: an operation whose backward pass has no derivative.
struct Once;

impl Vae for Once {
    fn encode(&self, x: &Tensor) -> pullback::Result<Posterior> {
        let grid = Tensor::zeros([x.size()[0], 1, 3, 2], (x.kind(), Device::Cpu)) + 0.1;
        let mean = x.f_grid_sampler(&grid, 0, 0, false)?.flatten(1, -1);
        Ok(Posterior { log_var: mean.zeros_like(), mean })
    }
    fn decode(&self, z: &Tensor) -> pullback::Result<Tensor> {
        Ok(z.reshape([-1, 1, 1, 3]))
    }
}

#[test]
fn an_operation_without_a_second_derivative_is_named() {
    let x = rand(&[2, 1, 3, 3], 1);
    assert!(Metric::at(&Once, &x, MetricKind::Mean, WAYS[0]).is_ok(), "rows need none");
    for ways in WAYS {
        let error = MatrixFree::at(&Once, &x, MetricKind::Mean, ways)
            .and_then(|op| op.forward(&rand(&[2, 9, 2], 2)))
            .expect_err("no derivative");
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("--spectrum full"), "{error}");
    }
}

/// B factors [R, D] with the given eigenvalues of A^T A and random singular vectors.
fn factors(values: &[f64], rows: i64, dim: i64, batch: i64) -> Tensor {
    let k = values.len() as i64;
    let orthonormal = |n: i64, seed| Tensor::linalg_qr(&(rand(&[n, k], seed) - 0.5), "reduced").0;
    let scale = Tensor::from_slice(values).sqrt();
    let one = (orthonormal(rows, 1) * scale).mm(&orthonormal(dim, 2).transpose(0, 1));
    one.unsqueeze(0).repeat([batch, 1, 1])
}

fn geometric(n: usize, ratio: f64) -> Vec<f64> {
    (0..n).map(|i| 5.0 * ratio.powi(i as i32)).collect()
}

#[test]
fn leading_pairs_are_those_of_the_dense_metric() {
    on_each_device(|| {
        for (rows, dim) in [(150, 230), (230, 150), (180, 180)] {
            let metric = Metric::from_factor(factors(&geometric(150, 0.9), rows, dim, 3)).unwrap();
            let dense = Spectrum::of(&metric, 6).unwrap();
            let leading = Leading::of(&metric, &spec(8, 12), 6, 1, &[0, 1, 2]).unwrap();
            let largest = max(&dense.values);
            // A residual r of lambda_1 leaves an eigenvalue r^2 / gap off and a direction r / gap, the gap of lambda_6 and lambda_7
            // being 0.9^5 / 10 of lambda_1. On the side of A's rows r is that of u, for v it is sqrt(lambda_1 / lambda_6) of it.
            let (r, gap) = (SpectrumSpec::default().tolerance, 0.9f64.powi(5) / 10.0);
            let rounding = apart(Kind::Double, &[230, 180, 96, 96]);
            let side = 0.9f64.powi(-5).sqrt();
            assert!(
                max(&(&leading.values - dense.values.narrow(1, 0, 6)))
                    < ((r * side).powi(2) / gap + rounding) * largest
            );
            assert!(max(&(&leading.directions - dense.directions.unwrap())) < 2.0 * (r * side + rounding) / gap);
            assert!(max(&leading.residuals) < r * side + rounding);
        }
    });
}

#[test]
fn too_few_steps_show_in_the_residuals() {
    let metric = Metric::from_factor(factors(&geometric(150, 0.99), 150, 230, 2)).unwrap();
    let poor = Leading::of(&metric, &spec(2, 3), 3, 1, &[0, 1]).unwrap();
    let good = Leading::of(&metric, &spec(8, 18), 3, 1, &[0, 1]).unwrap();
    assert!(poor.residuals.min().double_value(&[]) > 1e-2, "{}", max(&poor.residuals));
    assert!(max(&good.residuals) < 1e-2 * max(&poor.residuals));
    // A residual bounds the distance to an eigenvalue.
    let dense = Spectrum::of(&metric, 0).unwrap().values;
    let gap = (poor.values.unsqueeze(2) - dense.unsqueeze(1)).abs().amin([2i64].as_slice(), false);
    let bound = &poor.residuals * poor.values.narrow(1, 0, 1);
    assert!((bound - gap).min().double_value(&[]) > 0.0);
}

#[test]
fn a_space_that_covers_everything_gives_every_score_exactly() {
    on_each_device(|| {
        let values = geometric(40, 0.7);
        let metric = Metric::from_factor(factors(&values, 40, 90, 2)).unwrap();
        let dense = score::all(&Spectrum::of(&metric, 0).unwrap().values).unwrap();
        let leading = Leading::of(&metric, &spec(8, 24), 10, 1, &[0, 1]).unwrap();
        for (known, found) in dense.iter().zip(score::estimates(&leading.quadrature).unwrap()) {
            if !found.error.eq_tensor(&found.error.zeros_like()).all().int64_value(&[]) == 0 {
                continue;
            }
            let gap = max(&(&known.1 - &found.value)) / max(&known.1).max(1.0);
            // The smallest of the 40 is 0.7^39 of the largest, and `condition` and `log_det` hang on it.
            let allowed = apart(Kind::Double, &[90, 40, 40, 40]) / 0.7f64.powi(39);
            assert!(gap < allowed, "{}: {gap:e}", found.score.name());
        }
    });
}

#[test]
fn ranks_below_the_pairs_give_zeros_and_exact_scores() {
    on_each_device(|| {
        let metric = Metric::from_factor(factors(&[4.0, 1.0, 0.25], 60, 90, 2)).unwrap();
        let leading = Leading::of(&metric, &spec(4, 8), 6, 1, &[0, 1]).unwrap();
        let expected = Tensor::from_slice(&[4.0, 1.0, 0.25, 0.0, 0.0, 0.0]);
        // The factor is made by sums of 3, used by sums of 90 and 60; lambda_1 is 4.
        let rounding = apart(Kind::Double, &[3, 90, 60, 32, 32]);
        assert!(max(&(&leading.values - expected)) < 4.0 * rounding);
        assert!(max(&leading.residuals) < 4.0 * rounding);
        assert_eq!(max(&leading.directions.narrow(1, 3, 3)), 0.0);
        assert!(
            max(&(leading.directions.narrow(1, 0, 3).norm_scalaropt_dim(2.0, [2i64].as_slice(), false) - 1.0))
                < 4.0 * rounding
        );
        for estimate in score::estimates(&leading.quadrature).unwrap() {
            let expected = match estimate.score.name() {
                "rank" => 3.0,
                "log_det" => 0.0,
                "condition" => 16.0,
                "trace" => 5.25,
                _ => continue,
            };
            // Three eigenvalues, the smallest a sixteenth of the first; the condition is 16.
            assert!(max(&(estimate.value - expected)) < 3.0 * 16.0 * 16.0 * rounding, "{}", estimate.score.name());
            assert_eq!(max(&estimate.error), 0.0, "{}", estimate.score.name());
        }
    });
}

#[test]
fn a_zero_metric_has_the_scores_of_collapse() {
    on_each_device(|| {
        let x = rand(&[2, 1, 2, 2], 1);
        for kind in MetricKind::ALL {
            let free = MatrixFree::at(&Collapsed, &x, kind, WAYS[0]).unwrap();
            let leading = Leading::of(&free, &spec(2, 2), 2, 1, &[0, 1]).unwrap();
            assert_eq!(max(&leading.values), 0.0);
            assert_eq!(max(&leading.residuals), 0.0);
            assert_eq!(max(&leading.directions), 0.0);
            let zero = Tensor::zeros([2, 4], (Kind::Double, here()));
            for ((name, known), found) in
                score::all(&zero).unwrap().iter().zip(score::estimates(&leading.quadrature).unwrap())
            {
                let same = known.eq_tensor(&found.value).logical_or(&known.isnan().logical_and(&found.value.isnan()));
                assert_ne!(same.all().int64_value(&[]), 0, "{kind} {name}");
            }
        }
    });
}

/// Estimates of the same spectrum by many independent samples: (value - truth) / error of each, and the mean error.
fn trials(values: &[f64], rows: i64, dim: i64, spec: &SpectrumSpec) -> Vec<(&'static str, Vec<f64>, f64)> {
    const TRIALS: u64 = 200;
    let metric = Metric::from_factor(factors(values, rows, dim, TRIALS as i64)).unwrap();
    let index: Vec<u64> = (0..TRIALS).collect();
    let leading = Leading::of(&metric, spec, 2, 5, &index).unwrap();
    let truth = score::all(&Tensor::from_slice(values).unsqueeze(0)).unwrap();
    let estimates = score::estimates(&leading.quadrature).unwrap();
    let standard = |(estimate, (_, truth)): (score::Estimate, &(score::Score, Tensor))| {
        let z = (&estimate.value - truth) / &estimate.error;
        (
            estimate.score.name(),
            Vec::<f64>::try_from(z).unwrap(),
            max(&estimate.error.nan_to_num(0.0, 0.0, 0.0)) / max(truth).max(1e-3),
        )
    };
    estimates.into_iter().zip(&truth).map(standard).collect()
}

fn check_calibration(name: &str, z: &[f64]) {
    let outside = z.iter().filter(|z| z.is_nan() || z.abs() > 4.0).count();
    assert!(outside <= 3, "{name}: {outside} of {} beyond 4 standard errors", z.len());
    let n = z.len() as f64;
    let bias = z.iter().sum::<f64>() / n;
    let spread = (z.iter().map(|z| z * z).sum::<f64>() / n).sqrt();
    // Student's t with 14 degrees of freedom has a spread of 1.08; 200 trials tell it to within a tenth.
    assert!(bias.abs() < 0.35, "{name}: mean {bias}");
    assert!((0.75..1.4).contains(&spread), "{name}: spread {spread}");
}

#[test]
fn estimates_lie_within_their_standard_errors() {
    // A tail that no space of 16 x 5 resolves: 300 eigenvalues falling like a power.
    let values: Vec<f64> = (1..=300).map(|i| 3.0 / f64::from(i).powf(1.1)).collect();
    for (name, z, error) in trials(&values, 300, 400, &spec(16, 5)) {
        match name {
            "spectral_radius" => {}
            "rank" | "log_det" | "condition" => assert!(z.iter().all(|z| z.is_nan()), "{name} cannot be known"),
            _ => {
                check_calibration(name, &z);
                assert!(error < 0.05, "{name}: relative error {error}");
            }
        }
    }
}

#[test]
fn a_spectrum_that_is_bounded_below_has_an_estimated_log_det() {
    let values: Vec<f64> = (0..300).map(|i| 2.0 - 1.5 * (f64::from(i) / 299.0)).collect();
    let mut found = 0;
    for (name, z, error) in trials(&values, 300, 400, &SpectrumSpec { tolerance: 1e-4, ..spec(16, 12) }) {
        if name == "log_det" {
            let known: Vec<f64> = z.iter().copied().filter(|z| !z.is_nan()).collect();
            found = known.len();
            check_calibration(name, &known);
            assert!(error < 0.2, "{error}");
        }
        if name == "rank" {
            // Every node lies above the cut: 0 / 0, right without error.
            assert!(z.iter().all(|z| z.is_nan()) && error == 0.0, "{error}");
        }
    }
    assert!(found > 100, "{found}");
}

#[test]
fn an_eigenvalue_of_any_multiplicity_keeps_its_weight() {
    let metric = Metric::from_factor(Tensor::eye(64, (Kind::Double, Device::Cpu)).unsqueeze(0) * 3.0).unwrap();
    let leading = Leading::of(&metric, &spec(4, 4), 4, 1, &[0]).unwrap();
    for estimate in score::estimates(&leading.quadrature).unwrap() {
        let expected = match estimate.score.name() {
            "trace" => 9.0 * 64.0,
            "rank" | "effective_rank" | "stable_rank" => 64.0,
            "log_det" => 64.0 * 9f64.ln(),
            "condition" => 1.0,
            _ => continue,
        };
        assert!(
            max(&(estimate.value - expected)) < apart(Kind::Double, &[64, 64, 64]) * expected,
            "{}",
            estimate.score.name()
        );
    }
}

#[test]
fn leading_pairs_do_not_depend_on_batch_size_or_order() {
    on_each_device(|| {
        let vae = TanhMlp::new(36, 20, 16, 1);
        let x = rand(&[90, 1, 6, 6], 7).to_kind(Kind::Float);
        let index: Vec<u64> = (0..90).collect();
        let backwards: Vec<u64> = (0..90).rev().collect();
        for metric in [MetricKind::Stochastic, MetricKind::OutputStochastic] {
            let leading = |x: &Tensor, index: &[u64], batch, kind| {
                let place = (here(), kind);
                let mut engine = LeadingEngine::new(metric, spec(4, 4), 3, 32, 1, place, batch).unwrap();
                let found = engine.leading(&vae, x, index).unwrap();
                let estimates = score::estimates(&found.quadrature).unwrap();
                (found.values, estimates.into_iter().map(|e| e.value.nan_to_num(0.0, 0.0, 0.0)).collect::<Vec<_>>())
            };
            for kind in [Kind::Float, Kind::Double] {
                // What the precisions promise, estimates by the same probes included.
                let tolerance = if kind == Kind::Float { 1e-4 } else { 1e-8 };
                let (values, scores) = leading(&x, &index, BatchSize::Fixed(90), kind);
                let same = |(v, s): (Tensor, Vec<Tensor>)| {
                    assert!(max(&(v - &values)) < tolerance * max(&values), "{metric}");
                    for (a, b) in s.iter().zip(&scores) {
                        assert!(max(&(a - b)) < tolerance * max(b).max(1.0), "{metric}");
                    }
                };
                for batch in [BatchSize::Auto, BatchSize::Fixed(1), BatchSize::Fixed(7)] {
                    same(leading(&x, &index, batch, kind));
                }
                let (v, s) = leading(&x.flip([0]), &backwards, BatchSize::Auto, kind);
                same((v.flip([0]), s.iter().map(|t| t.flip([0])).collect()));
                // Negative control: the noise is the sample's own.
                let (_, other) = leading(&x, &backwards, BatchSize::Auto, kind);
                assert!(other.iter().zip(&scores).any(|(a, b)| max(&(a - b)) > 1e-3), "{metric}");
            }
        }
    });
}

#[test]
fn a_memory_that_holds_no_sample_is_a_wrong_request() {
    let vae = TanhMlp::new(40_000, 5, 3000, 1);
    let x = rand(&[2, 1, 200, 200], 7);
    let leading = |memory| {
        let spec = SpectrumSpec { memory: Some(memory), ..spec(16, 8) };
        let place = (Device::Cpu, Kind::Float);
        let mut engine = LeadingEngine::new(MetricKind::Mean, spec, 2, 3000, 1, place, BatchSize::Auto).unwrap();
        engine.leading(&vae, &x, &[0, 1])
    };
    let error = leading(1).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("1 MiB (fewer steps or probes?)"), "{error}");
    assert_eq!(leading(1024).unwrap().values.size(), [2, 2]);
}

#[test]
fn more_pairs_than_there_are_is_a_wrong_request() {
    let metric = Metric::from_factor(factors(&[1.0, 0.5], 5, 9, 1)).unwrap();
    let error = Leading::of(&metric, &spec(4, 4), 6, 1, &[0]).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    let error = Leading::of(&metric, &spec(2, 2), 5, 1, &[0]).unwrap_err();
    assert!(error.to_string().contains("probes x steps"), "{error}");
}

#[test]
fn the_mode_follows_from_sizes_alone() {
    let small = Sizes { dim: 784, latent: 20, outputs: 784 };
    let large = Sizes { dim: 3 * 512 * 512, latent: 4 * 64 * 64, outputs: 3 * 512 * 512 };
    let of = |mode| SpectrumSpec { mode, ..SpectrumSpec::default() };
    let auto = of(SpectrumMode::Auto);
    for kind in MetricKind::ALL {
        assert_eq!(auto.resolve(kind, small, 1 << 30).unwrap(), SpectrumMode::Full);
        assert_eq!(auto.resolve(kind, large, 1 << 40).unwrap(), SpectrumMode::Top);
        // What a machine has to spare just now decides nothing: it may suffice or not.
        let error = auto.resolve(kind, small, 1 << 16).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains("--spectrum top"), "{error}");
        let said = SpectrumSpec { memory: Some(0), ..auto.clone() };
        assert_eq!(said.resolve(kind, small, 1 << 30).unwrap(), SpectrumMode::Top);
        assert_eq!(of(SpectrumMode::Top).resolve(kind, small, 1 << 30).unwrap(), SpectrumMode::Top);
        let error = of(SpectrumMode::Full).resolve(kind, large, 1 << 30).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains("--spectrum top"), "{error}");
    }
    let few = SpectrumSpec { columns: 100, ..of(SpectrumMode::Top) };
    assert!(few.resolve(MetricKind::Output, large, 1 << 30).is_ok());
    assert!(few.resolve(MetricKind::OutputStochastic, large, 1 << 30).unwrap_err().to_string().contains("columns"));
}
