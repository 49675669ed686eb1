//! Where searches begin: none at x itself, none without a direction, and none forgotten by the first step.

use super::toy::{Toy, images, jacobian, list, spectrum};
use pullback::attack::*;
use pullback::spectrum::Spectrum;
use tch::{Kind, Tensor};

fn spec(yaml: &str) -> AttackSpec {
    serde_yaml::from_str(yaml).unwrap()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// A race of several starts is one of a single start where their first step leads all to the same pixel.
#[test]
fn the_first_step_in_l1_leaves_something_of_the_start() {
    let (toy, x) = (Toy::linear(Kind::Double), images(83, 8));
    let index: Vec<u64> = (0..8).collect();
    let heat = Heat { rows: 1, steps: 1, ..RaceSpec::default().plan(Norm::L1)[0] };
    let race = RaceSpec { starts: vec![Start::Random], heats: Some(vec![heat]), ..RaceSpec::default() };
    let race = AttackSpec::Race(race);
    let per_image = |t: Tensor| list(&t.flatten(1, -1).sum_dim_intlist([1i64].as_slice(), false, Kind::Double));
    for pixels in [None, Some((0.0, 1.0))] {
        let budget = Budget::new(Norm::L1, 2.0, pixels).unwrap();
        let [one, other] = [1, 2].map(|seed| {
            let victim = Victim::new(&toy, &x, &index, seed, None).unwrap();
            run(&race, &victim, &budget).unwrap().remove(0).images - &x
        });
        // Of 16 pixels.
        let changed = per_image(one.abs().gt(1e-9));
        assert!(mean(&changed) > 6.0, "{pixels:?}: {changed:?}");
        let apart = per_image((one - other).abs());
        assert!(apart.iter().all(|apart| *apart > 0.3), "{pixels:?}: {apart:?}");
    }
}

#[test]
fn a_race_in_l1_finds_no_less_than_one_ascent() {
    let (toy, x) = (Toy::tanh(Kind::Double), images(84, 20));
    let victim = Victim::of(&toy, &x).unwrap();
    for (epsilon, pixels) in [(2.0, Some((0.0, 1.0))), (1.0, None)] {
        let budget = Budget::new(Norm::L1, epsilon, pixels).unwrap();
        let damage = |yaml: &str| mean(&list(&run(&spec(yaml), &victim, &budget).unwrap()[0].damage));
        let (race, pgd) = (damage("{kind: race}"), damage("{kind: pgd, steps: 40}"));
        assert!(race > 0.999 * pgd, "{epsilon}: race {race}, pgd {pgd}");
    }
}

/// Eigenvectors beyond the rank are 0, and so is the way to an image that the data set has twice.
#[test]
fn without_a_direction_a_search_begins_along_noise() {
    let (toy, x) = (Toy::tanh(Kind::Double), images(85, 3));
    let index: Vec<u64> = (0..3).collect();
    let zero = Spectrum {
        values: Tensor::zeros([3, 4], (Kind::Double, x.device())),
        directions: Some(Tensor::zeros([3, 4, 16], (Kind::Double, x.device()))),
    };
    // All other images are the first sample.
    let others = Others { images: x.narrow(0, 0, 1).repeat([4, 1, 1, 1]), index: (100..104).collect() };
    let victim = Victim::new(&toy, &x, &index, 3, Some(&zero)).unwrap().beside(&others).unwrap();
    let budget = Budget::new(Norm::L2, 0.4, Some((0.0, 1.0))).unwrap();
    for yaml in [
        "{kind: pgd, start: others, steps: 5}",
        "{kind: pgd, start: spectral, steps: 5}",
        "{kind: apgd, start: others, steps: 5}",
        "{kind: race, starts: [spectral], budget: 12}",
    ] {
        let found = &run(&spec(yaml), &victim, &budget).unwrap()[0];
        let damage = list(&found.damage);
        assert!(damage.iter().all(|d| *d > 0.1) && list(&found.stalled) == [0.0; 3], "{yaml}: {damage:?}");
    }
}

/// A sample without a spectrum has no damage along its directions, which is not the damage 0.
#[test]
fn a_lost_direction_is_no_damage() {
    let (toy, x) = (Toy::tanh(Kind::Double), images(86, 3));
    let index: Vec<u64> = (0..3).collect();
    let eigen = spectrum(&jacobian(&toy, &x));
    let directions = eigen.directions.as_ref().unwrap();
    let _ = directions.get(1).fill_(f64::NAN);
    let _ = eigen.values.get(1).fill_(f64::NAN);
    let victim = Victim::new(&toy, &x, &index, 3, Some(&eigen)).unwrap();
    for norm in [Norm::L2, Norm::Linf, Norm::L1] {
        let budget = Budget::new(norm, 0.3, Some((0.0, 1.0))).unwrap();
        for (yaml, name) in [("{kind: spectral}", "spectral"), ("{kind: suite}", "suite-spectral")] {
            let all = run(&spec(yaml), &victim, &budget).unwrap();
            let found = all.iter().find(|found| found.name == name).unwrap();
            let damage = list(&found.damage);
            assert!(damage[1].is_nan() && damage[0] > 0.0 && damage[2] > 0.0, "{norm} {yaml}: {damage:?}");
        }
    }
}

/// Its race begins as the others do, and the spectrum is among its passes.
#[test]
fn minimal_begins_along_eigenvectors_as_a_race_does() {
    let (minimal, race) = (spec("{kind: minimal, reach: 0.2}"), spec("{kind: race}"));
    assert!(minimal.wishes() > 0 && minimal.wishes() == race.wishes());
    let (toy, x) = (Toy::tanh(Kind::Double), images(87, 3));
    let index: Vec<u64> = (0..3).collect();
    let eigen = spectrum(&jacobian(&toy, &x));
    let passes = Passes { forward: 1.0, backward: 3.0 };
    let victim = Victim::new(&toy, &x, &index, 3, Some(&eigen)).unwrap().for_passes(passes);
    let budget = Budget::new(Norm::L2, 0.4, Some((0.0, 1.0))).unwrap();
    assert_eq!(run(&minimal, &victim, &budget).unwrap()[0].spectrum, passes);
}

/// What a smaller epsilon found is as small for a larger one, where a race ends at larger images.
#[test]
fn the_smallest_does_not_grow_with_epsilon() {
    let (toy, x) = (Toy::tanh(Kind::Double), images(88, 10));
    let victim = Victim::of(&toy, &x).unwrap();
    let minimal = spec("{kind: minimal, reach: 0.5, steps: 1, budget: 12}");
    let mut before = vec![f64::INFINITY; 10];
    for epsilon in [0.3, 0.6, 1.2, 3.0] {
        let budget = Budget::new(Norm::L2, epsilon, Some((0.0, 1.0))).unwrap();
        let found = run(&minimal, &victim, &budget).unwrap();
        let sizes = list(found[0].smallest.as_ref().unwrap());
        for (now, then) in sizes.iter().zip(&mut before) {
            assert!(then.is_infinite() || *now <= *then * (1.0 + 1e-9), "{epsilon}: {now} after {then}");
            if now.is_finite() {
                *then = *now;
            }
        }
    }
    assert!(before.iter().any(|size| size.is_finite()), "{before:?}");
}

#[test]
fn what_does_the_damage_already_needs_no_perturbation() {
    let (toy, x) = (Toy::tanh(Kind::Double), images(89, 4));
    let victim = Victim::of(&toy, &x).unwrap();
    let budget = Budget::new(Norm::L2, 0.5, Some((0.0, 1.0))).unwrap();
    // The reconstruction is off by more than this without any attack.
    let found = run(&spec("{kind: minimal, reach: 1e-4, goal: recon-mse}"), &victim, &budget).unwrap();
    assert_eq!(list(found[0].smallest.as_ref().unwrap()), [0.0; 4]);
    // Where x does not do it, x is no result.
    let found = run(&spec("{kind: minimal, reach: 0.2}"), &victim, &budget).unwrap();
    assert!(list(found[0].smallest.as_ref().unwrap()).iter().all(|size| *size > 0.0 || size.is_nan()));
}
