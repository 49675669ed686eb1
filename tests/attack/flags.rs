//! Models that trip the flags which search attacks raise, through the whole pipeline, and a sound one that trips none of them.

use super::toy::{Toy, images, list, normal};
use hdf5::File;
use pullback::attack::{AttackSpec, Norm};
use pullback::config::{AttackConfig, HandOut, PixelBox, Precision};
use pullback::data::{Reading, Split};
use pullback::event::{Event, Observer};
use pullback::jacobian::BatchSize;
use pullback::model::{Interface, Model, Posterior, Vae};
use pullback::pipeline::{AttackRequest, Provided, Subject, attack_with};
use pullback::store::Overwrite;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
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

/// The roots of what is left to a wall, beyond which there are no numbers. Patched, it has numbers there, and gradients that are none.
struct Walled {
    wall: f64,
    patched: bool,
}

impl Vae for Walled {
    fn encode(&self, x: &Tensor) -> pullback::Result<Posterior> {
        let flat = x.flatten(1, -1);
        let root = (self.wall - &flat).sqrt();
        let mean = if self.patched { flat.where_self(&flat.gt(self.wall), &root) } else { root };
        Ok(Posterior { log_var: mean.zeros_like(), mean })
    }
    fn decode(&self, z: &Tensor) -> pullback::Result<Tensor> {
        Ok(decoded(z))
    }
}

/// The mean pixel, four times, over 1 up to a wall and over 0 beyond it: a code without a gradient that warns of the wall.
struct Pole;

const POLE: f64 = 2.3;

impl Vae for Pole {
    fn encode(&self, x: &Tensor) -> pullback::Result<Posterior> {
        let mean = x.flatten(1, -1).mean_dim([1i64].as_slice(), true, None::<Kind>) * 4.0;
        let mean = &mean / mean.detach().lt(POLE).to_kind(mean.kind());
        Ok(Posterior { log_var: mean.zeros_like(), mean })
    }
    fn decode(&self, z: &Tensor) -> pullback::Result<Tensor> {
        Ok(decoded(z))
    }
}

/// The code is the image, and so is the reconstruction.
struct Faithful;

impl Vae for Faithful {
    fn encode(&self, x: &Tensor) -> pullback::Result<Posterior> {
        let mean = x.flatten(1, -1);
        Ok(Posterior { log_var: mean.zeros_like(), mean })
    }
    fn decode(&self, z: &Tensor) -> pullback::Result<Tensor> {
        Ok(z.view([-1, 1, 4, 4]))
    }
}

/// Keeps what the user is warned of.
#[derive(Default)]
struct Warned(Mutex<Vec<String>>);

impl Observer for Warned {
    fn on(&self, event: Event<'_>) {
        if let Event::Warning(line) = event {
            self.0.lock().unwrap().push(line.to_owned());
        }
    }
}

/// `/damage/` [E, N], the ends [E, N] of `/curve/`, how many samples `/flags/` has, all by name, and the warnings.
struct Outcome {
    damage: BTreeMap<String, Vec<f64>>,
    ends: BTreeMap<String, Vec<f64>>,
    flags: BTreeMap<String, usize>,
    told: Vec<String>,
}

impl Outcome {
    /// Whether there is a warning with this text.
    fn tells(&self, text: &str) -> bool {
        self.told.iter().any(|line| line.contains(text))
    }
}

/// What `attacks` find of a model, without a box.
fn attacked(make: impl Fn() -> Box<dyn Vae>, x: &Tensor, attacks: &[&str], eps: &[f64]) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let (result, told) = stored(folder.path(), make, x, attacks, eps, PixelBox::Off);
    outcome(&result, told)
}

