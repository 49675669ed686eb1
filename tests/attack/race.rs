//! Races, the surface they run on, and the ascents and searches beside them.

use super::toy::{Collapsed, Toy, images, jacobian, list, normal, spectrum};
use crate::roundoff::apart;
use pullback::Result;
use pullback::attack::*;
use pullback::model::{Posterior, Vae};
use tch::{Kind, Tensor};

fn spec(yaml: &str) -> AttackSpec {
    serde_yaml::from_str(yaml).unwrap()
}

/// |clip(x0 + s d) - x0| = epsilon by bisection, one row at a time.
fn bisected(x0: &[f64], d: &[f64], epsilon: f64, power: i32, (low, high): (f64, f64)) -> Vec<f64> {
    let at = |s: f64| -> Vec<f64> { x0.iter().zip(d).map(|(x, d)| (x + s * d).clamp(low, high)).collect() };
    let size = |s: f64| {
        let sum: f64 = at(s).iter().zip(x0).map(|(y, x)| (y - x).abs().powi(power)).sum();
        sum.powf(1.0 / f64::from(power))
    };
    let (mut short, mut long) = (0.0, 1e-6);
    while size(long) < epsilon && long < 1e12 {
        long *= 2.0;
    }
    for _ in 0..200 {
        let middle = 0.5 * (short + long);
        if size(middle) < epsilon { short = middle } else { long = middle }
    }
    at(long)
}

#[test]
fn the_surface_is_reached_as_far_as_the_box_lets_it() {
    // Dark images: many pixels have little way down.
    let x0 = (images(71, 6) - 0.45).clamp(0.0, 1.0);
    let direction = normal(72, 6, 16).view([6, 1, 4, 4]);
    let pixels = |t: &Tensor| list(t).chunks(16).map(<[f64]>::to_vec).collect::<Vec<_>>();
    for (norm, power) in [(Norm::L2, 2), (Norm::L1, 1)] {
        // The last is beyond what the box has room for.
        for epsilon in [1e-3, 0.3, 1.0, 100.0] {
            let budget = Budget::new(norm, epsilon, Some((0.0, 1.0))).unwrap();
            let found = budget.surface(&x0, &direction).unwrap();
            for ((found, x0), d) in pixels(&found).iter().zip(pixels(&x0)).zip(pixels(&direction)) {
                let expected = bisected(&x0, &d, epsilon, power, (0.0, 1.0));
                for (found, expected) in found.iter().zip(expected) {
                    assert!((found - expected).abs() < 1e-9, "{norm} {epsilon}: {found}, not {expected}");
                }
            }
        }
    }
    let free = Budget::new(Norm::L2, 2.0, None).unwrap();
    let found = free.surface(&x0, &direction).unwrap();
    assert!(list(&free.measure(&x0, &found).unwrap()).iter().all(|s| (s - 2.0).abs() < 1e-12));
    let corner = Budget::new(Norm::Linf, 0.1, Some((0.0, 1.0))).unwrap();
    let expected = (&x0 + direction.sign() * 0.1).clamp(0.0, 1.0);
    assert!(corner.surface(&x0, &direction).unwrap() == expected);
    // No direction, no move.
    let still = free.surface(&x0, &direction.zeros_like()).unwrap();
    assert!(still == x0);
    assert_eq!(free.surface(&x0, &direction.narrow(0, 0, 2)).unwrap_err().exit_code(), 2);
}

#[test]
fn plans_spend_their_budget() {
    for budget in (12..400).chain([480, 840, 5000]) {
        for norm in [Norm::L2, Norm::Linf, Norm::L1] {
            let spec = RaceSpec { budget, ..RaceSpec::default() };
            let plan = spec.plan(norm);
            // Where ascents begin anew, every start is looked at.
            let looks = plan[0].rows * plan.iter().filter(|heat| heat.anew > 0).count();
            let passes = looks + plan.iter().map(|heat| heat.rows * heat.steps).sum::<usize>();
            assert!(passes <= budget && passes * 10 >= budget * 9, "{budget}: {plan:?}");
            assert!(plan.windows(2).all(|w| w[0].rows >= w[1].rows - w[1].anew), "{plan:?}");
            assert_eq!(plan.last().unwrap().rows, 1);
            assert_eq!(looks > 0, norm == Norm::L2);
            // The plan can be written down as it is.
            let told = serde_yaml::to_string(&AttackSpec::Race(RaceSpec { heats: Some(plan), ..spec })).unwrap();
            self::spec(&told);
        }
    }
}

