//! Where the tests find what is not compiled into them.

use std::path::PathBuf;

/// The checkout.
pub fn root() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", ".."].iter().collect()
}

/// An interpreter with numpy and h5py: PULLBACK_PYTHON, or the one that `make test` sets up.
pub fn interpreter() -> PathBuf {
    let named = std::env::var_os("PULLBACK_PYTHON").filter(|value| !value.is_empty());
    named.map_or_else(|| root().join(".venv/bin/python"), PathBuf::from)
}
