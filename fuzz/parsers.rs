//! What is fuzzed: each function gives a user's bytes to the code that reads them, as the program does. An error is an answer; a panic, a
//! hang, or memory that the bytes only claim is none.
//!
//! The targets of cargo-fuzz and the test of the corpora (tests/fuzzed.rs) share this file.

use pullback::config::{RunConfig, SweepSpec, Tree};
use pullback::data::{self, Split};
use pullback::event::Silent;
use pullback::pipeline::leaderboard::leaderboard as publish;
use pullback::store::{self, Overwrite, Reader};
use pullback::{Result, model};
use std::fs;
use std::path::Path;

/// A parser's name, which is that of its target and of its corpus, and what gives it bytes.
pub type Parser = (&'static str, fn(&[u8], &Path) -> Result<()>);

/// Every parser.
#[allow(dead_code)]
pub const PARSERS: [Parser; 10] = [
    ("idx", idx),
    ("cifar", cifar),
    ("hdf5", hdf5),
    ("npy", npy),
    ("npz", npz),
    ("config", config),
    ("safetensors", safetensors),
    ("pictures", pictures),
    ("results", results),
    ("leaderboard", leaderboard),
];

/// Writes the bytes under a name in `folder`, which held another case's.
fn put(folder: &Path, name: &str, bytes: &[u8]) {
    let path = folder.join(name);
    fs::write(&path, bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

/// The most that packing saves: gzip makes a thousandth of zeros.
const PACKED: u64 = 1100;
/// So many values are read whatever the bytes are.
const FEW: u64 = 1 << 20;

/// Opens a data set and reads some of it. `held` is how many bytes its values can lie in, where they must lie in the file: a header that
/// claims more must have been refused. Pictures, and HDF5's references to other files, may be large indeed, which is no finding.
fn opens(path: &Path, held: Option<usize>) -> Result<()> {
    let source = data::open(&path.display().to_string(), Split::Test, None)?;
    let index: Vec<u64> = (0..source.len().min(3) as u64).collect();
    let shape = source.shape();
    let one = [shape.channels, shape.height, shape.width].iter().fold(1u64, |n, d| n.saturating_mul(d.unsigned_abs()));
    if let Some(held) = held {
        let claimed = one.saturating_mul(source.len() as u64);
        assert!(claimed <= (held as u64).saturating_mul(PACKED), "{claimed} values in {held} bytes");
    }
    if held.is_some() || one < FEW {
        let batch = source.read(&index)?;
        assert_eq!(batch.images.size(), [index.len() as i64, shape.channels, shape.height, shape.width]);
    }
    Ok(())
}

/// A file of images in the format of MNIST, and one of labels beside good images.
pub fn idx(bytes: &[u8], folder: &Path) -> Result<()> {
    const GOOD: [u8; 24] = [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2, 0, 1, 2, 3, 4, 5, 6, 255];
    put(folder, "t10k-images-idx3-ubyte", &GOOD);
    put(folder, "t10k-labels-idx1-ubyte", bytes);
    let labels = opens(folder, Some(GOOD.len().max(bytes.len())));
    fs::remove_file(folder.join("t10k-labels-idx1-ubyte")).ok();
    put(folder, "t10k-images-idx3-ubyte", bytes);
    opens(folder, Some(bytes.len())).or(labels)
}

/// A binary batch of CIFAR-10.
pub fn cifar(bytes: &[u8], folder: &Path) -> Result<()> {
    put(folder, "test_batch.bin", bytes);
    opens(folder, Some(bytes.len()))
}

/// An HDF5 file of images.
pub fn hdf5(bytes: &[u8], folder: &Path) -> Result<()> {
    put(folder, "x.h5", bytes);
    opens(&folder.join("x.h5"), None)
}

/// A NumPy array.
pub fn npy(bytes: &[u8], folder: &Path) -> Result<()> {
    put(folder, "x.npy", bytes);
    opens(&folder.join("x.npy"), Some(bytes.len()))
}

/// A NumPy archive.
pub fn npz(bytes: &[u8], folder: &Path) -> Result<()> {
    put(folder, "x.npz", bytes);
    opens(&folder.join("x.npz"), Some(bytes.len()))
}

/// The YAML of a run and of a sweep.
pub fn config(bytes: &[u8], _: &Path) -> Result<()> {
    let text = String::from_utf8_lossy(bytes);
    let tree = Tree::text("fuzzed.yaml", &text)?;
    let run = RunConfig::parse(&tree).map(drop);
    SweepSpec::parse(&tree).map(drop).or(run)
}

/// Weights.
pub fn safetensors(bytes: &[u8], folder: &Path) -> Result<()> {
    put(folder, "x.safetensors", bytes);
    model::read_tensors(&folder.join("x.safetensors")).map(drop)
}

/// A folder with one picture.
pub fn pictures(bytes: &[u8], folder: &Path) -> Result<()> {
    put(folder, "a.png", bytes);
    opens(folder, None)
}

/// A result file: opened, summed up, read.
pub fn results(bytes: &[u8], folder: &Path) -> Result<()> {
    put(folder, "r.h5", bytes);
    let path = folder.join("r.h5");
    store::inspect(&path)?;
    let reader = Reader::open(&path)?;
    for info in reader.datasets() {
        if info.shape.iter().try_fold(1usize, |all, n| all.checked_mul(*n)).is_some_and(|all| all < 1 << 20) {
            reader.read(&info.path)?;
        }
    }
    Ok(())
}

/// Entries that `leaderboard` wrote, or should have: read, and ranked in a table.
pub fn leaderboard(bytes: &[u8], folder: &Path) -> Result<()> {
    put(folder, "entries.json", bytes);
    publish(&[folder.join("entries.json")], &folder.join("board.md"), Overwrite::Yes, &Silent)
}