/// Beyond two, the second pixel counts most; within one, the first does, but near 0 it is not felt.
struct Lure;

impl Vae for Lure {
    fn encode(&self, x: &Tensor) -> Result<Posterior> {
        let d = x.flatten(1, -1) - 0.5;
        let (first, second) = (d.narrow(1, 0, 1), d.narrow(1, 1, 1));
        let near = (first.abs() - 0.1).relu();
        let far = &second * 0.5 + (second.abs() - 2.0).relu() * second.sign() * 4.0;
        let mean = Tensor::cat(&[near, far], 1);
        Ok(Posterior { log_var: mean.zeros_like(), mean })
    }

    fn decode(&self, z: &Tensor) -> Result<Tensor> {
        Ok(z.repeat([1, 2]).view([-1, 1, 2, 2]))
    }
}

#[test]
fn larger_balls_do_not_hide_what_is_within_epsilon() {
    let x = Tensor::full([32, 1, 2, 2], 0.5, (Kind::Double, tch::Device::Cpu));
    let victim = Victim::of(&Lure, &x).unwrap();
    let budget = Budget::new(Norm::L2, 1.0, None).unwrap();
    let damage = |yaml: &str| list(&run(&spec(yaml), &victim, &budget).unwrap()[0].damage);
    for (yaml, least) in [("{kind: race}", 0.899), ("{kind: race, budget: 840}", 0.899)] {
        let found = damage(yaml);
        assert!(found.iter().all(|d| *d > least), "{yaml}: {found:?}");
    }
    // The same without an ascent that begins anew: the far summit leads away from the near one.
    let heats = "[{rows: 8, steps: 4, lengths: [1.5, 0.7], radius: 4}, {rows: 3, steps: 8, lengths: [1, 0.5], radius: 2.5}, \
                 {rows: 2, steps: 10, lengths: [1, 0.5], radius: 1.5}, {rows: 1, steps: 44, lengths: [1, 0.02]}]";
    let led = damage(&format!("{{kind: race, heats: {heats}}}"));
    assert!(led.iter().filter(|d| **d < 0.6).count() > 16, "{led:?}");
}

/// What the plan says is what the model is asked: the model itself counts.
#[test]
fn passes_are_counted_as_they_are_made() {
    let (toy, x) = (Toy::tanh(Kind::Double), images(73, 200));
    let index: Vec<u64> = (0..200).collect();
    let eigen = spectrum(&jacobian(&toy, &x));
    let victim = Victim::new(&toy, &x, &index, 3, Some(&eigen)).unwrap();
    let spectral = Passes { forward: 1.0, backward: 3.0 };
    let victim = victim.for_passes(spectral);
    let budget = Budget::new(Norm::L2, 0.4, Some((0.0, 1.0))).unwrap();
    for (yaml, along) in [
        ("{kind: race}", true),
        ("{kind: pgd, steps: 7, restarts: 2}", false),
        ("{kind: apgd, steps: 9}", false),
        ("{kind: square, queries: 11}", false),
        ("{kind: square, queries: 5, restarts: 2}", false),
        ("{kind: random, draws: 3}", false),
    ] {
        toy.encoded.set(0);
        let found = &run(&spec(yaml), &victim, &budget).unwrap()[0];
        // One call reads the result for the judge; 200 images go through the model one start at a time.
        let asked = toy.encoded.get() as f64 - 1.0 + if along { spectral.forward } else { 0.0 };
        assert_eq!(found.passes().forward, asked, "{yaml}");
        assert!(found.passes().backward <= found.passes().forward + 3.0, "{yaml}: {:?}", found.passes());
    }
    // One spectrum serves all directions, and all parts of the suite.
    for (yaml, forward) in [("{kind: spectral, top: 3}", 3.0), ("{kind: suite}", 850.0)] {
        let parts = run(&spec(yaml), &victim, &budget).unwrap();
        let (own, parts) = parts.split_first().unwrap();
        assert_eq!(own.spectrum, spectral, "{yaml}");
        assert_eq!(own.search.forward, parts.iter().map(|p| p.search.forward).sum::<f64>(), "{yaml}");
        assert!(own.passes().forward >= forward && own.passes().forward <= 1000.0, "{yaml}: {:?}", own.passes());
    }
    let race = &run(&spec("{kind: race}"), &victim, &budget).unwrap()[0];
    assert!(race.passes().forward <= 123.0, "{:?}", race.passes());
}

