//! Spectra against the dense D x D eigenproblem, and at the edges.

use crate::roundoff::{apart, eigenvalues_apart};
use crate::toy::{Collapsed, TanhMlp, rand};
use pullback::Error;
use pullback::ffi::kernels::Algorithm;
use pullback::jacobian::{self, BatchSize, Mode, Ways};
use pullback::linalg;
use pullback::metric::{MatrixFree, Metric, MetricKind, Operator};
use pullback::model::{Posterior, Vae};
use pullback::spectrum::{Engine, LeadingEngine, Solver, Spectrum, SpectrumSpec};
use std::cell::Cell;
use tch::{Device, Kind, Tensor};

const WAYS: Ways = Ways { rows: Mode::Vmapped(usize::MAX), columns: Mode::Looped };

fn max(t: &Tensor) -> f64 {
    let m = t.abs().max().double_value(&[]);
    if m.is_nan() { f64::INFINITY } else { m }
}

#[test]
fn eigenpairs_are_those_of_the_dense_metric() {
    let vae = TanhMlp::new(12, 9, 3, 1);
    for kind in MetricKind::ALL {
        let metric = Metric::at(&vae, &rand(&[4, 1, 3, 4], 7), kind, WAYS).unwrap();
        let g = metric.factor().unwrap().transpose(1, 2).bmm(&metric.factor().unwrap());
        let dense = g.linalg_eigvalsh("L").flip([-1]);
        let spectrum = Spectrum::of(&metric, 3).unwrap();
        let r = spectrum.values.size()[1];
        assert_eq!(r, if matches!(kind, MetricKind::Mean | MetricKind::Output) { 3 } else { 6 });
        // The factor is the same: its Gram matrix sums 12 pixels, the dense metric 6 rows, whose eigenproblem has order 12.
        let allowed = apart(Kind::Double, &[12, 6, 12, 12]);
        assert!(max(&(&spectrum.values - dense.narrow(1, 0, r))) < allowed * max(&dense), "{kind}");
        let v = spectrum.directions.unwrap();
        let residual = metric.apply(&v.transpose(1, 2)).unwrap().transpose(1, 2)
            - &v * spectrum.values.narrow(1, 0, 3).unsqueeze(-1);
        // v = A^T u / sqrt(lambda): what u is off by counts sqrt(lambda_1 / lambda_3) times.
        let worst = (spectrum.values.select(1, 0) / spectrum.values.select(1, 2)).max().double_value(&[]);
        assert!(max(&residual) < allowed * worst.sqrt() * max(&dense), "{kind}");
        let length = v.square().sum_dim_intlist([-1i64].as_slice(), false, Kind::Double);
        assert!(max(&(length - 1.0)) < 2.0 * apart(Kind::Double, &[12, 12]));
        // The sign rule.
        let peak = v.abs().argmax(-1, true);
        assert!(v.gather(-1, &peak, false).min().double_value(&[]) > 0.0);
    }
}

#[test]
fn more_latents_than_pixels_report_one_eigenvalue_a_pixel() {
    let vae = TanhMlp::new(4, 9, 7, 3);
    for kind in MetricKind::ALL {
        let metric = Metric::at(&vae, &rand(&[3, 1, 2, 2], 7), kind, WAYS).unwrap();
        let spectrum = Spectrum::of(&metric, 4).unwrap();
        assert_eq!(spectrum.values.size(), [3, 4], "{kind}");
        let g = metric.factor().unwrap().transpose(1, 2).bmm(&metric.factor().unwrap());
        let allowed = apart(Kind::Double, &[14, 4, 14, 14]) * max(&spectrum.values);
        assert!(max(&(&spectrum.values - g.linalg_eigvalsh("L").flip([-1]))) < allowed, "{kind}");
        assert_eq!(Spectrum::of(&metric, 5).unwrap_err().exit_code(), 2);
    }
}

#[test]
fn a_zero_metric_has_zero_eigenvalues_and_no_direction() {
    let metric = Metric::at(&Collapsed, &rand(&[2, 1, 2, 2], 1), MetricKind::Stochastic, WAYS).unwrap();
    let spectrum = Spectrum::of(&metric, 2).unwrap();
    assert_eq!(max(&spectrum.values), 0.0);
    assert_eq!(max(&spectrum.directions.unwrap()), 0.0);
}

#[test]
fn directions_beyond_the_rank_are_zero() {
    // Two equal rows: rank 1.
    let row = rand(&[1, 1, 5], 2);
    let metric = Metric::from_factor(Tensor::cat(&[&row, &row], 1)).unwrap();
    let spectrum = Spectrum::of(&metric, 2).unwrap();
    let v = spectrum.directions.unwrap();
    assert!((v.get(0).get(0).norm().double_value(&[]) - 1.0).abs() < apart(Kind::Double, &[5, 5]));
    assert_eq!(max(&v.get(0).get(1)), 0.0);
    assert!(
        spectrum.values.double_value(&[0, 1]) < apart(Kind::Double, &[5, 2]) * spectrum.values.double_value(&[0, 0])
    );
}

