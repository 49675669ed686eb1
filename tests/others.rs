//! Models as others have them: the same numbers whatever their range, posterior, outputs and shapes, or refused by name.
//!
//! Every model is tests/models/flat.pt in another form (tests/models/make.py): 1x2x3 images, two latents.

use crate::files::{program, root};
use crate::roundoff::eigenvalues_apart;
use hdf5::File;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::LazyLock;
use tch::Kind;

/// Six images as pixels, as vectors [6, 6], series [6, 2, 3] and volumes [6, 1, 1, 2, 3].
static DATA: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let values: Vec<f32> = (0..36).map(|i| 0.1 + 0.8 * ((i * 7 % 36) as f32 / 35.0)).collect();
    for (name, shape) in [
        ("images", &[6, 1, 2, 3][..]),
        ("vectors", &[6, 6]),
        ("series", &[6, 2, 3]),
        ("volumes", &[6, 1, 1, 2, 3]),
        ("wrong", &[6, 1, 3, 2]),
    ] {
        put(&folder.path().join(name).with_extension("h5"), shape, &values);
    }
    let large: Vec<f32> = values.iter().map(|v| 40.0 * v - 10.0).collect();
    put(&folder.path().join("large.h5"), &[6, 6], &large);
    folder
});

fn put(path: &Path, shape: &[usize], values: &[f32]) {
    let file = File::create(path).unwrap();
    file.new_dataset::<f32>().shape(shape).create("images").unwrap().write_raw(values).unwrap();
}

fn model(name: &str) -> PathBuf {
    root().join("tests/models").join(name)
}

/// Runs a command on a model and data by name, in double, into `out`.
fn run(what: &str, name: &str, data: &str, out: &Path, flags: &str) -> Output {
    let mut command = program();
    command.args([what, "--precision", "f64", "-o"]).arg(out).arg("-m").arg(model(name));
    command.arg("-d").arg(DATA.path().join(data).with_extension("h5")).args(flags.split_whitespace());
    command.env("OMP_NUM_THREADS", "1").output().unwrap()
}

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// Every number of a file but the pictures: path, values.
fn numbers(path: &Path) -> Vec<(String, Vec<f64>)> {
    fn walk(group: &hdf5::Group, found: &mut Vec<(String, Vec<f64>)>) {
        let mut sets = group.datasets().unwrap();
        sets.sort_by_key(|set| set.name());
        for set in sets.iter().filter(|s| s.dtype().unwrap().size() > 1) {
            found.push((set.name(), set.read_raw::<f64>().unwrap()));
        }
        group.groups().unwrap().iter().for_each(|g| walk(g, found));
    }
    let mut found = Vec::new();
    walk(&File::open(path).unwrap(), &mut found);
    found.retain(|(name, _)| !name.contains("checks"));
    found
}

/// Runs both and expects the same numbers; gives what the second said.
fn same(what: &str, name: &str, data: &str, flags: &str, reference: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (folder.path().join("a.h5"), folder.path().join("b.h5"));
    let out = run(what, "flat.pt", "images", &theirs, reference);
    assert!(out.status.success(), "{}", said(&out));
    let out = run(what, name, data, &ours, &format!("{reference} {flags}"));
    assert!(out.status.success(), "{name} {flags}: {}", said(&out));
    let (a, b) = (numbers(&ours), numbers(&theirs));
    assert!(a.len() > 3, "{a:?}");
    for (path, values) in a.iter().filter(|(path, _)| !path.contains("condition") && !path.contains("log_det")) {
        // Measures that say nothing of the one kind of data are left out there.
        let Some((_, expected)) = b.iter().find(|(p, _)| p == path) else { panic!("{path} is new") };
        let scale = expected.iter().filter(|v| v.is_finite()).fold(1.0f64, |m, v| m.max(v.abs()));
        // A fixed number of steps of an ascent, each as exact as a spectrum: a hundred times as far apart at most.
        let allowed = 100.0 * eigenvalues_apart(Kind::Double, &[6, 2, 6, 2, 6, 2], 6, 4) * scale;
        assert_eq!(values.len(), expected.len(), "{name}: {path}");
        for (v, e) in values.iter().zip(expected) {
            assert!((v - e).abs() <= allowed || (v.is_nan() && e.is_nan()), "{name} {path}: {v}, expected {e}");
        }
    }
    said(&out)
}

