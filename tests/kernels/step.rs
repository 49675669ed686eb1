//! The step of a gradient ascent: the kernel against libtorch's operations and against plain loops in double.

use super::{epsilon, list, normal, plain};
use crate::device::devices;
use crate::roundoff::apart;
use pullback::attack::{Budget, Landing, Norm};
use pullback::ffi::step::{Ball, Iterate, Step, take_step};
use tch::{Device, Kind, Tensor};

const SIZES: [i64; 12] = [1, 2, 31, 32, 33, 255, 256, 257, 784, 1023, 1024, 3072];
const BATCH: i64 = 7;

/// Clean images, iterates and gradients [7, d]: some pixels at the walls; a gradient that is zero, one with a NaN, one with
/// an infinity, a tiny one.
fn inputs(d: i64, kind: Kind) -> (Tensor, Tensor, Tensor) {
    let x0 = (normal(&[BATCH, d], 31) * 0.5 + 0.5).clamp(0.0, 1.0);
    let x = (&x0 + normal(&[BATCH, d], 32) * 0.1).clamp(0.0, 1.0);
    let gradient = normal(&[BATCH, d], 33);
    let _ = gradient.get(1).fill_(0.0);
    let _ = gradient.get(2).get(d / 2).fill_(f64::NAN);
    let _ = gradient.get(3).get(d - 1).fill_(f64::NEG_INFINITY);
    let tiny = if kind == Kind::Float { 1e-30 } else { 1e-200 };
    gradient.get(4).copy_(&(gradient.get(4) * tiny));
    (x0.to_kind(kind), x.to_kind(kind), gradient.to_kind(kind))
}

fn nothing(device: Device) -> Tensor {
    Tensor::zeros([BATCH], (Kind::Bool, device))
}

/// The lengths of a step and of the ball's radius, where the kernel reads them.
fn lengths(reach: f64, radius: f64, device: Device) -> Tensor {
    Tensor::from_slice(&[reach, radius]).to_device(device)
}

/// The images after the step; what is the best does not matter.
fn stepped(
    x0: &Tensor,
    x: &Tensor,
    gradient: &Tensor,
    stalled: &mut Tensor,
    lengths: &Tensor,
    step: Step,
) -> pullback::error::Result<Tensor> {
    let (mut next, mut best) = (x.copy(), x.copy());
    let value = Tensor::zeros([x0.size()[0]], (Kind::Double, x0.device()));
    let iterate = Iterate { x: &mut next, best: &mut best, damage: &mut value.copy(), stalled };
    take_step(iterate, x0, gradient, &value, lengths, step).map(|()| next)
}

/// One row by loops in double.
fn plainly(step: &Step, (reach, radius): (f64, f64), x0: &[f64], x: &[f64], g: &[f64]) -> Vec<f64> {
    let (low, high) = step.pixels.unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
    let usable: Vec<f64> = g
        .iter()
        .zip(x)
        .map(|(g, x)| if !g.is_finite() || (*g < 0.0 && *x <= low) || (*g > 0.0 && *x >= high) { 0.0 } else { *g })
        .collect();
    let largest = usable.iter().fold(0.0f64, |m, g| m.max(g.abs()));
    let norm = usable.iter().map(|g| (g / largest).powi(2)).sum::<f64>().sqrt() * largest;
    let direction = |i: usize| match step.ball {
        _ if largest == 0.0 => 0.0,
        Ball::L2 | Ball::Sphere => usable[i] / norm,
        Ball::Linf if usable[i] == 0.0 => 0.0,
        Ball::Linf => usable[i].signum(),
        Ball::L1 => 0.0,
    };
    let mut moved: Vec<f64> = (0..x.len()).map(|i| x[i] + reach * direction(i) - x0[i]).collect();
    if step.ball == Ball::L1 {
        // The largest entries first, each as far as its wall.
        let mut order: Vec<usize> = (0..x.len()).filter(|i| usable[*i] != 0.0).collect();
        order.sort_by(|a, b| usable[*b].abs().total_cmp(&usable[*a].abs()));
        let mut left = reach;
        for i in order {
            let wall = if usable[i] > 0.0 { high - x[i] } else { x[i] - low };
            let part = wall.min(left);
            moved[i] += part * usable[i].signum();
            left -= part;
        }
    }
    let length = moved.iter().map(|m| m * m).sum::<f64>().sqrt();
    let within = match step.ball {
        Ball::L2 => moved.iter().map(|m| m * (radius / length).min(1.0)).collect(),
        Ball::Linf => moved.iter().map(|m| m.clamp(-radius, radius)).collect(),
        Ball::L1 => plain::l1_projection(&moved, radius),
        Ball::Sphere => lengthened(&moved, x0, radius, (low, high)),
    };
    within.iter().zip(x0).map(|(m, x0)| (m + x0).clamp(low, high)).collect()
}

