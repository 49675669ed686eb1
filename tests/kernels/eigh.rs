//! The eigensolvers: rotations and reduction, f32 and f64, values and vectors.

use super::{BRIMFUL, ORDERS, epsilon, largest, list, normal, plain};
use crate::device::devices;
use crate::roundoff::apart;
use pullback::ffi::kernels::{Algorithm, Eigenpairs, compiled, eigh, eigh_within, has_library};
use tch::{Device, Kind, Tensor};

const WAYS: [Algorithm; 2] = [Algorithm::Jacobi, Algorithm::Tridiagonal];

/// Named symmetric matrices [n, n] in f64.
fn matrices(n: i64) -> Vec<(&'static str, Tensor)> {
    let options = (Kind::Double, Device::Cpu);
    let (zero, eye, ones) = (Tensor::zeros([n, n], options), Tensor::eye(n, options), Tensor::ones([n, n], options));
    let step = Tensor::arange(n, options);
    let q = Tensor::linalg_qr(&normal(&[n, n], 5), "reduced").0;
    let with = |values: Tensor| {
        let a = (&q * values).mm(&q.transpose(0, 1));
        (&a + a.transpose(0, 1)) / 2.0
    };
    let random = normal(&[n, n], 1);
    let gram = |rows: Tensor| rows.mm(&rows.transpose(0, 1));
    let ramp = Tensor::logspace(-12.0, 12.0, n, 10.0, options);
    let scale = Tensor::logspace(-4.0, 4.0, n, 10.0, options).unsqueeze(1);
    let near = (Tensor::ones([n - 1], options)).diag(1) + Tensor::ones([n - 1], options).diag(-1);
    vec![
        ("random", &random + random.transpose(0, 1)),
        ("gram", gram(normal(&[n, 2 * n + 3], 2))),
        ("rank deficient", gram(normal(&[n, (n / 3).max(1)], 3))),
        ("zero", zero),
        ("identity", eye.shallow_clone()),
        ("ones", ones),
        ("graded", with(ramp)),
        ("ill-scaled rows", gram(normal(&[n, n + 5], 4) * scale)),
        ("clustered", with(1.0 + normal(&[n], 6) * 1e-9)),
        ("two values", with(step.ge(n as f64 / 2.0).to_kind(Kind::Double) + 1.0)),
        // Wilkinson's W+: pairs of eigenvalues that agree to many digits, with no small entry beside the diagonal.
        ("wilkinson", (&step - (n / 2) as f64).abs().diag(0) + near),
        ("diagonal", (step + 1.0).diag(0)),
    ]
}

/// Eigenvalues of `a` [B, n, n] against LAPACK's in double, and residual and orthogonality of the vectors, in units of
/// epsilon times the largest eigenvalue.
fn errors(a: &Tensor, found: &Eigenpairs, top: i64) -> (f64, f64, f64) {
    let unit = epsilon(a.kind());
    let (values, vectors) = (
        found.values.to_device(Device::Cpu).to_kind(Kind::Double),
        found.vectors.to_device(Device::Cpu).to_kind(Kind::Double),
    );
    let a = a.to_kind(Kind::Double);
    let expected = a.linalg_eigvalsh("L").flip([-1]);
    let scale = expected.abs().amax([1i64].as_slice(), true).clamp_min(1e-300);
    let off = (&values - &expected) / &scale;
    let image = vectors.bmm(&a) / scale.unsqueeze(-1);
    let residual = image - &vectors * (values.narrow(1, 0, top) / &scale).unsqueeze(-1);
    let product = vectors.bmm(&vectors.transpose(1, 2)) - Tensor::eye(top, (Kind::Double, Device::Cpu));
    (largest(&off) / unit, largest(&residual) / unit, largest(&product) / unit)
}

