//! What is around a run and is none of its business: the clock, the locale, the umask, the working directory, a reader that goes away, a
//! folder that is moved meanwhile.

use crate::child;
use crate::files::{ONE_MODEL, binary, on_cpu, program};
use crate::killed::files::same;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const CONFIG: &str = "\
data: {source: strokes, limit: 32, valid: 8}
model: {kind: mlp, hidden: [12], latent: 3}
train: {epochs: 2, batch: 16}
";

/// The jobs, with absolute paths: `{d}` is the desk, `{o}` the folder of the results.
const JOBS: [&str; 4] = [
    "train -c {d}/a.yaml -o {o}/run --threads 1 -q",
    "score -m {d}/model -d strokes --limit 6 --precision f64 --batch 2 --top 1 -o {o}/s.h5 --threads 1 -q",
    "attack -m {d}/model -d strokes --limit 4 --attack random,pgd --steps 3 --eps 0.5,1 --precision f64 --batch 2 \
     -o {o}/a.h5 --threads 1 -q",
    "sweep -c {d}/sweep.yaml -o {o}/sweep --threads 1 -q",
];

fn line(job: &str, desk: &Path, output: &str) -> Vec<String> {
    let job = job.replace("{o}", &desk.join(output).display().to_string()).replace("{d}", &desk.display().to_string());
    job.split_whitespace().map(str::to_owned).collect()
}

fn stderr(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

fn within(command: &mut Command) -> Output {
    child::within(Duration::from_secs(120), command).unwrap_or_else(|| panic!("{command:?} hangs"))
}

fn succeeds(command: &mut Command) {
    let out = within(command);
    assert!(out.status.success(), "{command:?}: {:?} {}", out.status, stderr(&out));
}

/// A folder with a model, `model`.
fn desk() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.yaml"), CONFIG).unwrap();
    std::fs::write(folder.path().join("sweep.yaml"), ONE_MODEL).unwrap();
    succeeds(program().args(line("train -c {d}/a.yaml -o {o} -q", folder.path(), "model")));
    folder
}

/// The jobs into a new folder of the desk, each by a shell that `before` prepares, in the working directory `cwd`.
fn done(desk: &Path, name: &str, before: &str, cwd: &Path, variables: &[(&str, String)]) -> PathBuf {
    let output = desk.join(name);
    std::fs::create_dir(&output).unwrap();
    std::fs::set_permissions(&output, std::fs::Permissions::from_mode(0o755)).unwrap();
    for job in JOBS {
        let mut command = Command::new("bash");
        command.args(["-c", &format!("{before}; exec \"$0\" \"$@\"")]).arg(binary()).args(line(job, desk, name));
        on_cpu(&mut command).current_dir(cwd).env("OMP_NUM_THREADS", "1").envs(variables.iter().cloned());
        succeeds(&mut command);
    }
    output
}

