//! Spectra by every solver, and which one is chosen.

use super::{largest, normal};
use crate::device::devices;
use crate::roundoff::eigenvalues_apart;
use pullback::ffi::kernels::Algorithm;
use pullback::metric::Metric;
use pullback::spectrum::{Solver, Spectrum};
use tch::{Device, Kind, Tensor};

const OURS: [Solver; 4] = [
    Solver::Fused(Algorithm::Jacobi),
    Solver::Fused(Algorithm::Tridiagonal),
    Solver::Separate(Algorithm::Jacobi),
    Solver::Separate(Algorithm::Tridiagonal),
];

#[test]
fn spectra_are_the_same_by_every_solver() {
    for device in devices() {
        // More rows than columns too, where only D eigenvalues are reported.
        for (rows, columns) in [(1, 30), (6, 30), (20, 50), (40, 50), (64, 20), (7, 4)] {
            let factor = normal(&[5, rows, columns], 51);
            // A row of zeros, and two equal ones.
            if rows > 3 {
                let _ = factor.get(1).get(2).fill_(0.0);
                factor.get(2).get(1).copy_(&factor.get(2).get(3));
            }
            let top = rows.min(columns).min(3) as usize;
            let metric = |device| Metric::from_factor(factor.to_device(device)).unwrap();
            let expected = Spectrum::by(&metric(Device::Cpu), top, Solver::Torch).unwrap();
            for solver in OURS {
                let found = Spectrum::by(&metric(device), top, solver).unwrap();
                let case = format!("{solver:?} {rows} x {columns} {device:?}");
                let values = found.values.to_device(Device::Cpu);
                assert_eq!(values.size(), expected.values.size(), "{case}");
                let off = largest(&(values - &expected.values)) / largest(&expected.values);
                let allowed = eigenvalues_apart(Kind::Double, &[], columns, rows);
                assert!(off < allowed, "{case}: {off}");
                // A vector turns by the error over the gap to the next value (Davis & Kahan), and the sign is fixed. One value alone, or
                // the last, has the gap to 0.
                let all = &expected.values / expected.values.narrow(1, 0, 1);
                let padded = Tensor::cat(&[&all, &Tensor::zeros([5, 1], (Kind::Double, Device::Cpu))], 1);
                let (above, below) = (padded.narrow(1, 0, top as i64), padded.narrow(1, 1, top as i64));
                let gap = (above - below).min().double_value(&[]);
                let off = found.directions.unwrap().to_device(Device::Cpu) - expected.directions.as_ref().unwrap();
                assert!(largest(&off) < 2.0 * allowed / gap, "{case}: {} with a gap of {gap}", largest(&off));
                assert!(Spectrum::by(&metric(device), 0, solver).unwrap().directions.is_none());
            }
        }
    }
}

#[test]
fn a_row_that_is_not_finite_is_nan_by_every_solver_and_costs_no_other() {
    for device in devices() {
        let factor = normal(&[4, 6, 9], 52);
        let whole = Metric::from_factor(factor.copy().to_device(device)).unwrap();
        let _ = factor.get(2).get(1).get(1).fill_(f64::INFINITY);
        let metric = Metric::from_factor(factor.to_device(device)).unwrap();
        for solver in OURS.into_iter().chain([Solver::Torch]) {
            let (found, expected) = [&metric, &whole].map(|m| Spectrum::by(m, 1, solver).unwrap()).into();
            for row in 0..4 {
                let of = |s: &Spectrum| (s.values.get(row), s.directions.as_ref().unwrap().get(row));
                let ((values, v), (want, w)) = (of(&found), of(&expected));
                if row == 2 {
                    let none = |t: &Tensor| bool::try_from(t.isnan().all()).unwrap();
                    assert!(none(&values) && none(&v), "{solver:?}: {values:?}");
                } else {
                    assert!(values.equal(&want) && v.equal(&w), "{solver:?}: row {row}");
                }
            }
        }
    }
}

/// The table of `Solver::choose`.
#[test]
fn the_table_of_solvers() {
    assert_eq!(Solver::choose(Device::Cpu, 20), Solver::Torch);
    let cases = [
        (1, Solver::Fused(Algorithm::Jacobi)),
        (32, Solver::Fused(Algorithm::Jacobi)),
        (33, Solver::Fused(Algorithm::Tridiagonal)),
        (64, Solver::Fused(Algorithm::Tridiagonal)),
        (65, Solver::Separate(Algorithm::Tridiagonal)),
        (197, Solver::Separate(Algorithm::Tridiagonal)),
        (198, Solver::Separate(Algorithm::Library)),
        (256, Solver::Separate(Algorithm::Library)),
    ];
    for (rows, expected) in cases {
        assert_eq!(Solver::on_cuda(rows, || true), expected, "{rows}");
    }
    assert_eq!(Solver::on_cuda(256, || false), Solver::Separate(Algorithm::Tridiagonal));
    assert_eq!(Solver::on_cuda(20, || unreachable!("not asked for")), Solver::Fused(Algorithm::Jacobi));
    // Who is asked to compete: the table's choice is always among them, and somebody always is.
    assert_eq!(Solver::candidates(Device::Cpu, 20, true), [Solver::Torch]);
    for rows in [1, 32, 33, 64, 65, 96, 97, 197, 198, 234, 235, 256, 4096] {
        for library in [true, false] {
            let all = Solver::candidates_on_cuda(rows, true, library);
            assert!(all.contains(&Solver::on_cuda(rows, || library)), "{rows} {library}: {all:?}");
            let separate = Solver::candidates_on_cuda(rows, false, library);
            assert!(!separate.is_empty() && separate.iter().all(|s| matches!(s, Solver::Separate(_))), "{separate:?}");
        }
    }
}

/// Where the kernels run, the engine takes them without being told.
#[test]
fn on_cuda_the_kernels_are_taken() {
    for device in devices().into_iter().filter(|d| d.is_cuda()) {
        assert_ne!(Solver::choose(device, 40), Solver::Torch);
        let metric = Metric::from_factor(Tensor::randn([3, 40, 60], (Kind::Double, device))).unwrap();
        assert_eq!(Spectrum::of(&metric, 1).unwrap().values.device(), device);
    }
}
