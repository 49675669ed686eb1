//! Steps in L1 beside the walls of the box: a pixel goes no further than its wall, and others take the rest.

use super::toy::{images, list};
use crate::toy::rand;
use pullback::attack::*;
use pullback::model::{Posterior, Vae};
use tch::Tensor;

/// mu = w x, one latent.
struct Row(Tensor);

impl Vae for Row {
    fn encode(&self, x: &Tensor) -> pullback::Result<Posterior> {
        let mean = x.flatten(1, -1).matmul(&self.0.tr());
        Ok(Posterior { log_var: mean.zeros_like(), mean })
    }
    fn decode(&self, z: &Tensor) -> pullback::Result<Tensor> {
        Ok(z.matmul(&self.0).view([-1, 1, 4, 4]))
    }
}

/// The most that w d can be upwards (`sign` 1) or downwards (-1) within epsilon and the box [0, 1]: the largest weights first, each as far
/// as its wall.
fn most(w: &[f64], x: &[f64], epsilon: f64, sign: f64) -> f64 {
    let mut order: Vec<usize> = (0..w.len()).collect();
    order.sort_by(|a, b| w[*b].abs().total_cmp(&w[*a].abs()));
    let (mut left, mut gained) = (epsilon, 0.0);
    for i in order {
        let room = if w[i] * sign > 0.0 { 1.0 - x[i] } else { x[i] };
        let part = f64::min(room, left);
        gained += w[i].abs() * part;
        left -= part;
    }
    gained
}

#[test]
fn searches_in_l1_fill_one_pixel_after_another() {
    let w = rand(&[1, 16], 3) - 0.5;
    let x = images(81, 6);
    // Several pixels up to their walls.
    let epsilon = 3.0;
    let budget = Budget::new(Norm::L1, epsilon, Some((0.0, 1.0))).unwrap();
    let weights = list(&w);
    let exact: Vec<[f64; 2]> =
        list(&x).chunks(16).map(|x| [1.0, -1.0].map(|sign| most(&weights, x, epsilon, sign))).collect();
    let vae = Row(w);
    let victim = Victim::of(&vae, &x).unwrap();
    // One ascent finds one of both signs, a race the larger.
    for (yaml, share, both) in [
        ("{kind: apgd}", 0.95, false),
        ("{kind: pgd, schedule: linear, step: 0.5}", 0.95, false),
        ("{kind: race, starts: [random]}", 0.95, true),
    ] {
        let spec: AttackSpec = serde_yaml::from_str(yaml).unwrap();
        let found = list(&run(&spec, &victim, &budget).unwrap()[0].damage);
        for (damage, [up, down]) in found.iter().zip(&exact) {
            let (least, top) = (up.min(*down), up.max(*down));
            let expected = if both { top } else { least };
            assert!(*damage >= share * expected && *damage <= top * (1.0 + 1e-6), "{yaml}: {damage} of {up}, {down}");
        }
    }
}

/// A ball that is larger than the box leaves room for all pixels.
#[test]
fn a_step_is_no_longer_than_the_box() {
    let x = images(82, 4);
    let w = rand(&[1, 16], 4) - 0.5;
    let weights = list(&w);
    let vae = Row(w);
    let budget = Budget::new(Norm::L1, 100.0, Some((0.0, 1.0))).unwrap();
    let victim = Victim::of(&vae, &x).unwrap();
    let found = list(&run(&"apgd".parse().unwrap(), &victim, &budget).unwrap()[0].damage);
    for (damage, x) in found.iter().zip(list(&x).chunks(16)) {
        let corners = [1.0, -1.0].map(|sign| most(&weights, x, 100.0, sign));
        assert!(corners.iter().any(|corner| (damage / corner - 1.0).abs() < 1e-9), "{damage}: {corners:?}");
    }
}
