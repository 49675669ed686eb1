//! Searches from what was found for other images, and the pool of it.

use super::toy::{Toy, images, list};
use pullback::attack::*;
use pullback::model::{Posterior, Vae};
use pullback::{Error, Result};
use std::cell::Cell;
use tch::{Kind, Tensor};

const SEED: u64 = 7;

fn others() -> Others {
    Others { images: images(91, 12).to_kind(Kind::Float), index: (100..112).collect() }
}

fn gathered(vae: &dyn Vae, ground: &Ground, others: &Others, budgets: &[Budget]) -> Result<Pool> {
    let goals = &[Goal::Latent];
    Pool::search(&Gathering { vae, ground, others, goals, budgets, sharers: 12, seed: SEED }, &|| {})
}

/// The pool of `vae` on six images, for the goal `latent` within `budgets`.
fn pool(vae: &dyn Vae, budgets: &[Budget]) -> Result<Pool> {
    let ground =
        Ground { images: images(90, 6).to_kind(Kind::Float), index: (50..56).collect(), target: None, draws: None };
    gathered(vae, &ground, &others(), budgets)
}

/// What `transfer` with so many passes finds from a pool.
fn found(vae: &dyn Vae, x: &Tensor, index: &[u64], pool: &Pool, budgets: &[Budget], passes: usize) -> Vec<Attacked> {
    let others = others();
    let victim = Victim::new(vae, x, index, SEED, None).unwrap().beside(&others).unwrap().pooling(pool).unwrap();
    let spec = AttackSpec::Transfer(TransferSpec { budget: passes, ..TransferSpec::default() });
    budgets.iter().map(|budget| run(&spec, &victim, budget).unwrap().remove(0)).collect()
}

#[test]
fn transfer_finds_the_summit_of_a_linear_encoder() {
    let toy = Toy::linear(Kind::Float);
    let x = images(92, 5).to_kind(Kind::Float);
    let budget = Budget::new(Norm::L2, 0.1, None).unwrap();
    let hit = found(&toy, &x, &[1, 2, 3, 4, 5], &pool(&toy, &[budget]).unwrap(), &[budget], 60).remove(0);
    let (_, slopes, _) = toy.mean.to_kind(Kind::Double).svd(true, true);
    let most = 0.1 * slopes.double_value(&[0]);
    for damage in list(&hit.damage) {
        assert!((damage / most - 1.0).abs() < 1e-4, "{damage} of {most}");
    }
}

/// With no step at all, no perturbation of the pool does more than what is found by few.
#[test]
fn what_is_found_is_no_less_than_the_best_of_the_pool() {
    let toy = Toy::tanh(Kind::Float);
    let x = images(93, 5).to_kind(Kind::Float);
    let budgets: Vec<_> = [(Norm::L2, 1.0), (Norm::Linf, 0.3), (Norm::L1, 2.0)]
        .into_iter()
        .map(|(norm, epsilon)| Budget::new(norm, epsilon, Some((0.0, 1.0))).unwrap())
        .collect();
    for budget in budgets {
        let pool = pool(&toy, &[budget]).unwrap();
        let hit = found(&toy, &x, &[1, 2, 3, 4, 5], &pool, &[budget], 1).remove(0);
        let (perturbations, share) = pool.at(Goal::Latent, &budget).unwrap();
        // Of six images three have taken part to the end. The pool's share and these, then three heats of a step and what they end at.
        assert_eq!(perturbations.size()[0], 3);
        assert!((hit.search.forward - share.forward - 3.0 - 4.0).abs() < 1e-9, "{:?} {share:?}", hit.search);
        let mean = |x: &Tensor| toy.encode(x).unwrap().mean;
        let mut most = vec![0.0f64; 5];
        for one in perturbations.split(1, 0) {
            let image = match budget.norm {
                Norm::L2 => budget.surface(&x, &one.expand_as(&x)).unwrap(),
                Norm::Linf | Norm::L1 => budget.contract(&x, &(&x + &one)).unwrap(),
            };
            let moved = (mean(&image) - mean(&x)).to_kind(Kind::Double).square().sum_dim_intlist(1i64, false, None);
            most.iter_mut().zip(list(&moved.sqrt())).for_each(|(most, value)| *most = most.max(value));
        }
        let all = list(&hit.damage);
        assert!(all.iter().zip(&most).all(|(d, m)| *d >= m * (1.0 - 1e-5)), "{budget:?}: {all:?}, {most:?}");
        let sizes = list(&budget.measure(&x, &hit.images).unwrap());
        assert!(sizes.iter().all(|size| *size <= budget.epsilon * (1.0 + TOLERANCE)), "{sizes:?}");
    }
}

#[test]
fn a_larger_epsilon_does_no_less() {
    let toy = Toy::tanh(Kind::Float);
    let x = images(94, 4).to_kind(Kind::Float);
    let budgets = [0.1, 0.3, 1.0].map(|epsilon| Budget::new(Norm::L2, epsilon, None).unwrap());
    let hits = found(&toy, &x, &[1, 2, 3, 4], &pool(&toy, &budgets).unwrap(), &budgets, 30);
    for pair in hits.windows(2) {
        let (small, large) = (list(&pair[0].damage), list(&pair[1].damage));
        assert!(small.iter().zip(&large).all(|(s, l)| l >= s), "{small:?} {large:?}");
    }
}

