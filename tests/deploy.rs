//! The scripts of deploy/: every command of ours in them is one that the program takes, and each file is what it says.

use crate::files::root;
use clap::Parser;
use pullback::cli::args::Args;
use std::fs;
use std::process::Command;

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
}

#[test]
fn a_trimmed_program_names_no_folder_but_libtorchs() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("p");
    let text = b"\0/b/x/torch/lib\0/b/x/torch/lib/a.h\0in /b/x/src/a.c:3, -map=/b/x=.\0/b/x\0/b/xylophone\0/b/x.y\0/c/.cargo/d.rs\0";
    fs::write(&program, text).unwrap();
    let mut command = Command::new(crate::files::interpreter());
    command.arg(root().join(".ci/trim")).arg(&program).args(["/b/x/torch/lib", "/b/x", "/c/.cargo/"]);
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let trimmed = String::from_utf8(fs::read(&program).unwrap()).unwrap();
    let expected = "\0/b/x/torch/lib\0/non/torch/lib/a.h\0in /non/src/a.c:3, -map=/non=.\0/non\0/b/xylophone\0/b/x.y\0/nonexist/d.rs\0";
    assert_eq!(trimmed, expected);
}
