//! Metrics by way of the encoder's first linear map against metrics without it, and which graphs have one.

use crate::device::{here, on_each_device};
use crate::roundoff::{apart, eigenvalues_apart};
use crate::toy::{Collapsed, TanhMlp, rand};
use pullback::Result;
use pullback::data::ImageShape;
use pullback::ffi;
use pullback::jacobian::{BatchSize, Mode, Ways};
use pullback::metric::{Metric, MetricKind, StemCache};
use pullback::model::{Activation, ConvSpec, MlpSpec, ModelSpec, Network, Normalization, Posterior, Vae};
use pullback::spectrum::{Engine, Spectrum};
use tch::{Device, Kind, Tensor};

const WAYS: [Ways; 2] = [
    Ways { rows: Mode::Vmapped(usize::MAX), columns: Mode::Vmapped(usize::MAX) },
    Ways { rows: Mode::Looped, columns: Mode::Looped },
];

/// Largest |a - b| as a share of the largest |b|; NaN anywhere makes it infinite.
fn gap(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    let gap = (a - b).abs().max().double_value(&[]) / b.abs().max().double_value(&[]);
    if gap.is_nan() { f64::INFINITY } else { gap }
}

fn mlp(activation: Activation, normalization: Normalization, kind: Kind) -> Network {
    let image = Some(ImageShape { channels: 1, height: 5, width: 6 });
    let spec = MlpSpec { image, latent: 4, hidden: vec![12, 9], activation, normalization, ..MlpSpec::default() };
    Network::new(&ModelSpec::Mlp(spec), 3, here(), kind).unwrap()
}

/// Two ways to a metric of images of `d` pixels by way of `h` hidden units: the last product over these, against the QR factorisation
/// of the first layer (sums over d and h), products with both of its factors, and sums over d of what they give.
fn same(d: i64, h: i64) -> f64 {
    2.0 * apart(Kind::Double, &[d, h, d, h, h, d])
}

fn is_behind_a_stem(vae: &dyn Vae, x: &Tensor) -> bool {
    let x = x.detach().set_requires_grad(true);
    ffi::stem(&vae.encode(&x).unwrap().mean, &x).unwrap().is_some()
}

#[test]
fn a_metric_behind_a_stem_is_the_same_metric() {
    on_each_device(|| {
        let x = rand(&[3, 1, 5, 6], 7);
        let models: [&dyn Vae; 3] = [
            &mlp(Activation::default(), Normalization::None, Kind::Double),
            &mlp(Activation::default(), Normalization::Batch, Kind::Double),
            &TanhMlp::new(30, 8, 4, 2),
        ];
        for (i, vae) in models.iter().enumerate() {
            assert!(is_behind_a_stem(*vae, &x), "model {i}");
            for kind in MetricKind::ALL {
                for ways in WAYS {
                    let plain = Metric::at(*vae, &x, kind, ways).unwrap();
                    let behind = Metric::behind(*vae, &x, kind, ways, &mut StemCache::default()).unwrap();
                    let (r, d) = plain.dimensions();
                    assert_eq!((behind.dimensions(), behind.rank_bound()), ((r, 30), plain.rank_bound()), "{kind}");
                    assert_eq!(d, 30);
                    assert!(behind.jacobian().unwrap().size()[2] < 30, "{kind} is no smaller");
                    assert!(
                        gap(&behind.factor().unwrap(), &plain.factor().unwrap()) < same(30, 12),
                        "model {i}, factor of {kind}"
                    );
                    assert!(
                        gap(&behind.gram().unwrap(), &plain.gram().unwrap()) < same(30, 12),
                        "model {i}, Gram of {kind}"
                    );
                    let (v, u) = (rand(&[3, 30, 2], 8), rand(&[3, 2, r], 9));
                    assert!(gap(&behind.apply(&v).unwrap(), &plain.apply(&v).unwrap()) < same(30, 12), "{kind}");
                    assert!(
                        gap(&behind.push_forward(&v).unwrap(), &plain.push_forward(&v).unwrap()) < same(30, 12),
                        "{kind}"
                    );
                    assert!(
                        gap(&behind.pull_back(&u).unwrap(), &plain.pull_back(&u).unwrap()) < same(30, 12),
                        "{kind}"
                    );
                }
            }
        }
    });
}

