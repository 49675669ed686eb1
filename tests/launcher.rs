//! The part of a run that launchers give: their variables as they set them, and the parts against the whole.

use crate::files::program;
use pullback::Error;
use pullback::config::launcher::{Launch, find};
use pullback::config::{HandOut, Shard};
use pullback::store::{Reader, Values};
use std::path::Path;
use std::process::{Output, Stdio};

/// `NAME=value NAME=value` as an environment; `TERMINAL=yes` stands for one.
fn launch(environment: &str) -> Result<Launch, Error> {
    let variables: Vec<(&str, &str)> = environment.split_whitespace().map(|v| v.split_once('=').unwrap()).collect();
    let variable = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
    find(variable, variable("TERMINAL").is_some())
}

/// What several copies are given: the environment, the part, who says it, the number on the machine.
const GIVEN: &[(&str, &str, &str, Option<usize>)] = &[
    ("RANK=3 WORLD_SIZE=8 LOCAL_RANK=1 TORCHELASTIC_RUN_ID=none", "4/8", "torchrun", Some(1)),
    ("RANK=0 WORLD_SIZE=2", "1/2", "torchrun", None),
    (
        "OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_LOCAL_RANK=1 PMIX_RANK=1",
        "2/2",
        "Open MPI",
        Some(1),
    ),
    ("PMI_RANK=2 PMI_SIZE=3 MPI_LOCALRANKID=0", "3/3", "PMI", Some(0)),
    ("SLURM_STEP_ID=0 SLURM_PROCID=5 SLURM_NTASKS=6 SLURM_LOCALID=2", "6/6", "srun", Some(2)),
    // `srun -n 2` in a job of four tasks.
    ("SLURM_STEP_ID=3 SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=2 SLURM_NTASKS=4 SLURM_LOCALID=1", "2/2", "srun", Some(1)),
    // `srun` in the shell of `srun --pty`.
    ("SLURM_STEP_ID=2 SLURM_PTY_PORT=4711 SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=2", "2/2", "srun", None),
    // --array=0-3, --array=1-8, --array=2-10:4.
    (
        "SLURM_ARRAY_TASK_ID=0 SLURM_ARRAY_TASK_MIN=0 SLURM_ARRAY_TASK_MAX=3 SLURM_ARRAY_TASK_COUNT=4",
        "1/4",
        "the job array",
        None,
    ),
    (
        "SLURM_ARRAY_TASK_ID=8 SLURM_ARRAY_TASK_MIN=1 SLURM_ARRAY_TASK_MAX=8 SLURM_ARRAY_TASK_COUNT=8 SLURM_ARRAY_TASK_STEP=1",
        "8/8",
        "the job array",
        None,
    ),
    (
        "SLURM_ARRAY_TASK_ID=6 SLURM_ARRAY_TASK_MIN=2 SLURM_ARRAY_TASK_MAX=10 SLURM_ARRAY_TASK_COUNT=3 SLURM_ARRAY_TASK_STEP=4",
        "2/3",
        "the job array",
        None,
    ),
    // One task of eight again.
    (
        "SLURM_ARRAY_TASK_ID=5 SLURM_ARRAY_TASK_MIN=5 SLURM_ARRAY_TASK_MAX=5 SLURM_ARRAY_TASK_COUNT=1 PULLBACK_SHARDS=8",
        "6/8",
        "the job array",
        None,
    ),
    ("JOB_COMPLETION_INDEX=2 PULLBACK_SHARDS=5", "3/5", "the Indexed Job", None),
    // In the batch script of an array task SLURM_PROCID is 0, and of no step.
    (
        "SLURM_PROCID=0 SLURM_NTASKS=1 SLURM_ARRAY_TASK_ID=1 SLURM_ARRAY_TASK_MIN=0 SLURM_ARRAY_TASK_MAX=1 SLURM_ARRAY_TASK_COUNT=2",
        "2/2",
        "the job array",
        None,
    ),
    // The innermost counts: mpirun of four over two nodes' srun; torchrun in the pods of an Indexed Job.
    (
        "SLURM_STEP_ID=0 SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=2 OMPI_COMM_WORLD_RANK=3 OMPI_COMM_WORLD_SIZE=4",
        "4/4",
        "Open MPI",
        None,
    ),
    ("RANK=3 WORLD_SIZE=4 LOCAL_RANK=1 JOB_COMPLETION_INDEX=1 PULLBACK_SHARDS=2", "4/4", "torchrun", Some(1)),
    // A launcher of one process says nothing, whatever is around it does.
    ("RANK=0 WORLD_SIZE=1 SLURM_STEP_ID=0 SLURM_PROCID=1 SLURM_NTASKS=2", "2/2", "srun", None),
];

