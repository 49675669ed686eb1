//! The score kernel against plain loops and against the formulas of `score`.

use super::{list, plain};
use crate::device::devices;
use crate::roundoff::apart;
use crate::toy::rand;
use pullback::ffi::kernels;
use pullback::score::Score;
use tch::{Device, Kind, Tensor};

fn same(got: f64, expected: f64, tolerance: f64) -> bool {
    (got - expected).abs() <= tolerance * expected.abs().max(1.0) || (got.is_nan() && expected.is_nan())
}

/// Spectra [B, n]: descending, with every number of zeros at their end, over 24 orders of magnitude, flat, all zero.
fn spectra(n: i64) -> Tensor {
    let options = (Kind::Double, Device::Cpu);
    let uniform = rand(&[8, n], 21).sort(1, true).0;
    let keep =
        Tensor::arange(n, options).unsqueeze(0).lt_tensor(&(Tensor::arange(8, options).unsqueeze(1) * n as f64 / 7.0));
    let graded = Tensor::logspace(12.0, -12.0, n, 10.0, options).unsqueeze(0);
    Tensor::cat(&[&uniform * keep.to_kind(Kind::Double), graded, Tensor::ones([1, n], options), uniform * 1e-200], 0)
}

#[test]
fn scores_are_those_of_plain_loops_and_of_the_formulas() {
    for device in devices() {
        for n in [1, 2, 3, 31, 32, 33, 64, 65, 256, 257] {
            let values = spectra(n);
            let found = kernels::scores(&values.to_device(device)).unwrap();
            assert_eq!(found.size(), [values.size()[0], 10]);
            // Sums of n terms of either sign that reach |ln 1e-24|.
            let tolerance = apart(Kind::Double, &[n]) * 1e24f64.ln();
            for (row, (got, values)) in list(&found).chunks(10).zip(list(&values).chunks(n as usize)).enumerate() {
                for (name, (got, expected)) in Score::ALL.iter().zip(got.iter().zip(plain::scores(values))) {
                    assert!(same(*got, expected, tolerance), "{name}, row {row} of order {n}: {got}, not {expected}");
                }
            }
            for (i, name) in Score::ALL.iter().enumerate() {
                for (got, expected) in
                    list(&found.select(1, i as i64)).into_iter().zip(list(&name.of(&values).unwrap()))
                {
                    assert!(same(got, expected, tolerance), "{name} of order {n}: {got}, not {expected}");
                }
            }
        }
    }
}

#[test]
fn a_wrong_score_would_be_seen() {
    let largest = apart(Kind::Double, &[257]) * 1e24f64.ln();
    assert!(!same(1.0 + 1e-9, 1.0, largest));
    assert!(!same(f64::NAN, 1.0, largest) && !same(0.0, f64::NAN, largest));
    // The authors' entropy is no von Neumann entropy.
    let found = list(&kernels::scores(&Tensor::from_slice(&[3.0, 1.0]).unsqueeze(0)).unwrap());
    assert!(!same(found[2], found[3], 1e-3));
}

#[test]
fn wrong_requests_are_named() {
    for (size, kind) in [(vec![3], Kind::Double), (vec![2, 0], Kind::Double), (vec![2, 3], Kind::Float)] {
        let values = Tensor::zeros(&size[..], (kind, Device::Cpu));
        assert_eq!(kernels::scores(&values).unwrap_err().exit_code(), 2, "{size:?}");
    }
}
