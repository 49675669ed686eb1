//! Checkpoints and data with damaged bytes: refused or read right; never other numbers in silence, a crash or a hang. (Result files and
//! partial files: crates/results/tests/store/damage.rs.)
//!
//! PULLBACK_MUTANTS says how many of each kind: `PULLBACK_MUTANTS=1000 cargo test --test tests -- --nocapture damage::`

use crate::child;
use crate::dice::Dice;
use crate::python::python;
use pullback::Result;
use pullback::config::{RunConfig, Tree};
use pullback::data::{self, Split};
use pullback::event::{Event, Observer, Silent};
use pullback::model::{self, Vae};
use pullback::pipeline::train::{TrainRequest, run};
use pullback::store::Overwrite;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tch::{Device, Kind, Tensor};

/// A file that is damaged, and what is read of it, as text.
struct Case {
    file: PathBuf,
    reading: Box<dyn Fn() -> Result<String>>,
}

/// The bits of tensors.
fn bits(tensors: &[Tensor]) -> String {
    let of = |tensor: &Tensor| {
        let values = Vec::<f64>::try_from(tensor.to_kind(Kind::Double).flatten(0, -1)).unwrap();
        format!("{:?} {:?}", tensor.size(), values.iter().map(|v| v.to_bits()).collect::<Vec<_>>())
    };
    tensors.iter().map(of).collect()
}

/// What a model makes of two images.
fn answer(path: &Path, size: [i64; 3]) -> Result<String> {
    let vae = model::open(path, Device::Cpu, Kind::Float)?;
    let x = Tensor::linspace(0.0, 1.0, 2 * size.iter().product::<i64>(), (Kind::Float, Device::Cpu));
    let q = vae.encode(&x.reshape([2, size[0], size[1], size[2]]))?;
    let decoded = vae.decode(&q.mean)?;
    Ok(bits(&[q.mean, q.log_var, decoded]))
}

const CONFIG: &str = "
device: cpu
data: {source: 'strokes:size=8', limit: 16, valid: 0}
model: {kind: mlp, hidden: [6], latent: 2}
train: {epochs: 3, batch: 8}
";

fn request(output: &Path) -> TrainRequest {
    let config = RunConfig::parse(&Tree::text("run.yaml", CONFIG).unwrap()).unwrap();
    TrainRequest { config, output: output.to_owned(), overwrite: Overwrite::No }
}

/// Asks to stop after so many batches.
struct Impatient(AtomicU64);

impl Observer for Impatient {
    fn on(&self, event: Event<'_>) {
        if let Event::Advance(n) = event {
            let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(n)));
        }
    }
    fn interrupted(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

fn case(at: &Path, what: &str) -> Case {
    let folder = at.join("run");
    match what {
        "weights" => {
            run(&request(&folder), &Silent).unwrap();
            let reading = move || answer(&folder, [1, 8, 8]);
            Case { file: at.join("run/model.safetensors"), reading: Box::new(reading) }
        }
        // Going on from the state after the first epoch.
        "state" => {
            run(&request(&folder), &Impatient(AtomicU64::new(3))).unwrap_err();
            let state = folder.join("train.safetensors");
            let again = at.join("again");
            let reading = move || {
                let _ = std::fs::remove_dir_all(&again);
                std::fs::create_dir(&again).unwrap();
                for name in ["config.yaml", "train.safetensors"] {
                    std::fs::copy(folder.join(name), again.join(name)).unwrap();
                }
                run(&request(&again), &Silent)?;
                Ok(format!("{:?}", std::fs::read(again.join("model.safetensors")).unwrap()))
            };
            Case { file: state, reading: Box::new(reading) }
        }
        "script" => {
            let file = at.join("vae.pt");
            std::fs::copy(crate::files::root().join("tests/models/flat.pt"), &file).unwrap();
            let path = file.clone();
            Case { file, reading: Box::new(move || answer(&path, [1, 2, 3])) }
        }
        // HDF5 has checksums of structure in its latest format, and of values by Fletcher32.
        _ => {
            let file = at.join("data.h5");
            let script = "import sys, h5py, numpy as np
with h5py.File(sys.argv[1], 'w', libver='latest') as f:
    x = np.random.default_rng(1).random((24, 5, 5)).astype('f4')
    f.create_dataset('images', data=x, chunks=(8, 5, 5), fletcher32=True, compression='gzip')";
            python(script, &[&file]).unwrap();
            let path = file.display().to_string();
            let reading = move || {
                let source = data::open(&path, Split::Test, None)?;
                let index: Vec<u64> = (0..source.len() as u64).collect();
                Ok(bits(&[source.read(&index)?.images]))
            };
            Case { file, reading: Box::new(reading) }
        }
    }
}

/// Not a test of its own: mutants of one kind of file, in a process that may be killed.
#[test]
#[ignore = "run by the tests beside it"]
fn child_reads_mutants() {
    let Ok(job) = std::env::var("PULLBACK_TEST_MUTANTS") else { return };
    let mut words = job.split(' ');
    let (what, count) = (words.next().unwrap(), words.next().unwrap().parse::<u64>().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let Case { file, reading } = case(folder.path(), what);
    let (good, expected) = (std::fs::read(&file).unwrap(), reading().unwrap());
    let (mut refused, mut right) = (0, 0);
    for seed in 0..count {
        let bytes = Dice(seed * 7919 + 17).mutant(&good);
        println!("mutant {seed}");
        std::fs::write(&file, &bytes).unwrap();
        match reading() {
            Ok(found) if found == expected => right += 1,
            Ok(_) => panic!("mutant {seed} of {what} was read with other numbers"),
            Err(error) => {
                let said = error.to_string();
                assert!(error.exit_code() == 2 && said.lines().count() == 1, "mutant {seed}: {said}");
                refused += 1;
            }
        }
    }
    println!("\nall read: {refused} refused, {right} right");
}

#[test]
fn no_damaged_checkpoint_is_read_with_other_numbers() {
    let count = std::env::var("PULLBACK_MUTANTS").unwrap_or_else(|_| "60".to_owned());
    for what in ["weights", "state", "script", "data"] {
        let mut command = child::test("damage::child_reads_mutants");
        command.env("PULLBACK_TEST_MUTANTS", format!("{what} {count}")).env("OMP_NUM_THREADS", "1");
        let done = child::within(Duration::from_secs(580), &mut command).unwrap_or_else(|| panic!("{what}: hangs"));
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        let tail: Vec<&str> = said.lines().rev().take(6).collect();
        assert!(
            done.status.success() && said.contains("all read"),
            "{what}: {tail:?}\n{}",
            String::from_utf8_lossy(&done.stderr)
        );
        println!("{what}: {}", said.lines().find(|l| l.contains("all read")).unwrap());
    }
}
