//! Makes a pipeline's request from the typed arguments: reads the YAML, applies `--set` and flags, checks ranges.

use super::args::{Attack, Bench, Compute, Demo, Evaluate, Read, Score, Sweep, Train};
use crate::attack::{AttackSpec, Goal, Knob};
use crate::config::{AttackConfig, HandOut, RunConfig, SaveImages, ShardChoice, SweepSpec, Target, Tree};
use crate::config::{PixelBox, Precision};
use crate::data::{Reading, Split};
use crate::error::{Error, Result};
use crate::jacobian::BatchSize;
use crate::metric::MetricKind;
use crate::model::{CONFIG_FILE, WEIGHTS_FILE};
use crate::pipeline::bench::BenchRequest;
use crate::pipeline::demo::DemoRequest;
use crate::pipeline::sweep::SweepRequest;
use crate::pipeline::train::TrainRequest;
use crate::pipeline::{AttackRequest, ScoreRequest, Subject};
use crate::store::{self, Overwrite};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// The demo's YAML, part of the binary.
const DEMO: &str = include_str!("../../configs/demo.yaml");

/// `--force` as the writers take it.
pub fn overwrite(force: bool) -> Overwrite {
    if force { Overwrite::Yes } else { Overwrite::No }
}

/// `pullback train`.
pub fn train(typed: &Train) -> Result<TrainRequest> {
    let mut tree = Tree::read(&typed.config)?;
    apply(&mut tree, &typed.compute, &["data"])?;
    read(&mut tree, &typed.read)?;
    match typed.compute.batch {
        Some(BatchSize::Fixed(n)) => tree.put("--batch", "train.batch", &n)?,
        Some(BatchSize::Auto) => {
            let expected = "a number, the samples of a step: only scoring and attacking measure theirs";
            return Err(Error::request("--batch", expected, "auto"));
        }
        None => {}
    }
    let config = RunConfig::parse(&tree)?;
    Ok(TrainRequest { config, output: typed.output.clone(), overwrite: overwrite(typed.force) })
}

/// `pullback sweep`.
pub fn sweep(typed: &Sweep) -> Result<SweepRequest> {
    let mut tree = Tree::read(&typed.config)?;
    for assignment in &typed.compute.set {
        tree.set(assignment)?;
    }
    let Compute { device, limit, split, seed, .. } = &typed.compute;
    if let Some(device) = device {
        tree.put("--device", "device", device)?;
    }
    if let Some(limit) = limit {
        tree.put("--limit", "samples", limit)?;
    }
    if let Some(split) = split {
        tree.put("--split", "split", split)?;
    }
    if let Some(seed) = seed {
        tree.put("--seed", "seeds", &[seed])?;
    }
    batch(&mut tree, &typed.compute)?;
    let spec = SweepSpec::parse(&tree)?;
    let share = typed.shard.and_then(ShardChoice::shard);
    Ok(SweepRequest { spec, output: typed.output.clone(), overwrite: overwrite(typed.force), share })
}

/// `pullback demo`.
pub fn demo(typed: &Demo) -> Result<DemoRequest> {
    let mut tree = Tree::text("demo.yaml", DEMO)?;
    apply(&mut tree, &typed.compute, &["score", "attack"])?;
    batch(&mut tree, &typed.compute)?;
    let config = RunConfig::parse(&tree)?;
    Ok(DemoRequest { config, output: typed.output.clone(), overwrite: overwrite(typed.force) })
}

/// `pullback score`.
pub fn score(typed: &Score) -> Result<ScoreRequest> {
    let mut tree = evaluate(&typed.evaluate, "score")?;
    if let Some(top) = typed.top {
        tree.put("--top", "score.top", &top)?;
    }
    if let Some(margin) = typed.margin {
        tree.put("--margin", "score.margin", &margin)?;
    }
    let config = RunConfig::parse(&tree)?;
    let spec = &config.score;
    let part = (spec.split, spec.limit, spec.sample);
    let subject = subject(&typed.evaluate, &config, part, spec.precision);
    ensure_apart(&typed.evaluate, &[])?;
    let (metric, top, spectrum, margin) = (spec.metric, spec.top, spec.spectrum.clone(), spec.margin);
    Ok(ScoreRequest { subject, metric, top, spectrum, margin })
}

