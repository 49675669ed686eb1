//! Which array beside the images has their labels, and what is no label.

use super::{all, labels, text};
use pullback::data::{Source, Split, open};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

/// Makes 7 images `x` and their labels `y`; `put` writes an HDF5 file.
const ARRAYS: &str = "
import h5py, numpy as np
x = (np.arange(7 * 4 * 4) * 37 % 251).astype('u1').reshape(7, 4, 4)
y = np.arange(7) % 3
def put(name, **of):
    with h5py.File(name, 'w') as f:
        for key, value in of.items():
            f[key] = value
";

/// What Python leaves in a folder; `None` where there is none with h5py.
fn made(code: &str) -> Option<tempfile::TempDir> {
    let interpreter = crate::files::interpreter();
    if !interpreter.exists() {
        println!("skipped: no {}", interpreter.display());
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let code = format!("{ARRAYS}{code}");
    let done = Command::new(interpreter).args(["-c", &code]).current_dir(folder.path()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Some(folder)
}

fn opened(folder: &Path, name: &str) -> Arc<dyn Source> {
    open(text(&folder.join(name)), Split::Test, None).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// The labels of `name`, or the line that says why it has none.
fn found(folder: &Path, name: &str) -> Result<Vec<i64>, String> {
    let source = opened(folder, name);
    if source.has_labels() { Ok(labels(&all(&*source))) } else { Err(source.notes().join("; ")) }
}

const CLASSES: [i64; 7] = [0, 1, 2, 0, 1, 2, 0];

#[test]
fn labels_are_named_after_their_images() {
    let code = "
put('keras.h5', x_test=x, y_test=y, labels=9 - y)
put('set.h5', test_set_x=x, test_set_y=y)
put('large.h5', X=x, y=y); put('both.h5', X=x, Y=y, y=9 - y)
put('usual.h5', pictures=x, labels=y); put('split.h5', x_test=x, labels=9 - y)
put('deep.h5', **{'a/images': x, 'a/labels': y, 'images': x, 'labels': 9 - y})
put('fewer.h5', images=x, labels=y, adv=x[:5])
put('short.h5', x_test=x, y_test=y[:3])
np.save('x_test.npy', x); np.save('y_test.npy', y); np.save('X.npy', x); np.save('y.npy', y)
np.savez('fewer.npz', images=x, y=y[:3]); np.savez('large.npz', X_test=x, y_test=y)
";
    let Some(dir) = made(code) else { return };
    for name in [
        "keras.h5:/x_test",
        "keras.h5:x_test",
        "set.h5:/test_set_x",
        "large.h5:/X",
        "both.h5:/X",
        "usual.h5:/pictures",
        "deep.h5:/a/images",
        "deep.h5:/a/images/",
        "x_test.npy",
        "X.npy",
        "large.npz",
    ] {
        assert_eq!(found(dir.path(), name), Ok(CLASSES.to_vec()), "{name}");
    }
    // Those of a split are none of another's.
    assert_eq!(found(dir.path(), "split.h5:/x_test"), Err(String::new()));
    for name in ["fewer.h5:/adv", "fewer.npz"] {
        let note = found(dir.path(), name).unwrap_err();
        assert!(note.contains("left out, [") && note.contains("no class of each image"), "{name}: {note}");
    }
    let error = open(text(&dir.path().join("short.h5:/x_test")), Split::Test, None).err().unwrap();
    assert!(error.to_string().ends_with("/y_test: expected [7], one label an image, found [3]"), "{error}");
}

#[test]
fn what_is_no_class_is_left_out_and_said() {
    let code = "
for save, name in ((np.savez, 'stored'), (np.savez_compressed, 'packed')):
    save(name + '_text.npz', images=x, labels=np.array(['cat'] * 7))
    save(name + '_objects.npz', images=x, labels=np.array(['cat', None] * 3 + [1], dtype=object))
    save(name + '_fortran.npz', images=x, labels=np.asfortranarray(np.eye(7)[:, :3]))
    save(name + '_other.npz', images=x, y=np.array(['cat'] * 7))
np.save('images.npy', x); np.save('labels.npy', np.array(['cat'] * 7))
put('text.h5', images=x, labels=[b'cat'] * 7)
put('group.h5', **{'images': x, 'labels/train': y})
put('floats.h5', images=x, labels=y / 2)
";
    let Some(dir) = made(code) else { return };
    for name in [
        "stored_text.npz",
        "packed_text.npz",
        "stored_objects.npz",
        "packed_objects.npz",
        "stored_fortran.npz",
        "packed_fortran.npz",
        "stored_other.npz",
        "packed_other.npz",
        "images.npy",
        "text.h5",
        "group.h5",
        "floats.h5",
    ] {
        let note = found(dir.path(), name).unwrap_err();
        assert!(note.contains("left out, ") && note.contains("no class of each image"), "{name}: {note}");
    }
}

#[test]
fn booleans_and_enumerations_are_classes() {
    let code = "
put('bool.h5', images=x, labels=y > 0); np.savez('bool.npz', images=x, labels=y > 0)
with h5py.File('enum.h5', 'w') as f:
    f['images'] = x
    f.create_dataset('labels', data=y, dtype=h5py.enum_dtype(dict(cat=0, dog=1, owl=2), basetype='i2'))
";
    let Some(dir) = made(code) else { return };
    for name in ["bool.h5", "bool.npz"] {
        assert_eq!(found(dir.path(), name), Ok(CLASSES.map(|c| c.min(1)).to_vec()), "{name}");
    }
    assert_eq!(found(dir.path(), "enum.h5"), Ok(CLASSES.to_vec()));
}

#[test]
fn large_labels_are_exact_or_refused() {
    let code = "
big = y + (1 << 62) + 1
for kind in ('i8', 'u8', '>i8', '>u8'):
    put(f'{kind}.h5', images=x, labels=big.astype(kind)); np.savez(f'{kind}.npz', images=x, labels=big.astype(kind))
huge = y.astype('u8') + np.uint64(1 << 63)
put('huge.h5', images=x, labels=huge); np.savez('huge.npz', images=x, labels=huge)
np.savez('minus.npz', images=x, labels=-y)
";
    let Some(dir) = made(code) else { return };
    for kind in ["i8", "u8", ">i8", ">u8"] {
        for end in ["h5", "npz"] {
            // Numbers that double precision does not tell apart.
            let expected = CLASSES.map(|c| c + (1 << 62) + 1).to_vec();
            assert_eq!(found(dir.path(), &format!("{kind}.{end}")), Ok(expected), "{kind}.{end}");
        }
    }
    assert_eq!(found(dir.path(), "minus.npz"), Ok(CLASSES.map(|c| -c).to_vec()));
    for name in ["huge.h5", "huge.npz"] {
        let outcome = open(text(&dir.path().join(name)), Split::Test, None).and_then(|source| source.read(&[2, 3]));
        let error = outcome.err().unwrap();
        assert!(error.exit_code() == 2 && error.to_string().contains("labels below 2^63"), "{name}: {error}");
    }
}
