//! Tests of `config`: the tree, its overrides, its errors; every file of configs/.

use pullback::Error;
use pullback::attack::Norm;
use pullback::config::{AttackConfig, PixelBox, RunConfig, SweepSpec, Tree};
use serde::Deserialize;

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
struct Sample {
    seed: u64,
    train: Train,
    attacks: Vec<Kind>,
    arm: Option<Kind>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
struct Train {
    epochs: usize,
    lr: f64,
    cosine: bool,
}

impl Default for Train {
    fn default() -> Self {
        Self { epochs: 1, lr: 1e-3, cosine: true }
    }
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
enum Kind {
    Pgd { steps: usize, rate: f64 },
    Random,
}

fn parse(text: &str, sets: &[&str]) -> Result<Sample, Error> {
    let mut tree = Tree::text("a.yaml", text)?;
    for set in sets {
        tree.set(set)?;
    }
    tree.parse(|sample: &Sample| {
        if sample.train.lr > 0.0 {
            Ok(())
        } else {
            Err(Error::request("train.lr", "a number > 0", sample.train.lr.to_string()))
        }
    })
}

#[test]
fn defaults_stand_where_nothing_is_said() {
    assert_eq!(parse("", &[]).unwrap(), Sample::default());
    assert_eq!(parse("train:\n", &["train.epochs=3"]).unwrap().train.epochs, 3);
}

#[test]
fn overrides_are_yaml_and_the_last_one_wins() {
    let text = "train: {epochs: 7}\nattacks: [{kind: pgd, steps: 5, rate: 1}, {kind: random}]";
    let sample =
        parse(text, &["train.lr=1e-2", "train.cosine=false", "attacks[0].steps=9", "seed=1", "seed=2"]).unwrap();
    assert_eq!(sample.train, Train { epochs: 7, lr: 0.01, cosine: false });
    assert_eq!(sample.attacks[0], Kind::Pgd { steps: 9, rate: 1.0 });
    assert_eq!(sample.seed, 2);
    assert_eq!(parse(text, &["attacks=[{kind: random}]"]).unwrap().attacks, [Kind::Random]);
}

#[test]
fn errors_name_file_or_flag_and_key() {
    let cases: &[(&str, &[&str], &str)] = &[
        ("train: {lr: x}", &[], r#"a.yaml: train.lr: expected a number, found "x""#),
        ("train: {lr: 0}", &[], "a.yaml: train.lr: expected a number > 0, found 0"),
        (
            "train: {epoch: 3}",
            &[],
            r#"a.yaml: train.epoch: expected one of epochs, lr, cosine, found unknown key "epoch""#,
        ),
        ("sed: 3", &[], r#"a.yaml: sed: expected one of seed, train, attacks, arm, found unknown key "sed""#),
        ("seed: -3", &[], "a.yaml: seed: expected a whole number >= 0, found -3"),
        ("seed: 1.5", &[], "a.yaml: seed: expected a whole number >= 0, found 1.5"),
        ("train: 3", &[], "a.yaml: train: expected keys with values, found 3"),
        ("- 1", &[], "a.yaml: expected keys with values, found a list"),
        ("train: {cosine: 1}", &[], "a.yaml: train.cosine: expected true or false, found 1"),
        ("arm: {kind: pdg}", &[], r#"a.yaml: arm.kind: expected pgd or random, found "pdg""#),
        ("arm: {steps: 3}", &[], "a.yaml: arm: expected the key kind, found no such key"),
        ("arm: {kind: pgd, steps: 1}", &[], "a.yaml: arm: expected the key rate, found no such key"),
        ("arm: {kind: pgd, steps: x, rate: 1}", &[], r#"a.yaml: arm.steps: expected a whole number >= 0, found "x""#),
        (
            "attacks: [{kind: pgd, steps: 1, rate: 1, stop: 2}]",
            &[],
            r#"a.yaml: attacks.0.stop: expected steps or rate, found unknown key "stop""#,
        ),
        ("", &["train.lr=x"], r#"--set train.lr: expected a number, found "x""#),
        ("", &["train.lr=-1"], "--set train.lr: expected a number > 0, found -1"),
        ("", &["train.lr=nan"], r#"--set train.lr: expected a number, found "nan""#),
        ("", &["train.lr=.nan"], "--set train.lr: expected a number > 0, found NaN"),
        (
            "",
            &["trian.lr=1"],
            r#"--set trian.lr: expected one of seed, train, attacks, arm, found unknown key "trian""#,
        ),
        ("", &["train.lrr=1"], r#"--set train.lrr: expected one of epochs, lr, cosine, found unknown key "lrr""#),
        ("", &["train.lr.x=1"], "--set train.lr.x: expected a number, found keys with values"),
        ("seed: 7", &["seed.x=1"], "--set seed.x: expected seed to hold keys, found 7"),
        (
            "attacks: [{kind: random}]",
            &["attacks.1.kind=pgd"],
            r#"--set attacks.1.kind: expected an index below 1 into attacks, found "1""#,
        ),
        ("", &["train"], r#"--set: expected key.path=value, found "train""#),
        ("", &["=3"], r#"--set: expected key.path=value, found "=3""#),
        ("", &["a..b=3"], r#"--set: expected key.path=value, found "a..b=3""#),
    ];
    for (text, sets, expected) in cases {
        let error = parse(text, sets).expect_err(expected);
        assert_eq!(error.to_string(), *expected, "for {text:?} {sets:?}");
        assert_eq!(error.exit_code(), 2);
    }
}

#[test]
fn broken_yaml_is_a_wrong_request_on_one_line() {
    for text in ["train: [", "a: b: c", "seed: 1\nseed: 2", "\tseed: 1", "--- 1\n--- 2"] {
        let error = parse(text, &[]).expect_err(text);
        assert_eq!(error.exit_code(), 2);
        let line = error.to_string();
        assert!(line.starts_with("a.yaml: expected ") && !line.contains('\n'), "{line}");
    }
}

/// Every YAML of configs/ is what it is meant for.
#[test]
fn every_config_is_loaded() {
    let folder = crate::files::root().join("configs");
    let mut loaded = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        // A sweep's config is of its own kind; tests/sweep.rs loads them.
        if name.starts_with("paper") || name.ends_with("-sweep.yaml") {
            continue;
        }
        let config = RunConfig::read(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
        // What is stored is what was read.
        let tree = Tree::text(&name, &config.to_yaml().unwrap()).unwrap();
        assert_eq!(RunConfig::parse(&tree).unwrap(), config, "{name}");
        loaded.push(name);
    }
    for name in ["demo.yaml", "mnist-mlp.yaml", "mnist-conv.yaml", "cifar10-conv.yaml"] {
        assert!(loaded.iter().any(|l| l == name), "{name} in {loaded:?}");
    }
}

/// A key that nobody reads is refused at any depth, also of a kind that has no settings.
#[test]
fn keys_within_the_model_are_known() {
    for (text, said) in [
        (
            "model: {kind: mlp, likelihood: {kind: bernoulli, sigma: 2}}",
            r#"a.yaml: model.likelihood.sigma: expected no further key, found unknown key "sigma""#,
        ),
        (
            "model: {kind: mlp, image: {channels: 1, height: 2, width: 2, depth: 3}}",
            r#"a.yaml: model.image.depth: expected one of channels, height, width, found unknown key "depth""#,
        ),
    ] {
        let error = RunConfig::parse(&Tree::text("a.yaml", text).unwrap()).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.exit_code()), (said, 2));
    }
    let bare = "model: {kind: mlp, likelihood: {kind: bernoulli}}";
    assert_eq!(RunConfig::parse(&Tree::text("a.yaml", bare).unwrap()).unwrap(), RunConfig::default());
}

#[test]
fn a_difference_names_its_key() {
    let base = RunConfig::default();
    let mut other = base.clone();
    assert_eq!(base.difference(&other).unwrap(), None);
    other.device = "cpu".parse().unwrap();
    assert_eq!(base.difference(&other).unwrap(), None, "where it runs is no part of what is computed");
    other.train.hold_mib = 1;
    assert_eq!(base.difference(&other).unwrap(), None, "nor is where its data are held");
    other.train.mixup.strength = 1.0;
    assert_eq!(base.difference(&other).unwrap().as_deref(), Some("train.mixup.strength"));
    other.seed = 1;
    assert_eq!(base.difference(&other).unwrap().as_deref(), Some("seed"));
}

#[test]
fn a_box_is_on_or_off_in_every_version_of_yaml() {
    let pixels = |text: &str| {
        let config = RunConfig::parse(&Tree::text("a.yaml", &format!("attack: {{box: {text}}}")).unwrap());
        config.map(|config| config.attack.pixels).map_err(|error| error.to_string())
    };
    for (text, expected) in
        [("on", PixelBox::On), ("true", PixelBox::On), ("off", PixelBox::Off), ("false", PixelBox::Off)]
    {
        assert_eq!(pixels(text), Ok(expected), "{text}");
    }
    assert_eq!(pixels("half").unwrap_err(), "a.yaml: attack.box: expected on or off, found \"half\"");
    assert_eq!(pixels("1").unwrap_err(), "a.yaml: attack.box: expected on or off, found 1");
    let written = RunConfig::default().to_yaml().unwrap();
    assert!(written.contains("box: on\n") || written.contains("box: 'on'\n"), "{written}");
}

#[test]
fn default_budgets_follow_the_norm() {
    let mut attack = AttackConfig::default();
    assert_eq!(attack.eps(), [0.5, 1.0, 2.0, 4.0]);
    attack.norm = Norm::Linf;
    assert_eq!(attack.eps(), [0.05, 0.1, 0.2]);
    attack.eps = Some(vec![0.3]);
    assert_eq!(attack.eps(), [0.3]);
}

/// A section of docs/config.md: where its keys stand (`run` or `sweep`, and YAML with % in their place), and each key's default.
struct Section {
    places: Vec<(String, String)>,
    keys: Vec<(String, String)>,
}

/// The tables below `<!-- keys: ... -->` comments.
fn sections(text: &str) -> Vec<Section> {
    let mut found: Vec<Section> = Vec::new();
    for line in text.lines() {
        if let Some(place) = line.strip_prefix("<!-- keys: ") {
            let (kind, yaml) = place.strip_suffix(" -->").unwrap().split_once(" | ").unwrap();
            if found.last().is_none_or(|section| !section.keys.is_empty()) {
                found.push(Section { places: vec![], keys: vec![] });
            }
            found.last_mut().unwrap().places.push((kind.to_owned(), yaml.to_owned()));
        } else if let Some(row) = line.strip_prefix("| `") {
            let (key, rest) = row.split_once("` | ").unwrap();
            let default = rest.split(" | ").next().unwrap();
            found.last_mut().unwrap().keys.push((key.to_owned(), default.to_owned()));
        }
    }
    found
}

/// What serde says of a YAML of this kind.
fn said(kind: &str, yaml: &str) -> Result<serde_yaml::Value, String> {
    let parsed = match kind {
        "run" => serde_yaml::from_str::<RunConfig>(yaml).map(|c| serde_yaml::to_value(c).unwrap()),
        _ => serde_yaml::from_str::<SweepSpec>(yaml).map(|c| serde_yaml::to_value(c).unwrap()),
    };
    parsed.map_err(|e| e.to_string())
}

/// The keys that the code takes in the place of %: it names them where it meets another.
fn keys_of_the_code(kind: &str, yaml: &str) -> Option<Vec<String>> {
    let message = said(kind, &yaml.replace('%', "zzz: 1")).expect_err("no key zzz");
    let (_, expected) = message.split_once("unknown field `zzz`, expected ")?;
    Some(expected.split('`').skip(1).step_by(2).map(str::to_owned).collect())
}

/// The value at the place of % where nothing is said there.
fn at_place<'a>(mut value: &'a serde_yaml::Value, mut yaml: &serde_yaml::Value) -> Option<&'a serde_yaml::Value> {
    while yaml.get("zzz").is_none() {
        let holds = |v: &&serde_yaml::Value| serde_yaml::to_string(v).unwrap().contains("zzz");
        match yaml {
            serde_yaml::Value::Sequence(list) => (value, yaml) = (value.get(0)?, &list[0]),
            _ => {
                let (key, inner) = yaml.as_mapping()?.iter().find(|(_, v)| holds(v))?;
                (value, yaml) = (value.get(key)?, inner);
            }
        }
    }
    Some(value)
}

#[test]
fn the_documents_keys_are_those_of_the_code() {
    let sections = sections(include_str!("../docs/config.md"));
    assert!(sections.len() > 15, "{}", sections.len());
    for Section { places, keys } in &sections {
        for (kind, yaml) in places {
            let at = format!("{kind}: {yaml}");
            let mut code = keys_of_the_code(kind, yaml).unwrap_or_else(|| panic!("{at}: not a place of keys"));
            let mut documents: Vec<String> = keys.iter().map(|(key, _)| key.clone()).collect();
            code.sort();
            documents.sort();
            assert_eq!(documents, code, "{at}");
            // Defaults, where all of them together are a value.
            let bare = yaml.replace(", %", "").replace("%, ", "").replace('%', "");
            let whole = said(kind, if bare.is_empty() { "{}" } else { &bare });
            let place: serde_yaml::Value = serde_yaml::from_str(&yaml.replace('%', "zzz: 1")).unwrap();
            let default = whole.ok().and_then(|whole| at_place(&whole, &place).cloned());
            for (key, told) in keys {
                let value = default.as_ref().and_then(|d| d.get(key)).filter(|v| !v.is_null());
                match told.as_str() {
                    "below" => {}
                    "—" => assert!(value.is_none(), "{at}: {key} is {value:?}"),
                    _ => {
                        let told = told.trim_matches('`');
                        let told: serde_yaml::Value = serde_yaml::from_str(told).unwrap();
                        // What is left out of a stored request is what the code has in its place.
                        if default.is_some() {
                            assert_eq!(value, Some(&told), "{at}: {key}");
                        }
                    }
                }
            }
            // A key that holds keys has a table of its own.
            for (key, _) in keys {
                let inner = yaml.replace('%', &format!("{key}: {{%}}"));
                let held = said(kind, &inner.replace('%', "zzz: 1")).err();
                if held.is_some_and(|message| message.contains("unknown field `zzz`, expected ")) {
                    let keys = keys_of_the_code(kind, &inner);
                    let told = sections.iter().flat_map(|s| &s.places).any(|(k, y)| keys_of_the_code(k, y) == keys);
                    assert!(told, "{kind}: {inner}");
                }
            }
        }
    }
    // A key that nobody has, and one that is missing, are seen.
    assert_eq!(keys_of_the_code("run", "data: {%}").unwrap(), ["source", "split", "limit", "valid"]);
    assert!(keys_of_the_code("run", "seed: {%}").is_none());
}