/// `pullback attack`.
pub fn attack(typed: &Attack) -> Result<AttackRequest> {
    let mut tree = evaluate(&typed.evaluate, "attack")?;
    if let Some(norm) = typed.norm {
        tree.put("--norm", "attack.norm", &norm)?;
    }
    if let Some(eps) = &typed.eps {
        tree.put("--eps", "attack.eps", eps)?;
    }
    if let Some(pixels) = typed.pixels {
        tree.put("--box", "attack.box", &pixels)?;
    }
    if typed.save_images {
        tree.put("--save-images", "attack.images", &SaveImages::Yes)?;
    }
    if let Some(target) = &typed.target {
        tree.put("--target", "attack.target", target)?;
    }
    if let Some(draws) = typed.eot {
        tree.put("--eot", "attack.eot", &draws)?;
    }
    if let Some(through) = &typed.through {
        tree.put("--through", "attack.through", through)?;
    }
    if typed.save_png.is_some() {
        tree.put("--save-png", "attack.rounded", &true)?;
    }
    // A goal and what it reads are checked together, below, when the flags are there.
    let mut config: RunConfig = tree.parse(|_| Ok(()))?;
    if typed.judge.is_some() {
        config.attack.judge.clone_from(&typed.judge);
    }
    if let Some(reads) = typed.judge_reads {
        config.attack.judge_reads = reads;
    }
    if let Some(layers) = &typed.layers {
        config.attack.layers.clone_from(layers);
    }
    config.attack.attacks = attacks(typed, &config.attack)?;
    tree.parse(|_: &RunConfig| config.validate())?;
    let spec = &config.attack;
    let part = (spec.split, spec.limit, spec.sample);
    let request = AttackRequest::of(subject(&typed.evaluate, &config, part, spec.precision), spec);
    if typed.pixels == Some(PixelBox::On) && request.pixels == PixelBox::Off {
        return Err(Error::request("--box", "off: values of any size (--full-scale none) have no box", "on"));
    }
    let target = match &spec.target {
        Some(Target::File(file) | Target::Code(file)) => Some(Path::new(file)),
        _ => None,
    };
    let others: Vec<&Path> = spec.judge.as_deref().into_iter().chain(target).collect();
    ensure_apart(&typed.evaluate, &others)?;
    Ok(AttackRequest { pictures: typed.save_png.clone(), ..request })
}

/// The attacks that were named (with the YAML's settings if it has them), and the flags that change them.
fn attacks(typed: &Attack, config: &AttackConfig) -> Result<Vec<AttackSpec>> {
    let configured = |named: &AttackSpec| config.attacks.iter().find(|a| a.name() == named.name()).cloned();
    let chosen: Vec<AttackSpec> = match &typed.attack {
        Some(named) => named.iter().map(|a| configured(a).unwrap_or_else(|| a.clone())).collect(),
        None => config.attacks.clone(),
    };
    let mut chosen = chosen;
    for knob in knobs(typed, &chosen)? {
        knob.turn(&mut chosen)?;
    }
    // `--metric` is for the directions of all attacks; one of them has its own key in a configuration.
    for attack in &mut chosen {
        if let (AttackSpec::SpectralIterated(own), Some(metric)) = (attack, typed.evaluate.metric) {
            own.metric = metric;
        }
    }
    Ok(chosen)
}

