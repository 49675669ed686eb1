//! What may happen around a run: a full disk, another process, data that change meanwhile. Each done for real.

mod lies; //  headers that claim more than there is
mod whole; // studies, and parts that are joined

use crate::child;
use crate::files::{ONE_MODEL, binary, on_cpu, program};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

const CONFIG: &str = "\
data: {source: strokes, limit: 32, valid: 0}
model: {kind: mlp, hidden: [12], latent: 3}
train: {epochs: 1, batch: 16}
";

fn command(folder: &Path, line: &str) -> Command {
    let mut command = program();
    command.args(line.split_whitespace()).current_dir(folder).env("OMP_NUM_THREADS", "1").stdin(Stdio::null());
    command
}

fn run(folder: &Path, line: &str) -> Output {
    child::within(Duration::from_secs(120), &mut command(folder, line)).unwrap_or_else(|| panic!("{line}: hangs"))
}

fn stderr(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

fn succeeds(folder: &Path, line: &str) -> String {
    let out = run(folder, line);
    assert!(out.status.success(), "{line}: {:?} {}", out.status, stderr(&out));
    stderr(&out)
}

/// One line, exit code 2, holding all the parts.
fn refused(folder: &Path, line: &str, parts: &[&str]) {
    let out = run(folder, line);
    let said = stderr(&out);
    assert_eq!(out.status.code(), Some(2), "{line}: {said}");
    assert_eq!(said.trim().lines().count(), 1, "{line}: {said}");
    for part in parts {
        assert!(said.contains(part), "{line}: {said} lacks {part}");
    }
}

/// A folder with a model, `run`.
fn desk() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.yaml"), CONFIG).unwrap();
    std::fs::write(folder.path().join("study.yaml"), ONE_MODEL).unwrap();
    succeeds(folder.path(), "train -c a.yaml -o run -q");
    folder
}

/// Numbers of a result file, by path.
fn numbers(path: &Path) -> Vec<(String, Vec<f64>)> {
    let reader = pullback::store::Reader::open(path).unwrap();
    let f64s = reader.datasets().iter().filter(|d| d.dtype == Some(pullback::store::Dtype::F64));
    f64s.map(|d| (d.path.clone(), reader.read_f64(&d.path).unwrap().1)).collect()
}

/// A disk of its own, of so many kilobytes; none where the tests may not mount one.
struct Disk(PathBuf);

