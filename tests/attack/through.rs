//! Defences in front of a model, against libjpeg (tests/golden/jpeg.py) and differences.

use super::toy::{Toy, images, list};
use crate::files::root;
use pullback::attack::{Goal, Victim};
use pullback::data::ImageShape;
use pullback::model::{Defence, Defended, Posterior, Vae};
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

/// The code is the image.
struct Itself(i64, i64, i64);

impl Vae for Itself {
    fn encode(&self, x: &Tensor) -> pullback::Result<Posterior> {
        let mean = x.flatten(1, -1);
        Ok(Posterior { log_var: mean.zeros_like(), mean })
    }
    fn decode(&self, z: &Tensor) -> pullback::Result<Tensor> {
        Ok(z.view([-1, self.0, self.1, self.2]))
    }
    fn share(&self) -> Option<Box<dyn Vae>> {
        Some(Box::new(Self(self.0, self.1, self.2)))
    }
}

fn defended(defences: &[&str], (channels, height, width): (i64, i64, i64)) -> Defended {
    let defences: Vec<Defence> = defences.iter().map(|text| text.parse().unwrap()).collect();
    let shape = ImageShape { channels, height, width };
    Defended::new(Box::new(Itself(channels, height, width)), &defences, shape, Device::Cpu).unwrap()
}

/// The waves and the edge of jpeg.py, as bytes / 255, [1, C, H, W].
fn picture(channels: i64, height: i64, width: i64) -> Tensor {
    let pixel = |place: i64| {
        let (c, y, x) = ((place / (height * width)) as f64, place / width % height, place % width);
        let wave = (0.3 * x as f64 + 0.17 * y as f64 * (1.0 + c) + c).sin() * 0.3 + 0.5;
        let edge = if x + y > width { 0.2 } else { 0.0 };
        ((wave + edge).min(1.0) * 255.0 + 0.5).floor() / 255.0
    };
    let pixels: Vec<f64> = (0..channels * height * width).map(pixel).collect();
    Tensor::from_slice(&pixels).view([1, channels, height, width])
}

/// What came out of libjpeg.
#[derive(Deserialize)]
struct Row {
    channels: i64,
    height: i64,
    width: i64,
    quality: u8,
    bytes: String,
}

#[test]
fn jpeg_is_that_of_libjpeg() {
    let text = std::fs::read_to_string(root().join("tests/golden/jpeg.json")).unwrap();
    let rows: Vec<Row> = serde_yaml::from_str(&text).unwrap();
    assert_eq!(rows.len(), 16);
    let mut shares = vec![];
    for Row { channels, height, width, quality, bytes } in rows {
        let theirs: Vec<f64> =
            (0..bytes.len() / 2).map(|i| u8::from_str_radix(&bytes[2 * i..2 * i + 2], 16).unwrap().into()).collect();
        let x = picture(channels, height, width);
        let shape = (channels, height, width);
        let last = |t: &Tensor| list(&(t.permute([0, 2, 3, 1]).contiguous() * 255.0));
        let ours = last(&defended(&[&format!("jpeg:{quality}")], shape).defended(&x).unwrap());
        assert!(ours.iter().all(|p| (p - p.round()).abs() < 1e-9), "bytes come out");
        let mean = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f64>() / a.len() as f64;
        let (gap, lost) = (mean(&ours, &theirs), mean(&ours, &last(&x)));
        shares.push(gap / lost);
        // Their cosines are of whole numbers: now and then one that lies at half a step of the table falls to the other side.
        let most = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(most <= 8.0, "{shape:?}, quality {quality}: {most}");
        // No other table would do.
        for other in [quality - 2, quality + 2] {
            let other = last(&defended(&[&format!("jpeg:{other}")], shape).defended(&x).unwrap());
            assert!(mean(&other, &theirs) > 1.2 * gap, "{shape:?}, quality {quality}: {gap}");
        }
    }
    let share = shares.iter().sum::<f64>() / shares.len() as f64;
    assert!(share < 0.2, "{shares:?}");
}

