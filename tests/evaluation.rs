//! An evaluation from the command line to the leaderboard: the suite, its passes and flags, targets and pictures.

use crate::child::within;
use hdf5::File;
use pullback::cli::{Requested, requested};
use pullback::event::{Event, Observer};
use pullback::pipeline;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn pullback(at: &Path, line: &str) -> (Option<i32>, String) {
    let mut command = crate::files::program();
    command.args(line.split_whitespace()).current_dir(at).env("OMP_NUM_THREADS", "1");
    let out = within(Duration::from_secs(240), &mut command).unwrap_or_else(|| panic!("{line}: still running"));
    (out.status.code(), String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr))
}

fn succeeds(at: &Path, line: &str) -> String {
    let (code, said) = pullback(at, line);
    assert_eq!(code, Some(0), "{line}: {said}");
    said
}

fn doubles(at: &Path, file: &str, path: &str) -> Vec<f64> {
    File::open(at.join(file)).unwrap().dataset(path).unwrap().read_raw::<f64>().unwrap()
}

/// A folder with a trained model of digits.
fn trained() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let config = "data: {source: strokes, limit: 96, valid: 8}\nmodel: {kind: mlp, hidden: [16], latent: 3}\n\
                  train: {epochs: 3, batch: 16}\n";
    std::fs::write(folder.path().join("c.yaml"), config).unwrap();
    succeeds(folder.path(), "train -c c.yaml -o m -q");
    folder
}

#[test]
fn the_suite_is_stored_ranked_and_shown() {
    let folder = trained();
    let at = folder.path();
    succeeds(at, "attack -m m -d strokes -o a.h5 --attack suite --eps 1,0.5 --limit 8 -q");
    let (whole, parts) =
        (doubles(at, "a.h5", "damage/suite"), ["spectral", "random", "square", "race", "short", "transfer"]);
    let parts = parts.map(|part| doubles(at, "a.h5", &format!("damage/suite-{part}")));
    for (i, worst) in whole.iter().enumerate() {
        let most = parts.iter().map(|p| p[i]).fold(f64::NAN, f64::max);
        assert_eq!(*worst, most, "sample {i}");
    }
    // In the order in which they were asked for: the first half is epsilon 1.
    assert!(whole[..8].iter().zip(&whole[8..]).all(|(large, small)| large >= small));
    let (forward, backward) =
        (doubles(at, "a.h5", "passes/suite/forward"), doubles(at, "a.h5", "passes/suite/backward"));
    assert!(forward.iter().chain(&backward).all(|p| *p <= 1000.0 && *p > 700.0), "{forward:?} {backward:?}");

    // The same seed, the same result; shards are parts of it.
    succeeds(at, "attack -m m -d strokes -o b.h5 --attack suite --eps 1,0.5 --limit 8 -q --shard 2/2");
    let half = doubles(at, "b.h5", "damage/suite");
    for (a, b) in half.iter().zip(whole[4..8].iter().chain(&whole[12..])) {
        assert!((a - b).abs() <= 1e-5 * b.abs(), "{a} {b}");
    }
    for chosen in ["others", "pool"] {
        let of = |file: &str| File::open(at.join(file)).unwrap().dataset(chosen).unwrap().read_raw::<i64>().unwrap();
        assert_eq!(of("a.h5"), of("b.h5"));
    }

    // A table that grows by its own JSON, and says the same of the same model once.
    succeeds(at, "leaderboard a.h5 -o board.json");
    succeeds(
        at,
        "attack -m m -d strokes -o c.h5 --attack suite --eps 1,0.5 --limit 8 -q --norm linf --set attack.eps=[0.1]",
    );
    succeeds(at, "leaderboard board.json a.h5 c.h5 -o board.md");
    let table = std::fs::read_to_string(at.join("board.md")).unwrap();
    assert_eq!(table.matches("## suite-4, ").count(), 2, "{table}");
    assert_eq!(table.matches("\n| 1 |").count(), 2, "{table}");
    // What was attacked in another way is not ranked beside it, and a part is no result.
    let entries = std::fs::read_to_string(at.join("board.json")).unwrap();
    let goal = "\"goal\": \"latent\",";
    assert!(entries.contains(goal) && !entries.contains("setting"), "{entries}");
    let aimed = entries.replace(goal, &format!("{goal} \"setting\": \"target zero\","));
    std::fs::write(at.join("aimed.json"), aimed).unwrap();
    succeeds(at, "leaderboard board.json aimed.json -o aimed.md");
    let table = std::fs::read_to_string(at.join("aimed.md")).unwrap();
    assert_eq!(table.matches("\n| 1 |").count(), 2, "{table}");
    assert!(table.contains("goal latent; target zero: "), "{table}");
    let (code, said) = pullback(at, "leaderboard b.h5 -o part.md");
    assert!(code == Some(2) && said.contains("a part, which `pullback merge` joins"), "{said}");
    succeeds(at, "leaderboard a.h5 -o board.html");
    assert!(std::fs::read_to_string(at.join("board.html")).unwrap().contains("<td>1</td>"));
    let (code, said) = pullback(at, "leaderboard a.h5 -o board.html");
    assert_eq!((code, said.lines().count()), (Some(2), 1), "{said}");

    succeeds(at, "report a.h5 -o r.html");
    let page = std::fs::read_to_string(at.join("r.html")).unwrap();
    assert!(page.contains("Can this evaluation be trusted?") && page.contains("optimality"));
}

