//! The judge: nothing leaves its budget, nothing depends on the batch, doubtful runs are named.

use super::goal::GOALS;
use super::toy::{Body, Collapsed, Toy, images, jacobian, list, normal, spectrum};
use crate::roundoff::{apart, unit};
use pullback::Result;
use pullback::attack::*;
use pullback::spectrum::Spectrum;
use tch::{Kind, Tensor};

fn all() -> Vec<AttackSpec> {
    vec![
        AttackSpec::Spectral(SpectralSpec { top: 3, ..SpectralSpec::default() }),
        AttackSpec::Random(RandomSpec { draws: 3, ..RandomSpec::default() }),
        AttackSpec::Pgd(PgdSpec { steps: 10, restarts: 2, ..PgdSpec::default() }),
        AttackSpec::Pgd(PgdSpec { steps: 5, start: Start::Spectral, ..PgdSpec::default() }),
        AttackSpec::Pgd(PgdSpec { steps: 5, momentum: 0.5, ..PgdSpec::default() }),
        AttackSpec::Race(RaceSpec { budget: 12, ..RaceSpec::default() }),
    ]
}

fn measure(result: &Attacked, name: &str) -> Vec<f64> {
    list(&result.measures.iter().find(|(n, _)| *n == name).unwrap().1)
}

#[test]
fn every_attack_obeys_every_budget() {
    let toy = Toy::tanh(Kind::Float);
    let x = images(41, 5).to_kind(Kind::Float);
    let eigen = spectrum(&jacobian(&toy, &x));
    let victim = Victim::new(&toy, &x, &[4, 8, 15, 16, 23], 42, Some(&eigen)).unwrap();
    for norm in [Norm::L2, Norm::Linf, Norm::L1] {
        for epsilon in [1e-4, 0.03, 2.0] {
            for pixels in [None, Some((0.0, 1.0))] {
                let budget = Budget::new(norm, epsilon, pixels).unwrap();
                for goal in GOALS {
                    for spec in all() {
                        // What is no distance is new to few of them.
                        if !goal.is_distance() && !matches!(spec, AttackSpec::Random(_) | AttackSpec::Race(_)) {
                            continue;
                        }
                        let goal = Knob::new("--goal", "goal", goal).unwrap();
                        let results = run(&spec.with(&goal).unwrap().unwrap(), &victim, &budget).unwrap();
                        for r in &results {
                            let size = match norm {
                                Norm::L2 => measure(r, "input_l2"),
                                Norm::Linf => measure(r, "input_linf"),
                                Norm::L1 => {
                                    list(&(&r.images - &x).abs().to_kind(Kind::Double).flatten(1, -1).sum_dim_intlist(
                                        1i64,
                                        false,
                                        Kind::Double,
                                    ))
                                }
                            };
                            let limit = epsilon * (1.0 + TOLERANCE);
                            assert!(size.iter().all(|s| *s <= limit && *s > 0.0), "{} {size:?}", r.name);
                            assert!(r.measures.iter().all(|(_, m)| m.size() == [5] && m.kind() == Kind::Double));
                            // A width may shrink along noise.
                            let grows = |d: &f64| *d > 0.0 || !r.goal.is_distance();
                            assert!(list(&r.damage).iter().all(|d| d.is_finite() && grows(d)), "{} {}", r.name, r.goal);
                            assert!(!r.images.requires_grad() && r.images.size() == x.size());
                        }
                    }
                }
            }
        }
    }
}

/// An attack that cheats: proposes images far away and numbers that are none.
struct Cheat;

impl Attack for Cheat {
    fn family(&self) -> Family {
        Family::Gradient
    }
    fn goal(&self) -> Goal {
        Goal::Latent
    }
    fn trials(&self) -> usize {
        2
    }
    fn propose(&self, victim: &Victim, _: &Budget, trial: usize) -> Result<Proposal> {
        let x = victim.images();
        let far = x + 100.0;
        let broken = far.masked_fill(&x.gt(0.5), if trial == 0 { f64::NAN } else { f64::INFINITY });
        Ok(Proposal { candidates: vec![far, broken], stalled: None, curve: Curve::default() })
    }
}

