//! Goals that look inside a model: outputs of its layers by name, and a judge's answers.

use super::toy::{Toy, images, list};
use crate::files::root;
use crate::roundoff::slope;
use pullback::attack::{AttackSpec, Budget, Family, Goal, Norm, Victim, run};
use pullback::metric::MetricKind;
use pullback::model::shift::Reading;
use pullback::model::{Interface, Judge, JudgeReads, Judged, TorchScript, Vae, open, open_judge};
use pullback::spectrum::Spectra;
use std::path::PathBuf;
use tch::{Device, Kind, Tensor};

fn file(name: &str) -> PathBuf {
    root().join("tests/models").join(name)
}

fn scripted(name: &str, layers: &[&str]) -> Box<dyn Vae> {
    let mut vae = TorchScript::load(&file(name), Device::Cpu, Kind::Double, &Interface::default()).unwrap();
    vae.watch(&named(layers)).unwrap();
    Box::new(vae)
}

fn named(layers: &[&str]) -> Vec<String> {
    layers.iter().map(|name| (*name).to_owned()).collect()
}

/// Three images of six pixels.
fn small() -> Tensor {
    images(31, 3).flatten(1, -1).narrow(1, 0, 6).reshape([3, 1, 2, 3])
}

/// The gradient of `goal` at `moved` is that of finite differences, pixel by pixel.
fn agrees(goal: Goal, vae: &dyn Vae, x: &Tensor, moved: &Tensor) {
    let victim = Victim::of(vae, x).unwrap();
    let (value, gradient) = goal.value_and_gradient(&victim, moved).unwrap();
    // A decoder may round in another way where there is a graph.
    let same = |other: &Tensor| {
        if goal == Goal::Grill { value.allclose(other, 1e-12, 0.0, false) } else { list(&value) == list(other) }
    };
    assert!(same(&goal.value(&victim, moved).unwrap()), "{goal}");
    assert!(same(&goal.of(&victim, &Reading::of(vae, moved).unwrap()).unwrap()), "{goal}");
    let pixels = x.numel() / 3;
    for pixel in 0..pixels.min(12) {
        let unit = Tensor::zeros([pixels as i64], (Kind::Double, Device::Cpu));
        let _ = unit.get(pixel as i64).fill_(1.0);
        let mut size = x.size();
        size[0] = 1;
        let unit = unit.view(size.as_slice());
        for sample in 0..3 {
            let at = list(&goal.value(&victim, moved).unwrap())[sample];
            // A judge's goal is a difference of two values of about this size, whose rounding counts; `grill` multiplies by the square of a
            // small difference of pixels near 1/2, which has lost as many digits.
            let size = match goal {
                Goal::Judge => 2.0,
                Goal::Grill => at.abs().sqrt(),
                _ => 0.0,
            };
            let phi = |t: f64| list(&goal.value(&victim, &(moved + &unit * t)).unwrap())[sample] + size;
            let (expected, allowed) = slope(phi, &[pixels as i64, 64, 64, 64]);
            let found = list(&gradient.get(sample as i64))[pixel];
            assert!((found - expected).abs() < allowed, "{goal} {sample} {pixel}: {found} against {expected}");
        }
    }
}

#[test]
fn layers_of_scripts_and_traces_are_what_they_compute() {
    // mu = tanh e and the decoder's mean is the sigmoid of d; of the traced one they are c, a convolution, and d.
    for (name, layers, scripted_form) in [("flat.pt", ["d", "e"], true), ("others/traced.pt", ["d", "c"], false)] {
        let (vae, x) = (scripted(name, &layers), small());
        let features = vae.features(&x).unwrap();
        assert_eq!(features[0].size(), [3, 6], "{name}");
        let posterior = vae.encode(&x).unwrap();
        let image = vae.decode(&posterior.mean).unwrap().flatten(1, -1);
        let (code, drawn) = (features[1].flatten(1, -1), &features[0]);
        let expected = if scripted_form { (code.tanh(), drawn.sigmoid()) } else { (code, drawn.shallow_clone()) };
        assert!(expected.0.allclose(&posterior.mean, 1e-12, 1e-14, false), "{name}");
        assert!(expected.1.allclose(&image, 1e-12, 1e-14, false), "{name}");
        let moved = &x + 0.05;
        agrees(Goal::Layers, &vae, &x, &moved);
        let other = vae.features(&moved).unwrap();
        let change = |i: usize| (&other[i] - &features[i]).square().flatten(1, -1).mean_dim(1, false, None);
        let victim = Victim::of(&vae, &x).unwrap();
        let value = Goal::Layers.value(&victim, &moved).unwrap();
        assert!(value.allclose(&(change(0) + change(1)), 1e-12, 1e-14, false), "{name}");
        // Times what the reconstruction changes by.
        agrees(Goal::Grill, &vae, &x, &moved);
        let after = vae.decode(&vae.encode(&moved).unwrap().mean).unwrap().flatten(1, -1);
        let output = (after - &image).square().mean_dim(1, false, None);
        let product = Goal::Grill.value(&victim, &moved).unwrap();
        assert!(product.allclose(&(&value * output), 1e-12, 1e-16, false), "{name}");
        // A handle for another thread has the same layers.
        let shared = vae.share().unwrap();
        assert!(shared.features(&x).unwrap()[1].equal(&features[1]), "{name}");
    }
}

