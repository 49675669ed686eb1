//! Batched Jacobians against loops, closed forms and finite differences; the planner's choices.

use crate::device::{here, on_each_device};
use crate::roundoff::{apart, difference_quotient};
use crate::toy::{Collapsed, TanhMlp, rand};
use pullback::ffi::{self, Graph, VjpMode};
use pullback::jacobian::{self, BatchSize, Footprint, Mode, Pass, Planner, Reach, Ways};
use pullback::metric::{Metric, MetricKind, ensure_independent};
use pullback::model::{Judge, JudgeReads, Judged, Posterior, Vae};
use std::time::Duration;
use tch::{Device, Kind, Tensor};

const ALL: Mode = Mode::Vmapped(usize::MAX);

/// Largest |a - b|; NaN anywhere makes it infinite.
fn gap(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    let gap = (a - b).abs().max().double_value(&[]);
    if gap.is_nan() { f64::INFINITY } else { gap }
}

fn encoded(vae: &TanhMlp, x: &Tensor) -> (Tensor, Tensor) {
    let x = x.detach().set_requires_grad(true);
    let q = vae.encode(&x).unwrap();
    (x, q.mean)
}

#[test]
fn rows_agree_with_central_differences() {
    on_each_device(|| {
        let vae = TanhMlp::new(12, 9, 3, 1);
        let x = rand(&[4, 1, 3, 4], 7);
        let (input, mean) = encoded(&vae, &x);
        let j = jacobian::rows(&mean, &input, ALL).unwrap();
        assert_eq!(j.size(), [4, 3, 12]);
        let h = 1e-5;
        // mu is a sum of 9 tanh of sums of 12, with weights of at most 1: |mu| <= 9, and |tanh'''| <= 2.
        let allowed = difference_quotient(h, 9.0, &[12, 9], 18.0);
        for d in 0..12 {
            let step = Tensor::zeros([12], (Kind::Double, here()));
            let _ = step.get(d).fill_(h);
            let step = step.reshape([1, 1, 3, 4]);
            let difference =
                (vae.encode(&(&x + &step)).unwrap().mean - vae.encode(&(&x - &step)).unwrap().mean) / (2.0 * h);
            assert!(gap(&j.select(2, d), &difference) < allowed);
            // Negative control: another column does not fit.
            assert!(gap(&j.select(2, (d + 1) % 12), &difference) > 1e-6);
        }
    });
}

#[test]
fn every_mode_gives_the_same_rows_and_columns() {
    on_each_device(|| {
        let vae = TanhMlp::new(16, 10, 5, 2);
        let (x, mean) = encoded(&vae, &rand(&[6, 1, 4, 4], 3));
        let reference = jacobian::rows(&mean, &x, Mode::Looped).unwrap();
        for mode in [ALL, Mode::Vmapped(1), Mode::Vmapped(2), Mode::Vmapped(4)] {
            // Sums over 10 hidden units.
            let allowed = apart(Kind::Double, &[10]) * reference.abs().max().double_value(&[]);
            assert!(gap(&jacobian::rows(&mean, &x, mode).unwrap(), &reference) < allowed, "{mode:?}");
        }
        let z = mean.detach().set_requires_grad(true);
        let image = vae.decode(&z).unwrap().flatten(1, -1);
        let by_rows = jacobian::rows(&image, &z, Mode::Looped).unwrap();
        for mode in [ALL, Mode::Looped, Mode::Vmapped(2)] {
            // Sums over 10 hidden units back, and again forward.
            let allowed = apart(Kind::Double, &[10, 10, 16]) * by_rows.abs().max().double_value(&[]);
            assert!(gap(&jacobian::columns(&image, &z, mode).unwrap(), &by_rows) < allowed, "{mode:?}");
        }
    });
}

#[test]
fn an_output_that_ignores_the_input_has_a_zero_jacobian() {
    on_each_device(|| {
        let x = rand(&[3, 2, 2, 2], 1).set_requires_grad(true);
        let constant = Tensor::ones([3, 4], (Kind::Double, here()));
        let free = constant.detach().set_requires_grad(true) * 2.0;
        for output in [constant, free] {
            for mode in [ALL, Mode::Looped] {
                let j = jacobian::rows(&output, &x, mode).unwrap();
                assert_eq!(j.size(), [3, 4, 8]);
                assert_eq!(j.abs().max().double_value(&[]), 0.0);
            }
        }
    });
}

