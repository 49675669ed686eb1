//! Convolutions by products and channels last against libtorch's own, values and derivatives.

use crate::roundoff::apart;
use crate::toy::{Collapsed, rand};
use pullback::ffi::adam::{AdamStep, changed, fused_adam, lr_kind};
use pullback::ffi::convolution::conv2d;
use pullback::metric::MetricKind;
use pullback::model::{self, Vae};
use pullback::spectrum::Spectra;
use tch::{Device, Kind, Tensor};

/// Channels in and out, side of an image and of the kernel, stride, padding: of one channel, of three, of many; of a map of a few
/// pixels; of one pixel whose window holds the image, and of one whose window does not; onto numbers of maps that fill vectors of 8 and of 16,
/// one or two at a time.
const CASES: [(i64, i64, i64, i64, i64, i64); 15] = [
    (1, 8, 28, 4, 2, 1),
    (3, 8, 9, 3, 1, 1),
    (4, 5, 8, 5, 3, 0),
    (16, 8, 12, 4, 2, 1),
    (16, 8, 6, 4, 2, 1),
    (16, 8, 3, 4, 2, 1),
    (16, 8, 2, 4, 2, 1),
    (6, 8, 5, 3, 3, 0),
    (6, 8, 1, 1, 1, 0),
    (16, 5, 12, 4, 2, 1),
    (1, 16, 28, 4, 2, 1),
    (3, 32, 15, 3, 1, 1),
    (16, 48, 13, 5, 3, 2),
    (5, 24, 12, 3, 2, 0),
    (2, 64, 30, 4, 2, 1),
];

fn like_libtorch(kind: Kind, batch: i64) {
    for (from, to, side, k, stride, padding) in CASES {
        let x = match batch {
            1 => rand(&[batch, from, side, side], 1),
            // Channels last.
            _ => rand(&[batch, side, side, from], 1).permute([0, 3, 1, 2]),
        };
        let x = x.to_kind(kind).set_requires_grad(true);
        let (weight, bias) = ((rand(&[to, from, k, k], 2) - 0.5).to_kind(kind), rand(&[to], 3).to_kind(kind));
        let ours = conv2d(&x, &weight, &bias, stride, padding).unwrap();
        let theirs = x.conv2d(&weight, Some(&bias), [stride, stride], [padding, padding], [1, 1], 1);
        assert_eq!(ours.size(), theirs.size());
        let what = format!("{from} to {to} channels, side {side}, kernel {k}, {kind:?}");
        let allowed = apart(kind, &[from * k * k]) * theirs.abs().max().double_value(&[]);
        assert!((&ours - &theirs).abs().max().double_value(&[]) <= allowed, "{what}");
        // Of a weighted sum, so that no cotangent is like another.
        let scale = rand(&ours.size(), 4).to_kind(kind);
        let derivative = |y: &Tensor| Tensor::run_backward(&[(y * &scale).sum(kind)], &[&x], false, false)[0].copy();
        let (ours, theirs) = (derivative(&ours), derivative(&theirs));
        let allowed = apart(kind, &[to * k * k]) * theirs.abs().max().double_value(&[]);
        assert!((&ours - &theirs).abs().max().double_value(&[]) <= allowed, "derivative, {what}");
    }
}

#[test]
fn every_way_gives_libtorchs_values_and_derivatives() {
    for batch in [1, 5] {
        like_libtorch(Kind::Float, batch);
        like_libtorch(Kind::Double, batch);
    }
}

#[test]
fn a_weight_that_changed_is_laid_out_anew() {
    let x = rand(&[2, 1, 8, 8], 1).to_kind(Kind::Float);
    let bias = Tensor::zeros([3], (Kind::Float, Device::Cpu));
    let mut weight = rand(&[3, 1, 4, 4], 2).to_kind(Kind::Float);
    let before = conv2d(&x, &weight, &bias, 2, 1).unwrap();
    let _ = weight.g_mul_scalar_(2.0);
    let after = conv2d(&x, &weight, &bias, 2, 1).unwrap();
    assert!((after - before * 2.0).abs().max().double_value(&[]) < 1e-5);
    // Another tensor, perhaps where the first one was.
    for seed in 3..20 {
        drop(weight);
        weight = rand(&[3, 1, 4, 4], seed).to_kind(Kind::Float);
        let ours = conv2d(&x, &weight, &bias, 2, 1).unwrap();
        let theirs = x.conv2d(&weight, Some(&bias), [2, 2], [1, 1], [1, 1], 1);
        assert!((ours - theirs).abs().max().double_value(&[]) < 1e-5, "{seed}");
    }
}

