//! The limits that theory sets: first-order gain, the best direction, the order of the attacks.

use super::toy::{Toy, images, jacobian, list, spectrum};
use crate::roundoff::apart;
use pullback::attack::{
    AttackSpec, Attacked, Budget, Goal, Norm, PgdSpec, Schedule, SpectralSpec, Start, TOLERANCE, Victim, run,
};
use tch::Kind;

fn column(result: &Attacked, name: &str) -> Vec<f64> {
    list(&result.measures.iter().find(|(n, _)| *n == name).unwrap().1)
}

fn spectral(goal: Goal) -> AttackSpec {
    AttackSpec::Spectral(SpectralSpec { goal, ..SpectralSpec::default() })
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// |mu(x + eps v_1) - mu(x)| / eps -> sqrt lambda_1 of `mean`; 2 KL / eps^2 -> lambda_1 of `fisher`.
#[test]
fn first_order_gain() {
    for (kind, epsilon) in [(Kind::Double, 1e-3), (Kind::Float, 3e-3)] {
        let (toy, x) = (Toy::linear(kind), images(31, 6).to_kind(kind));
        let index: Vec<u64> = (0..6).collect();
        let budget = Budget::new(Norm::L2, epsilon, Some((0.0, 1.0))).unwrap();

        let of_mean = spectrum(&toy.pullback(&x));
        let victim = Victim::new(&toy, &x, &index, 0, Some(&of_mean)).unwrap();
        let hit = &run(&spectral(Goal::Latent), &victim, &budget).unwrap()[0];
        let lambda = list(&of_mean.values.select(1, 0));
        // The model is linear: codes of some size 1 are rounded, and half a millionth of the budget may be left unused.
        let rounded = apart(kind, &[16]) / epsilon + TOLERANCE;
        for (distance, lambda) in column(hit, "latent_l2").into_iter().zip(&lambda) {
            let gain = distance / epsilon / lambda.sqrt();
            assert!((gain - 1.0).abs() < rounded, "{kind:?} latent: {gain}");
        }

        let fisher = spectrum(&toy.fisher(&x));
        let victim = Victim::new(&toy, &x, &index, 0, Some(&fisher)).unwrap();
        for goal in [Goal::Kl, Goal::Rkl, Goal::Skl] {
            let hit = &run(&spectral(goal), &victim, &budget).unwrap()[0];
            let lambda = list(&fisher.values.select(1, 0));
            for name in ["latent_kl", "latent_skl"] {
                for (kl, lambda) in column(hit, name).into_iter().zip(&lambda) {
                    let gain = 2.0 * kl / epsilon.powi(2) / lambda;
                    // The next order: the change of sigma along the step, epsilon times a slope of some 3.
                    assert!((gain - 1.0).abs() < 6.0 * epsilon + rounded, "{kind:?} {goal} {name}: {gain}");
                }
            }
            // The second direction falls short: the check can fail.
            let second = list(&fisher.values.select(1, 1));
            let gain = 2.0 * column(hit, "latent_kl")[0] / epsilon.powi(2) / second[0];
            assert!(gain > 1.1, "{gain}");
        }
    }
}

#[test]
fn none_of_ten_thousand_directions_beats_the_first() {
    let toy = Toy::tanh(Kind::Double);
    let one = images(32, 1);
    let eigen = spectrum(&jacobian(&toy, &one));
    let budget = Budget::new(Norm::L2, 1e-3, None).unwrap();
    let victim = Victim::new(&toy, &one, &[0], 0, Some(&eigen)).unwrap();
    let best = list(&run(&spectral(Goal::Latent), &victim, &budget).unwrap()[0].damage)[0];

    let many = one.repeat([10_000, 1, 1, 1]);
    let index: Vec<u64> = (0..10_000).collect();
    let crowd = Victim::new(&toy, &many, &index, 7, None).unwrap();
    let tries = list(&run(&"random".parse().unwrap(), &crowd, &budget).unwrap()[0].damage);
    assert_eq!(tries.len(), 10_000);
    // First order in epsilon: the curvature may give a thousandth.
    let top = tries.iter().fold(0.0, |m: f64, t| m.max(*t));
    assert!(tries.iter().all(|t| *t <= best * 1.001), "{top} above {best}");
    assert!(top > 0.5 * best, "directions of 16 pixels come near, or the test sees nothing: {top} of {best}");
}

#[test]
fn pgd_beats_spectral_beats_random() {
    let toy = Toy::tanh(Kind::Float);
    let x = images(33, 16).to_kind(Kind::Float);
    let index: Vec<u64> = (0..16).collect();
    let eigen = spectrum(&jacobian(&toy, &x.to_kind(Kind::Float)));
    let double = Toy::tanh(Kind::Double);
    let exact = spectrum(&jacobian(&double, &x.to_kind(Kind::Double)));
    assert_eq!(eigen.values.size(), exact.values.size());
    let victim = Victim::new(&toy, &x, &index, 3, Some(&exact)).unwrap();
    for norm in [Norm::L2, Norm::Linf, Norm::L1] {
        let epsilon = match norm {
            Norm::L2 => 0.3,
            Norm::Linf => 0.1,
            Norm::L1 => 1.0,
        };
        for pixels in [None, Some((0.0, 1.0))] {
            let budget = Budget::new(norm, epsilon, pixels).unwrap();
            let damage = |spec: &AttackSpec| list(&run(spec, &victim, &budget).unwrap()[0].damage);
            let along = damage(&spectral(Goal::Latent));
            let blind = damage(&"random".parse().unwrap());
            let pgd = damage(&"pgd".parse().unwrap());
            let warm = PgdSpec { start: Start::Spectral, ..PgdSpec::default() };
            let warm = damage(&AttackSpec::Pgd(warm));
            assert!(mean(&along) > 1.2 * mean(&blind), "{norm}: {} {}", mean(&along), mean(&blind));
            assert!(mean(&pgd) > mean(&along), "{norm}: {} {}", mean(&pgd), mean(&along));
            for (w, a) in warm.iter().zip(&along) {
                assert!(*w >= a * (1.0 - apart(Kind::Float, &[16, 8, 3])), "{norm}: started at {a}, ended at {w}");
            }
        }
    }
}

/// For a small epsilon PGD on the latent distance is a power iteration on the `mean` metric.
#[test]
fn pgd_finds_the_first_eigenvalue() {
    let (toy, x) = (Toy::linear(Kind::Double), images(34, 4));
    let index: Vec<u64> = (0..4).collect();
    let victim = Victim::new(&toy, &x, &index, 5, None).unwrap();
    let lambda = list(&spectrum(&toy.pullback(&x)).values.select(1, 0));
    let budget = Budget::new(Norm::L2, 1e-3, None).unwrap();
    // Forty steps of a power iteration: the second eigenvalue is at most 0.9 of the first, so that what is left of its direction is
    // 0.9^40 of some 1, and costs the square of that.
    let second = list(&spectrum(&toy.pullback(&x)).values.select(1, 1));
    assert!(second.iter().zip(&lambda).all(|(second, first)| second / first < 0.9));
    let left = 0.9f64.powi(2 * 40) + TOLERANCE + apart(Kind::Double, &[16]) / 1e-3;
    let spec = AttackSpec::Pgd(PgdSpec { schedule: Schedule::Linear, ..PgdSpec::default() });
    let hit = &run(&spec, &victim, &budget).unwrap()[0];
    for (damage, lambda) in list(&hit.damage).into_iter().zip(lambda) {
        let gain = damage / 1e-3 / lambda.sqrt();
        assert!((gain - 1.0).abs() < left, "{gain}, allowed {left:e}");
    }
}

/// In the box of [0, 1] a dark image lends an L2 step few pixels: those held must not use it up. Each sign has its own
/// summit there, so that more than one start is needed.
#[test]
fn pgd_spends_its_step_on_free_pixels() {
    let toy = Toy::linear(Kind::Double);
    let x = (images(35, 8) - 0.45).clamp(0.0, 1.0);
    let index: Vec<u64> = (0..8).collect();
    let eigen = spectrum(&toy.pullback(&x));
    let victim = Victim::new(&toy, &x, &index, 5, Some(&eigen)).unwrap();
    let budget = Budget::new(Norm::L2, 0.5, Some((0.0, 1.0))).unwrap();
    let along = list(&run(&spectral(Goal::Latent), &victim, &budget).unwrap()[0].damage);
    let spec = AttackSpec::Pgd(PgdSpec { restarts: 8, ..PgdSpec::default() });
    let hit = &run(&spec, &victim, &budget).unwrap()[0];
    for (pgd, along) in list(&hit.damage).into_iter().zip(along) {
        assert!(pgd > along, "{pgd} against {along}");
    }
    for size in column(hit, "input_l2") {
        assert!(size > 0.5 * 0.98, "PGD left part of its budget unused: {size} of 0.5");
    }
}
