//! Attacks divided among threads are those of the whole batch.

use super::toy::{Toy, images};
use crate::child;
use pullback::attack::{AttackSpec, Attacked, Budget, Crew, Norm, PgdSpec, Victim, run};
use pullback::data::ImageShape;
use pullback::model::{ConvSpec, ModelSpec, Network};
use std::time::Duration;
use tch::{Device, Kind, Tensor};

/// Not a test of its own: libtorch's number of threads is the whole process's.
#[test]
#[ignore = "run by the test beside it"]
fn child_divides() {
    let Ok(threads) = std::env::var("PULLBACK_TEST_CREW") else { return };
    tch::set_num_threads(threads.parse().unwrap());
    divided();
    println!("\nall compared");
}

#[test]
fn parts_are_attacked_as_the_whole() {
    for threads in ["2", "3"] {
        let mut command = child::test("attack::crew::child_divides");
        let done = child::within(Duration::from_secs(120), command.env("PULLBACK_TEST_CREW", threads));
        let done = done.unwrap_or_else(|| panic!("{threads} threads: still running after two minutes"));
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(said.contains("all compared"), "{threads} threads: {said}\n{}", String::from_utf8_lossy(&done.stderr));
    }
}

/// Compares the attack on all samples with the attack on parts of them, on as many threads as there are.
fn divided() {
    let image = Some(ImageShape { channels: 1, height: 12, width: 12 });
    let spec = ConvSpec { image, latent: 3, channels: vec![4, 8], hidden: 0, ..ConvSpec::default() };
    let network = Network::new(&ModelSpec::Conv(spec), 7, Device::Cpu, Kind::Float).unwrap();
    let x = Tensor::rand([21, 1, 12, 12], (Kind::Float, Device::Cpu));
    let index: Vec<u64> = (100..121).collect();
    let budget = Budget::new(Norm::L2, 0.5, Some((0.0, 1.0))).unwrap();
    let pgd = AttackSpec::Pgd(PgdSpec { steps: 3, ..PgdSpec::default() });
    let attacked = |vae: &dyn pullback::model::Vae, x: &Tensor, index: &[u64]| -> pullback::Result<Attacked> {
        let victim = Victim::new(vae, x, index, 5, None)?;
        Ok(run(&pgd, &victim, &budget)?.remove(0))
    };
    let whole = attacked(&network, &x, &index).unwrap();
    let part = |range: std::ops::Range<usize>| {
        Ok((x.narrow(0, range.start as i64, range.len() as i64), index[range].to_vec()))
    };
    let crew = Crew::of(&network, Device::Cpu);
    let parts = crew.divide(21, part, |vae, (x, index)| attacked(vae, &x, &index)).unwrap();
    let parts = parts.expect("nothing was divided");
    assert_eq!(parts.len(), tch::get_num_threads() as usize);
    let images: Vec<&Tensor> = parts.iter().map(|p| &p.images).collect();
    // Three steps of 0.2 along unit directions, each off by rounding.
    assert!((Tensor::cat(&images, 0) - &whole.images).abs().max().double_value(&[]) < 1e-4);
    let damage: Vec<&Tensor> = parts.iter().map(|p| &p.damage).collect();
    let apart = (Tensor::cat(&damage, 0) / &whole.damage - 1.0).abs().max().double_value(&[]);
    assert!(apart < 1e-3, "{apart}");
    // Too few for all threads.
    assert!(crew.divide(1, part, |vae, (x, index)| attacked(vae, &x, &index)).unwrap().is_none());
}

#[test]
fn a_model_that_cannot_be_shared_is_asked_alone() {
    let toy = Toy::tanh(Kind::Float);
    let x = images(1, 64);
    let divided = Crew::of(&toy, Device::Cpu).divide(64, |range| Ok(x.narrow(0, range.start as i64, 1)), |_, _| Ok(()));
    assert!(divided.unwrap().is_none());
}