impl Disk {
    fn of(folder: &Path, kilobytes: usize) -> Option<Self> {
        let at = folder.join("disk");
        std::fs::create_dir_all(&at).unwrap();
        let size = format!("size={kilobytes}k");
        let made = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&at).output();
        made.is_ok_and(|out| out.status.success()).then_some(Self(at))
    }

    fn grow(&self) {
        let grown = Command::new("mount").args(["-o", "remount,size=64m"]).arg(&self.0).status().unwrap();
        assert!(grown.success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_an_error_in_one_line_and_the_run_goes_on_later() {
    let folder = desk();
    let at = folder.path();
    for part in ["1/2", "2/2"] {
        succeeds(at, &format!("score -m run -d strokes --limit 24 --shard {part} -o {}.h5 -q", &part[..1]));
    }
    let jobs = [
        "score -m run -d strokes --limit 24 --top 2 -o disk/o.h5 -q",
        "attack -m run -d strokes --limit 8 --attack random --eps 1 --save-images -o disk/o.h5 -q",
        "merge 1.h5 2.h5 -o disk/o.h5",
        "train -c a.yaml -o disk/o -q",
        "report 1.h5 -o disk/o.html",
    ];
    let mut full = 0;
    for kilobytes in [4, 8, 12, 20, 28, 44, 76] {
        for job in jobs {
            let Some(disk) = Disk::of(at, kilobytes) else {
                println!("skipped: this user may mount no file system");
                return;
            };
            // What was there before stays.
            std::fs::write(disk.0.join("before"), "kept").unwrap();
            let out = run(at, job);
            let said = stderr(&out);
            if !out.status.success() {
                full += 1;
                assert_eq!(out.status.code(), Some(1), "{kilobytes} KB, {job}: {said}");
                assert_eq!(said.trim().lines().count(), 1, "{kilobytes} KB, {job}: {said}");
                assert!(said.contains("No space left") && said.contains("disk/o"), "{kilobytes} KB, {job}: {said}");
                for name in ["o.h5", "o.html", "o/model.safetensors"] {
                    assert!(!disk.0.join(name).exists(), "{kilobytes} KB, {job}: a torn {name}");
                }
                disk.grow();
                succeeds(at, job);
            }
            assert_eq!(std::fs::read(disk.0.join("before")).unwrap(), b"kept");
            if job.starts_with("merge") {
                assert_eq!(pullback::store::Reader::open(&disk.0.join("o.h5")).unwrap().samples(), 24);
            }
        }
    }
    assert!(full > 20, "only {full} were full");
}

#[test]
fn a_file_that_may_not_grow_is_an_error_and_no_sudden_end() {
    let folder = desk();
    let at = folder.path();
    for part in ["1/2", "2/2"] {
        succeeds(at, &format!("score -m run -d strokes --limit 24 --top 2 --shard {part} -o {}.h5 -q", &part[..1]));
    }
    let before = std::fs::read(at.join("1.h5")).unwrap();
    for (line, finals) in [
        ("score -m run -d strokes --limit 400 --top 2 -o o.h5 -q", &["o.h5"][..]),
        ("attack -m run -d strokes --limit 16 --attack random --eps 1 --save-images -o a.h5 -q", &["a.h5"]),
        ("merge 1.h5 2.h5 -o m.h5", &["m.h5"]),
        ("report 1.h5 -o r.html", &["r.html"]),
        (
            "sweep -c study.yaml -o study -q",
            &["study/sweep.h5", "study/report.html", "study/cells/1-0-0/model.safetensors"],
        ),
        ("train -c a.yaml -o two -q", &["two/model.safetensors", "two/train.safetensors", "two/history.csv"]),
    ] {
        let mut limited = Command::new("bash");
        limited.args(["-c", "ulimit -f 16; exec \"$0\" \"$@\""]).arg(binary()).args(line.split_whitespace());
        on_cpu(&mut limited).current_dir(at).env("OMP_NUM_THREADS", "1");
        let out = child::within(Duration::from_secs(60), &mut limited).unwrap();
        let said = stderr(&out);
        assert_eq!(out.status.code(), Some(1), "{line}: {:?} {said}", out.status);
        assert!(said.contains("File too large") && said.trim().lines().count() == 1, "{line}: {said}");
        assert!(finals.iter().all(|name| !at.join(name).exists()), "{line}");
        assert!(std::fs::read(at.join("1.h5")).unwrap() == before, "{line}");
        succeeds(at, line);
        assert!(finals.iter().all(|name| at.join(name).exists()), "{line}");
    }
}

#[test]
fn two_processes_do_not_write_one_result() {
    let folder = desk();
    let at = folder.path();
    let study = format!("{}beta: [1]\n", CONFIG.replace("epochs: 1", "epochs: 100000"));
    std::fs::write(at.join("sweep.yaml"), study).unwrap();
    for setting in [None, Some("FALSE"), Some("TRUE")] {
        let set = |mut command: Command| {
            match setting {
                Some(value) => command.env("HDF5_USE_FILE_LOCKING", value),
                None => command.env_remove("HDF5_USE_FILE_LOCKING"),
            };
            command
        };
        let jobs = [
            ("score -m run -d strokes --split train -o o.h5 -q", at.join("o.h5.partial"), "o.h5.partial"),
            ("train -c a.yaml --set train.epochs=100000 -o two -q", at.join("two/history.csv"), "two"),
            (
                "attack -m run -d strokes --attack pgd --steps 400 --eps 1 -o a.h5 -q",
                at.join("a.h5.partial"),
                "a.h5.partial",
            ),
            ("sweep -c sweep.yaml -o study -q", at.join("study/cells/1-0-0/history.csv"), "study"),
        ];
        // The others are HDF5's or not in the same way.
        let jobs = &jobs[..if setting.is_none() { 4 } else { 2 }];
        for &(line, ref sign, name) in jobs {
            let mut first = set(command(at, line)).stderr(Stdio::null()).spawn().unwrap();
            while !sign.exists() {
                assert!(first.try_wait().unwrap().is_none(), "{line} ended by itself");
                std::thread::sleep(Duration::from_millis(10));
            }
            let second = child::within(Duration::from_secs(60), &mut set(command(at, line))).unwrap();
            let said = stderr(&second);
            assert_eq!(second.status.code(), Some(2), "{setting:?} {line}: {said}");
            assert!(said.contains(name) && said.contains("in use"), "{setting:?} {line}: {said}");
            assert!(first.try_wait().unwrap().is_none(), "the first went too");
            first.kill().unwrap();
            first.wait().unwrap();
            // Whoever was killed holds nothing any more.
            let mut third = set(command(at, line)).stderr(Stdio::piped()).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(600));
            let ended = third.try_wait().unwrap();
            third.kill().unwrap();
            let said = stderr(&third.wait_with_output().unwrap());
            assert!(ended.is_none_or(|status| status.success()), "{setting:?} {line}: ended with {ended:?}: {said}");
            let _ = std::fs::remove_file(sign);
            let _ = std::fs::remove_dir_all(at.join("two"));
            let _ = std::fs::remove_dir_all(at.join("study"));
        }
    }
}

/// Eighty images of 28x28, all different, by seed.
fn images(path: &Path, seed: u64) {
    let script = "import sys, h5py, numpy as np
with h5py.File(sys.argv[1], 'w') as f:
    f['images'] = np.random.default_rng(int(sys.argv[2])).random((4000, 28, 28)).astype('f4')";
    crate::python::python(script, &[path, Path::new(&seed.to_string())]).unwrap();
}

#[test]
fn rows_of_other_data_weights_or_settings_are_never_mixed_and_never_lost() {
    let folder = desk();
    let at = folder.path();
    images(&at.join("d.h5"), 1);
    let line = "score -m run -d d.h5 --metric output --precision f64 -o o.h5 -q";
    let partial = at.join("o.h5.partial");
    // Some rows, then killed.
    let begun = || {
        let _ = std::fs::remove_file(&partial);
        let mut first = command(at, line).stderr(Stdio::null()).spawn().unwrap();
        loop {
            std::thread::sleep(Duration::from_millis(20));
            assert!(first.try_wait().unwrap().is_none(), "ended by itself");
            if std::fs::metadata(&partial).is_ok_and(|m| m.len() > 100_000) {
                break;
            }
        }
        std::thread::sleep(Duration::from_millis(150));
        first.kill().unwrap();
        first.wait().unwrap();
        std::fs::read(&partial).unwrap()
    };
    let before = begun();
    for (line, name) in [
        ("score -m run -d d.h5 --metric mean --precision f64 -o o.h5 -q", "metric"),
        ("score -m run -d d.h5 --metric output --precision f64 --top 1 -o o.h5 -q", "top"),
        ("score -m run -d d.h5 --metric output --precision f64 --seed 3 -o o.h5 -q", "seed"),
        ("score -m run -d d.h5 --metric output --precision f64 --limit 100 -o o.h5 -q", "limit"),
    ] {
        refused(at, line, &["o.h5.partial", "finished samples of another run", name, "--force"]);
        assert!(std::fs::read(&partial).unwrap() == before, "{line}: the partial file was touched");
    }
    // Other data under the same name, of the same shape.
    std::fs::rename(at.join("d.h5"), at.join("kept.h5")).unwrap();
    images(&at.join("d.h5"), 2);
    refused(at, line, &["o.h5.partial", "data_sha256"]);
    // The data are the same under another name, and the model by another path; a merge onto the name does no harm either.
    for part in ["1/2", "2/2"] {
        let shard = format!("score -m run -d strokes --limit 6 --shard {part} -o s{}.h5 -q", &part[..1]);
        succeeds(at, &shard);
    }
    succeeds(at, "merge s1.h5 s2.h5 -o o.h5");
    assert!(std::fs::read(&partial).unwrap() == before, "merge touched the partial file");
    std::fs::remove_file(at.join("o.h5")).unwrap();
    let said = succeeds(at, "score -m ./run -d ./kept.h5 --metric output --precision f64 -o o.h5");
    assert!(said.contains("goes on after"), "{said}");
    succeeds(at, "score -m run -d kept.h5 --metric output --precision f64 -o straight.h5 -q");
    let (resumed, straight) = (numbers(&at.join("o.h5")), numbers(&at.join("straight.h5")));
    // As exact as the contract has it in double precision.
    for ((path, a), (_, b)) in resumed.iter().zip(&straight) {
        assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-9 * b.abs().max(1.0)), "{path}");
    }
}

