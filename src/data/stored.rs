//! What an HDF5 data set says that it holds, and whether it is there: filters, sizes, the files that other values lie in.

use crate::data::rows::{first_line, wrong};
use crate::error::{Error, Result};
use crate::store::{VirtualPart, checksums_are_whole, heap_is_whole, virtual_parts};
use hdf5::plist::dataset_create::{ExternalFile, Layout};
use hdf5::{Dataset, File};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};

/// The cache for unpacked chunks in HDF5: a chunk holds many rows, and neighbouring batches share it.
pub const CHUNK_CACHE: usize = 64 << 20;

/// The file, opened without locks, as all data are.
pub fn opened(path: &Path, cache: usize) -> Result<File> {
    if !heap_is_whole(path)? {
        return Err(wrong(path, "a readable HDF5 file", "a damaged heap"));
    }
    File::with_options()
        .with_fapl(|plist| plist.chunk_cache(12_421, cache, 0.75).file_locking(false))
        .open(path)
        .map_err(|e| unreadable(path, &e))
}

/// A file that HDF5 cannot read is the wrong file, no matter where in the file this shows.
pub fn unreadable(path: &Path, e: &hdf5::Error) -> Error {
    wrong(path, "a readable HDF5 file", first_line(e))
}

/// Refuses before the first read what would fail in it, or would have its axes reversed.
pub fn ensure_readable(images: &Dataset, place: &str) -> Result<()> {
    if let Some(filter) = images.filters().iter().find(|filter| !filter.is_available()) {
        let found = format!("the filter {filter:?} (rewrite it: h5repack -f GZIP=1 OLD.h5 NEW.h5)");
        return Err(Error::request(place, "values plain or packed by gzip, shuffle or LZF", found));
    }
    if !checksums_are_whole(images) {
        let expected = "checksums (fletcher32) as the last filter, in every chunk";
        let found = "others (damaged? otherwise: h5repack -f GZIP=1 OLD.h5 NEW.h5)";
        return Err(Error::request(place, expected, found));
    }
    if is_matlab(images) { Err(reversed(place)) } else { Ok(()) }
}

/// True for a data set that MATLAB wrote.
pub fn is_matlab(data: &Dataset) -> bool {
    data.attr("MATLAB_class").is_ok()
}

/// The error for MATLAB's arrays. Its images are H x W x C x N, which HDF5 tells as [N, C, W, H].
pub fn reversed(place: impl Into<String>) -> Error {
    let convert = "h5py.File('NEW.h5', 'w')['images'] = h5py.File('OLD.mat')[NAME][:].swapaxes(-1, -2)";
    let found = format!(
        "a MATLAB file, whose axes are reversed (in Python: {convert} of H x W x C x N, or [:].T where N is first)"
    );
    Error::request(place, "axes as h5py writes them", found)
}

/// The most that packing saves: gzip makes a thousandth of zeros.
const PACKED: u64 = 1100;
/// A data set of at most so many bytes may lack its values, for which HDF5 has one to fill in.
const UNWRITTEN: u64 = 1 << 20;
/// The most chunks in one row: HDF5 holds kilobytes for each chunk of a read.
const CHUNKS: usize = 1 << 16;
/// The most files through which virtual data sets may show others' values: two of them may show each other's.
const DEPTH: usize = 8;

/// Refuses a data set of which the file cannot hold what its header says (sizes are not believed where memory depends on them), or whose
/// values are in other files that are not there: HDF5 fills in what is missing and says nothing. What else it fills in, `notes` tell.
pub fn ensure_stored(data: &Dataset, path: &Path, place: &str, notes: &mut Vec<String>) -> Result<()> {
    stored(data, path, place, notes, DEPTH)
}

