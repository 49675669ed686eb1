//! A model written in tch: all that the engine asks of it is `encode` and `decode`. `cargo run --example own_model`
#![allow(clippy::print_stdout)]

use pullback::attack::{self, AttackSpec, Budget, Norm, Victim};
use pullback::tch::nn::{self, Module};
use pullback::tch::{Device, Kind, Tensor};
use pullback::{MetricKind, Posterior, Result, Spectra, Vae, score};

/// Images of 8 x 8 grey pixels, 3 latents. A sample must not look at others of its batch.
struct Own {
    hidden: nn::Linear,
    mean: nn::Linear,
    log_var: nn::Linear,
    decoder: nn::Sequential,
}

impl Own {
    fn new(path: &nn::Path) -> Self {
        let linear = |name: &str, from, to| nn::linear(path / name, from, to, Default::default());
        Self {
            hidden: linear("hidden", 64, 32),
            mean: linear("mean", 32, 3),
            log_var: linear("log_var", 32, 3),
            decoder: nn::seq().add(linear("widen", 3, 64)).add_fn(Tensor::sigmoid),
        }
    }
}

impl Vae for Own {
    fn encode(&self, x: &Tensor) -> Result<Posterior> {
        let h = self.hidden.forward(&x.f_flatten(1, -1)?).f_tanh()?;
        Ok(Posterior { mean: self.mean.forward(&h), log_var: self.log_var.forward(&h) })
    }

    fn decode(&self, z: &Tensor) -> Result<Tensor> {
        Ok(self.decoder.forward(z).f_reshape([-1, 1, 8, 8])?)
    }
}

fn main() -> Result<()> {
    own_model().map(drop)
}

/// Median effective rank and median damage.
pub fn own_model() -> Result<(f64, f64)> {
    // Its weights would be read here: `store.load("weights.safetensors")`.
    let mut store = nn::VarStore::new(Device::Cpu);
    let vae = Own::new(&store.root());
    // The engine differentiates by the image alone.
    store.freeze();
    let images = Tensor::f_rand([32, 1, 8, 8], (Kind::Float, Device::Cpu))?;
    let index: Vec<u64> = (0..32).collect();

    let mut spectra = Spectra::of(&vae, &images, MetricKind::Output, 1)?;
    let found = spectra.find(&vae, &images, &index)?;
    let median = |values: &Tensor| values.f_nanmedian()?.f_double_value(&[]);
    let mut rank = f64::NAN;
    for (score, values) in score::of(&found)? {
        println!("{score:20} {:12.4}", median(&values)?);
        if score == score::Score::EffectiveRank {
            rank = median(&values)?;
        }
    }

    let spectrum = found.into_spectrum();
    let victim = Victim::of(&vae, &images)?.along(&spectrum)?;
    let budget = Budget::new(Norm::L2, 0.5, Some((0.0, 1.0)))?;
    let attacked = attack::run(&"spectral".parse::<AttackSpec>()?, &victim, &budget)?;
    let damage = median(&attacked[0].damage)?;
    println!("{:20} {damage:12.4}", attacked[0].name);
    Ok((rank, damage))
}
