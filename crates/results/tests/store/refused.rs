//! Wrong requests and broken files: each a one-line error that names the thing, exit code 2.

use super::{attacks, column, eps, header, scores};
use crate::python::python;
use pullback_results::Error;
use pullback_results::store::*;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn assert_refused(error: &Error, parts: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.exit_code(), 2, "{text}");
    assert!(!text.contains('\n') && text.contains("expected") && text.contains("found"), "{text}");
    for part in parts {
        assert!(text.contains(part), "{text} lacks {part}");
    }
}

fn create(path: &Path, overwrite: Overwrite) -> pullback_results::Result<Writer> {
    Writer::create(path, &header(FileKind::Scores), 4, &[], overwrite)
}

fn finished(path: &Path) {
    let mut writer = create(path, Overwrite::No).unwrap();
    writer.put(&scores(&[0, 1, 2, 3])).unwrap();
    writer.finish().unwrap();
}

#[test]
fn what_exists_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scores.h5");
    finished(&path);
    let before = std::fs::read(&path).unwrap();
    assert_refused(&create(&path, Overwrite::No).map(|_| ()).unwrap_err(), &["scores.h5", "--force"]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);

    // Forced: the old file stays until the new one is complete.
    let mut writer = create(&path, Overwrite::Yes).unwrap();
    writer.put(&scores(&[0, 1])).unwrap();
    assert!(std::fs::read(&path).unwrap() == before);
    drop(writer);
    assert!(std::fs::read(&path).unwrap() == before);
    let mut writer = create(&path, Overwrite::Yes).unwrap();
    assert_eq!(*writer.start(), Resumption::Resumed { done: 2, damaged: 0 });
    writer.put(&scores(&[2, 3])).unwrap();
    writer.finish().unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);

    // A file that appears while the run goes on is not overwritten either, and the run's work is kept.
    let late = folder.path().join("late.h5");
    let mut writer = create(&late, Overwrite::No).unwrap();
    writer.put(&scores(&[0, 1, 2, 3])).unwrap();
    std::fs::write(&late, b"someone else's").unwrap();
    assert_refused(&writer.finish().unwrap_err(), &["late.h5"]);
    assert_eq!(std::fs::read(&late).unwrap(), b"someone else's");
    std::fs::remove_file(&late).unwrap();
    let writer = create(&late, Overwrite::No).unwrap();
    assert_eq!(*writer.start(), Resumption::Resumed { done: 4, damaged: 0 });
    writer.finish().unwrap();
    assert!(late.exists());
}

#[test]
fn outputs_that_cannot_be_written_are_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, b"x").unwrap();
    std::fs::create_dir(folder.path().join("taken.h5.partial")).unwrap();
    let socket = folder.path().join("socket");
    let _socket = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for (path, part) in [
        (folder.path().to_owned(), "a folder"),
        (folder.path().join("missing/scores.h5"), "missing"),
        (file.join("scores.h5"), "file"),
        (socket, "special"),
        (PathBuf::from("/proc/scores.h5"), "/proc/scores.h5"),
        (PathBuf::from("/"), "no file name"),
        (folder.path().join("taken.h5"), "taken.h5.partial"),
        (folder.path().join("x".repeat(300)), "name too long"),
    ] {
        let error = create(&path, Overwrite::Yes).map(|_| ()).unwrap_err();
        assert_refused(&error, &[]);
        assert!(error.to_string().to_lowercase().contains(part), "{error} lacks {part}");
    }
    for end in ["new/", "new/."] {
        let error = create(&PathBuf::from(format!("{}/{end}", folder.path().display())), Overwrite::Yes).map(|_| ());
        let error = error.unwrap_err();
        assert_refused(&error, &[end, "the name of a folder"]);
    }
    // Only a rename takes the place of a link.
    let link = folder.path().join("link.h5");
    std::os::unix::fs::symlink(folder.path().join("nowhere.h5"), &link).unwrap();
    assert_refused(&create(&link, Overwrite::No).map(|_| ()).unwrap_err(), &["link.h5", "a link to nothing"]);
    create(&link, Overwrite::Yes).unwrap();
}

#[test]
fn an_output_is_none_of_its_inputs() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("data.h5"), b"x").unwrap();
    std::os::unix::fs::symlink(at("data.h5"), at("link.h5")).unwrap();
    let (data, link, new) = (at("data.h5"), at("link.h5"), at("new.h5"));
    for (output, input) in [(&data, &data), (&link, &data), (&data, &link)] {
        let error = ensure_apart(output, [new.as_path(), input.as_path()]).unwrap_err();
        assert_refused(&error, &["another file than those that are read"]);
    }
    ensure_apart(&new, [data.as_path(), new.as_path()]).unwrap();
}