#[test]
fn ranges_and_posteriors_are_one_model() {
    let forms = [
        ("others/ranged.pt", "--input-range -1,1"),
        ("others/std.pt", "--posterior std"),
        ("others/logstd.pt", "--posterior logstd"),
        ("others/var.pt", "--posterior var"),
        ("others/spatial.pt", ""),
        ("others/four.pt", "--outputs 1,2"),
    ];
    for (name, flags) in forms {
        for metric in ["stochastic", "fisher", "output-stochastic"] {
            let words = same("score", name, "images", flags, &format!("--metric {metric} --top 2"));
            assert!(!words.contains("warning"), "{name}: {words}");
        }
        let attack = "--attack spectral,random,pgd --eps 0.2,0.6 --norm linf";
        same("attack", name, "images", flags, attack);
    }
    let leading = "--metric stochastic --spectrum top --top 2";
    same("score", "others/ranged.pt", "images", "--input-range -1,1", leading);
    same("score", "others/spatial.pt", "images", "", leading);
}

#[test]
fn what_was_said_of_a_model_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.h5");
    assert!(run("score", "others/ranged.pt", "images", &path, "--input-range -1,1 -q").status.success());
    let attribute = File::open(&path).unwrap().attr("config").unwrap();
    let config = attribute.read_scalar::<hdf5::types::VarLenUnicode>().unwrap();
    assert!(config.contains("input_range:\n  - -1.0\n  - 1.0"), "{config}");
    // Another reading of the same model is another run.
    let out = run("score", "others/ranged.pt", "images", &path, "--input-range 0,1");
    assert_eq!(out.status.code(), Some(2), "{}", said(&out));
}

#[test]
fn a_code_without_a_variance() {
    for metric in ["mean", "output"] {
        same("score", "others/lone.pt", "images", "", &format!("--metric {metric} --top 2"));
    }
    let attack = "--attack spectral,random --eps 0.2 --metric mean";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.h5");
    let out = run("attack", "others/lone.pt", "images", &path, attack);
    assert!(out.status.success(), "{}", said(&out));
    let measures: Vec<String> = numbers(&path).into_iter().map(|(name, _)| name).collect();
    assert!(measures.iter().any(|m| m.ends_with("latent_l2")), "{measures:?}");
    assert!(!measures.iter().any(|m| m.ends_with("latent_w2") || m.ends_with("latent_kl")), "{measures:?}");
    for (what, flags) in [
        ("score", "--metric stochastic"),
        ("score", "--metric fisher"),
        ("score", "--metric output-stochastic"),
        ("attack", "--attack pgd --goal kl"),
        ("attack", "--attack spectral --metric stochastic"),
    ] {
        let path = folder.path().join("none.h5");
        let out = run(what, "others/lone.pt", "images", &path, flags);
        let words = said(&out);
        assert_eq!((out.status.code(), words.lines().count()), (Some(2), 1), "{flags}: {words}");
        assert!(words.contains("a code without a variance") && words.contains("expected "), "{words}");
        assert!(!path.exists());
    }
}

#[test]
fn data_that_are_no_pictures() {
    for (name, data) in
        [("others/vector.pt", "vectors"), ("others/series.pt", "series"), ("others/volume.pt", "volumes")]
    {
        let words = same("score", name, data, "", "--metric stochastic --top 2");
        assert!(words.contains("no pictures in [0, 1]"), "{words}");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.h5");
        let flags = "--attack spectral,pgd --eps 0.3 --box off --save-images";
        let out = run("attack", name, data, &path, flags);
        assert!(out.status.success(), "{}", said(&out));
        let file = File::open(&path).unwrap();
        assert!(file.link_exists("attack/pgd/recon_mse") && !file.link_exists("attack/pgd/psnr"));
        assert_eq!(file.dataset("clean/images").unwrap().shape()[1..], shape(data)[1..]);
    }
    // The same of values of any size: without a box, in their own units.
    let folder = tempfile::tempdir().unwrap();
    let (score, attack) = (folder.path().join("s.h5"), folder.path().join("a.h5"));
    let out = run("score", "others/vector.pt", "large", &score, "");
    assert_eq!(out.status.code(), Some(2));
    assert!(said(&out).contains("--full-scale V, the value that means 1, or none"), "{}", said(&out));
    let out = run("attack", "others/vector.pt", "large", &attack, "--full-scale none --attack random --eps 5");
    assert!(out.status.success(), "{}", said(&out));
    let reach = File::open(&attack).unwrap().dataset("attack/random/input_l2").unwrap().read_raw::<f64>().unwrap();
    assert!(reach.iter().all(|r| (r - 5.0).abs() < 1e-12), "cut by a box: {reach:?}");
}

