//! Projection, measured by plain loops in f64.

use super::toy::{list, normal};
use crate::roundoff::{apart, unit};
use pullback::attack::{Budget, Norm, TOLERANCE};
use tch::{Kind, Tensor};

const D: usize = 784;
const NORMS: [Norm; 3] = [Norm::L2, Norm::Linf, Norm::L1];

/// 8 images of 784 pixels with many at the walls and many near 1, where f32 is coarsest.
fn images(kind: Kind) -> Tensor {
    (normal(11, 8, D) * 0.7 + 0.6).clamp(0.0, 1.0).to_kind(Kind::Float).to_kind(kind).view([8, 1, 28, 28])
}

/// Largest size over the samples, and smallest, by loops.
fn sizes(norm: Norm, x0: &Tensor, x: &Tensor) -> (f64, f64) {
    let (a, b) = (list(x0), list(x));
    let sizes: Vec<f64> = a
        .chunks(D)
        .zip(b.chunks(D))
        .map(|(a, b)| {
            let steps = a.iter().zip(b).map(|(a, b)| (b - a).abs());
            match norm {
                Norm::L2 => steps.map(|s| s * s).sum::<f64>().sqrt(),
                Norm::Linf => steps.fold(0.0, |m, s| if s <= m { m } else { s }),
                Norm::L1 => steps.sum::<f64>(),
            }
        })
        .collect();
    let fold = |f: fn(f64, f64) -> f64, first| sizes.iter().fold(first, |m, s| f(m, *s));
    (fold(f64::max, 0.0), fold(f64::min, f64::INFINITY))
}

