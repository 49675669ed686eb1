//! The program as a user meets it: each wrong request is one line on stderr, exit code 2, and touches nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex};

const COMMANDS: [&str; 10] =
    ["demo", "train", "score", "attack", "sweep", "report", "bench", "merge", "inspect", "leaderboard"];

/// A small run: seconds, not minutes.
const CONFIG: &str = "\
data: {source: strokes, limit: 48, valid: 8}
model: {kind: mlp, hidden: [12], latent: 3}
train: {epochs: 2, batch: 16}
";

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = crate::files::program();
    // One thread each: many of these run side by side.
    command.args(args).current_dir(folder).env("OMP_NUM_THREADS", "1").stdin(Stdio::null());
    command
}

fn pullback(folder: &Path, args: &[&str]) -> Output {
    command(folder, args).output().unwrap()
}

/// Runs a line of arguments separated by blanks; `'...'` keeps blanks.
fn type_in(folder: &Path, line: &str) -> Output {
    let args = words(line);
    pullback(folder, &args.iter().map(String::as_str).collect::<Vec<_>>())
}

fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (i, piece) in line.split('\'').enumerate() {
        if i % 2 == 1 {
            words.push(piece.to_owned());
        } else {
            words.extend(piece.split_whitespace().map(str::to_owned));
        }
    }
    words
}

fn succeeds(folder: &Path, line: &str) -> Output {
    let out = type_in(folder, line);
    assert!(out.status.success(), "{line}: {:?}\n{}", out.status, stderr(&out));
    out
}

fn stderr(out: &Output) -> String {
    String::from_utf8(out.stderr.clone()).unwrap()
}

fn stdout(out: &Output) -> String {
    String::from_utf8(out.stdout.clone()).unwrap()
}

/// A folder with a finished run, results, and things that are not what they should be.
struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Made once; the tests that read it leave it as it is, and say so.
static DESK: LazyLock<Desk> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("ok.yaml"), CONFIG).unwrap();
    fs::write(at.join("text.txt"), "not what it should be").unwrap();
    fs::write(at.join("bad.yaml"), "train: {lr: x}").unwrap();
    fs::write(at.join("list.yaml"), "- 1").unwrap();
    fs::write(at.join("open.yaml"), "train: [").unwrap();
    fs::write(at.join("key.yaml"), "model: {kind: mlp, hiden: [3]}").unwrap();
    fs::write(at.join("latin.yaml"), b"seed: \xff").unwrap();
    fs::write(at.join("full.h5"), "taken").unwrap();
    fs::write(at.join("full.html"), "taken").unwrap();
    fs::create_dir(at.join("empty")).unwrap();
    fs::create_dir(at.join("mess")).unwrap();
    fs::write(at.join("mess/notes.txt"), "mine").unwrap();
    succeeds(at, "train -c ok.yaml -o run -q");
    succeeds(at, "score -m run -d strokes -o s.h5 --limit 6 -q");
    succeeds(at, "score -m run -d strokes -o s1.h5 --limit 6 --shard 1/2 -q");
    succeeds(at, "score -m run -d strokes -o s2.h5 --limit 6 --shard 2/2 -q");
    succeeds(at, "attack -m run -d strokes -o a.h5 --limit 4 --attack spectral,random --eps 1,2 -q");
    Desk { folder }
});

/// Every file below `folder` with its contents.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut left = vec![folder.to_owned()];
    while let Some(at) = left.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.insert(path.clone(), vec![]);
                left.push(path);
            } else {
                let bytes = fs::read(&path).unwrap();
                found.insert(path, bytes);
            }
        }
    }
    found
}