#[test]
fn shards_are_joined_only_where_they_are_of_one_run_and_whole() {
    let folder = desk();
    let at = folder.path();
    let attack = |part: &str, more: &str, name: &str| {
        let line = format!("attack -m run -d strokes --limit 9 --shard {part} --eps 1 -q -o {name} {more}");
        succeeds(at, &line);
    };
    let (one, two) = ("--attack pgd --steps 2", "--attack pgd --steps 3");
    attack("1/3", one, "a1.h5");
    attack("2/3", one, "a2.h5");
    attack("3/3", one, "a3.h5");
    for (n, other) in [two, "--attack pgd --steps 2 --norm linf", "--attack pgd --steps 2 --goal kl"].iter().enumerate()
    {
        let name = format!("b{n}.h5");
        attack("3/3", other, &name);
        refused(at, &format!("merge a1.h5 a2.h5 {name} -o m.h5"), &[&name, "as in a1.h5"]);
    }
    refused(at, "merge a1.h5 a3.h5 -o m.h5", &["every sample of the run, 9 in all", "3 missing: 3 to 5"]);
    refused(at, "merge a1.h5 a2.h5 -o m.h5", &["3 missing: 6 to 8"]);
    succeeds(at, "merge a3.h5 a1.h5 a2.h5 -o m.h5");
    succeeds(at, "attack -m run -d strokes --limit 9 --eps 1 -q -o whole.h5 --attack pgd --steps 2");
    let config = |name: &str| pullback::store::Reader::open(&at.join(name)).unwrap().header().config.clone();
    assert_eq!(config("m.h5"), config("whole.h5"));
}