#[test]
fn budgets_hold_to_a_millionth() {
    for kind in [Kind::Float, Kind::Double] {
        let x0 = images(kind);
        for norm in NORMS {
            for epsilon in [1e-9, 1e-7, 3e-6, 1e-4, 1e-3, 0.01, 0.1, 0.7, 3.0, 40.0] {
                for pixels in [None, Some((0.0, 1.0))] {
                    for reach in [1e-3, 1.0, 1.001, 50.0, 1e6] {
                        let budget = Budget::new(norm, epsilon, pixels).unwrap();
                        let step = budget.along(&normal(12, 8, D).view([8, 1, 28, 28])).unwrap();
                        let x = (&x0 + step.to_kind(kind) * (epsilon * reach)).to_kind(kind);
                        let y = budget.project(&x0, &x).unwrap();
                        let case = format!("{kind:?} {norm} {epsilon} {pixels:?} {reach}");
                        assert_eq!(y.kind(), kind);
                        let (largest, smallest) = sizes(norm, &x0, &y);
                        assert!(largest <= epsilon * (1.0 + TOLERANCE), "{case}: {largest:e}");
                        // Not by giving the budget away: the ball is reached where pixels are free to reach it.
                        // (A thousandth is more than the rounding of the pixels that share it: in L1 all 784.)
                        let coarse = if norm == Norm::L1 { 0.1 } else { 1e-4 };
                        if pixels.is_none() && reach > 1.0 && epsilon >= coarse {
                            assert!(smallest >= epsilon * (1.0 - 1e-3), "{case}: {smallest:e}");
                        }
                        if let Some((low, high)) = pixels {
                            assert!(list(&y).iter().all(|p| *p >= low && *p <= high), "{case}");
                        }
                        let measured = list(&budget.measure(&x0, &y).unwrap());
                        let top = measured.into_iter().fold(0.0, f64::max);
                        assert!(
                            (top - largest).abs() <= apart(Kind::Double, &[D as i64]) * largest,
                            "{case}: {top} {largest}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn plain_rounding_would_break_the_budget() {
    let x0 = images(Kind::Float);
    for (norm, epsilon) in [(Norm::L2, 1e-4), (Norm::Linf, 1e-3), (Norm::L1, 1e-3)] {
        let budget = Budget::new(norm, epsilon, None).unwrap();
        let step = budget.along(&normal(12, 8, D).view([8, 1, 28, 28])).unwrap() * epsilon;
        let x = (x0.to_kind(Kind::Double) + step).to_kind(Kind::Float);
        let (largest, _) = sizes(norm, &x0, &x);
        assert!(largest > epsilon * (1.0 + TOLERANCE), "{norm}: {largest:e}");
    }
}

#[test]
fn what_lies_within_stays() {
    let x0 = images(Kind::Float);
    for norm in NORMS {
        let budget = Budget::new(norm, 0.5, Some((0.0, 1.0))).unwrap();
        let step = budget.along(&normal(13, 8, D).view([8, 1, 28, 28])).unwrap() * 0.3;
        let x = (&x0 + step.to_kind(Kind::Float)).clamp(0.0, 1.0);
        assert!(budget.project(&x0, &x).unwrap() == x, "{norm}");
        assert!(budget.project(&x0, &x0).unwrap() == x0, "{norm}");
    }
}

#[test]
fn each_sample_may_have_its_own_radius() {
    let x0 = images(Kind::Float);
    let radius = [0.0, 1e-5, 1e-3, 0.02, 0.3, 1.0, 4.0, 1e-320];
    for norm in NORMS {
        let budget = Budget::new(norm, 1.0, None).unwrap();
        let x = &x0 + normal(14, 8, D).view([8, 1, 28, 28]).to_kind(Kind::Float) * 10.0;
        let y = budget.project_to(&x0, &x, &Tensor::from_slice(&radius)).unwrap();
        for (size, r) in list(&budget.measure(&x0, &y).unwrap()).into_iter().zip(radius) {
            // Iterates up to 16 away are rounded to single precision before they are brought back.
            let rounded = 16.0 * unit(Kind::Float);
            assert!(size <= r * (1.0 + TOLERANCE) && size >= r * 0.98 - rounded, "{norm}: {size} {r}");
        }
    }
}

/// max <g, d> over |d| <= 1 is the dual norm of g: |g|_2 for L2, |g|_1 for Linf, max |g| for L1.
#[test]
fn steepest_attains_the_dual_norm() {
    for scale in [1.0, 1e-30, 1e30] {
        let g = (normal(15, 8, D) * scale).to_kind(Kind::Float);
        for norm in NORMS {
            let budget = Budget::new(norm, 1.0, None).unwrap();
            let d = budget.steepest(&g).unwrap().to_kind(Kind::Double);
            let rows = g.to_kind(Kind::Double);
            let gained = (&rows * &d).sum_dim_intlist([1i64].as_slice(), false, Kind::Double);
            let dual = match norm {
                Norm::L2 => rows.square().sum_dim_intlist([1i64].as_slice(), false, Kind::Double).sqrt(),
                Norm::Linf => rows.abs().sum_dim_intlist([1i64].as_slice(), false, Kind::Double),
                Norm::L1 => rows.abs().amax([1i64].as_slice(), false),
            };
            // Entries are rounded to single precision, each by a share of itself, and no term is negative.
            let rounded = apart(Kind::Float, &[1]);
            for ratio in list(&(gained / dual)) {
                assert!((ratio - 1.0).abs() < rounded, "{norm} {scale}: {ratio}");
            }
            // Neither it nor the one along g leaves the ball.
            for d in [d, budget.along(&g).unwrap().to_kind(Kind::Double)] {
                let size = list(&budget.measure(&d.zeros_like(), &d).unwrap());
                assert!(size.iter().all(|s| (s - 1.0).abs() < rounded), "{norm} {scale}: {size:?}");
            }
        }
    }
    let blank = Tensor::from_slice(&[0.0f32, 0.0, f32::NAN, 0.0]).view([2, 2]);
    for norm in NORMS {
        let budget = Budget::new(norm, 1.0, None).unwrap();
        assert_eq!(list(&budget.steepest(&blank).unwrap()), [0.0; 4]);
        assert_eq!(list(&budget.along(&blank).unwrap()), [0.0; 4]);
    }
}

/// In L1 the nearest point of the ball: entries that are left were all shortened alike, and no other was longer than that.
#[test]
fn the_l1_ball_is_reached_by_the_shortest_way() {
    let x0 = images(Kind::Double);
    for epsilon in [1e-3, 0.5, 20.0, 300.0] {
        let x = &x0 + normal(16, 8, D).view([8, 1, 28, 28]);
        let y = Budget::new(Norm::L1, epsilon, None).unwrap().project(&x0, &x).unwrap();
        let (x0, x, y) = (list(&x0), list(&x), list(&y));
        for i in 0..8 {
            let row = i * D..(i + 1) * D;
            let long: Vec<f64> = row.clone().map(|i| (x[i] - x0[i]).abs()).collect();
            let short: Vec<f64> = row.map(|i| (y[i] - x0[i]).abs()).collect();
            let cut = long.iter().zip(&short).map(|(l, s)| l - s).fold(0.0, f64::max);
            // The threshold is a quotient of sums over the pixels; none moved by more than 5.
            let allowed = 5.0 * apart(Kind::Double, &[D as i64]);
            for (l, s) in long.iter().zip(&short) {
                assert!((s - (l - cut).max(0.0)).abs() < allowed, "{epsilon}: {l} became {s}, not {l} - {cut}");
            }
            // Every threshold that is off by so much changes the sum by it as often as there are entries left.
            let left = short.iter().filter(|s| **s > 0.0).count() as f64;
            let gap = (short.iter().sum::<f64>() - epsilon).abs();
            assert!(gap < (left + 1.0) * allowed, "{epsilon}: {gap:e}, {left}");
        }
    }
}

#[test]
fn held_pixels_are_not_pushed() {
    let budget = Budget::new(Norm::L2, 1.0, Some((0.0, 1.0))).unwrap();
    let x = Tensor::from_slice(&[0.0, 0.0, 1.0, 1.0, 0.5]);
    let g = Tensor::from_slice(&[-1.0, 1.0, -1.0, 1.0, 1.0]);
    assert_eq!(list(&budget.admissible(&x, &g).unwrap()), [0.0, 1.0, -1.0, 0.0, 1.0]);
}

#[test]
fn bad_budgets_are_wrong_requests() {
    for epsilon in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let error = Budget::new(Norm::L2, epsilon, None).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().starts_with("eps (--eps): expected a finite number > 0, found"), "{error}");
    }
    for epsilon in [1.01 * Budget::LARGEST, 3.5e38, f64::MAX] {
        let error = Budget::new(Norm::Linf, epsilon, None).unwrap_err();
        assert!(
            error.exit_code() == 2 && error.to_string().starts_with("eps (--eps): expected at most 1e15"),
            "{error}"
        );
    }
    assert_eq!(Budget::new(Norm::L2, 1.0, Some((1.0, 0.0))).unwrap_err().exit_code(), 2);
    assert_eq!(Budget::new(Norm::L2, 1.0, Some((0.0, f64::NAN))).unwrap_err().exit_code(), 2);
}

/// A point of a convex set is the nearest where no other point of the set lies on the far side of it.
#[test]
fn ball_and_box_alone_are_reached_by_the_shortest_way() {
    let shaped = |key: u64| normal(key, 8, D).view([8, 1, 28, 28]) * 0.5;
    let x0 = images(Kind::Double);
    let x = &x0 + shaped(14);
    for norm in NORMS {
        let small = match norm {
            Norm::L2 => 3.0,
            Norm::Linf => 0.2,
            Norm::L1 => 40.0,
        };
        // A ball without a box, and a box within a ball.
        for (epsilon, pixels) in [(small, None), (1e6, Some((0.0, 1.0)))] {
            let budget = Budget::new(norm, epsilon, pixels).unwrap();
            let near = budget.project(&x0, &x).unwrap();
            let again = budget.project(&x0, &near).unwrap();
            assert!((again - &near).abs().max().double_value(&[]) < 1e-12, "{norm} {pixels:?}");
            for key in 20..30 {
                for from in [&x0, &x] {
                    let y = budget.project(&x0, &(from + shaped(key))).unwrap();
                    let beyond = ((&x - &near) * (y - &near)).flatten(1, -1);
                    let beyond = beyond.sum_dim_intlist(1i64, false, Kind::Double).max().double_value(&[]);
                    assert!(beyond < 1e-9, "{norm} {pixels:?}: {beyond:e}");
                }
            }
        }
    }
}

/// The nearest point to `x` of the L2 ball and the box together, by Dykstra's algorithm.
fn nearest(x0: &[f64], x: &[f64], epsilon: f64) -> Vec<f64> {
    let (mut y, mut p, mut q) = (x.to_vec(), vec![0.0; x.len()], vec![0.0; x.len()]);
    for _ in 0..2000 {
        let a: Vec<f64> = y.iter().zip(&p).map(|(y, p)| y + p).collect();
        let shrink = (epsilon / distance(&a, x0)).min(1.0);
        let b: Vec<f64> = x0.iter().zip(&a).map(|(o, a)| o + shrink * (a - o)).collect();
        p = a.iter().zip(&b).map(|(a, b)| a - b).collect();
        let c: Vec<f64> = b.iter().zip(&q).map(|(b, q)| b + q).collect();
        y = c.iter().map(|c| c.clamp(0.0, 1.0)).collect();
        q = c.iter().zip(&y).map(|(c, y)| c - y).collect();
    }
    y
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
}

/// First the ball, then the box: within both, and it stays; but where the box cuts, another point of both is nearer.
#[test]
fn ball_then_box_is_not_the_nearest_of_both() {
    let bright = super::toy::images(71, 6);
    for (x0, cut) in [((&bright - 0.45).clamp(0.0, 1.0), true), (bright.shallow_clone(), false)] {
        // Of the second images no pixel comes near a wall.
        let epsilon = if cut { 0.8 } else { 0.15 };
        let budget = Budget::new(Norm::L2, epsilon, Some((0.0, 1.0))).unwrap();
        let x = &x0 + normal(72, 6, 16).view([6, 1, 4, 4]);
        let found = budget.project(&x0, &x).unwrap();
        let again = budget.project(&x0, &found).unwrap();
        assert!((again - &found).abs().max().double_value(&[]) < 1e-12);
        let (origins, points, found) = (list(&x0), list(&x), list(&found));
        let mut gaps = vec![];
        for ((x0, x), found) in origins.chunks(16).zip(points.chunks(16)).zip(found.chunks(16)) {
            let best = nearest(x0, x, epsilon);
            assert!(distance(&best, x0) < epsilon + 1e-6 && best.iter().all(|p| (0.0..=1.0).contains(p)));
            gaps.push(distance(found, x) - distance(&best, x));
        }
        assert!(gaps.iter().all(|gap| *gap > -1e-6), "{gaps:?}");
        let largest = gaps.iter().copied().fold(0.0, f64::max);
        assert_eq!(largest > 1e-3, cut, "{gaps:?}");
    }
}
