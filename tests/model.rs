//! Tests of `model`. Expected values are PyTorch's: tests/models/make.py made them.

use crate::roundoff;
use pullback::data::ImageShape;
use pullback::model::{
    self, Activation, Architecture, ConvSpec, Gaussian, Likelihood, Mean, MlpSpec, ModelSpec, Network, Normalization,
    Phase, Posterior, Role, Sigma, Vae,
};
use std::collections::HashMap;
use std::path::PathBuf;
use tch::{Device, Kind, Tensor};

const CPU: Device = Device::Cpu;

fn folder() -> PathBuf {
    crate::files::root().join("tests/models")
}

fn expected(name: &str) -> HashMap<String, Tensor> {
    model::read_tensors(&folder().join(name)).unwrap().tensors.into_iter().collect()
}

/// Largest |a - b|; NaN where either has one or shapes differ.
pub fn distance(a: &Tensor, b: &Tensor) -> f64 {
    if a.size() != b.size() {
        return f64::NAN;
    }
    (a.to_kind(Kind::Double) - b.to_kind(Kind::Double)).abs().max().double_value(&[])
}

/// Fails on NaN too.
#[track_caller]
pub fn close(a: &Tensor, b: &Tensor, tolerance: f64) {
    let d = distance(a, b);
    assert!(d <= tolerance, "{:?} and {:?} differ by {d:e}, tolerance {tolerance:e}", a.size(), b.size());
}

fn image(channels: i64, height: i64, width: i64) -> Option<ImageShape> {
    Some(ImageShape { channels, height, width })
}

fn mlp() -> MlpSpec {
    MlpSpec { image: image(1, 4, 3), latent: 2, hidden: vec![5], ..MlpSpec::default() }
}

fn message<T: std::fmt::Debug>(result: pullback::Result<T>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.exit_code(), 2, "{error}");
    let text = error.to_string();
    assert!(!text.contains('\n'), "more than a line: {text}");
    text
}

#[test]
fn networks_compute_what_pytorch_does() {
    for name in ["mlp", "conv"] {
        let want = expected(&format!("{name}/expected.safetensors"));
        // Sums of the longest chain, to the last layer: those of the dense networks are shorter.
        let [encoder, decoder] = [[48, 64, 54, 8], [2, 8, 24, 16]];
        for kind in [Kind::Double, Kind::Float] {
            let close = |got: &Tensor, want: &Tensor, terms: &[i64]| {
                close(got, want, roundoff::apart(kind, terms) * roundoff::largest(want));
            };
            let network = model::network(&folder().join(name), CPU, kind).unwrap();
            let x = want["x"].to_kind(kind);
            let posterior = network.encode(&x).unwrap();
            close(&posterior.mean, &want["mean"], &encoder);
            close(&posterior.log_var, &want["log_var"], &encoder);
            close(&network.decode(&want["z"].to_kind(kind)).unwrap(), &want["x_hat"], &decoder);
            let logits = network.decode_logits(&want["z"].to_kind(kind), Phase::Eval).unwrap();
            close(&network.nll(&logits, &x).unwrap(), &want["nll"], &[&decoder[..], &[588]].concat());
        }
        // The check can fail: batch statistics are something else.
        let network = model::network(&folder().join("conv"), CPU, Kind::Double).unwrap();
        let want = expected("conv/expected.safetensors");
        let wrong = network.encode_in(&want["x"], Phase::Train).unwrap();
        assert!(distance(&wrong.mean, &want["mean"]) > 1e-3);
    }
}

#[test]
fn a_sample_does_not_depend_on_its_batch() {
    let network = model::network(&folder().join("conv"), CPU, Kind::Double).unwrap();
    let x = &expected("conv/expected.safetensors")["x"];
    let all = network.encode(x).unwrap().mean;
    let allowed = roundoff::apart(Kind::Double, &[48, 64, 54, 8]) * roundoff::largest(&all);
    for i in 0..x.size()[0] {
        close(&network.encode(&x.narrow(0, i, 1)).unwrap().mean, &all.narrow(0, i, 1), allowed);
    }
}

