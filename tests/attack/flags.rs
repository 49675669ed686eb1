//! Models that trip the flags which search attacks raise, through the whole pipeline, and a sound one that trips none of them.

use super::toy::{Toy, images, list, normal};
use hdf5::File;
use pullback::attack::{AttackSpec, Norm};
use pullback::config::{AttackConfig, HandOut, PixelBox, Precision};
use pullback::data::{Reading, Split};
use pullback::event::Silent;
use pullback::jacobian::BatchSize;
use pullback::model::{Interface, Model, Posterior, Vae};
use pullback::pipeline::{AttackRequest, Provided, Subject, attack_with};
use pullback::store::Overwrite;
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

const SAMPLES: usize = 4;

/// The decoder of all models here.
fn decoded(z: &Tensor) -> Tensor {
    let first = z.narrow(1, 0, 1);
    first.sigmoid().view([-1, 1, 1, 1]).expand([-1, 1, 4, 4], false).contiguous()
}

/// One that says the truth going forward and nonsense going back.
struct Misled(Toy);

impl Vae for Misled {
    fn encode(&self, x: &Tensor) -> pullback::Result<Posterior> {
        let Posterior { mean, log_var } = self.0.encode(&x.detach())?;
        let lure = x.flatten(1, -1).matmul(&normal(31, 16, 3).to_kind(x.kind()));
        Ok(Posterior { mean: mean + (&lure - lure.detach()), log_var })
    }
    fn decode(&self, z: &Tensor) -> pullback::Result<Tensor> {
        Ok(decoded(z))
    }
}

/// r exp(-r^2 / 0.18) at a distance r from grey: the worst lies at 0.3, and far out there is nothing.
struct Bump;

impl Vae for Bump {
    fn encode(&self, x: &Tensor) -> pullback::Result<Posterior> {
        let square = (x.flatten(1, -1) - 0.5).square().sum_dim_intlist([1i64].as_slice(), true, None::<Kind>);
        let mean = square.sqrt() * (square / -0.18).exp();
        Ok(Posterior { log_var: mean.zeros_like(), mean })
    }
    fn decode(&self, z: &Tensor) -> pullback::Result<Tensor> {
        Ok(decoded(z))
    }
}

/// Forty waves along sixteen axes: every summit has a higher one elsewhere.
struct Rugged;

impl Vae for Rugged {
    fn encode(&self, x: &Tensor) -> pullback::Result<Posterior> {
        let waves = x.flatten(1, -1).matmul(&(normal(32, 16, 40) * 6.0).to_kind(x.kind()));
        let mean = waves.sin();
        Ok(Posterior { log_var: mean.zeros_like(), mean })
    }
    fn decode(&self, z: &Tensor) -> pullback::Result<Tensor> {
        Ok(decoded(z))
    }
}

/// What `attacks` find of a model, without a box: `/damage/` [E, N] and `/flags/` [N] by name.
fn attacked(
    make: impl Fn() -> Box<dyn Vae>,
    x: &Tensor,
    attacks: &[&str],
    eps: &[f64],
) -> (BTreeMap<String, Vec<f64>>, BTreeMap<String, usize>) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("images.h5");
    let pixels: Vec<f32> = list(x).into_iter().map(|p| p as f32).collect();
    let file = File::create(&data).unwrap();
    file.new_dataset::<f32>().shape([SAMPLES, 1, 4, 4]).create("images").unwrap().write_raw(&pixels).unwrap();
    drop(file);
    let subject = Subject {
        model: "toy".into(),
        data: data.display().to_string(),
        split: Split::default(),
        limit: None,
        sample: None,
        reading: Reading::default(),
        interface: Interface::default(),
        shard: None,
        hand_out: HandOut::default(),
        precision: Precision::default(),
        seed: 4,
        device: "cpu".parse().unwrap(),
        batch: BatchSize::Auto,
        output: folder.path().join("a.h5"),
        overwrite: Overwrite::No,
    };
    let config = AttackConfig {
        attacks: attacks.iter().map(|yaml| serde_yaml::from_str::<AttackSpec>(yaml).unwrap()).collect(),
        norm: Norm::L2,
        eps: Some(eps.to_vec()),
        pixels: PixelBox::Off,
        ..AttackConfig::default()
    };
    let open = |_, _, _| {
        Ok(Model { vae: make(), image: None, latent: None, spec: None, sha256: String::new(), path: "toy".into() })
    };
    let request = AttackRequest::of(subject, &config);
    attack_with(&request, &Provided { model: Some(&open), ..Provided::default() }, &Silent).unwrap();
    let file = File::open(&request.subject.output).unwrap();
    let names = |group: &str| file.group(group).unwrap().member_names().unwrap();
    let damage = names("damage").into_iter().map(|name| {
        let values = file.dataset(&format!("damage/{name}")).unwrap().read_raw::<f64>().unwrap();
        (name, values)
    });
    let flags = names("flags").into_iter().map(|name| {
        let rows = file.dataset(&format!("flags/{name}")).unwrap().read_raw::<u8>().unwrap();
        (name, rows.iter().filter(|row| **row == 1).count())
    });
    (damage.collect(), flags.collect())
}

