//! The scripts of deploy/: every command of ours in them is one that the program takes, and each file is what it says.

use crate::child;
use crate::files::{binary, on_cpu, program, root};
use clap::Parser;
use pullback::cli::args::Args;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

fn file(name: &str) -> String {
    fs::read_to_string(root().join("deploy").join(name)).unwrap()
}

/// A line of a shell as words, its variables replaced by a name; up to what ends a command.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for word in line.split_whitespace() {
        match word {
            "#" | "|" | ">" | "&&" | "||" => break,
            _ => words.push(if word.contains('$') { "name.h5".to_owned() } else { word.replace(['"', '\''], "") }),
        }
    }
    words
}

/// Every command of ours in a text: what stands after the word `pullback` where it begins a command.
fn commands(text: &str) -> Vec<Vec<String>> {
    let joined = text.replace("\\\n", " ");
    let lines = joined.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let after = |line: &str| {
        let words = words(line);
        let at = words.iter().position(|word| word == "pullback")?;
        let before = &words[..at];
        let launched = before.first().is_none_or(|w| ["srun", "mpirun", "torchrun", "step"].contains(&w.as_str()));
        launched.then(|| words[at..].to_vec())
    };
    lines.filter_map(after).collect()
}

fn parses(command: &[String]) {
    Args::try_parse_from(command).unwrap_or_else(|e| panic!("{command:?}: {e}"));
}

#[test]
fn commands_of_scripts_and_documents_are_commands() {
    let mut count = 0;
    for name in
        ["deploy/slurm.sbatch", "deploy/slurm-merge.sbatch", "deploy/README.md", "docs/cluster.md", "docs/terminal.md"]
    {
        let text = fs::read_to_string(root().join(name)).unwrap();
        let found = commands(&text);
        assert!(!found.is_empty(), "{name}");
        for command in found.iter().filter(|command| command.get(1).is_some_and(|word| word != "COMMAND")) {
            parses(command);
            count += 1;
        }
    }
    assert!(count > 15, "{count}");
    // The reader finds what is wrong.
    let wrong = commands("srun -n 2 pullback score -m a -d b -o c --shards 3");
    assert!(Args::try_parse_from(&wrong[0]).is_err());
}

#[test]
fn scripts_are_bashs() {
    for name in ["slurm.sbatch", "slurm-merge.sbatch"] {
        let done = Command::new("bash").arg("-n").arg(root().join("deploy").join(name)).output().unwrap();
        assert!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr));
    }
    let script = file("slurm.sbatch");
    let parts = |key: &str| script.lines().find_map(|line| line.trim().strip_prefix(key)).unwrap().trim();
    // As many parts as tasks.
    assert_eq!(parts("#SBATCH --array="), "0-7");
    assert_eq!(parts("export PULLBACK_SHARDS="), "${PULLBACK_SHARDS:-8}");
}

