//! Images of 8 bits within a budget, and targets.

use super::toy::{Toy, images, list, normal};
use pullback::attack::*;
use pullback::model::shift::Reading;
use tch::{Kind, Tensor};

fn levels(x: &Tensor) -> Vec<f64> {
    list(&(x.to_kind(Kind::Double) * 255.0))
}

#[test]
fn rounded_images_obey_their_budget() {
    for kind in [Kind::Float, Kind::Double] {
        // On the grid, as bytes are, and off it.
        let off = images(81, 8).to_kind(kind);
        let on = ((&off * 255.0).round() / 255.0).to_kind(kind);
        for (x0, epsilons) in [(&on, [0.004, 0.02, 0.3]), (&off, [0.05, 0.1, 0.3])] {
            for norm in [Norm::L2, Norm::Linf, Norm::L1] {
                for epsilon in epsilons {
                    let epsilon = if norm == Norm::L1 { epsilon * 4.0 } else { epsilon };
                    let budget = Budget::new(norm, epsilon, Some((0.0, 1.0))).unwrap();
                    let far = x0 + (normal(82, 8, 16).view([8, 1, 4, 4]) * epsilon).to_kind(kind);
                    let radius = Tensor::from_slice(&[epsilon; 8]);
                    let near = budget.project_to(x0, &far, &radius).unwrap();
                    let found = budget.on_grid(x0, &near, &radius).unwrap();
                    let whole = levels(&found)
                        .iter()
                        .all(|l| (l - l.round()).abs() < 1e-4 && (0.0..=255.0).contains(&l.round()));
                    assert!(whole, "{norm} {epsilon}");
                    let sizes = list(&budget.measure(x0, &found).unwrap());
                    assert!(sizes.iter().all(|s| *s <= epsilon * (1.0 + TOLERANCE)), "{norm} {epsilon}: {sizes:?}");
                    // Rounding takes at most half a level a pixel; what brings it back takes as much again of all together.
                    let taken =
                        (&found - &near).abs().to_kind(Kind::Double).flatten(1, -1).mean_dim(1i64, false, Kind::Double);
                    let most = taken.max().double_value(&[]) * 255.0;
                    assert!(most <= 1.0, "{norm} {epsilon}: {most} levels a pixel");
                }
            }
        }
        // Rounding alone takes more than this.
        let tight = Budget::new(Norm::Linf, 1e-4, Some((0.0, 1.0))).unwrap();
        let error = tight.on_grid(&off, &off, &Tensor::from_slice(&[1e-4])).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().starts_with("images of 8 bits: expected an epsilon that"), "{error}");
        // What it names as enough is enough.
        let named = error.to_string().split("at least ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        let enough = Budget::new(Norm::Linf, named, Some((0.0, 1.0))).unwrap();
        assert!(enough.on_grid(&off, &off, &Tensor::from_slice(&[named])).is_ok());
        // An attack's own radius may leave no room, where epsilon does.
        let own = Tensor::from_slice(&[1e-4, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
        let wide = Budget::new(Norm::L2, 1.0, Some((0.0, 1.0))).unwrap();
        let found = wide.on_grid(&off, &off, &own).unwrap();
        let held = Vec::<bool>::try_from(wide.holds(&off, &found, &own).unwrap()).unwrap();
        assert_eq!(held, [false, true, true, true, true, true, true, true]);
    }
}

#[test]
fn a_rounded_attack_is_judged_as_rounded() {
    let toy = Toy::tanh(Kind::Double);
    let x = (images(83, 6) * 255.0).round() / 255.0;
    let budget = Budget::new(Norm::Linf, 0.03, Some((0.0, 1.0))).unwrap();
    let victim = Victim::of(&toy, &x).unwrap().rounded(true);
    for name in ["pgd", "race", "random"] {
        let found = &run(&name.parse().unwrap(), &victim, &budget).unwrap()[0];
        assert!(levels(&found.images).iter().all(|l| (l - l.round()).abs() < 1e-9), "{name}");
        let again = list(&Goal::Latent.value(&victim, &found.images).unwrap());
        for (damage, again) in list(&found.damage).into_iter().zip(again) {
            assert!((damage - again).abs() < 1e-9, "{name}: {damage} {again}");
        }
    }
}

/// Images that are not of 8 bits, and an attack that tries radii which their rounding exceeds.
#[test]
fn a_radius_below_the_rounding_costs_that_trial_alone() {
    let toy = Toy::tanh(Kind::Double);
    let x = images(86, 6);
    let budget = Budget::new(Norm::L2, 1.0, Some((0.0, 1.0))).unwrap();
    let victim = Victim::of(&toy, &x).unwrap().rounded(true);
    let spec: AttackSpec = serde_yaml::from_str("{kind: minimal, reach: 0.001}").unwrap();
    let found = &run(&spec, &victim, &budget).unwrap()[0];
    let (smallest, damage) = (list(found.smallest.as_ref().unwrap()), list(&found.damage));
    assert!(levels(&found.images).iter().all(|l| (l - l.round()).abs() < 1e-9));
    assert!(smallest.iter().all(|size| *size > 0.0 && *size < 0.1), "{smallest:?}");
    assert!(damage.iter().all(|d| *d >= 0.001), "{damage:?}");
}

#[test]
fn targets_are_approached() {
    let toy = Toy::tanh(Kind::Double);
    let (x, aimed) = (images(84, 10), images(85, 10));
    let budget = Budget::new(Norm::L2, 0.6, Some((0.0, 1.0))).unwrap();
    let victim = || Victim::of(&toy, &x).unwrap().towards(Reading::of(&toy, &aimed).unwrap()).unwrap();
    for goal in [Goal::Latent, Goal::Recon, Goal::Skl] {
        let victim = victim();
        let knob = Knob::new("--goal", "goal", goal).unwrap();
        let mut chosen: Vec<AttackSpec> = vec!["race".parse().unwrap()];
        knob.turn(&mut chosen).unwrap();
        let found = &run(&chosen[0], &victim, &budget).unwrap()[0];
        let before = list(&goal.value(&victim, &x).unwrap());
        for (before, after) in before.iter().zip(list(&found.damage)) {
            // The goal is minus the distance.
            assert!(*before < 0.0 && after <= 0.0 && after > 0.9 * before, "{goal}: from {before} to {after}");
        }
        let names: Vec<&str> = found.measures.iter().map(|(name, _)| *name).collect();
        assert!(names.ends_with(&["target_latent_l2", "target_recon_mse"]), "{names:?}");
    }
    let short = Reading::of(&toy, &aimed.narrow(0, 0, 3)).unwrap();
    assert_eq!(Victim::of(&toy, &x).unwrap().towards(short).err().unwrap().exit_code(), 2);
}