#[test]
fn an_attack_that_ignores_its_budget_is_brought_back() {
    let (toy, x) = (Toy::linear(Kind::Float), images(42, 3).to_kind(Kind::Float));
    let victim = Victim::new(&toy, &x, &[0, 1, 2], 0, None).unwrap();
    for norm in [Norm::L2, Norm::Linf, Norm::L1] {
        let budget = Budget::new(norm, 0.05, Some((0.0, 1.0))).unwrap();
        let hit = judge("cheat", &Cheat, &victim, &budget).unwrap();
        let sizes = list(&budget.measure(&x, &hit.images).unwrap());
        assert!(sizes.iter().all(|s| *s <= 0.05 * (1.0 + TOLERANCE) && *s > 0.049), "{sizes:?}");
        assert!(list(&hit.images).iter().all(|p| p.is_finite()));
        let mut doubts = Doubts::default();
        doubts.note(&[hit]).unwrap();
        let lines = doubts.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("cheat: on 3 of 3 attacked images the attack ignored its budget"), "{lines:?}");
    }
}

/// Pixels near 1 are stored to 6e-8, a tenth of such an epsilon in each of sixteen.
#[test]
fn rounding_is_no_cheating() {
    let (toy, x) = (Toy::tanh(Kind::Float), (images(51, 8) * 0.5 + 0.5).to_kind(Kind::Float));
    let victim = Victim::new(&toy, &x, &[0, 1, 2, 3, 4, 5, 6, 7], 0, None).unwrap();
    for norm in [Norm::L2, Norm::Linf, Norm::L1] {
        let budget = Budget::new(norm, 1e-6, Some((0.0, 1.0))).unwrap();
        for spec in ["pgd", "apgd", "random", "race"] {
            let found = &run(&spec.parse().unwrap(), &victim, &budget);
            let Ok([hit, ..]) = found.as_deref() else { panic!("{spec}: {found:?}") };
            assert_eq!(hit.overstepped.any().int64_value(&[]), 0, "{spec} {norm}");
        }
    }
}

fn part(eigen: &Spectrum, rows: &Tensor) -> Spectrum {
    Spectrum {
        values: eigen.values.index_select(0, rows),
        directions: eigen.directions.as_ref().map(|d| d.index_select(0, rows)),
    }
}

#[test]
fn results_do_not_depend_on_the_batch() {
    let toy = Toy::tanh(Kind::Float);
    let x = images(43, 8).to_kind(Kind::Float);
    let index: Vec<u64> = (100..108).collect();
    let eigen = spectrum(&jacobian(&toy, &x));
    let budget = Budget::new(Norm::L2, 0.2, Some((0.0, 1.0))).unwrap();
    let whole = Victim::new(&toy, &x, &index, 9, Some(&eigen)).unwrap();
    for spec in all() {
        let expected = run(&spec, &whole, &budget).unwrap();
        for rows in [vec![7i64, 2, 5], vec![3], vec![0, 1, 4, 6]] {
            let select = Tensor::from_slice(&rows);
            let some = x.index_select(0, &select);
            let ids: Vec<u64> = rows.iter().map(|r| 100 + *r as u64).collect();
            let eigen = part(&eigen, &select);
            let victim = Victim::new(&toy, &some, &ids, 9, Some(&eigen)).unwrap();
            for (found, expected) in run(&spec, &victim, &budget).unwrap().iter().zip(&expected) {
                assert_eq!(found.name, expected.name);
                let expected_images = expected.images.index_select(0, &select);
                if found.family == Family::Noise {
                    assert!(found.images == expected_images, "noise is the same to the bit");
                }
                let gap = (&found.images - &expected_images).abs().max().double_value(&[]);
                // The gradient's sums there and back, ten times, each for a step of at most the budget, a fifth.
                let allowed = 10.0 * 0.2 * apart(Kind::Float, &[16, 8, 3, 8, 16]);
                assert!(gap < allowed, "{}: {gap}", found.name);
                for ((name, a), (_, b)) in found.measures.iter().zip(&expected.measures) {
                    for (a, b) in list(a).into_iter().zip(list(&b.index_select(0, &select))) {
                        assert!((a - b).abs() <= 4.0 * allowed * (1.0 + b.abs()), "{} {name}: {a} {b}", found.name);
                    }
                }
            }
        }
        // Another seed moves what is random, and only that.
        let other = Victim::new(&toy, &x, &index, 10, Some(&eigen)).unwrap();
        let moved = run(&spec, &other, &budget).unwrap()[0].images != expected[0].images;
        let random =
            matches!(&spec, AttackSpec::Random(_)) || matches!(&spec, AttackSpec::Pgd(p) if p.start == Start::Random);
        // Which of its starts wins a race may hang on the seed.
        assert!(moved == random || matches!(&spec, AttackSpec::Race(_)), "{spec:?}");
    }
}

