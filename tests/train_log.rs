//! What training tells TensorBoard, read by TensorBoard itself; the images by Pillow.

use crate::python::python;
use crate::roundoff::unit;
use pullback::config::{RunConfig, Tree};
use pullback::data::{self, Split};
use pullback::event::{Event, Observer, Silent};
use pullback::pipeline::train::{TrainRequest, run};
use pullback::store::Overwrite;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};

const EPOCHS: u32 = 24;
const CONFIG: &str = "
device: cpu
data: {source: strokes, limit: 48, valid: 10}
model: {kind: mlp, hidden: [12], latent: 3}
train: {epochs: 24, batch: 16, mixup: {strength: 1}}
";
/// The epochs of [`EPOCHS`] that show images: the first, every second, the last.
const SHOWN: [u32; 13] = [1, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24];

/// All that the log in a run folder tells, as JSON; an error where a curve tells a step twice or out of order.
fn log(run: &Path) -> Result<Value, String> {
    let script = r#"
import io, json, sys
import PIL.Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
a = EventAccumulator(sys.argv[1] + '/tensorboard', size_guidance={'scalars': 0, 'images': 0}, purge_orphaned_data=False)
a.Reload()
scalars = {tag: [(p.step, p.value) for p in a.Scalars(tag)] for tag in a.Tags()['scalars']}
images = {}
for tag in a.Tags()['images']:
    for image in a.Images(tag):
        picture = PIL.Image.open(io.BytesIO(image.encoded_image_string))
        picture.load()
        assert (picture.format, picture.mode, picture.size) == ('PNG', 'L', (image.width, image.height))
        images.setdefault(tag, []).append((image.step, picture.size, list(picture.tobytes())))
for tag, points in list(scalars.items()) + list(images.items()):
    steps = [p[0] for p in points]
    assert steps == sorted(set(steps)), (tag, steps)
print(json.dumps({'scalars': scalars, 'images': images}))
"#;
    python(script, &[run]).map(|text| serde_json::from_str(&text).unwrap())
}

/// Whether TensorBoard can be asked.
fn tensorboard() -> bool {
    let there = python("import tensorboard, PIL", &[]).is_ok();
    if !there {
        println!("skipped: no tensorboard or Pillow in .venv");
    }
    there
}

fn request(output: &Path) -> TrainRequest {
    let config = RunConfig::parse(&Tree::text("run.yaml", CONFIG).unwrap()).unwrap();
    TrainRequest { config, output: output.to_owned(), overwrite: Overwrite::No }
}

fn steps(points: &Value) -> Vec<u64> {
    points.as_array().unwrap().iter().map(|p| p[0].as_u64().unwrap()).collect()
}

/// The log is complete and its numbers are those of `history.csv`.
fn is_history(log: &Value, run: &Path) {
    let text = fs::read_to_string(run.join("history.csv")).unwrap();
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    for (tag, column) in [
        ("train/loss", "loss"),
        ("train/reconstruction", "reconstruction"),
        ("train/kl", "kl"),
        ("train/mixup", "mixup"),
        ("valid/elbo", "valid_elbo"),
        ("valid/reconstruction", "valid_reconstruction"),
        ("valid/kl", "valid_kl"),
        ("schedule/beta", "beta"),
        ("schedule/lr", "lr"),
    ] {
        let at = rows[0].iter().position(|c| *c == column).unwrap();
        let points = log["scalars"][tag].as_array().unwrap();
        assert_eq!(points.len(), rows.len() - 1, "{tag}");
        for (point, row) in points.iter().zip(&rows[1..]) {
            assert_eq!(point[0].to_string(), row[0]);
            let expected: f64 = row[at].parse().unwrap();
            // TensorBoard has scalars in single precision; the table prints nine digits.
            let allowed = (unit(tch::Kind::Float) + 1e-9) * expected.abs();
            assert!((point[1].as_f64().unwrap() - expected).abs() <= allowed, "{tag} {point} {expected}");
        }
    }
}