#[test]
fn spectra_behind_a_stem_are_as_accurate_as_without() {
    on_each_device(|| {
        // In single precision: the same eigenvalues within its rounding, and the same directions.
        let x = rand(&[6, 1, 5, 6], 7).to_kind(Kind::Float);
        let vae = mlp(Activation::Tanh, Normalization::None, Kind::Float);
        let exact = mlp(Activation::Tanh, Normalization::None, Kind::Double);
        let reference = Metric::at(&exact, &x.to_kind(Kind::Double), MetricKind::Stochastic, WAYS[0]).unwrap();
        let reference = Spectrum::of(&reference, 2).unwrap();
        let mut engine = Engine::new(MetricKind::Stochastic, 2, here(), Kind::Float, BatchSize::Auto).unwrap();
        let found = engine.spectra(&vae, &x).unwrap();
        let off = eigenvalues_apart(Kind::Float, &[30, 12, 9, 12], 30, 8);
        assert!(gap(&found.values, &reference.values) < off);
        // A direction turns by the metric's error over the distance to the next eigenvalue.
        let top = reference.values.narrow(1, 0, 3);
        let distance =
            (top.narrow(1, 0, 2) - top.narrow(1, 1, 2)).min().double_value(&[]) / top.max().double_value(&[]);
        let (a, b) = (found.directions.unwrap().to_kind(Kind::Double), reference.directions.unwrap());
        assert!(distance > 1e-3 && gap(&a, &b) < 2.0 * off / distance, "{distance}");
    });
}

/// A model whose encoder is a function of image [B, 1, 3, 4], weight [5, 12] and bias \[5\].
struct Of {
    weight: Tensor,
    bias: Tensor,
    encoder: fn(&Tensor, &Tensor, &Tensor) -> Tensor,
}

impl Of {
    fn new(encoder: fn(&Tensor, &Tensor, &Tensor) -> Tensor) -> Self {
        Self { weight: rand(&[5, 12], 2), bias: rand(&[5], 3), encoder }
    }
}

impl Vae for Of {
    fn encode(&self, x: &Tensor) -> Result<Posterior> {
        let mean = (self.encoder)(x, &self.weight, &self.bias);
        Ok(Posterior { log_var: mean.shallow_clone(), mean })
    }
    fn decode(&self, z: &Tensor) -> Result<Tensor> {
        Ok(z.unsqueeze(1).unsqueeze(1))
    }
}

#[test]
fn a_stem_is_where_nothing_else_sees_the_image() {
    let x = rand(&[2, 1, 3, 4], 1);
    let has = |encoder| is_behind_a_stem(&Of::new(encoder), &x);
    assert!(has(|x, w, b| x.flatten(1, -1).linear(w, Some(b)).tanh()));
    assert!(has(|x, w, _| x.view([2, 12]).view([-1, 12]).matmul(&w.transpose(0, 1)).tanh()));
    assert!(has(|x, w, b| {
        let h = x.flatten(1, -1).linear(w, Some(b));
        h.tanh() + h.sin()
    }));

    // The image is scaled first, is seen twice, is permuted, stands on the right, is mixed with another, is the bias.
    assert!(!has(|x, w, b| (x * 2.0).flatten(1, -1).linear(w, Some(b)).tanh()));
    assert!(!has(|x, w, b| x.flatten(1, -1).linear(w, Some(b)) + x.flatten(1, -1).narrow(1, 0, 5)));
    assert!(!has(|x, w, b| {
        let flat = x.flatten(1, -1);
        flat.linear(w, Some(b)) + flat.linear(&(w * 2.0), Some(b))
    }));
    assert!(!has(|x, w, b| x.transpose(2, 3).reshape([2, 12]).linear(w, Some(b))));
    assert!(!has(|x, w, _| w.matmul(&x.flatten(1, -1).transpose(0, 1)).transpose(0, 1)));
    assert!(!has(|x, _, _| x.view([1, 24]).matmul(&rand(&[24, 10], 4)).view([2, 5])));
    assert!(!has(|x, w, _| x.flatten(1, -1).addmm(&rand(&[2, 5], 4), &rand(&[5, 12], 5)).matmul(&w.transpose(0, 1))));
    // The weight is trained, the code is constant; a convolution.
    assert!(!has(|x, w, b| x.flatten(1, -1).linear(&w.detach().set_requires_grad(true), Some(b))));
    assert!(!is_behind_a_stem(&Collapsed, &x));
    let image = Some(ImageShape { channels: 1, height: 8, width: 8 });
    let conv = ModelSpec::Conv(ConvSpec { image, latent: 3, ..ConvSpec::default() });
    let conv = Network::new(&conv, 1, Device::Cpu, Kind::Double).unwrap();
    assert!(!is_behind_a_stem(&conv, &rand(&[2, 1, 8, 8], 1)));
}