#[test]
fn ill_scaled_rows_keep_their_leading_eigenvalues() {
    // diag(1e8, 1, 1e-4) as rows: the Gram matrix in double holds lambda down to 1e-16 lambda_1.
    let scale = Tensor::from_slice(&[1e4, 1.0, 1e-2]).reshape([1, 3, 1]);
    let q = Tensor::linalg_qr(&rand(&[6, 3], 4), "reduced").0.transpose(0, 1).unsqueeze(0);
    let spectrum = Spectrum::of(&Metric::from_factor(q * scale).unwrap(), 3).unwrap();
    for (i, expected) in [1e8, 1.0, 1e-4].into_iter().enumerate() {
        let got = spectrum.values.double_value(&[0, i as i64]);
        assert!((got - expected).abs() < apart(Kind::Double, &[6, 3, 3]) * 1e8, "{got} against {expected}");
    }
}

struct NotFinite(TanhMlp);
impl Vae for NotFinite {
    fn encode(&self, x: &Tensor) -> pullback::Result<Posterior> {
        let q = self.0.encode(x)?;
        Ok(Posterior { mean: q.mean * f64::NAN, log_var: q.log_var })
    }
    fn decode(&self, z: &Tensor) -> pullback::Result<Tensor> {
        self.0.decode(z)
    }
}

#[test]
fn weights_that_are_not_numbers_have_no_spectrum() {
    let vae = NotFinite(TanhMlp::new(4, 5, 2, 3));
    let metric = Metric::at(&vae, &rand(&[3, 1, 2, 2], 7), MetricKind::Mean, WAYS).unwrap();
    let Spectrum { values, directions } = Spectrum::of(&metric, 1).unwrap();
    for found in [values, directions.unwrap()] {
        assert!(bool::try_from(found.isnan().all()).unwrap(), "{found:?}");
    }
}

#[test]
fn spectra_do_not_depend_on_batch_size_or_order() {
    let vae = TanhMlp::new(36, 20, 4, 1);
    let x = rand(&[150, 1, 6, 6], 7).to_kind(Kind::Float);
    for kind in [Kind::Float, Kind::Double] {
        // A product with one row and one with many round differently: forward over 36 pixels, back over 20 hidden units and 36
        // outputs of the decoder.
        let tolerance = eigenvalues_apart(kind, &[36, 20, 36, 20], 36, 8);
        for metric in MetricKind::ALL {
            let spectra =
                |x: &Tensor, batch| Engine::new(metric, 1, Device::Cpu, kind, batch).unwrap().spectra(&vae, x).unwrap();
            let reference = spectra(&x, BatchSize::Fixed(150));
            for batch in [BatchSize::Auto, BatchSize::Fixed(1), BatchSize::Fixed(7)] {
                let other = spectra(&x, batch);
                assert!(max(&(&other.values - &reference.values)) < tolerance * max(&reference.values));
            }
            let backwards = spectra(&x.flip([0]), BatchSize::Auto);
            assert!(max(&(backwards.values.flip([0]) - &reference.values)) < tolerance * max(&reference.values));
        }
    }
}

#[test]
fn one_entry_that_is_no_number_costs_its_row_alone() {
    let whole = Spectrum::of(&Metric::from_factor(rand(&[3, 4, 6], 2)).unwrap(), 2).unwrap();
    for (value, place) in [(f64::NAN, [2, 0, 5]), (f64::INFINITY, [1, 3, 0]), (f64::NEG_INFINITY, [0, 1, 1])] {
        let factor = rand(&[3, 4, 6], 2);
        let _ = factor.get(place[0]).get(place[1]).get(place[2]).fill_(value);
        let found = Spectrum::of(&Metric::from_factor(factor).unwrap(), 2).unwrap();
        for row in 0..3 {
            let (values, expected) = (found.values.get(row), whole.values.get(row));
            let (v, w) = (found.directions.as_ref().unwrap().get(row), whole.directions.as_ref().unwrap().get(row));
            if row == place[0] {
                assert!(bool::try_from(values.isnan().all()).unwrap() && bool::try_from(v.isnan().all()).unwrap());
            } else {
                assert!(values.equal(&expected) && v.equal(&w), "row {row} beside {place:?}");
            }
        }
    }
}