#[test]
fn a_damaged_config_is_read_or_refused_and_never_holds_anybody_up() {
    let folder = desk();
    let at = folder.path();
    std::fs::create_dir(at.join("hurt")).unwrap();
    for entry in std::fs::read_dir(at.join("run")).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), at.join("hurt").join(entry.file_name())).unwrap();
        }
    }
    let good = std::fs::read_to_string(at.join("run/config.yaml")).unwrap();
    let absurd = [
        ("height: 28", "height: 2800000000"),
        ("width: 28", "width: 99999999999999"),
        ("latent: 3", "latent: 3000000000"),
        ("- 12", "- 12000000000"),
        ("channels: 1", "channels: 9000000000"),
        ("kind: mlp", "kind: conv"),
        ("hidden:", "hidden: &a [*a]\n  hidden:"),
        ("latent: 3", "latent: \u{0}"),
        ("model:", "model: \t"),
    ];
    let mut texts: Vec<Vec<u8>> = absurd
        .iter()
        .map(|(from, to)| {
            assert!(good.contains(from), "{from}");
            good.replacen(from, to, 1).into_bytes()
        })
        .collect();
    texts.push(good.replacen("kind", "\u{0}\u{0}", 1).into_bytes());
    texts.push([good.as_bytes(), b"\xff\xfe"].concat());
    // And bytes as a bad disk leaves them.
    let mut dice = 7u64;
    let mut below = |n: usize| {
        dice = dice.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (dice >> 33) as usize % n
    };
    for _ in 0..60 {
        let mut bytes = good.clone().into_bytes();
        let start = below(bytes.len());
        let end = (start + [1, 1, 4, 64][below(4)]).min(bytes.len());
        match below(3) {
            0 => bytes[start..end].fill(0),
            1 => bytes[start..end].iter_mut().for_each(|b| *b = below(256) as u8),
            _ => drop(
                bytes.splice(start..start, [b"99999999999".as_slice(), b"&x *x", b"- - - ["][below(3)].iter().copied()),
            ),
        }
        texts.push(bytes);
    }
    for (n, text) in texts.iter().enumerate() {
        std::fs::write(at.join("hurt/config.yaml"), text).unwrap();
        for line in ["inspect hurt", "score -m hurt -d strokes --limit 2 -o hurt.h5 -q --force"] {
            // Half of them by each, the named ones by both.
            if n >= 11 && (n + line.len()) % 2 == 0 {
                continue;
            }
            let mut asked = command(at, line);
            let Some(out) = child::within(Duration::from_secs(20), &mut asked) else {
                panic!("{line} hangs on\n{}", String::from_utf8_lossy(text));
            };
            let code = out.status.code();
            assert!(
                matches!(code, Some(0 | 2)),
                "{line}: {code:?} {}\n{}",
                stderr(&out),
                String::from_utf8_lossy(text)
            );
        }
    }
}