/// The step times the s for which it is as long as the radius, cut off by the box: by bisection.
fn lengthened(step: &[f64], x0: &[f64], radius: f64, (low, high): (f64, f64)) -> Vec<f64> {
    let cut = |s: f64| -> Vec<f64> { step.iter().zip(x0).map(|(d, x0)| (x0 + s * d).clamp(low, high) - x0).collect() };
    let size = |s: f64| cut(s).iter().map(|d| d * d).sum::<f64>().sqrt();
    let whole = step.iter().map(|d| d * d).sum::<f64>().sqrt();
    if whole == 0.0 {
        return step.to_vec();
    }
    let (mut short, mut long) = (radius / whole, radius / whole);
    while size(long) < radius && long < 1e30 {
        long *= 2.0;
    }
    for _ in 0..200 {
        let middle = 0.5 * (short + long);
        if size(middle) < radius { short = middle } else { long = middle }
    }
    cut(long)
}

/// Steps with their length and the ball's radius.
fn moves() -> Vec<(Step, f64, f64)> {
    let mut all = Vec::new();
    for ball in [Ball::L2, Ball::Linf, Ball::L1, Ball::Sphere] {
        for pixels in [None, Some((0.0, 1.0))] {
            for (radius, reach) in [(0.05, 0.2), (0.7, 0.1), (30.0, 2.0), (1e-4, 1e-5)] {
                all.push((Step { ball, pixels }, reach, radius));
            }
        }
    }
    all
}

/// Entries are at most about 1: they are right to a few units of their last place; in L1 the threshold is a difference of
/// sums over d entries.
fn tolerance(kind: Kind, d: i64) -> f64 {
    epsilon(kind) * (16.0 + (d as f64).sqrt())
}

#[test]
fn steps_are_those_of_plain_loops() {
    for device in devices() {
        for kind in [Kind::Float, Kind::Double] {
            for d in SIZES {
                let (x0, x, gradient) = inputs(d, kind);
                for (step, reach, radius) in moves() {
                    let mut stalled = nothing(device);
                    let on = |t: &Tensor| t.to_device(device);
                    let both = lengths(reach, radius, device);
                    let next = stepped(&on(&x0), &on(&x), &on(&gradient), &mut stalled, &both, step).unwrap();
                    assert_eq!((next.kind(), next.size(), next.device()), (kind, x.size(), device));
                    let rows = |t: &Tensor| list(t).chunks(d as usize).map(<[f64]>::to_vec).collect::<Vec<_>>();
                    let (x0, x, g) = (rows(&x0), rows(&x), rows(&gradient));
                    for (b, got) in rows(&next).iter().enumerate() {
                        let expected = plainly(&step, (reach, radius), &x0[b], &x[b], &g[b]);
                        for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
                            let close = (got - expected).abs() <= tolerance(kind, d) * expected.abs().max(1.0);
                            assert!(close, "{step:?} {kind:?} row {b}, entry {i} of {d}: {got}, not {expected}");
                        }
                    }
                    // Rows 1 to 3: zero, NaN, infinity.
                    assert_eq!(list(&stalled), [0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0], "{step:?} {d}");
                }
            }
        }
    }
}

