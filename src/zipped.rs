//! Zip archives as torch and NumPy write them.

use std::fs::File;
use std::io::BufReader;
use zip::read::{ArchiveOffset, Config, ZipArchive};
use zip::result::ZipResult;

/// A zip archive that begins with its first member. Unless this is said, an archive may be thought to begin later: the end record of large
/// ones, which torch always writes, can look like something in front, if the first member's entry is as long as it.
///
/// # Errors
/// If the file cannot be read, or is none.
pub fn open(file: File) -> ZipResult<ZipArchive<BufReader<File>>> {
    ZipArchive::with_config(Config { archive_offset: ArchiveOffset::Known(0) }, BufReader::with_capacity(1 << 18, file))
}
