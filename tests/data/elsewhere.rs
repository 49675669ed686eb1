//! HDF5 data sets whose values lie in other files, or were never written: HDF5 fills in what is missing and says nothing.

use super::{all, labels, pixels, text};
use pullback::data::{Split, open};
use std::path::Path;
use std::process::Command;

/// Runs Python in `folder`; false where there is none with h5py.
fn python(folder: &Path, code: &str) -> bool {
    let interpreter = crate::files::interpreter();
    if !interpreter.exists() {
        println!("skipped: no {}", interpreter.display());
        return false;
    }
    let done = Command::new(interpreter).args(["-c", code]).current_dir(folder).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    true
}

/// Makes images `x` [6, 1, 2, 3] of bytes 100, 101, ... and their labels, in two files that `v.h5` shows as one.
const SHOWN: &str = "
import h5py, numpy as np
x = np.arange(100, 136, dtype='u1').reshape(6, 1, 2, 3)
def shown(name, parts, count=6, place='images'):
    layout = h5py.VirtualLayout((count, 1, 2, 3), 'u1')
    for start, (file, rows) in parts.items():
        layout[start:start + rows] = h5py.VirtualSource(file, 'd', (rows, 1, 2, 3))
    with h5py.File(name, 'a') as f:
        f.create_virtual_dataset(place, layout, fillvalue=7)
for k in range(2):
    with h5py.File(f'part{k}.h5', 'w') as f:
        f['d'] = x[3 * k:3 * k + 3]
shown('v.h5', {0: ('part0.h5', 3), 3: ('part1.h5', 3)})
h5py.File('v.h5', 'a')['labels'] = np.arange(6)
";

/// The one line that refuses `name`.
fn refusal(folder: &Path, name: &str) -> String {
    let error =
        open(text(&folder.join(name)), Split::Test, None).err().unwrap_or_else(|| panic!("{name} was accepted"));
    let line = error.to_string();
    assert_eq!((error.exit_code(), line.lines().count()), (2, 1), "{line}");
    line
}

fn expected() -> Vec<f32> {
    (100..136).map(|v| v as f32 / 255.0).collect()
}

#[test]
fn sources_of_virtual_data_sets_are_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let more = format!(
        "{SHOWN}
shown('gap.h5', {{0: ('part0.h5', 3)}})
layout = h5py.VirtualLayout((6, 1, 2, 3), 'u1')
layout[:] = h5py.VirtualSource('v.h5', 'images', (6, 1, 2, 3))
with h5py.File('twice.h5', 'w') as f:
    f.create_virtual_dataset('images', layout)
layout = h5py.VirtualLayout((6, 1, 2, 3), 'u1')
layout[:] = h5py.VirtualSource('.', 'images', (6, 1, 2, 3))
with h5py.File('circle.h5', 'w') as f:
    f.create_virtual_dataset('images', layout)
layout = h5py.VirtualLayout((6, 1, 2, 3), 'u1')
with h5py.File('own.h5', 'w') as f:
    f['a/d'] = x
    layout[::2] = h5py.VirtualSource(f['a/d'])[::2]
    layout[1::2] = h5py.VirtualSource(f['a/d'])[1::2]
    f.create_virtual_dataset('images', layout)
layout = h5py.VirtualLayout((6, 1, 2, 3), 'u1')
layout[:] = h5py.VirtualSource('own.h5', 'a/d', (9, 1, 2, 3))[3:]
with h5py.File('beyond.h5', 'w') as f:
    f.create_virtual_dataset('images', layout)
"
    );
    if !python(dir.path(), &more) {
        return;
    }
    for name in ["v.h5", "twice.h5", "own.h5"] {
        let source = open(text(&dir.path().join(name)), Split::Test, None).unwrap();
        assert_eq!((pixels(&all(&*source)), source.notes()), (expected(), vec![]), "{name}");
    }
    assert_eq!(labels(&all(&*open(text(&dir.path().join("v.h5")), Split::Test, None).unwrap())), [0, 1, 2, 3, 4, 5]);
    let gap = open(text(&dir.path().join("gap.h5")), Split::Test, None).unwrap().notes().join("; ");
    assert!(gap.contains("/images: 18 of 36 values are of no source; HDF5 fills them in"), "{gap}");
    let line = refusal(dir.path(), "circle.h5");
    assert!(line.contains("values shown through at most 8 files") && line.contains("h5repack"), "{line}");
    let line = refusal(dir.path(), "beyond.h5");
    assert!(line.contains("[9, 1, 2, 3] in its source own.h5: a/d, found [6, 1, 2, 3]"), "{line}");
    // A link from another folder leads to the sources beside the file.
    let links = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(dir.path().join("v.h5"), links.path().join("v.h5")).unwrap();
    assert_eq!(pixels(&all(&*open(text(&links.path().join("v.h5")), Split::Test, None).unwrap())), expected());
    // A source that is shorter than it was, one of another name, one that is damaged, and none.
    let part = dir.path().join("part1.h5");
    for (change, words) in [
        (
            "with h5py.File('part1.h5', 'w') as f: f['d'] = np.zeros((2, 1, 2, 3), 'u1')",
            "18 values in its source part1.h5: d, found [2, 1, 2, 3]",
        ),
        (
            "with h5py.File('part1.h5', 'w') as f: f['e'] = np.zeros((3, 1, 2, 3), 'u1')",
            "its source part1.h5: d, found no such data set",
        ),
        ("open('part1.h5', 'w').write('no HDF5')", "part1.h5: expected a readable HDF5 file"),
        ("import os; os.remove('part1.h5')", "its source part1.h5: d, found no such file"),
    ] {
        assert!(python(dir.path(), &format!("import h5py, numpy as np\n{change}")));
        for name in ["v.h5", "twice.h5"] {
            let line = refusal(dir.path(), name);
            assert!(line.contains(words), "{name}: no {words:?} in {line}");
        }
    }
    assert!(!part.exists());
}