/// Within so many passes a search has found what a search of as many passes finds; its end is its damage.
#[test]
fn damage_over_passes_is_what_shorter_searches_find() {
    let (toy, x) = (Toy::tanh(Kind::Double), images(79, 6));
    let eigen = spectrum(&jacobian(&toy, &x));
    let index: Vec<u64> = (0..6).collect();
    let spectral = Passes { forward: 1.0, backward: 3.0 };
    let victim = Victim::new(&toy, &x, &index, 3, Some(&eigen)).unwrap().for_passes(spectral);
    let budget = Budget::new(Norm::L2, 0.4, Some((0.0, 1.0))).unwrap();
    // [P][B]
    let told = |found: &Attacked| -> Vec<Vec<f64>> {
        let curve = found.curve.at_budgets(found.spectrum.larger()).unwrap().unwrap();
        list(&curve.transpose(0, 1)).chunks(6).map(<[f64]>::to_vec).collect()
    };
    let found = |yaml: &str| run(&spec(yaml), &victim, &budget).unwrap();
    let alike = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-12 * b.abs());
    let long = told(&found("{kind: pgd, steps: 40, step: 0.1}")[0]);
    for passes in [2usize, 4, 16] {
        // Each step asks at its beginning, and the last one once more.
        let short = found(&format!("{{kind: pgd, steps: {}, step: 0.1}}", passes - 1));
        assert!(alike(&long[passes.ilog2() as usize], &list(&short[0].damage)), "{passes}");
    }
    let searches = ["race", "suite", "pgd, restarts: 3", "apgd, steps: 9", "square, queries: 9", "spectral", "random"];
    for yaml in searches.map(|search| format!("{{kind: {search}}}")) {
        let found = &found(&yaml)[0];
        let told = told(found);
        assert!(alike(told.last().unwrap(), &list(&found.damage)), "{yaml}");
        let within = |passes: usize| &told[passes.ilog2() as usize];
        if yaml.contains("race") {
            // What is found in the larger balls of L2 counts for nothing: the last heat begins after 79 passes.
            assert!(within(64).iter().all(|d| d.is_nan()) && within(128).iter().all(|d| *d > 0.0), "{told:?}");
        }
        let rises =
            told.windows(2).all(|w| w[1].iter().zip(&w[0]).all(|(late, early)| early.is_nan() || late >= early));
        assert!(rises, "{yaml}: {told:?}");
    }
    // In Linf every heat is within epsilon: eight ascents side by side, after a spectrum of three passes.
    let budget = Budget::new(Norm::Linf, 0.1, Some((0.0, 1.0))).unwrap();
    let told = told(&run(&spec("{kind: race}"), &victim, &budget).unwrap()[0]);
    let within = |passes: usize| &told[passes.ilog2() as usize];
    assert!(within(8).iter().all(|d| d.is_nan()) && within(16).iter().all(|d| *d > 0.0), "{told:?}");
    assert!(within(32).iter().zip(within(16)).any(|(late, early)| late > early), "{told:?}");
}