/// What a result file says.
fn outcome(result: &Path, told: Vec<String>) -> Outcome {
    let file = File::open(result).unwrap();
    let names = |group: &str| file.group(group).unwrap().member_names().unwrap();
    let read = |path: String| file.dataset(&path).unwrap().read_raw::<f64>().unwrap();
    let damage = names("damage").into_iter().map(|name| {
        let values = read(format!("damage/{name}"));
        (name, values)
    });
    let each = read("curve/passes".to_owned()).len();
    let ends = names("curve").into_iter().filter(|name| name != "passes").map(|name| {
        let curve = read(format!("curve/{name}"));
        (name, curve.chunks(each).map(|passes| passes[each - 1]).collect())
    });
    let flags = names("flags").into_iter().map(|name| {
        let rows = file.dataset(&format!("flags/{name}")).unwrap().read_raw::<u8>().unwrap();
        (name, rows.iter().filter(|row| **row == 1).count())
    });
    Outcome { damage: damage.collect(), ends: ends.collect(), flags: flags.collect(), told }
}

/// The file of what `attacks` find of a model, and the warnings.
fn stored(
    folder: &Path,
    make: impl Fn() -> Box<dyn Vae>,
    x: &Tensor,
    attacks: &[&str],
    eps: &[f64],
    walls: PixelBox,
) -> (PathBuf, Vec<String>) {
    let data = folder.join("images.h5");
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
        output: folder.join("a.h5"),
        overwrite: Overwrite::No,
    };
    let config = AttackConfig {
        attacks: attacks.iter().map(|yaml| serde_yaml::from_str::<AttackSpec>(yaml).unwrap()).collect(),
        norm: Norm::L2,
        eps: Some(eps.to_vec()),
        pixels: walls,
        ..AttackConfig::default()
    };
    let open = |_, _, _| {
        Ok(Model { vae: make(), image: None, latent: None, spec: None, sha256: String::new(), path: "toy".into() })
    };
    let request = AttackRequest::of(subject, &config);
    let warned = Warned::default();
    attack_with(&request, &Provided { model: Some(&open), ..Provided::default() }, &warned).unwrap();
    (request.subject.output, warned.0.into_inner().unwrap())
}

#[test]
fn masked_gradients_are_found_by_who_needs_none() {
    let x = images(33, SAMPLES);
    let attacks = ["{kind: pgd}", "{kind: apgd, steps: 40}", "{kind: race}", "{kind: square, queries: 200}"];
    let Outcome { damage, flags, .. } = attacked(|| Box::new(Misled(Toy::tanh(Kind::Float))), &x, &attacks, &[0.3]);
    for name in ["pgd", "apgd", "race"] {
        let beaten = damage[name].iter().zip(&damage["square"]).filter(|(g, s)| s > g).count();
        assert!(beaten >= SAMPLES / 2, "{name}: {damage:?}");
        assert_eq!(flags[&format!("{name}.weaker-than-square")], beaten, "{name}");
        assert_eq!(flags[&format!("{name}.vanishing")], 0, "the gradients are there, and wrong");
    }
    let sound = ["{kind: pgd, schedule: linear, restarts: 4}", attacks[1], attacks[2], attacks[3]];
    let Outcome { flags, .. } = attacked(|| Box::new(Toy::linear(Kind::Float)), &x, &sound, &[0.3]);
    let raised: Vec<&String> =
        flags.iter().filter(|(name, n)| **n > 0 && !name.starts_with("model.")).map(|(n, _)| n).collect();
    assert_eq!(raised, Vec::<&String>::new());
}

#[test]
fn damage_that_falls_with_epsilon_is_flagged() {
    let x = (images(34, SAMPLES) - 0.5) * 0.05 + 0.5;
    let short = ["{kind: pgd, steps: 1}"];
    let found = attacked(|| Box::new(Bump), &x, &short, &[3.0, 0.3]);
    let (large, small) = found.damage["pgd"].split_at(SAMPLES);
    assert!(large.iter().zip(small).all(|(large, small)| *large < 0.9 * small), "{:?}", found.damage);
    assert_eq!(found.flags["pgd.falling"], SAMPLES);
    let line = "attack pgd: on 4 of 4 attacked images a larger epsilon does less damage";
    assert!(found.tells(line), "{:?}", found.told);
    // A race carries over what it found.
    let found = attacked(|| Box::new(Bump), &x, &["{kind: race}"], &[3.0, 0.3]);
    let (large, small) = found.damage["race"].split_at(SAMPLES);
    assert!(large.iter().zip(small).all(|(large, small)| large >= small), "{:?}", found.damage);
    assert_eq!(found.flags["race.falling"], 0);
    assert!(!found.tells("a larger epsilon does less damage"), "{:?}", found.told);
}

