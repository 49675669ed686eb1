//! Measures of how far two inputs land apart: closed forms by hand, similarities of known packages.

use crate::roundoff::{apart, unit};
use crate::toy::rand;
use pullback::Result;
use pullback::model::shift::{self, Reading};
use pullback::model::{Posterior, Vae, similarity};
use tch::{Device, Kind, Tensor};

fn close(found: &Tensor, expected: f64, tolerance: f64) {
    let found = found.double_value(&[0]);
    assert!((found - expected).abs() <= tolerance * (1.0 + expected.abs()), "{found} against {expected}");
}

fn gaussian(mean: &[f64], variance: &[f64]) -> Posterior {
    Posterior { mean: Tensor::from_slice(mean).unsqueeze(0), log_var: Tensor::from_slice(variance).log().unsqueeze(0) }
}

/// N(0, 1) to N(1, 4) has the textbook values; a second latent that does not move adds nothing.
#[test]
fn divergences_of_two_gaussians() {
    let (q, moved) = (gaussian(&[0.0, 3.0], &[1.0, 2.0]), gaussian(&[1.0, 3.0], &[4.0, 2.0]));
    let ln4 = 4f64.ln();
    let (kl, reverse) = (0.5 * (4.0 + 1.0 - 1.0 - ln4), 0.5 * (0.25 + 0.25 - 1.0 + ln4));
    // Two latents of four terms, none above 4.
    let allowed = 4.0 * apart(Kind::Double, &[8]);
    close(&shift::latent_l2(&q, &moved).unwrap(), 1.0, allowed);
    close(&shift::latent_kl(&q, &moved).unwrap(), kl, allowed);
    close(&shift::latent_reverse_kl(&q, &moved).unwrap(), reverse, allowed);
    close(&shift::latent_skl(&q, &moved).unwrap(), (kl + reverse) / 2.0, allowed);
    close(&shift::latent_w2(&q, &moved).unwrap(), 2f64.sqrt(), allowed);
    assert!((kl - reverse).abs() > 0.1, "the two directions differ, or the test sees no swap");
}

/// KL(q_{x'} || q_x) ~ delta^2 / 4 for a change delta of logvar: the digits must survive a small change.
#[test]
fn small_divergences_keep_their_digits() {
    let q = gaussian(&[0.3], &[0.7]);
    for delta in [1e-2, 1e-4, 1e-6] {
        let moved = Posterior { mean: q.mean.copy(), log_var: &q.log_var + delta };
        let realised = (&moved.log_var - &q.log_var).double_value(&[0, 0]);
        let expected = realised.powi(2) / 4.0;
        for kl in [shift::latent_kl(&q, &moved), shift::latent_reverse_kl(&q, &moved), shift::latent_skl(&q, &moved)] {
            let ratio = kl.unwrap().double_value(&[0]) / expected;
            // The next term of the series is delta / 3 of the first; exp(delta) - 1 is off by u of itself, the KL its square.
            assert!((ratio - 1.0).abs() < delta + apart(Kind::Double, &[2]) / delta, "{delta}: {ratio}");
        }
    }
}

struct Mirror;

impl Vae for Mirror {
    fn encode(&self, x: &Tensor) -> Result<Posterior> {
        Ok(Posterior { mean: x.flatten(1, -1), log_var: x.flatten(1, -1) * 0.0 })
    }
    fn decode(&self, z: &Tensor) -> Result<Tensor> {
        Ok((z * 0.5).view([-1, 1, 2, 2]))
    }
}

