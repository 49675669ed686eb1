//! Scores and attacks a model from a file: `cargo run --example score_and_attack -- MODEL DATA`, both as the program takes them.
#![allow(clippy::print_stdout)]

use pullback::attack::{self, AttackSpec, Budget, Norm, Victim};
use pullback::data::{self, Split};
use pullback::tch::Kind;
use pullback::{DeviceChoice, MetricKind, Result, Spectra, score};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [model, data] => score_and_attack(model, data),
        _ => {
            println!("usage: score_and_attack MODEL DATA");
            Ok(())
        }
    }
}

/// The first 256 images: medians of all scores, and of the damage that each attack does.
pub fn score_and_attack(model: &str, data: &str) -> Result<()> {
    let device = DeviceChoice::Auto.resolve()?;
    let vae = pullback::open(model, device, Kind::Float)?;
    let source = data::open(data, Split::Test, Some(256))?;
    let batch = source.read(&(0..source.len() as u64).collect::<Vec<_>>())?;
    let images = batch.images.f_to_device(device)?;

    let mut spectra = Spectra::of(&vae, &images, MetricKind::Stochastic, 1)?;
    let found = spectra.find(&vae, &images, &batch.index)?;
    for (score, values) in score::of(&found)? {
        println!("{score:20} {:12.4}", values.f_nanmedian()?.f_double_value(&[])?);
    }

    let spectrum = found.into_spectrum();
    let victim = Victim::new(&vae, &images, &batch.index, 0, Some(&spectrum))?;
    let budget = Budget::new(Norm::L2, 0.5, Some((0.0, 1.0)))?;
    for name in ["random", "spectral", "pgd"] {
        for attacked in attack::run(&name.parse::<AttackSpec>()?, &victim, &budget)? {
            println!("{:20} {:12.4}", attacked.name, attacked.damage.f_nanmedian()?.f_double_value(&[])?);
        }
    }
    Ok(())
}