#[test]
fn a_race_finds_more_than_one_ascent_of_as_many_passes() {
    let toy = Toy::tanh(Kind::Double);
    let x = images(74, 40);
    let index: Vec<u64> = (0..40).collect();
    let eigen = spectrum(&jacobian(&toy, &x));
    let others = Others { images: images(75, 12), index: (100..112).collect() };
    let victim = Victim::new(&toy, &x, &index, 3, Some(&eigen)).unwrap().beside(&others).unwrap();
    for (norm, epsilon) in [(Norm::L2, 0.8), (Norm::Linf, 0.25)] {
        let budget = Budget::new(norm, epsilon, Some((0.0, 1.0))).unwrap();
        let mean = |yaml: &str| list(&run(&spec(yaml), &victim, &budget).unwrap()[0].damage).iter().sum::<f64>() / 40.0;
        let (race, pgd, apgd) =
            (mean("{kind: race}"), mean("{kind: pgd, steps: 120, schedule: linear}"), mean("{kind: apgd, steps: 120}"));
        let (iterated, once) = (mean("{kind: spectral-iterated, metric: mean}"), mean("{kind: spectral}"));
        let (square, noise) = (mean("{kind: square, queries: 120}"), mean("{kind: random, draws: 1}"));
        assert!(race > 1.01 * pgd, "{norm}: race {race}, pgd {pgd}");
        assert!(apgd > 0.9 * pgd, "{norm}: apgd {apgd}, pgd {pgd}");
        assert!(iterated > once, "{norm}: again {iterated}, once {once}");
        assert!(square > 1.05 * noise && square < race, "{norm}: square {square}, noise {noise}");
        let suite = mean("{kind: suite}");
        assert!(suite >= race.max(apgd).max(iterated) * (1.0 - 1e-6), "{norm}: suite {suite}, race {race}");
    }
}

/// The worst case never falls as epsilon grows, whatever order they come in.
#[test]
fn a_larger_budget_is_never_worse() {
    let toy = Toy::tanh(Kind::Double);
    let x = images(76, 16);
    let index: Vec<u64> = (0..16).collect();
    let eigen = spectrum(&jacobian(&toy, &x));
    let sizes = [
        (Norm::L2, [0.2, 0.25, 0.5, 0.55, 1.5]),
        (Norm::Linf, [0.05, 0.06, 0.15, 0.16, 0.4]),
        (Norm::L1, [0.5, 0.6, 1.5, 1.6, 4.0]),
    ];
    for (norm, sizes) in sizes {
        for yaml in [
            "{kind: race, budget: 12}",
            "{kind: pgd, steps: 2, restarts: 2}",
            "{kind: apgd, steps: 3, restarts: 2}",
            "{kind: suite}",
        ] {
            // It has nothing else in the other norms, and takes long.
            if norm != Norm::L2 && yaml.contains("suite") {
                continue;
            }
            let victim = Victim::new(&toy, &x, &index, 3, Some(&eigen)).unwrap();
            let mut before = vec![0.0; 16];
            for epsilon in sizes {
                let budget = Budget::new(norm, epsilon, Some((0.0, 1.0))).unwrap();
                let found = list(&run(&spec(yaml), &victim, &budget).unwrap()[0].damage);
                let falls = found.iter().zip(&before).filter(|(now, then)| **now < **then * (1.0 - 1e-9)).count();
                assert_eq!(falls, 0, "{yaml} {norm} {epsilon}: {found:?} after {before:?}");
                before = found;
            }
        }
    }
}

