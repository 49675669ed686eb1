//! One perturbation for all images: what theory says of it, and that it hangs on nothing that it should not.

use super::toy::{Collapsed, Toy, images, list, spectrum};
use crate::roundoff::apart;
use pullback::attack::*;
use pullback::model::shift::Reading;
use pullback::model::{Posterior, Vae};
use tch::{Kind, Tensor};

fn ground(x: &Tensor) -> Ground {
    Ground { images: x.shallow_clone(), index: (0..x.size()[0] as u64).collect(), target: None, draws: None }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// All images share the metric of a linear encoder, and what is worst for one is worst for all: in L2 v_1, in Linf the best of all corners.
#[test]
fn of_a_linear_encoder_it_is_the_first_eigenvector() {
    let (toy, x) = (Toy::linear(Kind::Double), images(61, 24));
    let spec = UniversalSpec { steps: 100, batch: 8, ..UniversalSpec::default() };
    let lambda = list(&spectrum(&toy.pullback(&x)).values.select(1, 0))[0];
    let corners: Vec<f64> =
        (0..1 << 15).flat_map(|c: i64| (0..16).map(move |i| if c >> i & 1 == 0 { 1.0 } else { -1.0 })).collect();
    let corners = Tensor::from_slice(&corners).view([-1, 16]).matmul(&toy.mean.tr());
    let best = corners.square().sum_dim_intlist(1i64, false, Kind::Double).max().sqrt().double_value(&[]);
    for (norm, largest, least) in [(Norm::L2, lambda.sqrt(), 0.9999), (Norm::Linf, best, 0.99)] {
        let budget = Budget::new(norm, 0.1, None).unwrap();
        let found = Universal::fit(&toy, &spec, &ground(&x), &[budget], 7, 3).unwrap();
        let fit = &found.fits[0];
        for damage in list(&fit.damage) {
            let share = damage / (0.1 * largest);
            assert!(share <= 1.0 + apart(Kind::Double, &[16, 3]) && share > least, "{norm}: {share}");
        }
        // On images that it has not seen as well.
        let others = images(62, 5);
        let victim = Victim::of(&toy, &others).unwrap().carrying(&found).unwrap();
        let hit = run(&AttackSpec::Universal(spec.clone()), &victim, &budget).unwrap().remove(0);
        assert!(list(&hit.damage).iter().all(|d| (d / list(&fit.damage)[0] - 1.0).abs() < 1e-6), "{:?}", hit.damage);
        assert!((&hit.images - &others - &fit.perturbation).abs().max().double_value(&[]) < 1e-12);
        // Three ascents of 100 steps of 8 images, and what they reached on 24; shared by 7.
        let passes = hit.passes();
        assert_eq!((passes.forward, passes.backward), ((2400.0 + 72.0) / 7.0, 2400.0 / 7.0));
    }
}

/// On images that it was not fitted on it does less than attacks on each, and more than noise.
#[test]
fn it_stands_between_noise_and_attacks_on_each_image() {
    let toy = Toy::tanh(Kind::Double);
    let (seen, unseen) = (images(63, 32), images(64, 20));
    let spec = UniversalSpec { steps: 20, batch: 16, restarts: 1, ..UniversalSpec::default() };
    let race: AttackSpec = serde_yaml::from_str("{kind: race, budget: 60, starts: [random]}").unwrap();
    for norm in [Norm::L2, Norm::Linf, Norm::L1] {
        let sizes = match norm {
            Norm::L2 => [0.6, 0.3],
            Norm::Linf => [0.2, 0.1],
            Norm::L1 => [2.0, 1.0],
        };
        let budgets = sizes.map(|epsilon| Budget::new(norm, epsilon, Some((0.0, 1.0))).unwrap());
        let found = Universal::fit(&toy, &spec, &ground(&seen), &budgets, 20, 5).unwrap();
        let fitted = found.fits.iter().map(|fit| mean(&list(&fit.damage))).collect::<Vec<_>>();
        assert!(fitted[0] > fitted[1], "{norm}: {fitted:?}");
        for (budget, fit) in budgets.iter().zip(&found.fits) {
            assert_eq!(fit.budget, *budget);
            let still = fit.perturbation.zeros_like();
            let size = list(&budget.measure(&still, &fit.perturbation).unwrap())[0];
            assert!(size <= budget.epsilon * (1.0 + TOLERANCE) && size > 0.99 * budget.epsilon, "{norm}: {size}");
            let victim = Victim::of(&toy, &unseen).unwrap().carrying(&found).unwrap();
            let damage = |spec: &AttackSpec| list(&run(spec, &victim, budget).unwrap()[0].damage);
            let (all, each) = (damage(&AttackSpec::Universal(spec.clone())), damage(&race));
            let noise = damage(&"random".parse().unwrap());
            assert!(mean(&each) > mean(&all) && mean(&all) > 1.1 * mean(&noise), "{norm}: {each:?} {all:?} {noise:?}");
        }
    }
}

#[test]
fn it_hangs_on_the_seed_and_the_images_alone() {
    let (toy, x) = (Toy::tanh(Kind::Float), images(65, 21).to_kind(Kind::Float));
    let spec = UniversalSpec { steps: 12, batch: 16, restarts: 2, ..UniversalSpec::default() };
    let budget = |epsilon| Budget::new(Norm::L2, epsilon, Some((0.0, 1.0))).unwrap();
    let fit =
        |budgets: &[Budget], judged, seed| Universal::fit(&toy, &spec, &ground(&x), budgets, judged, seed).unwrap();
    let first = fit(&[budget(0.2), budget(0.4)], 3, 1);
    let again = fit(&[budget(0.4), budget(0.2)], 300, 1);
    assert!(first.fits[0].perturbation == again.fits[1].perturbation);
    assert!(first.fits[1].perturbation == again.fits[0].perturbation);
    assert!(first.fits[0].perturbation != fit(&[budget(0.2)], 3, 2).fits[0].perturbation);
    // Towards a target it leads the other way: closer, on the mean, than where the images are.
    let target = Reading::of(&toy, &x.flip([0])).unwrap();
    let before = mean(&list(
        &pullback::model::shift::latent_l2(&target.posterior, &Reading::of(&toy, &x).unwrap().posterior).unwrap(),
    ));
    let ground = Ground { target: Some(target), ..ground(&x) };
    let found = Universal::fit(&toy, &spec, &ground, &[budget(0.4)], 1, 1).unwrap();
    let after = mean(&list(&found.fits[0].damage));
    assert!(after < 0.0 && -after < before, "{before} to {after}");
}

#[test]
fn where_nothing_can_be_fitted_it_says_so() {
    let x = images(66, 6);
    let budget = Budget::new(Norm::Linf, 0.1, Some((0.0, 1.0))).unwrap();
    let spec = UniversalSpec::default();
    let found = Universal::fit(&Collapsed, &spec, &ground(&x), &[budget], 1, 0).unwrap();
    assert!(found.fits[0].stalled);
    let victim = Victim::of(&Collapsed, &x).unwrap().carrying(&found).unwrap();
    let hit = run(&AttackSpec::Universal(spec.clone()), &victim, &budget).unwrap();
    let flags: Vec<Flag> = signs(&hit)
        .unwrap()
        .into_iter()
        .filter(|(_, mask)| bool::try_from(mask.any()).unwrap())
        .map(|((_, flag), _)| flag)
        .collect();
    assert_eq!(flags, [Flag::Vanishing]);
    // Another size, or no fit at all.
    let wider = Budget::new(Norm::Linf, 0.2, Some((0.0, 1.0))).unwrap();
    for (victim, budget) in [(&victim, &wider), (&Victim::of(&Collapsed, &x).unwrap(), &budget)] {
        let error = run(&AttackSpec::Universal(spec.clone()), victim, budget).unwrap_err();
        assert_eq!(
            (error.exit_code(), error.to_string().as_str()),
            (2, "universal attack: expected a perturbation that was fitted to this budget, found none")
        );
    }
    assert_eq!((spec.fitted(9).unwrap(), spec.fitted(5000).unwrap()), (4, 512));
    for (fit, samples, text) in [
        (
            None,
            1,
            "samples of the universal attack: expected at least two, to fit it on one and judge it on another, found 1",
        ),
        (
            Some(5),
            1,
            "samples of the universal attack: expected at least two, to fit it on one and judge it on another, found 1",
        ),
        (Some(9), 9, "--universal-on: expected 1 to 8 of 9 samples, found 9"),
    ] {
        let error = UniversalSpec { fit, ..UniversalSpec::default() }.fitted(samples).unwrap_err();
        assert_eq!((error.exit_code(), error.to_string().as_str()), (2, text));
    }
}

/// Its code is 0 away from the middle of the cube.
struct Near;

impl Vae for Near {
    fn encode(&self, x: &Tensor) -> pullback::Result<Posterior> {
        let centred = x.flatten(1, -1) - 0.5;
        let inside = (-centred.square().sum_dim_intlist([1i64].as_slice(), true, Kind::Double) + 3.0).relu();
        let mean = centred.sum_dim_intlist([1i64].as_slice(), true, Kind::Double) * inside;
        Ok(Posterior { log_var: mean.zeros_like(), mean })
    }
    fn decode(&self, z: &Tensor) -> pullback::Result<Tensor> {
        Ok(z.view([-1, 1, 1, 1]).repeat([1, 1, 4, 4]))
    }
}

/// Far away the gradient is 0, so that the larger budget finds nothing by itself.
#[test]
fn a_larger_budget_does_not_do_less() {
    let x = images(67, 12);
    let spec = UniversalSpec { steps: 10, batch: 12, restarts: 1, ..UniversalSpec::default() };
    let budgets = [10.0, 0.3].map(|epsilon| Budget::new(Norm::L2, epsilon, None).unwrap());
    let found = Universal::fit(&Near, &spec, &ground(&x), &budgets, 1, 3).unwrap();
    let [large, small] = [0, 1].map(|place| mean(&list(&found.fits[place].damage)));
    assert!(large >= small * (1.0 - 1e-12) && small > 0.0, "{large}, {small}");
    // One ascent from noise, one from the smaller, and the smaller itself.
    let passes = [1, 0].map(|place| (found.fits[place].passes.forward, found.fits[place].passes.backward));
    assert_eq!(passes, [(120.0 + 12.0, 120.0), (240.0 + 36.0, 240.0)]);
}

#[test]
fn a_step_has_as_many_images_as_asked() {
    let toy = Toy::linear(Kind::Double);
    let budget = Budget::new(Norm::L2, 0.1, None).unwrap();
    let images_of = |count: usize, batch: usize| {
        let spec = UniversalSpec { steps: 10, batch, restarts: 1, ..UniversalSpec::default() };
        let found = Universal::fit(&toy, &spec, &ground(&images(68, count)), &[budget], 1, 3).unwrap();
        found.fits[0].passes.backward
    };
    assert_eq!(images_of(48, 24), 240.0);
    // More than there are.
    assert_eq!(images_of(9, 24), 90.0);
    // Parts of 16 and of 5 images.
    assert!(images_of(21, 16) >= 160.0);
}
