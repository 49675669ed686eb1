//! Files that are written completely or not at all.

use crate::error::{Error, Result};
use pullback_results::lock::TEMPORARY;
use std::io::Write;
use std::path::Path;

/// Writes a temporary file and moves it to `path`, so that `path` has the complete contents or is unchanged. What a killed process leaves of
/// it goes with the next lock of its folder ([`crate::lock::FolderLock`]).
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(TEMPORARY)
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(folder)
        .map_err(|e| Error::io(folder, e))?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(|e| Error::io(path, e))?;
    file.persist(path).map_err(|e| Error::io(path, e.error))?;
    Ok(())
}