/// Every order, matrix, kind and way. Householder and Jacobi are backward stable: errors are a modest multiple of n epsilon.
/// Vectors of eigenvalues 1e-3 apart, beyond which none is orthogonalised, may lose 1e3 epsilon (as in LAPACK's dstein).
#[test]
fn eigenpairs_are_lapacks() {
    for device in devices() {
        for n in ORDERS.into_iter().chain(BRIMFUL) {
            // All vectors of small matrices, a few of large ones; the slowest ones leave out the middle of the list.
            let top = match n {
                ..34 => n,
                // Brimful without vectors.
                107 | 152 | 153 => 0,
                _ => 5,
            };
            let cases = matrices(n);
            for kind in [Kind::Double, Kind::Float] {
                for way in WAYS {
                    if n > 153 && way == Algorithm::Jacobi && kind == Kind::Float {
                        continue;
                    }
                    let every = if BRIMFUL.contains(&n) {
                        6
                    } else if n > 65 {
                        3
                    } else {
                        1
                    };
                    let chosen: Vec<_> = cases.iter().step_by(every).collect();
                    let stack: Vec<_> = chosen.iter().map(|(_, a)| a.to_kind(kind)).collect();
                    let batch = Tensor::stack(&stack, 0);
                    let found = eigh(&batch.to_device(device), top as usize, way).unwrap();
                    assert_eq!(found.values.size(), [stack.len() as i64, n]);
                    assert_eq!(found.vectors.size(), [stack.len() as i64, top, n]);
                    assert_eq!(found.values.device(), device);
                    for (i, (name, _)) in chosen.iter().enumerate() {
                        let row = |t: &Tensor| t.narrow(0, i as i64, 1);
                        let one = Eigenpairs {
                            values: row(&found.values),
                            vectors: row(&found.vectors),
                            outcome: row(&found.outcome),
                        };
                        let case = format!("{name} {n} {kind:?} {way:?} {device:?}");
                        assert_eq!(list(&one.outcome), [0.0], "{case}");
                        let (values, residual, product) = errors(&row(&batch), &one, top);
                        let bound = 16.0 + 4.0 * n as f64;
                        assert!(values < bound, "{case}: values off by {values} epsilon");
                        assert!(residual < bound, "{case}: residual {residual} epsilon");
                        assert!(product < 1e3 * (n as f64).sqrt(), "{case}: orthogonal to {product} epsilon");
                        let descending = list(&one.values).windows(2).all(|w| w[0] >= w[1]);
                        assert!(descending, "{case}");
                    }
                }
            }
        }
    }
}

/// The check above sees an error of one part in 1e10 in a value, and a vector that is turned by as much.
#[test]
fn an_error_would_be_seen() {
    let a = matrices(17)[1].1.unsqueeze(0);
    let found = eigh(&a, 3, Algorithm::Jacobi).unwrap();
    let bound = 16.0 + 4.0 * 17.0;
    assert!(errors(&a, &found, 3).0 < bound);
    let wrong = |values: Tensor, vectors: Tensor| {
        errors(&a, &Eigenpairs { values, vectors, outcome: found.outcome.shallow_clone() }, 3)
    };
    assert!(wrong(&found.values * (1.0 + 1e-10), found.vectors.copy()).0 > bound);
    let turned = &found.vectors + found.vectors.flip([1]) * 1e-10;
    assert!(wrong(found.values.copy(), turned).1 > bound);
    let nan = &found.values * f64::NAN;
    assert!(wrong(nan, found.vectors.copy()).0 > bound);
}

#[test]
fn eigenvalues_are_those_of_plain_rotations() {
    for device in devices() {
        for n in [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33] {
            let cases = matrices(n);
            let batch = Tensor::stack(&cases.iter().map(|(_, a)| a.shallow_clone()).collect::<Vec<_>>(), 0);
            for way in WAYS {
                let found = eigh(&batch.to_device(device), 0, way).unwrap();
                for (i, (name, a)) in cases.iter().enumerate() {
                    let rows: Vec<Vec<f64>> = list(a).chunks(n as usize).map(<[f64]>::to_vec).collect();
                    let expected = plain::eigenvalues(rows);
                    let scale = expected.iter().fold(0.0f64, |m, v| m.max(v.abs()));
                    for (got, expected) in list(&found.values.get(i as i64)).into_iter().zip(expected) {
                        let close = (got - expected).abs() <= f64::EPSILON * (16.0 + 4.0 * n as f64) * scale;
                        assert!(close, "{name} {n} {way:?} {device:?}: {got} against {expected}");
                    }
                }
            }
        }
    }
}

/// The second difference of order n: 2 - 2 cos(k pi / (n + 1)).
#[test]
fn a_closed_form() {
    for device in devices() {
        for n in [5i64, 40, 128] {
            let options = (Kind::Double, Device::Cpu);
            let beside = Tensor::ones([n - 1], options);
            let a = Tensor::eye(n, options) * 2.0 - beside.diag(1) - beside.diag(-1);
            for way in WAYS {
                let found = eigh(&a.unsqueeze(0).to_device(device), 0, way).unwrap();
                for (k, got) in (1..=n).rev().zip(list(&found.values)) {
                    let expected = 2.0 - 2.0 * (k as f64 * std::f64::consts::PI / (n + 1) as f64).cos();
                    let allowed = 4.0 * apart(Kind::Double, &[n, n]);
                    assert!((got - expected).abs() < allowed, "{way:?} {n}: {got} against {expected}");
                }
            }
        }
    }
}

