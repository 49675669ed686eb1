//! Checks of a file before its contents are used.

use super::columns::{self, fault};
use super::schema::DatasetInfo;
use crate::error::{Error, Result};
use hdf5::filters::Filter;
use hdf5::{Dataset, File, Group, LinkType};
use std::path::Path;

/// The first bytes of every HDF5 file.
const MAGIC: &[u8] = b"\x89HDF\r\n\x1a\n";

/// True if the file begins like an HDF5 file.
pub(super) fn starts_as_hdf5(path: &Path) -> Result<bool> {
    use std::io::Read;
    let mut first = Vec::with_capacity(MAGIC.len());
    let file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
    file.take(MAGIC.len() as u64).read_to_end(&mut first).map_err(|e| Error::io(path, e))?;
    Ok(first == MAGIC)
}

/// Where the superblock of an HDF5 file is, from which the file counts its addresses: at byte 0, or after a user block of 512, 1024, 2048, ...
/// bytes. `None` for a file of another kind.
///
/// # Errors
/// If the file cannot be read.
pub fn superblock(path: &Path) -> Result<Option<u64>> {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
    let size = file.metadata().map_err(|e| Error::io(path, e))?.len();
    let mut offset = 0u64;
    while offset + MAGIC.len() as u64 <= size && offset <= 1 << 30 {
        let mut bytes = [0u8; MAGIC.len()];
        file.read_exact_at(&mut bytes, offset).map_err(|e| Error::io(path, e))?;
        if bytes == *MAGIC {
            return Ok(Some(offset));
        }
        offset = if offset == 0 { 512 } else { offset * 2 };
    }
    Ok(None)
}

/// False if HDF5 2.0 would read a heap for ever: a global one, which holds the text of attributes, with a hole, or a local one, which holds
/// names, with free space that goes round in a circle, for which it takes all memory.
///
/// A power failure or an interrupted copy leaves zeros in place of data. The heaps of most files lie at their beginning, so only this part is
/// checked.
///
/// # Errors
/// If the file cannot be read.
pub fn heap_is_whole(path: &Path) -> Result<bool> {
    use std::io::{Read, Seek, SeekFrom};
    // Format: HDF5 File Format Specification 3.0, III.E "Global Heap".
    const SIGNATURE: &[u8] = b"GCOL\x01\0\0\0";
    const HEADER: usize = 16;
    let mut first = vec![];
    // Addresses are counted from the superblock.
    let base = superblock(path)?.unwrap_or(0);
    let mut file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
    file.seek(SeekFrom::Start(base)).map_err(|e| Error::io(path, e))?;
    file.take(1 << 20).read_to_end(&mut first).map_err(|e| Error::io(path, e))?;
    let number = |at: usize, width: usize| -> Option<usize> {
        let bytes = first.get(at..at.checked_add(width)?)?;
        usize::try_from(bytes.iter().rev().fold(0u64, |n, byte| n << 8 | u64::from(*byte))).ok()
    };
    // III.D "Local Heap": signature and version, the size of the segment, the first free block, the segment's address.
    for start in (0..first.len().saturating_sub(32)).filter(|at| first[*at..].starts_with(b"HEAP\0\0\0\0")) {
        let (Some(size), Some(free), Some(segment)) =
            (number(start + 8, 8), number(start + 16, 8), number(start + 24, 8))
        else {
            continue;
        };
        // A free block begins with the offset of the next one, or 1 if it is the last, and has 16 bytes at least.
        let next = |offset: &usize| number(segment.checked_add(*offset)?, 8);
        let blocks = std::iter::successors(Some(free), next).take_while(|offset| *offset != 1);
        let most = size.min(first.len()) / 16;
        if blocks.take(most + 2).count() > most {
            return Ok(false);
        }
    }
    for start in (0..first.len().saturating_sub(SIGNATURE.len())).filter(|at| first[*at..].starts_with(SIGNATURE)) {
        let Some(end) = number(start + 8, 8).and_then(|size| start.checked_add(size)) else {
            return Ok(false);
        };
        let mut at = start + HEADER;
        while at + HEADER <= end {
            let (Some(object), Some(size)) = (number(at, 2), number(at + 8, 8)) else {
                break;
            };
            // Object 0 is the free space, with its own header; the others are padded to 8 bytes.
            let step = if object == 0 {
                Some(size)
            } else {
                size.checked_next_multiple_of(8).and_then(|n| n.checked_add(HEADER))
            };
            match step.and_then(|step| at.checked_add(step)) {
                Some(next) if next >= at + HEADER && next <= end => at = next,
                _ => return Ok(false),
            }
        }
    }
    Ok(true)
}

/// False if HDF5 2.0 might read beyond a chunk: its filter fletcher32 takes a checksum from the last four bytes, whether a chunk has them or
/// not. What another filter unpacks is counted by nobody before, so fletcher32 must be the last one, as h5py and netCDF write it.
pub fn checksums_are_whole(data: &Dataset) -> bool {
    const CHECKSUM: u64 = 4;
    let filters = data.filters();
    match filters.iter().position(|filter| matches!(filter, Filter::Fletcher32)) {
        None => true,
        Some(at) if at + 1 < filters.len() => false,
        Some(_) => {
            let mut whole = true;
            let visited = data.chunks_visit(|chunk| {
                whole &= chunk.size >= CHECKSUM;
                0
            });
            visited.is_ok() && whole
        }
    }
}

/// Every data set of a file, by path. Only data sets in the file itself are listed; links to other places are ignored.
pub(super) fn datasets(file: &File, path: &Path) -> Result<Vec<DatasetInfo>> {
    // Groups may contain themselves; the format has a depth of eight (a relation with damage by a further set).
    const DEPTH: usize = 8;
    fn walk(group: &Group, prefix: &str, depth: usize, found: &mut Vec<DatasetInfo>) -> hdf5::Result<()> {
        let mut links = vec![];
        group.iter_visit_default(|name, info| {
            if info.link_type == LinkType::Hard {
                links.push(name.to_owned());
            }
            Ok(())
        })?;
        for name in links {
            let path = format!("{prefix}/{name}");
            match group.loc_type_by_name(&name)? {
                hdf5::LocationType::Dataset => {
                    let dataset = group.dataset(&name)?;
                    if !checksums_are_whole(&dataset) {
                        return Err(hdf5::Error::Internal(format!("{path}: chunks without their checksums")));
                    }
                    found.push(DatasetInfo { path, dtype: columns::dtype_of(&dataset), shape: dataset.get_shape()? });
                }
                hdf5::LocationType::Group if depth > 1 => walk(&group.group(&name)?, &path, depth - 1, found)?,
                _ => {}
            }
        }
        Ok(())
    }
    let mut found = vec![];
    walk(file, "", DEPTH, &mut found).map_err(|e| fault(path, e))?;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}