/// What is typed, and what the line on stderr must hold.
const WRONG: &[(&str, &[&str])] = &[
    // Usage.
    ("", &["command", "demo, train, score", "none"]),
    ("scores", &["command", "\"scores\""]),
    ("score", &["--model", "--data", "--output"]),
    ("score -m run -d strokes", &["--output"]),
    ("score -m", &["--model", "no value"]),
    ("score -m run -m run -d strokes -o x.h5", &["--model", "once"]),
    ("score -m run -d strokes -o x.h5 --what", &["known flag", "--what"]),
    ("score -m run -d strokes -o x.h5 y.h5", &["no further argument", "y.h5"]),
    ("score -m run -d strokes -o x.h5 -q -v", &["--quiet", "--verbose"]),
    ("train -o r", &["--config"]),
    ("train -c ok.yaml", &["--output"]),
    ("sweep -o r", &["--config"]),
    ("attack -m run -d strokes", &["--output"]),
    ("report -o x.html", &["RUN|FILE.h5"]),
    ("report s.h5", &["--output"]),
    ("merge -o x.h5", &["SHARD.h5"]),
    ("merge s1.h5 s2.h5", &["--output"]),
    ("inspect", &["FILE"]),
    ("inspect s.h5 a.h5", &["no further argument", "a.h5"]),
    // Values of flags.
    ("score -m run -d strokes -o x.h5 --sample 0", &["--sample", ">= 1"]),
    ("score -m run -d strokes -o x.h5 --sample 4 --limit 3", &["--sample", "no --limit beside it"]),
    ("score -m run -d strokes -o x.h5 --layout x", &["--layout", "nchw, nhwc"]),
    ("score -m run -d strokes -o x.h5 --full-scale 0", &["--full-scale", "a number > 0, or none"]),
    ("score -m run -d strokes -o x.h5 --full-scale x", &["--full-scale", "a number > 0, or none"]),
    ("score -m run -d strokes -o x.h5 --background grey", &["--background", "black, white"]),
    ("score -m run -d strokes -o x.h5 --posterior x", &["--posterior", "logvar, logstd, std, var"]),
    (
        "score -m run -d strokes -o x.h5 --posterior std",
        &["no --input-range, --posterior or --outputs", "a run folder says itself"],
    ),
    ("score -m run -d strokes -o x.h5 --input-range 1", &["--input-range", "LOW,HIGH"]),
    ("score -m run -d strokes -o x.h5 --outputs x", &["--outputs", "0,1"]),
    (
        "attack -m run -d strokes -o x.h5 --input-range -1,1",
        &["no --input-range, --posterior or --outputs", "a run folder says itself"],
    ),
    ("score -m run -d strokes -o x.h5 --metric foo", &["--metric", "stochastic", "\"foo\""]),
    ("score -m run -d strokes -o x.h5 --top -1", &["--top", ">= 0", "\"-1\""]),
    ("score -m run -d strokes -o x.h5 --top x", &["--top", "\"x\""]),
    ("score -m run -d strokes -o x.h5 --precision f16", &["--precision", "f32, f64", "\"f16\""]),
    ("score -m run -d strokes -o x.h5 --device gpu", &["--device", "cuda:N", "gpu"]),
    ("score -m run -d strokes -o x.h5 --device cuda:99", &["cuda:99", "CUDA device"]),
    ("score -m run -d strokes -o x.h5 --batch 0", &["--batch", "auto", "0"]),
    ("score -m run -d strokes -o x.h5 --batch -3", &["--batch", "auto", "-3"]),
    ("score -m run -d strokes -o x.h5 --batch many", &["--batch", "auto", "many"]),
    ("score -m run -d strokes -o x.h5 --limit 0", &["--limit", ">= 1", "\"0\""]),
    ("score -m run -d strokes -o x.h5 --limit 1.5", &["--limit", ">= 1", "\"1.5\""]),
    ("score -m run -d strokes -o x.h5 --split dev", &["--split", "train, test, val", "\"dev\""]),
    ("score -m run -d strokes -o x.h5 --seed -1", &["--seed", "\"-1\""]),
    ("score -m run -d strokes -o x.h5 --seed 99999999999999999999", &["--seed", "99999999999999999999"]),
    ("score -m run -d strokes -o x.h5 --threads 0", &["--threads", ">= 1", "\"0\""]),
    ("score -m run -d strokes -o x.h5 --threads 99999999999", &["--threads", "at most"]),
    ("score -m run -d strokes -o x.h5 --shard 3/2", &["--shard", "I/N", "3/2"]),
    ("score -m run -d strokes -o x.h5 --shard 0/2", &["--shard", "I/N", "0/2"]),
    ("score -m run -d strokes -o x.h5 --limit 2 --shard 1/9", &["shard 1/9", "at least one sample"]),
    ("score -m run -d strokes -o x.h5 --set train", &["--set", "key.path=value", "\"train\""]),
    ("score -m run -d strokes -o x.h5 --set score.tpo=3", &["--set score.tpo", "top", "\"tpo\""]),
    ("score -m run -d strokes -o x.h5 --set score.top=-3", &["--set score.top", ">= 0", "-3"]),
    ("score -m run -d strokes -o x.h5 --spectrum half", &["--spectrum", "auto, full, top", "\"half\""]),
    ("score -m run -d strokes -o x.h5 --spectrum top --top 7", &["top", "at most 6", "7"]),
    ("score -m run -d strokes -o x.h5 --set score.spectrum.probes=1", &["score.spectrum.probes", "from 2 to 256", "1"]),
    ("score -m run -d strokes -o x.h5 --set score.spectrum.steps=1", &["score.spectrum.steps", "from 2 to 1024", "1"]),
    ("score -m run -d strokes -o x.h5 --set score.spectrum.pairs=0", &["score.spectrum.pairs", ">= 1", "0"]),
    ("score -m run -d strokes -o x.h5 --set score.spectrum.memory=0", &["score.spectrum.memory", "0"]),
    ("score -m run -d strokes -o x.h5 --set score.spectrum.tolerance=0", &["score.spectrum.tolerance", "> 0", "0"]),
    ("score -m run -d strokes -o x.h5 --set score.spectrum.tolerance=.nan", &["score.spectrum.tolerance", "NaN"]),
    ("score -m run -d strokes -o x.h5 --set score.spectrum.prob=3", &["score.spectrum.prob", "probes"]),
    ("attack -m run -d strokes -o x.h5 --spectrum half", &["--spectrum", "auto, full, top", "\"half\""]),
    ("attack -m run -d strokes -o x.h5 --spectrum top --top 7", &["top", "at most 6", "7"]),
    ("score -m run -d strokes -o x.h5 --set score.limit=0", &["--set score.limit", ">= 1", "0"]),
    ("score -m run -d strokes -o x.h5 --set batch=none", &["--set batch", "auto", "none"]),
    ("attack -m run -d strokes -o x.h5 --attack foo", &["--attack", "spectral", "foo"]),
    ("attack -m run -d strokes -o x.h5 --attack random,random", &["each once", "random"]),
    ("attack -m run -d strokes -o x.h5 --norm l3", &["--norm", "l2, linf, l1", "\"l3\""]),
    ("attack -m run -d strokes -o x.h5 --eps 1,x", &["--eps", "> 0", "\"x\""]),
    ("attack -m run -d strokes -o x.h5 --eps 0", &["--eps", "> 0", "\"0\""]),
    ("attack -m run -d strokes -o x.h5 --eps -1", &["--eps", "> 0", "\"-1\""]),
    ("attack -m run -d strokes -o x.h5 --eps nan", &["--eps", "> 0", "\"nan\""]),
    ("attack -m run -d strokes -o x.h5 --eps inf", &["--eps", "> 0", "\"inf\""]),
    ("attack -m run -d strokes -o x.h5 --metric foo", &["--metric", "\"foo\""]),
    ("attack -m run -d strokes -o x.h5 --top 0", &["--top", ">= 1", "\"0\""]),
    ("attack -m run -d strokes -o x.h5 --scale log", &["--scale", "unit, eigen", "\"log\""]),
    ("attack -m run -d strokes -o x.h5 --scale eigen --norm linf", &["eigen", "l2", "linf"]),
    ("attack -m run -d strokes -o x.h5 --goal pain", &["--goal", "latent", "\"pain\""]),
    ("attack -m run -d strokes -o x.h5 --steps 0", &["--steps", ">= 1", "\"0\""]),
    ("attack -m run -d strokes -o x.h5 --attack random --steps 3", &["--steps", "pgd", "random"]),
    ("attack -m run -d strokes -o x.h5 --attack random --top 3", &["--top", "spectral", "random"]),
    ("attack -m run -d strokes -o x.h5 --box maybe", &["--box", "on, off", "\"maybe\""]),
    ("attack -m run -d strokes -o x.h5 --set attack.box=3", &["--set attack.box", "on or off", "3"]),
    ("attack -m run -d strokes -o x.h5 --set attack.norm=true", &["--set attack.norm", "one of l2, linf, l1", "true"]),
    ("attack -m run -d strokes -o x.h5 --set attack.attacks[0].steps=3", &["--set attack.attacks[0].steps", "a list"]),
    ("attack -m run -d strokes -o x.h5 --save-png text.txt", &["--save-png text.txt", "a folder", "a file"]),
    ("attack -m run -d strokes -o x.h5 --set attack.eps=[]", &["--set attack.eps", "at least one"]),
    ("attack -m run -d strokes -o x.h5 --set attack.eps=[1,-2]", &["--set attack.eps", "> 0", "-2"]),
    ("attack -m run -d strokes -o x.h5 --set attack.attacks=[]", &["attack", "at least one"]),
    ("bench --split train", &["--split"]),
    ("bench --set seed=1", &["--set", "--config"]),
    ("bench --steps 0", &["--steps", ">= 1", "\"0\""]),
    ("bench --work wait", &["--work", "wait", "jacobian"]),
    ("bench --repeat 0", &["--repeat", ">= 1", "\"0\""]),
    ("bench -m run -c ok.yaml", &["--config", "--model"]),
    ("bench -m none", &["none", "nothing there"]),
    ("bench -c none.yaml", &["none.yaml", "no such file"]),
    ("bench --device gpu", &["--device", "gpu"]),
    // Files that are not there, or not what they should be.
    ("train -c none.yaml -o r", &["none.yaml", "YAML", "no such file"]),
    ("train -c empty -o r", &["empty", "YAML", "a folder"]),
    ("train -c bad.yaml -o r", &["bad.yaml: train.lr", "a number", "\"x\""]),
    ("train -c list.yaml -o r", &["list.yaml", "keys with values"]),
    ("train -c open.yaml -o r", &["open.yaml", "YAML"]),
    ("train -c key.yaml -o r", &["key.yaml: model.hiden", "hidden", "\"hiden\""]),
    ("train -c latin.yaml -o r", &["latin.yaml", "UTF-8"]),
    ("train -c full.h5 -o r", &["full.h5", "keys with values"]),
    ("train -c ok.yaml -o r --set train.epoch=3", &["--set train.epoch", "epochs", "\"epoch\""]),
    ("train -c ok.yaml -o r --set train.epochs=0", &["--set train.epochs", "0"]),
    ("train -c ok.yaml -o r --set train.epochs=-1", &["--set train.epochs", "-1"]),
    ("train -c ok.yaml -o r --set train.lr=0", &["--set train.lr", "above 0"]),
    ("train -c ok.yaml -o r --set train.lr=.inf", &["--set train.lr", "inf"]),
    ("train -c ok.yaml -o r --set train.beta=-1", &["--set train.beta", "-1"]),
    ("train -c ok.yaml -o r --set train.beta=.nan", &["--set train.beta", "NaN"]),
    ("train -c ok.yaml -o r --set train.batch=0", &["--set train.batch", "0"]),
    ("train -c ok.yaml -o r --set train.schedule=linear", &["--set train.schedule", "cosine", "linear"]),
    ("train -c ok.yaml -o r --set train.mixup.alpha=0", &["--set train.mixup.alpha", "0"]),
    ("train -c ok.yaml -o r --set train.mixup.strength=-1", &["--set train.mixup.strength", "-1"]),
    ("train -c ok.yaml -o r --set train.mixup=yes", &["--set train.mixup", "keys with values", "\"yes\""]),
    ("train -c ok.yaml -o r --set model.kind=transformer", &["--set model.kind", "mlp", "transformer"]),
    ("train -c ok.yaml -o r --set model.latent=0", &["--set model.latent", "0"]),
    ("train -c ok.yaml -o r --set model.hidden=[0]", &["--set model.hidden", "0"]),
    ("train -c ok.yaml -o r --set model.hidden=12", &["--set model.hidden", "a list", "12"]),
    ("train -c ok.yaml -o r --set model.activation=step", &["--set model.activation", "relu", "step"]),
    (
        "train -c ok.yaml -o r --set 'model.image={channels: 3, height: 8, width: 8}'",
        &["model.image", "1x28x28", "3x8x8"],
    ),
    ("train -c ok.yaml -o r --set data.source=none", &["none", "no such file or folder"]),
    ("train -c ok.yaml -o r --set data.limit=0", &["--set data.limit", ">= 1"]),
    ("train -c ok.yaml -o r --set data.split=half", &["--set data.split", "train", "half"]),
    ("train -c ok.yaml -o r --set seed=-1", &["--set seed", ">= 0", "-1"]),
    ("train -c ok.yaml -o r --set device=gpu", &["--set device", "cuda:N", "gpu"]),
    ("train -c ok.yaml -o r --device cuda:7", &["cuda:7"]),
    ("train -c ok.yaml -o r --batch auto", &["--batch", "a number, the samples of a step", "auto"]),
    (
        "train -c ok.yaml -o r --set model.hidden=[1048576,1048576]",
        &["model: expected widths of at most 4294967296 numbers", "[1048576, 1048576]"],
    ),
    ("train -c ok.yaml -o text.txt", &["text.txt", "a folder", "a file"]),
    ("score -m none -d strokes -o x.h5", &["none", "that exists", "nothing there"]),
    ("score -m text.txt -d strokes -o x.h5", &["text.txt"]),
    ("score -m empty -d strokes -o x.h5", &["empty", "model.safetensors"]),
    ("score -m run -d none -o x.h5", &["none", "no such file or folder"]),
    ("score -m run -d empty -o x.h5", &["empty", "an empty folder"]),
    ("score -m run -d text.txt -o x.h5", &["text.txt", "HDF5"]),
    ("score -m run -d s.h5 -o x.h5", &["s.h5", "images"]),
    ("score -m run -d strokes:size=16 -o x.h5", &["1x16x16", "1x28x28"]),
    ("score -m run -d strokes -o x.h5 -c none.yaml", &["none.yaml", "no such file"]),
    ("score -m run -d strokes -o none/x.h5", &["none"]),
    ("score -m run -d strokes -o empty", &["empty", "a folder"]),
    ("score -m run -d strokes -o new/", &["new/", "a file to write", "the name of a folder"]),
    ("attack -m run -d strokes -o none/x.h5", &["none"]),
    ("sweep -c none.yaml -o r", &["none.yaml", "no such file"]),
    ("report none.h5 -o x.html", &["none.h5"]),
    ("report text.txt -o x.html", &["text.txt"]),
    ("report empty -o x.html", &["empty"]),
    ("report s.h5 -o none/x.html", &["none"]),
    ("merge none.h5 -o x.h5", &["none.h5"]),
    ("merge s1.h5 s1.h5 -o x.h5", &["s1.h5"]),
    ("merge s1.h5 a.h5 -o x.h5", &["a.h5"]),
    ("merge text.txt -o x.h5", &["text.txt"]),
    ("inspect none", &["none", "no such file or folder"]),
    ("inspect text.txt", &["text.txt"]),
    ("inspect empty", &["empty"]),
    // What is there stays there.
    ("train -c ok.yaml -o run", &["run", "--force", "finished"]),
    ("train -c ok.yaml -o run --set train.lr=0.01", &["run", "--force", "train.lr"]),
    ("train -c ok.yaml -o mess", &["mess", "--force", "other files"]),
    ("score -m run -d strokes -o full.h5", &["full.h5", "--force"]),
    ("score -m run -d strokes -o s.h5", &["s.h5", "--force"]),
    ("attack -m run -d strokes -o full.h5", &["full.h5", "--force"]),
    ("merge s1.h5 s2.h5 -o full.h5", &["full.h5", "--force"]),
    ("score -m run -d strokes -o run/model.safetensors --force", &["run/model.safetensors", "another file than those"]),
    ("score -m run -d full.h5:images -o full.h5 --force", &["full.h5", "another file than those"]),
    ("merge s1.h5 s2.h5 -o s1.h5 --force", &["s1.h5", "another file than those"]),
    ("report s.h5 -o s.h5 --force", &["s.h5", "another file than those"]),
    ("report run -o s.h5 --force", &["s.h5", "the name of a page", "a result file"]),
    ("leaderboard a.h5 -o a.h5 --force", &["a.h5", "another file than those"]),
    ("report s.h5 -o full.html", &["full.html", "--force"]),
    ("demo -o mess --limit 4 --set train.epochs=0", &["--set train.epochs", "0"]),
    ("demo -o text.txt", &["text.txt"]),
];