/// The flags that are settings of the attacks `chosen`. A new one is a flag of [`Attack`] and a line here.
fn knobs(typed: &Attack, chosen: &[AttackSpec]) -> Result<Vec<Knob>> {
    fn knob<T: Serialize>(flag: &'static str, key: &'static str, value: &Option<T>) -> Option<Result<Knob>> {
        value.as_ref().map(|value| Knob::new(flag, key, value))
    }
    // A judge and layers are given for their goals, of which a file may have chosen another that reads them.
    let read = chosen.iter().all(|attack| matches!(attack.goal(), Goal::Layers | Goal::Grill));
    let layers = typed.layers.as_ref().filter(|_| !read).map(|_| Goal::Layers);
    let implied = typed.judge.as_ref().map(|_| Goal::Judge).or(layers);
    let goal = typed.goal.or(implied);
    let all = [
        knob("--goal", "goal", &goal),
        knob("--steps", "steps", &typed.steps),
        knob("--step", "step", &typed.step),
        knob("--scale", "scale", &typed.scale),
        knob("--top", "top", &typed.top),
        knob("--restarts", "restarts", &typed.restarts),
        knob("--start", "start", &typed.start),
        knob("--starts", "starts", &typed.starts),
        knob("--schedule", "schedule", &typed.schedule),
        knob("--momentum", "momentum", &typed.momentum),
        knob("--budget", "budget", &typed.budget),
        knob("--draws", "draws", &typed.draws),
        knob("--queries", "queries", &typed.queries),
        knob("--reach", "reach", &typed.reach),
        knob("--universal-on", "fit", &typed.universal_on),
    ];
    all.into_iter().flatten().collect()
}

/// The tree of `score` or `attack`, with the flags that both have.
fn evaluate(typed: &Evaluate, section: &str) -> Result<Tree> {
    let mut tree = typed.config.as_deref().map_or_else(|| Ok(Tree::default()), Tree::read)?;
    apply(&mut tree, &typed.compute, &[section])?;
    batch(&mut tree, &typed.compute)?;
    read(&mut tree, &typed.read)?;
    if let Some(sample) = typed.sample {
        tree.put("--sample", &format!("{section}.sample"), &sample)?;
        // In place of the first ones, of which the file may speak.
        replaced(&mut tree, "--sample", &format!("{section}.limit"))?;
    }
    if let Some(range) = typed.input_range {
        tree.put("--input-range", "interface.input_range", &range)?;
    }
    if let Some(posterior) = typed.posterior {
        tree.put("--posterior", "interface.posterior", &posterior)?;
    }
    if let Some(outputs) = &typed.outputs {
        tree.put("--outputs", "interface.outputs", outputs)?;
    }
    if let Some(metric) = typed.metric {
        tree.put("--metric", &format!("{section}.metric"), &metric)?;
    }
    if let Some(spectrum) = typed.spectrum {
        tree.put("--spectrum", &format!("{section}.spectrum.mode"), &spectrum)?;
    }
    if let Some(precision) = typed.precision {
        tree.put("--precision", &format!("{section}.precision"), &precision)?;
    }
    Ok(tree)
}

/// `--set`, then the flags that every computing command has; `--limit` and `--split` go to the `sections` named.
fn apply(tree: &mut Tree, typed: &Compute, sections: &[&str]) -> Result<()> {
    for assignment in &typed.set {
        tree.set(assignment)?;
    }
    if let Some(device) = typed.device {
        tree.put("--device", "device", &device)?;
    }
    if let Some(seed) = typed.seed {
        tree.put("--seed", "seed", &seed)?;
    }
    for section in sections {
        if let Some(limit) = typed.limit {
            tree.put("--limit", &format!("{section}.limit"), &limit)?;
            replaced(tree, "--limit", &format!("{section}.sample"))?;
        }
        if let Some(split) = typed.split {
            tree.put("--split", &format!("{section}.split"), &split)?;
        }
    }
    Ok(())
}

/// Takes away what the flag `label` replaces.
fn replaced(tree: &mut Tree, label: &str, path: &str) -> Result<()> {
    if tree.get(path).is_some() { tree.put(label, path, &None::<usize>) } else { Ok(()) }
}

fn batch(tree: &mut Tree, typed: &Compute) -> Result<()> {
    typed.batch.map_or(Ok(()), |batch| tree.put("--batch", "batch", &batch))
}

/// How data are read.
fn read(tree: &mut Tree, typed: &Read) -> Result<()> {
    if let Some(layout) = typed.layout {
        tree.put("--layout", "reading.layout", &layout)?;
    }
    if let Some(scale) = typed.full_scale {
        tree.put("--full-scale", "reading.full_scale", &scale)?;
    }
    if let Some(background) = typed.background {
        tree.put("--background", "reading.background", &background)?;
    }
    Ok(())
}