#[test]
fn samples_of_two_axes_are_as_the_model_means_them() {
    let folder = tempfile::tempdir().unwrap();
    let spectra = ["points", "only_points", "flat_points"].map(|name| {
        let path = folder.path().join(name).with_extension("h5");
        let out = run("score", &format!("others/{name}.pt"), "series", &path, "");
        assert!(out.status.success(), "{name}: {}", said(&out));
        assert!(said(&out).contains("no pictures in [0, 1]"), "{name}: {}", said(&out));
        File::open(&path).unwrap().dataset("spectrum/eigenvalues").unwrap().read_2d::<f64>().unwrap()
    });
    assert_eq!(spectra[1].shape(), [6, 4]);
    assert!(spectra.iter().all(|spectrum| spectrum == spectra[1]), "{spectra:?}");
    // One to which the axes make no difference takes pictures.
    let path = folder.path().join("grey.h5");
    let out = run("score", "flat.pt", "series", &path, "");
    assert!(out.status.success() && !said(&out).contains("no pictures"), "{}", said(&out));
}

#[test]
fn recurrent_layers_take_sequences_of_vectors() {
    let folder = tempfile::tempdir().unwrap();
    // It was traced in single precision, and is asked in double.
    let out = run("score", "others/recurrent.pt", "series", &folder.path().join("a.h5"), "");
    assert!(out.status.success(), "{}", said(&out));
    let out = run("score", "others/recurrent.pt", "images", &folder.path().join("b.h5"), "");
    let words = said(&out);
    assert_eq!((out.status.code(), words.lines().count()), (Some(2), 1), "{words}");
    assert!(words.contains("a recurrent layer takes sequences of vectors"), "{words}");
}

#[test]
fn a_file_of_any_name_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let module = tch::CModule::load(model("flat.pt")).unwrap();
    for letters in 20..26 {
        // libtorch names the members after the file, and ends with a record that can look like something in front of them.
        let path = folder.path().join("m".repeat(letters)).with_extension("pt");
        module.save(&path).unwrap();
        let out = program().arg("inspect").arg(&path).output().unwrap();
        assert!(out.status.success(), "{letters} letters: {}", said(&out));
    }
}

fn shape(data: &str) -> Vec<usize> {
    File::open(DATA.path().join(data).with_extension("h5")).unwrap().dataset("images").unwrap().shape()
}

#[test]
fn signs_that_a_model_is_read_wrongly() {
    let folder = tempfile::tempdir().unwrap();
    let hint = |name: &str, what: &str, flags: &str, words: &[&str]| {
        let path = folder.path().join("a.h5");
        let out = run(what, name, "images", &path, &format!("--force {flags}"));
        assert!(out.status.success(), "{}", said(&out));
        for word in words {
            assert!(said(&out).contains(word), "{name}: no {word:?} in {}", said(&out));
        }
        path
    };
    for flags in ["--metric output", "--metric mean"] {
        hint("others/logits.pt", "score", flags, &["--input-range -1,1", "logits", "outside [0, 1]"]);
    }
    hint("others/logits.pt", "attack", "--attack random --eps 1", &["--input-range -1,1", "logits"]);
    hint("others/ranged.pt", "score", "--metric output", &["--input-range -1,1"]);
    hint("others/std.pt", "score", "", &["--posterior std, logstd or var"]);
    let path = hint("others/rounded.pt", "score", "--metric mean", &["6 samples", "masked", "/flags/masked"]);
    let flags = File::open(&path).unwrap().dataset("flags/masked").unwrap().read_raw::<u8>().unwrap();
    assert_eq!(flags, [1; 6]);
    // Nor does a sound model look like one of them.
    let path = hint("flat.pt", "score", "--metric mean", &[]);
    let flags = File::open(&path).unwrap().dataset("flags/masked").unwrap().read_raw::<u8>().unwrap();
    assert_eq!(flags, [0; 6]);
}