#[test]
fn wrong_requests_are_one_line_and_touch_nothing() {
    let desk = DESK.path();
    let before = contents(desk);
    let (next, failures, shared) = (AtomicUsize::new(0), Mutex::new(Vec::new()), Mutex::new(()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mine = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&i| i < WRONG.len());
                while let Some(number) = mine() {
                    let (line, says) = WRONG[number];
                    // Two at once with one output would be told of each other: one that is there is used by one after the other, and each
                    // line has its own in place of one that is not.
                    let output = words(line).into_iter().skip_while(|w| w != "-o").nth(1);
                    let there = output.as_ref().is_some_and(|o| before.contains_key(&desk.join(o)));
                    let out = if there {
                        let _alone = shared.lock().unwrap();
                        type_in(desk, line)
                    } else {
                        type_in(desk, &line.replacen("-o ", &format!("-o {number}"), 1))
                    };
                    let text = stderr(&out);
                    let fits = out.status.code() == Some(2)
                        && out.stdout.is_empty()
                        && text.ends_with('\n')
                        && text.lines().count() == 1
                        && says.iter().all(|word| text.contains(word));
                    if !fits {
                        let failure = format!("{line}\n  wanted {says:?}, got {:?} {text:?}", out.status.code());
                        failures.lock().unwrap().push(failure);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let after = contents(desk);
    let changed: Vec<_> = before.keys().chain(after.keys()).filter(|p| before.get(*p) != after.get(*p)).collect();
    assert!(changed.is_empty(), "changed: {changed:?}");
}

#[test]
fn names_that_are_no_text_are_refused_by_flag() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let strange = std::ffi::OsStr::from_bytes(b"a\xff");
    for (line, flag) in [
        ("score -m ? -d strokes -o x.h5", "--model"),
        ("score -m m -d ? -o x.h5", "--data"),
        ("score -m m -d strokes -o ?", "--output"),
        ("train -c a.yaml -o ?", "--output"),
        ("sweep -c a.yaml -o ?", "--output"),
        ("inspect ?", "<FILE>"),
        ("report ? -o x.html", "<RUN|FILE.h5>"),
    ] {
        let typed = line.split(' ').map(|word| if word == "?" { strange } else { word.as_ref() });
        let out = crate::files::program().args(typed).current_dir(folder.path()).output().unwrap();
        let text = stderr(&out);
        assert!(out.status.code() == Some(2) && text.lines().count() == 1, "{line}: {text}");
        assert!(text.contains(flag) && text.contains("in UTF-8, found \"a\\xFF\""), "{line}: {text}");
    }
    assert!(contents(folder.path()).is_empty());
}

#[test]
fn version_names_the_libraries() {
    let out = succeeds(Path::new("."), "--version");
    let text = stdout(&out);
    for part in [
        concat!("pullback ", env!("CARGO_PKG_VERSION")),
        "libtorch 2.11.0",
        "CUDA build: ",
        "CUDA kernels: ",
        "CUDA devices: ",
        "CPU threads: ",
        "HDF5 ",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert!(out.stderr.is_empty());
}

#[test]
fn every_command_has_help() {
    let help = stdout(&succeeds(Path::new("."), "--help"));
    std::thread::scope(|scope| {
        for name in COMMANDS {
            assert!(help.contains(name), "{name} in {help}");
            scope.spawn(move || {
                let out = succeeds(Path::new("."), &format!("{name} --help"));
                assert!(stdout(&out).contains("Usage: pullback "), "{name}");
                assert!(out.stderr.is_empty());
            });
        }
    });
}

/// The help of a command, in one line.
fn help(command: &str) -> String {
    let text = stdout(&succeeds(Path::new("."), &format!("{command} --help")));
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A flag says what it does for the command that has it.
#[test]
fn help_is_true() {
    for (command, told) in [
        ("", "but for the summaries and pages that `sweep` and `demo` make anew"),
        ("attack", "decoder, whose directions are codes, is for scores only [default: stochastic]"),
        ("attack", "pgd [default: 40], apgd and universal [default: 100], spectral-iterated and minimal [default: 10]"),
        ("attack", "Searches of pgd, apgd, square, spectral-iterated [default: 1] and universal [default: 3]"),
        ("score", "--metric <METRIC> The pullback metric [default: stochastic]"),
        ("score", "auto decides by the model's sizes alone"),
        ("sweep", "--seed <S> In place of `seeds`; the grids of `also` keep their own"),
        ("train", "--seed <S> Seed of everything random"),
    ] {
        let help = help(command);
        assert!(help.contains(told), "{command}: {told} in {help}");
    }
    assert!(help("score").contains("--split <SPLIT>") && !help("bench").contains("--split"), "{}", help("bench"));
}

#[test]
fn from_config_to_report() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("a.yaml"), CONFIG).unwrap();

    let out = succeeds(at, "train -c a.yaml -o runs/a --set train.epochs=1 --batch 12 --limit 24 --seed 3");
    let stored = fs::read_to_string(at.join("runs/a/config.yaml")).unwrap();
    for line in ["epochs: 1", "batch: 12", "limit: 24", "seed: 3", "channels: 1"] {
        assert!(stored.contains(line), "{line} in {stored}");
    }
    // 24 samples in steps of 12: two steps; plain lines, since stderr is no terminal here.
    assert!(stderr(&out).contains("training: 2 batches in "), "{}", stderr(&out));
    assert!(out.stdout.is_empty());

    succeeds(at, "score -m runs/a -d strokes -o runs/a/s.h5 --limit 5 --top 2 --metric mean -q");
    let args =
        "attack -m runs/a -d strokes -o runs/a/t.h5 --limit 5 --attack spectral,pgd --norm linf --eps 0.1 --steps 2";
    let out = succeeds(at, &format!("{args} --goal kl --box off --save-images -q"));
    assert!(out.stdout.is_empty() && stderr(&out).lines().all(|l| l.starts_with("warning: ")), "{}", stderr(&out));
    succeeds(at, "report runs/a -o report.html -q");
    assert!(fs::read_to_string(at.join("report.html")).unwrap().contains("</html>"));

    // What was found is shown on stdout unless -q is given; a collapsed sample's undefined ratios would be counted there.
    let seen = stdout(&succeeds(at, "score -m runs/a -d strokes -o runs/a/u.h5 --limit 3"));
    for part in ["u.h5: 3 samples", "von_neumann_entropy", "median"] {
        assert!(seen.contains(part), "{part} in {seen}");
    }
    let seen = stdout(&succeeds(at, "inspect runs/a/s.h5"));
    for part in ["scores", "strokes", "mean", "/spectrum/directions", "spectral_radius"] {
        assert!(seen.contains(part), "{part} in {seen}");
    }
    let seen = stdout(&succeeds(at, "inspect runs/a/t.h5"));
    for part in ["attack", "/attack/pgd/latent_l2", "/attack/spectral/images", "[1, 5]", "recon_mse (mean)"] {
        assert!(seen.contains(part), "{part} in {seen}");
    }
    let seen = stdout(&succeeds(at, "inspect runs/a"));
    // Weights and biases of 784-12-3, twice at its end, and 3-12-784.
    let parameters = (784 * 12 + 12) + 2 * (12 * 3 + 3) + (3 * 12 + 12) + (12 * 784 + 784);
    for part in ["run folder", "1x28x28", &parameters.to_string(), "valid_elbo"] {
        assert!(seen.contains(part), "{part} in {seen}");
    }
    let seen = stdout(&succeeds(at, "inspect strokes"));
    assert!(seen.contains("train") && seen.contains("test") && seen.contains("1x28x28"), "{seen}");

    // --force does it again; the same seed and settings give the same weights.
    let before = fs::read(at.join("runs/a/model.safetensors")).unwrap();
    succeeds(at, "train -c a.yaml -o runs/a --set train.epochs=1 --batch 12 --limit 24 --seed 3 --force -q");
    assert_eq!(fs::read(at.join("runs/a/model.safetensors")).unwrap(), before);
    succeeds(at, "train -c a.yaml -o runs/a --set train.epochs=1 --batch 12 --limit 24 --seed 4 --force -q");
    assert_ne!(fs::read(at.join("runs/a/model.safetensors")).unwrap(), before);
}

/// TF32 is CUDA's: elsewhere the key changes nothing, and it is stored only where it is on.
#[test]
fn tf32_is_for_training_on_cuda() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("a.yaml"), CONFIG).unwrap();
    let weights = |run: &str, more: &str| {
        succeeds(at, &format!("train -c a.yaml -o {run} --limit 24 --set train.epochs=1 -q {more}"));
        let config = fs::read_to_string(at.join(run).join("config.yaml")).unwrap();
        assert_eq!(config.contains("tf32: true"), more.contains("tf32=true"), "{config}");
        assert!(!config.contains("tf32: false"), "{config}");
        fs::read(at.join(run).join("model.safetensors")).unwrap()
    };
    let exact = weights("exact", "--device cpu");
    assert!(exact == weights("off", "--device cpu --set train.tf32=false"));
    assert!(exact == weights("on", "--device cpu --set train.tf32=true"));
}