#[test]
fn cotangents_of_another_shape_are_refused() {
    let x = rand(&[3, 4], 1).set_requires_grad(true);
    let y = x.sin();
    let wrong = Tensor::ones([1, 2, 4], (Kind::Double, Device::Cpu));
    let error = ffi::vjp(&y, &x, &wrong, VjpMode::Looped, Graph::Constant).unwrap_err();
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn an_error_inside_a_vmapped_pass_leaves_the_next_one_usable() {
    on_each_device(|| {
        let vae = TanhMlp::new(16, 10, 5, 2);
        let (x, mean) = encoded(&vae, &rand(&[2, 1, 4, 4], 3));
        let unrelated = rand(&[2, 4], 9); // does not require gradients
        let cotangents = Tensor::ones([2, 2, 5], (Kind::Double, here()));
        assert!(ffi::vjp(&mean, &unrelated, &cotangents, VjpMode::Vmapped, Graph::Constant).is_err());
        assert!(ffi::vjp(&mean, &x, &cotangents, VjpMode::Vmapped, Graph::Constant).is_ok());
    });
}

#[test]
fn stochastic_is_the_mean_over_noise_of_the_sampled_metrics() {
    on_each_device(|| {
        // E_eps[J_eps^T J_eps], J_eps = J_mu + diag(eps) J_sigma, over eps = +-1 (a two-point law with the same moments).
        let vae = TanhMlp::new(6, 8, 2, 5);
        let x = rand(&[3, 1, 2, 3], 4);
        let ways = Ways { rows: ALL, columns: ALL };
        let g = |kind| {
            let a = Metric::at(&vae, &x, kind, ways).unwrap();
            a.factor().unwrap().transpose(1, 2).bmm(&a.factor().unwrap())
        };
        let input = x.detach().set_requires_grad(true);
        let q = vae.encode(&input).unwrap();
        let sigma = q.std().unwrap();
        let mut expected = Tensor::zeros([3, 6, 6], (Kind::Double, here()));
        for signs in [[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]] {
            let eps = Tensor::from_slice(&signs);
            let j = jacobian::rows(&(&q.mean + &sigma * &eps), &input, ALL).unwrap();
            expected += j.transpose(1, 2).bmm(&j) / 4.0;
        }
        // Each Jacobian by sums over the hidden units, twice; four rows a Gram matrix, four of these.
        let allowed = 2.0 * apart(Kind::Double, &[8, 8]) + apart(Kind::Double, &[4, 4]);
        assert!(gap(&g(MetricKind::Stochastic), &expected) < allowed * expected.abs().max().double_value(&[]));
        assert!(gap(&g(MetricKind::Mean), &expected) > 1e-6, "negative control");
    });
}

#[test]
fn output_is_the_metric_of_the_whole_map() {
    on_each_device(|| {
        let vae = TanhMlp::new(6, 8, 2, 5);
        let x = rand(&[3, 1, 2, 3], 4);
        let metric = Metric::at(&vae, &x, MetricKind::Output, Ways { rows: ALL, columns: ALL }).unwrap();
        let input = x.detach().set_requires_grad(true);
        let q = vae.encode(&input).unwrap();
        let j = jacobian::rows(&vae.decode(&q.mean).unwrap().flatten(1, -1), &input, Mode::Looped).unwrap();
        let expected = j.transpose(1, 2).bmm(&j);
        // Through encoder and decoder (8 hidden units each), twice; a QR factorisation over 6 pixels; v sums 6 numbers up to 1.
        let allowed = 2.0 * apart(Kind::Double, &[8, 8, 6, 6]) * expected.abs().max().double_value(&[]);
        assert!(gap(&metric.factor().unwrap().transpose(1, 2).bmm(&metric.factor().unwrap()), &expected) < allowed);
        let v = rand(&[3, 6, 2], 8);
        assert!(gap(&metric.apply(&v).unwrap(), &expected.bmm(&v)) < 6.0 * allowed);
    });
}

#[test]
fn a_collapsed_posterior_has_a_zero_factor() {
    on_each_device(|| {
        let x = rand(&[2, 1, 2, 2], 4);
        for kind in MetricKind::ALL {
            let metric = Metric::at(&Collapsed, &x, kind, Ways { rows: ALL, columns: ALL }).unwrap();
            assert_eq!(metric.factor().unwrap().abs().max().double_value(&[]), 0.0, "{kind}");
        }
    });
}

/// Subtracts the batch mean: what batch normalisation in training mode does.
struct Interacting(TanhMlp);
impl Vae for Interacting {
    fn encode(&self, x: &Tensor) -> pullback::Result<Posterior> {
        self.0.encode(&(x - x.mean_dim([0i64].as_slice(), true, x.kind())))
    }
    fn decode(&self, z: &Tensor) -> pullback::Result<Tensor> {
        self.0.decode(z)
    }
}

/// A code, or an image, depends on the samples before it, as in a recurrence that runs along the batch.
struct Chained(TanhMlp, Reach);
impl Vae for Chained {
    fn encode(&self, x: &Tensor) -> pullback::Result<Posterior> {
        let q = self.0.encode(x)?;
        let mean = if self.1 == Reach::Encoder { q.mean.cumsum(0, q.mean.kind()) } else { q.mean };
        Ok(Posterior { mean, log_var: q.log_var })
    }
    fn decode(&self, z: &Tensor) -> pullback::Result<Tensor> {
        self.0.decode(&if self.1 == Reach::EncoderAndDecoder { z.cumsum(0, z.kind()) } else { z.shallow_clone() })
    }
}

/// Draws noise inside.
struct Noisy(TanhMlp);
impl Vae for Noisy {
    fn encode(&self, x: &Tensor) -> pullback::Result<Posterior> {
        let q = self.0.encode(x)?;
        Ok(Posterior { mean: &q.mean + q.mean.randn_like(), log_var: q.log_var })
    }
    fn decode(&self, z: &Tensor) -> pullback::Result<Tensor> {
        self.0.decode(z)
    }
}

#[test]
fn samples_that_interact_are_refused() {
    let x = rand(&[5, 1, 3, 4], 7);
    let vae = TanhMlp::new(12, 9, 3, 1);
    ensure_independent(&vae, &x, Reach::EncoderAndDecoder).unwrap();
    let noisy = Noisy(TanhMlp::new(12, 9, 3, 1));
    let error = ensure_independent(&noisy, &x, Reach::Encoder).unwrap_err();
    assert!(
        error.exit_code() == 2 && error.to_string().contains("encoder") && error.to_string().contains("asked again"),
        "{error}"
    );
    let error = ensure_independent(&Interacting(vae), &x, Reach::Encoder).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("batch norm"), "{error}");
    for (reach, part) in [(Reach::Encoder, "encoder"), (Reach::EncoderAndDecoder, "decoder")] {
        let error = ensure_independent(&Chained(TanhMlp::new(12, 9, 3, 1), reach), &x, reach).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with(&format!("the model's {part}")) && text.contains("along the batch"), "{text}");
    }
    // A judge is a part of the model.
    let judged = |judge: Box<dyn Judge>| {
        let vae = Judged::new(TanhMlp::new(12, 9, 3, 1), judge, JudgeReads::Latent);
        ensure_independent(&vae, &x, Reach::EncoderAndDecoder)
    };
    judged(Box::new(Centred(0.0))).unwrap();
    let error = judged(Box::new(Centred(1.0))).unwrap_err();
    assert!(error.exit_code() == 2 && error.to_string().contains("judge"), "{error}");
}