#[test]
fn copies_have_the_part_that_their_launcher_gives() {
    for (environment, part, launcher, local) in GIVEN {
        let share = launch(environment).unwrap().share.unwrap_or_else(|| panic!("{environment}: no part"));
        assert_eq!(
            (share.shard.to_string().as_str(), share.launcher, share.local),
            (*part, *launcher, *local),
            "{environment}"
        );
    }
}

/// What is a single run, and a word of the reason that is told.
const ALONE: &[(&str, &str)] = &[
    ("", ""),
    ("HOME=/ RANK=3 LOCAL_RANK=1", ""),
    ("RANK=0 WORLD_SIZE=1 LOCAL_RANK=0", "only rank"),
    ("RANK=4 WORLD_SIZE=4", "below the size"),
    ("RANK=gold WORLD_SIZE=4", "no numbers"),
    ("RANK=-1 WORLD_SIZE=4", "no numbers"),
    // sbatch --ntasks=4, the program without srun.
    ("SLURM_PROCID=0 SLURM_NTASKS=4 SLURM_LOCALID=0 SLURM_JOB_ID=7", "not of srun"),
    // The shell of salloc: on the node of the login, and in a step of its own.
    ("SLURM_NTASKS=4 SLURM_JOB_ID=7 SLURM_NPROCS=4", ""),
    ("SLURM_STEP_ID=4294967290 SLURM_PROCID=0 SLURM_NTASKS=4 SLURM_STEP_NUM_TASKS=4", "of a shell"),
    (
        "TERMINAL=yes SLURM_STEP_ID=0 SLURM_PTY_PORT=4711 SLURM_PROCID=0 SLURM_NTASKS=4 SLURM_STEP_NUM_TASKS=4",
        "srun --pty",
    ),
    ("SLURM_STEP_ID=0 SLURM_PROCID=0 SLURM_NTASKS=1", "only rank"),
    (
        "SLURM_ARRAY_TASK_ID=5 SLURM_ARRAY_TASK_MIN=5 SLURM_ARRAY_TASK_MAX=5 SLURM_ARRAY_TASK_COUNT=1",
        "only task of its array",
    ),
    // --array=1,2,9.
    (
        "SLURM_ARRAY_TASK_ID=9 SLURM_ARRAY_TASK_MIN=1 SLURM_ARRAY_TASK_MAX=9 SLURM_ARRAY_TASK_COUNT=3 SLURM_ARRAY_TASK_STEP=1",
        "gaps",
    ),
    ("SLURM_ARRAY_TASK_ID=9", "bounds"),
    ("JOB_COMPLETION_INDEX=2", "PULLBACK_SHARDS"),
    ("JOB_COMPLETION_INDEX=0 PULLBACK_SHARDS=1", "only part"),
];

#[test]
fn what_says_nothing_of_ranks_is_a_single_run() {
    for (environment, why) in ALONE {
        let launch = launch(environment).unwrap();
        assert_eq!(launch.share, None, "{environment}");
        assert_eq!(launch.ignored.is_empty(), why.is_empty(), "{environment}: {:?}", launch.ignored);
        assert!(launch.ignored.iter().all(|line| line.contains(why)), "{environment}: {:?}", launch.ignored);
    }
}

#[test]
fn launchers_that_disagree_are_told() {
    let nested = "SLURM_STEP_ID=0 SLURM_PROCID=1 SLURM_NTASKS=2 RANK=2 WORLD_SIZE=4";
    let told = launch(nested).unwrap().ignored.join("; ");
    assert!(told.contains("2/2 by srun") && told.contains("torchrun"), "{told}");
    // srun --mpi=pmi2 sets both, and they agree.
    let both = "SLURM_STEP_ID=0 SLURM_PROCID=1 SLURM_NTASKS=2 PMI_RANK=1 PMI_SIZE=2";
    assert!(launch(both).unwrap().ignored.is_empty());
}

