//! The unit of a model's outputs is nobody's business: scaled by 1e-8 or 1e8, the attacks are the same.

use super::toy::{Toy, images, jacobian, list, spectrum};
use pullback::attack::*;
use pullback::model::{Posterior, Vae};
use tch::{Kind, Tensor};

/// The code and the reconstruction in other units.
struct Scaled {
    toy: Toy,
    scale: f64,
}

impl Vae for Scaled {
    fn encode(&self, x: &Tensor) -> pullback::Result<Posterior> {
        let Posterior { mean, log_var } = self.toy.encode(x)?;
        Ok(Posterior { mean: mean * self.scale, log_var })
    }
    fn decode(&self, z: &Tensor) -> pullback::Result<Tensor> {
        Ok(self.toy.decode(&(z / self.scale))? * self.scale)
    }
}

/// The images of each attack on a model in these units.
fn attacked(scale: f64, kind: Kind, goal: Goal, norm: Norm) -> Vec<(String, Vec<f64>)> {
    let model = Scaled { toy: Toy::tanh(kind), scale };
    let x = images(51, 4).to_kind(kind);
    let eigen = spectrum(&(jacobian(&Toy::tanh(Kind::Double), &x.to_kind(Kind::Double)) * scale));
    let epsilon = match norm {
        Norm::L2 => 0.3,
        Norm::Linf => 0.1,
        Norm::L1 => 1.0,
    };
    let budget = Budget::new(norm, epsilon, Some((0.0, 1.0))).unwrap();
    let ground = Ground { images: x.shallow_clone(), index: vec![0, 1, 2, 3], target: None, draws: None };
    let fitted = UniversalSpec { steps: 5, restarts: 2, goal, ..UniversalSpec::default() };
    let universal = Universal::fit(&model, &fitted, &ground, &[budget], 1, 0).unwrap();
    let others = Others { images: x.flip([3]), index: vec![0, 1, 2, 3] };
    let victim = Victim::new(&model, &x, &[0, 1, 2, 3], 0, Some(&eigen)).unwrap();
    let victim = victim.beside(&others).unwrap().carrying(&universal).unwrap();
    let unit = if goal == Goal::Latent { scale } else { scale * scale };
    let mut found = vec![];
    for yaml in [
        "{kind: spectral}",
        "{kind: random, draws: 3}",
        "{kind: pgd, steps: 5, restarts: 2, momentum: 0.5}",
        "{kind: apgd, steps: 8}",
        "{kind: race, budget: 30}",
        "{kind: spectral-iterated, steps: 2, metric: mean}",
        "{kind: square, queries: 20}",
        &format!("{{kind: minimal, budget: 20, steps: 3, reach: {:e}}}", 0.02 * unit),
        "{kind: universal}",
    ] {
        let goal = Knob::new("--goal", "goal", goal).unwrap();
        let spec = serde_yaml::from_str::<AttackSpec>(yaml).unwrap().with(&goal).unwrap().unwrap();
        for hit in run(&spec, &victim, &budget).unwrap() {
            let stalled = bool::try_from(hit.stalled.any()).unwrap();
            assert!(!stalled, "{} {scale:e} {kind:?}: a gradient of another unit is no gradient of 0", hit.name);
            found.push((hit.name, list(&hit.images)));
        }
    }
    found
}

#[test]
fn the_scale_of_a_model_changes_no_attack() {
    let cases = [
        (Kind::Double, 1e-6, Goal::Recon, Norm::L2),
        (Kind::Double, 1e-6, Goal::Latent, Norm::Linf),
        (Kind::Float, 2e-3, Goal::Latent, Norm::L2),
        (Kind::Float, 2e-3, Goal::Recon, Norm::Linf),
    ];
    for (kind, allowed, goal, norm) in cases {
        let expected = attacked(1.0, kind, goal, norm);
        for scale in [1e-8, 1e8] {
            for ((name, found), (_, expected)) in attacked(scale, kind, goal, norm).iter().zip(&expected) {
                let gap = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                assert!(gap < allowed, "{name}, {goal}, {norm}, {kind:?}, scaled by {scale:e}: {gap}");
            }
        }
    }
}