/// Searches that choose between images on their way, in a precision in which rounding decides nothing.
#[test]
fn choices_do_not_depend_on_the_batch() {
    let (toy, x) = (Toy::tanh(Kind::Double), images(52, 6));
    let index: Vec<u64> = (200..206).collect();
    let eigen = spectrum(&jacobian(&toy, &x));
    let others = Others { images: images(53, 5), index: (300..305).collect() };
    let budget = Budget::new(Norm::L2, 0.2, Some((0.0, 1.0))).unwrap();
    let whole = Victim::new(&toy, &x, &index, 9, Some(&eigen)).unwrap().beside(&others).unwrap();
    for yaml in [
        "{kind: apgd, steps: 10, restarts: 2}",
        "{kind: spectral-iterated, steps: 3, metric: mean, restarts: 2}",
        "{kind: square, queries: 40, restarts: 2}",
        "{kind: race, budget: 24}",
        "{kind: minimal, reach: 0.3, budget: 12, steps: 2}",
    ] {
        let spec: AttackSpec = serde_yaml::from_str(yaml).unwrap();
        let expected = &run(&spec, &whole, &budget).unwrap()[0];
        for rows in [vec![5i64, 2], vec![3], vec![0, 1, 4]] {
            let select = Tensor::from_slice(&rows);
            let some = x.index_select(0, &select);
            let ids: Vec<u64> = rows.iter().map(|r| 200 + *r as u64).collect();
            let eigen = part(&eigen, &select);
            let victim = Victim::new(&toy, &some, &ids, 9, Some(&eigen)).unwrap().beside(&others).unwrap();
            let found = &run(&spec, &victim, &budget).unwrap()[0];
            let gap = (&found.images - expected.images.index_select(0, &select)).abs().max().double_value(&[]);
            assert!(gap < 1e-6, "{yaml} {rows:?}: {gap}");
        }
    }
}

#[test]
fn a_spectral_attack_reports_each_direction_and_the_worst() {
    let toy = Toy::tanh(Kind::Double);
    let x = images(44, 4);
    let eigen = spectrum(&jacobian(&toy, &x));
    let victim = Victim::new(&toy, &x, &[0, 1, 2, 3], 0, Some(&eigen)).unwrap();
    let budget = Budget::new(Norm::L2, 0.4, None).unwrap();
    let spec = AttackSpec::Spectral(SpectralSpec { top: 3, ..SpectralSpec::default() });
    let results = run(&spec, &victim, &budget).unwrap();
    let names: Vec<&str> = results.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["spectral", "u1", "u2", "u3"]);
    assert_eq!(names, spec.results());
    for name in ["latent_l2", "latent_kl", "recon_shift", "ssim", "input_l2"] {
        let [own, parts @ ..] = &results[..] else { panic!() };
        for i in 0..4 {
            let winner = (0..3).max_by(|a, b| list(&parts[*a].damage)[i].total_cmp(&list(&parts[*b].damage)[i]));
            assert_eq!(measure(own, name)[i], measure(&parts[winner.unwrap()], name)[i], "{name}");
        }
    }
    // The worse of both signs, by brute force.
    let v = eigen.directions.as_ref().unwrap().select(1, 1).view([4, 1, 4, 4]);
    let ends = [&x + &v * 0.4, &x - &v * 0.4].map(|x| list(&Goal::Latent.value(&victim, &x).unwrap()));
    let found = list(&results[2].damage);
    for ((plus, minus), found) in ends[0].iter().zip(&ends[1]).zip(found) {
        assert!((found - plus.max(*minus)).abs() < apart(Kind::Double, &[16, 8, 3, 3]) * found);
        assert!((plus - minus).abs() > 1e-6, "the signs differ, or the choice is not tested");
    }
}