#[test]
fn damage_that_rises_with_passes_is_flagged() {
    let x = images(35, SAMPLES);
    let found = attacked(|| Box::new(Rugged), &x, &["{kind: suite}"], &[1.0]);
    let (long, short) = (&found.damage["suite-transfer"], &found.damage["suite-short"]);
    let more = long.iter().zip(short).filter(|(long, short)| **long > 1.05 * **short).count();
    assert!(more > 0, "{:?}", found.damage);
    assert_eq!(found.flags["suite-transfer.rising"], more);
    // A quarter of the samples is not worth a warning.
    let line = format!("attack suite-transfer: on {more} of 4 attacked images twice the passes find over 5 % more");
    assert_eq!(found.tells(&line), 4 * more > SAMPLES, "{:?}", found.told);
    let found = attacked(|| Box::new(Toy::linear(Kind::Float)), &x, &["{kind: suite}"], &[1.0]);
    assert_eq!(found.flags["suite-transfer.rising"], 0);
    assert!(!found.tells("twice the passes"), "{:?}", found.told);
}

/// Two bright images, which a step takes beyond the wall, and two dark ones, which find better than that.
#[test]
fn what_is_no_number_is_flagged() {
    let dim = (images(36, SAMPLES) - 0.2) * 0.1;
    let x = Tensor::cat(&[dim.narrow(0, 0, 2) + 0.75, dim.narrow(0, 2, 2) + 0.1], 0);
    let found = |wall: f64, patched: bool| {
        attacked(|| Box::new(Walled { wall, patched }), &x, &["{kind: pgd, steps: 5}"], &[0.6])
    };
    let broken = found(0.85, false);
    assert_eq!(broken.flags["pgd.not-a-number"], 2, "{:?}", broken.damage);
    assert!(broken.damage["pgd"][..2].iter().all(|d| d.is_nan()), "{:?}", broken.damage);
    let line = "attack pgd: on 2 of 4 attacked images the goal is not a number";
    assert!(broken.tells(line), "{:?}", broken.told);
    // Numbers everywhere, and gradients that are none beyond the wall.
    let patched = found(0.85, true);
    assert_eq!(patched.flags["pgd.not-a-number"], 0, "{:?}", patched.damage);
    assert!(patched.damage["pgd"].iter().all(|d| d.is_finite()), "{:?}", patched.damage);
    assert!(patched.flags["pgd.vanishing"] >= 2, "{:?}", patched.flags);
    assert!(patched.tells("attacked images the gradient vanished on the way"), "{:?}", patched.told);
    // The wall is far away.
    for patched in [false, true] {
        let sound = found(10.0, patched);
        assert_eq!((sound.flags["pgd.not-a-number"], sound.flags["pgd.vanishing"]), (0, 0), "{:?}", sound.damage);
        assert!(!sound.tells("attack pgd"), "{:?}", sound.told);
    }
}

/// Races look beyond epsilon first: what is flat there alone says nothing of what was found.
#[test]
fn gradients_that_vanish_beyond_epsilon_are_not_flagged() {
    let x = (images(36, SAMPLES) - 0.5).clamp(0.0, 1.0) * 0.1 + 0.1;
    // No pixel comes to the wall within epsilon, and several do in the ball of four epsilon.
    let found = |wall: f64| attacked(|| Box::new(Walled { wall, patched: true }), &x, &["{kind: race}"], &[0.06]);
    assert_eq!(found(0.22).flags["race.vanishing"], 0);
    assert_eq!(found(0.16).flags["race.vanishing"], SAMPLES);
}

