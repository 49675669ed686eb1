//! Whatever the shape, the norm, the size and the precision: every attack stays within its budget and the box.

use crate::toy::rand;
use proptest::prelude::*;
use pullback::attack::*;
use pullback::metric::MetricKind;
use pullback::model::{Posterior, Vae};
use pullback::spectrum::Spectra;
use tch::{Kind, Tensor};

/// A tanh layer each way, of images of any shape.
struct Net {
    shape: [i64; 3],
    weights: [Tensor; 3],
}

impl Net {
    fn new(shape: [i64; 3], latents: i64, seed: u64, kind: Kind) -> Self {
        let pixels: i64 = shape.iter().product();
        let weight =
            |rows: i64, columns: i64, k: u64| ((rand(&[rows, columns], 10 * seed + k) - 0.5) * 3.0).to_kind(kind);
        Self { shape, weights: [weight(latents, pixels, 1), weight(latents, pixels, 2), weight(pixels, latents, 3)] }
    }
}

impl Vae for Net {
    fn encode(&self, x: &Tensor) -> pullback::Result<Posterior> {
        let x = x.flatten(1, -1);
        Ok(Posterior { mean: x.matmul(&self.weights[0].tr()).tanh(), log_var: x.matmul(&self.weights[1].tr()).sin() })
    }
    fn decode(&self, z: &Tensor) -> pullback::Result<Tensor> {
        let [c, h, w] = self.shape;
        Ok(z.matmul(&self.weights[2].tr()).sigmoid().view([-1, c, h, w]))
    }
}

fn all() -> Vec<AttackSpec> {
    let kinds = [
        "{kind: spectral, top: 1}",
        "{kind: random}",
        "{kind: pgd, steps: 3}",
        "{kind: race, budget: 12}",
        "{kind: spectral-iterated, steps: 2}",
        "{kind: apgd, steps: 4}",
        "{kind: square, queries: 6}",
        "{kind: minimal, reach: 0.1, budget: 12, steps: 2}",
        "{kind: universal, steps: 3, restarts: 1, batch: 2}",
    ];
    kinds.iter().map(|yaml| serde_yaml::from_str(yaml).unwrap()).collect()
}

/// |x' - x| of each sample, by plain loops.
fn sizes(norm: Norm, x: &[f64], moved: &[f64], pixels: usize) -> Vec<f64> {
    let size = |(a, b): (&[f64], &[f64])| {
        let gaps = a.iter().zip(b).map(|(a, b)| (a - b).abs());
        match norm {
            Norm::L2 => gaps.map(|g| g * g).sum::<f64>().sqrt(),
            Norm::Linf => gaps.fold(0.0, f64::max),
            Norm::L1 => gaps.sum(),
        }
    };
    x.chunks(pixels).zip(moved.chunks(pixels)).map(size).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn every_attack_obeys_its_budget(
        shape in [1i64..=3, 1i64..=7, 1i64..=7],
        norm in prop_oneof![Just(Norm::L2), Just(Norm::Linf), Just(Norm::L1)],
        exponent in -5.0f64..1.5,
        boxed in any::<bool>(),
        double in any::<bool>(),
        rounded in any::<bool>(),
        seed in 0u64..1000,
        goal in prop_oneof![Just("latent"), Just("w2"), Just("recon"), Just("recon-mse")],
    ) {
        let kind = if double { Kind::Double } else { Kind::Float };
        let net = Net::new(shape, 2, seed, kind);
        let [c, h, w] = shape;
        let pixels = (c * h * w) as usize;
        // Pixels on the walls of the box as well.
        let x = ((rand(&[3, c, h, w], seed + 1) * 1.4 - 0.2).clamp(0.0, 1.0)).to_kind(kind);
        let x = if rounded { (x * 255.0).round() / 255.0 } else { x };
        let index = [5, 6, 9];
        let budget = Budget::new(norm, 10f64.powf(exponent), boxed.then_some((0.0, 1.0))).unwrap();
        let mut spectra = Spectra::of(&net, &x, MetricKind::Stochastic, 1).unwrap();
        let spectrum = spectra.find(&net, &x, &index).unwrap().into_spectrum();
        let others = Others { images: x.flip([3]), index: vec![5, 6, 7] };
        let ground = Ground { images: x.shallow_clone(), index: index.to_vec(), target: None, draws: None };
        let spec = UniversalSpec { steps: 3, restarts: 1, batch: 2, ..UniversalSpec::default() };
        let universal = Universal::fit(&net, &spec, &ground, &[budget], 1, seed).unwrap();
        let victim = Victim::new(&net, &x, &index, seed, Some(&spectrum)).unwrap();
        let victim = victim.beside(&others).unwrap().carrying(&universal).unwrap().rounded(rounded && boxed);
        let values = |t: &Tensor| Vec::<f64>::try_from(t.to_kind(Kind::Double).flatten(0, -1)).unwrap();
        let goal = Knob::new("--goal", "goal", goal).unwrap();
        for spec in all() {
            let spec = spec.with(&goal).unwrap().unwrap();
            for hit in run(&spec, &victim, &budget).unwrap() {
                let moved = values(&hit.images);
                for size in sizes(norm, &values(&x), &moved, pixels) {
                    prop_assert!(size <= budget.epsilon * (1.0 + 1e-6), "{}: {size} of {}", hit.name, budget.epsilon);
                }
                if boxed {
                    prop_assert!(moved.iter().all(|p| (0.0..=1.0).contains(p)), "{}", hit.name);
                }
            }
        }
    }
}
