//! Linear layers with a weight laid out for a few rows against libtorch's own, values and derivatives.

use crate::roundoff::apart;
use crate::toy::rand;
use pullback::ffi::convolution::forget_weights;
use pullback::ffi::linear::linear;
use pullback::ffi::{Graph, VjpMode, stem, vjp};
use tch::{Kind, Tensor};

fn layer(inputs: i64, outputs: i64, kind: Kind) -> (Tensor, Tensor) {
    ((rand(&[outputs, inputs], 2) - 0.5).to_kind(kind), rand(&[outputs], 3).to_kind(kind))
}

/// One row, a few, as many as are taken by the turned weight and one more.
#[test]
fn every_number_of_rows_gives_libtorchs_values_and_derivatives() {
    for kind in [Kind::Float, Kind::Double] {
        for rows in [1, 5, 256, 257] {
            let x = rand(&[rows, 30], 1).to_kind(kind).set_requires_grad(true);
            let (weight, bias) = layer(30, 7, kind);
            let (ours, theirs) = (linear(&x, &weight, &bias).unwrap(), x.linear(&weight, Some(&bias)));
            let allowed = apart(kind, &[30]) * theirs.abs().max().double_value(&[]);
            assert!((&ours - &theirs).abs().max().double_value(&[]) <= allowed, "{rows} rows, {kind:?}");
            let cotangents = rand(&[3, rows, 7], 4).to_kind(kind);
            let expected = cotangents.matmul(&weight);
            let allowed = apart(kind, &[7]) * expected.abs().max().double_value(&[]);
            for mode in [VjpMode::Looped, VjpMode::Vmapped, VjpMode::Folded] {
                let found = vjp(&ours, &x, &cotangents, mode, Graph::Constant).unwrap();
                assert!(
                    (found - &expected).abs().max().double_value(&[]) <= allowed,
                    "{rows} rows, {kind:?}, {mode:?}"
                );
            }
        }
    }
}

/// The derivative of a derivative, of a layer on the squares of another's outputs.
#[test]
fn it_can_be_derived_twice() {
    let x = rand(&[4, 6], 1).to_kind(Kind::Float).set_requires_grad(true);
    let ((w, b), (v, c)) = (layer(6, 5, Kind::Float), layer(5, 1, Kind::Float));
    let curvature = |layer: &dyn Fn(&Tensor, &Tensor, &Tensor) -> Tensor| {
        let y = layer(&layer(&x, &w, &b).square(), &v, &c).sum(Kind::Float);
        let slope = Tensor::run_backward(&[y], &[&x], true, true)[0].shallow_clone();
        Tensor::run_backward(&[slope.square().sum(Kind::Float)], &[&x], false, false)[0].copy()
    };
    let ours = curvature(&|x, w, b| linear(x, w, b).unwrap());
    let theirs = curvature(&|x, w, b| x.linear(w, Some(b)));
    let allowed = apart(Kind::Float, &[6, 5, 6, 5]) * theirs.abs().max().double_value(&[]);
    assert!(theirs.abs().max().double_value(&[]) > 0.0);
    assert!((ours - theirs).abs().max().double_value(&[]) <= allowed);
}

/// The graph begins with it, as with libtorch's.
#[test]
fn it_is_a_stem() {
    let x = rand(&[4, 1, 2, 3], 1).to_kind(Kind::Float).set_requires_grad(true);
    let (weight, bias) = layer(6, 5, Kind::Float);
    let output = linear(&x.flatten(1, -1), &weight, &bias).unwrap().tanh();
    let found = stem(&output, &x).unwrap().unwrap();
    assert!(found.0.equal(&weight.tr()));
}

#[test]
fn a_weight_that_changed_is_laid_out_anew() {
    let x = rand(&[4, 6], 1).to_kind(Kind::Float);
    let (mut weight, bias) = layer(6, 5, Kind::Float);
    for _ in 0..3 {
        let gap = (linear(&x, &weight, &bias).unwrap() - x.linear(&weight, Some(&bias))).abs().max();
        assert!(gap.double_value(&[]) < 1e-5);
        let _ = weight.g_mul_scalar_(2.0);
    }
}

/// A change that libtorch does not count is not seen by a few rows, whose weight is laid out already, and by fewer and by more rows at once.
#[test]
fn a_few_rows_take_the_weight_that_is_laid_out() {
    let (weight, bias) = layer(6, 5, Kind::Float);
    let is_current = |rows: i64| {
        let x = rand(&[rows, 6], 1).to_kind(Kind::Float);
        (linear(&x, &weight, &bias).unwrap() - x.linear(&weight, Some(&bias))).abs().max().double_value(&[]) < 1e-5
    };
    // Tests beside this one may make all weights forgotten at any moment, but not each time.
    let is_unseen = |rows: i64| {
        (0..20).any(|_| {
            forget_weights();
            assert!(is_current(rows));
            let _ = weight.data().g_mul_scalar_(-1.0);
            !is_current(rows)
        })
    };
    assert!(!is_unseen(8) && is_unseen(9) && is_unseen(256) && !is_unseen(257));
}

#[test]
fn a_weight_in_training_gets_its_gradient() {
    let x = rand(&[4, 6], 1).to_kind(Kind::Float);
    let (weight, bias) = layer(6, 5, Kind::Float);
    let (weight, bias) = (weight.set_requires_grad(true), bias.set_requires_grad(true));
    linear(&x, &weight, &bias).unwrap().sum(Kind::Float).backward();
    assert!(weight.grad().abs().max().double_value(&[]) > 0.0 && bias.grad().double_value(&[0]) == 4.0);
}

#[test]
fn what_does_not_fit_is_an_error() {
    let (weight, bias) = layer(6, 5, Kind::Float);
    for size in [&[4i64, 7][..], &[6], &[2, 4, 6]] {
        assert!(linear(&rand(size, 1).to_kind(Kind::Float), &weight, &bias).is_err(), "{size:?}");
    }
    assert!(linear(&rand(&[4, 6], 1).to_kind(Kind::Float), &weight, &rand(&[4], 3).to_kind(Kind::Float)).is_err());
}
