//! Which eigensolver is fastest here: asked of the device, on a pass of the job's own.

use super::{Solved, Solver};
use crate::device;
use crate::error::{Error, Result};
use crate::metric::Metric;
use std::time::{Duration, Instant};

/// Solvers that were tried on one pass.
#[derive(Debug)]
pub struct Contest {
    samples: i64,
    rows: i64,
    /// Each solver's best time, the fastest first; `Err` holds why it could not.
    entries: Vec<(Solver, std::result::Result<Duration, String>)>,
}

/// Times each solver is tried; the first pays for what is made once.
const TRIES: usize = 2;

impl Contest {
    /// Lets `solvers` take the spectra of `metric` with `top` directions, each twice; the device is waited for. With it comes
    /// the spectrum by the fastest.
    ///
    /// # Errors
    /// Where the Jacobian is not finite, and where no solver can take it.
    pub(super) fn of(metric: &Metric, top: usize, solvers: &[Solver]) -> Result<(Self, Solved)> {
        let mut entries = Vec::with_capacity(solvers.len());
        let mut first: Option<(Duration, Solved)> = None;
        for &solver in solvers {
            match tried(metric, top, solver) {
                Ok((time, solved)) => {
                    entries.push((solver, Ok(time)));
                    if first.as_ref().is_none_or(|(best, _)| time < *best) {
                        first = Some((time, solved));
                    }
                }
                // A solver's own failure: another may do.
                Err(error @ (Error::Native { .. } | Error::Torch(_))) => entries.push((solver, Err(error.to_string()))),
                Err(error) => return Err(error),
            }
        }
        entries.sort_by_key(|(_, time)| time.as_ref().map_or(Duration::MAX, |time| *time));
        let (rows, _) = metric.dimensions();
        match first {
            Some((_, solved)) => Ok((Self { samples: solved.spectrum.values.size()[0], rows, entries }, solved)),
            None => {
                let reasons: Vec<String> = entries
                    .iter()
                    .map(|(solver, reason)| format!("{solver}: {}", reason.as_ref().err().map_or("", String::as_str)))
                    .collect();
                Err(Error::Native { routine: "eigensolver", message: reasons.join("; ") })
            }
        }
    }

    /// The fastest.
    pub fn winner(&self) -> Solver {
        // There is one: `of` fails otherwise. The host's is as good a guess as any.
        self.entries.first().map_or(Solver::Torch, |(solver, _)| *solver)
    }
}

fn tried(metric: &Metric, top: usize, solver: Solver) -> Result<(Duration, Solved)> {
    let place = metric.device();
    let mut best: Option<(Duration, Solved)> = None;
    for _ in 0..TRIES {
        device::synchronize(place);
        let start = Instant::now();
        let solved = Solved::by(metric, top, solver)?;
        device::synchronize(place);
        let time = start.elapsed();
        solved.ensure()?;
        if best.as_ref().is_none_or(|(least, _)| time < *least) {
            best = Some((time, solved));
        }
    }
    best.ok_or_else(|| Error::Native { routine: "eigensolver", message: "not tried".to_owned() })
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
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::ffi::kernels::Way;
    use tch::{Device, Kind, Tensor};

    fn metric(rows: i64) -> Metric {
        let place = (Kind::Float, Device::Cpu);
        Metric::from_factor(Tensor::arange(8 * rows * 50, place).sin().view([8, rows, 50])).unwrap()
    }

    #[test]
    fn all_are_tried_and_the_fastest_wins() {
        let solvers = [Solver::Fused(Way::Jacobi), Solver::Separate(Way::Tridiagonal), Solver::Torch];
        let (contest, solved) = Contest::of(&metric(40), 2, &solvers).unwrap();
        let times: Vec<Duration> = contest.entries.iter().map(|(_, time)| time.clone().unwrap()).collect();
        assert!(times.len() == 3 && times.is_sorted());
        // On a host LAPACK is an order of magnitude ahead.
        assert_eq!(contest.winner(), Solver::Torch);
        let expected = Solved::by(&metric(40), 2, Solver::Torch).unwrap().spectrum;
        assert!(solved.spectrum.values.allclose(&expected.values, 1e-9, 1e-9, false));
        assert!(contest.to_string().starts_with("8 matrices of order 40: torch.linalg "), "{contest}");
    }

    #[test]
    fn who_cannot_is_passed_over() {
        // Too many rows for one launch; and the library is for CUDA alone.
        let solvers = [Solver::Fused(Way::Tridiagonal), Solver::Separate(Way::Library)];
        let wrong = Contest::of(&metric(70), 0, &solvers[1..]).unwrap_err();
        assert!(matches!(wrong, Error::Request { .. }), "{wrong:?}");
        let (contest, _) = Contest::of(&metric(40), 0, &[Solver::Separate(Way::Tridiagonal)]).unwrap();
        assert_eq!(contest.winner(), Solver::Separate(Way::Tridiagonal));
        // What is no number is the model's fault, not a solver's.
        let broken = Metric::from_factor(Tensor::full([2, 3, 4], f64::NAN, (Kind::Double, Device::Cpu))).unwrap();
        let error = Contest::of(&broken, 0, &[Solver::Torch, Solver::Fused(Way::Jacobi)]).unwrap_err();
        assert!(error.to_string().contains("row 0"), "{error}");
    }
}
