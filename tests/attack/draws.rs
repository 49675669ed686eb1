//! Attacks through the model's own sampling: expectations against closed forms, gradients against differences, draws that hang on nothing
//! but the sample.

use super::toy::{Toy, images, list, normal};
use crate::roundoff::slope;
use pullback::attack::*;
use pullback::model::{Posterior, Vae};
use tch::{Kind, Tensor};

const DRAWN: [Goal; 3] = [Goal::Recon, Goal::ReconMse, Goal::Hide];

/// mu = 0 and ln sigma^2 = v x of one latent, x_hat = a z: the mean reconstruction knows nothing of x.
struct Noisy {
    log_var: Tensor,
    decoder: Tensor,
}

impl Noisy {
    fn new() -> Self {
        Self { log_var: normal(81, 16, 1), decoder: normal(82, 1, 16) }
    }

    /// E mean_j (a_j sigma eps)^2 = mean a^2 exp(v x), [B].
    fn expected(&self, x: &Tensor) -> Vec<f64> {
        let size = self.decoder.square().mean(Kind::Double);
        list(&(x.flatten(1, -1).matmul(&self.log_var).exp() * size))
    }
}

impl Vae for Noisy {
    fn encode(&self, x: &Tensor) -> pullback::Result<Posterior> {
        let log_var = x.flatten(1, -1).matmul(&self.log_var);
        Ok(Posterior { mean: log_var.zeros_like(), log_var })
    }
    fn decode(&self, z: &Tensor) -> pullback::Result<Tensor> {
        Ok(z.matmul(&self.decoder).view([-1, 1, 4, 4]))
    }
}

#[test]
fn an_attack_finds_what_the_mean_hides() {
    let (model, x) = (Noisy::new(), images(83, 6));
    let budget = Budget::new(Norm::L2, 0.2, None).unwrap();
    let spec: AttackSpec = serde_yaml::from_str("{kind: pgd, goal: recon, schedule: linear}").unwrap();
    // At the mean nothing moves, and the gradient says so.
    let blind = run(&spec, &Victim::of(&model, &x).unwrap(), &budget).unwrap().remove(0);
    assert!(list(&blind.damage).iter().all(|d| *d == 0.0) && bool::try_from(blind.stalled.all()).unwrap());
    // By sampling, the variance grows as fast as it can: along v.
    let victim = Victim::of(&model, &x).unwrap().expecting(4).unwrap();
    let hit = run(&spec, &victim, &budget).unwrap().remove(0);
    let v = model.log_var.view([1, 1, 4, 4]);
    let best = model.expected(&(&x + &v / v.norm() * 0.2));
    for (found, best) in model.expected(&hit.images).into_iter().zip(best) {
        assert!(found <= best * (1.0 + 1e-6) && found > 0.999 * best, "{found} of {best}");
    }
    // The judge's 64 draws: a mean of squares of normal numbers, which is off by sqrt(2 / 64) of itself, times 5.
    for (judged, expected) in list(&hit.damage).into_iter().zip(model.expected(&hit.images)) {
        assert!((judged / expected - 1.0).abs() < 5.0 * (2.0f64 / 64.0).sqrt(), "{judged} {expected}");
    }
    let sought = list(&Goal::Recon.value(&victim, &hit.images).unwrap());
    assert!(sought.iter().zip(list(&hit.damage)).all(|(a, b)| (a - b).abs() > 1e-9), "the judge has draws of its own");
}

#[test]
fn values_and_gradients_are_means_over_draws() {
    let (toy, x) = (Toy::tanh(Kind::Double), images(84, 3));
    let moved = &x + normal(85, 3, 16).view([3, 1, 4, 4]) * 0.05;
    let victim = Victim::of(&toy, &x).unwrap().expecting(5).unwrap();
    let mean = Victim::of(&toy, &x).unwrap();
    for goal in DRAWN {
        let (value, gradient) = goal.value_and_gradient(&victim, &moved).unwrap();
        let again = goal.value(&victim, &moved).unwrap();
        assert!((&value - &again).abs().max().double_value(&[]) < 1e-12, "{goal}");
        assert!(
            (&value - goal.value(&mean, &moved).unwrap()).abs().max().double_value(&[]) > 1e-6,
            "{goal}: it was drawn"
        );
        for pixel in 0..16 {
            let unit = Tensor::zeros([16], (Kind::Double, x.device()));
            let _ = unit.get(pixel).fill_(1.0);
            let unit = unit.view([1, 1, 4, 4]);
            for sample in 0..3 {
                let phi = |t: f64| list(&goal.value(&victim, &(&moved + &unit * t)).unwrap())[sample];
                let (expected, allowed) = slope(phi, &[16, 8, 3, 16, 5]);
                let found = gradient.double_value(&[sample as i64, 0, pixel / 4, pixel % 4]);
                assert!((found - expected).abs() < allowed, "{goal} {sample} {pixel}: {found} against {expected}");
            }
        }
    }
    // What does not read the reconstruction has nothing to draw.
    let latent = |victim: &Victim| list(&Goal::Latent.value(victim, &moved).unwrap());
    assert_eq!(latent(&victim), latent(&mean));
    assert_eq!(DRAWN.map(Goal::reads_reconstruction), [true; 3]);
    assert!(!Goal::Latent.reads_reconstruction());
}

/// A sample's draws are its own, beside whomever it is attacked and however many starts go through the model together.
#[test]
fn draws_do_not_depend_on_the_batch() {
    let (toy, x) = (Toy::tanh(Kind::Double), images(86, 6));
    let index: Vec<u64> = (10..16).collect();
    let budget = Budget::new(Norm::L2, 0.3, Some((0.0, 1.0))).unwrap();
    for yaml in ["{kind: pgd, steps: 4, goal: recon}", "{kind: race, budget: 24, goal: recon-mse, starts: [random]}"] {
        let spec: AttackSpec = serde_yaml::from_str(yaml).unwrap();
        let attacked = |rows: &[i64]| {
            let some = x.index_select(0, &Tensor::from_slice(rows));
            let ids: Vec<u64> = rows.iter().map(|r| index[*r as usize]).collect();
            let victim = Victim::new(&toy, &some, &ids, 3, None).unwrap().expecting(3).unwrap();
            list(&run(&spec, &victim, &budget).unwrap()[0].damage)
        };
        let whole = attacked(&[0, 1, 2, 3, 4, 5]);
        for rows in [vec![4], vec![5, 0, 3]] {
            for (found, row) in attacked(&rows).into_iter().zip(rows) {
                assert!((found / whole[row as usize] - 1.0).abs() < 1e-8, "{yaml}: {found} {whole:?}");
            }
        }
    }
}

#[test]
fn every_draw_is_a_pass() {
    let (toy, x) = (Toy::tanh(Kind::Double), images(87, 4));
    let victim = Victim::of(&toy, &x).unwrap().expecting(3).unwrap();
    let budget = Budget::new(Norm::L2, 0.3, None).unwrap();
    toy.decoded.set(0);
    let hit =
        run(&serde_yaml::from_str("{kind: pgd, steps: 7, goal: recon}").unwrap(), &victim, &budget).unwrap().remove(0);
    // The judge reads the result at the mean, and 64 times by its own draws.
    assert_eq!(hit.passes().forward, toy.decoded.get() as f64 - 65.0);
    assert_eq!((hit.passes().forward, hit.passes().backward), (24.0, 21.0));
}