/// Judges a code by its squared distance from a share of the batch mean.
struct Centred(f64);
impl Judge for Centred {
    fn of(&self, z: &Tensor) -> pullback::Result<Tensor> {
        let middle = z.mean_dim([0i64].as_slice(), true, z.kind()) * self.0;
        Ok((z - middle).square().sum_dim_intlist([1i64].as_slice(), false, z.kind()))
    }
}

/// Runs the planner on a made-up machine: seconds a sample and bytes a sample as functions of the pass.
fn simulate(planner: &mut Planner, total: usize, seconds: impl Fn(Pass) -> f64, bytes: impl Fn(Pass) -> f64) -> f64 {
    let (mut done, mut time) = (0, 0.0);
    while done < total {
        let pass = planner.next(total - done);
        assert!(pass.samples >= 1 && pass.samples <= total - done);
        let t = seconds(pass) * pass.samples as f64;
        planner.record(pass, Duration::from_secs_f64(t), (bytes(pass) * pass.samples as f64) as u64);
        time += t;
        done += pass.samples;
    }
    time
}

/// Looping is `ratio` times as dear as one vmapped pass; both pay an overhead a pass; large passes leave the cache.
fn machine(ratio: f64, cache: f64) -> impl Fn(Pass) -> f64 {
    move |pass: Pass| {
        let n = pass.samples as f64;
        let way = if pass.ways.rows == Mode::Looped { ratio } else { 1.0 };
        1e-4 * way * (1.0 + 20.0 / n + if n > cache { 0.5 } else { 0.0 })
    }
}

#[test]
fn the_planner_comes_within_a_tenth_of_the_best_fixed_choice() {
    for (ratio, cache) in [(0.4, 1e9), (0.4, 300.0), (3.0, 1e9), (3.0, 100.0), (1.0, 1e9)] {
        let cost = machine(ratio, cache);
        let mut planner = Planner::new(BatchSize::Auto, 1 << 40, Reach::Encoder);
        let time = simulate(&mut planner, 20_000, &cost, |_| 1e3);
        let best = [16, 64, 256, 1024, 4096]
            .iter()
            .flat_map(|&samples| {
                [ALL, Mode::Looped].map(|m| cost(Pass { samples, ways: Ways { rows: m, columns: m } }))
            })
            .fold(f64::INFINITY, f64::min)
            * 20_000.0;
        assert!(time < best * 1.1, "ratio {ratio}, cache {cache}: {time} against {best}");
    }
}