#[test]
fn every_measure_under_its_name() {
    let x = Tensor::from_slice(&[0.2f32, 0.4, 0.6, 0.8]).view([1, 1, 2, 2]);
    let moved = Tensor::from_slice(&[0.2f32, 0.7, 0.6, 0.4]).view([1, 1, 2, 2]);
    let (clean, moved) = (Reading::of(&Mirror, &x).unwrap(), Reading::of(&Mirror, &moved).unwrap());
    let all = shift::all(&clean, &moved).unwrap();
    assert!(all.iter().map(|(n, _)| *n).eq(shift::NAMES));
    assert!(all.iter().all(|(_, m)| m.kind() == Kind::Double && m.size() == [1]));
    let get = |name: &str| &all.iter().find(|(n, _)| *n == name).unwrap().1;
    // Pixels up to 1 and their differences are rounded to single precision once each.
    let rounded = 2.0 * unit(Kind::Float);
    close(get("input_l2"), 0.5, rounded);
    close(get("input_linf"), 0.4, rounded);
    close(get("latent_l2"), 0.5, rounded);
    close(get("latent_kl"), 0.125, rounded);
    close(get("latent_skl"), 0.125, rounded);
    close(get("latent_w2"), 0.5, rounded);
    // Half the moved image against the clean one; half the difference of the two.
    close(get("recon_mse"), (0.01 + 0.0025 + 0.09 + 0.36) / 4.0, rounded);
    close(get("recon_shift"), 0.25 * 0.25 / 4.0, rounded);
    // 10 / ln 10 of the relative error of the mean square, which is twice that of a difference of 1/4.
    close(get("psnr"), -10.0 * (0.0625f64 / 4.0).log10(), 10.0 / 10f64.ln() * 2.0 * rounded / 0.25);

    let same = shift::all(&clean, &clean).unwrap();
    for (name, value) in same {
        let expected = match name {
            "recon_mse" => 0.25 * (0.04 + 0.16 + 0.36 + 0.64) / 4.0,
            "psnr" => f64::INFINITY,
            "ssim" | "ms_ssim" => 1.0,
            _ => 0.0,
        };
        let found = value.double_value(&[0]);
        assert!(found == expected || (found - expected).abs() < rounded, "{name}: {found}");
    }
    assert_eq!(shift::clean(&clean).unwrap()[0].0, "recon_mse");
}

/// Many samples are measured in parts: each has the numbers that it has alone.
#[test]
fn each_of_many_has_its_own_numbers() {
    let reading = |seed: u64| Reading {
        images: rand(&[50, 1, 28, 28], seed),
        posterior: Posterior { mean: rand(&[50, 3], seed + 1), log_var: rand(&[50, 3], seed + 2) },
        reconstruction: rand(&[50, 1, 28, 28], seed + 3),
        features: vec![],
    };
    let (clean, moved) = (reading(0), reading(10));
    let all = shift::all(&clean, &moved).unwrap();
    for i in [0, 40, 41, 49] {
        let one = shift::all(&clean.narrow(i, 1).unwrap(), &moved.narrow(i, 1).unwrap()).unwrap();
        for ((name, many), (_, alone)) in all.iter().zip(one) {
            assert_eq!(many.size(), [50], "{name}");
            // Sums of at most 784 numbers, in another order.
            close(&many.narrow(0, i, 1), alone.double_value(&[0]), apart(Kind::Double, &[784]));
        }
    }
    let (ssim, ms_ssim) = similarity::both(&clean.reconstruction, &moved.reconstruction).unwrap();
    assert!(ssim.equal(&similarity::ssim(&clean.reconstruction, &moved.reconstruction).unwrap()));
    assert!(!ssim.equal(&ms_ssim));
}

/// In closed form as by autograd, also where the code has not moved.
#[test]
fn the_gradient_of_the_latent_distance_is_autograds() {
    for (kind, latents) in [(Kind::Float, 3), (Kind::Double, 3), (Kind::Float, 33), (Kind::Double, 33)] {
        // A part of the encoder's output, as where mu and logvar are one.
        let code = |seed| rand(&[6, latents + 2], seed).to_kind(kind).narrow(1, 1, latents);
        let clean = Posterior { mean: code(1), log_var: code(2) };
        let mean = code(3);
        mean.get(2).copy_(&clean.mean.get(2));
        let moved = Posterior { mean: mean.set_requires_grad(true), log_var: clean.log_var.shallow_clone() };
        let value = shift::latent_l2(&clean, &moved).unwrap();
        let expected = Tensor::run_backward(&[value.sum(Kind::Double)], &[&moved.mean], false, false);
        let (length, gradient) = shift::latent_l2_and_gradient(&clean, &moved).unwrap();
        let off = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]);
        assert!(
            off(&length, &value) <= apart(Kind::Double, &[latents]) * value.max().double_value(&[]),
            "{kind:?}, {latents}"
        );
        assert!(off(&gradient, &expected[0]) <= apart(kind, &[latents]), "{kind:?}, {latents}");
        assert_eq!((length.kind(), gradient.kind(), length.double_value(&[2])), (Kind::Double, kind, 0.0));
        assert_eq!(gradient.size(), [6, latents]);
        assert!(gradient.get(2).abs().max().double_value(&[]) == 0.0);
        assert!(!length.requires_grad() && !gradient.requires_grad());
    }
}

/// The images of tests/golden/similarity.py.
fn waves(channels: i64, height: i64, width: i64, strength: f64) -> (Tensor, Tensor) {
    let axis = |n: i64| Tensor::arange(n, (Kind::Double, Device::Cpu));
    let (c, i, j) = (axis(channels).view([-1, 1, 1]), axis(height).view([1, -1, 1]), axis(width).view([1, 1, -1]));
    let a = (&i * 0.37 + &j * 0.61 + &c).sin() * 0.4 + 0.5;
    let b = &a + (&i * 1.7 - &j * 0.9 + &c * 2.0).sin() * strength;
    (a.unsqueeze(0), b.clamp(0.0, 1.0).unsqueeze(0))
}