#[test]
fn weights_begin_as_pytorchs_layers_do() {
    let spec = ModelSpec::Mlp(MlpSpec { image: image(1, 28, 28), ..MlpSpec::default() });
    let network = Network::new(&spec, 7, CPU, Kind::Float).unwrap();
    // torch: nn.Linear(784, 512) is uniform on +-1/sqrt(784), weight and bias.
    let w = network.parameters().get("encoder.0.weight").unwrap();
    assert_eq!(w.size(), [512, 784]);
    let (low, high) = (w.min().double_value(&[]), w.max().double_value(&[]));
    assert!((-1.0..-0.99).contains(&(low * 28.0)) && (0.99..=1.0).contains(&(high * 28.0)), "{low} {high}");
    // The standard deviation of a uniform variable, within 5 standard errors.
    let sd = w.std(true).double_value(&[]);
    assert!((sd * 28.0 * 3f64.sqrt() - 1.0).abs() < 5.0 / (512.0 * 784.0f64).sqrt(), "{sd}");
    let count =
        784 * 512 + 512 + 512 * 512 + 512 + 2 * (512 * 32 + 32) + 32 * 512 + 512 + 512 * 512 + 512 + 512 * 784 + 784;
    assert_eq!(network.parameters().count(), count);

    // One seed, one network, of either kind; another seed, another network.
    let double = Network::new(&spec, 7, CPU, Kind::Double).unwrap();
    let other = Network::new(&spec, 8, CPU, Kind::Float).unwrap();
    for ((slot, a), b) in network.parameters().iter().zip(double.parameters().tensors()) {
        assert_eq!(distance(a, b), 0.0, "{}", slot.name);
        assert!(!a.requires_grad());
    }
    assert!(distance(w, other.parameters().get("encoder.0.weight").unwrap()) > 0.01);
    // Layers of one shape do not begin alike.
    let (a, b) =
        (network.parameters().get("mean.weight").unwrap(), network.parameters().get("log_var.weight").unwrap());
    assert!(distance(a, b) > 0.01);
}

#[test]
fn a_transposed_convolution_begins_as_pytorchs() {
    // torch: init._calculate_fan_in_and_fan_out(nn.ConvTranspose2d(6, 4, 4).weight) = (4 * 16, 6 * 16).
    let spec = ModelSpec::Conv(ConvSpec { image: image(3, 14, 14), channels: vec![4, 6], ..ConvSpec::default() });
    let network = Network::new(&spec, 0, CPU, Kind::Float).unwrap();
    let slot =
        network.parameters().slots().iter().find(|s| s.shape == [6, 4, 4, 4] && s.name.starts_with("decoder")).unwrap();
    assert_eq!(slot.role, Role::Affine { fan_in: 64 });
}

#[test]
fn every_option_gives_images_back() {
    use Activation::*;
    for (i, activation) in [Relu, LeakyRelu, Elu, Gelu, Silu, Tanh, Softplus, Sigmoid].into_iter().enumerate() {
        let normalization = if i % 2 == 0 { Normalization::None } else { Normalization::Batch };
        let learned = Gaussian { scale: Sigma::Learned, sigma: 0.3, mean: Mean::Sigmoid };
        let likelihood = if i % 3 == 0 { Likelihood::Gaussian(learned) } else { Likelihood::Bernoulli };
        for (c, side) in [(1, 28), (3, 32), (3, 64), (1, 30)] {
            let conv = ConvSpec {
                image: image(c, side, side),
                latent: 3,
                channels: vec![2; 1 + i % 4],
                hidden: [0, 6][i % 2],
                activation,
                normalization,
                likelihood,
            };
            let mlp =
                MlpSpec { image: conv.image, latent: 3, hidden: vec![4; i % 3], activation, normalization, likelihood };
            for spec in [ModelSpec::Conv(conv), ModelSpec::Mlp(mlp)] {
                let network = Network::new(&spec, 1, CPU, Kind::Float).unwrap();
                let x = Tensor::rand([2, c, side, side], (Kind::Float, CPU));
                let posterior = network.encode(&x).unwrap();
                assert_eq!((posterior.mean.size(), posterior.log_var.size()), (vec![2, 3], vec![2, 3]));
                let x_hat = network.decode(&posterior.mean).unwrap();
                assert_eq!(x_hat.size(), x.size(), "{spec:?}");
                let (low, high) = (x_hat.min().double_value(&[]), x_hat.max().double_value(&[]));
                assert!(low > 0.0 && high < 1.0, "{spec:?}: {low} {high}");
            }
        }
    }
}