/// What a user sees of a CUDA device: `auto` takes it, results name it and are the CPU's, TF32 makes others, and nothing is said.
#[test]
fn on_cuda_commands_do_the_same() {
    if !crate::device::cuda() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("a.yaml"), CONFIG).unwrap();
    let run = |line: &str| {
        let args = words(line);
        let mut command = Command::new(crate::files::binary());
        let out =
            command.args(&args).current_dir(at).env("OMP_NUM_THREADS", "1").stdin(Stdio::null()).output().unwrap();
        assert!(out.status.success(), "{line}: {}", stderr(&out));
        assert_eq!(stderr(&out), "", "{line}");
    };
    for (name, more) in [("auto", ""), ("cpu", "--device cpu"), ("tf32", "--set train.tf32=true")] {
        run(&format!("train -c a.yaml -o {name} --limit 24 --set train.epochs=1 -q {more}"));
    }
    let weights = |name: &str| fs::read(at.join(name).join("model.safetensors")).unwrap();
    assert!(weights("auto") != weights("tf32"));
    let numbers = |file: &str, path: &str| {
        hdf5::File::open(at.join(file)).unwrap().dataset(path).unwrap().read_raw::<f64>().unwrap()
    };
    for device in ["auto", "cpu"] {
        run(&format!("score -m cpu -d strokes -o s-{device}.h5 --limit 9 -q --device {device}"));
        run(&format!("attack -m cpu -d strokes -o a-{device}.h5 --limit 9 --attack pgd --eps 1 -q --device {device}"));
    }
    let (here, there) = (numbers("s-cpu.h5", "spectrum/eigenvalues"), numbers("s-auto.h5", "spectrum/eigenvalues"));
    let largest = here.iter().copied().fold(0.0, f64::max);
    assert!(here.iter().zip(&there).all(|(a, b)| (a - b).abs() <= 2e-4 * largest), "{here:?} {there:?}");
    let (here, there) = (numbers("a-cpu.h5", "attack/pgd/latent_l2"), numbers("a-auto.h5", "attack/pgd/latent_l2"));
    assert!(here.iter().zip(&there).all(|(a, b)| (a - b).abs() <= 0.05 * a), "{here:?} {there:?}");
    let seen = stdout(&succeeds(at, "inspect s-auto.h5"));
    assert!(seen.contains("cuda:0"), "{seen}");
}

