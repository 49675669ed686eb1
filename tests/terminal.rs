//! Manners in a terminal: help whose examples work, completions, man pages, colour, progress.

use crate::files::{program, root};
use clap::{CommandFactory, Parser};
use pullback::cli::{args::Args, requested};
use pullback::config::{RunConfig, SweepSpec, Tree};
use serde_json::Value;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};

const COMMANDS: [&str; 12] = [
    "demo",
    "train",
    "score",
    "attack",
    "sweep",
    "report",
    "bench",
    "merge",
    "inspect",
    "leaderboard",
    "completions",
    "man",
];

fn run_with(folder: &Path, line: &str, variables: &[(&str, &str)]) -> Output {
    let mut command = program();
    command.args(line.split_whitespace()).current_dir(folder).stdin(Stdio::null()).env("OMP_NUM_THREADS", "1");
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied()).output().unwrap()
}

fn run(folder: &Path, line: &str) -> Output {
    let out = run_with(folder, line, &[]);
    assert!(out.status.success(), "{line}: {}", err(&out));
    out
}

fn out(done: &Output) -> String {
    String::from_utf8(done.stdout.clone()).unwrap()
}

fn err(done: &Output) -> String {
    String::from_utf8(done.stderr.clone()).unwrap()
}

/// A folder as the examples have it: a checkout with the demo's plain model, a small one here.
fn desk() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    std::os::unix::fs::symlink(root().join("configs"), at.join("configs")).unwrap();
    let small = "data: {source: strokes, limit: 48, valid: 0}\nmodel: {kind: mlp, hidden: [12], latent: 6}\n\
                 train: {epochs: 1, batch: 16}\n";
    fs::write(at.join("small.yaml"), small).unwrap();
    run(at, "train -c small.yaml -o runs/demo/plain -q");
    let plain = "-m runs/demo/plain -d strokes --limit 4 -q -o runs/demo/plain";
    run(at, &format!("score {plain}/scores.h5"));
    run(at, &format!("attack {plain}/attack.h5 --attack random --eps 1"));
    folder
}

/// The examples at the end of a command's help, without `pullback` and without what a shell does with the output.
fn examples(command: &str) -> Vec<String> {
    let help = Args::command().find_subcommand_mut(command).unwrap().render_long_help().to_string();
    let (_, tail) = help.split_once("\nExamples:\n").unwrap_or_else(|| panic!("{command}: no examples"));
    let tail = tail.replace("\\\n", " ");
    let lines = tail.lines().filter(|line| !line.trim().is_empty());
    let typed = lines.map(|line| line.trim().strip_prefix("pullback ").unwrap_or_else(|| panic!("{line}")));
    typed.map(|line| line.split([';', '>', '&']).next().unwrap().trim().to_owned()).collect()
}

/// Examples that are carried out here; the others are resolved as far as the program does it before it opens a file.
const CARRIED_OUT: [&str; 6] = [
    "score -m runs/demo/plain -d strokes -o scores.h5 --limit 1000",
    "attack -m runs/demo/plain -d strokes -o suite.h5",
    "merge s1.h5 s2.h5 -o scores.h5",
    "report runs/demo -o report.html",
    "inspect runs/demo/plain",
    "leaderboard suite.h5 -o board.html",
];

#[test]
fn every_example_works() {
    let folder = desk();
    let at = folder.path();
    for part in [1, 2] {
        run(at, &format!("score -m runs/demo/plain -d strokes --limit 6 -q --shard {part}/2 -o s{part}.h5"));
    }
    // Those of the program itself: `demo` has run.
    let all = Args::command().render_long_help().to_string();
    let (_, own) = all.split_once("\nExamples:\n").unwrap();
    let own: Vec<&str> = own.lines().filter_map(|line| line.trim().strip_prefix("pullback ")).collect();
    assert_eq!(own[0], "demo", "{own:?}");
    own[1..].iter().filter(|example| !example.ends_with("--help")).for_each(|example| drop(run(at, example)));
    let mut carried_out = 0;
    for command in COMMANDS {
        let examples = examples(command);
        assert!((2..=3).contains(&examples.len()), "{command}: {examples:?}");
        for example in examples {
            let words: Vec<OsString> =
                ["pullback"].into_iter().chain(example.split_whitespace()).map(Into::into).collect();
            Args::try_parse_from(&words).unwrap_or_else(|e| panic!("{example}: {e}"));
            if matches!(command, "score" | "attack") {
                requested(words).unwrap_or_else(|e| panic!("{example}: {e}"));
            }
            if CARRIED_OUT.iter().any(|begin| example.starts_with(begin)) {
                // Twenty times the suite are minutes in a test's program.
                let example = example.replace("--limit 20", "--limit 1");
                let again = if command == "merge" { "--force" } else { "" };
                run(at, &format!("{example} {again}"));
                carried_out += 1;
            }
        }
    }
    // `inspect` begins two of them alike.
    assert_eq!(carried_out, CARRIED_OUT.len() + 1);
}