#[test]
fn activations_are_the_named_functions() {
    let x = Tensor::from_slice(&[-2.0f64, -0.5, 0.0, 0.5, 2.0]);
    // Written out; erf(2/sqrt 2) and erf(0.5/sqrt 2) from mpmath.
    let (erf2, erf05) = (0.954_499_736_103_641_6, 0.382_924_922_548_026_2);
    type Function = fn(f64) -> f64;
    let cases: [(Activation, Function); 7] = [
        (Activation::Relu, |x| x.max(0.0)),
        (Activation::LeakyRelu, |x| if x < 0.0 { 0.01 * x } else { x }),
        (Activation::Elu, |x| if x < 0.0 { x.exp_m1() } else { x }),
        (Activation::Silu, |x| x / (1.0 + (-x).exp())),
        (Activation::Tanh, f64::tanh),
        (Activation::Softplus, |x| x.exp().ln_1p()),
        (Activation::Sigmoid, |x| 1.0 / (1.0 + (-x).exp())),
    ];
    for (activation, f) in cases {
        let want: Vec<f64> = [-2.0, -0.5, 0.0, 0.5, 2.0].map(f).to_vec();
        let want = Tensor::from_slice(&want);
        close(&activation.apply(&x).unwrap(), &want, roundoff::apart(Kind::Double, &[1]) * roundoff::largest(&want));
    }
    let gelu = [-(1.0 - erf2), -0.25 * (1.0 - erf05), 0.0, 0.25 * (1.0 + erf05), 1.0 + erf2];
    close(&Activation::Gelu.apply(&x).unwrap(), &Tensor::from_slice(&gelu), roundoff::apart(Kind::Double, &[2]) * 2.0);
}

#[test]
fn kl_is_the_closed_form() {
    let posterior = Posterior {
        mean: Tensor::from_slice2(&[[0.0f64, 0.0], [1.0, -2.0]]),
        log_var: Tensor::from_slice2(&[[0.0f64, 0.0], [4f64.ln(), 0.25f64.ln()]]),
    };
    // Per latent 1/2 (mu^2 + s^2 - 1 - ln s^2): 1/2 (1 + 4 - 1 - ln 4) + 1/2 (4 + 1/4 - 1 + ln 4) = 2 + 1.625.
    // Two latents of four terms, none above 4.
    let allowed = 4.0 * roundoff::apart(Kind::Double, &[8]);
    close(&posterior.kl().unwrap(), &Tensor::from_slice(&[0.0, 3.625]), allowed);
    close(&posterior.std().unwrap(), &Tensor::from_slice2(&[[1.0, 1.0], [2.0, 0.5]]), allowed);
    let z = posterior.sample(&Tensor::from_slice2(&[[1.0f64, -1.0], [0.5, 4.0]])).unwrap();
    close(&z, &Tensor::from_slice2(&[[1.0, -1.0], [2.0, 0.0]]), allowed);
    assert!(posterior.sample(&Tensor::zeros([2, 1], (Kind::Double, CPU))).is_err());
}