#[test]
fn a_file_in_use_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scores.h5");
    let mut writer = create(&path, Overwrite::No).unwrap();
    writer.put(&scores(&[1])).unwrap();
    drop(writer);
    let script = "import sys, h5py\nf = h5py.File(sys.argv[1], 'r+')\nprint('open', flush=True)\nsys.stdin.read()";
    let python = crate::files::interpreter();
    let mut other = Command::new(python)
        .args(["-c", script])
        .arg(folder.path().join("scores.h5.partial"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(other.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "open\n");
    assert_refused(&create(&path, Overwrite::No).map(|_| ()).unwrap_err(), &["scores.h5.partial", "in use"]);
    let whole = write_whole(&path, &header(FileKind::Sweep), &[eps()], Overwrite::No);
    assert_refused(&whole.unwrap_err(), &["in use"]);
    other.stdin.take().unwrap().flush().unwrap();
    assert!(other.wait().unwrap().success());
    assert_eq!(*create(&path, Overwrite::No).unwrap().start(), Resumption::Resumed { done: 1, damaged: 0 });
}

#[test]
fn blocks_that_do_not_fit_are_refused_and_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("attack.h5");
    let mut writer = Writer::create(&path, &header(FileKind::Attack), 6, &[eps()], Overwrite::No).unwrap();
    writer.put(&attacks(&[0, 1])).unwrap();
    let good = attacks(&[2, 3]);
    let with = |change: &dyn Fn(&mut Block)| {
        let mut block = good.clone();
        change(&mut block);
        block
    };
    let spare = |path: &str, shape: Vec<usize>, axis| {
        let n = shape.iter().product();
        column(path, shape, axis, Values::F64(vec![0.0; n]))
    };
    let cases: Vec<(Block, &str)> = vec![
        (with(&|b| b.index = vec![2, 9]), "sample 9"),
        (with(&|b| b.index = vec![2, 1]), "stored already"),
        (with(&|b| b.index = vec![2, 2]), "sample 2"),
        (with(&|b| b.index = vec![2]), "1 samples on axis"),
        (with(&|b| b.labels = Some(vec![1, 2])), "/label"),
        (with(&|b| drop(b.columns.remove(0))), "/clean/recon_mse"),
        (with(&|b| b.columns.push(spare("/clean/more", vec![2], 0))), "/clean/more"),
        (with(&|b| b.columns.push(spare("/clean/recon_mse", vec![2], 0))), "twice"),
        (with(&|b| b.columns.push(spare("/other", vec![2], 0))), "/other"),
        (with(&|b| b.columns.push(spare("/clean/a b", vec![2], 0))), "/clean/a b"),
        (with(&|b| b.columns.push(spare("/clean//x", vec![2], 0))), "/clean//x"),
        (with(&|b| b.columns[0].path = "/index".into()), "/index"),
        (with(&|b| b.columns[1].sample_axis = 0), "axis 1"),
        (with(&|b| b.columns[1] = spare("/attack/one/latent_l2", vec![2, 2], 1)), "[3, 6]"),
        (with(&|b| b.columns[0].values = Values::F32(vec![0.0; 2])), "f32"),
        (with(&|b| b.columns[0].values = Values::F64(vec![0.0; 3])), "2 values"),
    ];
    for (block, part) in cases {
        assert_refused(&writer.put(&block).unwrap_err(), &[part]);
    }
    assert_eq!(writer.done(), [0, 1]);
    writer.put(&attacks(&[])).unwrap();
    writer.put(&good).unwrap();
    writer.put(&attacks(&[5, 4])).unwrap();
    writer.finish().unwrap();
    assert_eq!(python(super::CHECK, &[&path]).unwrap(), "ok 6\n");

    let new = folder.path().join("new.h5");
    let own = header(FileKind::Scores);
    let begin = |header: &Header, samples: Samples, fixed: &[Column]| {
        Writer::create(&new, header, samples, fixed, Overwrite::No).map(|_| ()).unwrap_err()
    };
    assert_refused(&begin(&own, 0.into(), &[]), &["at least one"]);
    assert_refused(&begin(&own, vec![1, 1].into(), &[]), &["twice"]);
    assert_refused(&begin(&own, 2.into(), &[spare("/scores/x", vec![2], 0)]), &["/scores/x"]);
    let nul = Header { config: "a\0b".into(), ..own.clone() };
    assert_refused(&begin(&nul, 2.into(), &[]), &["config", "NUL"]);
    let repeated = Header { extra: [("seed".to_owned(), "1".to_owned())].into(), ..own };
    assert_refused(&begin(&repeated, 2.into(), &[]), &["seed"]);
    // A refused request leaves nothing behind.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn broken_files_are_refused_when_opened() {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good.h5");
    finished(&good);
    let bytes = std::fs::read(&good).unwrap();
    let named = |name: &str| folder.path().join(name);
    let error = |path: &Path| Reader::open(path).map(|_| ()).unwrap_err();

    let missing = error(&named("missing.h5"));
    assert!(missing.exit_code() == 2 && missing.to_string().contains("missing.h5"), "{missing}");
    assert_refused(&error(folder.path()), &["a folder"]);
    for (name, contents) in
        [("empty.h5", vec![]), ("text.h5", b"not a result".to_vec()), ("short.h5", bytes[..5].to_vec())]
    {
        std::fs::write(named(name), contents).unwrap();
        assert_refused(&error(&named(name)), &[name, "another kind"]);
        assert!(!is_result(&named(name)));
    }
    for length in (8..bytes.len()).step_by(97) {
        std::fs::write(named("cut.h5"), &bytes[..length]).unwrap();
        assert_refused(&error(&named("cut.h5")), &["cut.h5", "cut short"]);
    }
    // Zeros over any part: refused, or read without a crash.
    for start in (8..bytes.len()).step_by(256) {
        let mut spoilt = bytes.clone();
        let end = (start + 256).min(bytes.len());
        spoilt[start..end].fill(0);
        std::fs::write(named("spoilt.h5"), &spoilt).unwrap();
        match Reader::open(&named("spoilt.h5")) {
            Err(error) => assert_refused(&error, &["spoilt.h5"]),
            Ok(reader) => {
                for info in reader.datasets() {
                    let _ = reader.read(&info.path);
                }
            }
        }
    }

    let changes = [
        ("del f.attrs['pullback_format']", ["pullback_format", "without it"]),
        ("f.attrs['pullback_format'] = 3", ["expected 1 to 2", "found 3"]),
        ("f.attrs['pullback_format'] = 0", ["unfinished", "4 of 4"]),
        ("f.attrs['pullback_format'] = '2'", ["pullback_format", "integer"]),
        ("f.attrs['pullback_format'] = [2, 2]", ["pullback_format", "a list"]),
        ("f.attrs['kind'] = 'other'", ["kind", "scores, attack or sweep"]),
        ("f.attrs['kind'] = 'attack'; f['attack/x/y'] = np.zeros((2, 3))", ["/attack/x/y", "4 samples"]),
        ("f.attrs['kind'] = 5", ["kind", "text"]),
        ("f.attrs['seed'] = -1", ["seed", "-1"]),
        ("f.attrs['config'] = np.bytes_('x')", ["config", "text"]),
        ("del f.attrs['model_sha256']", ["model_sha256", "nothing"]),
        ("del f['index']", ["/index", "none"]),
        ("f['index'][2] = f['index'][1]", ["/index", "sample 1 twice"]),
        ("f['index'][2] = -3", ["unfinished", "3 of 4"]),
        ("f['index'][2] = 2 | 1 << 62", ["unfinished", "4 of 4"]),
        ("del f['index']; f['index'] = np.arange(4.)", ["/index", "i64"]),
        ("del f['index']; f['index'] = np.arange(5)", ["5 samples", "[4]"]),
        ("del f['scores/root']; f['scores/root'] = np.arange(4)", ["/scores/root", "f64"]),
        ("del f['scores/root']; f['scores/root'] = np.zeros(4, 'f4')", ["/scores/root", "f32"]),
        ("del f['scores/root']; f['scores/root'] = ['a', 'b', 'c', 'd']", ["/scores/root", "another type"]),
        ("del f['scores/root']; f['scores/root'] = 1.0", ["/scores/root", "[]"]),
        ("f.create_dataset('eps', (1 << 40,), 'f8', chunks=(1024,))", ["", ""]),
        ("f['eps'] = h5py.ExternalLink('/etc/passwd', '/')", ["", ""]),
        ("f['scores/loop'] = f['scores']", ["", ""]),
    ];
    // One interpreter makes all of them: HDF5 loads slowly.
    let lines: Vec<&str> = changes.iter().map(|(change, _)| *change).collect();
    let script = format!(
        r#"
import sys, shutil, h5py, numpy as np
for n, change in enumerate({lines:?}):
    shutil.copy(sys.argv[1] + '/good.h5', f'{{sys.argv[1]}}/changed-{{n}}.h5')
    with h5py.File(f'{{sys.argv[1]}}/changed-{{n}}.h5', 'r+') as f:
        exec(change)
"#
    );
    python(&script, &[folder.path()]).unwrap();
    for (n, (change, parts)) in changes.into_iter().enumerate() {
        let path = named(&format!("changed-{n}.h5"));
        match Reader::open(&path) {
            Err(error) => assert_refused(&error, &["changed-", parts[0], parts[1]]),
            // What lies beside the format's own data sets is refused when it is read.
            Ok(reader) => {
                assert_eq!(parts[0], "", "{change}: opened");
                assert_refused(&reader.read("/eps").map(|_| ()).unwrap_err(), &["/eps"]);
            }
        }
        assert!(is_result(&path) != change.starts_with("del f.attrs['pullback"), "{change}");
    }
    assert!(is_result(&good));
}