#[test]
fn a_model_whose_training_was_stopped_is_named() {
    let folder = desk();
    let at = folder.path();
    let score = "score -m runs/demo/plain -d strokes --limit 4 -q --force -o runs/demo/plain/scores.h5";
    assert!(!err(&run(at, score)).contains("epochs"));
    assert!(out(&run(at, "inspect runs/demo/plain")).lines().any(|line| line == "epochs        1"));
    let config = at.join("runs/demo/plain/config.yaml");
    let text = fs::read_to_string(&config).unwrap();
    assert!(text.contains("epochs: 1\n"), "{text}");
    fs::write(&config, text.replace("epochs: 1\n", "epochs: 9\n")).unwrap();
    assert!(err(&run(at, score)).contains("runs/demo/plain: trained for 1 of 9 epochs"));
    let shown = out(&run(at, "inspect runs/demo/plain"));
    assert!(shown.lines().any(|line| line == "epochs        1 of 9"), "{shown}");
    // Names that fill their column stand apart from their numbers.
    assert!(shown.lines().any(|line| line.starts_with("  reconstruction ")), "{shown}");
}

#[test]
fn validation_on_the_samples_of_training_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let images: Vec<f32> = (0..20 * 64).map(|i| (i * 29 % 97) as f32 / 96.0).collect();
    let file = hdf5::File::create(at.join("images.h5")).unwrap();
    file.new_dataset::<f32>().shape([20, 1, 8, 8]).create("images").unwrap().write_raw(&images).unwrap();
    drop(file);
    let told = |data: &str, name: &str| {
        let rest = "model: {kind: mlp, hidden: [4], latent: 2}\ntrain: {epochs: 1, batch: 10}\n";
        fs::write(at.join("c.yaml"), format!("data: {{{data}}}\n{rest}")).unwrap();
        err(&run(at, &format!("train -c c.yaml -o {name} -q"))).contains("validation samples are those of training")
    };
    assert!(told("source: images.h5, valid: 5", "same"));
    assert!(!told("source: images.h5, valid: 0", "none"));
    assert!(!told("source: \"strokes:size=8\", limit: 20, valid: 5", "parts"));
}

/// The config of an example, with its `--set`.
fn tree(example: &str) -> Tree {
    let words: Vec<&str> = example.split_whitespace().collect();
    let mut tree = Tree::read(&root().join(words[words.iter().position(|w| *w == "-c").unwrap() + 1])).unwrap();
    for pair in words.windows(2).filter(|pair| pair[0] == "--set") {
        tree.set(pair[1]).unwrap();
    }
    tree
}

#[test]
fn configs_of_examples_are_what_they_should_be() {
    for example in examples("train") {
        RunConfig::parse(&tree(&example)).unwrap();
    }
    for example in examples("sweep") {
        SweepSpec::parse(&tree(&example)).unwrap();
    }
}

#[test]
fn completions_name_commands_and_flags() {
    let [script, zsh] = ["bash", "zsh"].map(|shell| out(&run(Path::new("."), &format!("completions {shell}"))));
    for word in ["leaderboard", "save-images", "output-stochastic", "progress"] {
        assert!(script.contains(word) && zsh.contains(word), "{word}");
    }
    let asked = format!(
        "{script}\nCOMP_WORDS=(pullback attack --sched) COMP_CWORD=2\n_pullback pullback --sched attack\necho \"${{COMPREPLY[@]}}\""
    );
    let done = std::process::Command::new("bash").args(["-c", &asked]).output().unwrap();
    assert_eq!(out(&done).trim(), "--schedule", "{}", err(&done));
    let refused = run_with(Path::new("."), "completions tcsh", &[]);
    assert_eq!(refused.status.code(), Some(2));
    assert_eq!(err(&refused).lines().count(), 1);
}