#[test]
fn a_wrong_number_of_shards_is_a_wrong_request() {
    for environment in [
        "PULLBACK_SHARDS=many JOB_COMPLETION_INDEX=0",
        "PULLBACK_SHARDS=0 JOB_COMPLETION_INDEX=0",
        "PULLBACK_SHARDS=4 JOB_COMPLETION_INDEX=4",
        "PULLBACK_SHARDS=4 SLURM_ARRAY_TASK_ID=7",
        "PULLBACK_SHARDS=4",
    ] {
        let error = launch(environment).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains("PULLBACK_SHARDS"), "{environment}: {error}");
    }
}

#[test]
fn ranks_ask_for_parts_from_their_own_places() {
    let order = |hand: HandOut, total, begun| -> String {
        let parts = hand.order(total, begun);
        assert!(parts.iter().all(|shard| shard.of == parts.len()), "{parts:?}");
        parts.iter().map(|shard| shard.part.to_string()).collect::<Vec<_>>().join(" ")
    };
    let second = Shard { part: 2, of: 2 };
    assert_eq!(HandOut::among(second).order(10_000, None).len(), 32);
    // Eight samples in a part at least, and each part once.
    assert_eq!(order(HandOut::among(second), 50, None), "4 5 6 7 1 2 3");
    assert_eq!(order(HandOut::any(3, None), 50, None), "1 2 3");
    assert_eq!(order(HandOut::any(64, None), 2, None), "1 2");
    // Other ranks go on with the parts that are there, unless these are too few for them; named parts are what they are.
    assert_eq!(HandOut::among(Shard { part: 1, of: 4 }).order(10_000, Some(32)).len(), 32);
    assert_eq!(HandOut::among(Shard { part: 1, of: 4 }).order(10_000, Some(2)).len(), 64);
    assert_eq!(HandOut::any(3, None).order(10_000, Some(32)).len(), 3);
    assert!(HandOut::Fixed.order(10, None).is_empty());
    let of = |file: &str| Shard::of_file(Path::new("out/a.b.h5"), Path::new(file));
    assert_eq!(of("out/a.b.shard-03-of-16.h5"), Some(16));
    assert_eq!(of("out/a.b.shard-03-of-16.h5.partial"), Some(16));
    for other in ["a.b.h5", "a.shard-1-of-2.h5", "a.b.shard-3-of-16.h5", "a.b.shard-1-of-2.png", "a.b.shard-x-of-2.h5"]
    {
        assert_eq!(of(other), None, "{other}");
    }
}

#[test]
fn files_of_parts_sort_by_their_numbers() {
    let file = |part, of, whole: &str| Shard { part, of }.file(Path::new(whole)).display().to_string();
    assert_eq!(file(3, 16, "out/scores.h5"), "out/scores.shard-03-of-16.h5");
    assert_eq!(file(1, 2, "png"), "png.shard-1-of-2");
    // Each place in one part, whatever the numbers; a part may be empty.
    for (total, of) in [(10, 3), (2, 5), (7, 7), (0, 2)] {
        let places: Vec<usize> = (1..=of).flat_map(|part| Shard { part, of }.range(total)).collect();
        assert_eq!(places, (0..total).collect::<Vec<_>>(), "{total} in {of}");
    }
}

/// Runs a line with the variables of a launcher.
fn run(at: &Path, line: &str, environment: &str) -> Output {
    let mut command = program();
    command.args(line.split_whitespace()).current_dir(at).stdin(Stdio::null()).env("OMP_NUM_THREADS", "1");
    command.envs(environment.split_whitespace().map(|v| v.split_once('=').unwrap()));
    command.output().unwrap()
}

fn said(done: &Output) -> String {
    String::from_utf8_lossy(&done.stderr).into_owned()
}