#[test]
fn what_is_not_finite_is_flagged_and_stays_alone() {
    for device in devices() {
        for n in [3i64, 32, 40, 65] {
            for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                let a = normal(&[3, n, n], 8);
                let a = &a + a.transpose(1, 2);
                let _ = a.get(1).get(n - 1).get(1).fill_(bad);
                for way in WAYS {
                    let found = eigh(&a.to_device(device), 2, way).unwrap();
                    assert_eq!(list(&found.outcome), [0.0, 1.0, 0.0], "{n} {bad} {way:?}");
                    assert!(list(&found.values.get(1)).iter().all(|v| v.is_nan()));
                    assert!(list(&found.vectors.get(1)).iter().all(|v| v.is_nan()));
                    let alone = eigh(&a.narrow(0, 2, 1).to_device(device), 2, way).unwrap();
                    assert_eq!(list(&found.values.get(2)), list(&alone.values), "{n} {way:?}");
                }
            }
        }
    }
}

/// One sweep is not enough for a full matrix, and is for a diagonal one.
#[test]
fn too_few_sweeps_are_flagged() {
    for device in devices() {
        for n in [9i64, 40] {
            let full = normal(&[n, n], 9);
            let full = &full + full.transpose(0, 1);
            let batch = Tensor::stack(&[full, Tensor::eye(n, (Kind::Double, Device::Cpu))], 0).to_device(device);
            let found = eigh_within(1, &batch, 1, Algorithm::Jacobi).unwrap();
            assert_eq!(list(&found.outcome), [2.0, 0.0]);
            assert!(list(&found.values.get(0)).iter().all(|v| v.is_nan()));
            assert!(list(&found.values.get(1)).iter().all(|v| *v == 1.0));
            assert_eq!(list(&eigh(&batch, 1, Algorithm::Jacobi).unwrap().outcome), [0.0, 0.0]);
        }
    }
}

#[test]
fn scales_beyond_the_squares_of_a_kind() {
    for device in devices() {
        for (kind, scales) in [(Kind::Double, [1e-290, 1e290]), (Kind::Float, [1e-30, 1e30])] {
            for scale in scales {
                let a = matrices(20)[1].1.unsqueeze(0);
                let scaled = (&a * scale).to_kind(kind);
                for way in WAYS {
                    let found = eigh(&scaled.to_device(device), 2, way).unwrap();
                    let values = found.values.to_device(Device::Cpu).to_kind(Kind::Double) / scale;
                    let expected = a.linalg_eigvalsh("L").flip([-1]);
                    let off = largest(&(values - &expected)) / largest(&expected);
                    assert!(off < 50.0 * epsilon(kind), "{kind:?} {scale} {way:?}: {off}");
                }
            }
        }
    }
}

#[test]
fn only_the_lower_triangle_is_read() {
    for device in devices() {
        let a = matrices(12)[1].1.unsqueeze(0);
        let lower = (a.tril(0) + Tensor::full_like(&a, 7.0).triu(1)).to_device(device);
        for way in WAYS {
            let expected = eigh(&a.to_device(device), 0, way).unwrap().values;
            assert_eq!(list(&eigh(&lower, 0, way).unwrap().values), list(&expected), "{way:?}");
        }
    }
}

#[test]
fn an_empty_batch_and_wrong_requests() {
    let empty = Tensor::zeros([0, 4, 4], (Kind::Double, Device::Cpu));
    assert_eq!(eigh(&empty, 1, Algorithm::Jacobi).unwrap().values.size(), [0, 4]);
    for (size, top, kind) in [
        (vec![2, 3, 4], 0, Kind::Double),
        (vec![3, 3], 0, Kind::Double),
        (vec![1, 3, 3], 4, Kind::Double),
        (vec![1, 3, 3], 0, Kind::Int64),
        (vec![1, 0, 0], 0, Kind::Double),
    ] {
        let a = Tensor::zeros(&size[..], (kind, Device::Cpu));
        assert_eq!(eigh(&a, top, Algorithm::Tridiagonal).unwrap_err().exit_code(), 2, "{size:?}");
    }
    let a = Tensor::zeros([1, 3, 3], (Kind::Double, Device::Cpu));
    assert_eq!(eigh(&a, 0, Algorithm::Library).unwrap_err().exit_code(), 2);
}

/// A build with kernels has a libtorch with CUDA, which brings libcusolver; loading it takes no device.
#[test]
fn the_library_is_found() {
    assert_eq!(has_library(), compiled());
}

#[test]
fn the_library_agrees() {
    for device in devices().into_iter().filter(|d| d.is_cuda()) {
        assert!(has_library(), "libcusolver was not found");
        for n in [3, 33, 129, 256] {
            let cases = matrices(n);
            let batch = Tensor::stack(&cases.iter().map(|(_, a)| a.shallow_clone()).collect::<Vec<_>>(), 0);
            let found = eigh(&batch.to_device(device), 2, Algorithm::Library).unwrap();
            pullback::device::synchronize(device).unwrap();
            let (values, residual, product) = errors(&batch, &found, 2);
            assert!(values.max(residual).max(product) < 100.0 + 10.0 * n as f64, "{n}: {values} {residual} {product}");
        }
    }
}