type Part = (Split, Option<usize>, Option<usize>);

fn subject(typed: &Evaluate, config: &RunConfig, (split, limit, sample): Part, precision: Precision) -> Subject {
    Subject {
        model: typed.model.clone(),
        data: typed.data.clone(),
        split,
        limit,
        sample,
        reading: config.reading,
        interface: config.interface.clone(),
        shard: typed.shard.and_then(ShardChoice::shard),
        precision,
        seed: config.seed,
        device: config.device,
        batch: config.batch,
        output: typed.output.clone(),
        overwrite: overwrite(typed.force),
        hand_out: match typed.shard {
            Some(ShardChoice::Any(parts)) => HandOut::any(parts, None),
            _ => HandOut::Fixed,
        },
    }
}

/// Refuses an output that is one of the files that the run reads, `others` among them.
fn ensure_apart(typed: &Evaluate, others: &[&Path]) -> Result<()> {
    let of_folder = [WEIGHTS_FILE, CONFIG_FILE].map(|file| typed.model.join(file));
    // FILE:NAME is one of several arrays in a file.
    let file = typed.data.rsplit_once(':').map(|(file, _)| file);
    let data = [Some(typed.data.as_str()), file].into_iter().flatten().map(Path::new);
    let read = [Some(typed.model.as_path()), typed.config.as_deref()].into_iter().flatten();
    let all = read.chain(of_folder.iter().map(PathBuf::as_path)).chain(data).chain(others.iter().copied());
    Ok(store::ensure_apart(&typed.output, all)?)
}

/// What the flags say about reading data.
pub fn reading(typed: &Read) -> Reading {
    Reading { layout: typed.layout, full_scale: typed.full_scale, background: typed.background }
}