#[test]
fn the_planner_is_not_misled_by_a_busy_machine() {
    // A third of the passes, by chance, take half as long again. They are long ones, which are tried once.
    let cost = |pass: Pass| {
        let way = if pass.ways.rows == Mode::Looped { 1.2 } else { 1.0 };
        1e-2 * way * (1.0 + 4.0 / pass.samples as f64)
    };
    let mut wrong = 0;
    for seed in 0..50u64 {
        let state = std::cell::Cell::new(seed * 2 + 1);
        let noisy = |pass: Pass| {
            state.set(state.get().wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407));
            cost(pass) * if (state.get() >> 33).is_multiple_of(3) { 1.5 } else { 1.0 }
        };
        let mut planner = Planner::new(BatchSize::Auto, 1 << 40, Reach::Encoder);
        simulate(&mut planner, 50_000, noisy, |_| 1e3);
        wrong += usize::from(cost(planner.next(20_000)) > 1.1e-2);
    }
    assert!(wrong <= 2, "{wrong} of 50 choices are more than a tenth off");
}

#[test]
fn the_planner_stays_within_its_memory() {
    let budget = 1e8;
    let bytes = |pass: Pass| {
        if pass.ways.rows == Mode::Looped { 1e5 } else { 1e6 }
    };
    let mut planner = Planner::new(BatchSize::Auto, budget as u64, Reach::Encoder);
    let mut done = 0;
    while done < 20_000 {
        let pass = planner.next(20_000 - done);
        assert!(bytes(pass) * pass.samples as f64 <= budget, "{pass:?}");
        let seconds = 1e-5 * (1.0 + 500.0 / pass.samples as f64);
        planner.record(
            pass,
            Duration::from_secs_f64(seconds * pass.samples as f64),
            (bytes(pass) * pass.samples as f64) as u64,
        );
        done += pass.samples;
    }
    // Looping fits a thousand samples, and larger passes pay here: it must have grown past the vmapped limit of 100.
    assert!(planner.next(20_000).samples > 100);
}

#[test]
fn a_pass_that_ran_out_of_memory_is_halved_until_nothing_is_left() {
    let mut planner = Planner::new(BatchSize::Fixed(8), 1 << 40, Reach::Encoder);
    let mut sizes = vec![];
    loop {
        let pass = planner.next(100);
        sizes.push(pass.samples);
        assert!(sizes.len() < 30, "{sizes:?}");
        if !planner.out_of_memory(pass) {
            break;
        }
    }
    assert_eq!(sizes[0], 8);
    assert_eq!(*sizes.last().unwrap(), 1);
}

/// Passes of a planner as a job would ask for them.
fn pass_of(planner: &Planner) -> Pass {
    planner.next(1_000_000)
}

#[test]
fn a_way_that_fails_is_left_and_the_job_goes_on() {
    use pullback::Error;
    let native = || Error::Native { routine: "vjp", message: "no batching rule".into() };
    let mut planner = Planner::new(BatchSize::Auto, 1 << 30, Reach::Encoder);
    let first = pass_of(&planner);
    planner.survive(first, native()).unwrap();
    let second = pass_of(&planner);
    assert_ne!(second.ways, first.ways);
    assert!(planner.refused()[0].contains("no batching rule"), "{:?}", planner.refused());
    planner.survive(second, native()).unwrap();
    let third = pass_of(&planner);
    // None is left: its error is the job's.
    assert!(planner.survive(third, native()).is_err());
    // What another pass would not mend ends the job at once.
    let mut planner = Planner::new(BatchSize::Auto, 1 << 30, Reach::Encoder);
    assert!(matches!(planner.survive(pass_of(&planner), Error::Interrupted), Err(Error::Interrupted)));
    assert!(planner.survive(pass_of(&planner), Error::request("x", "y", "z")).is_err());
    // A way that was left as slow is gone back to where the fast one fails on larger passes.
    let mut planner = Planner::new(BatchSize::Fixed(8), 1 << 30, Reach::Encoder);
    while planner.is_exploring() {
        let pass = pass_of(&planner);
        let seconds = if pass.ways.rows == Mode::Looped { 1.0 } else { 9.0 };
        planner.record(pass, Duration::from_secs_f64(seconds), 1000);
    }
    assert_eq!(pass_of(&planner).ways.rows, Mode::Looped);
    let looped = pass_of(&planner);
    planner.survive(looped, native()).unwrap();
    assert_ne!(pass_of(&planner).ways.rows, Mode::Looped);
}

#[test]
fn no_pass_is_begun_that_is_thought_not_to_fit() {
    // A megabyte a sample and one a cotangent, of which there are 100.
    let mib = f64::from(1 << 20);
    let footprint = Footprint { once: mib, row: (mib, 100), column: (0.0, 0) };
    let mut planner = Planner::new(BatchSize::Auto, 40 << 20, Reach::Encoder);
    planner.expect(&footprint);
    planner.ensure_affordable("full", "a remedy").unwrap();
    while planner.is_exploring() {
        let pass = pass_of(&planner);
        let bytes = footprint.bytes(pass.ways) * pass.samples as f64;
        assert!(bytes <= 40.0 * mib, "{pass:?}");
        planner.record(pass, Duration::from_secs_f64(0.3 * pass.samples as f64), bytes as u64);
    }
    // More was asked for than fits: as many as do.
    let mut planner = Planner::new(BatchSize::Fixed(512), 40 << 20, Reach::Encoder);
    planner.expect(&footprint);
    assert_eq!(pass_of(&planner).samples, 16);
    // Not even one fits.
    let mut planner = Planner::new(BatchSize::Auto, 1 << 20, Reach::Encoder);
    planner.expect(&footprint);
    let refused = planner.ensure_affordable("full", "a remedy").unwrap_err();
    assert_eq!(refused.exit_code(), 2);
    assert_eq!(
        refused.to_string(),
        "full: expected a sample that fits the memory of a pass, 1 MiB (a remedy), found some 2 MiB"
    );
}