#[test]
fn what_cannot_be_read_is_named_with_its_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none.h5");
    for (name, data, flags, words) in [
        ("others/remembers.pt", "images", "", &["traced", "torch.jit.script"][..]),
        ("others/halved.pt", "images", "", &["half precision", "model.float()"]),
        ("others/on_cuda.pt", "images", "--device cpu", &["asks for a GPU", "--device cuda"]),
        ("others/four.pt", "images", "", &["--outputs 0,1", "found 4 tensors"]),
        ("others/four.pt", "images", "--outputs 1,7", &["--outputs", "4 of them"]),
        ("others/vector.pt", "images", "", &["1x2x3"]),
        ("flat.pt", "wrong.h5", "--input-range 1,1", &["--input-range", "LOW,HIGH"]),
        ("flat.pt", "images", "--input-range 0", &["--input-range", "LOW,HIGH"]),
        ("flat.pt", "images", "--posterior sigma", &["--posterior", "logvar"]),
        ("flat.pt", "images", "--outputs 0,0", &["--outputs", "0,1"]),
        ("state_dict.pt", "images", "", &["a state dict", "torch.jit.script"]),
        ("others/pickled.pt", "images", "", &["a pickled module", ".Base, ", "torch.jit.script"]),
        ("others/exported.pt2", "images", "", &["torch.export", "torch.jit.script"]),
        ("others/old.pt", "images", "", &["torch.save's old format", "torch.jit.script"]),
        ("others/extension.pt", "images", "", &["mine::twice", "export the model without it"]),
        ("others/single.pt", "images", "", &["takes one image, but not two", "torch.jit.script"]),
    ] {
        let out = run("score", name, data, &path, flags);
        let text = said(&out);
        assert_eq!((out.status.code(), text.lines().count()), (Some(2), 1), "{name} {flags}: {text}");
        for word in words {
            assert!(text.contains(word), "{name} {flags}: no {word:?} in {text}");
        }
        assert!(!path.exists() && !path.with_extension("h5.partial").exists());
    }
}

#[test]
fn traced_convolutions_are_not_rounded() {
    let module = |name| pullback::ffi::module::Module::load(&model(name), tch::Device::Cpu, Kind::Float).unwrap();
    assert_eq!((module("others/traced.pt").tf32, module("flat.pt").tf32), (1, 0));
    // A part that was traced, and a traced function that scripted code calls in a branch.
    assert_eq!(module("others/traced_deep.pt").tf32, 2);
    let x = tch::Tensor::rand([2, 1, 2, 3], (Kind::Float, tch::Device::Cpu));
    for name in ["others/traced.pt", "others/traced_deep.pt"] {
        assert!(module(name).call("encode", &x).is_ok(), "{name}");
    }
}

#[test]
fn a_draw_is_of_all_and_the_same_in_parts() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let run = |args: &[&str]| {
        let mut command = program();
        let out = command.args(args).current_dir(folder.path()).env("OMP_NUM_THREADS", "1").output().unwrap();
        assert!(out.status.success(), "{args:?}: {}", said(&out));
    };
    // Classes in order, a folder each.
    for class in ["ant", "bee", "cat"] {
        std::fs::create_dir_all(at("data").join(class)).unwrap();
        for n in 0..8u8 {
            let text = format!("P2 3 2 255 {n} 250 40 90 {} 7\n", 10 * n);
            std::fs::write(at("data").join(class).join(format!("{n}.pgm")), text).unwrap();
        }
    }
    let flat = model("flat.pt");
    let score = |out: &str, rest: &[&str]| {
        run(&[&["score", "-q", "-m", flat.to_str().unwrap(), "-d", "data", "-o", out, "--sample", "9"], rest].concat());
    };
    score("whole.h5", &[]);
    score("1.h5", &["--shard", "1/2"]);
    score("2.h5", &["--shard", "2/2"]);
    run(&["merge", "-q", "2.h5", "1.h5", "-o", "both.h5"]);
    let index = |name: &str| File::open(at(name)).unwrap().dataset("index").unwrap().read_raw::<i64>().unwrap();
    let drawn = index("whole.h5");
    assert!(drawn.len() == 9 && drawn.is_sorted() && drawn[8] > 8, "{drawn:?}");
    assert_eq!(index("both.h5"), drawn);
    let values =
        |name: &str| File::open(at(name)).unwrap().dataset("spectrum/eigenvalues").unwrap().read_raw::<f64>().unwrap();
    assert_eq!(values("both.h5"), values("whole.h5"));
    let names = File::open(at("both.h5")).unwrap().attr("classes").unwrap();
    assert_eq!(names.read_scalar::<hdf5::types::VarLenUnicode>().unwrap().as_str(), "ant\nbee\ncat");
    let mut inspect = program();
    let shown = inspect.args(["inspect", "data", "--full-scale", "255"]).current_dir(folder.path()).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("classes       ant, bee, cat") && shown.contains("24 images 1x2x3, labelled"), "{shown}");
    // Another seed draws others.
    score("other.h5", &["--seed", "4"]);
    assert_ne!(index("other.h5"), drawn);
}

