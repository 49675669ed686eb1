//! Finds the fastest eigensolver on this device, on a pass of the job itself.

use super::{Solved, Solver};
use crate::device;
use crate::error::{Error, Result};
use crate::linalg;
use crate::metric::Metric;
use crate::ops::Reduce;
use std::time::{Duration, Instant};
use tch::{Device, Tensor};

/// Solvers that were tried on one pass.
#[derive(Debug)]
pub struct Contest {
    winner: Solver,
    samples: i64,
    rows: i64,
    /// Each solver's best time, or the error that stopped it; in the order of the trials.
    entries: Vec<(Solver, std::result::Result<Duration, String>)>,
}

/// How often each solver is tried; the first trial includes one-time costs.
const TRIES: usize = 2;
/// The largest difference from LAPACK, as a share of lambda_1, that a solver may have.
const AGREEMENT: f64 = 1e-9;

/// The matrices of a pass that LAPACK solves too, because a solver that is wrong on a device must not win: the first and the last, where a
/// launch ends. No more are checked, because they are copied to the host.
fn checked(samples: i64) -> Vec<i64> {
    let mut rows = vec![0, samples - 1];
    rows.dedup();
    rows
}

/// The rows of `x` [B, ...] that are checked, on the host.
fn to_check(x: &Tensor) -> Result<Tensor> {
    let rows = checked(x.size().first().copied().unwrap_or(0));
    let rows: Vec<Tensor> = rows.into_iter().map(|row| x.f_narrow(0, row, 1)).collect::<std::result::Result<_, _>>()?;
    Ok(Tensor::f_cat(&rows, 0)?.f_to_device(Device::Cpu)?)
}

impl Contest {
    /// Lets each of `solvers` find the spectra of `metric` with `top` directions twice, and waits for the device. Also returns the spectrum
    /// from the fastest solver that agrees with LAPACK; solvers that fail or do not agree are left out.
    ///
    /// # Errors
    /// The first solver's error if none is left: a Jacobian that is not finite, too little memory.
    pub(super) fn of(metric: &Metric, top: usize, solvers: &[Solver]) -> Result<(Self, Solved)> {
        let expected = by_lapack(metric)?;
        let mut entries = Vec::with_capacity(solvers.len());
        let mut best: Option<(Solver, Duration, Solved)> = None;
        let mut refusal = None;
        for &solver in solvers {
            match tried(metric, top, solver, &expected) {
                Ok((time, solved)) => {
                    entries.push((solver, Ok(time)));
                    if best.as_ref().is_none_or(|(_, least, _)| time < *least) {
                        best = Some((solver, time, solved));
                    }
                }
                Err(error) => {
                    entries.push((solver, Err(error.to_string())));
                    refusal = refusal.or(Some(error));
                }
            }
        }
        match (best, refusal) {
            (Some((winner, _, solved)), _) => {
                Ok((Self { winner, samples: metric.samples(), rows: metric.dimensions().0, entries }, solved))
            }
            (None, Some(error)) => Err(error),
            (None, None) => Err(Error::request("eigensolvers", "at least one", "none")),
        }
    }

    /// The fastest solver.
    pub fn winner(&self) -> Solver {
        self.winner
    }
}

fn tried(metric: &Metric, top: usize, solver: Solver, expected: &Tensor) -> Result<(Duration, Solved)> {
    let place = metric.device();
    let clocked = || -> Result<(Duration, Solved)> {
        device::synchronize(place)?;
        let start = Instant::now();
        let solved = Solved::by(metric, top, solver)?;
        device::synchronize(place)?;
        Ok((start.elapsed(), solved))
    };
    let (mut best, solved) = clocked()?;
    solved.ensure()?;
    ensure_right(&solved.spectrum.values, expected)?;
    for _ in 1..TRIES {
        best = best.min(clocked()?.0);
    }
    Ok((best, solved))
}

/// Eigenvalues of the samples to check, on the host.
fn by_lapack(metric: &Metric) -> Result<Tensor> {
    linalg::spectra(&to_check(&metric.gram()?)?, metric.rank_bound())
}

/// Compares the checked samples of `values` [B, min(R, D)] with LAPACK's.
fn ensure_right(values: &Tensor, expected: &Tensor) -> Result<()> {
    let values = to_check(values)?;
    let off = values.f_sub(expected)?.f_abs()?.max_over(1)?;
    let allowed = expected.f_select(1, 0)?.f_mul_scalar(AGREEMENT)?;
    // Not `some exceeds`, so that NaN fails too, except if there is no spectrum.
    let none = values.f_isnan()?.f_logical_and(&expected.f_isnan()?)?.f_all_dim(1, false)?;
    if off.f_le_tensor(&allowed)?.f_logical_or(&none)?.f_all()?.f_int64_value(&[])? == 1 {
        return Ok(());
    }
    let message = format!("eigenvalues off LAPACK's by {:.1e}", off.f_max()?.f_double_value(&[])?);
    Err(Error::numeric("eigensolver", message))
}