/// Folded rows against looped ones, in double.
fn fold(name: &str, output: &Tensor, x: &Tensor, terms: &[i64]) {
    let output = output.flatten(1, -1);
    let looped = jacobian::rows(&output, x, Mode::Looped).unwrap();
    let folded = jacobian::rows(&output, x, Mode::Folded).unwrap_or_else(|e| panic!("{name}: {e}"));
    let scale = looped.abs().max().double_value(&[]);
    assert!(scale > 1e-3, "{name}: a Jacobian of nothing");
    let found = gap(&folded, &looped);
    assert!(found <= apart(Kind::Double, terms) * scale, "{name}: {found} apart");
}

fn leaf(size: &[i64], seed: u64) -> Tensor {
    (rand(size, seed) - 0.3).set_requires_grad(true)
}

#[test]
fn folded_passes_know_the_common_operations() {
    let x = leaf(&[5, 2, 9, 8], 1);
    let weight = |size: &[i64], seed: u64| rand(size, seed) - 0.5;
    let dense = |h: &Tensor, to: i64, seed: u64| {
        let h = h.flatten(1, -1);
        let width = h.size()[1];
        // Small, so that nothing saturates.
        h.linear(&((rand(&[to, width], seed) - 0.5) * 0.5), Some(&rand(&[to], seed + 1)))
    };
    // Each operation on numbers alone, between two products.
    type Pointwise = fn(&Tensor) -> Tensor;
    let pointwise: [(&str, Pointwise); 13] = [
        ("relu", |h| h.relu()),
        ("leaky_relu", |h| h.leaky_relu()),
        ("tanh", |h| h.tanh()),
        ("sigmoid", |h| h.sigmoid()),
        ("exp", |h| (h * 0.1).exp()),
        ("silu", |h| h.silu()),
        ("gelu", |h| h.gelu("none")),
        ("gelu by tanh", |h| h.gelu("tanh")),
        ("elu", |h| h.elu()),
        ("softplus", |h| h.softplus()),
        ("hardtanh", |h| h.hardtanh()),
        ("scaled", |h| (h * 3.0 / 2.0 + 1.0).neg()),
        ("joined", |h| Tensor::cat(&[h.narrow(1, 0, 3).tanh(), h.narrow(1, 3, 3).exp()], 1)),
    ];
    for (name, f) in pointwise {
        fold(name, &dense(&f(&dense(&x, 6, 3)), 4, 5), &x, &[144, 6, 4]);
    }
    // Convolutions: strides, paddings, dilations, groups, few channels, a single place, transposed.
    for (k, stride, padding, dilation, groups, to) in
        [(3, 1, 1, 1, 1, 6), (4, 2, 1, 1, 1, 4), (3, 2, 0, 2, 1, 3), (3, 1, 2, 1, 2, 4), (5, 3, 1, 1, 1, 8)]
    {
        let name = format!("convolution {k} {stride} {padding} {dilation} {groups}");
        let h = dense(&x, 8 * 7 * 6, 40).reshape([5, 8, 7, 6]).tanh();
        let w = weight(&[to, 8 / groups, k, k], 7);
        let conv = |h: &Tensor, w: &Tensor| {
            h.conv2d(w, Some(&rand(&[to], 8)), [stride, stride], [padding, padding], [dilation, dilation], groups)
        };
        fold(&name, &dense(&conv(&h, &w).relu(), 4, 9), &x, &[144, 8 * k * k, 300, 4]);
        // The first layer sees the image itself, of two channels.
        let w = weight(&[to, 2 / groups, k, k], 7);
        fold(&name, &dense(&conv(&x, &w).relu(), 4, 9), &x, &[2 * k * k, 300, 4]);
    }
    let h = dense(&x, 8 * 3 * 2, 40).reshape([5, 8, 3, 2]).tanh();
    let place = h.conv2d(&weight(&[6, 8, 4, 4], 7), None::<Tensor>, [2, 2], [1, 1], [1, 1], 1);
    assert_eq!(place.size(), [5, 6, 1, 1]);
    fold("a single place", &dense(&place.tanh(), 4, 9), &x, &[144, 128, 6, 4]);
    let up = h.conv_transpose2d(&weight(&[8, 5, 4, 4], 7), None::<Tensor>, [2, 2], [1, 1], [1, 1], 1, [1, 1]);
    fold("transposed", &dense(&up.tanh(), 4, 9), &x, &[144, 128, 200, 4]);
    // Batch normalisation with fixed statistics, before a convolution and before none; twice the same map.
    let norm = |h: &Tensor, c: i64| {
        let of = |seed: u64| Some(rand(&[c], seed) + 0.5);
        h.batch_norm(of(11), of(12), of(13), of(14), false, 0.1, 1e-5, false)
    };
    let h = x.conv2d(&weight(&[6, 2, 3, 3], 2), None::<Tensor>, [2, 2], [1, 1], [1, 1], 1);
    fold("normalised", &dense(&norm(&h, 6).relu(), 4, 9), &x, &[18, 120, 4]);
    let deep =
        norm(&norm(&h, 6).relu().conv2d(&weight(&[3, 6, 3, 3], 2), None::<Tensor>, [1, 1], [1, 1], [1, 1], 1), 3);
    fold("normalised twice", &dense(&deep.relu(), 4, 9), &x, &[18, 54, 120, 4]);
    let residual = norm(&h, 6).relu() + &h;
    fold("residual", &dense(&residual, 4, 9), &x, &[18, 120, 4]);
    let pooled = |h: &Tensor| h.max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false);
    fold("largest of windows", &dense(&pooled(&h.tanh()), 4, 9), &x, &[18, 120, 4]);
    let mean = h.tanh().avg_pool2d([2, 2], [2, 2], [1, 1], false, true, None::<i64>);
    fold("mean of windows", &dense(&mean, 4, 9), &x, &[18, 120, 4]);
    let two_ways = dense(&x, 6, 3) + dense(&x, 6, 7);
    fold("two products of one image", &dense(&two_ways, 4, 9), &x, &[144, 6, 4]);
    // What is added to a product may depend on the image, too.
    let (skip, map) = (dense(&x, 4, 3).tanh(), weight(&[6, 4], 5));
    let added = |beta: f64| skip.addmm(&dense(&x, 6, 7).tanh(), &map) + &skip * beta;
    fold("a sum and a product", &added(0.5), &x, &[144, 6, 4]);
    // Heads cut out of one: pairs[:, :, 0] and [:, :, 1], halves, chunks.
    let head = dense(&x.tanh(), 6, 3);
    let pairs = head.view([-1, 3, 2]);
    let both = |a: Tensor, b: Tensor| Tensor::cat(&[a, (b * 0.5).exp()], 1);
    fold("pairs", &both(pairs.select(2, 0), pairs.select(2, 1)), &x, &[144, 6]);
    fold("pairs by slices", &both(pairs.slice(0, None, None, 1).select(2, -2), pairs.select(-1, 1)), &x, &[144, 6]);
    fold("halves", &both(head.slice(1, None, 3, 1), head.slice(1, 3, None, 1)), &x, &[144, 6]);
    let chunks = head.chunk(2, 1);
    fold("chunks", &both(chunks[0].shallow_clone(), chunks[1].shallow_clone()), &x, &[144, 6]);
    fold("chunks, turned", &both(chunks[1].shallow_clone(), chunks[0].shallow_clone()), &x, &[144, 6]);
    fold("stepped", &both(head.slice(1, 0, None, 2), head.slice(1, 1, None, 2)), &x, &[144, 6]);
    fold("squeezed", &dense(&x.unsqueeze(2).tanh().squeeze_dim(2), 4, 3), &x, &[144, 4]);
}