/// `pullback bench`.
pub fn bench(typed: &Bench) -> Result<BenchRequest> {
    let idle = [
        ("--split", typed.compute.split.is_some(), "no such flag: the test part is timed"),
        ("--set", typed.config.is_none() && !typed.compute.set.is_empty(), "--config beside it"),
    ];
    if let Some((flag, _, expected)) = idle.into_iter().find(|(_, given, _)| *given) {
        return Err(Error::request(flag, expected, "none that it could change"));
    }
    let tree = |path: &PathBuf| -> Result<RunConfig> {
        let mut tree = Tree::read(path)?;
        for assignment in &typed.compute.set {
            tree.set(assignment)?;
        }
        RunConfig::parse(&tree)
    };
    let config = typed.config.as_ref().map(tree).transpose()?;
    let (device, batch, seed) = config.as_ref().map(|c| (c.device, c.batch, c.seed)).unwrap_or_default();
    let metrics = match &typed.metric[..] {
        [] => vec![MetricKind::Mean, MetricKind::Stochastic, MetricKind::Output],
        chosen => chosen.to_vec(),
    };
    Ok(BenchRequest {
        model: typed.model.clone(),
        config,
        data: typed.data.clone(),
        metrics,
        works: typed.work.clone(),
        steps: typed.steps,
        images: typed.compute.limit.unwrap_or(256),
        repeat: typed.repeat,
        device: typed.compute.device.unwrap_or(device),
        batch: typed.compute.batch.unwrap_or(batch),
        seed: typed.compute.seed.unwrap_or(seed),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::args::{Args, Command};
    use super::*;
    use crate::device::DeviceChoice;
    use clap::Parser;

    fn bench_of(line: &str) -> BenchRequest {
        let command = Args::try_parse_from(line.split_whitespace()).unwrap().command;
        let Command::Bench(typed) = command else { unreachable!("{line}") };
        bench(&typed).unwrap()
    }

    fn attacks_of(line: &str) -> Result<AttackRequest> {
        let words = format!("pullback attack -m m -d strokes -o a.h5 {line}");
        let command = Args::try_parse_from(words.split_whitespace()).unwrap().command;
        let Command::Attack(typed) = command else { unreachable!("{line}") };
        attack(&typed)
    }

    #[test]
    fn layers_are_for_the_goals_that_read_them() {
        let request = attacks_of("--attack pgd --goal grill --layers encoder.0").unwrap();
        assert_eq!(request.attacks[0].goal(), Goal::Grill);
        assert_eq!(attacks_of("--attack pgd --layers encoder.0").unwrap().attacks[0].goal(), Goal::Layers);
        for (line, text) in [
            ("--goal grill", "attack.layers (--layers): expected names of layers, for the goal grill, found none"),
            ("--attack pgd --goal w2 --layers a", "expected an attack with the goal layers or grill, found w2"),
            ("--attack pgd --goal grill --layers a --target zero", "the goal grill has no value for a code alone"),
        ] {
            let error = attacks_of(line).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn flags_stand_for_what_a_file_says_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.yaml");
        let of = |yaml: &str, flags: &str| {
            std::fs::write(&path, yaml).unwrap();
            attacks_of(&format!("-c {} {flags}", path.display()))
        };
        let part = |yaml: &str, flags: &str| of(yaml, flags).map(|r| (r.subject.limit, r.subject.sample)).unwrap();
        assert_eq!(part("attack: {limit: 5}", "--sample 7"), (None, Some(7)));
        assert_eq!(part("attack: {sample: 5}", "--limit 7"), (Some(7), None));
        assert_eq!(part("attack: {sample: 5}", ""), (None, Some(5)));
        // A goal may be in the file and what it reads among the flags.
        let goal = |goal: &str| format!("attack: {{attacks: [{{kind: pgd, goal: {goal}}}]}}");
        assert_eq!(of(&goal("grill"), "--layers a").unwrap().attacks[0].goal(), Goal::Grill);
        assert_eq!(of(&goal("judge"), "--judge j.pt").unwrap().attacks[0].goal(), Goal::Judge);
        for (yaml, text) in [
            (&*goal("judge"), "attack.judge (--judge): expected"),
            ("attack: {limit: 5, sample: 7}", "c.yaml: attack.sample: expected"),
            ("attack: {eps: [-1]}", "c.yaml: attack.eps: expected"),
        ] {
            let error = of(yaml, "").unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn settings_of_attacks_are_flags() {
        let chosen = "--attack random,square,pgd,race,spectral-iterated";
        let flags = "--draws 3 --queries 20 --step 0.5 --starts random,others --restarts 2";
        let yaml = "[{kind: random, draws: 3}, {kind: square, queries: 20, restarts: 2}, {kind: pgd, step: 0.5, restarts: 2}, \
                    {kind: race, starts: [random, others]}, {kind: spectral-iterated, restarts: 2}]";
        let expected: Vec<AttackSpec> = serde_yaml::from_str(yaml).unwrap();
        assert_eq!(attacks_of(&format!("{chosen} {flags}")).unwrap().attacks, expected);
        for (flag, owner) in
            [("--draws 3", "random"), ("--queries 20", "square"), ("--step 0.5", "pgd"), ("--starts random", "race")]
        {
            let error = attacks_of(&format!("--attack suite {flag}")).unwrap_err();
            assert!(
                error.exit_code() == 2 && error.to_string().contains(&format!("the attack {owner} among")),
                "{error}"
            );
        }
    }

    #[test]
    fn a_benchmark_is_as_its_configuration_says_but_for_flags() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.yaml");
        std::fs::write(&path, "{device: cpu, batch: 7, seed: 5}").unwrap();
        let line = format!("pullback bench -c {}", path.display());
        let of = |line: &str| {
            let BenchRequest { device, batch, seed, .. } = bench_of(line);
            (device, batch, seed)
        };
        assert_eq!(of(&line), (DeviceChoice::Cpu, BatchSize::Fixed(7), 5));
        assert_eq!(of(&format!("{line} --set batch=9 --seed 6")), (DeviceChoice::Cpu, BatchSize::Fixed(9), 6));
        assert_eq!(of("pullback bench"), (DeviceChoice::Auto, BatchSize::Auto, 0));
    }
}