impl std::fmt::Display for Contest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} matrices of order {}", self.samples, self.rows)?;
        for (i, (solver, time)) in self.entries.iter().enumerate() {
            let comma = if i == 0 { ": " } else { ", " };
            match time {
                Ok(time) => write!(f, "{comma}{solver} {:.2} ms", 1e3 * time.as_secs_f64())?,
                Err(reason) => write!(f, "{comma}{solver} failed ({reason})")?,
            }
        }
        write!(f, "; taken: {}", self.winner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::ffi::kernels::Algorithm;
    use tch::Kind;

    fn metric(rows: i64) -> Metric {
        let place = (Kind::Float, Device::Cpu);
        Metric::from_factor(Tensor::arange(8 * rows * 50, place).sin().view([8, rows, 50])).unwrap()
    }

    #[test]
    fn all_are_tried_and_the_fastest_wins() {
        let solvers = [Solver::Fused(Algorithm::Jacobi), Solver::Separate(Algorithm::Tridiagonal), Solver::Torch];
        let (contest, solved) = Contest::of(&metric(40), 2, &solvers).unwrap();
        let least = contest.entries.iter().min_by_key(|(_, time)| time.clone().unwrap()).unwrap();
        assert_eq!((contest.winner(), contest.entries.len()), (least.0, 3));
        let expected = Solved::by(&metric(40), 2, Solver::Torch).unwrap().spectrum;
        assert!(solved.spectrum.values.allclose(&expected.values, 1e-9, 1e-9, false));
        let told = contest.to_string();
        assert!(told.starts_with("8 matrices of order 40: rotations in one launch "), "{told}");
        assert!(told.ends_with(&format!("; taken: {}", least.0)), "{told}");
    }

    #[test]
    fn who_cannot_is_passed_over() {
        // Too many rows for one launch; the library is for CUDA alone.
        let solvers = [Solver::Fused(Algorithm::Tridiagonal), Solver::Separate(Algorithm::Library), Solver::Torch];
        let (contest, _) = Contest::of(&metric(70), 0, &solvers).unwrap();
        assert_eq!(contest.winner(), Solver::Torch);
        assert_eq!(contest.to_string().matches("failed").count(), 2, "{contest}");
        let error = Contest::of(&metric(70), 0, &solvers[..1]).unwrap_err();
        assert!(error.to_string().contains("at most 64 rows"), "{error}");
        // What is no number is the model's fault, not a solver's: it has no spectrum by any of them.
        let factor = Tensor::arange(2 * 3 * 4, (Kind::Double, Device::Cpu)).sin().view([2, 3, 4]);
        let _ = factor.get(1).fill_(f64::NAN);
        let broken = Metric::from_factor(factor).unwrap();
        let (contest, solved) = Contest::of(&broken, 0, &[Solver::Torch, Solver::Fused(Algorithm::Jacobi)]).unwrap();
        assert!(contest.entries.iter().all(|(_, time)| time.is_ok()), "{contest}");
        let values = Vec::<f64>::try_from(solved.spectrum.values.select(1, 0)).unwrap();
        assert!(values[0] > 0.0 && values[1].is_nan(), "{values:?}");
    }

    #[test]
    fn who_is_wrong_does_not_win() {
        let (metric, expected) = (metric(20), by_lapack(&metric(20)).unwrap());
        let right = Solved::by(&metric, 0, Solver::Torch).unwrap().spectrum.values;
        ensure_right(&right, &expected).unwrap();
        for (row, shift, fits) in [(0, 1e-12, true), (0, 1e-6, false), (7, 1e-6, false), (7, f64::NAN, false)] {
            let wrong = right.copy();
            let _ = wrong.get(row).get(5).f_add_(&(right.get(row).get(0) * shift)).unwrap();
            assert_eq!(ensure_right(&wrong, &expected).is_ok(), fits, "{shift}");
        }
    }

    /// The check is no result, and must not be what comes back from the device: of a job's results, whose eigenvalues alone are
    /// R numbers a sample, it is below a hundredth already where 256 samples make a pass and 10,000 a job.
    #[test]
    fn the_check_is_a_small_part_of_what_comes_back() {
        for rows in [16, 64] {
            let gram =
                Metric::from_factor(Tensor::ones([256, rows, 70], (Kind::Float, Device::Cpu))).unwrap().gram().unwrap();
            let asked = to_check(&gram).unwrap();
            assert_eq!(asked.size(), [2, rows, rows]);
            assert!(asked.numel() * 50 < 10_000 * rows as usize, "{rows}");
        }
        assert_eq!((checked(1), checked(2)), (vec![0], vec![0, 1]));
    }
}