fn succeeds(at: &Path, line: &str, environment: &str) -> String {
    let done = run(at, line, environment);
    assert!(done.status.success(), "{line}: {}", said(&done));
    said(&done)
}

/// Every number of a result file but the checksums.
fn contents(file: &Path) -> Vec<(String, Vec<u64>)> {
    let reader = Reader::open(file).unwrap();
    let paths = reader.datasets().iter().map(|d| d.path.clone()).filter(|path| !path.contains("checksum"));
    let bits = |values: Values| -> Vec<u64> {
        match values {
            Values::F64(v) => v.into_iter().map(f64::to_bits).collect(),
            Values::F32(v) => v.into_iter().map(|x| u64::from(x.to_bits())).collect(),
            Values::I64(v) => v.into_iter().map(|x| x as u64).collect(),
            Values::U8(v) => v.into_iter().map(u64::from).collect(),
        }
    };
    paths.map(|path| (path.clone(), bits(reader.read(&path).unwrap().values))).collect()
}

#[test]
fn ranks_write_the_parts_of_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let small = "data: {source: strokes, limit: 48, valid: 0}\nmodel: {kind: mlp, hidden: [12], latent: 3}\n\
                 train: {epochs: 1, batch: 16}\n";
    std::fs::write(at.join("a.yaml"), small).unwrap();
    succeeds(at, "train -c a.yaml -o run -q", "");
    // The planner's own choice of a batch depends on the clock.
    let line = "score -m run -d strokes --limit 3 --batch 1 -o s.h5";
    // A launcher of this test's own is not asked.
    succeeds(at, &format!("{line} --shard none -q"), "RANK=1 WORLD_SIZE=2");
    for rank in 0..4 {
        let rank = format!("OMPI_COMM_WORLD_RANK={rank} OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_LOCAL_RANK={rank}");
        let told = succeeds(at, &format!("{line} --shard rank"), &rank);
        assert!(told.contains("/4 of the samples, by Open MPI: s.shard-"), "{told}");
    }
    // Three samples for four ranks: the one without any has ended well, and has no file.
    let parts: Vec<String> = (1..=4).map(|part| format!("s.shard-{part}-of-4.h5")).collect();
    let there: Vec<&str> = parts.iter().map(String::as_str).filter(|part| at.join(part).exists()).collect();
    assert_eq!(there.len(), 3, "{there:?}");
    succeeds(at, &format!("merge {} -o merged.h5", there.join(" ")), "");
    assert_eq!(contents(&at.join("merged.h5")), contents(&at.join("s.h5")));
    // What is typed wins; without srun, a batch script's variables are no rank's, and -v says so.
    let named = succeeds(at, &line.replace("s.h5", "t.h5 --shard 1/3"), "RANK=1 WORLD_SIZE=2");
    assert!(at.join("t.h5").exists() && !named.contains("torchrun"), "{named}");
    let batch = "SLURM_JOB_ID=1 SLURM_PROCID=0 SLURM_NTASKS=4";
    let alone = succeeds(at, &line.replace("s.h5", "u.h5 -v"), batch);
    assert!(at.join("u.h5").exists() && alone.contains("not of srun"), "{alone}");
    let wrong = run(at, &line.replace("s.h5", "v.h5"), "JOB_COMPLETION_INDEX=9 PULLBACK_SHARDS=4");
    assert_eq!((wrong.status.code(), said(&wrong).lines().count()), (Some(2), 1), "{}", said(&wrong));
    // Pictures have a folder each, and their ranks fixed parts.
    let attack = "attack -m run -d strokes --limit 2 --attack random --eps 1 -o a.h5 --save-png png -q";
    for rank in ["RANK=0 WORLD_SIZE=2", "RANK=1 WORLD_SIZE=2"] {
        succeeds(at, attack, rank);
    }
    succeeds(at, "merge a.shard-1-of-2.h5 a.shard-2-of-2.h5 -o a.h5", "");
    assert!(at.join("png.shard-2-of-2/random/eps-1/000001.png").exists());
}

/// Files of the parts in a folder, finished or not.
fn parts(at: &Path) -> Vec<String> {
    let names = std::fs::read_dir(at).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.contains(".shard-")).collect();
    names.sort();
    names
}