#[test]
fn folded_passes_refuse_what_they_do_not_know() {
    let x = leaf(&[4, 2, 6, 6], 1);
    let wavy = x.sin().flatten(1, -1);
    let mixed = x.reshape([2, 144]).tanh().reshape([4, 72]);
    let squared = (&x * &x).flatten(1, -1);
    // A weight that is computed from the image.
    let one = leaf(&[1, 2, 6, 6], 1);
    let weighted = one.conv2d(&one.narrow(2, 0, 3).narrow(3, 0, 3), None::<Tensor>, [1, 1], [1, 1], [1, 1], 1);
    let multiplied = one.reshape([1, 72]).tanh().mm(&one.reshape([72, 1]).tanh().expand([72, 3], false));
    for (name, output) in [("several ways", weighted.flatten(1, -1)), ("several ways", multiplied)] {
        let error = jacobian::rows(&output.narrow(1, 0, 3), &one, Mode::Folded).unwrap_err();
        assert!(error.is_of_the_way() && error.to_string().contains(name), "{error}");
    }
    for (name, output) in [("SinBackward0", wavy), ("mixed", mixed), ("MulBackward0", squared)] {
        let error = jacobian::rows(&output.narrow(1, 0, 3), &x, Mode::Folded).unwrap_err();
        assert!(error.is_of_the_way() && error.to_string().contains("folded: "), "{name}: {error}");
        assert!(jacobian::rows(&output.narrow(1, 0, 3), &x, Mode::Looped).is_ok());
    }
    // What does not depend on the image is zero, known or not.
    let free = rand(&[4, 3], 2).set_requires_grad(true).sin();
    assert_eq!(jacobian::rows(&free, &x, Mode::Folded).unwrap().abs().max().double_value(&[]), 0.0);
}