#[test]
fn samples_together_find_what_they_find_alone() {
    let toy = Toy::tanh(Kind::Double);
    let x = images(95, 4);
    let budget = Budget::new(Norm::L2, 0.4, Some((0.0, 1.0))).unwrap();
    let ground = Ground { images: images(90, 6), index: (50..56).collect(), target: None, draws: None };
    let others = Others { images: images(91, 12), index: (100..112).collect() };
    let pool = gathered(&toy, &ground, &others, &[budget]).unwrap();
    let spec = AttackSpec::Transfer(TransferSpec { budget: 30, ..TransferSpec::default() });
    let of = |x: &Tensor, index: &[u64]| {
        let victim = Victim::new(&toy, x, index, SEED, None).unwrap().beside(&others).unwrap().pooling(&pool).unwrap();
        list(&run(&spec, &victim, &budget).unwrap()[0].damage)
    };
    let together = of(&x, &[3, 5, 8, 9]);
    let alone: Vec<f64> = [3u64, 5, 8, 9].iter().zip(0..).flat_map(|(at, i)| of(&x.narrow(0, i, 1), &[*at])).collect();
    assert!(together.iter().zip(&alone).all(|(a, b)| (a / b - 1.0).abs() < 1e-9), "{together:?} {alone:?}");
}

/// The suite's two searches from a pool try its perturbations once, and count the pool's passes once.
#[test]
fn a_second_search_does_not_try_the_pool_again() {
    let toy = Toy::tanh(Kind::Float);
    let (x, others) = (images(96, 4).to_kind(Kind::Float), others());
    let budget = Budget::new(Norm::L2, 0.4, Some((0.0, 1.0))).unwrap();
    let pool = pool(&toy, &[budget]).unwrap();
    let (perturbations, share) = pool.at(Goal::Latent, &budget).unwrap();
    let jacobian = super::toy::jacobian(&toy, &x);
    let eigen = super::toy::spectrum(&jacobian);
    let victim = Victim::new(&toy, &x, &[1, 2, 3, 4], SEED, Some(&eigen)).unwrap();
    let victim = victim.beside(&others).unwrap().pooling(&pool).unwrap();
    let parts = run(&AttackSpec::Suite(SuiteSpec::default()), &victim, &budget).unwrap();
    let forward = |name: &str| parts.iter().find(|part| part.name == name).unwrap().search.forward;
    // The steps, and what they end at.
    let steps = |budget: usize| {
        let plan = TransferSpec { budget, ..TransferSpec::default() }.plan(Norm::L2);
        plan.iter().map(|heat| heat.rows * heat.steps).sum::<usize>() as f64 + 1.0
    };
    let tried = share.forward + perturbations.size()[0] as f64;
    assert!((forward("suite-short") - tried - steps(132)).abs() < 1e-9, "{}", forward("suite-short"));
    assert!((forward("suite-transfer") - steps(270)).abs() < 1e-9, "{}", forward("suite-transfer"));
}

/// Room for so many samples at a time.
struct Tight(Toy, i64);

impl Vae for Tight {
    fn encode(&self, x: &Tensor) -> Result<Posterior> {
        if x.size()[0] > self.1 {
            let message = "DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes".to_owned();
            return Err(Error::Native { routine: "encode", message });
        }
        self.0.encode(x)
    }
    fn decode(&self, z: &Tensor) -> Result<Tensor> {
        self.0.decode(z)
    }
}

#[test]
fn a_pool_that_does_not_fit_is_searched_in_parts() {
    let budget = Budget::new(Norm::L2, 0.1, None).unwrap();
    let x = images(92, 2).to_kind(Kind::Float);
    // A race asks for several starts at once; of one image, six are too many for no model here.
    let tight = Tight(Toy::linear(Kind::Float), 40);
    let (wide, narrow) = (pool(&tight.0, &[budget]).unwrap(), pool(&tight, &[budget]).unwrap());
    let of = |pool: &Pool| list(&found(&tight.0, &x, &[1, 2], pool, &[budget], 60)[0].damage);
    let (wide, narrow) = (of(&wide), of(&narrow));
    assert!(wide.iter().zip(&narrow).all(|(a, b)| (a / b - 1.0).abs() < 1e-4), "{wide:?} {narrow:?}");
    assert!(pool(&Tight(Toy::linear(Kind::Float), 0), &[budget]).is_err());
}

/// [`Tight`] once two searches are done.
struct Shrinking(Tight, Cell<usize>);

impl Vae for Shrinking {
    fn encode(&self, x: &Tensor) -> Result<Posterior> {
        if self.1.get() >= 2 { self.0.encode(x) } else { self.0.0.encode(x) }
    }
    fn decode(&self, z: &Tensor) -> Result<Tensor> {
        self.0.decode(z)
    }
}

#[test]
fn a_pool_that_is_searched_again_is_told_of_once() {
    let budgets = [0.1, 0.3].map(|epsilon| Budget::new(Norm::L2, epsilon, None).unwrap());
    let ground =
        Ground { images: images(90, 6).to_kind(Kind::Float), index: (50..56).collect(), target: None, draws: None };
    let vae = Shrinking(Tight(Toy::linear(Kind::Float), 40), Cell::new(0));
    let (others, goals) = (others(), [Goal::Latent]);
    let wanted = Gathering {
        vae: &vae,
        ground: &ground,
        others: &others,
        goals: &goals,
        budgets: &budgets,
        sharers: 12,
        seed: SEED,
    };
    Pool::search(&wanted, &|| vae.1.set(vae.1.get() + 1)).unwrap();
    assert_eq!(vae.1.get(), Pool::searches(1, 2));
}