#[test]
fn the_eigen_scale_moves_by_epsilon_lambda() {
    let toy = Toy::linear(Kind::Float);
    let x = images(45, 4).to_kind(Kind::Float);
    let eigen = spectrum(&toy.fisher(&x));
    let victim = Victim::new(&toy, &x, &[0, 1, 2, 3], 0, Some(&eigen)).unwrap();
    let spec = AttackSpec::Spectral(SpectralSpec { top: 8, scale: StepScale::Eigen, ..SpectralSpec::default() });
    let results = run(&spec, &victim, &Budget::new(Norm::L2, 0.1, None).unwrap()).unwrap();
    for (i, result) in results[1..].iter().enumerate() {
        let lambda = list(&eigen.values.select(1, i as i64));
        for (size, lambda) in measure(result, "input_l2").into_iter().zip(lambda) {
            // R = 6 rows, so lambda_7 and lambda_8 are 0 to rounding, and so is the step.
            // Sixteen pixels of up to 1 + 0.1 lambda are rounded to single precision.
            let rounded = 2.0 * 4.0 * unit(Kind::Float);
            assert!((size - 0.1 * lambda).abs() < rounded * (1.0 + lambda), "u{}: {size} {lambda}", i + 1);
        }
    }
    let error = run(&spec, &victim, &Budget::new(Norm::Linf, 0.1, None).unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "scale eigen or singular: expected norm l2, found norm linf");
}

#[test]
fn pgd_costs_one_pass_a_step() {
    let (toy, x) = (Toy::tanh(Kind::Float), images(46, 2).to_kind(Kind::Float));
    let victim = Victim::new(&toy, &x, &[0, 1], 0, None).unwrap();
    toy.encoded.set(0);
    toy.decoded.set(0);
    run(&"pgd".parse().unwrap(), &victim, &Budget::new(Norm::L2, 0.1, None).unwrap()).unwrap();
    // 40 steps, the last iterate, the reading of the result.
    assert_eq!((toy.encoded.get(), toy.decoded.get()), (42, 1));
}

#[test]
fn vanishing_gradients_are_doubted() {
    let x = images(47, 3);
    let victim = Victim::new(&Collapsed, &x, &[0, 1, 2], 0, None).unwrap();
    let budget = Budget::new(Norm::L2, 0.1, None).unwrap();
    let mut doubts = Doubts::default();
    doubts.note(&run(&"pgd".parse().unwrap(), &victim, &budget).unwrap()).unwrap();
    doubts.note(&run(&"random".parse().unwrap(), &victim, &budget).unwrap()).unwrap();
    let lines = doubts.lines();
    assert_eq!(lines, ["attack pgd: on 3 of 3 attacked images the gradient vanished on the way"]);

    // A sound run has nothing to say.
    let toy = Toy::tanh(Kind::Double);
    let victim = Victim::new(&toy, &x, &[0, 1, 2], 0, None).unwrap();
    let mut doubts = Doubts::default();
    for spec in ["pgd", "random"] {
        doubts.note(&run(&spec.parse().unwrap(), &victim, &budget).unwrap()).unwrap();
    }
    assert!(doubts.lines().is_empty(), "{:?}", doubts.lines());
}

#[test]
fn an_attack_weaker_than_noise_is_doubted() {
    let toy = Toy::linear(Kind::Double);
    let x = images(48, 4);
    // The directions that move mu least, sold as those that move it most.
    let eigen = spectrum(&toy.pullback(&x));
    let wrong = Spectrum { values: eigen.values.copy(), directions: eigen.directions.map(|d| d.flip([1])) };
    let victim = Victim::new(&toy, &x, &[0, 1, 2, 3], 0, Some(&wrong)).unwrap();
    let budget = Budget::new(Norm::L2, 0.1, None).unwrap();
    let mut results = run(&"spectral".parse().unwrap(), &victim, &budget).unwrap();
    results.append(&mut run(&"random".parse().unwrap(), &victim, &budget).unwrap());
    let mut doubts = Doubts::default();
    doubts.note(&results).unwrap();
    let lines = doubts.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("attack spectral: on 4 of 4 attacked images random does more damage"));
}