#[test]
fn similarities_are_those_of_pytorch_msssim() {
    // Made by tests/golden/similarity.py: channels, height, width, strength, SSIM, MS-SSIM.
    for (channels, height, width, strength, one, multi) in [
        (1, 28, 28, 0.05, 0.988158245, 0.995674673),
        (1, 28, 28, 0.5, 0.480478997, 0.721121296),
        (3, 32, 32, 0.2, 0.848713066, 0.939842943),
        (1, 64, 64, 0.3, 0.722470414, 0.932183256),
        (1, 12, 40, 0.2, 0.849857702, 0.849857702),
        (3, 176, 176, 0.2, 0.848736176, 0.979017954),
        (1, 181, 193, 0.4, 0.595627154, 0.920945582),
    ] {
        let (a, b) = waves(channels, height, width, strength);
        // Their window of eleven weights is held in single precision; nine digits were printed.
        let allowed = apart(Kind::Float, &[11]) + 1e-9;
        close(&similarity::ssim(&a, &b).unwrap(), one, allowed);
        close(&similarity::ms_ssim(&a, &b).unwrap(), multi, allowed);
        let (_, other) = waves(channels, height, width, strength + 0.01);
        let gap = similarity::ssim(&a, &other).unwrap().double_value(&[0]) - one;
        assert!(gap.abs() > 1e-4, "a slightly different image is told apart");
    }
}

#[test]
fn scales_fit_the_image() {
    for (side, scales) in [(4, 1), (11, 1), (20, 1), (21, 2), (28, 2), (32, 2), (64, 3), (160, 4), (161, 5), (1000, 5)]
    {
        assert_eq!(similarity::scales(side), scales, "{side}");
    }
    // Smaller than the window: defined, equal images are equal, samples stay apart.
    for side in [1, 2, 4, 7] {
        let (a, b) = waves(2, side, side + 1, 0.3);
        let pair = Tensor::cat(&[&a, &b], 0);
        let twice = Tensor::cat(&[&a, &a], 0);
        for values in [similarity::ssim(&twice, &pair).unwrap(), similarity::ms_ssim(&twice, &pair).unwrap()] {
            assert!((values.double_value(&[0]) - 1.0).abs() < apart(Kind::Double, &[11, 11]), "{side}");
            let other = values.double_value(&[1]);
            assert!((0.0..0.9999).contains(&other), "{side}: {other}");
        }
    }
}

#[test]
fn a_reading_checks_its_model() {
    struct Flat;
    impl Vae for Flat {
        fn encode(&self, x: &Tensor) -> Result<Posterior> {
            Mirror.encode(x)
        }
        fn decode(&self, z: &Tensor) -> Result<Tensor> {
            Ok(z.copy())
        }
    }
    let error = Reading::of(&Flat, &Tensor::zeros([2, 1, 2, 2], (Kind::Float, Device::Cpu))).unwrap_err();
    assert_eq!(error.to_string(), "shape of x_hat of the decoder: expected [2, 1, 2, 2], found [2, 4]");
}

/// The filter of a long axis takes memory as its length, not as its square, and gives what it gives on parts of it.
#[test]
fn long_axes_are_compared_as_short_ones() {
    // Images of 290 valid positions are filtered by a matrix; of 580, whose mean is that of the two halves, otherwise.
    let (a, b) = waves(2, 12, 590, 0.3);
    for turned in [false, true] {
        let [a, b] = [&a, &b].map(|t| if turned { t.transpose(2, 3) } else { t.shallow_clone() });
        let axis = if turned { 2 } else { 3 };
        let half = |start| {
            let [a, b] = [&a, &b].map(|t| t.narrow(axis, start, 300));
            similarity::ssim(&a, &b).unwrap().double_value(&[0])
        };
        close(&similarity::ssim(&a, &b).unwrap(), (half(0) + half(290)) / 2.0, 1e-12);
    }
    // A vector and a series, whose matrices would have 80 GB.
    for (channels, height) in [(1, 1), (1, 12)] {
        let (a, b) = waves(channels, height, 100_000, 0.3);
        for values in [similarity::ssim(&a, &b).unwrap(), similarity::ms_ssim(&a, &b).unwrap()] {
            assert!((0.1..0.999).contains(&values.double_value(&[0])), "{height}: {values}");
        }
        close(&similarity::ssim(&a, &a).unwrap(), 1.0, apart(Kind::Double, &[11, 11]));
    }
}
