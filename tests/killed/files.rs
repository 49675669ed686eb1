//! Files of results as they must be at any moment: absent, or whole and the same as those of a run that nobody disturbed.

use pullback::store::{Reader, Values};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Below this, relative to the largest value of a data set, numbers in double precision are the same: which of several ways of computing
/// is taken depends on the clock, and sums on the way.
const ROUNDING: f64 = 1e-8;

/// The files below a folder under final names, as paths from there.
pub fn finals(folder: &Path) -> Vec<PathBuf> {
    below(folder, Path::new("")).into_iter().filter(|path| !is_unfinished(path)).collect()
}

fn below(folder: &Path, at: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder.join(at)).unwrap() {
        let entry = entry.unwrap();
        let path = at.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            found.extend(below(folder, &path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// True for a name that says that the file may be incomplete. A log of events is cut back to whole records by the run that goes on with it.
fn is_unfinished(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_string_lossy();
    name.starts_with('.')
        || is_aside(path)
        || name.ends_with(".partial")
        || name.ends_with(".merging")
        || name.contains("tfevents")
}

/// True for an unfinished file that a kill left unreadable: the run that goes on puts it aside and keeps it.
fn is_aside(path: &Path) -> bool {
    path.file_name().unwrap().to_string_lossy().contains(".partial.damaged")
}

/// What is wrong with a final file of `found`, at any moment, where `whole` is the same run undisturbed.
pub fn torn(whole: &Path, found: &Path, file: &Path) -> Option<String> {
    let (expected, path) = (whole.join(file), found.join(file));
    match file.extension().and_then(|e| e.to_str()).unwrap_or_default() {
        "h5" => different(&expected, &path),
        "html" => (!text(&path).trim_end().ends_with("</html>")).then(|| "has no end".to_owned()),
        "yaml" | "json" => (text(&expected) != text(&path)).then(|| "is another".to_owned()),
        // So far as it goes.
        "csv" => {
            let (expected, found) = (table(&expected), table(&path));
            let whole = text(&path).ends_with('\n') && !found.is_empty();
            (!whole || !expected.starts_with(&found)).then(|| format!("{found:?} is no beginning of {expected:?}"))
        }
        "safetensors" => {
            let bytes = std::fs::read(&path).unwrap();
            safetensors::SafeTensors::deserialize(&bytes).err().map(|e| format!("{e:?}"))
        }
        other => Some(format!("is of no known kind: {other:?}")),
    }
}

/// The first difference between two completed outputs.
pub fn same(whole: &Path, found: &Path) -> Option<String> {
    let (expected, mut all) = (below(whole, Path::new("")), below(found, Path::new("")));
    all.retain(|path| !is_aside(path));
    let names = |paths: &[PathBuf]| -> Vec<PathBuf> { paths.iter().map(|path| nameless(path)).collect() };
    if names(&expected) != names(&all) {
        return Some(format!("files {all:?}, not {expected:?}"));
    }
    expected.iter().zip(&all).find_map(|(theirs, path)| {
        let (a, b) = (whole.join(theirs), found.join(path));
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = |path: &Path| std::fs::read(path).unwrap();
        let difference = match name.as_str() {
            "model.safetensors" => (bytes(&a) != bytes(&b)).then(|| "other weights".to_owned()),
            "history.csv" => (table(&a) != table(&b)).then(|| "another history".to_owned()),
            // Times are in it, and they have a fixed size.
            _ if name.contains("tfevents") => (bytes(&a).len() != bytes(&b).len())
                .then(|| format!("{} bytes, not {}", bytes(&b).len(), bytes(&a).len())),
            _ => torn(whole, found, path),
        };
        difference.map(|what| format!("{}: {what}", path.display()))
    })
}

/// Without the time that is in the name of a log of events.
fn nameless(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap().to_string_lossy();
    if name.contains("tfevents") { path.with_file_name("events") } else { path.to_owned() }
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// The lines of a history without the seconds of each epoch.
fn table(path: &Path) -> Vec<Vec<String>> {
    let mut rows: Vec<Vec<String>> =
        text(path).lines().map(|line| line.split(',').map(str::to_owned).collect()).collect();
    let at = rows.first().and_then(|head| head.iter().position(|name| name == "seconds"));
    for row in &mut rows {
        at.map(|at| row.remove(at));
    }
    rows
}

/// What differs between two result files.
fn different(expected: &Path, found: &Path) -> Option<String> {
    let (a, b) = (numbers(expected), numbers(found));
    if !a.keys().eq(b.keys()) {
        return Some("other data sets".to_owned());
    }
    a.iter().find_map(|(path, a)| {
        let b = &b[path];
        let size = a.iter().filter(|x| x.is_finite()).fold(0.0, |m: f64, x| m.max(x.abs()));
        let near = |(x, y): (&f64, &f64)| x.to_bits() == y.to_bits() || (x - y).abs() <= ROUNDING * size;
        let apart = a.len() != b.len() || !a.iter().zip(b).all(near);
        apart.then(|| format!("other numbers in {path}"))
    })
}

/// Every number of a result file but the clock's, and but checksums of what may be rounded in another way.
fn numbers(path: &Path) -> BTreeMap<String, Vec<f64>> {
    let reader = Reader::open(path).unwrap_or_else(|e| panic!("{e}"));
    let paths: Vec<String> = reader.datasets().iter().map(|d| d.path.clone()).collect();
    let read = |path: String| {
        let values = match reader.read(&path).unwrap_or_else(|e| panic!("{e}")).values {
            Values::F64(v) => v,
            Values::F32(v) => v.into_iter().map(f64::from).collect(),
            Values::I64(v) => v.into_iter().map(|x| x as f64).collect(),
            Values::U8(v) => v.into_iter().map(f64::from).collect(),
        };
        (path, values)
    };
    paths.into_iter().filter(|p| p != "/training/seconds" && p != "/checksum").map(read).collect()
}