#[test]
fn what_is_saved_is_opened_again() {
    let temp = tempfile::tempdir().unwrap();
    let spec = ModelSpec::Conv(ConvSpec {
        image: image(1, 8, 8),
        latent: 2,
        channels: vec![3],
        normalization: Normalization::Batch,
        likelihood: Likelihood::Gaussian(Gaussian { scale: Sigma::Learned, ..Gaussian::default() }),
        ..ConvSpec::default()
    });
    let network = Network::new(&spec, 3, CPU, Kind::Float).unwrap();
    model::save(temp.path(), &network).unwrap();
    let opened = model::open(temp.path(), CPU, Kind::Float).unwrap();
    assert_eq!((opened.spec.as_ref(), opened.image, opened.latent), (Some(&spec), spec.image(), Some(2)));
    let x = Tensor::rand([3, 1, 8, 8], (Kind::Float, CPU));
    assert_eq!(distance(&opened.vae.encode(&x).unwrap().mean, &network.encode(&x).unwrap().mean), 0.0);

    // The same weights give the same bytes, and sha256sum the same sum.
    model::save(temp.path(), &network).unwrap();
    let sum = std::process::Command::new("sha256sum").arg(temp.path().join("model.safetensors")).output().unwrap();
    assert_eq!(opened.sha256, String::from_utf8(sum.stdout).unwrap()[..64]);
    // Nothing half-written stays.
    let mut names: Vec<_> = std::fs::read_dir(temp.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["config.yaml", "model.safetensors"]);

    // A config that is there is left alone, and only its model is read.
    let text = std::fs::read_to_string(temp.path().join("config.yaml")).unwrap() + "data: anything\n";
    std::fs::write(temp.path().join("config.yaml"), &text).unwrap();
    model::save(temp.path(), &network).unwrap();
    assert_eq!(std::fs::read_to_string(temp.path().join("config.yaml")).unwrap(), text);
    model::open(temp.path(), CPU, Kind::Double).unwrap();

    // Weights are not saved beside the description of another model, which they would be read as.
    let ModelSpec::Conv(conv) = &spec else { unreachable!() };
    let other = ModelSpec::Conv(ConvSpec { activation: Activation::Tanh, ..conv.clone() });
    let before = std::fs::read(temp.path().join("model.safetensors")).unwrap();
    let other = Network::new(&other, 4, CPU, Kind::Float).unwrap();
    let told = message(model::save(temp.path(), &other));
    assert!(told.contains("config.yaml: expected the model whose weights are saved beside it"), "{told}");
    assert!(std::fs::read(temp.path().join("model.safetensors")).unwrap() == before);
}

#[test]
fn widths_that_ask_for_too_much_together_are_refused() {
    let wide = |hidden: &[i64]| ModelSpec::Mlp(MlpSpec { hidden: hidden.to_vec(), ..mlp() });
    let told = message(Network::new(&wide(&[1 << 20, 1 << 20]), 0, CPU, Kind::Float));
    assert!(
        told.starts_with("model: expected widths of at most 4294967296 numbers in all tensors, found 2199"),
        "{told}"
    );
    assert!(told.ends_with("of shape [1048576, 1048576]"), "{told}");
    // Nor do products that no integer holds pass.
    let conv =
        ConvSpec { image: image(16, 4096, 4096), channels: vec![1 << 20], hidden: 1 << 20, ..ConvSpec::default() };
    message(Architecture::new(&ModelSpec::Conv(conv)));
    Architecture::new(&wide(&[1 << 14, 1 << 14])).unwrap();
}

