//! A folder for the files of one process's cases, in memory where there is /dev/shm.

use std::path::Path;
use std::sync::LazyLock;
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    let made = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    made.expect("a folder for temporary files")
});

/// The folder.
pub fn folder() -> &'static Path {
    FOLDER.path()
}