/// By the kernel and by operations: the best is kept where the damage is larger, or the first that is a number; then comes the
/// step.
#[test]
fn steps_by_kernel_are_those_by_operations() {
    let nan = f64::NAN;
    let before = [1.0, 1.0, nan, nan, 2.0, f64::NEG_INFINITY, 0.0];
    let value = [2.0, nan, -1.0, nan, 2.0, 0.0, -1.0];
    let taken = [true, false, true, false, false, true, false];
    for device in devices() {
        for kind in [Kind::Float, Kind::Double] {
            for d in SIZES {
                let (x0, x, gradient) = inputs(d, kind);
                let (x0, x, gradient) = (x0.to_device(device), x.to_device(device), gradient.to_device(device));
                let old = x0.f_neg().unwrap();
                for (step, reach, radius) in moves() {
                    let both = lengths(reach, radius, device);
                    let mut stalled = nothing(device);
                    let next = stepped(&x0, &x, &gradient, &mut stalled, &both, step).unwrap();
                    let norm = match step.ball {
                        Ball::L2 | Ball::Sphere => Norm::L2,
                        Ball::Linf => Norm::Linf,
                        Ball::L1 => Norm::L1,
                    };
                    let landing = if step.ball == Ball::Sphere { Landing::Surface } else { Landing::Ball };
                    let budget = Budget::new(norm, radius, step.pixels).unwrap();
                    for by_kernel in [true, false] {
                        let (mut y, mut best, mut again) = (x.copy(), old.copy(), nothing(device));
                        let mut damage = Tensor::from_slice(&before).to_device(device);
                        let value = Tensor::from_slice(&value).to_device(device);
                        let iterate = Iterate { x: &mut y, best: &mut best, damage: &mut damage, stalled: &mut again };
                        if by_kernel {
                            take_step(iterate, &x0, &gradient, &value, &both, step).unwrap();
                            assert!(y.equal(&next), "{step:?} {kind:?} {d} {device:?}");
                        } else {
                            budget.take_step_by_operations(iterate, &x0, &gradient, &value, &both, landing).unwrap();
                            let off = super::largest(&(y - &next));
                            assert!(off <= 2.0 * tolerance(kind, d), "{step:?} {kind:?} {d} {device:?}: {off}");
                        }
                        assert!(again.equal(&stalled));
                        for b in 0..BATCH {
                            let new = taken[b as usize];
                            let expected = if new { x.get(b) } else { old.get(b) };
                            assert!(best.get(b).equal(&expected), "row {b} of {step:?}, by kernel: {by_kernel}");
                            let held = damage.double_value(&[b]);
                            let expected = if new { value.double_value(&[b]) } else { before[b as usize] };
                            assert!(held == expected || held.is_nan() && expected.is_nan(), "row {b}: {held}");
                        }
                    }
                }
            }
        }
    }
}

/// Without the box, or from the other side of it, the plain loops give something else.
#[test]
fn a_wrong_step_would_be_seen() {
    let (x0, x, gradient) = inputs(64, Kind::Double);
    let step = Step { ball: Ball::L2, pixels: Some((0.0, 1.0)) };
    let both = lengths(0.5, 0.7, Device::Cpu);
    let next = list(&stepped(&x0, &x, &gradient, &mut nothing(Device::Cpu), &both, step).unwrap());
    let (x0, x, g) = (list(&x0), list(&x), list(&gradient));
    let off = |step: &Step, radius: f64| {
        let expected = plainly(step, (0.5, radius), &x0[..64], &x[..64], &g[..64]);
        next.iter().zip(expected).fold(0.0f64, |m, (a, b)| m.max((a - b).abs()))
    };
    assert!(off(&step, 0.7) <= tolerance(Kind::Double, 64));
    assert!(off(&Step { pixels: None, ..step }, 0.7) > 1e-3);
    assert!(off(&step, 0.71) > 1e-3);
    assert!(off(&Step { ball: Ball::Linf, ..step }, 0.7) > 1e-3);
}