#[test]
fn judges_and_layers_from_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.h5");
    let judge = |name: &str| format!("--judge {}", model(&format!("judges/{name}.pt")).display());
    for (flags, goal) in [
        ("--layers e,d".to_owned(), "layers"),
        (judge("value"), "judge"),
        (format!("{} --judge-reads latent", judge("codes")), "judge"),
    ] {
        let out = run("attack", "flat.pt", "images", &path, &format!("--attack pgd,random --eps 0.3 {flags} --force"));
        assert!(out.status.success(), "{flags}: {}", said(&out));
        let file = File::open(&path).unwrap();
        let text =
            |name: &str| file.attr(name).unwrap().read_scalar::<hdf5::types::VarLenUnicode>().unwrap().to_string();
        assert_eq!(text("goal"), goal);
        assert_eq!(file.attr("judge_sha256").is_ok(), goal == "judge");
        let damage = |name: &str| file.dataset(&format!("damage/{name}")).unwrap().read_raw::<f64>().unwrap();
        let (found, noise) = (damage("pgd"), damage("random"));
        assert!(found.iter().zip(&noise).all(|(f, n)| *f > 0.0 && *f >= 0.99 * n), "{flags}: {found:?} {noise:?}");
    }
    // A judge is known by its content, however its path is written.
    let part = |i: usize| folder.path().join(format!("part{i}.h5"));
    let copy = folder.path().join("copy.pt");
    std::fs::copy(model("judges/value.pt"), &copy).unwrap();
    for (i, judge) in [judge("value"), format!("--judge {}", copy.display())].iter().enumerate() {
        let line = format!("--attack pgd --eps 0.3 {judge} --shard {}/2", i + 1);
        let out = run("attack", "flat.pt", "images", &part(i), &line);
        assert!(out.status.success(), "{}", said(&out));
    }
    let mut merge = program();
    let out =
        merge.arg("merge").args([part(0), part(1)]).arg("-o").arg(folder.path().join("whole.h5")).output().unwrap();
    assert!(out.status.success(), "{}", said(&out));
    let fresh = folder.path().join("b.h5");
    for (flags, words) in [
        ("--layers nothing".to_owned(), &["layers", "e or d", "nothing"][..]),
        ("--layers e --goal latent".to_owned(), &["--layers", "goal layers", "latent"]),
        (format!("{} --goal latent", judge("value")), &["--judge", "goal judge", "latent"]),
        ("--goal judge".to_owned(), &["--judge", "TorchScript"]),
        ("--goal layers".to_owned(), &["--layers", "names of layers"]),
        ("--layers e --target zero".to_owned(), &["target", "an image"]),
        ("--layers e,d,e".to_owned(), &["layers", "each once", "e twice"]),
        (judge("silent"), &["judge", "gradient"]),
        (judge("codes"), &["judge", "to take"]),
        (judge("none"), &["none.pt"]),
        (format!("--judge {}", model("flat.pt").display()), &["forward"]),
    ] {
        let out = run("attack", "flat.pt", "images", &fresh, &format!("--attack pgd --eps 0.3 {flags}"));
        let text = said(&out);
        assert_eq!((out.status.code(), text.lines().count()), (Some(2), 1), "{flags}: {text}");
        for word in words {
            assert!(text.contains(word), "{flags}: no {word:?} in {text}");
        }
        assert!(!fresh.exists() && !fresh.with_extension("h5.partial").exists(), "{flags}");
    }
}