/// A trace is of all threads, is written also of a run that failed, and never over another.
#[test]
fn a_run_is_traced() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("a.yaml"), CONFIG).unwrap();
    succeeds(at, "train -c a.yaml -o a --limit 24 --set train.epochs=1 -q");
    let out = succeeds(at, "score -m a -d strokes -o s.h5 --limit 5 -q --trace t.json");
    assert_eq!(stderr(&out), "");
    let read = || -> serde_json::Value { serde_json::from_slice(&fs::read(at.join("t.json")).unwrap()).unwrap() };
    let trace = read();
    let events = trace["traceEvents"].as_array().unwrap();
    let of = |name: &str| events.iter().filter(|e| e["name"] == name).collect::<Vec<_>>();
    assert!(!of("aten::linear").is_empty() && !of("pullback::gram").is_empty() && !of("pullback::spectra").is_empty());
    // Those that read, compute and store.
    let threads: BTreeSet<u64> =
        events.iter().filter(|e| e["cat"] == "cpu_op").map(|e| e["tid"].as_u64().unwrap()).collect();
    assert!(threads.len() >= 2, "{threads:?}");

    let again = type_in(at, "score -m a -d strokes -o s2.h5 --limit 5 -q --trace t.json");
    assert_eq!(again.status.code(), Some(2));
    assert!(stderr(&again).contains("--trace") && stderr(&again).contains("t.json"), "{}", stderr(&again));
    assert_eq!(read(), trace);
    assert!(!at.join("s2.h5").exists());
    assert_eq!(type_in(at, "score -m a -d strokes -o s2.h5 --trace none/t.json").status.code(), Some(2));
    assert_eq!(type_in(at, "score -m none -d strokes -o s2.h5 --trace u.json").status.code(), Some(2));
    let _: serde_json::Value = serde_json::from_slice(&fs::read(at.join("u.json")).unwrap()).unwrap();
}