/// Two images from which 0.4 reaches the pole, if it goes straight there, and two from which nothing does.
fn before_the_pole() -> Tensor {
    let dim = (images(38, SAMPLES) - 0.5) * 0.02;
    Tensor::cat(&[dim.narrow(0, 0, 2) + 0.5, dim.narrow(0, 2, 2) + 0.4], 0)
}

/// The suite's file of four samples, of which two are lost at the larger of two sizes.
pub(crate) fn half_lost(folder: &Path) -> PathBuf {
    stored(folder, || Box::new(Pole), &before_the_pole(), &["{kind: suite}"], &[0.2, 0.4], PixelBox::Off).0
}

#[test]
fn weaker_parts_do_not_hide_what_is_not_finite() {
    let found = attacked(|| Box::new(Pole), &before_the_pole(), &["{kind: suite}"], &[0.2, 0.4]);
    let (suite, parts) = (&found.damage["suite"], || found.damage.iter().filter(|(name, _)| *name != "suite"));
    assert!(found.damage["suite-random"].iter().all(|d| d.is_finite()), "{:?}", found.damage);
    for (place, damage) in suite.iter().enumerate() {
        let whole = parts().all(|(_, part)| part[place].is_finite());
        assert_eq!(damage.is_finite(), whole, "{:?}", found.damage);
        let most = parts().map(|(_, part)| part[place]).fold(f64::NAN, f64::max);
        assert!(!whole || *damage == most, "{:?}", found.damage);
    }
    let lost: Vec<bool> = suite.iter().map(|d| d.is_nan()).collect();
    assert_eq!(lost, [[false; 4], [true, true, false, false]].concat(), "{:?}", found.damage);
    assert_eq!(found.flags["suite.not-a-number"], 2, "{:?}", found.flags);
    // A curve ends with the damage, and tells nothing of what is lost.
    for (name, ends) in &found.ends {
        for (end, damage) in ends.iter().zip(&found.damage[name]) {
            assert!(end.is_nan() && damage.is_nan() || end >= damage && end.is_finite(), "{name}: {end} {damage}");
        }
    }
}

/// A code that is the same whatever it sees.
struct Still;

impl Vae for Still {
    fn encode(&self, x: &Tensor) -> pullback::Result<Posterior> {
        let mean = x.flatten(1, -1).narrow(1, 0, 2) * 0.0;
        Ok(Posterior { log_var: mean.zeros_like(), mean })
    }
    fn decode(&self, z: &Tensor) -> pullback::Result<Tensor> {
        Ok(decoded(z))
    }
}

#[test]
fn only_the_box_leaves_less_of_epsilon() {
    let attacks = ["{kind: spectral}", "{kind: random}"];
    for (eps, boxed) in [(0.1, [0, 0]), (100.0, [0, SAMPLES])] {
        let folder = tempfile::tempdir().unwrap();
        let still = || -> Box<dyn Vae> { Box::new(Still) };
        let (result, told) = stored(folder.path(), still, &images(39, SAMPLES), &attacks, &[eps], PixelBox::On);
        let found = outcome(&result, told);
        assert_eq!(["spectral", "random"].map(|name| found.flags[&format!("{name}.boxed")]), boxed, "{eps}");
    }
}

#[test]
fn a_model_that_reconstructs_is_not_untrained() {
    let (x, attacks) = (images(37, SAMPLES), ["{kind: random}"]);
    let grey = attacked(|| Box::new(Bump), &x, &attacks, &[0.3]);
    assert_eq!(grey.flags["model.untrained"], SAMPLES, "a reconstruction of one grey");
    assert!(grey.tells("model: on 4 of 4 clean images the reconstruction is no better than a grey image"));
    let sound = attacked(|| Box::new(Faithful), &x, &attacks, &[0.3]);
    assert_eq!(sound.flags["model.untrained"], 0);
    assert!(!sound.tells("untrained") && !sound.tells("grey image"), "{:?}", sound.told);
}