#[test]
fn folded_passes_come_in_slices() {
    // 512 hidden units of 3000 samples are more than a pass takes; so are 700 rows of one sample of 64 x 64.
    let x = leaf(&[3000, 1, 2, 3], 1);
    let h = x.flatten(1, -1).linear(&rand(&[512, 6], 2), None::<Tensor>).tanh();
    fold("many samples", &h.linear(&rand(&[7, 512], 3), None::<Tensor>), &x, &[6, 512]);
    // The last slice has fewer rows than the normalised convolution has weights, and these may be in training.
    for trained in [false, true] {
        let x = leaf(&[202, 2, 4, 4], 1);
        let deep = (rand(&[64, 64, 4, 4], 3) - 0.5).set_requires_grad(trained);
        let h = x.conv2d(&(rand(&[64, 2, 3, 3], 2) - 0.5), None::<Tensor>, [1, 1], [1, 1], [1, 1], 1).relu();
        let h = h.conv2d(&deep, None::<Tensor>, [2, 2], [1, 1], [1, 1], 1);
        let (mean, var) = (rand(&[64], 4), rand(&[64], 5) + 0.5);
        let h = h.batch_norm(None::<Tensor>, None::<Tensor>, Some(mean), Some(var), false, 0.1, 1e-5, false).relu();
        let output = h.flatten(1, -1).linear(&(rand(&[4, 256], 6) - 0.5), None::<Tensor>);
        fold("normalised", &output, &x, &[256, 1024, 64 * 9]);
    }
    let x = leaf(&[2, 1, 64, 64], 1);
    let h = x.conv2d(&rand(&[24, 1, 3, 3], 2), None::<Tensor>, [1, 1], [1, 1], [1, 1], 1).tanh();
    let output = h.conv2d(&rand(&[3, 24, 4, 4], 3), None::<Tensor>, [4, 4], [0, 0], [1, 1], 1);
    fold("many rows", &output.flatten(1, -1).narrow(1, 0, 600), &x, &[9, 24 * 16]);
}

/// Gram matrices that are taken slice by slice are those of the rows: whatever the number of samples, where rows are zero, where one sample
/// has more rows than a slice, and where the layout of maps is another.
#[test]
fn gram_matrices_need_no_rows() {
    let weight = |size: &[i64], seed: u64| (rand(size, seed) - 0.5).to_kind(Kind::Float);
    let dense = |h: &Tensor, to: i64, seed: u64| {
        let h = h.flatten(1, -1);
        h.linear(&weight(&[to, h.size()[1]], seed), None::<Tensor>)
    };
    let conv = |h: &Tensor, to: i64, seed: u64| {
        h.conv2d(&weight(&[to, h.size()[1], 4, 4], seed), None::<Tensor>, [2, 2], [1, 1], [1, 1], 1)
    };
    type Net<'a> = (&'a str, Box<dyn Fn(&Tensor) -> Tensor + 'a>);
    let nets: [Net; 6] = [
        ("linear", Box::new(|x| dense(&dense(x, 9, 1).tanh(), 4, 2))),
        ("maps", Box::new(|x| dense(&conv(&conv(x, 8, 3).relu(), 16, 4).relu(), 5, 5))),
        ("more rows than a slice", Box::new(|x| dense(&conv(x, 8, 3).relu(), 70, 6))),
        ("wide", Box::new(|x| dense(&dense(x, 3000, 7).relu(), 3, 8))),
        // The second half of the rows and the last of the first.
        (
            "rows of nothing",
            Box::new(|x| {
                let free = Tensor::zeros([x.size()[0], 3], (Kind::Float, Device::Cpu));
                Tensor::cat(
                    &[
                        dense(x, 2, 9),
                        x.flatten(1, -1).narrow(1, 0, 1) * 0.0,
                        free + x.flatten(1, -1).narrow(1, 0, 3) * 0.0,
                    ],
                    1,
                )
            }),
        ),
        ("no image", Box::new(|x| weight(&[x.size()[0], 3], 2).set_requires_grad(true).tanh())),
    ];
    for (name, net) in nets {
        for batch in [1, 2, 3, 33] {
            let x = leaf(&[batch, 2, 16, 16], 1).detach().to_kind(Kind::Float).set_requires_grad(true);
            let output = net(&x);
            let rows = jacobian::rows(&output, &x, Mode::Looped).unwrap().to_kind(Kind::Double);
            let expected = rows.bmm(&rows.transpose(1, 2));
            let found =
                jacobian::grams(&output, &x, Mode::Folded).unwrap_or_else(|e| panic!("{name} {batch}: {e}")).unwrap();
            assert_eq!(found.kind(), Kind::Double);
            let scale = expected.abs().max().double_value(&[]);
            assert!(
                gap(&found, &expected) <= apart(Kind::Float, &[512, 512, 256, 256]) * scale,
                "{name} {batch}: {}",
                gap(&found, &expected)
            );
        }
    }
    let x = leaf(&[2, 1, 2, 3], 1);
    let output = x.flatten(1, -1).tanh();
    assert!(jacobian::grams(&output, &x, Mode::Folded).unwrap().is_none(), "in double");
    assert!(jacobian::grams(&output, &x, Mode::Looped).unwrap().is_none());
    let x = x.detach().to_kind(Kind::Float).set_requires_grad(true);
    let error = jacobian::grams(&x.sin().flatten(1, -1), &x, Mode::Folded).unwrap_err();
    assert!(error.is_of_the_way() && error.to_string().contains("folded: no rule for SinBackward0"), "{error}");
}