fn stored(data: &Dataset, path: &Path, place: &str, notes: &mut Vec<String>, depth: usize) -> Result<()> {
    let (shape, width) = (data.shape(), data.dtype().map_or(8, |t| t.size() as u64));
    let declared = shape.iter().fold(width, |n, d| n.saturating_mul(*d as u64));
    let external = data.dcpl().and_then(|plist| plist.get_external()).map_err(|e| unreadable(path, &e))?;
    if data.layout() == Layout::Virtual {
        return sourced(data, path, place, notes, depth);
    }
    if !external.is_empty() {
        return ensure_external(&external, data, place, declared);
    }
    let file = std::fs::metadata(path).map_err(|e| Error::io(path, e))?.len();
    let held = data.storage_size().min(file);
    if declared > UNWRITTEN.saturating_add(held.saturating_mul(PACKED)) {
        let found = format!("{held} in the file (damaged, or never written?)");
        return Err(Error::request(place, format!("{declared} bytes of values, or their packed form"), found));
    }
    let chunk = data.chunk().unwrap_or_else(|| shape.clone());
    let along = shape.iter().zip(&chunk).skip(1).map(|(n, size)| n.div_ceil((*size).max(1)));
    let chunks = along.fold(1, usize::saturating_mul);
    if chunks > CHUNKS {
        let expected =
            format!("at most {CHUNKS} chunks for each sample (rewrite it: h5repack -l CHUNK=... OLD.h5 NEW.h5)");
        return Err(Error::request(place, expected, chunks.to_string()));
    }
    if let Some((count, first)) = unwritten(data, &shape, &chunk, chunks) {
        let total = shape.first().copied().unwrap_or(1);
        notes.push(format!(
            "{place}: {count} of {total} rows were never written, or not wholly, from row {first} on; HDF5 fills them in"
        ));
    }
    Ok(())
}

/// How many rows lack some of their `across` chunks, and the first of them; `None` where all are there, as far as this can be told.
fn unwritten(data: &Dataset, shape: &[usize], chunk: &[usize], across: usize) -> Option<(usize, usize)> {
    let (&rows, &height) = (shape.first()?, chunk.first()?);
    if !data.is_chunked() {
        return (data.storage_size() == 0).then_some((rows, 0));
    }
    let bands = rows.div_ceil(height.max(1));
    if data.num_chunks()? >= bands.saturating_mul(across) {
        return None;
    }
    // Only chunks that are there count here: what a header promises needs no memory.
    let mut there: HashMap<usize, usize> = HashMap::new();
    let visited = data.chunks_visit(|found| {
        *there.entry(found.offset.first().map_or(0, |at| *at as usize / height)).or_default() += 1;
        0
    });
    visited.ok()?;
    let mut whole: Vec<usize> = there.into_iter().filter(|(_, n)| *n >= across).map(|(band, _)| band).collect();
    whole.sort_unstable();
    let first = whole.iter().zip(0..).find(|(band, expected)| *band != expected).map_or(whole.len(), |(_, at)| at);
    let written: usize = whole.iter().map(|band| height.min(rows.saturating_sub(band * height))).sum();
    Some((rows.saturating_sub(written), first * height))
}

/// Refuses a data set whose values lie in plain files that are not there, or shorter than they should be.
fn ensure_external(files: &[ExternalFile], data: &Dataset, place: &str, declared: u64) -> Result<()> {
    let folder = PathBuf::from(data.filename()).parent().map(Path::to_owned).unwrap_or_default();
    // HDF5 looks in the working directory, or where this variable says.
    let prefix = std::env::var("HDF5_EXTFILE_PREFIX").unwrap_or_default();
    let prefix = match prefix.strip_prefix("${ORIGIN}") {
        Some(rest) => folder.join(rest.trim_start_matches('/')),
        None => PathBuf::from(prefix),
    };
    let mut rest = declared;
    for ExternalFile { name, offset, size } in files {
        // Without a size it is as long as the data set needs.
        let part = if *size == 0 { rest } else { rest.min(*size as u64) };
        let (at, offset) = (prefix.join(name), *offset as u64);
        let expected = format!("{part} bytes of its values in {}, from byte {offset} on", at.display());
        match std::fs::metadata(&at) {
            Ok(meta) if meta.len().saturating_sub(offset) >= part => rest -= part,
            Ok(meta) => return Err(Error::request(place, expected, format!("{} bytes in all", meta.len()))),
            Err(e) => return Err(Error::request(place, expected, first_line(&e))),
        }
    }
    Ok(())
}