#[test]
fn another_command_is_another_step() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    // Writes down what it is asked, and does nothing.
    fs::write(at.join("srun"), "#!/bin/sh\necho \"$@\" >> asked\n").unwrap();
    fs::set_permissions(at.join("srun"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let asked = |model: &str, parts: &str| {
        let path = format!("{}:{}", at.display(), std::env::var("PATH").unwrap());
        let mut script = Command::new("bash");
        script.arg(root().join("deploy/slurm.sbatch")).current_dir(at).env("PATH", path);
        script.envs([("MODEL", model), ("PULLBACK_SHARDS", parts), ("SLURM_ARRAY_TASK_ID", "0")]);
        assert!(script.status().unwrap().success());
        fs::read_to_string(at.join("asked")).unwrap().lines().count()
    };
    // A score and an attack; nothing when it is queued again.
    assert_eq!([asked("a.pt", "8"), asked("a.pt", "8")], [2, 2]);
    assert_eq!([asked("b.pt", "8"), asked("a.pt", "4")], [4, 6]);
}

/// The documents of a YAML file.
fn documents(text: &str) -> Vec<serde_json::Value> {
    use serde::Deserialize;
    serde_yaml::Deserializer::from_str(text).map(|d| serde_json::Value::deserialize(d).unwrap()).collect()
}

fn list(value: &serde_json::Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_indexed_job_names_its_parts() {
    let jobs = documents(&file("kubernetes.yaml"));
    assert_eq!(jobs.len(), 2);
    let (score, merge) = (&jobs[0]["spec"], &jobs[1]["spec"]);
    assert_eq!((&score["completionMode"], &merge["suspend"]), (&"Indexed".into(), &true.into()));
    let container = &score["template"]["spec"]["containers"][0];
    assert_eq!(container["env"][0]["name"], "PULLBACK_SHARDS");
    assert_eq!(container["env"][0]["value"], score["completions"].to_string().as_str());
    let mut line = vec!["pullback".to_owned()];
    line.extend(list(&container["args"]));
    parses(&line);
    let shell = merge["template"]["spec"]["containers"][0]["args"][0].as_str().unwrap();
    parses(&commands(shell)[0]);
}

#[test]
fn the_services_of_compose_are_commands_within_limits() {
    let compose = &documents(&file("compose.yaml"))[0];
    for (name, service) in compose["services"].as_object().unwrap() {
        let mut line = vec!["pullback".to_owned()];
        line.extend(list(&service["command"]).into_iter().map(|w| if w.contains('$') { "name".to_owned() } else { w }));
        parses(&line);
        assert_eq!(&line[1], name);
    }
    let all = &compose["x-pullback"];
    assert_eq!((&all["network_mode"], &all["read_only"]), (&"none".into(), &true.into()));
    // What is typed before the command must reach it: a shell may have a variable of the name that nobody can assign, as bash has UID.
    let user = all["user"].as_str().and_then(|user| user.strip_prefix("${")?.split(':').next()).unwrap();
    for text in [file("compose.yaml"), file("README.md")] {
        let line = text.lines().find(|line| line.contains("docker compose")).unwrap().trim_start_matches(['#', ' ']);
        let typed = line.split("docker").next().unwrap();
        let told = Command::new("bash").args(["-c", &format!("{typed} env")]).output().unwrap();
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        assert!(told.lines().any(|line| line.starts_with(&format!("{user}="))), "{typed}: {user} is not told");
    }
}

#[test]
fn a_trimmed_program_names_no_folder_but_libtorchs() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("p");
    let text = b"\0/b/x/torch/lib\0/b/x/torch/lib/a.h\0in /b/x/src/a.c:3, -map=/b/x=.\0/b/x\0/b/xylophone\0/b/x.y\0/c/.cargo/d.rs\0";
    fs::write(&program, text).unwrap();
    let trim = |flags: &[&str]| {
        let mut command = Command::new(crate::files::interpreter());
        command.arg(root().join(".ci/trim")).args(flags).arg(&program);
        let done = command.args(["/b/x/torch/lib", "/b/x", "/c/.cargo/"]).output().unwrap();
        (done.status.success(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    let (clean, said) = trim(&["--check"]);
    assert!(!clean && said.contains("/c/.cargo/d.rs") && said.contains("paths of this machine"), "{said}");
    let (done, said) = trim(&[]);
    assert!(done, "{said}");
    assert_eq!(trim(&["--check"]), (true, String::new()));
    let trimmed = String::from_utf8(fs::read(&program).unwrap()).unwrap();
    let expected = "\0/b/x/torch/lib\0/non/torch/lib/a.h\0in /non/src/a.c:3, -map=/non=.\0/non\0/b/xylophone\0/b/x.y\0/nonexist/d.rs\0";
    assert_eq!(trimmed, expected);
}

#[test]
fn the_label_of_the_image_is_the_version_of_the_program() {
    let text = fs::read_to_string(root().join("Dockerfile")).unwrap();
    let named = |key: &str| -> Vec<String> {
        let label = format!("org.opencontainers.image.{key}=\"");
        let after = text.split(&label).skip(1);
        after.map(|rest| rest.split('"').next().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(named("version"), [env!("CARGO_PKG_VERSION")]);
    assert_eq!((named("source"), named("revision")), (vec!["${SOURCE}".to_owned()], vec!["${REVISION}".to_owned()]));
}

/// A program that this machine may have, beside the interpreter or on PATH.
fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut all: Vec<PathBuf> = vec![crate::files::interpreter().with_file_name(name)];
    all.extend(std::env::split_paths(&path).map(|folder| folder.join(name)));
    all.into_iter().find(|file| file.is_file())
}

#[test]
fn the_jobs_have_no_key_that_kubernetes_does_not_know() {
    let Some(validate) = tool("kubernetes-validate") else {
        println!("skipped: kubernetes-validate is not here (.venv/bin/python -m pip install kubernetes-validate)");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let accepted = |text: &str| {
        let at = folder.path().join("jobs.yaml");
        fs::write(&at, text).unwrap();
        let done = Command::new(&validate).arg("--strict").arg(&at).output().unwrap();
        let said = [done.stdout, done.stderr].concat();
        (done.status.success(), String::from_utf8_lossy(&said).into_owned())
    };
    let jobs = file("kubernetes.yaml");
    let (good, said) = accepted(&jobs);
    assert!(good, "{said}");
    let misspelt = jobs.replace("backoffLimitPerIndex", "backoffLimitPerindex");
    assert!(misspelt != jobs && !accepted(&misspelt).0, "a misspelt key passes");
}

/// A launcher for two processes, its arguments and the variables that it needs where root starts it.
type Launcher = (&'static str, &'static [&'static str], &'static [(&'static str, &'static str)]);

const LAUNCHERS: [Launcher; 2] = [
    (
        "mpirun",
        &["-n", "2", "--oversubscribe"],
        &[("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")],
    ),
    ("torchrun", &["--standalone", "--no-python", "--nproc-per-node", "2"], &[]),
];

#[test]
fn launchers_divide_a_run_whose_parts_are_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let yaml = "data: {source: strokes, limit: 8}\nmodel: {kind: mlp, hidden: [4], latent: 2}\ntrain: {epochs: 1}\n";
    fs::write(at.join("a.yaml"), yaml).unwrap();
    let line = "score -m run -d strokes --limit 32 --batch 1 --precision f64 -q -o".split(' ');
    let succeeds = |command: &mut Command, what: &str| {
        command.current_dir(at).env("OMP_NUM_THREADS", "1");
        let done = child::within(Duration::from_secs(120), command).unwrap_or_else(|| panic!("{what} hangs"));
        assert!(done.status.success(), "{what}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let found = |name: &str| {
        let reader = pullback::store::Reader::open(&at.join(name)).unwrap();
        reader.read_f64("/spectrum/eigenvalues").unwrap().1
    };
    succeeds(program().args("train -c a.yaml -o run -q".split(' ')), "training");
    succeeds(program().args(line.clone()).arg("whole.h5"), "a single run");
    let whole = found("whole.h5");
    for (name, args, variables) in LAUNCHERS {
        let Some(launcher) = tool(name) else {
            println!("skipped: {name} is not here");
            continue;
        };
        let mut launched = Command::new(launcher);
        launched.args(args).arg(binary()).args(line.clone()).arg(format!("{name}.h5"));
        succeeds(on_cpu(&mut launched).envs(variables.iter().copied()), name);
        let parts = fs::read_dir(at).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut parts: Vec<String> = parts.filter(|part| part.starts_with(&format!("{name}.shard-"))).collect();
        parts.sort();
        assert!(parts.len() > 1, "{name}: {parts:?}");
        succeeds(program().arg("merge").args(&parts).args(["-o", &format!("{name}.h5")]), name);
        let joined = found(&format!("{name}.h5"));
        let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-9 * b.abs().max(1.0);
        assert!(joined.len() == whole.len() && joined.iter().zip(&whole).all(near), "{name}: {joined:?} {whole:?}");
    }
}