#[test]
fn factorisations_are_lapacks_whatever_the_batch() {
    for batch in [0, 1, 3, 4, 17] {
        let a = rand(&[batch, 9, 6], 5);
        let gram = a.transpose(1, 2).bmm(&a);
        let (values, vectors) = linalg::eigh(&gram).unwrap();
        let (expected, _) = gram.linalg_eigh("L");
        assert_eq!(linalg::spectra(&gram, 6).unwrap().size(), [batch, 6]);
        assert_eq!(linalg::qr_triangle(&a).unwrap().size(), [batch, 6, 6]);
        assert_eq!(linalg::qr_triangle(&a.transpose(1, 2)).unwrap().size(), [batch, 6, 9]);
        if batch > 0 {
            let allowed = apart(Kind::Double, &[6, 6, 6]) * max(&expected);
            assert!(max(&(&values - &expected)) < allowed);
            assert!(max(&(linalg::spectra(&gram, 6).unwrap().flip([-1]) - &expected)) < allowed);
            assert!(max(&(gram.bmm(&vectors) - &vectors * values.unsqueeze(1))) < allowed);
            let (_, triangle) = Tensor::linalg_qr(&a, "r");
            assert_eq!(max(&(linalg::qr_triangle(&a).unwrap() - triangle)), 0.0);
        }
    }
    // What one part of the batch raises is told, and the next call is well.
    let broken = Tensor::full([8, 6, 6], f64::NAN, (Kind::Double, Device::Cpu));
    assert!(linalg::eigh(&broken).is_err());
    assert!(linalg::eigh(&Tensor::eye(6, (Kind::Double, Device::Cpu)).expand([8, 6, 6], false)).is_ok());
    assert_eq!(linalg::eigh(&rand(&[2, 3, 4], 1)).unwrap_err().exit_code(), 2);
}

/// Eigenvalues alone come from Gram matrices without rows, those with directions from rows: they are the same.
#[test]
fn eigenvalues_alone_are_those_that_come_with_directions() {
    for precision in [Kind::Float, Kind::Double] {
        let vae = ReluMlp::of(precision);
        for x in [rand(&[5, 1, 3, 4], 7), two_without_a_code()] {
            for kind in MetricKind::ALL {
                let values = |top: usize| {
                    let mut engine = Engine::new(kind, top, Device::Cpu, precision, BatchSize::Fixed(5)).unwrap();
                    engine.spectra(&vae, &x).unwrap().values
                };
                let (alone, beside) = (values(0), values(1));
                assert_eq!(alone.size(), beside.size(), "{kind}");
                assert!(alone.isnan().equal(&beside.isnan()), "{kind} {precision:?}");
                let (alone, beside) = (alone.nan_to_num(0.0, None, None), beside.nan_to_num(0.0, None, None));
                assert!(
                    max(&(&alone - &beside)) <= apart(precision, &[12, 9, 3]) * max(&beside),
                    "{kind} {precision:?}"
                );
            }
        }
    }
}

/// A network whose Jacobian is finite where its code is not: libtorch takes the derivative of ReLU at NaN to be 1, folded passes take 0.
struct ReluMlp {
    hidden: Tensor,
    mean: Tensor,
}

impl ReluMlp {
    fn new() -> Self {
        Self::of(Kind::Double)
    }

    fn of(kind: Kind) -> Self {
        let weight = |rows: i64, columns: i64, seed: u64| ((rand(&[rows, columns], seed) - 0.5) * 2.0).to_kind(kind);
        Self { hidden: weight(9, 12, 1), mean: weight(3, 9, 2) }
    }
}

impl Vae for ReluMlp {
    fn encode(&self, x: &Tensor) -> pullback::Result<Posterior> {
        let hidden = x.flatten(1, -1).linear(&self.hidden, None::<&Tensor>).relu();
        let mean = hidden.linear(&self.mean, None::<&Tensor>);
        Ok(Posterior { log_var: &mean * 0.5, mean })
    }
    fn decode(&self, z: &Tensor) -> pullback::Result<Tensor> {
        let hidden = z.linear(&self.mean.transpose(0, 1).contiguous(), None::<&Tensor>).relu();
        Ok(hidden.linear(&self.hidden.transpose(0, 1).contiguous(), None::<&Tensor>).reshape([-1, 1, 3, 4]))
    }
}

/// Five images, of which the second and the fourth have no finite code.
fn two_without_a_code() -> Tensor {
    let x = rand(&[5, 1, 3, 4], 7);
    let _ = x.get(1).get(0).get(1).get(2).fill_(f64::NAN);
    let _ = x.get(3).fill_(f64::INFINITY);
    x
}

/// Whether [5, ...] is NaN in the rows without a code, and finite in the others.
fn loses_two(t: &Tensor) -> bool {
    (0..5).all(|row| {
        let values = t.get(row);
        let wanted = if matches!(row, 1 | 3) { values.isnan() } else { values.isfinite() };
        bool::try_from(wanted.all()).unwrap()
    })
}

