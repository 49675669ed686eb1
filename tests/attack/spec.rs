//! Attacks as typed and as written in the YAML.

use pullback::attack::*;

#[test]
fn names_and_maps() {
    for (text, name, directions) in
        [("spectral", "spectral", 1), ("random", "random", 0), ("pgd", "pgd", 0), ("race", "race", 0)]
    {
        let spec: AttackSpec = text.parse().unwrap();
        assert_eq!((spec.name(), spec.directions(), spec.results()), (name, directions, vec![name.to_owned()]));
        assert_eq!(spec, serde_yaml::from_str(&format!("{{kind: {text}}}")).unwrap());
        let yaml = serde_yaml::to_string(&spec).unwrap();
        assert_eq!(spec, serde_yaml::from_str(&yaml).unwrap(), "{yaml}");
        for norm in [Norm::L2, Norm::Linf, Norm::L1] {
            spec.check(norm).unwrap();
        }
    }
    let spec: AttackSpec = serde_yaml::from_str(
        "{kind: pgd, steps: 7, step: 0.2, schedule: linear, restarts: 3, start: spectral, momentum: 0.5, goal: recon-mse}",
    )
    .unwrap();
    let expected = PgdSpec {
        steps: 7,
        step: Some(0.2),
        schedule: Schedule::Linear,
        restarts: 3,
        start: Start::Spectral,
        momentum: 0.5,
        goal: Goal::ReconMse,
    };
    assert_eq!(spec, AttackSpec::Pgd(expected));
    assert_eq!(spec.directions(), 3);
}

#[test]
fn the_command_line_wins() {
    let mut attacks: Vec<AttackSpec> =
        ["spectral", "pgd", "random", "race"].iter().map(|name| name.parse().unwrap()).collect();
    let knobs = [
        Knob::new("--goal", "goal", Goal::W2),
        Knob::new("--steps", "steps", 9),
        Knob::new("--scale", "scale", StepScale::Eigen),
        Knob::new("--top", "top", 4),
        Knob::new("--restarts", "restarts", 2),
        Knob::new("--budget", "budget", 60),
    ];
    for knob in knobs {
        knob.unwrap().turn(&mut attacks).unwrap();
    }
    let expected = [
        AttackSpec::Spectral(SpectralSpec { top: 4, scale: StepScale::Eigen, goal: Goal::W2 }),
        AttackSpec::Pgd(PgdSpec { steps: 9, restarts: 2, goal: Goal::W2, ..PgdSpec::default() }),
        AttackSpec::Random(RandomSpec { goal: Goal::W2, ..RandomSpec::default() }),
        AttackSpec::Race(RaceSpec { budget: 60, goal: Goal::W2, ..RaceSpec::default() }),
    ];
    assert_eq!(attacks, expected);
}

#[test]
fn a_setting_that_no_attack_has_is_refused() {
    let mut random: Vec<AttackSpec> = vec!["random".parse().unwrap()];
    let error = Knob::new("--steps", "steps", 9).unwrap().turn(&mut random).unwrap_err();
    assert_eq!(
        error.to_string(),
        "--steps: expected one of the attacks pgd, spectral-iterated, apgd, minimal, universal among those chosen, found random"
    );
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn bad_settings_are_wrong_requests() {
    for (yaml, text) in [
        ("{kind: pgd, steps: 0}", "steps of the pgd attack: expected a whole number >= 1, found 0"),
        ("{kind: pgd, restarts: 0}", "restarts of the pgd attack: expected a whole number >= 1, found 0"),
        ("{kind: pgd, step: 0}", "step of the pgd attack: expected a number > 0, at most 1e6, found 0"),
        ("{kind: pgd, step: .nan}", "step of the pgd attack: expected a number > 0, at most 1e6, found NaN"),
        ("{kind: pgd, momentum: 1}", "momentum of the pgd attack: expected a number >= 0 and < 1, found 1"),
        ("{kind: race, budget: 3}", "budget of the race attack: expected a whole number >= 12, found 3"),
        ("{kind: race, heats: []}", "heats of the race attack: expected at least one, found none"),
        (
            "{kind: race, heats: [{rows: 2, steps: 1, lengths: [1, 1]}, {rows: 3, steps: 1, lengths: [1, 1]}]}",
            "rows of a heat: expected at most 2, as many as before, found 3",
        ),
        (
            "{kind: race, heats: [{rows: 2, steps: 1, lengths: [1, 1], anew: 1}]}",
            "rows of a heat that begin anew: expected at most 0, found 1",
        ),
        (
            "{kind: race, heats: [{rows: 2, steps: 1, lengths: [1, 1]}, {rows: 5, steps: 1, lengths: [1, 1], anew: 2}]}",
            "rows of a heat: expected at most 2, as many as before, found 3",
        ),
        // The last heat runs within epsilon, and no heat in a larger ball than the one before.
        (
            "{kind: race, heats: [{rows: 2, steps: 1, lengths: [1, 1], radius: 2}]}",
            "radius of a heat: expected a finite number >= 1, at most that of the heat before, 1 in the last, found 2",
        ),
        (
            "{kind: race, heats: [{rows: 2, steps: 1, lengths: [1, 1]}, {rows: 1, steps: 1, lengths: [1, 1], radius: 3}, {rows: 1, steps: 1, lengths: [1, 1]}]}",
            "radius of a heat: expected a finite number >= 1, at most that of the heat before, 1 in the last, found 3",
        ),
        ("{kind: universal, batch: 0}", "batch of the universal attack: expected a whole number >= 1, found 0"),
        (
            "{kind: universal, fit: 0}",
            "samples that the universal attack is fitted on (--universal-on): expected a whole number >= 1, found 0",
        ),
        ("{kind: random, draws: 0}", "draws of the random attack: expected a whole number >= 1, found 0"),
        ("{kind: spectral, top: 0}", "top of the spectral attack: expected a whole number >= 1, found 0"),
    ] {
        let error = serde_yaml::from_str::<AttackSpec>(yaml).unwrap().check(Norm::L2).unwrap_err();
        assert_eq!((error.exit_code(), error.to_string().as_str()), (2, text));
    }
    let eigen = SpectralSpec { scale: StepScale::Eigen, ..SpectralSpec::default() };
    assert_eq!(AttackSpec::Spectral(eigen.clone()).check(Norm::Linf).unwrap_err().exit_code(), 2);
    AttackSpec::Spectral(eigen).check(Norm::L2).unwrap();

    let error = "fgsm".parse::<AttackSpec>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "attack: expected spectral, random, pgd, race, transfer, spectral-iterated, apgd, square, minimal, universal or suite, found fgsm"
    );
    for yaml in
        ["{kind: fgsm}", "{kind: pgd, stepz: 3}", "{kind: pgd, goal: harm}", "{steps: 3}", "{kind: pgd, steps: -1}"]
    {
        assert!(serde_yaml::from_str::<AttackSpec>(yaml).is_err(), "{yaml}");
    }
    let pgd: AttackSpec = "pgd".parse().unwrap();
    assert_eq!(distinct(&[]).unwrap_err().exit_code(), 2);
    assert_eq!(
        distinct(&[pgd.clone(), pgd.clone()]).unwrap_err().to_string(),
        "attacks: expected each once, found pgd twice"
    );
    distinct(&[pgd, "random".parse().unwrap()]).unwrap();
}