#[test]
fn ranks_take_parts_in_turn_and_go_on_with_those_of_the_dead() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let small = "data: {source: strokes, limit: 48, valid: 0}\nmodel: {kind: mlp, hidden: [12], latent: 3}\n\
                 train: {epochs: 1, batch: 16}\n";
    std::fs::write(at.join("a.yaml"), small).unwrap();
    succeeds(at, "train -c a.yaml -o run -q", "");
    let line = "score -m run -d strokes --limit 60 --batch 1 -o s.h5";
    succeeds(at, &format!("{line} --shard none -q"), "");
    std::fs::rename(at.join("s.h5"), at.join("whole.h5")).unwrap();
    // A rank alone does everything, because the other does not come; eight parts of at least eight samples.
    let ranks = ["RANK=0 WORLD_SIZE=2", "RANK=1 WORLD_SIZE=2"];
    let told = succeeds(at, line, ranks[1]);
    assert!(told.contains("rank 2/2 by torchrun") && told.contains("8 of 8 parts done here, all are done"), "{told}");
    let all = parts(at);
    assert_eq!(all.len(), 8, "{all:?}");
    let merged = |name: &str| {
        succeeds(at, &format!("merge {} -o {name}", parts(at).join(" ")), "");
        assert_eq!(contents(&at.join(name)), contents(&at.join("whole.h5")), "{name}");
    };
    merged("one.h5");
    // Nothing is left, and nothing is done twice; a part of another run is no part of this one.
    let again = succeeds(at, line, ranks[0]);
    assert!(again.contains("0 of 8 parts done here, all are done"), "{again}");
    let other = run(at, &line.replace("--batch", "--metric mean --batch"), ranks[0]);
    let said = said(&other);
    assert_eq!((other.status.code(), said.lines().count()), (Some(2), 2), "{said}");
    assert!(
        said.contains("s.shard-1-of-8.h5: expected a part of this run") && said.contains("metric differs"),
        "{said}"
    );
    // What a rank had when it died, and what it had begun, others go on with: three parts are lost, of one of them half was done.
    for lost in &all[2..5] {
        std::fs::remove_file(at.join(lost)).unwrap();
    }
    let held = at.join(format!("{}.partial", all[3]));
    std::fs::write(&held, b"").unwrap();
    let lock = pullback::lock::Lock::of(std::fs::File::options().write(true).open(&held).unwrap()).unwrap();
    let told = succeeds(at, line, ranks[0]);
    assert!(told.contains("2 of 8 parts done here, another process has the last one"), "{told}");
    drop(lock);
    // By more ranks than before, and by whoever comes without any.
    let told = succeeds(at, line, "RANK=3 WORLD_SIZE=4");
    assert!(told.contains("1 of 8 parts done here, all are done"), "{told}");
    merged("two.h5");
    for lost in &all[..5] {
        std::fs::remove_file(at.join(lost)).unwrap();
    }
    // What lies at the output is not theirs, and no table of it ends their work.
    std::fs::copy(at.join("two.h5"), at.join("s.h5")).unwrap();
    let parts = run(at, &format!("{line} --shard any/8"), "");
    let told = self::said(&parts);
    std::fs::remove_file(at.join("s.h5")).unwrap();
    assert!(parts.status.success() && told.contains("5 of 8 parts done here") && parts.stdout.is_empty(), "{told}");
    merged("three.h5");
    // An overlap is refused as ever, and so is a request to overwrite what others do.
    succeeds(at, &format!("{line} --shard 1/2 -q"), "");
    let both = run(at, &format!("merge s.h5 {} -o four.h5", all[0]), "");
    assert!(both.status.code() == Some(2) && self::said(&both).contains("in one shard only"), "{}", self::said(&both));
    let forced = run(at, &format!("{line} --shard any/8 --force"), "");
    assert!(forced.status.code() == Some(2) && self::said(&forced).contains("--force"), "{}", self::said(&forced));
    let alone = run(at, &format!("{line} --shard rank"), "");
    assert!(alone.status.code() == Some(2) && self::said(&alone).contains("--shard rank"), "{}", self::said(&alone));
}
