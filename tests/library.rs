//! The crate as a library: its examples, what whoever opens a model may rely on, errors as values.

use crate::child;
use crate::files::root;
use pullback::attack::{self, AttackSpec, Budget, Norm, Victim};
use pullback::jacobian::BatchSize;
use pullback::metric::MetricKind;
use pullback::spectrum::{Engine, Found, LeadingEngine, Spectra, SpectrumMode, SpectrumSpec, Wanted};
use pullback::{ErrorKind, Vae, score};
use std::path::PathBuf;
use std::time::Duration;
use tch::{Device, Kind, Tensor};

#[allow(dead_code)]
#[path = "../examples/own_model.rs"]
mod own_model;
#[allow(dead_code)]
#[path = "../examples/score_and_attack.rs"]
mod score_and_attack;

fn models() -> PathBuf {
    root().join("tests/models")
}

fn images(n: i64) -> Tensor {
    Tensor::arange(n * 6, (Kind::Float, Device::Cpu)).sin().abs().reshape([n, 1, 2, 3])
}

#[test]
fn the_examples_run() {
    let (rank, damage) = own_model::own_model().unwrap();
    assert!((1.0..=3.0).contains(&rank) && damage > 0.0, "{rank} {damage}");
    let case = root().join("tests/golden/cases/one_latent");
    let [model, data] = ["vae.pt", "inputs.h5"].map(|name| case.join(name).display().to_string());
    score_and_attack::score_and_attack(&model, &data).unwrap();
}

#[test]
fn a_model_is_a_vae_itself() {
    let model = pullback::open(models().join("flat.pt"), Device::Cpu, Kind::Float).unwrap();
    let x = images(3);
    let (own, inner) = (model.encode(&x).unwrap(), model.vae.encode(&x).unwrap());
    assert_eq!((own.mean, own.log_var), (inner.mean.shallow_clone(), inner.log_var));
    assert_eq!(model.decode(&inner.mean).unwrap(), model.vae.decode(&inner.mean).unwrap());
    assert_eq!(model.has_scale(), model.vae.has_scale());
    // One output alone: no scale, once it has encoded.
    let lone = pullback::open(models().join("others/lone.pt"), Device::Cpu, Kind::Float).unwrap();
    lone.encode(&Tensor::rand([2, 1, 2, 3], (Kind::Float, Device::Cpu))).unwrap();
    assert!(!lone.has_scale());
}

#[test]
fn a_victim_of_images_is_one_at_the_first_positions() {
    let model = pullback::open(models().join("flat.pt"), Device::Cpu, Kind::Float).unwrap();
    let x = images(5);
    let engine = || Engine::new(MetricKind::Mean, 1, Device::Cpu, Kind::Float, BatchSize::Auto).unwrap();
    let spectrum = engine().spectra(&model, &x).unwrap();
    let budget = Budget::new(Norm::L2, 0.3, None).unwrap();
    let plain = Victim::of(&model, &x).unwrap();
    let along = Victim::of(&model, &x).unwrap().along(&spectrum).unwrap();
    let full = Victim::new(&model, &x, &[0, 1, 2, 3, 4], 0, Some(&spectrum)).unwrap();
    for name in ["random", "pgd", "spectral"] {
        let spec: AttackSpec = name.parse().unwrap();
        let images = |victim: &Victim| attack::run(&spec, victim, &budget).map(|found| found[0].images.copy());
        assert_eq!(images(&along).unwrap(), images(&full).unwrap(), "{name}");
        // Without a spectrum there is nothing to go along.
        assert_eq!(images(&plain).is_ok(), name != "spectral", "{name}");
    }
    let error = Victim::of(&model, &images(4)).unwrap().along(&spectrum).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Request);
}

