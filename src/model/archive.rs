//! The archive that a TorchScript file is. libtorch does not compare its members with their checksums, so a damaged file would be a model
//! with other weights, in silence.

use crate::error::{Error, Result};
use crate::zipped;
use std::fs::File;
use std::io::{Read, copy, sink};
use std::path::Path;

/// The first bytes of an archive.
const MAGIC: &[u8] = b"PK\x03\x04";

/// Checks that every member of an archive is as it was written. Other files are left to whoever says what they are.
///
/// # Errors
/// A wrong request if a member disagrees with its checksum, or the archive cannot be read; `subject` names it.
pub fn ensure_whole(path: &Path, subject: &str) -> Result<()> {
    let mut head = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAGIC.len() as u64).read_to_end(&mut head))
        .map_err(|e| Error::io(path, e))?;
    if head != MAGIC {
        return Ok(());
    }
    let damaged = |found: String| Error::request(subject, "a TorchScript file as it was written", found);
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    let mut archive = zipped::open(file).map_err(|_| damaged("a damaged zip archive (truncated?)".to_owned()))?;
    for member in 0..archive.len() {
        // Reading a member to its end compares it with its checksum.
        let mut member =
            archive.by_index(member).map_err(|e| damaged(format!("a damaged zip archive (member {member}: {e})")))?;
        let name = String::from_utf8_lossy(member.name_raw()).into_owned();
        copy(&mut member, &mut sink()).map_err(|e| damaged(format!("a damaged zip archive ({name}: {e})")))?;
    }
    Ok(())
}
