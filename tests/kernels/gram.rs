//! The Gram kernel, alone and with the eigensolver behind it.

use super::{ORDERS, largest, list, normal, plain};
use crate::device::devices;
use crate::roundoff::eigenvalues_apart;
use pullback::ffi::kernels::{Algorithm, FACTOR_ORDER, factor_eigh, gram};
use tch::{Device, Kind, Tensor};

/// A bound on the rounding of a sum of `d` products in double: d epsilon |a_i| |a_j|.
fn bound(factor: &Tensor) -> Tensor {
    let wide = factor.to_kind(Kind::Double);
    let d = factor.size()[2] as f64;
    let length = wide.square().sum_dim_intlist([2i64].as_slice(), false, Kind::Double).sqrt();
    length.unsqueeze(2) * length.unsqueeze(1) * (d * f64::EPSILON)
}

#[test]
fn gram_matrices_are_those_of_plain_loops() {
    for device in devices() {
        for n in ORDERS {
            for d in [1, 31, 32, 33, 100] {
                for kind in [Kind::Float, Kind::Double] {
                    let factor = normal(&[2, n, d], 3).to_kind(kind);
                    let found = gram(&factor.to_device(device)).unwrap().to_device(Device::Cpu);
                    assert_eq!((found.size(), found.kind()), (vec![2, n, n], Kind::Double));
                    let wide = factor.to_kind(Kind::Double);
                    let expected = if n * d <= 3300 {
                        let sample = |b| {
                            let rows: Vec<_> = list(&wide.get(b)).chunks(d as usize).map(<[f64]>::to_vec).collect();
                            Tensor::from_slice(&plain::gram(&rows)).reshape([n, n])
                        };
                        Tensor::stack(&[sample(0), sample(1)], 0)
                    } else {
                        wide.bmm(&wide.transpose(1, 2))
                    };
                    let off = ((&found - expected).abs() / bound(&factor)).max().double_value(&[]);
                    assert!(off <= 2.0, "{n} x {d} {kind:?} {device:?}: {off}");
                    assert!(found == found.transpose(1, 2), "{n} x {d} {kind:?}: not symmetric");
                }
            }
        }
    }
}

/// Summed in single, it would be off by a million times that bound.
#[test]
fn a_gram_matrix_in_single_would_be_seen() {
    let factor = normal(&[1, 20, 100], 3).to_kind(Kind::Float);
    let single = factor.bmm(&factor.transpose(1, 2)).to_kind(Kind::Double);
    let exact = gram(&factor).unwrap();
    assert!(((single - exact).abs() / bound(&factor)).max().double_value(&[]) > 1e3);
}

#[test]
fn eigenpairs_of_factors_are_lapacks() {
    for device in devices() {
        for n in ORDERS.into_iter().filter(|n| *n <= FACTOR_ORDER) {
            for (d, kind) in [(5, Kind::Double), (70, Kind::Float), (70, Kind::Double)] {
                let factor = normal(&[3, n, d], 7).to_kind(kind);
                let wide = factor.to_kind(Kind::Double);
                let a = wide.bmm(&wide.transpose(1, 2));
                let expected = a.linalg_eigvalsh("L").flip([-1]);
                let top = n.min(4);
                for way in [Algorithm::Jacobi, Algorithm::Tridiagonal] {
                    let found = factor_eigh(&factor.to_device(device), top as usize, way).unwrap();
                    assert_eq!(list(&found.outcome), [0.0; 3]);
                    let values = found.values.to_device(Device::Cpu);
                    let vectors = found.vectors.to_device(Device::Cpu);
                    let off = largest(&(&values - &expected)) / largest(&expected);
                    let allowed = eigenvalues_apart(Kind::Double, &[], d, n);
                    assert!(off < allowed, "{n} x {d} {way:?}: {off}");
                    let residual = vectors.bmm(&a) - &vectors * values.narrow(1, 0, top).unsqueeze(-1);
                    assert!(largest(&residual) < allowed * largest(&expected), "{n} x {d} {way:?}");
                }
            }
        }
    }
}

/// Two equal rows among 16 in single: the seventeenth digit of the Gram matrix tells rank 15 from 16.
#[test]
fn the_rank_of_a_factor_in_single_is_right() {
    for device in devices() {
        let factor = normal(&[1, 16, 300], 11).to_kind(Kind::Float);
        factor.get(0).get(3).copy_(&factor.get(0).get(9));
        for way in [Algorithm::Jacobi, Algorithm::Tridiagonal] {
            let values = list(&factor_eigh(&factor.to_device(device), 0, way).unwrap().values);
            let rank = values.iter().filter(|v| **v > 1e-10 * values[0]).count();
            assert_eq!(rank, 15, "{way:?} {device:?}: {values:?}");
            assert!(values[15].abs() < eigenvalues_apart(Kind::Double, &[], 300, 16) * values[0]);
        }
        // In single precision the zero is lost in the noise.
        let single = factor.bmm(&factor.transpose(1, 2)).linalg_eigvalsh("L");
        assert!(largest(&single.narrow(1, 0, 1)) > 1e-10 * largest(&single));
    }
}

#[test]
fn factors_that_are_not_finite_are_flagged() {
    for device in devices() {
        let factor = normal(&[3, 10, 40], 12).to_kind(Kind::Float);
        let _ = factor.get(2).get(4).get(39).fill_(f64::NAN);
        let found = factor_eigh(&factor.to_device(device), 1, Algorithm::Jacobi).unwrap();
        assert_eq!(list(&found.outcome), [0.0, 0.0, 1.0]);
    }
}

#[test]
fn wrong_requests_are_named() {
    let factor = |rows| Tensor::zeros([1, rows, 3], (Kind::Double, Device::Cpu));
    assert_eq!(factor_eigh(&factor(FACTOR_ORDER + 1), 0, Algorithm::Jacobi).unwrap_err().exit_code(), 2);
    assert_eq!(factor_eigh(&factor(3), 0, Algorithm::Library).unwrap_err().exit_code(), 2);
    assert_eq!(factor_eigh(&factor(3), 4, Algorithm::Jacobi).unwrap_err().exit_code(), 2);
    assert_eq!(gram(&Tensor::zeros([1, 2, 0], (Kind::Double, Device::Cpu))).unwrap_err().exit_code(), 2);
    assert_eq!(gram(&Tensor::zeros([1, 2, 2], (Kind::Half, Device::Cpu))).unwrap_err().exit_code(), 2);
}