#[test]
fn values_in_plain_files_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let code = format!(
        "{SHOWN}
import os
raw = os.path.abspath('raw.bin')
open(raw, 'wb').write(b'head' + x.tobytes())
with h5py.File('raw.h5', 'w') as f:
    f.create_dataset('images', x.shape, 'u1', external=[(raw, 4, h5py.h5f.UNLIMITED)])
with h5py.File('sized.h5', 'w') as f:
    f.create_dataset('images', x.shape, 'u1', external=[(raw, 4, 30), (raw, 34, 6)])
"
    );
    if !python(dir.path(), &code) {
        return;
    }
    for name in ["raw.h5", "sized.h5"] {
        assert_eq!(
            pixels(&all(&*open(text(&dir.path().join(name)), Split::Test, None).unwrap())),
            expected(),
            "{name}"
        );
    }
    let raw = dir.path().join("raw.bin");
    std::fs::write(&raw, [200; 39]).unwrap();
    let line = refusal(dir.path(), "raw.h5");
    assert!(
        line.contains("36 bytes of its values in") && line.ends_with("from byte 4 on, found 39 bytes in all"),
        "{line}"
    );
    let line = refusal(dir.path(), "sized.h5");
    assert!(line.contains("6 bytes of its values in") && line.contains("from byte 34 on"), "{line}");
    std::fs::remove_file(&raw).unwrap();
    assert!(refusal(dir.path(), "raw.h5").contains("raw.bin"));
}

#[test]
fn rows_that_were_never_written_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let code = format!(
        "{SHOWN}
def put(name, chunks, write):
    with h5py.File(name, 'w') as f:
        write(f.create_dataset('images', (0, 1, 2, 3), 'u1', maxshape=(None, 1, 2, 3), chunks=chunks))
def grow(d):
    d.resize(6, 0); d[:3] = x[:3]
    d.resize(10, 0)
def hole(d):
    d.resize(6, 0); d[0] = x[0]; d[3:] = x[3:]
def part(d):
    d.resize(6, 0); d[...] = x; d.resize(7, 0); d[6, :, :, :2] = 9
def whole(d):
    d.resize(6, 0); d[...] = x
put('grown.h5', (2, 1, 2, 3), grow); put('hole.h5', (1, 1, 2, 3), hole); put('part.h5', (1, 1, 2, 2), part); put('whole.h5', (4, 1, 2, 3), whole)
with h5py.File('none.h5', 'w') as f:
    f.create_dataset('images', x.shape, 'u1', fillvalue=9)
"
    );
    if !python(dir.path(), &code) {
        return;
    }
    for (name, told) in [
        ("grown.h5", Some("6 of 10 rows were never written, or not wholly, from row 4 on")),
        ("hole.h5", Some("2 of 6 rows were never written, or not wholly, from row 1 on")),
        ("part.h5", Some("1 of 7 rows were never written, or not wholly, from row 6 on")),
        ("none.h5", Some("6 of 6 rows were never written, or not wholly, from row 0 on")),
        ("whole.h5", None),
    ] {
        let notes = open(text(&dir.path().join(name)), Split::Test, None).unwrap().notes();
        match told {
            Some(words) => assert!(notes.iter().any(|note| note.contains(words)), "{name}: {notes:?}"),
            None => assert!(notes.is_empty(), "{name}: {notes:?}"),
        }
    }
}