/// Whether the convolution of `x` is libtorch's: whether it uses the weight as it is now.
fn is_current(x: &Tensor, weight: &Tensor) -> bool {
    let bias = Tensor::zeros([3], (Kind::Float, Device::Cpu));
    let ours = conv2d(x, weight, &bias, 2, 1).unwrap();
    (ours - x.conv2d(weight, Some(&bias), [2, 2], [1, 1], [1, 1], 1)).abs().max().double_value(&[]) < 1e-5
}

#[test]
fn a_step_of_training_lays_weights_out_anew() {
    let x = rand(&[2, 1, 8, 8], 1).to_kind(Kind::Float);
    let weight = rand(&[3, 1, 4, 4], 2).to_kind(Kind::Float);
    assert!(is_current(&x, &weight));
    let like = || [weight.zeros_like()];
    let lr = Tensor::from(0.5).to_kind(lr_kind(Device::Cpu));
    let step = AdamStep { beta1: 0.9, beta2: 0.999, weight_decay: 0.0, eps: 1e-8 };
    let steps = [Tensor::zeros([], (Kind::Float, Device::Cpu))];
    let params = [weight.shallow_clone()];
    fused_adam(&params, &[weight.ones_like()], &like(), &like(), &steps, &lr, step).unwrap();
    assert!(is_current(&x, &weight));
    // A replay of a captured step writes without libtorch's knowledge.
    let _ = weight.data().g_mul_scalar_(2.0);
    assert!(!is_current(&x, &weight));
    changed(&params).unwrap();
    assert!(is_current(&x, &weight));
}

#[test]
fn an_evaluation_begins_with_the_weights_of_now() {
    let x = rand(&[2, 1, 8, 8], 1).to_kind(Kind::Float);
    let weight = rand(&[3, 1, 4, 4], 2).to_kind(Kind::Float);
    assert!(is_current(&x, &weight));
    // `.data` in Python: the version does not show the change.
    let _ = weight.data().g_mul_scalar_(2.0);
    assert!(!is_current(&x, &weight));
    Spectra::of(&Collapsed, &x, MetricKind::Mean, 0).unwrap();
    assert!(is_current(&x, &weight));
}

#[test]
fn what_libtorch_refuses_is_refused() {
    let bias = Tensor::zeros([3], (Kind::Float, Device::Cpu));
    let weight = rand(&[3, 1, 4, 4], 2).to_kind(Kind::Float);
    let conv =
        |side: i64, stride: i64| conv2d(&rand(&[2, 1, side, side], 1).to_kind(Kind::Float), &weight, &bias, stride, 0);
    assert!(conv(3, 2).unwrap_err().to_string().contains("Kernel size"));
    assert!(conv(8, 0).unwrap_err().to_string().contains("stride"));
    assert!(conv(4, 2).is_ok());
}

#[test]
fn a_weight_in_training_gets_its_gradient() {
    let x = rand(&[2, 1, 8, 8], 1).to_kind(Kind::Float);
    let bias = Tensor::zeros([3], (Kind::Float, Device::Cpu));
    let weight = rand(&[3, 1, 4, 4], 2).to_kind(Kind::Float).set_requires_grad(true);
    conv2d(&x, &weight, &bias, 2, 1).unwrap().sum(Kind::Float).backward();
    assert!(weight.grad().abs().max().double_value(&[]) > 0.0);
}

#[test]
fn products_come_in_slices() {
    // 12 KB an image unrolled, of which 4 MB are made at a time.
    let x = rand(&[700, 1, 28, 28], 1).to_kind(Kind::Float);
    let (weight, bias) = (rand(&[2, 1, 4, 4], 2).to_kind(Kind::Float), rand(&[2], 3).to_kind(Kind::Float));
    let theirs = x.conv2d(&weight, Some(&bias), [2, 2], [1, 1], [1, 1], 1);
    let gap = (conv2d(&x, &weight, &bias, 2, 1).unwrap() - &theirs).abs().max().double_value(&[]);
    assert!(gap <= apart(Kind::Float, &[16]) * theirs.abs().max().double_value(&[]), "{gap}");
}

/// TorchScript whose code is rewritten to these convolutions in single precision, and has libtorch's in double.
#[test]
fn a_script_says_the_same_in_both_precisions() {
    let at = |name: &str| crate::files::root().join("tests/models/maps").join(name).with_extension("pt");
    let x = rand(&[5, 1, 8, 8], 1);
    for name in ["viewed", "written", "strided", "counting"] {
        let mean = |kind: Kind| {
            let model = model::open(at(name), Device::Cpu, kind).unwrap();
            model.vae.encode(&x.to_kind(kind)).unwrap().mean.to_kind(Kind::Double)
        };
        let (single, double) = (mean(Kind::Float), mean(Kind::Double));
        // Two convolutions, the second of 6 x 3 x 3, and a linear map of 128.
        let allowed = apart(Kind::Float, &[9, 54, 128]) * double.abs().max().double_value(&[]).max(1.0);
        let gap = (single - &double).abs().max().double_value(&[]);
        assert!(gap <= allowed, "{name}: {gap}");
    }
}