#[test]
fn spectra_choose_as_the_program_does_and_are_those_of_the_engines() {
    let model = pullback::open(models().join("flat.pt"), Device::Cpu, Kind::Double).unwrap();
    let x = images(5).to_kind(Kind::Double);
    let index = [0, 1, 2, 3, 4];
    let with = |spec: SpectrumSpec| Wanted { spec, top: 1, ..Wanted::default() };
    let auto = Spectra::of(&model, &x, MetricKind::Stochastic, 1).unwrap();
    assert_eq!(auto.mode(), SpectrumMode::Full);
    let bound = auto.bound();
    let top = SpectrumSpec { mode: SpectrumMode::Top, pairs: 2, ..SpectrumSpec::default() };
    let mut spectra = Spectra::wanted(&model, &x, MetricKind::Stochastic, &with(top.clone())).unwrap();
    assert_eq!((spectra.mode(), spectra.bound()), (SpectrumMode::Top, bound));
    let found = spectra.find(&model, &x, &index).unwrap();
    let place = (Device::Cpu, Kind::Double);
    let mut engine = LeadingEngine::new(MetricKind::Stochastic, top, 2, bound, 0, place, BatchSize::Auto).unwrap();
    assert_eq!(*found.values(), engine.leading(&model, &x, &index).unwrap().values);
    let whole = { auto }.find(&model, &x, &index).unwrap();
    assert!(matches!(whole, Found::Whole(_)));
    assert_eq!(whole.values().size(), [5, bound]);
    assert!(whole.values().narrow(1, 0, 2).allclose(found.values(), 1e-6, 1e-9, false));
    // A space that holds the whole spectrum estimates nothing.
    for ((score, exact), (other, near)) in score::of(&whole).unwrap().iter().zip(score::of(&found).unwrap()) {
        assert_eq!(*score, other);
        assert!(exact.allclose(&near, 1e-6, 1e-9, true), "{score}");
    }
    let refused = SpectrumSpec { probes: 1, ..SpectrumSpec::default() };
    let error = Spectra::wanted(&model, &x, MetricKind::Mean, &with(refused)).unwrap_err();
    assert_eq!((error.kind(), error.exit_code()), (ErrorKind::Request, 2));
    let none = Spectra::of(&model, &x.narrow(0, 0, 0), MetricKind::Mean, 1).unwrap_err();
    assert_eq!(none.kind(), ErrorKind::Request);
}

/// Which backend libtorch would take for attention: 0 is that by plain mathematics, the one whose derivatives are exact.
fn attention() -> i64 {
    let q = Tensor::rand([1, 2, 64, 32], (Kind::Float, Device::Cpu));
    Tensor::internal_fused_sdp_choice(&q, &q, &q, None::<&Tensor>, 0.0, false, None, false)
}

/// The setting is the process's: each case has one of its own.
fn alone(case: &str) {
    let name = format!("library::{case}");
    let done = child::within(Duration::from_secs(120), &mut child::test(&name)).expect("within two minutes");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && said.contains("1 passed"), "{case}: {said}");
}

#[test]
fn whatever_opens_a_model_or_an_engine_sets_exact_mathematics() {
    let cases =
        ["a_file_is_exact", "a_folder_is_exact", "an_engine_is_exact", "leading_pairs_are_exact", "a_victim_is_exact"];
    cases.into_iter().for_each(alone);
}

/// Not set before, set by `work`.
fn becomes_exact(work: impl FnOnce()) {
    assert_ne!(attention(), 0, "libtorch's own choice");
    work();
    assert_eq!(attention(), 0);
}

#[test]
#[ignore = "a process of its own"]
fn a_file_is_exact() {
    becomes_exact(|| drop(pullback::open(models().join("flat.pt"), Device::Cpu, Kind::Float).unwrap()));
}

#[test]
#[ignore = "a process of its own"]
fn a_folder_is_exact() {
    becomes_exact(|| drop(pullback::model::network(&models().join("mlp"), Device::Cpu, Kind::Float).unwrap()));
}

#[test]
#[ignore = "a process of its own"]
fn an_engine_is_exact() {
    becomes_exact(|| drop(Engine::new(MetricKind::Mean, 0, Device::Cpu, Kind::Float, BatchSize::Auto).unwrap()));
}

#[test]
#[ignore = "a process of its own"]
fn leading_pairs_are_exact() {
    let place = (Device::Cpu, Kind::Float);
    let spec = SpectrumSpec::default();
    becomes_exact(|| {
        drop(LeadingEngine::new(MetricKind::Mean, spec, 1, 2, 0, place, BatchSize::Auto).unwrap());
    });
}

#[test]
#[ignore = "a process of its own"]
fn a_victim_is_exact() {
    let vae = crate::toy::TanhMlp::new(6, 4, 2, 1);
    let x = crate::toy::rand(&[2, 1, 1, 6], 3);
    becomes_exact(|| drop(Victim::of(&vae, &x).unwrap()));
}

#[test]
fn the_page_speaks_of_every_score() {
    use pullback::report::words;
    use pullback::score::Score;
    // The page knows no scores but by their names in files: these, no others, and each once.
    let mut known: Vec<&str> = words::SCORES.iter().map(|w| w.key).collect();
    let mut ours: Vec<&str> = Score::ALL.iter().map(|score| score.name()).collect();
    known.sort_unstable();
    ours.sort_unstable();
    assert_eq!(known, ours);
    assert!(words::SCORES.iter().all(|w| !w.title.is_empty() && !w.axis.is_empty()));
    for score in Score::ALL {
        assert_eq!(score.name().parse::<Score>().unwrap(), *score);
        // A name that the page does not know stands for itself.
        let title = pullback::report::words::title(score.name());
        assert!(title == "Trace" || title == "Rank" || title != score.name().replace('_', " "), "{score}: {title}");
        assert!(title.chars().next().unwrap().is_uppercase(), "{score}: {title}");
    }
}