/// The first of several searches is the only one of one; the worst of each sample is kept, and every pass is counted.
#[test]
fn restarts_keep_the_worst_of_each_sample() {
    let (toy, x) = (Toy::tanh(Kind::Double), images(80, 8));
    let index: Vec<u64> = (0..8).collect();
    let victim = Victim::new(&toy, &x, &index, 3, None).unwrap();
    let budget = Budget::new(Norm::L2, 0.8, Some((0.0, 1.0))).unwrap();
    for search in ["square, queries: 30", "spectral-iterated, steps: 3, metric: mean"] {
        let once = &run(&spec(&format!("{{kind: {search}}}")), &victim, &budget).unwrap()[0];
        let thrice = &run(&spec(&format!("{{kind: {search}, restarts: 3}}")), &victim, &budget).unwrap()[0];
        let (one, three) = (list(&once.damage), list(&thrice.damage));
        assert!(one.iter().zip(&three).all(|(one, three)| *three >= one * (1.0 - 1e-9)), "{search}: {one:?} {three:?}");
        // To compare them the judge asks once for each.
        assert_eq!(thrice.search.forward, 3.0 * (once.search.forward + 1.0), "{search}");
        assert_eq!(thrice.search.backward, 3.0 * once.search.backward, "{search}");
        if search.starts_with("square") {
            assert!(one.iter().zip(&three).any(|(one, three)| three > one), "the searches differ: {one:?}");
        }
    }
    for yaml in ["{kind: square, restarts: 0}", "{kind: spectral-iterated, restarts: 0}"] {
        let error = run(&spec(yaml), &victim, &budget).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains("restarts of the "), "{error}");
    }
}

/// In the mean over samples; on one of them a single search may be luckier.
#[test]
fn the_suite_is_no_weaker_than_one_search_of_as_many_passes() {
    let (toy, x) = (Toy::tanh(Kind::Double), images(81, 20));
    let index: Vec<u64> = (0..20).collect();
    let eigen = spectrum(&jacobian(&toy, &x));
    let others = Others { images: images(82, 12), index: (100..112).collect() };
    let budget = Budget::new(Norm::L2, 0.8, Some((0.0, 1.0))).unwrap();
    let ground = Ground { images: images(83, 20), index: (200..220).collect(), target: None, draws: None };
    let goals = &[Goal::Latent];
    let gathering =
        Gathering { vae: &toy, ground: &ground, others: &others, goals, budgets: &[budget], sharers: 20, seed: 3 };
    let pool = Pool::search(&gathering, &|| {}).unwrap();
    let victim = Victim::new(&toy, &x, &index, 3, Some(&eigen)).unwrap().beside(&others).unwrap();
    let victim = victim.pooling(&pool).unwrap();
    let found = |yaml: &str| run(&spec(yaml), &victim, &budget).unwrap().remove(0);
    let mean = |found: &Attacked| list(&found.damage).iter().sum::<f64>() / 20.0;
    let suite = found("{kind: suite}");
    for yaml in
        ["{kind: pgd, steps: 900, schedule: linear}", "{kind: apgd, steps: 900}", "{kind: square, queries: 900}"]
    {
        let single = found(yaml);
        assert!((single.search.forward - suite.search.forward).abs() < 50.0, "{yaml}: {:?}", suite.search);
        assert!(mean(&suite) > 0.99 * mean(&single), "{yaml}: {} against {}", mean(&suite), mean(&single));
    }
    // What it loses to a longer race is little.
    let race = found("{kind: race, budget: 900}");
    assert!(mean(&suite) > 0.97 * mean(&race), "{} against {}", mean(&suite), mean(&race));
}

/// Steps are of unit gradients, and choices by comparison: a model times a number is attacked by the same images.
#[test]
fn the_scale_of_the_model_does_not_matter() {
    let x = images(77, 6);
    let index: Vec<u64> = (0..6).collect();
    let plain = Toy::tanh(Kind::Double);
    let eigen = spectrum(&jacobian(&plain, &x));
    let budget = Budget::new(Norm::L2, 0.5, Some((0.0, 1.0))).unwrap();
    for yaml in ["{kind: race}", "{kind: pgd}", "{kind: apgd, steps: 30}", "{kind: square, queries: 40}"] {
        let at = |scale: f64| {
            let mut toy = Toy::tanh(Kind::Double);
            toy.mean = &toy.mean * scale;
            let victim = Victim::new(&toy, &x, &index, 3, Some(&eigen)).unwrap();
            run(&spec(yaml), &victim, &budget).unwrap().remove(0).images
        };
        let expected = at(1.0);
        // A power of two moves no digit.
        for scale in [2f64.powi(-27), 2f64.powi(27)] {
            let off = (at(scale) - &expected).abs().max().double_value(&[]);
            assert!(off < 1e-9, "{yaml} {scale:e}: {off:e}");
        }
    }
}