/// However few samples share the passes of the pool, and with as many as it has images at most.
#[test]
fn a_suite_takes_at_most_a_thousand_passes_a_sample() {
    let folder = trained();
    let at = folder.path();
    for (samples, norm) in [(1, "l2"), (2, "l2"), (2, "linf"), (3, "l1"), (5, "l2"), (64, "l2")] {
        succeeds(
            at,
            &format!(
                "attack -m m -d strokes -o n.h5 --attack suite --norm {norm} --eps 0.2,0.1 --limit {samples} -q --force"
            ),
        );
        for way in ["forward", "backward"] {
            let passes = doubles(at, "n.h5", &format!("passes/suite/{way}"));
            assert!(passes.iter().all(|p| *p <= 1000.0 && *p > 600.0), "{samples} samples, {norm}, {way}: {passes:?}");
        }
        assert_eq!(File::open(at.join("n.h5")).unwrap().link_exists("pool"), samples > 1);
    }
}

#[test]
fn pictures_are_what_was_judged() {
    let folder = trained();
    let at = folder.path();
    succeeds(
        at,
        "attack -m m -d strokes -o a.h5 --attack random,race --budget 20 --norm linf --eps 0.1 --limit 3 -q --save-png png --save-images",
    );
    let images = File::open(at.join("a.h5")).unwrap().dataset("attack/race/images").unwrap().read_raw::<f32>().unwrap();
    for (i, stored) in images.chunks(28 * 28).enumerate() {
        let file = at.join(format!("png/race/eps-0.1/{i:06}.png"));
        let picture = image::open(&file).unwrap().to_luma8();
        assert!(picture.iter().zip(stored).all(|(byte, stored)| f32::from(*byte) / 255.0 == *stored), "{file:?}");
    }
    let (code, said) =
        pullback(at, "attack -m m -d strokes -o b.h5 --attack random --limit 3 -q --save-png free --box off");
    assert_eq!((code, said.lines().count()), (Some(2), 1), "{said}");
    assert!(said.contains("--box on") && !at.join("free").exists(), "{said}");
    let (code, said) = pullback(at, "attack -m m -d strokes -o b.h5 --attack random --limit 3 -q --save-png png");
    assert_eq!((code, said.lines().count()), (Some(2), 1), "{said}");
    assert!(!at.join("b.h5").exists() && !at.join("b.h5.partial").exists());
}