/// The seconds behind each word of the line that tells where time went; the whole is behind the task's name.
fn times(stderr: &str, task: &str) -> BTreeMap<String, f64> {
    let line = stderr.lines().find(|l| l.starts_with(&format!("{task}, "))).unwrap_or_else(|| panic!("{stderr}"));
    let line = line.replace(": ", ", ").replace("; meanwhile ", ", ");
    let mut parts: Vec<&str> = line.split(", ").collect();
    let whole = format!("{} {}", parts.remove(0), parts.remove(0));
    let read = |part: &str| {
        let (name, seconds) = part.strip_suffix(" s").and_then(|p| p.rsplit_once(' ')).unwrap();
        (name.to_owned(), seconds.parse().unwrap())
    };
    parts.into_iter().chain([whole.as_str()]).map(read).collect()
}

#[test]
fn verbose_shows_where_time_goes() {
    let folder = tempfile::tempdir().unwrap();
    let model = DESK.path().join("run");
    for (task, rest) in [("scoring", "score --top 2"), ("attacking", "attack --attack pgd --eps 0.5 --steps 5")] {
        let line = format!("{rest} -m {} -d strokes -o {task}.h5 --limit 64 --batch 16", model.display());
        let start = std::time::Instant::now();
        let told = succeeds(folder.path(), &format!("{line} -v"));
        let wall = start.elapsed().as_secs_f64();
        let times = times(&stderr(&told), task);
        let names = ["computing", "waiting for images", "waiting for storage"];
        let meanwhile = ["reading", "uploading", "fetching", "storing"];
        assert_eq!(times.len(), 8, "{times:?}");
        assert!(times.values().all(|t| (0.0..=wall).contains(t)), "{times:?} in {wall}");
        // What follows each other is the whole but for what lies between; each is rounded to a hundredth.
        let sum: f64 = names.iter().map(|n| times[*n]).sum();
        assert!(sum <= times[task] + 0.02 && sum >= 0.5 * times[task] - 0.02, "{times:?}");
        for side in [&meanwhile[..2], &meanwhile[2..]] {
            assert!(side.iter().map(|n| times[*n]).sum::<f64>() <= times[task] + 0.02, "{times:?}");
        }
        assert!(times["computing"] > 0.0, "{times:?}");

        // Without -v nothing is said of it, and the rest is as it was.
        let silent = succeeds(folder.path(), &format!("{line} --force"));
        assert!(
            !stderr(&silent).contains("meanwhile") && !stderr(&silent).contains("computing"),
            "{}",
            stderr(&silent)
        );
        assert!(stderr(&silent).contains(&format!("{task}: 64 images in ")), "{}", stderr(&silent));
        assert_eq!(stdout(&silent), stdout(&told));
    }
}

#[test]
fn the_bench_speaks_to_machines() {
    let out = succeeds(DESK.path(), "bench -m run --limit 3 --metric mean --metric fisher --repeat 2 --json -q");
    let result: serde_json::Value = serde_json::from_str(&stdout(&out)).unwrap();
    let timings = result["timings"].as_array().unwrap();
    let work: Vec<_> = timings.iter().map(|t| t["work"].as_str().unwrap()).collect();
    assert_eq!(work, ["spectrum of mean", "spectrum of fisher"]);
    for timing in timings {
        assert_eq!(timing["seconds"].as_array().unwrap().len(), 2, "{timing}");
        assert!(timing["rate"].as_f64().unwrap() > 0.0 && timing["images"] == 3, "{timing}");
    }
}

#[test]
fn the_bench_times_the_parts_that_are_asked_for() {
    let line = "bench -m run --limit 3 --work pgd --work search --work eigen --work jacobian --steps 2";
    let out = succeeds(DESK.path(), &format!("{line} --metric mean --device cpu --repeat 1 --json -q"));
    let result: serde_json::Value = serde_json::from_str(&stdout(&out)).unwrap();
    let work: Vec<_> = result["timings"].as_array().unwrap().iter().map(|t| t["work"].as_str().unwrap()).collect();
    let solvers = ["eigenvalues of mean by rotations", "eigenvalues of mean by reduction"];
    assert_eq!(work, ["pgd, 2 steps", "search of pgd, 2 steps", solvers[0], solvers[1], "jacobian of mean"]);
}

#[test]
fn merged_shards_are_the_whole() {
    let out = tempfile::tempdir().unwrap();
    let merged = out.path().join("m.h5");
    let merged = merged.to_str().unwrap();
    succeeds(DESK.path(), &format!("merge s2.h5 s1.h5 -o {merged} -q"));
    let scores = |file: &str| {
        let text = stdout(&succeeds(DESK.path(), &format!("inspect {file}")));
        text.split("\nscore").nth(1).map(str::to_owned).unwrap()
    };
    assert_eq!(scores(merged), scores("s.h5"));
    assert_ne!(scores("s1.h5"), scores("s.h5"));
}