/// A clock that jumps by years, forth and back, with every look at it. What measures time spans is left alone.
const CLOCK: &str = "
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>
static time_t jump(void) { static unsigned n = 3; return (n++ % 2 ? -1 : 1) * (time_t)(n % 7) * 50000000; }
int clock_gettime(clockid_t id, struct timespec* t) {
    static int (*real)(clockid_t, struct timespec*);
    if (!real) *(void**)&real = dlsym(RTLD_NEXT, \"clock_gettime\");
    int code = real(id, t);
    if (id == CLOCK_REALTIME) t->tv_sec += jump();
    return code;
}
time_t time(time_t* t) { struct timespec now; clock_gettime(CLOCK_REALTIME, &now); if (t) *t = now.tv_sec; return now.tv_sec; }
int gettimeofday(struct timeval* t, void* z) {
    struct timespec now; clock_gettime(CLOCK_REALTIME, &now); t->tv_sec = now.tv_sec; t->tv_usec = now.tv_nsec / 1000; return 0;
}
";

/// The variables of a German locale, whose numbers have a comma: one of the machine's, or one made below `at`; none, and a line that says so,
/// where there is neither.
fn german(at: &Path) -> Option<Vec<(&'static str, String)>> {
    let mut variables: Vec<_> =
        [("LC_ALL", "de_DE.UTF-8"), ("LANG", "de_DE.UTF-8"), ("LANGUAGE", "de")].map(|(k, v)| (k, v.to_owned())).into();
    let takes = |variables: &[(&'static str, String)]| {
        let told = Command::new("locale").arg("decimal_point").envs(variables.iter().cloned()).output();
        told.is_ok_and(|told| told.stdout.trim_ascii() == b",")
    };
    if takes(&variables) {
        return Some(variables);
    }
    let folder = at.join("locales");
    std::fs::create_dir(&folder).unwrap();
    // It warns of what a locale lacks, which is no failure.
    let _ = Command::new("localedef").args(["-i", "de_DE", "-f", "UTF-8"]).arg(folder.join("de_DE.UTF-8")).output();
    variables.push(("LOCPATH", folder.display().to_string()));
    if takes(&variables) {
        return Some(variables);
    }
    println!("locale: skipped, there is no de_DE.UTF-8 and localedef makes none");
    None
}

#[test]
fn clock_locale_umask_and_working_directory_change_nothing() {
    let folder = desk();
    let at = folder.path();
    let whole = done(at, "whole", "umask 022", at, &[]);
    let clock = at.join("clock.so");
    std::fs::write(at.join("clock.c"), CLOCK).unwrap();
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-o"]).args([&clock, &at.join("clock.c")]).arg("-ldl");
    assert!(cc.status().unwrap().success());
    let preload = [("LD_PRELOAD", clock.display().to_string()), ("TZ", "Pacific/Kiritimati".to_owned())];
    let german = german(at).unwrap_or_default();
    // Two at a time, for each is a whole run; in the second nobody can write in the working folder, root included.
    let cases = [("private", "umask 077", at, &preload[..]), ("elsewhere", ":", Path::new("/proc"), &german[..])];
    for (name, before, cwd, variables) in cases {
        let output = done(at, name, before, cwd, variables);
        assert_eq!(same(&whole, &output), None, "{name}");
    }
    // The clock did jump.
    let year = |date: &mut Command| String::from_utf8(date.arg("+%Y").output().unwrap().stdout).unwrap();
    assert_ne!(year(&mut Command::new("date")), year(Command::new("date").env("LD_PRELOAD", &clock)));
    // Nobody else reads what a private umask makes.
    for file in ["run/model.safetensors", "run/history.csv", "run/config.yaml", "s.h5", "a.h5", "sweep/sweep.h5"] {
        let mode = |folder: &Path| folder.join(file).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&at.join("private")), mode(&whole)), (0o600, 0o644), "{file}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let folder = desk();
    let at = folder.path();
    let lines = [
        "score --help",
        "inspect model",
        "score -m model -d strokes --limit 6 -o {n}.h5 --progress json -v",
        "score -m nothing -d strokes -o {n}.h5",
    ];
    for (n, line) in lines.iter().enumerate() {
        let wanted = if line.contains("nothing") { 2 } else { 0 };
        // Pipes without a reader, and no streams at all.
        for closed in ["\"$0\" \"$@\" 2>&1 | true; exit ${PIPESTATUS[0]}", "exec \"$0\" \"$@\" <&- >&- 2>&-"] {
            let mut command = Command::new("bash");
            let args = line.replace("{n}", &format!("{n}-{}", closed.len()));
            command.args(["-c", closed]).arg(binary()).args(args.split_whitespace()).current_dir(at);
            let out = within(on_cpu(&mut command).env("OMP_NUM_THREADS", "1"));
            assert_eq!(out.status.code(), Some(wanted), "{line}, {closed}: {:?}", out.status);
        }
        if line.contains("-o") && wanted == 0 {
            let files = std::fs::read_dir(at).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
            let made: Vec<String> = files.filter(|name| name.starts_with(&format!("{n}-"))).collect();
            assert_eq!(made.len(), 2, "{line}: {made:?}");
            for name in made {
                pullback::store::Reader::open(&at.join(name)).unwrap();
            }
        }
    }
}

#[test]
fn a_folder_that_is_moved_away_is_told_and_nothing_in_it_is_lost() {
    let folder = desk();
    let at = folder.path();
    let config = CONFIG.replace("epochs: 2", "epochs: 500");
    std::fs::write(at.join("long.yaml"), config).unwrap();
    std::fs::write(at.join("study.yaml"), ONE_MODEL.replace("epochs: 1", "epochs: 20")).unwrap();
    let jobs = [
        ("score -m model -d strokes --limit 4000 --metric output --precision f64 -o d/s.h5 -q", "s.h5.partial"),
        ("train -c long.yaml -o d/run -q", "run/history.csv"),
        (
            "attack -m model -d strokes --limit 400 --attack pgd --steps 20 --eps 1 --batch 8 -o d/a.h5 -q",
            "a.h5.partial",
        ),
        ("sweep -c study.yaml -o d/study -q", "study/cells/1-0-0/history.csv"),
    ];
    std::fs::create_dir(at.join("d")).unwrap();
    succeeds(program().args("score -m model -d strokes --limit 4 -o d/before.h5 -q".split(' ')).current_dir(at));
    let before = std::fs::read(at.join("d/before.h5")).unwrap();
    for (line, sign) in jobs {
        let mut command = program();
        command.args(line.split(' ')).current_dir(at).env("OMP_NUM_THREADS", "1").stdin(Stdio::null());
        let mut run = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let start = Instant::now();
        while !at.join("d").join(sign).exists() {
            assert!(run.try_wait().unwrap().is_none() && start.elapsed() < Duration::from_secs(60), "{line}");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::fs::rename(at.join("d"), at.join("away")).unwrap();
        let out = child::wait(run, Duration::from_secs(120)).unwrap_or_else(|| panic!("{line} hangs"));
        let said = stderr(&out);
        assert!(matches!(out.status.code(), Some(1 | 2)), "{line}: {:?} {said}", out.status);
        let errors: Vec<&str> = said.lines().filter(|line| !line.starts_with("warning: ")).collect();
        assert!(errors.len() == 1 && errors[0].contains("d/"), "{line}: {said}");
        assert!(!at.join("d").exists(), "{line}: a folder in place of the one that was moved");
        assert_eq!(std::fs::read(at.join("away/before.h5")).unwrap(), before);
        // Back again, the same command goes on.
        std::fs::rename(at.join("away"), at.join("d")).unwrap();
        let mut again = program();
        succeeds(again.args(line.split(' ')).current_dir(at).env("OMP_NUM_THREADS", "1"));
    }
}