/// The projection onto the L1 ball is the nearest point: on the sphere, and every entry that is left was shortened alike.
#[test]
fn the_l1_projection_is_the_nearest_point() {
    for device in devices() {
        let d = 500;
        let x0 = Tensor::zeros([3, d], (Kind::Double, device));
        let x = normal(&[3, d], 41).to_device(device);
        let step = Step { ball: Ball::L1, pixels: None };
        let mut stalled = Tensor::zeros([3], (Kind::Bool, device));
        let next = stepped(&x0, &x, &x0, &mut stalled, &lengths(0.0, 3.0, device), step).unwrap();
        for (x, y) in list(&x).chunks(d as usize).zip(list(&next).chunks(d as usize)) {
            let size: f64 = y.iter().map(|y| y.abs()).sum();
            // The threshold is a quotient of sums over the entries, none of which is above 5.
            let allowed = 5.0 * apart(Kind::Double, &[d]);
            assert!((size - 3.0).abs() < allowed, "{size}");
            let cut: Vec<f64> = x.iter().zip(y).filter(|(_, y)| **y != 0.0).map(|(x, y)| x.abs() - y.abs()).collect();
            let threshold = cut[0];
            assert!(cut.iter().all(|c| (c - threshold).abs() < allowed) && cut.len() < d as usize);
            assert!(x.iter().zip(y).all(|(x, y)| *y != 0.0 || x.abs() <= threshold + allowed));
        }
    }
}

#[test]
fn stalled_samples_stay_stalled() {
    let (x0, x, gradient) = inputs(40, Kind::Float);
    let mut stalled = Tensor::ones([BATCH], (Kind::Bool, Device::Cpu));
    let step = Step { ball: Ball::Linf, pixels: None };
    let _ = stepped(&x0, &x, &gradient, &mut stalled, &lengths(0.1, 0.1, Device::Cpu), step).unwrap();
    assert_eq!(list(&stalled), [1.0; BATCH as usize]);
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let (x0, x, gradient) = inputs(40, Kind::Float);
    let step = Step { ball: Ball::L2, pixels: None };
    let both = lengths(0.1, 0.1, Device::Cpu);
    let mut stalled = nothing(Device::Cpu);
    assert!(stepped(&x0, &x.narrow(1, 0, 39), &gradient, &mut stalled, &both, step).is_err());
    assert!(stepped(&x0, &x, &gradient.to_kind(Kind::Double), &mut stalled, &both, step).is_err());
    assert!(stepped(&x0, &x, &gradient, &mut stalled.to_kind(Kind::Float), &both, step).is_err());
    assert!(stepped(&x0, &x, &gradient, &mut stalled, &both.to_kind(Kind::Float), step).is_err());
    assert!(stepped(&x0, &x, &gradient, &mut stalled, &both.narrow(0, 0, 1), step).is_err());
    assert!(stepped(&x0, &x, &gradient, &mut stalled.narrow(0, 0, 3), &both, step).is_err());
    // What is written stays where it is, so that it must lie plainly.
    let value = Tensor::zeros([BATCH], (Kind::Double, Device::Cpu));
    let wide = |t: &Tensor| Tensor::stack(&[t, t], -1).select(-1, 0);
    for (mut y, mut best, mut damage, fits) in [
        (x.copy(), x.copy(), value.copy(), true),
        (wide(&x), x.copy(), value.copy(), false),
        (x.copy(), wide(&x), value.copy(), false),
        (x.copy(), x.copy(), wide(&value), false),
        (x.copy(), x.copy(), value.to_kind(Kind::Float), false),
        (x.copy(), x.narrow(0, 0, 3), value.copy(), false),
    ] {
        let iterate = Iterate { x: &mut y, best: &mut best, damage: &mut damage, stalled: &mut stalled };
        assert_eq!(take_step(iterate, &x0, &gradient, &value, &both, step).is_ok(), fits);
    }
}