#[test]
fn flags_win_over_set_and_set_over_the_file() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.yaml"), format!("{CONFIG}seed: 1\n")).unwrap();
    let seed_of = |run: &str, more: &str| {
        succeeds(folder.path(), &format!("train -c a.yaml -o {run} --limit 4 --set data.valid=0 -q {more}"));
        let text = fs::read_to_string(folder.path().join(run).join("config.yaml")).unwrap();
        text.lines().find(|l| l.starts_with("seed: ")).unwrap().to_owned()
    };
    assert_eq!(seed_of("file", ""), "seed: 1");
    assert_eq!(seed_of("set", "--set seed=2"), "seed: 2");
    assert_eq!(seed_of("flag", "--seed 3 --set seed=2"), "seed: 3");
}

#[test]
fn an_interrupted_run_exits_with_1_and_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("a.yaml"), CONFIG).unwrap();
    let args = words("train -c a.yaml -o run --set train.epochs=100000");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    // Whatever the test's own parent ignores, as a shell does for what it runs in the background.
    let mut command_line = Command::new("env");
    crate::files::on_cpu(&mut command_line)
        .arg("--default-signal=INT")
        .arg(crate::files::binary())
        .args(&args)
        .current_dir(at);
    let mut child = command_line.env("OMP_NUM_THREADS", "1").stderr(Stdio::piped()).spawn().unwrap();
    let history = at.join("run/history.csv");
    while !history.exists() {
        assert!(child.try_wait().unwrap().is_none(), "ended by itself");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let lines: Vec<String> = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap).collect();
    assert!(lines.last().unwrap().contains("interrupted"), "{lines:?}");
    assert!(lines.iter().any(|l| l.contains("Ctrl-C again")), "{lines:?}");

    let epochs = || fs::read_to_string(&history).unwrap().lines().count() - 1;
    let done = epochs();
    // Another config does not go on in this folder, the same one does.
    let out = type_in(at, "train -c a.yaml -o run -q");
    assert_eq!(out.status.code(), Some(2));
    assert!(stderr(&out).contains("train.epochs"), "{}", stderr(&out));
    let mut child = command(at, &args).stderr(Stdio::null()).spawn().unwrap();
    while epochs() <= done {
        assert!(child.try_wait().unwrap().is_none(), "ended by itself");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_demo_is_done_once() {
    let folder = tempfile::tempdir().unwrap();
    let small = "--limit 4 --set train.epochs=1 --set data.limit=32 --set data.valid=4 --set model.hidden=[8] \
                 --set model.latent=2 --set attack.eps=[1]";
    let line = format!("demo -o demo -q {small}");
    let first = stdout(&succeeds(folder.path(), &line));
    for part in ["plain", "mixup", "spectral radius", "pgd", "report: "] {
        assert!(first.contains(part), "{part} in {first}");
    }
    for file in ["report.html", "plain/model.safetensors", "mixup/config.yaml", "plain/scores.h5", "mixup/attack.h5"] {
        assert!(folder.path().join("demo").join(file).is_file(), "{file}");
    }
    let before = contents(folder.path());
    let second = stdout(&succeeds(folder.path(), &line));
    assert!(second.contains("up to date"), "{second}");
    assert_eq!(contents(folder.path()), before);
    // Another config is refused; a lost part is done again, and the page with it.
    let out = type_in(folder.path(), &format!("{line} --seed 9"));
    assert_eq!(out.status.code(), Some(2), "{}", stderr(&out));
    assert_eq!(contents(folder.path()), before);
    fs::remove_file(folder.path().join("demo/mixup/attack.h5")).unwrap();
    let third = stdout(&succeeds(folder.path(), &line));
    assert!(!third.contains("up to date") && folder.path().join("demo/mixup/attack.h5").is_file());
    assert_eq!(third.lines().next(), first.lines().next());
    // What a forced demo left unfinished goes on; one that is done is done again.
    let made = |file: &str| folder.path().join("demo").join(file).metadata().unwrap().modified().unwrap();
    let (model, scores) = (made("plain/model.safetensors"), made("mixup/scores.h5"));
    fs::remove_file(folder.path().join("demo/report.html")).unwrap();
    succeeds(folder.path(), &format!("{line} --force"));
    assert_eq!((model, scores), (made("plain/model.safetensors"), made("mixup/scores.h5")));
    succeeds(folder.path(), &format!("{line} --force"));
    assert!(model != made("plain/model.safetensors") && scores != made("mixup/scores.h5"));
}

/// 8192 rows of 4096 pixels: 1.8 GiB a sample by the dense path.
#[test]
fn a_factor_beyond_the_memory_is_scored_by_its_top() {
    let folder = tempfile::tempdir().unwrap();
    let model = crate::files::root().join("tests/models/wide.pt");
    let with = |what: &str| format!("{what} -m {} -d strokes:size=64 --limit 2 --device cpu", model.display());
    let spectrum = "--set score.spectrum.memory=300 --set score.spectrum.steps=16 --set score.spectrum.pairs=3";
    let refused = type_in(folder.path(), &format!("{} -o x.h5 --spectrum full {spectrum}", with("score")));
    assert_eq!(refused.status.code(), Some(2));
    let line = stderr(&refused);
    for part in ["spectrum full", "300 MiB", "8192 rows", "--spectrum top"] {
        assert!(line.contains(part), "{line:?} lacks {part:?}");
    }
    assert!(!folder.path().join("x.h5").exists());

    succeeds(folder.path(), &format!("{} -o s.h5 -q --top 1 {spectrum}", with("score")));
    let file = hdf5::File::open(folder.path().join("s.h5")).unwrap();
    let read = |path: &str| {
        let data = file.dataset(path).unwrap();
        (data.shape(), data.read_raw::<f64>().unwrap())
    };
    let said = file.attr("spectrum").unwrap().read_scalar::<hdf5::types::VarLenUnicode>().unwrap();
    assert_eq!(said.as_str(), "top");
    let (shape, values) = read("spectrum/eigenvalues");
    assert_eq!(shape, [2, 3]);
    assert!(values.chunks(3).all(|v| v[0] >= v[1] && v[1] >= v[2] && v[2] > 0.0), "{values:?}");
    let (shape, residuals) = read("spectrum/residuals");
    assert_eq!(shape, [2, 3]);
    assert!(residuals.iter().all(|r| *r < 1e-2), "{residuals:?}");
    assert_eq!(file.dataset("spectrum/directions").unwrap().shape(), [2, 1, 1, 64, 64]);
    let (_, trace) = read("scores/trace");
    let (_, error) = read("scores_se/trace");
    for ((trace, error), values) in trace.iter().zip(&error).zip(values.chunks(3)) {
        assert!(*trace > values.iter().sum::<f64>() && *error > 0.0 && *error < 0.05 * trace, "{trace} +- {error}");
    }
    let (_, condition) = read("scores/condition");
    assert!(condition.iter().all(|c| c.is_nan()), "{condition:?}");

    let attack = "--attack spectral,random --eps 1 --set attack.spectrum.memory=300 --set attack.spectrum.steps=10";
    succeeds(folder.path(), &format!("{} -o a.h5 -q {attack}", with("attack")));
    let file = hdf5::File::open(folder.path().join("a.h5")).unwrap();
    let damage = |name: &str| -> f64 {
        file.dataset(&format!("attack/{name}/latent_l2")).unwrap().read_raw::<f64>().unwrap().iter().sum()
    };
    assert!(damage("spectral") > 1.5 * damage("random"), "{} against {}", damage("spectral"), damage("random"));
}

/// 2100 rows would be scored by their top, for which this model lacks the derivatives.
#[test]
fn a_model_without_second_derivatives_is_scored_whole() {
    let folder = tempfile::tempdir().unwrap();
    let model = crate::files::root().join("tests/models/once.pt");
    let line = format!("score -m {} -d strokes:size=64 --limit 1 --device cpu --metric mean -o s.h5", model.display());
    succeeds(folder.path(), &line);
    let file = hdf5::File::open(folder.path().join("s.h5")).unwrap();
    assert_eq!(file.dataset("spectrum/eigenvalues").unwrap().shape(), [1, 2100]);
    let refused = type_in(folder.path(), &format!("{line} --spectrum top --force"));
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("differentiated twice, or --spectrum full"), "{}", stderr(&refused));
}