#[test]
fn gradients_pass_jpeg_as_they_come_and_resizing_as_they_must() {
    let (toy, x) = (Toy::tanh(Kind::Double), images(91, 3));
    let shape = ImageShape { channels: 1, height: 4, width: 4 };
    let behind = |text: &str| {
        Defended::new(Box::new(Toy::tanh(Kind::Double)), &[text.parse().unwrap()], shape, Device::Cpu).unwrap()
    };
    let moved = &x + 0.05;
    // JPEG: the gradient of the bare model at what the model sees.
    let jpeg = behind("jpeg:40");
    let victim = Victim::of(&jpeg, &x).unwrap();
    let (value, gradient) = Goal::Latent.value_and_gradient(&victim, &moved).unwrap();
    let seen = jpeg.defended(&moved).unwrap();
    assert!((&seen - &moved).abs().max().double_value(&[]) > 0.01);
    let clean = jpeg.defended(&x).unwrap();
    let bare = Victim::of(&toy, &clean).unwrap();
    let (expected, slope) = Goal::Latent.value_and_gradient(&bare, &seen).unwrap();
    assert!((&value - &expected).abs().max().double_value(&[]) < 1e-12);
    assert!((&gradient - &slope).abs().max().double_value(&[]) < 1e-10);
    // Resizing: differences, and a mean of 2 x 2 on the way down.
    let resize = behind("resize:2");
    let victim = Victim::of(&resize, &x).unwrap();
    let (_, gradient) = Goal::Latent.value_and_gradient(&victim, &moved).unwrap();
    for pixel in 0..16i64 {
        let step = Tensor::zeros([16], (Kind::Double, Device::Cpu));
        let _ = step.get(pixel).fill_(1e-5);
        let step = step.view([1, 1, 4, 4]);
        let ends = [&moved + &step, &moved - &step].map(|x| list(&Goal::Latent.value(&victim, &x).unwrap()));
        for (sample, (up, down)) in ends[0].iter().zip(&ends[1]).enumerate() {
            let slope = (up - down) / 2e-5;
            let found = gradient.double_value(&[sample as i64, 0, pixel / 4, pixel % 4]);
            assert!((found - slope).abs() < 1e-7, "{found} {slope}");
        }
    }
    let checks = Tensor::from_slice(&[1.0, 0.0, 0.0, 1.0]).view([1, 1, 2, 2]).repeat([1, 1, 2, 2]);
    assert!((resize.defended(&checks).unwrap() - 0.5).abs().max().double_value(&[]) < 1e-12, "they vanish");
}

#[test]
fn a_defended_image_hangs_on_itself_alone() {
    let x = Tensor::cat(&[picture(3, 11, 9), picture(3, 11, 9).flip([2]), picture(3, 11, 9).flip([3])], 0);
    for kind in [Kind::Float, Kind::Double] {
        let x = x.to_kind(kind);
        let model = defended(&["jpeg:60", "resize"], (3, 11, 9));
        let whole = model.encode(&x).unwrap().mean;
        let shared = model.share().unwrap();
        for i in 0..3 {
            let alone = shared.encode(&x.narrow(0, i, 1)).unwrap().mean;
            assert!(alone == whole.narrow(0, i, 1), "{kind:?} {i}");
        }
        assert_eq!(model.decode(&whole).unwrap().size(), x.size());
    }
}

#[test]
fn wrong_defences_are_wrong_requests() {
    let expected = "jpeg, jpeg:QUALITY (1 to 100), resize or resize:PIXELS";
    for text in ["", "blur", "jpeg:0", "jpeg:101", "jpeg:", "resize:0", "resize:x", "jpeg:7:7"] {
        let error = text.parse::<Defence>().unwrap_err();
        assert_eq!(
            (error.exit_code(), error.to_string()),
            (2, format!("through: expected {expected}, found {}", if text.is_empty() { "" } else { text }))
        );
    }
    for (text, spelled) in [("jpeg", "jpeg:75"), ("jpeg:9", "jpeg:9"), ("resize", "resize"), ("resize:14", "resize:14")]
    {
        assert_eq!(text.parse::<Defence>().unwrap().to_string(), spelled);
    }
    let refused = |text: &str, channels| {
        let shape = ImageShape { channels, height: 6, width: 8 };
        let error = Defended::new(Box::new(Itself(channels, 6, 8)), &[text.parse().unwrap()], shape, Device::Cpu);
        error.err().unwrap().to_string()
    };
    assert_eq!(refused("jpeg", 2), "through jpeg: expected images of one or three channels, found 2");
    assert_eq!(
        refused("resize:6", 1),
        "through resize: expected fewer pixels than the shorter side, 6, and at least one, found 6"
    );
}