#[test]
fn a_triangle_large_enough_is_multiplied_by_blocks() {
    on_each_device(|| {
        // 131 is no multiple of the number of blocks.
        let x = rand(&[3, 1, 14, 12], 1);
        let vae = TanhMlp::new(168, 131, 4, 2);
        for kind in [MetricKind::Stochastic, MetricKind::Output] {
            let plain = Metric::at(&vae, &x, kind, WAYS[0]).unwrap();
            let behind = Metric::behind(&vae, &x, kind, WAYS[0], &mut StemCache::default()).unwrap();
            assert_eq!(behind.jacobian().unwrap().size()[2], 131);
            assert!(gap(&behind.factor().unwrap(), &plain.factor().unwrap()) < same(168, 131), "{kind}");
        }
    });
}

#[test]
fn a_wide_first_layer_is_taken_as_it_is() {
    let x = rand(&[2, 1, 3, 4], 1);
    let vae = TanhMlp::new(12, 12, 3, 2);
    assert!(is_behind_a_stem(&vae, &x));
    let behind = Metric::behind(&vae, &x, MetricKind::Mean, WAYS[0], &mut StemCache::default()).unwrap();
    assert_eq!(behind.jacobian().unwrap().size(), [2, 3, 12]);
}

#[test]
fn weights_that_change_are_factored_anew() {
    on_each_device(|| {
        let x = rand(&[2, 1, 3, 4], 1);
        let vae = Of::new(|x, w, b| x.flatten(1, -1).linear(w, Some(b)).tanh());
        let mut stem = StemCache::default();
        let mut agree = |vae: &dyn Vae| {
            let plain = Metric::at(vae, &x, MetricKind::Mean, WAYS[0]).unwrap();
            let behind = Metric::behind(vae, &x, MetricKind::Mean, WAYS[0], &mut stem).unwrap();
            assert!(gap(&behind.factor().unwrap(), &plain.factor().unwrap()) < same(12, 6));
        };
        agree(&vae);
        agree(&vae);
        let _ = vae.weight.shallow_clone().g_mul_scalar_(-1.5).g_add_scalar_(0.1);
        agree(&vae);
        agree(&TanhMlp::new(12, 6, 3, 9));
        agree(&vae);
    });
}

#[test]
fn weights_that_are_made_in_every_pass_are_not_factored_forever() {
    let x = rand(&[2, 1, 3, 4], 1);
    let vae = Of::new(|x, w, b| x.flatten(1, -1).linear(&(w * 2.0), Some(b)).tanh());
    let mut stem = StemCache::default();
    let mut width = || {
        let behind = Metric::behind(&vae, &x, MetricKind::Mean, WAYS[0], &mut stem).unwrap();
        behind.jacobian().unwrap().size()[2]
    };
    let widths: Vec<i64> = (0..12).map(|_| width()).collect();
    assert_eq!((widths[0], widths[11]), (5, 12), "{widths:?}");
}
