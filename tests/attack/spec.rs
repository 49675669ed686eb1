//! Attacks as typed and as written in the YAML.

use pullback::attack::*;

#[test]
fn names_and_maps() {
    for (text, name, directions) in [("spectral", "spectral", 1), ("random", "random", 0), ("pgd", "pgd", 0)] {
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
        "{kind: pgd, steps: 7, step: 0.2, schedule: linear, restarts: 3, start: spectral, goal: recon-mse}",
    )
    .unwrap();
    let expected = PgdSpec {
        steps: 7,
        step: Some(0.2),
        schedule: Schedule::Linear,
        restarts: 3,
        start: Start::Spectral,
        goal: Goal::ReconMse,
    };
    assert_eq!(spec, AttackSpec::Pgd(expected));
    assert_eq!(spec.directions(), 3);
}

#[test]
fn the_command_line_wins() {
    let set = Overrides { goal: Some(Goal::W2), steps: Some(9), scale: Some(Scale::Eigen), top: Some(4) };
    let spectral = SpectralSpec { top: 4, scale: Scale::Eigen, goal: Goal::W2 };
    assert_eq!("spectral".parse::<AttackSpec>().unwrap().with(&set), AttackSpec::Spectral(spectral));
    let pgd = PgdSpec { steps: 9, goal: Goal::W2, ..PgdSpec::default() };
    assert_eq!("pgd".parse::<AttackSpec>().unwrap().with(&set), AttackSpec::Pgd(pgd));
    let random = RandomSpec { goal: Goal::W2, ..RandomSpec::default() };
    assert_eq!("random".parse::<AttackSpec>().unwrap().with(&set), AttackSpec::Random(random));
}

#[test]
fn bad_settings_are_wrong_requests() {
    for (yaml, text) in [
        ("{kind: pgd, steps: 0}", "steps of the pgd attack: expected a whole number >= 1, found 0"),
        ("{kind: pgd, restarts: 0}", "restarts of the pgd attack: expected a whole number >= 1, found 0"),
        ("{kind: pgd, step: 0}", "step of the pgd attack: expected a finite number > 0, found 0"),
        ("{kind: pgd, step: .nan}", "step of the pgd attack: expected a finite number > 0, found NaN"),
        ("{kind: random, draws: 0}", "draws of the random attack: expected a whole number >= 1, found 0"),
        ("{kind: spectral, top: 0}", "top of the spectral attack: expected a whole number >= 1, found 0"),
    ] {
        let error = serde_yaml::from_str::<AttackSpec>(yaml).unwrap().check(Norm::L2).unwrap_err();
        assert_eq!((error.exit_code(), error.to_string().as_str()), (2, text));
    }
    let eigen = SpectralSpec { scale: Scale::Eigen, ..SpectralSpec::default() };
    assert_eq!(AttackSpec::Spectral(eigen.clone()).check(Norm::Linf).unwrap_err().exit_code(), 2);
    AttackSpec::Spectral(eigen).check(Norm::L2).unwrap();

    let error = "fgsm".parse::<AttackSpec>().unwrap_err();
    assert_eq!(error.to_string(), "attack: expected spectral, random or pgd, found fgsm");
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
