//! Every goal's gradient against finite differences, and its behaviour where there is none.

use super::toy::{Collapsed, Toy, images, list, normal};
use crate::roundoff::slope;
use pullback::attack::{Goal, Victim};
use tch::{Kind, Tensor};

pub const GOALS: [Goal; 11] = [
    Goal::Latent,
    Goal::Kl,
    Goal::Rkl,
    Goal::Skl,
    Goal::W2,
    Goal::Recon,
    Goal::ReconMse,
    Goal::Cosine,
    Goal::Sigma,
    Goal::Variance,
    Goal::Hide,
];

#[test]
fn gradients_are_those_of_finite_differences() {
    let (toy, x, index) = (Toy::tanh(Kind::Double), images(21, 3), [0, 1, 2]);
    let victim = Victim::new(&toy, &x, &index, 0, None).unwrap();
    let moved = &x + normal(22, 3, 16).view([3, 1, 4, 4]) * 0.05;
    for goal in GOALS {
        let (value, gradient) = goal.value_and_gradient(&victim, &moved).unwrap();
        assert!(!value.requires_grad() && !gradient.requires_grad());
        for pixel in 0..16 {
            let unit = Tensor::zeros([16], (Kind::Double, x.device()));
            let _ = unit.get(pixel).fill_(1.0);
            let unit = unit.view([1, 1, 4, 4]);
            for sample in 0..3 {
                let phi = |t: f64| list(&goal.value(&victim, &(&moved + &unit * t)).unwrap())[sample];
                // Layers of 16, 8 and 3 terms, and a sum over latents or pixels.
                let (expected, allowed) = slope(phi, &[16, 8, 3, 16]);
                let found = gradient.double_value(&[sample as i64, 0, pixel / 4, pixel % 4]);
                assert!(
                    (found - expected).abs() < allowed,
                    "{goal} sample {sample} pixel {pixel}: {found} against {expected}"
                );
            }
        }
    }
}

#[test]
fn distances_are_flat_at_the_clean_input() {
    let (toy, x, index) = (Toy::tanh(Kind::Double), images(21, 3), [0, 1, 2]);
    let victim = Victim::new(&toy, &x, &index, 0, None).unwrap();
    for goal in GOALS {
        let (value, gradient) = goal.value_and_gradient(&victim, &x).unwrap();
        let steep = list(&gradient).into_iter().fold(0.0, |m: f64, g| if g.abs() <= m { m } else { g.abs() });
        if !goal.starts_flat() {
            assert!(steep > 1e-3, "{goal} is not at its minimum there");
        } else {
            assert!(list(&value).iter().all(|v| *v == 0.0), "{goal}: {value:?}");
            assert!(steep == 0.0, "{goal}: {steep}");
        }
    }
}

#[test]
fn a_value_that_ignores_x_has_gradient_zero() {
    let (x, index) = (images(21, 2), [0, 1]);
    let victim = Victim::new(&Collapsed, &x, &index, 0, None).unwrap();
    for goal in GOALS {
        // An image may go towards its reconstruction, whatever that hangs on.
        if goal == Goal::Hide {
            continue;
        }
        let (_, gradient) = goal.value_and_gradient(&victim, &(&x * 0.9)).unwrap();
        assert_eq!(list(&gradient), [0.0; 32], "{goal}");
    }
}

#[test]
fn latent_goals_run_no_decoder() {
    let (toy, x, index) = (Toy::tanh(Kind::Double), images(21, 2), [0, 1]);
    let victim = Victim::new(&toy, &x, &index, 0, None).unwrap();
    toy.decoded.set(0);
    for goal in GOALS {
        let _ = goal.value(&victim, &x).unwrap();
    }
    assert_eq!(toy.decoded.get(), 3, "recon, recon-mse and hide alone decode");
}