#[test]
fn a_code_that_is_not_finite_has_no_spectrum() {
    let (vae, x) = (ReluMlp::new(), two_without_a_code());
    let place = (Device::Cpu, Kind::Double);
    let spec = SpectrumSpec { pairs: 2, probes: 4, steps: 6, ..SpectrumSpec::default() };
    for kind in MetricKind::ALL.into_iter().chain([MetricKind::Decoder]) {
        let mut engine = Engine::new(kind, 1, place.0, place.1, BatchSize::Fixed(5)).unwrap();
        let found = engine.spectra(&vae, &x).unwrap();
        assert!(loses_two(&found.values) && loses_two(&found.directions.unwrap()), "{kind}");
        let bound = kind.rows(3).min(kind.dim(12, 3));
        let mut engine = LeadingEngine::new(kind, spec.clone(), 2, bound, 1, place, BatchSize::Fixed(5)).unwrap();
        let found = engine.leading(&vae, &x, &[0, 1, 2, 3, 4]).unwrap();
        assert!(loses_two(&found.values) && loses_two(&found.directions), "{kind}");
    }
}

#[test]
fn all_that_is_computed_from_a_jacobian_tells_that_there_is_no_code() {
    let (vae, x) = (ReluMlp::new(), two_without_a_code());
    for rows in [Mode::Looped, Mode::Vmapped(usize::MAX), Mode::Folded] {
        let ways = Ways { rows, columns: Mode::Looped };
        let metric = Metric::at(&vae, &x, MetricKind::Mean, ways).unwrap();
        // The Jacobian alone does not tell.
        let leaf = x.detach().set_requires_grad(true);
        let alone = jacobian::rows(&vae.encode(&leaf).unwrap().mean, &leaf, rows).unwrap();
        assert!(bool::try_from(alone.isfinite().all()).unwrap(), "{rows:?}");
        let v = rand(&[5, 12, 2], 3);
        for products in [metric.gram(), metric.factor(), metric.push_forward(&v), metric.apply(&v)] {
            assert!(loses_two(&products.unwrap()), "{rows:?}");
        }
        for solver in [Solver::Torch, Solver::Fused(Algorithm::Jacobi), Solver::Separate(Algorithm::Tridiagonal)] {
            let found = Spectrum::by(&metric, 2, solver).unwrap();
            assert!(loses_two(&found.values) && loses_two(&found.directions.unwrap()), "{rows:?} {solver:?}");
        }
    }
    let free = MatrixFree::at(&vae, &x, MetricKind::Mean, WAYS).unwrap();
    assert!(loses_two(&free.forward(&rand(&[5, 12, 2], 3)).unwrap()));
    assert!(loses_two(&free.adjoint(&rand(&[5, 3, 2], 4)).unwrap()));
}

/// mu = 2 x and logvar = 400 x: where x is 1/2, sigma is beyond single precision. So many of these samples are computed in double, one by
/// one; then the user wants it to stop.
struct Spread {
    left: Cell<usize>,
}

impl Vae for Spread {
    fn encode(&self, x: &Tensor) -> pullback::Result<Posterior> {
        // Whoever finds out which they are does not differentiate.
        if x.size()[0] == 1 && x.requires_grad() && x.max().double_value(&[]) > 0.25 {
            self.left.set(self.left.get().checked_sub(1).ok_or(Error::Interrupted)?);
        }
        let x = x.flatten(1, -1);
        Ok(Posterior { mean: &x * 2.0, log_var: &x * 400.0 })
    }
    fn decode(&self, z: &Tensor) -> pullback::Result<Tensor> {
        Ok(z.reshape([-1, 1, 1, 3]))
    }
}

#[test]
fn a_stop_leaves_the_samples_before_the_one_that_double_is_to_rescue() {
    let x = Tensor::zeros([5, 1, 1, 3], (Kind::Float, Device::Cpu));
    for row in [2, 4] {
        let _ = x.get(row).fill_(0.5);
    }
    for (left, kept) in [(9, 5), (1, 4), (0, 2)] {
        let vae = Spread { left: Cell::new(left) };
        let batch = BatchSize::Fixed(5);
        let mut engine = Engine::new(MetricKind::Stochastic, 1, Device::Cpu, Kind::Float, batch).unwrap();
        let Spectrum { values, directions } = engine.spectra(&vae, &x).unwrap();
        for found in [values, directions.unwrap()] {
            assert_eq!(found.size()[0], kept, "{left}");
            assert!(bool::try_from(found.isfinite().all()).unwrap(), "{left}: {found:?}");
        }
    }
}