/// Whatever a command measures, it has asked first whether what it uses gives one answer.
#[test]
fn a_model_that_draws_noise_is_refused_by_every_command_that_would_hear_it() {
    let folder = tempfile::tempdir().unwrap();
    let model = crate::files::root().join("tests/models/dropout.pt");
    let with = |what: &str| format!("{what} -m {} -d strokes:size=12 --limit 3 -o x.h5 -q", model.display());
    for line in [
        with("attack --attack random"),
        with("attack --attack pgd,random --steps 2"),
        with("attack --attack spectral --goal recon"),
        with("score --metric output"),
        with("score --metric output --spectrum top --set score.spectrum.pairs=1"),
    ] {
        let out = type_in(folder.path(), &line);
        let said = stderr(&out);
        assert_eq!(out.status.code(), Some(2), "{line}: {said}");
        for part in ["the model's decoder", "when it is asked again", ".eval()"] {
            assert!(said.contains(part), "{line}: {said:?} lacks {part}");
        }
        assert!(!folder.path().join("x.h5").exists());
    }
    for work in ["pgd", "search"] {
        let model = model.display();
        let line = format!("bench -m {model} -d strokes:size=12 --limit 3 --work {work} --steps 1 --repeat 1 -q");
        let out = type_in(folder.path(), &line);
        assert_eq!(out.status.code(), Some(2), "{line}: {}", stderr(&out));
        assert!(stderr(&out).contains("the model's decoder"), "{line}: {}", stderr(&out));
    }
    // The encoder draws none, and what asks it alone works.
    succeeds(folder.path(), &with("score --metric stochastic"));
}

/// An encoder of one tensor: what needs a variance is refused, and what is named in its place works.
#[test]
fn what_needs_no_variance_is_named_and_works() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let values: Vec<f32> = (0..4 * 6).map(|i| 0.1 + 0.8 * ((i * 29 % 97) as f32 / 96.0)).collect();
    let images = hdf5::File::create(at.join("images.h5")).unwrap();
    images.new_dataset::<f32>().shape([4, 1, 2, 3]).create("images").unwrap().write_raw(&values).unwrap();
    drop(images);
    let model = crate::files::root().join("tests/models/one_tensor.pt");
    let with = |what: &str| format!("{what} -m {} -d images.h5 -o x.h5 -q", model.display());
    for (what, told) in [
        ("score --metric fisher", "metric fisher: expected mean or output, or decoder (--metric mean), found"),
        ("attack --attack spectral", "metric stochastic: expected mean or output (--metric mean), found"),
        (
            "attack --attack random --goal kl",
            "goal kl: expected latent, cosine, recon, recon-mse, hide, layers, grill or judge (--goal latent), found",
        ),
    ] {
        let out = type_in(at, &with(what));
        assert_eq!(out.status.code(), Some(2), "{what}: {}", stderr(&out));
        assert!(stderr(&out).contains(told), "{what}: {}", stderr(&out));
    }
    succeeds(at, &with("score --metric decoder"));
    for goal in ["latent", "cosine", "recon", "recon-mse", "hide"] {
        succeeds(at, &with(&format!("attack --attack random --eps 0.1 --goal {goal} --force")));
    }
}

/// The same weights under another activation are another model.
#[test]
fn rows_of_other_models_with_the_same_weights_are_not_mixed() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::create_dir(at.join("m")).unwrap();
    for name in ["model.safetensors", "config.yaml"] {
        fs::copy(DESK.path().join("run").join(name), at.join("m").join(name)).unwrap();
    }
    let line = |part: u8| format!("score -m m -d strokes --limit 6 --shard {part}/2 -o s{part}.h5 -q");
    succeeds(at, &line(1));
    let config = fs::read_to_string(at.join("m/config.yaml")).unwrap();
    assert!(config.contains("activation: relu"), "{config}");
    fs::write(at.join("m/config.yaml"), config.replace("activation: relu", "activation: tanh")).unwrap();
    succeeds(at, &line(2));
    let refused = type_in(at, "merge s1.h5 s2.h5 -o s.h5 -q");
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("model_spec") && !at.join("s.h5").exists(), "{}", stderr(&refused));
    // With the model as it was, the parts are of one run.
    fs::write(at.join("m/config.yaml"), config).unwrap();
    succeeds(at, &format!("{} --force", line(2)));
    succeeds(at, "merge s1.h5 s2.h5 -o s.h5 -q");
}