/// As in an attack: a single cotangent of all samples. What comes back is no part of what was given, and lies as images do.
#[test]
fn a_single_cotangent_is_pulled_back_to_memory_of_its_own() {
    let x = leaf(&[5, 2, 8, 8], 1);
    let weight = |size: &[i64], seed: u64| rand(size, seed) - 0.5;
    let hidden = || x.flatten(1, -1).linear(&weight(&[9, 128], 2), Some(&rand(&[9], 3))).relu();
    let maps = || x.conv2d(&weight(&[6, 2, 4, 4], 4), None::<Tensor>, [2, 2], [1, 1], [1, 1], 1).relu();
    for (name, output, terms) in [
        ("the images themselves", x.flatten(1, -1), 1),
        ("half of them", x.flatten(1, -1).narrow(1, 0, 64), 1),
        ("an MLP", hidden().linear(&weight(&[3, 9], 5), None::<Tensor>), 9 + 3),
        ("a convolution", maps().flatten(1, -1), 6 * 16),
        (
            "a convolution and a linear layer",
            maps().flatten(1, -1).linear(&weight(&[3, 96], 6), None::<Tensor>),
            6 * 16 + 3,
        ),
    ] {
        let cotangents = rand(&[1, 5, output.size()[1]], 7);
        let given = cotangents.copy();
        let by =
            |mode| ffi::vjp(&output, &x, &cotangents, mode, Graph::Constant).unwrap_or_else(|e| panic!("{name}: {e}"));
        let (folded, looped) = (by(VjpMode::Folded), by(VjpMode::Looped));
        assert_eq!(folded.size(), [1, 5, 2, 8, 8], "{name}");
        assert!(folded.is_contiguous(), "{name}");
        let allowed = apart(Kind::Double, &[terms]) * looped.abs().max().double_value(&[]);
        assert!(gap(&folded, &looped) <= allowed, "{name}");
        let _ = folded.shallow_clone().fill_(7.0);
        assert!(cotangents.equal(&given), "{name}: the cotangent was overwritten");
        assert!(gap(&by(VjpMode::Folded), &looped) <= allowed, "{name}: what the graph holds was overwritten");
    }
}

#[test]
fn a_model_that_can_be_folded_is() {
    let mut planner = Planner::new(BatchSize::Auto, 1 << 40, Reach::EncoderAndDecoder).folding();
    assert_eq!(pass_of(&planner).ways.rows, Mode::Folded);
    // One pass that went well, and no other way is tried.
    while planner.is_exploring() {
        let pass = pass_of(&planner);
        assert_eq!(pass.ways.rows, Mode::Folded);
        planner.record(pass, Duration::from_secs_f64(1e-3 * pass.samples as f64), 1000);
    }
    // Where it cannot, the others are there.
    let mut planner = Planner::new(BatchSize::Auto, 1 << 40, Reach::Encoder).folding();
    let refused = pullback::Error::Native { routine: "vjp", message: "folded: no rule".into() };
    planner.survive(pass_of(&planner), refused).unwrap();
    assert_ne!(pass_of(&planner).ways.rows, Mode::Folded);
}

#[test]
fn brief_passes_grow_beyond_the_usual_size() {
    let largest = |seconds: fn(Pass) -> f64| {
        let mut planner = Planner::new(BatchSize::Auto, 1 << 40, Reach::Encoder).folding().at_most(256);
        let mut largest = 0;
        while planner.is_exploring() {
            let pass = pass_of(&planner);
            largest = largest.max(pass.samples);
            planner.record(pass, Duration::from_secs_f64(seconds(pass)), 1000);
        }
        (largest, pass_of(&planner).samples)
    };
    // A millisecond of operations that are started, and little else.
    assert_eq!(largest(|pass| 1e-3 + 5e-6 * pass.samples as f64), (1024, 1024));
    // Where the work itself counts, larger passes would only take memory.
    assert_eq!(largest(|pass| 1e-3 + 5e-5 * pass.samples as f64), (256, 256));
}