/// Refuses a virtual data set that shows values of others of which one is not there, or is smaller than it was.
fn sourced(data: &Dataset, path: &Path, place: &str, notes: &mut Vec<String>, depth: usize) -> Result<()> {
    if depth == 0 {
        let found = "more (rewrite it: h5repack -l CONTI OLD.h5 NEW.h5)";
        return Err(Error::request(place, format!("values shown through at most {DEPTH} files"), found));
    }
    let parts = data.dcpl().and_then(|plist| virtual_parts(&plist)).map_err(|e| unreadable(path, &e))?;
    let (mut seen, mut shown) = (HashMap::new(), Some(0usize));
    for part in &parts {
        shown = shown.zip(part.values).map(|(all, n)| all.saturating_add(n));
        if is_numbered(&part.file) || is_numbered(&part.name) {
            // As many sources as there are, by number: none of them is missing.
            shown = None;
            continue;
        }
        let key = (part.file.as_str(), part.name.as_str());
        let found: &Vec<usize> = match seen.entry(key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(source(data, part, path, place, notes, depth)?),
        };
        let (fits, least) = match (&part.shape, part.values) {
            (Some(all), Some(n)) if all.is_empty() => (found.iter().product::<usize>() == n, format!("{n} values")),
            (Some(least), _) if !least.is_empty() => {
                let within = found.len() == least.len() && found.iter().zip(least).all(|(n, least)| n >= least);
                (within, format!("{least:?}"))
            }
            _ => continue,
        };
        if !fits {
            let expected = format!("{least} in its source {}: {}", part.file, part.name);
            return Err(Error::request(place, expected, format!("{found:?}")));
        }
    }
    let shape = data.shape();
    let total: usize = shape.iter().product();
    if let Some(shown) = shown.filter(|shown| *shown < total) {
        let missing = total - shown;
        notes.push(format!("{place}: {missing} of {total} values are of no source; HDF5 fills them in"));
    }
    Ok(())
}

/// The shape of a source of the virtual data set `data`, which is examined as `data` itself.
fn source(
    data: &Dataset,
    part: &VirtualPart,
    path: &Path,
    place: &str,
    notes: &mut Vec<String>,
    depth: usize,
) -> Result<Vec<usize>> {
    let name = part.file.replace("%%", "%");
    let lacks = |found: String| Error::request(place, format!("its source {name}: {}", part.name), found);
    let (file, at) = if name == "." {
        (data.file().map_err(|e| unreadable(path, &e))?, path.to_owned())
    } else {
        let places = places(&name, Path::new(&data.filename()));
        let found = places.into_iter().find(|at| at.is_file()).ok_or_else(|| lacks("no such file".to_owned()))?;
        (opened(&found, CHUNK_CACHE)?, found)
    };
    let inner = part.name.replace("%%", "%");
    if !file.link_exists(&inner) {
        return Err(lacks("no such data set".to_owned()));
    }
    let source = file.dataset(&inner).map_err(|e| lacks(first_line(&e)))?;
    let place = format!("{}: {}", at.display(), source.name());
    ensure_readable(&source, &place)?;
    stored(&source, &at, &place, notes, depth - 1)?;
    Ok(source.shape())
}

/// Where HDF5 looks for a source, in this order: the name as it is, the folders that a variable lists, the folder of the file, the working
/// directory, and the folder that a link to the file leads to.
fn places(name: &str, file: &Path) -> Vec<PathBuf> {
    let mut places = vec![];
    let mut name = Path::new(name);
    if name.is_absolute() {
        places.push(name.to_owned());
        name = name.file_name().map_or(name, Path::new);
    }
    let listed = std::env::var_os("HDF5_VDS_PREFIX").unwrap_or_default();
    places.extend(std::env::split_paths(&listed).filter(|p| !p.as_os_str().is_empty()).map(|p| p.join(name)));
    places.extend(file.parent().map(|folder| folder.join(name)));
    places.push(name.to_owned());
    places.extend(file.canonicalize().ok().and_then(|real| Some(real.parent()?.join(name))));
    places
}

/// True for a name in which HDF5 writes 0, 1, 2, ... in place of `%b`.
fn is_numbered(name: &str) -> bool {
    name.replace("%%", "").contains("%b")
}