/// 4096 means and as many variances of 64x64 pixels, group norm: of the kind that latent diffusion has.
#[test]
fn a_wide_model_stays_within_its_memory_by_every_metric() {
    let folder = tempfile::tempdir().unwrap();
    let model = crate::files::root().join("tests/models/wide.pt");
    let score = |metric: &str, gigabytes: u64| {
        let line = format!(
            "score -m {} -d strokes:size=64 --limit 2 --device cpu --metric {metric} --top 2 -o {metric}.h5 -q --force",
            model.display()
        );
        let mut limited = Command::new("prlimit");
        limited.arg(format!("--as={}", gigabytes << 30)).arg(binary()).args(line.split_whitespace());
        on_cpu(&mut limited).current_dir(folder.path()).env("OMP_NUM_THREADS", "1");
        child::within(Duration::from_secs(200), &mut limited).unwrap_or_else(|| panic!("{metric}: hangs"))
    };
    for metric in ["mean", "stochastic", "fisher", "output", "output-stochastic"] {
        let out = score(metric, 7);
        assert!(out.status.success(), "{metric}: {:?} {}", out.status, stderr(&out));
        let found = numbers(&folder.path().join(format!("{metric}.h5")));
        assert!(found.iter().all(|(_, values)| !values.is_empty()), "{metric}");
        let (_, eigenvalues) = found.iter().find(|(path, _)| path == "/spectrum/eigenvalues").unwrap();
        assert!(eigenvalues.iter().all(|v| *v > 0.0 && v.is_finite()), "{metric}: {eigenvalues:?}");
    }
    // Where there is next to nothing, it is said so, and nobody is killed. (libtorch with CUDA maps some 3 GiB by itself.)
    let out = score("mean", 4);
    let (code, said) = (out.status.code(), stderr(&out));
    assert!(matches!(code, Some(0..=2)), "{:?} {said}", out.status);
    assert!(code == Some(0) || said.trim().lines().count() == 1, "{said}");
}

/// The first folder in which HDF5 looks for plug-ins by itself: one of the machine that built the program.
fn default_plugins() -> PathBuf {
    let program = std::fs::read(binary()).unwrap();
    let end = b"/lib/plugin:/usr/local/hdf5/lib/plugin";
    let at = program.windows(end.len()).position(|bytes| bytes == end).expect("the places of plug-ins");
    let start = program[..at].iter().rposition(|byte| *byte == 0).unwrap() + 1;
    PathBuf::from(String::from_utf8(program[start..at].to_vec()).unwrap()).join("lib/plugin")
}

/// A file whose filter only a plug-in would know, and a plug-in in HDF5's own folder and in another: it is loaded from a folder that the
/// user names, and not otherwise.
#[test]
fn files_do_not_load_libraries() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    // What stands in for a plug-in: a library that tells when it is loaded, and is no filter.
    let source = "#include <stdio.h>\n#include <stdlib.h>\n\
                  __attribute__((constructor)) static void loaded(void) { \
                  char* m = getenv(\"MARK\"); FILE* f = m ? fopen(m, \"w\") : 0; if (f) fclose(f); }\n";
    std::fs::create_dir(at.join("plugins")).unwrap();
    std::fs::write(at.join("p.c"), source).unwrap();
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-o", "plugins/libp.so", "p.c"]).current_dir(at).status().unwrap();
    assert!(built.success());
    let make = "import h5py, numpy as np\n\
                f = h5py.File('x.h5', 'w')\n\
                p = h5py.h5p.create(h5py.h5p.DATASET_CREATE); p.set_chunk((1, 4, 4))\n\
                p.set_filter(32123, h5py.h5z.FLAG_OPTIONAL, ())\n\
                s = h5py.h5s.create_simple((2, 4, 4))\n\
                d = h5py.h5d.create(f.id, b'images', h5py.h5t.NATIVE_UINT8, s, p)\n\
                d.write(h5py.h5s.ALL, h5py.h5s.ALL, np.zeros((2, 4, 4), np.uint8))\n";
    let made = Command::new(crate::files::interpreter()).args(["-c", make]).current_dir(at).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mark = at.join("loaded");
    let inspect = |plugins: Option<&str>| {
        let mut command = crate::files::program();
        command.args(["inspect", "x.h5"]).current_dir(at).env("MARK", &mark).env_remove("HDF5_PLUGIN_PATH");
        // HDF5 tries its environment's own list first, whatever this process has been told.
        command.env_remove("HDF5_PLUGIN_PRELOAD").envs(plugins.map(|folder| ("HDF5_PLUGIN_PATH", folder)));
        let done = command.output().unwrap();
        assert_eq!(done.status.code(), Some(2), "{}", String::from_utf8_lossy(&done.stderr));
    };
    let own = default_plugins();
    std::fs::create_dir_all(&own).unwrap();
    std::fs::copy(at.join("plugins/libp.so"), own.join("libp.so")).unwrap();
    inspect(None);
    std::fs::remove_file(own.join("libp.so")).unwrap();
    assert!(!mark.exists());
    inspect(Some("plugins"));
    assert!(mark.exists(), "the test sees a library that is loaded");
}
