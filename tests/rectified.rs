//! A linear layer or a convolution and its ReLU as one operation, against libtorch's two.

use crate::roundoff::apart;
use crate::toy::rand;
use pullback::ffi::convolution::conv2d_relu;
use pullback::ffi::linear::linear_relu;
use pullback::ffi::{Graph, VjpMode, vjp};
use pullback::model;
use tch::{Device, Kind, Tensor};

fn largest(t: &Tensor) -> f64 {
    t.abs().max().double_value(&[])
}

/// Values and, in every mode, derivatives of `ours`, flattened, are those of `theirs`; sums have at most these terms.
fn alike(what: &str, x: &Tensor, ours: &Tensor, theirs: &Tensor, terms: &[i64]) {
    let (kind, batch) = (x.kind(), x.size()[0]);
    assert!(largest(&(ours - theirs)) <= apart(kind, terms) * largest(theirs), "{what}");
    assert_eq!(ours.min().double_value(&[]), 0.0, "{what}");
    let (ours, theirs) = (ours.flatten(1, -1), theirs.flatten(1, -1));
    let cotangents = rand(&[3, batch, ours.size()[1]], 5).to_kind(kind);
    let expected = vjp(&theirs, x, &cotangents, VjpMode::Looped, Graph::Constant).unwrap();
    for mode in [VjpMode::Looped, VjpMode::Vmapped, VjpMode::Folded] {
        let found = vjp(&ours, x, &cotangents, mode, Graph::Constant).unwrap();
        assert!(largest(&(found - &expected)) <= apart(kind, terms) * largest(&expected), "{what}, {mode:?}");
    }
}

#[test]
fn it_gives_what_two_operations_give() {
    for kind in [Kind::Float, Kind::Double] {
        for rows in [1, 9, 300] {
            let x = (rand(&[rows, 30], 1) - 0.5).to_kind(kind).set_requires_grad(true);
            let (w, b) = ((rand(&[17, 30], 2) - 0.5).to_kind(kind), (rand(&[17], 3) - 0.5).to_kind(kind));
            let theirs = x.linear(&w, Some(&b)).relu();
            alike(&format!("{rows} rows"), &x, &linear_relu(&x, &w, &b).unwrap(), &theirs, &[30, 17]);
        }
        // By the loop of our own, by a product of unrolled images, by a single place, and by oneDNN.
        for (batch, from, to, side, k, stride) in
            [(1, 1, 32, 28, 4, 2), (3, 3, 5, 9, 3, 1), (2, 16, 8, 2, 4, 2), (2, 8, 6, 12, 3, 1)]
        {
            let x = (rand(&[batch, from, side, side], 1) - 0.5).to_kind(kind).set_requires_grad(true);
            let (w, b) = ((rand(&[to, from, k, k], 2) - 0.5).to_kind(kind), (rand(&[to], 3) - 0.5).to_kind(kind));
            let theirs = x.conv2d(&w, Some(&b), [stride, stride], [1, 1], [1, 1], 1).relu();
            let ours = conv2d_relu(&x, &w, &b, stride, 1).unwrap();
            alike(&format!("{from} to {to} channels"), &x, &ours, &theirs, &[from * k * k, to * k * k]);
        }
    }
}

#[test]
fn what_is_not_a_number_stays() {
    let x = Tensor::from_slice(&[f32::NAN, 1.0]).view([2, 1]);
    let (w, b) = (Tensor::from_slice(&[1f32, -1.0]).view([2, 1]), Tensor::from_slice(&[0f32, 0.0]));
    let found = Vec::<f32>::try_from(linear_relu(&x, &w, &b).unwrap().flatten(0, -1)).unwrap();
    assert!(found[0].is_nan() && found[1].is_nan() && found[2..] == [1.0, 0.0], "{found:?}");
}

#[test]
fn a_weight_in_training_gets_its_gradient() {
    let x = rand(&[4, 6], 1).to_kind(Kind::Float);
    let w = rand(&[5, 6], 2).to_kind(Kind::Float).set_requires_grad(true);
    let b = rand(&[5], 3).to_kind(Kind::Float).set_requires_grad(true);
    linear_relu(&x, &w, &b).unwrap().sum(Kind::Float).backward();
    assert!(largest(&w.grad()) > 0.0 && b.grad().double_value(&[0]) == 4.0);
    let x = rand(&[1, 2, 6, 6], 1).to_kind(Kind::Float);
    let w = rand(&[8, 2, 4, 4], 2).to_kind(Kind::Float).set_requires_grad(true);
    conv2d_relu(&x, &w, &Tensor::zeros([8], (Kind::Float, Device::Cpu)), 2, 1).unwrap().sum(Kind::Float).backward();
    assert!(largest(&w.grad()) > 0.0);
}

/// Where others read a layer's output too, or a branch decides on it, both operations stay what the script says.
#[test]
fn a_script_says_what_it_says_in_python() {
    let at = |name: &str| crate::files::root().join("tests/models/maps").join(name);
    let stored = Tensor::read_safetensors(at("rectified.safetensors")).unwrap();
    let of = |name: &str| stored.iter().find(|(n, _)| n == name).unwrap().1.shallow_clone();
    let (x, mean) = (of("x"), of("mean"));
    for kind in [Kind::Float, Kind::Double] {
        let model = model::open(at("rectified.pt"), Device::Cpu, kind).unwrap();
        for (x, mean) in [(x.shallow_clone(), mean.shallow_clone()), (x.narrow(0, 0, 1), of("first"))] {
            let found = model.vae.encode(&x.to_kind(kind)).unwrap().mean;
            let gap = largest(&(found - &mean));
            assert!(gap <= apart(kind, &[9, 54, 128, 128, 128]) * largest(&mean).max(1.0), "{kind:?}: {gap}");
        }
    }
}