#[test]
fn a_script_that_remembers_is_not_shared() {
    let shared = |name: &str| {
        let path = crate::files::root().join("tests/models/maps").join(name).with_extension("pt");
        model::open(path, Device::Cpu, Kind::Float).unwrap().share().is_some()
    };
    assert!(shared("viewed") && !shared("counting"));
}

/// Code that writes in place does what it does in PyTorch, and its caller's tensors stay as they are: those that it is given, and those that
/// it returned before.
#[test]
fn code_that_writes_in_place_gives_what_pytorch_gives() {
    let at = |name: &str| crate::files::root().join("tests/models/maps").join(name);
    let stored = Tensor::read_safetensors(at("written.safetensors")).unwrap();
    let of = |name: &str| stored.iter().find(|(n, _)| n == name).unwrap().1.shallow_clone();
    let x = of("x");
    for name in ["late", "lent", "greedy", "desk", "listed", "chained", "frozen"] {
        for kind in [Kind::Float, Kind::Double] {
            let model = model::open(at(&format!("{name}.pt")), Device::Cpu, kind).unwrap();
            let given = x.to_kind(kind);
            let (mean, x_hat) = (of(&format!("{name}.mean")), of(&format!("{name}.x_hat")));
            let near = |found: &Tensor, expected: &Tensor, what: &str| {
                let gap = (found - expected).abs().max().double_value(&[]);
                let allowed = apart(kind, &[9, 54, 128, 5]) * expected.abs().max().double_value(&[]).max(1.0);
                assert!(gap <= allowed, "{name} {kind:?} {what}: {gap}");
            };
            let code = model.vae.encode(&given).unwrap().mean;
            near(&code, &mean, "mu");
            assert!(given.equal(&x.to_kind(kind)), "{name}: the images changed");
            let kept = code.copy();
            let first = model.vae.decode(&code).unwrap();
            assert!(code.equal(&kept), "{name}: the code changed");
            let _ = model.vae.decode(&(&code + 1.0)).unwrap();
            near(&first, &x_hat, "x_hat");
            // And back: by a leaf that requires a gradient, against differences.
            let leaf = given.copy().set_requires_grad(true);
            let sum = |x: &Tensor| model.vae.encode(x).unwrap().mean.sum(Kind::Double);
            let gradient = Tensor::run_backward(&[sum(&leaf)], &[&leaf], false, false).remove(0);
            if kind == Kind::Double {
                let step = rand(&[5, 1, 8, 8], 3) * 1e-6;
                let expected = (sum(&(&given + &step)) - sum(&(&given - &step))) / 2.0;
                let found = (gradient * &step).sum(Kind::Double);
                let gap = (&found - &expected).abs().double_value(&[]);
                assert!(gap <= 1e-4 * expected.abs().double_value(&[]), "{name}: {gap}");
            }
        }
    }
    let shared = |name: &str| model::open(at(name), Device::Cpu, Kind::Float).unwrap().vae.share().is_some();
    assert!(shared("late.pt") && shared("viewed.pt") && shared("rectified.pt"));
    assert!(!shared("desk.pt") && !shared("greedy.pt"));
}

#[test]
fn what_does_not_fit_is_an_error() {
    let x = rand(&[2, 2, 8, 8], 1).to_kind(Kind::Float);
    let (weight, bias) = (rand(&[3, 1, 4, 4], 2).to_kind(Kind::Float), rand(&[3], 3).to_kind(Kind::Float));
    assert!(conv2d(&x, &weight, &bias, 2, 1).is_err());
    assert!(conv2d(&x.flatten(1, -1), &weight, &bias, 2, 1).is_err());
}

/// Convolutions of a traced file, transposed ones too, are those that folded passes know.
#[test]
fn traced_convolutions_fold() {
    use pullback::ffi::{Graph, VjpMode, vjp};
    let file = crate::files::root().join("tests/models/maps/traced.pt");
    let model = model::open(&file, Device::Cpu, Kind::Double).unwrap();
    let x = rand(&[3, 1, 8, 8], 5).to_kind(Kind::Double).set_requires_grad(true);
    let mean = model.encode(&x).unwrap().mean;
    let image = model.decode(&mean).unwrap().flatten(1, -1);
    for (name, output) in [("encode", &mean), ("decode", &image)] {
        let cotangents = rand(&[4, 3, output.size()[1]], 6).to_kind(Kind::Double);
        let folded =
            vjp(output, &x, &cotangents, VjpMode::Folded, Graph::Constant).unwrap_or_else(|e| panic!("{name}: {e}"));
        let looped = vjp(output, &x, &cotangents, VjpMode::Looped, Graph::Constant).unwrap();
        assert!(folded.allclose(&looped, 1e-12, 1e-14, false), "{name}");
    }
}