#[test]
fn a_model_that_breaks_down_is_named_not_hidden() {
    let mut toy = Toy::linear(Kind::Double);
    toy.mean = &toy.mean * f64::INFINITY;
    toy.body = Body::Linear;
    let x = images(49, 2);
    let victim = Victim::new(&toy, &x, &[0, 1], 0, None).unwrap();
    let budget = Budget::new(Norm::L2, 0.1, None).unwrap();
    let mut doubts = Doubts::default();
    doubts.note(&run(&"pgd".parse().unwrap(), &victim, &budget).unwrap()).unwrap();
    assert!(doubts.lines()[0].contains("the goal is not a number"), "{:?}", doubts.lines());
}

#[test]
fn what_does_not_fit_is_a_wrong_request() {
    let (toy, x) = (Toy::linear(Kind::Double), images(50, 2));
    let budget = Budget::new(Norm::L2, 0.1, Some((0.0, 1.0))).unwrap();
    let expect = |error: pullback::Error, text: &str| {
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(text) && !error.to_string().contains('\n'), "{error}");
    };
    let bare = Victim::new(&toy, &x, &[0, 1], 0, None).unwrap();
    expect(run(&"spectral".parse().unwrap(), &bare, &budget).unwrap_err(), "at least 1 directions");

    let mut eigen = spectrum(&toy.pullback(&x));
    eigen.directions = eigen.directions.map(|d| d.narrow(1, 0, 2));
    let victim = Victim::new(&toy, &x, &[0, 1], 0, Some(&eigen)).unwrap();
    let spec = AttackSpec::Spectral(SpectralSpec { top: 3, ..SpectralSpec::default() });
    expect(run(&spec, &victim, &budget).unwrap_err(), "expected at least 3 directions (top), found 2");
    eigen.directions = None;
    let victim = Victim::new(&toy, &x, &[0, 1], 0, Some(&eigen)).unwrap();
    expect(run(&spec, &victim, &budget).unwrap_err(), "found eigenvalues alone");

    eigen.directions = Some(normal(1, 2, 15).unsqueeze(1));
    expect(Victim::new(&toy, &x, &[0, 1], 0, Some(&eigen)).err().unwrap(), "shape of directions");
    expect(Victim::new(&toy, &x, &[0], 0, None).err().unwrap(), "shape of images to attack");

    let bright = &x * 2.0;
    let victim = Victim::new(&toy, &bright, &[0, 1], 0, None).unwrap();
    expect(run(&"random".parse().unwrap(), &victim, &budget).unwrap_err(), "within the box, 0 to 1");
    let broken = Budget { epsilon: f64::NAN, ..budget };
    expect(run(&"random".parse().unwrap(), &bare, &broken).unwrap_err(), "eps (--eps): expected a finite number > 0");
}

#[test]
fn the_device_agrees_with_the_host() {
    if !crate::device::cuda() {
        return;
    }
    let device = tch::Device::Cuda(0);
    let (host, toy) = (Toy::tanh(Kind::Double), Toy::tanh(Kind::Double).to(device));
    let x = images(51, 6);
    let index: Vec<u64> = (0..6).collect();
    let eigen = spectrum(&jacobian(&host, &x));
    let moved = Spectrum {
        values: eigen.values.to_device(device),
        directions: eigen.directions.as_ref().map(|d| d.to_device(device)),
    };
    let on_host = Victim::new(&host, &x, &index, 1, Some(&eigen)).unwrap();
    let on_device = Victim::new(&toy, &x.to_device(device), &index, 1, Some(&moved)).unwrap();
    for norm in [Norm::L2, Norm::Linf, Norm::L1] {
        let budget = Budget::new(norm, 0.05, Some((0.0, 1.0))).unwrap();
        for spec in all() {
            let found = run(&spec, &on_device, &budget).unwrap();
            for (a, b) in found.iter().zip(&run(&spec, &on_host, &budget).unwrap()) {
                assert_eq!(a.images.device(), device);
                for ((name, a), (_, b)) in a.measures.iter().zip(&b.measures) {
                    for (a, b) in list(a).into_iter().zip(list(b)) {
                        assert!((a - b).abs() <= 1e-6 * (1.0 + b.abs()), "{name}: {a} {b}");
                    }
                }
            }
        }
    }
}