#[test]
fn layers_of_run_folders_have_the_names_of_their_twins() {
    for (name, layers, shapes) in [
        ("mlp", ["encoder.0", "decoder.2"], [vec![3, 7], vec![3, 7]]),
        ("conv", ["encoder.1", "mean"], [vec![3, 4, 7, 7], vec![3, 2]]),
    ] {
        let mut model = open(file(name), Device::Cpu, Kind::Double).unwrap();
        let image = model.image.unwrap();
        let size = [3, image.channels, image.height, image.width];
        let x = images(32, 3).flatten(1, -1).repeat([1, 40]).narrow(1, 0, size[1..].iter().product()).reshape(size);
        assert!(model.features(&x).unwrap().is_empty());
        model.watch(&named(&layers)).unwrap();
        let features = model.features(&x).unwrap();
        assert_eq!(features.iter().map(Tensor::size).collect::<Vec<_>>(), shapes, "{name}");
        if layers[1] == "mean" {
            assert!(features[1].equal(&model.encode(&x).unwrap().mean));
        }
        agrees(Goal::Layers, &model, &x, &(&x * 0.9 + 0.03));
        agrees(Goal::Grill, &model, &x, &(&x * 0.9 + 0.03));
        assert_eq!(model.share().unwrap().features(&x).unwrap().len(), 2);
        let told = model.watch(&named(&["encoder.99"])).unwrap_err().to_string();
        assert!(told.contains("encoder.0") && told.contains("encoder.99"), "{told}");
    }
}

#[test]
fn layers_that_are_none_are_named() {
    let mut vae = TorchScript::load(&file("flat.pt"), Device::Cpu, Kind::Double, &Interface::default()).unwrap();
    let told = vae.watch(&named(&["f"])).unwrap_err().to_string();
    assert!(told.ends_with("layers: expected e or d, found f"), "{told}");
    // A method without one tensor: of the module itself there is no layer at all.
    let mut toy = Toy::tanh(Kind::Double);
    assert!(toy.watch(&named(&["e"])).unwrap_err().to_string().contains("have none"));
    let x = images(33, 2);
    for goal in [Goal::Layers, Goal::Grill] {
        let victim = Victim::of(&toy, &x).unwrap();
        let told = goal.value(&victim, &x).unwrap_err().to_string();
        assert!(told.contains("--layers") && told.starts_with(&format!("goal {goal}")), "{told}");
        assert_eq!(goal.value_and_gradient(&victim, &x).unwrap_err().to_string(), told);
    }
}

#[test]
fn judges_of_images_and_codes_have_gradients() {
    for (judge, reads, flat) in
        [("judges/value.pt", JudgeReads::Reconstruction, false), ("judges/codes.pt", JudgeReads::Latent, true)]
    {
        let judge = open_judge(&file(judge), Device::Cpu, Kind::Double).unwrap();
        let vae = Judged::new(scripted("flat.pt", &[]), judge, reads);
        let x = small();
        agrees(Goal::Judge, &vae, &x, &(&x * 0.9 + 0.03));
        let victim = Victim::of(&vae, &x).unwrap();
        assert_eq!(list(&Goal::Judge.value(&victim, &x).unwrap()), [0.0; 3]);
        let (_, gradient) = Goal::Judge.value_and_gradient(&victim, &x).unwrap();
        assert_eq!(list(&gradient).iter().all(|g| *g == 0.0), flat);
        // Down as well as up: a value may fall.
        let change = list(&Goal::Judge.value(&victim, &(&x * 0.9)).unwrap());
        assert!(change.iter().all(|c| if flat { *c > 0.0 } else { *c != 0.0 }), "{change:?}");
        let target = &x * 0.7;
        let aimed = Victim::of(&vae, &x).unwrap().towards(Reading::of(&vae, &target).unwrap()).unwrap();
        assert_eq!(list(&Goal::Judge.value(&aimed, &target).unwrap()).iter().map(|v| v.abs()).sum::<f64>(), 0.0);
        assert!(list(&Goal::Judge.value(&aimed, &x).unwrap()).iter().all(|v| *v < 0.0));
    }
}

/// The mean of an image's first three pixels.
struct First;

impl Judge for First {
    fn of(&self, output: &Tensor) -> pullback::Result<Tensor> {
        Ok(output.flatten(1, -1).narrow(1, 0, 3).mean_dim(1, false, None))
    }
}

#[test]
fn every_attack_increases_what_a_judge_says() {
    let vae = Judged::new(scripted("flat.pt", &[]), Box::new(First), JudgeReads::Reconstruction);
    let (x, budget) = (small(), Budget::new(Norm::L2, 0.3, Some((0.0, 1.0))).unwrap());
    let mut spectra = Spectra::of(&vae, &x, MetricKind::Mean, 1).unwrap();
    let eigen = spectra.find(&vae, &x, &[0, 1, 2]).unwrap().into_spectrum();
    let victim = Victim::of(&vae, &x).unwrap().along(&eigen).unwrap();
    let mut noise = None;
    for name in ["random", "pgd", "apgd", "square", "race", "spectral", "spectral-iterated"] {
        let mut map = serde_yaml::Mapping::new();
        map.insert("kind".into(), name.into());
        map.insert("goal".into(), "judge".into());
        let spec: AttackSpec = serde_yaml::from_value(map.into()).unwrap();
        let attacked = run(&spec, &victim, &budget).unwrap().remove(0);
        let rise = First.of(&attacked.reconstruction).unwrap() - First.of(&victim.clean().reconstruction).unwrap();
        assert!(rise.allclose(&attacked.damage, 1e-12, 1e-14, false), "{name}");
        // Noise is the measure: a search finds more, on every sample. Along the code's directions it may find less.
        match &noise {
            None => noise = Some(rise),
            Some(noise) => {
                let least = (&rise - noise).min().double_value(&[]);
                assert!(rise.min().double_value(&[]) > 0.0, "{name}");
                assert!(least > 0.0 || attacked.family == Family::Spectral, "{name}: {least}");
            }
        }
    }
}