#[test]
fn a_result_that_stdout_does_not_take_is_an_error() {
    for line in ["completions bash", "--version", "--help"] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let done = program().args(line.split(' ')).stdout(full).stderr(Stdio::piped()).output().unwrap();
        assert!(
            done.status.code() == Some(1) && err(&done).contains("stdout: No space left"),
            "{line}: {}",
            err(&done)
        );
    }
}

#[test]
fn man_pages_are_of_every_command() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), "man -o man1");
    let mut pages: Vec<String> = fs::read_dir(folder.path().join("man1"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    pages.sort_unstable();
    let mut wanted: Vec<String> = COMMANDS.iter().filter(|c| **c != "man").map(|c| format!("pullback-{c}.1")).collect();
    wanted.push("pullback.1".to_owned());
    wanted.sort_unstable();
    assert_eq!(pages, wanted);
    let page = fs::read_to_string(folder.path().join("man1/pullback-score.1")).unwrap();
    for part in [".TH pullback-score 1", "\\-\\-spectrum", "Examples:", "pullback score"] {
        assert!(page.contains(part), "{part} in {page}");
    }
    let refused = run_with(folder.path(), "man -o man1", &[]);
    assert_eq!(refused.status.code(), Some(2), "{}", err(&refused));
    run(folder.path(), "man -o man1 --force");
}

#[test]
fn colour_is_for_those_who_want_it() {
    let here = Path::new(".");
    for (line, variables, coloured) in [
        ("score --help", &[][..], false),
        ("score --help", &[("CLICOLOR_FORCE", "1")][..], true),
        ("score --help", &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")][..], false),
        ("score", &[("CLICOLOR_FORCE", "1")][..], true),
        ("score", &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")][..], false),
    ] {
        let done = run_with(here, line, variables);
        let said = out(&done) + &err(&done);
        assert_eq!(said.contains('\u{1b}'), coloured, "{line} {variables:?}: {said}");
    }
}

/// The lines on stderr of a short training.
fn told(how: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let small = "data: {source: strokes, limit: 48, valid: 0}\nmodel: {kind: mlp, hidden: [4], latent: 2}\n\
                 train: {epochs: 2, batch: 16}\n";
    fs::write(folder.path().join("a.yaml"), small).unwrap();
    err(&run(folder.path(), &format!("train -c a.yaml -o run --progress {how}"))).lines().map(str::to_owned).collect()
}

#[test]
fn progress_is_shown_as_asked() {
    let json: Vec<Value> = told("json").iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let work: Vec<&Value> = json.iter().filter(|line| line["task"] == "training").collect();
    let (first, last) = (work[0], work[work.len() - 1]);
    assert_eq!((&first["phase"], &first["done"], &first["total"]), (&"running".into(), &0.into(), &6.into()));
    assert_eq!((&last["phase"], &last["done"], &last["total"]), (&"done".into(), &6.into(), &6.into()));
    assert!(last["rate"].as_f64().unwrap() > 0.0 && last["eta"].as_f64() == Some(0.0), "{last}");
    assert_eq!(work.iter().filter(|line| line["phase"] != "running").count(), 1);
    assert!(json.iter().all(|line| line["task"] == "training" || line["message"].is_string()), "{json:?}");

    let plain = told("plain");
    assert!(plain.iter().any(|line| line.starts_with("training: 6 batches in")), "{plain:?}");
    assert!(plain.iter().all(|line| !line.contains('\u{1b}')), "{plain:?}");
    assert!(!told("none").iter().any(|line| line.starts_with("training:")));
    assert!(told("none -q").is_empty());
    let bar = told("bar").join("\n");
    assert!(bar.contains("training [") && bar.contains('\u{1b}'), "{bar}");
}
