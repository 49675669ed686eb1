//! What reads bytes and texts by hand: whatever comes, an answer or one line of an error, never a panic; what was written comes back.

mod arrays; //   .npy, .npz, safetensors
mod datasets; // IDX, CIFAR-10, pictures
mod typed; //    what a user types

use proptest::prelude::*;
use proptest::sample::Index;
use pullback::Result;
use pullback::data::{self, Split};
use std::path::Path;

/// So many cases, times PULLBACK_CASES for a long search; none is remembered in files.
fn cases(cases: u32) -> ProptestConfig {
    let times = std::env::var("PULLBACK_CASES").ok().and_then(|times| times.parse().ok()).unwrap_or(1);
    ProptestConfig { cases: cases * times, failure_persistence: None, ..ProptestConfig::default() }
}

/// What may happen to a file: bytes that are others, an end that is missing, more behind it.
#[derive(Clone, Debug)]
struct Damage {
    changed: Vec<(Index, u8)>,
    kept: Option<Index>,
    more: Vec<u8>,
}

fn damage() -> impl Strategy<Value = Damage> {
    let changed = prop::collection::vec((any::<Index>(), any::<u8>()), 0..5);
    let more = prop::collection::vec(any::<u8>(), 0..9);
    (changed, prop::option::weighted(0.3, any::<Index>()), prop_oneof![3 => Just(vec![]), 1 => more])
        .prop_map(|(changed, kept, more)| Damage { changed, kept, more })
}

impl Damage {
    /// Only the first `head` bytes are changed, where mistakes mean most, unless that is all.
    fn done_to(&self, whole: &[u8], head: usize) -> Vec<u8> {
        let mut bytes = whole.to_vec();
        for (place, byte) in &self.changed {
            let place = place.index(head.min(bytes.len()));
            bytes[place] = *byte;
        }
        if let Some(kept) = &self.kept {
            bytes.truncate(kept.index(bytes.len()));
        }
        bytes.extend_from_slice(&self.more);
        bytes
    }
}

/// An error that a user can read: one line, and a code that says whose fault it is.
fn is_readable<T>(answer: &Result<T>) -> bool {
    answer.as_ref().err().is_none_or(|error| {
        let line = error.to_string();
        !line.trim().is_empty() && !line.contains('\n') && matches!(error.exit_code(), 1 | 2)
    })
}

/// Opens a data set and reads some of it, if it is one.
fn opens(path: &Path) -> Result<()> {
    let source = data::open(&path.display().to_string(), Split::Test, None)?;
    let index: Vec<u64> = (0..source.len().min(3) as u64).collect();
    let batch = source.read(&index)?;
    let shape = source.shape();
    assert_eq!(batch.images.size(), [index.len() as i64, shape.channels, shape.height, shape.width]);
    Ok(())
}