#[test]
fn masked_gradients_are_found_by_who_needs_none() {
    let x = images(33, SAMPLES);
    let attacks = ["{kind: pgd}", "{kind: apgd, steps: 40}", "{kind: race}", "{kind: square, queries: 200}"];
    let (damage, flags) = attacked(|| Box::new(Misled(Toy::tanh(Kind::Float))), &x, &attacks, &[0.3]);
    for name in ["pgd", "apgd", "race"] {
        let beaten = damage[name].iter().zip(&damage["square"]).filter(|(g, s)| s > g).count();
        assert!(beaten >= SAMPLES / 2, "{name}: {damage:?}");
        assert_eq!(flags[&format!("{name}.weaker-than-square")], beaten, "{name}");
        assert_eq!(flags[&format!("{name}.vanishing")], 0, "the gradients are there, and wrong");
    }
    let sound = ["{kind: pgd, schedule: linear, restarts: 4}", attacks[1], attacks[2], attacks[3]];
    let (_, flags) = attacked(|| Box::new(Toy::linear(Kind::Float)), &x, &sound, &[0.3]);
    let raised: Vec<&String> =
        flags.iter().filter(|(name, n)| **n > 0 && !name.starts_with("model.")).map(|(n, _)| n).collect();
    assert_eq!(raised, Vec::<&String>::new());
}

#[test]
fn damage_that_falls_with_epsilon_is_flagged() {
    let x = (images(34, SAMPLES) - 0.5) * 0.05 + 0.5;
    let short = ["{kind: pgd, steps: 1}"];
    let (damage, flags) = attacked(|| Box::new(Bump), &x, &short, &[3.0, 0.3]);
    let (large, small) = damage["pgd"].split_at(SAMPLES);
    assert!(large.iter().zip(small).all(|(large, small)| *large < 0.9 * small), "{damage:?}");
    assert_eq!(flags["pgd.falling"], SAMPLES);
    // A race carries over what it found.
    let (damage, flags) = attacked(|| Box::new(Bump), &x, &["{kind: race}"], &[3.0, 0.3]);
    let (large, small) = damage["race"].split_at(SAMPLES);
    assert!(large.iter().zip(small).all(|(large, small)| large >= small), "{damage:?}");
    assert_eq!(flags["race.falling"], 0);
}

#[test]
fn damage_that_rises_with_passes_is_flagged() {
    let x = images(35, SAMPLES);
    let (damage, flags) = attacked(|| Box::new(Rugged), &x, &["{kind: suite}"], &[1.0]);
    let more =
        damage["suite-race"].iter().zip(&damage["suite-short"]).filter(|(long, short)| **long > 1.05 * **short).count();
    assert!(more > 0, "{damage:?}");
    assert_eq!(flags["suite-race.rising"], more);
    let (_, flags) = attacked(|| Box::new(Toy::linear(Kind::Float)), &x, &["{kind: suite}"], &[1.0]);
    assert_eq!(flags["suite-race.rising"], 0);
}