/// Maps of the first and the second convolution, kernel, stride, padding and the images' channels and sides: back onto few channels
/// through lines of taps that are cut or filled up, and onto maps whose channels fill their last block or half of it, for vectors of 8 and
/// of 16; one and two lines of pixels at a time; with pixels that no tap reaches, and with a kernel smaller than its stride.
type Chain = (i64, [i64; 2], [i64; 2], [i64; 2], [i64; 2], [i64; 2]);
const CHAINS: [Chain; 11] = [
    (1, [16, 24], [4, 4], [2, 2], [1, 1], [16, 16]),
    (3, [8, 16], [3, 3], [2, 2], [1, 1], [13, 14]),
    (2, [24, 8], [5, 5], [3, 3], [2, 2], [17, 23]),
    (4, [8, 8], [2, 2], [3, 3], [0, 0], [11, 13]),
    (1, [8, 5], [3, 3], [1, 1], [1, 1], [12, 9]),
    (3, [40, 7], [4, 3], [2, 3], [1, 0], [18, 20]),
    (1, [32, 32], [4, 4], [2, 2], [1, 1], [28, 30]),
    (1, [32, 48], [4, 4], [2, 2], [1, 1], [15, 13]),
    (2, [48, 9], [5, 3], [2, 2], [2, 1], [14, 60]),
    (1, [16, 64], [3, 3], [3, 2], [1, 1], [9, 70]),
    (2, [3, 16], [4, 4], [2, 2], [1, 1], [15, 18]),
];

/// The weights of a chain and tanh of its last maps, flattened.
fn chained(chain: &Chain, x: &Tensor) -> (Vec<Tensor>, Tensor) {
    let (channels, maps, kernel, stride, padding, _) = chain;
    let weights: Vec<Tensor> = [(*channels, maps[0]), (maps[0], maps[1])]
        .map(|(from, to)| (rand(&[to, from, kernel[0], kernel[1]], 7) - 0.5).to_kind(Kind::Float))
        .into();
    let maps = weights.iter().fold(x.shallow_clone(), |maps, weight| {
        maps.conv2d(weight, None::<&Tensor>, stride, padding, [1, 1], 1).tanh()
    });
    (weights, maps.flatten(1, -1))
}

/// What sums of the chain, in f32, may be apart by where they are as large as `values`.
fn allowed(weights: &[Tensor], values: &Tensor, more: &[i64]) -> f64 {
    // A pixel is a sum over the first convolution's maps and taps, each of them one over the second's.
    let terms = weights.iter().map(|w| w.size()[0] * w.size()[2] * w.size()[3]).chain(more.iter().copied());
    apart(Kind::Float, &terms.collect::<Vec<_>>()) * values.abs().max().double_value(&[])
}

#[test]
fn folded_passes_give_what_autograd_gives() {
    use pullback::ffi::{Graph, VjpMode, vjp};
    for chain in &CHAINS {
        for batch in [1, 5] {
            let x = rand(&[batch, chain.0, chain.5[0], chain.5[1]], 8).to_kind(Kind::Float).set_requires_grad(true);
            let (weights, output) = chained(chain, &x);
            let cotangents = (rand(&[7, batch, output.size()[1]], 9) - 0.5).to_kind(Kind::Float);
            let of = |way| vjp(&output, &x, &cotangents, way, Graph::Constant).unwrap();
            let (folded, looped) = (of(VjpMode::Folded), of(VjpMode::Looped));
            let allowed = allowed(&weights, &looped, &[]);
            let gap = (folded - &looped).abs().max().double_value(&[]);
            assert!(gap <= allowed, "{chain:?}, batch {batch}: {gap} > {allowed}");
        }
    }
}

/// The rows of a linear layer's Jacobian are the same for all samples until each multiplies them by its own derivative.
#[test]
fn rows_that_samples_share_are_each_its_own_before_a_convolution() {
    use pullback::jacobian::{Mode, rows};
    for chain in &CHAINS {
        for batch in [1, 5] {
            let x = rand(&[batch, chain.0, chain.5[0], chain.5[1]], 8).to_kind(Kind::Float).set_requires_grad(true);
            let (weights, features) = chained(chain, &x);
            let width = features.size()[1];
            let head = (rand(&[6, width], 10) - 0.5).to_kind(Kind::Float);
            let output = features.linear(&head, None::<&Tensor>);
            let (folded, looped) = (rows(&output, &x, Mode::Folded).unwrap(), rows(&output, &x, Mode::Looped).unwrap());
            let allowed = allowed(&weights, &looped, &[width]);
            let gap = (folded - &looped).abs().max().double_value(&[]);
            assert!(gap <= allowed, "{chain:?}, batch {batch}: {gap} > {allowed}");
        }
    }
}