#[test]
fn tensorboard_reads_curves_and_pictures() {
    if !tensorboard() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    run(&request(folder.path()), &Silent).unwrap();
    let log = log(folder.path()).unwrap();
    is_history(&log, folder.path());
    let (recon, samples) = (&log["images"]["images/reconstructions"], &log["images"]["images/samples"]);
    assert_eq!(steps(recon), SHOWN.map(u64::from));
    assert_eq!(steps(samples), SHOWN.map(u64::from));
    assert_eq!(recon[0][1], serde_json::json!([8 * 29, 2 * 29]));
    assert_eq!(samples[0][1], serde_json::json!([8 * 29, 4 * 29]));
    // The upper row are the first validation images, side by side.
    let source = data::open("strokes", Split::Test, Some(10)).unwrap();
    let images = source.read(&(0..8).collect::<Vec<_>>()).unwrap().images;
    let pixels: Vec<f32> = Vec::try_from(images.flatten(0, -1)).unwrap();
    let shown: Vec<u64> = recon[12][2].as_array().unwrap().iter().map(|p| p.as_u64().unwrap()).collect();
    let mut ink = 0.0;
    for (i, row, column) in (0..8).flat_map(|i| (0..28).flat_map(move |r| (0..28).map(move |c| (i, r, c)))) {
        let expected = 255.0 * pixels[(i * 28 + row) * 28 + column];
        let found = shown[row * 8 * 29 + i * 29 + column] as f32;
        assert!((found - expected).abs() <= 0.501, "image {i}, {row}, {column}: {found}, {expected}");
        ink += found;
    }
    assert!(ink > 1000.0);
    // What is below moves with training; what is above does not.
    let upper = |place: usize| recon[place][2].as_array().unwrap()[..28 * 8 * 29].to_vec();
    assert_eq!(upper(0), upper(12));
    assert_ne!(recon[0][2], recon[12][2]);
    assert_ne!(samples[0][2], samples[12][2]);
}

/// Asks to stop after so many batches.
struct Impatient(AtomicU64, u64);

impl Observer for Impatient {
    fn on(&self, event: Event<'_>) {
        if let Event::Advance(n) = event {
            self.0.fetch_add(n, Ordering::Relaxed);
        }
    }
    fn interrupted(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= self.1
    }
}

#[test]
fn a_lost_log_is_told_again_without_its_pictures() {
    if !tensorboard() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // Three batches an epoch: the fifth is not finished.
    run(&request(folder.path()), &Impatient(AtomicU64::new(0), 13)).unwrap_err();
    fs::remove_dir_all(folder.path().join("tensorboard")).unwrap();
    run(&request(folder.path()), &Silent).unwrap();
    let log = log(folder.path()).unwrap();
    is_history(&log, folder.path());
    assert_eq!(steps(&log["images"]["images/samples"])[..3], [4, 6, 8]);

    // Anew, the log is anew.
    run(&TrainRequest { overwrite: Overwrite::Yes, ..request(folder.path()) }, &Silent).unwrap();
    let log = self::log(folder.path()).unwrap();
    is_history(&log, folder.path());
    assert_eq!(steps(&log["images"]["images/samples"]), SHOWN.map(u64::from));
}

#[test]
fn a_killed_run_goes_on_in_its_log() {
    if !tensorboard() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("a.yaml"), CONFIG).unwrap();
    let start = |output: &str| {
        crate::files::program()
            .args(["train", "-c", "a.yaml", "-o", output, "-q"])
            .current_dir(at)
            .env("OMP_NUM_THREADS", "1")
            .stdin(Stdio::null())
            .spawn()
            .unwrap()
    };
    assert!(start("whole").wait().unwrap().success());
    let epochs = || fs::read_to_string(at.join("parts/history.csv")).map_or(0, |t| t.lines().count() - 1);
    let mut kills = 0;
    while epochs() < EPOCHS as usize {
        let before = epochs();
        let mut child = start("parts");
        while child.try_wait().unwrap().is_none() && (epochs() < before + 3 + kills || kills >= 5) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        if child.try_wait().unwrap().is_none() {
            kills += 1;
            child.kill().unwrap();
        }
        child.wait().unwrap();
        if kills == 1 {
            // As if the kill had come in the middle of a write: a record begins and does not end.
            let [log] =
                &fs::read_dir(at.join("parts/tensorboard")).unwrap().map(|e| e.unwrap().path()).collect::<Vec<_>>()[..]
            else {
                panic!("one event file")
            };
            let mut bytes = fs::read(log).unwrap();
            bytes.extend_from_within(..20);
            fs::write(log, bytes).unwrap();
        }
    }
    assert!(kills > 0, "it ended before it could be killed");
    assert!(start("parts").wait().unwrap().code() == Some(2), "it is finished");
    is_history(&log(&at.join("parts")).unwrap(), &at.join("parts"));
    let untimed = |run: &str| {
        let mut log = log(&at.join(run)).unwrap();
        log["scalars"].as_object_mut().unwrap().remove("seconds").unwrap();
        log
    };
    assert!(untimed("whole") == untimed("parts"), "killed {kills} times");
    // Negative control: records told twice are seen.
    let [file] =
        &fs::read_dir(at.join("parts/tensorboard")).unwrap().map(|e| e.unwrap().path()).collect::<Vec<_>>()[..]
    else {
        panic!("one event file")
    };
    fs::write(file, fs::read(file).unwrap().repeat(2)).unwrap();
    assert!(log(&at.join("parts")).unwrap_err().contains("AssertionError"));
}