/// A plain transcript of algorithm 1 of Croce & Hein 2020 on one sample, in L2 without a box.
#[test]
fn apgd_is_the_published_algorithm() {
    let toy = Toy::tanh(Kind::Double);
    let x0 = images(78, 1);
    let victim = Victim::of(&toy, &x0).unwrap();
    let (epsilon, steps) = (0.9, 50);
    let budget = Budget::new(Norm::L2, epsilon, None).unwrap();
    let ball = |x: &Tensor| {
        let delta = x - &x0;
        let size = delta.norm().double_value(&[]);
        &x0 + delta * (epsilon / size).min(1.0)
    };
    let loss = |x: &Tensor| {
        let (value, gradient) = Goal::Latent.value_and_gradient(&victim, x).unwrap();
        (value.double_value(&[0]), &gradient / gradient.norm())
    };
    // The start of restart 0: along the noise of the sample.
    let noise = pullback::seed::normal_stream(0, pullback::seed::Stage::AttackStart, 0, &[0], 16).unwrap();
    let noise = noise.to_kind(Kind::Double).view([1, 1, 4, 4]);
    let first = &x0 + &noise * (epsilon / noise.norm().double_value(&[]));

    let mut p = vec![0.0, 0.22];
    while *p.last().unwrap() < 1.0 {
        let (a, b): (f64, f64) = (p[p.len() - 2], p[p.len() - 1]);
        p.push(b + (b - a - 0.03f64).max(0.06));
    }
    let checkpoints: Vec<usize> = p.iter().map(|p| (p * steps as f64).ceil() as usize).collect();
    let (mut eta, alpha, rho) = (2.0 * epsilon, 0.75, 0.75);
    let (mut x, mut before) = (first.copy(), first.copy());
    let (mut f, mut direction) = loss(&x);
    let (mut best, mut most, mut slope) = (x.copy(), f, direction.copy());
    let (mut rises, mut halvings, mut most_then, mut halved_then, mut last) = (0, 0, f, false, 0);
    for k in 0..steps {
        let z = ball(&(&x + &direction * eta));
        let next = if k == 0 { z } else { ball(&(&x + (z - &x) * alpha + (&x - &before) * (1.0 - alpha))) };
        before = x;
        x = next;
        let was = f;
        (f, direction) = loss(&x);
        rises += usize::from(f > was);
        if f > most {
            (best, most, slope) = (x.copy(), f, direction.copy());
        }
        if checkpoints[1..].contains(&(k + 1)) {
            let few = (rises as f64) < rho * (k + 1 - last) as f64;
            let stuck = !halved_then && most <= most_then;
            if few || stuck {
                eta /= 2.0;
                halvings += 1;
                (x, f, direction) = (best.copy(), most, slope.copy());
            }
            (halved_then, most_then, rises, last) = (few || stuck, most, 0, k + 1);
        }
    }
    assert!(halvings >= 2, "the step is halved on the way, or little is tested");
    let found = &run(&spec("{kind: apgd, steps: 50}"), &victim, &budget).unwrap()[0];
    let off = (&found.images - &best).abs().max().double_value(&[]);
    assert!(off < 50.0 * apart(Kind::Double, &[16, 12, 3, 12, 16]), "{off:e}");
}

#[test]
fn what_has_no_gradient_is_told() {
    let x = images(79, 3);
    let victim = Victim::of(&Collapsed, &x).unwrap();
    let budget = Budget::new(Norm::L2, 0.1, None).unwrap();
    for yaml in ["{kind: race}", "{kind: apgd, steps: 5}"] {
        let found = &run(&spec(yaml), &victim, &budget).unwrap()[0];
        assert_eq!(list(&found.stalled), [1.0; 3], "{yaml}");
    }
}
