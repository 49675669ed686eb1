//! The smallest perturbation that does a given damage, where it is known: a linear encoder.

use super::toy::{images, list};
use crate::toy::rand;
use pullback::attack::*;
use pullback::model::{Posterior, Vae};
use tch::{Kind, Tensor};

/// mu = W x.
struct Linear(Tensor);

impl Vae for Linear {
    fn encode(&self, x: &Tensor) -> pullback::Result<Posterior> {
        let mean = x.flatten(1, -1).matmul(&self.0.transpose(0, 1));
        Ok(Posterior { log_var: mean.zeros_like(), mean })
    }
    fn decode(&self, z: &Tensor) -> pullback::Result<Tensor> {
        Ok(z.matmul(&self.0).reshape([-1, 1, 4, 4]))
    }
}

fn minimal(reach: f64) -> AttackSpec {
    serde_yaml::from_str(&format!("{{kind: minimal, reach: {reach}}}")).unwrap()
}

fn smallest(vae: &Linear, x: &Tensor, norm: Norm, epsilon: f64, reach: f64) -> (Vec<f64>, Attacked) {
    let victim = Victim::of(vae, x).unwrap();
    let budget = Budget::new(norm, epsilon, None).unwrap();
    let mut found = run(&minimal(reach), &victim, &budget).unwrap();
    assert_eq!(found.len(), 1);
    let attacked = found.remove(0);
    (list(attacked.smallest.as_ref().unwrap()), attacked)
}

#[test]
fn a_linear_encoder_has_a_smallest_epsilon_of_its_own() {
    // One latent: |w d| is largest along w, sign(w) and the largest entry of w.
    let w = rand(&[1, 16], 3) - 0.5;
    let (vae, x) = (Linear(w.shallow_clone()), images(5, 4));
    let reach = 0.3;
    let norm = |p: f64| w.abs().pow_tensor_scalar(p).sum(Kind::Double).double_value(&[]).powf(1.0 / p);
    for (norm, exact, epsilon) in
        [(Norm::L2, reach / norm(2.0), 2.0), (Norm::Linf, reach / norm(1.0), 0.4), (Norm::L1, reach / norm(64.0), 8.0)]
    {
        let (found, attacked) = smallest(&vae, &x, norm, epsilon, reach);
        for size in &found {
            // Never smaller than it can be; larger by the last halving of epsilon, and in L1 by what ascents leave in other pixels.
            let slack = if norm == Norm::L1 { 1.25 } else { 1.02 };
            assert!(*size >= exact * (1.0 - 1e-6), "{norm}: {size}, below {exact}");
            assert!(*size <= exact * slack + epsilon / 256.0, "{norm}: {size}, not {exact}");
        }
        assert!(list(&attacked.damage).iter().all(|d| *d >= reach * (1.0 - 1e-9)));
    }
}

#[test]
fn of_several_latents_the_largest_singular_value_counts() {
    let w = rand(&[3, 16], 4) - 0.5;
    let sigma = w.mm(&w.transpose(0, 1)).linalg_eigvalsh("L").max().sqrt().double_value(&[]);
    let (found, _) = smallest(&Linear(w), &images(6, 5), Norm::L2, 3.0, 0.5);
    for size in found {
        assert!(
            size >= 0.5 / sigma * (1.0 - 1e-6) && size <= 0.5 / sigma * 1.02 + 3.0 / 256.0,
            "{size}, {}",
            0.5 / sigma
        );
    }
}

#[test]
fn what_is_not_reached_has_no_size_and_the_most_that_was_found() {
    let w = rand(&[1, 16], 3) - 0.5;
    let length = w.norm().double_value(&[]);
    let (found, attacked) = smallest(&Linear(w), &images(5, 3), Norm::L2, 0.5, 10.0);
    assert!(found.iter().all(|size| size.is_nan()), "{found:?}");
    assert!(list(&attacked.damage).iter().all(|d| *d > 0.49 * length), "{:?}", list(&attacked.damage));
}

#[test]
fn a_batch_is_its_samples() {
    let vae = Linear(rand(&[3, 16], 4) - 0.5);
    let x = images(6, 5);
    let budget = Budget::new(Norm::Linf, 0.3, Some((0.0, 1.0))).unwrap();
    let all = run(&minimal(0.4), &Victim::of(&vae, &x).unwrap(), &budget).unwrap();
    let all = list(all[0].smallest.as_ref().unwrap());
    assert!(all.iter().any(|size| size.is_finite()), "{all:?}");
    for row in 0..5 {
        let own = x.narrow(0, row, 1);
        let index = [row as u64];
        let victim = Victim::new(&vae, &own, &index, 0, None).unwrap();
        let one = run(&minimal(0.4), &victim, &budget).unwrap();
        let one = list(one[0].smallest.as_ref().unwrap())[0];
        let same = (one - all[row as usize]).abs() < 1e-9 || (one.is_nan() && all[row as usize].is_nan());
        assert!(same, "row {row}: {one}, {}", all[row as usize]);
    }
}

#[test]
fn a_damage_must_be_asked_for() {
    for wrong in [
        "{kind: minimal}",
        "{kind: minimal, reach: 0}",
        "{kind: minimal, reach: .nan}",
        "{kind: minimal, reach: 1, steps: 0}",
    ] {
        let spec: AttackSpec = serde_yaml::from_str(wrong).unwrap();
        assert_eq!(spec.check(Norm::L2).unwrap_err().exit_code(), 2, "{wrong}");
    }
}