/// Read by numpy, with the format taken from its description.
#[test]
fn python_reads_the_weights() {
    let temp = tempfile::tempdir().unwrap();
    let network = Network::new(&ModelSpec::Mlp(mlp()), 11, CPU, Kind::Float).unwrap();
    model::save(temp.path(), &network).unwrap();
    let program = r#"
import json, struct, sys
import numpy as np
raw = open(sys.argv[1], "rb").read()
n = struct.unpack("<Q", raw[:8])[0]
header = json.loads(raw[8:8 + n])
header.pop("__metadata__")
for name in sorted(header):
    h = header[name]
    a, b = h["data_offsets"]
    t = np.frombuffer(raw[8 + n + a:8 + n + b], {"F32": "<f4"}[h["dtype"]]).reshape(h["shape"])
    print(name, "x".join(map(str, t.shape)), repr(float(t.astype(np.float64).sum())))
"#;
    let python = crate::files::interpreter();
    let output = std::process::Command::new(python)
        .args(["-c", program])
        .arg(temp.path().join("model.safetensors"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told = String::from_utf8(output.stdout).unwrap();
    let mut lines = told.lines();
    let mut slots: Vec<_> = network.parameters().iter().collect();
    slots.sort_by_key(|(slot, _)| slot.name.clone());
    for (slot, tensor) in slots {
        let parts: Vec<_> = lines.next().unwrap().split(' ').collect();
        let shape = slot.shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("x");
        assert_eq!(parts[..2], [slot.name.as_str(), shape.as_str()]);
        let sum: f64 = parts[2].parse().unwrap();
        let size = tensor.abs().sum(Kind::Double).double_value(&[]);
        let allowed = roundoff::apart(Kind::Double, &[tensor.numel() as i64]) * size;
        assert!((sum - tensor.sum(Kind::Double).double_value(&[])).abs() <= allowed);
    }
    assert_eq!(lines.next(), None);
}

#[test]
fn broken_run_folders_are_named() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    let open = || message(model::open(temp.path(), CPU, Kind::Float));
    assert!(open().contains("no model.safetensors"), "{}", open());
    assert!(message(model::open(at("nothing"), CPU, Kind::Float)).contains("nothing"));

    let network = Network::new(&ModelSpec::Mlp(mlp()), 1, CPU, Kind::Float).unwrap();
    model::save(temp.path(), &network).unwrap();
    let (weights, config) =
        (std::fs::read(at("model.safetensors")).unwrap(), std::fs::read_to_string(at("config.yaml")).unwrap());

    std::fs::remove_file(at("config.yaml")).unwrap();
    assert!(open().contains("config.yaml"), "{}", open());
    for (text, told) in [
        ("a: [", "YAML"),
        ("train: {}\n", "a key `model`"),
        ("", "a key `model`"),
        ("model: {kind: vit}\n", "vit"),
        ("model: {kind: mlp, latnet: 3}\n", "latnet"),
        ("model: {kind: mlp, latent: 0}\n", "model.latent: expected 1 to"),
        ("model: {kind: mlp, latent: 3}\n", "model.image"),
    ] {
        std::fs::write(at("config.yaml"), text).unwrap();
        assert!(open().contains(told), "{text}: {}", open());
    }
    std::fs::write(at("config.yaml"), config.replace("latent: 2", "latent: 3")).unwrap();
    assert!(open().contains("decoder.0.weight: expected shape [5, 3]"), "{}", open());
    std::fs::write(at("config.yaml"), config.replace("- 5", "- 5\n  - 4")).unwrap();
    assert!(open().contains("expected"), "{}", open());

    std::fs::write(at("config.yaml"), &config).unwrap();
    for cut in [0, 5, 100, weights.len() - 1] {
        std::fs::write(at("model.safetensors"), &weights[..cut]).unwrap();
        assert!(open().contains("model.safetensors: expected a complete safetensors file"), "{}", open());
    }
    std::fs::write(at("model.safetensors"), vec![0x80u8; 4096]).unwrap();
    assert!(open().contains("something else"), "{}", open());
    let longer = [&weights[..], &[0]].concat();
    std::fs::write(at("model.safetensors"), longer).unwrap();
    assert!(open().contains("not as many as its header says"), "{}", open());

    let bias = network.parameters().get("mean.bias").unwrap();
    let _ = tch::no_grad(|| bias.get(1).fill_(f64::NAN));
    model::save(temp.path(), &network).unwrap();
    assert!(open().contains("tensor mean.bias: expected finite numbers"), "{}", open());

    let named = |skip: &str, extra: Option<&str>| {
        let all = network.parameters().iter().filter(|(s, _)| s.name != skip);
        let mut all: Vec<_> = all.map(|(s, t)| (s.name.clone(), t.zeros_like())).collect();
        all.extend(extra.map(|name| (name.to_owned(), Tensor::zeros([1], (Kind::Float, CPU)))));
        model::write_tensors(&at("model.safetensors"), &all, None).unwrap();
    };
    named("mean.bias", None);
    assert!(open().contains("a tensor mean.bias"), "{}", open());
    named("", Some("stranger"));
    assert!(open().contains("another one, stranger"), "{}", open());
    let text = message(model::open(at("model.safetensors"), CPU, Kind::Float));
    assert!(text.contains("a TorchScript file"), "{text}");
}

#[test]
fn specifications_have_ranges_and_refuse_unknown_keys() {
    let parse = |text: &str| serde_yaml::from_str::<ModelSpec>(text);
    let spec = parse("{kind: conv, channels: [8, 16], activation: gelu, normalization: batch}").unwrap();
    assert_eq!(parse(&serde_yaml::to_string(&spec).unwrap()).unwrap(), spec);
    assert_eq!(parse("{kind: mlp}").unwrap(), ModelSpec::default());
    assert!(parse("{kind: mlp, channels: [8]}").is_err());
    assert!(parse("{kind: mlp, likelihood: {kind: gaussian, sgima: 1}}").is_err());
    assert!(parse("{latent: 3}").is_err());

    let wrong = |spec: ModelSpec, key: &str| {
        let text = message(spec.validate());
        assert!(text.starts_with(&format!("{key}: expected")), "{text}");
    };
    wrong(ModelSpec::Mlp(MlpSpec { latent: 0, ..mlp() }), "model.latent");
    wrong(ModelSpec::Mlp(MlpSpec { hidden: vec![3, -1], ..mlp() }), "model.hidden[1]");
    wrong(ModelSpec::Mlp(MlpSpec { image: image(0, 2, 2), ..mlp() }), "model.image.channels");
    wrong(ModelSpec::Conv(ConvSpec { channels: vec![], ..ConvSpec::default() }), "model.channels");
    wrong(
        ModelSpec::Conv(ConvSpec { channels: vec![2; 5], image: image(1, 28, 28), ..ConvSpec::default() }),
        "model.channels",
    );
    let sigma = Likelihood::Gaussian(Gaussian { sigma: 0.0, ..Gaussian::default() });
    wrong(ModelSpec::Mlp(MlpSpec { likelihood: sigma, ..mlp() }), "model.likelihood.sigma");

    let mut spec = ModelSpec::default();
    spec.resolve(ImageShape { channels: 1, height: 28, width: 28 }).unwrap();
    assert_eq!(spec.image(), image(1, 28, 28));
    let text = message(spec.resolve(ImageShape { channels: 3, height: 32, width: 32 }));
    assert!(text.contains("model.image: expected 3x32x32"), "{text}");
}

#[test]
fn inputs_of_another_shape_are_refused() {
    let network = Network::new(&ModelSpec::Mlp(mlp()), 1, CPU, Kind::Float).unwrap();
    for shape in [vec![2, 1, 3, 4], vec![2, 12], vec![1, 4, 3], vec![2, 3, 4, 3]] {
        let text = message(network.encode(&Tensor::zeros(&shape, (Kind::Float, CPU))).map(|_| ()));
        assert!(text.contains("[-1, 1, 4, 3]"), "{text}");
    }
    message(network.decode(&Tensor::zeros([2, 3], (Kind::Float, CPU))));
}

#[test]
fn torchscript_computes_what_pytorch_does() {
    let want = expected("flat.safetensors");
    for kind in [Kind::Double, Kind::Float] {
        // One layer of six, one of two; numbers of size 1.
        let tolerance = roundoff::apart(kind, &[6, 2]);
        let model = model::open(folder().join("flat.pt"), CPU, kind).unwrap();
        let posterior = model.vae.encode(&want["x"].to_kind(kind)).unwrap();
        close(&posterior.mean, &want["mean"], tolerance);
        close(&posterior.log_var, &want["log_var"], tolerance);
        // Flat images take the shape of those encoded.
        let x_hat = model.vae.decode(&want["mean"].to_kind(kind)).unwrap();
        close(&x_hat, &want["x_hat"].reshape([3, 1, 2, 3]), tolerance);
        assert!(model.sha256.len() == 64 && model.spec.is_none());
    }
}

#[test]
fn wrong_torchscript_is_named() {
    let x = Tensor::zeros([3, 1, 2, 3], (Kind::Float, CPU));
    for (file, told) in [
        (
            "no_encode.pt",
            "expected a TorchScript module with a method encode(x) -> (mu, logvar), found no method encode",
        ),
        ("no_decode.pt", "found no method decode"),
        ("nan.pt", "nan.pt: tensor d.bias: expected finite numbers"),
        ("state_dict.pt", "a state dict of torch.save, weights alone"),
        ("make.py", "expected a TorchScript file (torch.jit.save) or a run folder, found something that is not a zip"),
        ("absent.pt", "absent.pt: expected a file or folder that exists"),
    ] {
        let text = message(model::open(folder().join(file), CPU, Kind::Float));
        assert!(text.contains(told), "{text}");
    }
    for (file, told) in [
        ("three.pt", "--outputs 0,1 to say which these are), found 3 tensors"),
        ("mixed.pt", "found a tuple of 2 (Tuple[Tensor, int])"),
        ("number.pt", "found a Double"),
        ("disagree.pt", "found mu [3, 2], logvar [3, 1]"),
    ] {
        let model = model::open(folder().join(file), CPU, Kind::Float).unwrap();
        let text = message(model.vae.encode(&x).map(|_| ()));
        assert!(text.contains(told) && text.contains(file) && text.contains("encode"), "{text}");
    }
    let flat = model::open(folder().join("flat.pt"), CPU, Kind::Float).unwrap();
    let other = model::open(folder().join("disagree.pt"), CPU, Kind::Float).unwrap();
    let large = Tensor::zeros([3, 1, 4, 4], (Kind::Float, CPU));
    let text = message(other.vae.encode(&large).map(|_| ()));
    assert!(text.contains("disagree.pt: encode") && text.contains("mat1 and mat2"), "{text}");
    let text = message(flat.vae.decode(&Tensor::zeros([3, 5], (Kind::Float, CPU))));
    assert!(text.contains("flat.pt: decode") && text.contains("mat1 and mat2"), "{text}");

    let temp = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(folder().join("flat.pt")).unwrap();
    for (cut, told) in [(0, "an empty file"), (bytes.len() / 2, "damaged"), (bytes.len() - 3, "damaged")] {
        std::fs::write(temp.path().join("cut.pt"), &bytes[..cut]).unwrap();
        let text = message(model::open(temp.path().join("cut.pt"), CPU, Kind::Float));
        assert!(text.contains(told) && text.contains("cut.pt"), "{text}");
    }
}

/// Gradients of encode and decode against central differences, in f64, twice: libtorch rewrites backward passes of
/// TorchScript from the second call on unless it is told not to.
fn check_gradients(vae: &dyn Vae, x: &Tensor) {
    type Field = fn(&dyn Vae, &Tensor) -> Tensor;
    let fields: [(&str, Field); 3] = [
        ("mean", |vae, x| vae.encode(x).unwrap().mean),
        ("log_var", |vae, x| vae.encode(x).unwrap().log_var),
        ("decode", |vae, x| vae.decode(x).unwrap()),
    ];
    for (name, f) in fields {
        let at = if name == "decode" { vae.encode(x).unwrap().mean } else { x.shallow_clone() };
        let weights = f(vae, &at).rand_like().detach();
        let value = |at: &Tensor| (f(vae, at) * &weights).sum(Kind::Double);
        let direction = at.randn_like();
        let phi = |t: f64| value(&(&at + &direction * t)).double_value(&[]);
        // Sums over inputs and over outputs, and as many in between.
        let (n, m) = (at.numel() as i64, weights.numel() as i64);
        let (difference, allowed) = roundoff::slope(phi, &[n, n.max(m), m]);
        for call in 0..4 {
            let leaf = at.detach().set_requires_grad(true);
            let grad = &Tensor::run_backward(&[value(&leaf)], &[&leaf], false, false)[0];
            let slope = (grad * &direction).sum(Kind::Double).double_value(&[]);
            let error = (slope - difference).abs();
            assert!(error <= allowed, "{name}, call {call}: {slope} {difference}, allowed {allowed:e}");
        }
        // The check can fail.
        assert!((1.01 * difference - difference).abs() > allowed || difference.abs() < 1e-4);
    }
}

#[test]
fn gradients_match_differences() {
    tch::manual_seed(5);
    for name in ["mlp", "conv"] {
        let network = model::network(&folder().join(name), CPU, Kind::Double).unwrap();
        check_gradients(&network, &expected(&format!("{name}/expected.safetensors"))["x"]);
    }
    let flat = model::open(folder().join("flat.pt"), CPU, Kind::Double).unwrap();
    check_gradients(flat.vae.as_ref(), &expected("flat.safetensors")["x"]);
}

#[test]
fn torchscript_gradients_on_the_golden_cases() {
    let cases = crate::files::root().join("../shared/golden/cases");
    let Ok(folders) = std::fs::read_dir(&cases) else {
        println!("skipped: no {}", cases.display());
        return;
    };
    tch::manual_seed(6);
    for case in folders.map(|e| e.unwrap().path()) {
        let model = model::open(case.join("vae.pt"), CPU, Kind::Double).unwrap();
        let file = hdf5::File::open(case.join("inputs.h5")).unwrap();
        let name = file.member_names().unwrap().into_iter().find(|n| n == "images" || n == "x").unwrap();
        let data = file.dataset(&name).unwrap();
        let shape: Vec<i64> = data.shape().iter().map(|&n| n as i64).collect();
        let x = Tensor::from_slice(&data.read_raw::<f64>().unwrap()).reshape(shape);
        check_gradients(model.vae.as_ref(), &x);
    }
}

/// K cotangents in one backward pass and in K, through every layer and through TorchScript; with a second derivative.
#[test]
fn vmapped_products_are_looped_ones() {
    use pullback::ffi::{Graph, VjpMode, vjp};
    tch::manual_seed(7);
    let folders = ["mlp", "conv", "flat.pt"];
    for (name, images) in folders.iter().zip(["mlp/expected", "conv/expected", "flat"]) {
        let model = model::open(folder().join(name), CPU, Kind::Double).unwrap();
        let x = expected(&format!("{images}.safetensors"))["x"].copy().set_requires_grad(true);
        let posterior = model.vae.encode(&x).unwrap();
        let z = posterior.mean.detach().set_requires_grad(true);
        let x_hat = model.vae.decode(&z).unwrap().flatten(1, -1);
        for (output, input) in [(&posterior.mean, &x), (&posterior.log_var, &x), (&x_hat, &z)] {
            let size = output.size();
            let cotangents = Tensor::randn([3, size[0], size[1]], (Kind::Double, CPU));
            let product = |mode| vjp(output, input, &cotangents, mode, Graph::Constant).unwrap();
            let (vmapped, looped) = (product(VjpMode::Vmapped), product(VjpMode::Looped));
            // The chain of sums of the longest network, each way.
            let terms = [48, 64, 54, 8, 8, 54, 64, 48];
            let allowed = roundoff::apart(Kind::Double, &terms) * roundoff::largest(&looped);
            close(&vmapped, &looped, allowed);
            assert!(looped.abs().max().double_value(&[]) > 1e-3);
            assert!(distance(&vmapped, &(looped * 1.001)) > allowed);
        }
        // J^T (J v) by differentiating the product once more: finite and, for v != 0, not zero.
        let cotangent = Tensor::ones_like(&x_hat).unsqueeze(0).set_requires_grad(true);
        let pulled = vjp(&x_hat, &z, &cotangent, VjpMode::Looped, Graph::Differentiable).unwrap();
        let pushed = &Tensor::run_backward(&[pulled.sum(Kind::Double)], &[&cotangent], false, false)[0];
        assert!(pushed.square().sum(Kind::Double).double_value(&[]) > 0.0);
    }
}