/// Stops once samples were stored.
#[derive(Default)]
struct Impatient(AtomicBool);

impl Observer for Impatient {
    fn on(&self, event: Event<'_>) {
        if let Event::Advance(_) = event {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    fn interrupted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Pictures of samples that are finished are not written again, so they must be where the others come.
#[test]
fn pictures_of_a_run_that_goes_on_are_in_one_folder() {
    let folder = trained();
    let at = folder.path();
    let line = "attack -m m -d strokes -o a.h5 --attack random --eps 1 --limit 12 --batch 2 --device cpu";
    let stop = |pictures: &str| {
        let _ = fs::remove_file(at.join("a.h5"));
        let words = format!("pullback {line} --save-png {}", at.join(pictures).display());
        let Requested::Attack(mut request) = requested(words.split(' ').map(OsString::from)).unwrap() else { panic!() };
        (request.subject.model, request.subject.output) = (at.join("m"), at.join("a.h5"));
        pipeline::attack(&request, &Impatient::default()).unwrap_err();
    };
    let count = |pictures: &str| fs::read_dir(at.join(pictures).join("random/eps-1")).map_or(0, Iterator::count);
    let refused = |pictures: &str| {
        let (code, said) = pullback(at, &format!("{line} -q --save-png {pictures}"));
        assert_eq!((code, said.lines().count()), (Some(2), 1), "{said}");
        assert!(said.contains("a.h5.partial (--force") && said.contains("no random/eps-1/000000.png"), "{said}");
    };
    stop("png");
    assert!((2..12).contains(&count("png")));
    refused("other");
    assert!(!at.join("other").exists());
    succeeds(at, &format!("{line} -q --save-png png"));
    assert_eq!(count("png"), 12);
    // One that was not written to its end is none.
    stop("cut");
    fs::write(at.join("cut/random/eps-1/000000.png"), "").unwrap();
    refused("cut");
    succeeds(at, &format!("{line} -q --save-png cut --force"));
    assert_eq!(count("cut"), 12);
    // A file that no run has begun does not let the pictures of others in.
    fs::remove_file(at.join("a.h5")).unwrap();
    fs::write(at.join("a.h5.partial"), "").unwrap();
    let (code, said) = pullback(at, &format!("{line} -q --save-png png"));
    assert!(code == Some(2) && said.contains("a folder that is empty"), "{said}");
}

#[test]
fn targets_are_named_in_four_ways() {
    let folder = trained();
    let at = folder.path();
    for target in ["zero", "shuffle", "5", "strokes"] {
        succeeds(
            at,
            &format!(
                "attack -m m -d strokes -o t-{target}.h5 --budget 40 --attack race --eps 2 --limit 6 -q --target {target}"
            ),
        );
        let file = format!("t-{target}.h5");
        let (before, after) =
            (doubles(at, &file, "clean/target_latent_l2"), doubles(at, &file, "attack/race/target_latent_l2"));
        let closer = before.iter().zip(&after).filter(|(b, a)| a < b).count();
        // The target of sample 5, and of the first image of the same data, may be itself.
        assert!(closer >= 5, "{target}: from {before:?} to {after:?}");
        assert!(succeeds(at, &format!("inspect {file}")).contains("/clean/target_latent_l2"));
        succeeds(at, &format!("report {file} -o t-{target}.html -q"));
    }
    for part in 1..=2 {
        let line = "attack -m m -d strokes --attack random --eps 2 --limit 6 -q --target shuffle";
        succeeds(at, &format!("{line} --shard {part}/2 -o part{part}.h5"));
    }
    succeeds(at, "merge part1.h5 part2.h5 -o whole.h5 -q");
    assert!(succeeds(at, "inspect whole.h5").contains("/target"));
    // Who is led where, so that one can look.
    let file = File::open(at.join("t-shuffle.h5")).unwrap();
    let target = file.dataset("target").unwrap().read_raw::<i64>().unwrap();
    assert!(
        target.len() == 6 && target.iter().enumerate().all(|(i, t)| (0..6).contains(t) && *t != i as i64),
        "{target:?}"
    );
    succeeds(at, "attack -m m -d strokes -o to.h5 --attack random --eps 2 --limit 6 -q --target shuffle --batch 2");
    let again = File::open(at.join("to.h5")).unwrap().dataset("target").unwrap().read_raw::<i64>().unwrap();
    assert_eq!(again, target);
    succeeds(
        at,
        &format!("attack -m m -d strokes -o one.h5 --attack random --eps 2 --limit 6 -q --target {}", target[0]),
    );
    assert!(File::open(at.join("one.h5")).unwrap().dataset("target").is_err(), "one for all is in the config");
    let distance = |file: &str| doubles(at, file, "clean/target_latent_l2")[0];
    assert_eq!(distance("one.h5"), distance("t-shuffle.h5"));
    // Parts towards two images under one name are no run.
    std::fs::create_dir(at.join("to")).unwrap();
    let to = |grey: u8| image::GrayImage::from_pixel(28, 28, image::Luma([grey])).save(at.join("to/a.png")).unwrap();
    let part = |n: usize| {
        let line = "attack -m m -d strokes --attack random --eps 2 --limit 6 -q --target to";
        succeeds(at, &format!("{line} --shard {n}/2 -o p{n}.h5"));
    };
    to(100);
    part(1);
    to(200);
    part(2);
    let (code, said) = pullback(at, "merge p1.h5 p2.h5 -o p.h5 -q");
    assert!(code == Some(2) && said.contains("target_sha256") && !at.join("p.h5").exists(), "{said}");
    for (wrong, text) in [
        ("--target zero --attack minimal --reach 1", "--target: expected attacks other than minimal, found minimal"),
        ("--target 6 --limit 6", "target: expected a position from 0 to 5, found 6"),
        ("--target nowhere --limit 6", "nowhere"),
        (
            "--target zero --goal sigma --limit 6",
            "--target: expected a goal that is a distance, such as latent, found goal sigma",
        ),
    ] {
        let (code, said) = pullback(at, &format!("attack -m m -d strokes -o w.h5 -q {wrong}"));
        assert_eq!((code, said.lines().count()), (Some(2), 1), "{said}");
        assert!(said.contains(text), "{said}");
    }
}

/// Values of `shape` as NumPy stores them.
fn npy(shape: &[usize], values: &[f32]) -> Vec<u8> {
    let axes = shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({axes}), }}");
    let header = format!("{header:<117}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.into_bytes());
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

/// One code for all samples, or one for each by its position, from any file of arrays.
#[test]
fn codes_of_a_file_are_targets() {
    let folder = trained();
    let at = folder.path();
    let write = |name: &str, shape: &[usize], values: &[f32]| {
        std::fs::write(at.join(name), npy(shape, values)).unwrap();
    };
    // Samples 0, 2 and 4 are led to 0, the others to 5.
    let each: Vec<f32> = (0..18).map(|place| if place / 3 % 2 == 0 { 0.0 } else { 5.0 }).collect();
    write("zero.npy", &[1, 3], &[0.0; 3]);
    write("each.npy", &[6, 3], &each);
    let file = File::create(at.join("codes.h5")).unwrap();
    file.new_dataset::<f32>().shape([6, 3]).create("z").unwrap().write_raw(&each).unwrap();
    drop(file);
    let line = "attack -m m -d strokes --attack race --budget 40 --eps 2 --limit 6 -q";
    let attack = |name: &str, rest: &str| succeeds(at, &format!("{line} -o {name} {rest}"));
    attack("a.h5", "--target zero");
    attack("b.h5", "--target code:zero.npy");
    assert_eq!(doubles(at, "a.h5", "damage/race"), doubles(at, "b.h5", "damage/race"));
    attack("c.h5", "--target code:each.npy");
    attack("d.h5", "--target code:codes.h5:z --shard 2/2");
    let (zero, own) = (doubles(at, "a.h5", "clean/target_latent_l2"), doubles(at, "c.h5", "clean/target_latent_l2"));
    assert!(
        zero.iter().zip(&own).enumerate().all(|(i, (zero, own))| (zero == own) == (i % 2 == 0)),
        "{zero:?} {own:?}"
    );
    let after = doubles(at, "c.h5", "attack/race/target_latent_l2");
    let closer = own.iter().zip(&after).filter(|(before, after)| after < before).count();
    // A code that is 0 already has nowhere to go.
    assert!(closer >= 5, "{own:?} {after:?}");
    // A part has its own samples' codes.
    for (a, b) in doubles(at, "d.h5", "clean/target_latent_l2").iter().zip(&own[3..]) {
        assert!((a - b).abs() <= 1e-5 * b, "{a} {b}");
    }
    let hash = |name: &str| {
        let found = File::open(at.join(name)).unwrap().attr("target_sha256").unwrap();
        found.read_scalar::<hdf5::types::VarLenUnicode>().unwrap().to_string()
    };
    assert!(hash("c.h5") == hash("d.h5") && hash("b.h5") != hash("c.h5"));
    write("long.npy", &[1, 4], &[0.0; 4]);
    write("few.npy", &[5, 3], &[0.0; 15]);
    write("nan.npy", &[1, 3], &[0.0, f32::NAN, 0.0]);
    for (wrong, text) in [
        ("code:long.npy", "target code:long.npy: expected [1, 3], or [6, 3] with a code for each sample, found [1, 4]"),
        ("code:few.npy", "target code:few.npy: expected [1, 3], or [6, 3] with a code for each sample, found [5, 3]"),
        ("code:nan.npy", "target code:nan.npy: expected finite numbers, found NaN"),
        ("code:", "code:FILE"),
        ("code:zero.npy --layers encoder.0", "an image, because the goal layers has no value for a code alone"),
    ] {
        let (code, said) = pullback(at, &format!("{line} -o w.h5 --target {wrong}"));
        assert_eq!((code, said.lines().count()), (Some(2), 1), "{said}");
        assert!(said.contains(text) && !at.join("w.h5").exists(), "{said}");
    }
}

/// Spectra at iterates are found as those at the samples: the whole factor, or products with it.
#[test]
fn the_way_to_spectra_reaches_every_iterate() {
    let folder = trained();
    let at = folder.path();
    let line = "attack -m m -d strokes --attack spectral-iterated --metric mean --steps 2 --eps 1 --limit 3 -q";
    succeeds(at, &format!("{line} -o full.h5 --spectrum full"));
    succeeds(at, &format!("{line} -o top.h5 --spectrum top"));
    let backward = |file: &str| doubles(at, file, "passes/spectral-iterated/backward")[0];
    // Three rows of the factor a step; of products, two passes each.
    assert_eq!(backward("full.h5"), 6.0);
    assert!(backward("top.h5") != 6.0, "{}", backward("top.h5"));
    for (a, b) in
        doubles(at, "full.h5", "damage/spectral-iterated").iter().zip(doubles(at, "top.h5", "damage/spectral-iterated"))
    {
        assert!((a - b).abs() < 1e-2 * b, "{a} {b}");
    }
}

/// `--metric` is for every attack that goes along a metric's directions.
#[test]
fn a_metric_reaches_every_attack_along_its_directions() {
    let folder = trained();
    let at = folder.path();
    let line = "attack -m m -d strokes --attack spectral,spectral-iterated --steps 2 --eps 1 --limit 3 -q";
    succeeds(at, &format!("{line} -o a.h5 --metric output"));
    let config = File::open(at.join("a.h5")).unwrap().attr("config").unwrap();
    let config = config.read_scalar::<hdf5::types::VarLenUnicode>().unwrap();
    assert_eq!(config.matches("metric: output\n").count(), 2, "{config}");
    assert!(!config.contains("metric: stochastic"), "{config}");
}

/// Each flag that a model trips, and a sound one that does not.
#[test]
fn a_doubtful_evaluation_is_flagged() {
    let folder = trained();
    let at = folder.path();
    let flags = |file: &str| -> Vec<String> {
        let file = File::open(at.join(file)).unwrap();
        let names = file.group("flags").unwrap().member_names().unwrap();
        let raised = |name: &String| {
            let rows = file.dataset(&format!("flags/{name}")).unwrap().read_raw::<u8>().unwrap();
            rows.iter().any(|row| *row != 0)
        };
        names.into_iter().filter(raised).collect()
    };
    // Whatever is asked of a collapsed posterior, nothing moves: the gradient vanishes.
    std::fs::write(
        at.join("fresh.yaml"),
        "data: {source: strokes, limit: 16, valid: 8}\nmodel: {kind: mlp, hidden: [16], latent: 3}\ntrain: {epochs: 1, batch: 16, lr: 1.0e-9}\n",
    )
    .unwrap();
    succeeds(at, "train -c fresh.yaml -o fresh -q");
    let said = succeeds(at, "attack -m fresh -d strokes -o fresh.h5 --attack race --budget 20 --eps 1 --limit 8 -q");
    let line = "model: on 8 of 8 clean images the reconstruction is no better than a grey image";
    assert!(said.contains(line), "{said}");
    assert!(flags("fresh.h5").contains(&"model.untrained".to_owned()), "{:?}", flags("fresh.h5"));
    // The box leaves little of an epsilon that is as large as the image.
    let said = succeeds(at, "attack -m m -d strokes -o wide.h5 --attack race --budget 20 --eps 100 --limit 8 -q");
    assert!(flags("wide.h5").contains(&"race.boxed".to_owned()), "{:?}", flags("wide.h5"));
    assert!(said.contains("attack race: on 8 of 8 attacked images the box leaves less than half of epsilon"), "{said}");
    // Of a small one it leaves all.
    let said = succeeds(at, "attack -m m -d strokes -o room.h5 --attack race --budget 20 --eps 0.01 --limit 8 -q");
    let boxed = File::open(at.join("room.h5")).unwrap().dataset("flags/race.boxed").unwrap().read_raw::<u8>().unwrap();
    assert!(boxed == [0; 8] && !said.contains("the box leaves"), "{boxed:?} {said}");
    // A step that is far too long for units that saturate.
    let config =
        std::fs::read_to_string(at.join("c.yaml")).unwrap().replace("kind: mlp", "kind: mlp, activation: tanh");
    std::fs::write(at.join("tanh.yaml"), config).unwrap();
    succeeds(at, "train -c tanh.yaml -o tanh -q");
    let said = succeeds(
        at,
        "attack -m tanh -d strokes -o far.h5 --attack spectral --metric mean --box off --eps 300 --limit 8 -q",
    );
    assert!(flags("far.h5").contains(&"spectral.bent".to_owned()), "{:?}", flags("far.h5"));
    assert!(said.contains("attacked images the smallest step along v_1 does less than half"), "{said}");
    // A short one says what it should, and a sound search raises nothing.
    succeeds(
        at,
        "attack -m m -d strokes -o near.h5 --attack spectral,race --metric mean --box off --eps 0.01 --limit 8 -q",
    );
    let sound: Vec<String> = flags("near.h5").into_iter().filter(|name| name != "model.untrained").collect();
    assert_eq!(sound, Vec::<String>::new());
}

/// Whoever reads what the program says may go away: the work is done all the same.
#[test]
fn a_reader_of_messages_that_goes_away_is_no_panic() {
    let folder = trained();
    let at = folder.path();
    let line = "attack -m m -d strokes -o a.h5 --attack random,pgd --eps 1 --limit 64 --batch 4";
    let mut command = crate::files::program();
    command.args(line.split_whitespace()).current_dir(at).env("OMP_NUM_THREADS", "1");
    let mut child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(0), "{status:?}");
    assert_eq!(doubles(at, "a.h5", "damage/pgd").len(), 64);
}

#[test]
fn the_smallest_perturbation_is_stored_and_drawn() {
    let folder = trained();
    let at = folder.path();
    let (code, said) = pullback(at, "attack -m m -d strokes -o a.h5 --attack minimal --limit 8 -q");
    assert!(code == Some(2) && said.contains("--reach"), "{said}");
    succeeds(at, "attack -m m -d strokes -o a.h5 --attack minimal,race --eps 3 --limit 8 -q --reach 0.5");
    let (smallest, size) = (doubles(at, "a.h5", "smallest/minimal"), doubles(at, "a.h5", "attack/minimal/input_l2"));
    let damage = doubles(at, "a.h5", "damage/minimal");
    assert!(smallest.iter().any(|s| s.is_finite()), "{smallest:?}");
    for ((smallest, size), damage) in smallest.iter().zip(&size).zip(&damage) {
        assert_eq!(smallest.is_finite(), *damage >= 0.5, "{smallest} {damage}");
        assert!(smallest.is_nan() || (smallest - size).abs() < 1e-5 && *size <= 3.0, "{smallest} {size}");
    }
    succeeds(at, "report a.h5 -o r.html");
    let page = std::fs::read_to_string(at.join("r.html")).unwrap();
    assert!(page.contains("id=\"smallest-l2\"") && page.contains("of the images"), "no figure");
}

/// Images of tests/models/flat.pt, 1x2x3, in `images.h5`.
fn small(count: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let values: Vec<f32> = (0..6 * count).map(|i| 0.1 + 0.8 * ((i * 29 % 97) as f32 / 96.0)).collect();
    let file = File::create(folder.path().join("images.h5")).unwrap();
    file.new_dataset::<f32>().shape([count, 1, 2, 3]).create("images").unwrap().write_raw(&values).unwrap();
    std::fs::copy(crate::files::root().join("tests/models/flat.pt"), folder.path().join("flat.pt")).unwrap();
    folder
}

/// One perturbation, whatever the shard, the batch and the threads; judged where it was not fitted.
#[test]
fn a_universal_perturbation_is_one_for_all() {
    let folder = small(41);
    let at = folder.path();
    let line = "attack -m flat.pt -d images.h5 --attack universal,random --eps 0.4,0.2 --save-images --steps 30 -q";
    succeeds(at, &format!("{line} -o whole.h5"));
    succeeds(at, &format!("{line} -o part1.h5 --shard 1/2 --batch 3 --threads 2"));
    succeeds(at, &format!("{line} -o part2.h5 --shard 2/2"));
    succeeds(at, "merge part1.h5 part2.h5 -o merged.h5");
    let of = |file: &str, path: &str| doubles(at, file, path);
    let perturbation = of("whole.h5", "universal/perturbation");
    let fitted =
        File::open(at.join("whole.h5")).unwrap().dataset("universal/fitted").unwrap().read_raw::<i64>().unwrap();
    assert_eq!((perturbation.len(), fitted.len(), of("whole.h5", "universal/damage").len()), (12, 20, 40));
    assert_eq!(perturbation, of("merged.h5", "universal/perturbation"));
    for (a, b) in of("whole.h5", "damage/universal").iter().zip(of("merged.h5", "damage/universal")) {
        assert!(a.is_nan() && b.is_nan() || (a - b).abs() < 1e-6, "{a} {b}");
    }
    let file = File::open(at.join("whole.h5")).unwrap();
    let clean = file.dataset("clean/images").unwrap().read_raw::<f32>().unwrap();
    let moved = file.dataset("attack/universal/images").unwrap().read_raw::<f32>().unwrap();
    for (place, (moved, clean)) in moved.iter().zip(clean.iter().chain(&clean)).enumerate() {
        let delta = perturbation[place / (41 * 6) * 6 + place % 6] as f32;
        assert!((moved - (clean + delta).clamp(0.0, 1.0)).abs() < 1e-6, "{place}: {moved} of {clean} and {delta}");
    }
    for measure in ["attack/universal/latent_l2", "attack/universal/recon_mse", "damage/universal"] {
        let nan: Vec<i64> = (0..41).filter(|i| of("whole.h5", measure)[*i as usize].is_nan()).collect();
        let mut expected = fitted.clone();
        expected.sort_unstable();
        assert_eq!(nan, expected, "{measure}");
    }
    // Noise is judged on all of them.
    assert!(of("whole.h5", "damage/random").iter().all(|d| d.is_finite()));
    let (code, said) = pullback(at, "attack -m flat.pt -d images.h5 -o b.h5 --attack universal --universal-on 41 -q");
    assert_eq!(
        (code, said.trim_end()),
        (Some(2), "pullback: --universal-on: expected 1 to 40 of 41 samples, found 41")
    );
    let (code, said) = pullback(at, "attack -m flat.pt -d images.h5 -o b.h5 --attack race --universal-on 4 -q");
    assert_eq!(
        (code, said.trim_end()),
        (Some(2), "pullback: --universal-on: expected the attack universal among those chosen, found race")
    );
}

/// What was asked of a model that samples, behind a defence, is told by the file; what has no meaning is refused.
#[test]
fn sampling_and_defences_are_asked_for_and_told() {
    let folder = trained();
    let at = folder.path();
    let line = "attack -m m -d strokes --attack pgd,universal --steps 5 --eps 1 --limit 6 -q --goal recon";
    succeeds(at, &format!("{line} -o bare.h5"));
    succeeds(at, &format!("{line} -o drawn.h5 --eot 2"));
    succeeds(at, &format!("{line} -o behind.h5 --through jpeg:40,resize"));
    let attribute = |file: &str, name: &str| -> Option<String> {
        let file = File::open(at.join(file)).unwrap();
        let found = file.attr(name).ok()?;
        Some(found.read_scalar::<hdf5::types::VarLenUnicode>().unwrap().to_string())
    };
    assert_eq!((attribute("drawn.h5", "eot"), attribute("bare.h5", "eot")), (Some("2".to_owned()), None));
    assert_eq!(attribute("behind.h5", "through"), Some("jpeg:40, resize".to_owned()));
    let damage = |file: &str| doubles(at, file, "damage/pgd");
    assert!(damage("drawn.h5").iter().zip(damage("bare.h5")).all(|(a, b)| a != &b));
    // Half the pixels are gone: other reconstructions of the clean images too.
    let clean = |file: &str| doubles(at, file, "clean/recon_mse");
    assert!(clean("behind.h5").iter().zip(clean("bare.h5")).all(|(a, b)| a != &b));
    for (wrong, text) in [
        (
            "--eot 3",
            "attack.eot (--eot): expected a goal that reads the reconstruction, such as recon, whose code is drawn, found goal latent",
        ),
        ("--through blur", "--through: expected jpeg, jpeg:QUALITY (1 to 100), resize or resize:PIXELS, found blur"),
        (
            "--through resize:28",
            "through resize: expected fewer pixels than the shorter side, 28, and at least one, found 28",
        ),
    ] {
        let (code, said) = pullback(at, &format!("attack -m m -d strokes -o w.h5 -q {wrong}"));
        assert_eq!((code, said.trim_end()), (Some(2), format!("pullback: {text}").as_str()));
    }
}
