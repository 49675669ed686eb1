//! Shards of one run -> one file: rows by sample index, read and written in pieces.

use super::checksum;
use super::columns::rows_together;
use super::header::{Difference, of_all_shards};
use super::partial::Partial;
use super::reader::Reader;
use super::schema::DatasetInfo;
use super::schema::{INDEX, LABEL, sample_axis};
use super::target::{Overwrite, Target};
use super::writer::{Samples, Writer};
use super::{Block, Column, FileKind, Header, Values};
use crate::error::{Error, Result};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Joins result files of the same run over different samples into `output`.
///
/// # Errors
/// A wrong request if the shards are not of one run (the request, weights, data, seed, data sets and those without a row for each sample,
/// such as `/eps`, must agree), if a sample is in two of them, or if one is missing.
pub fn merge(shards: &[PathBuf], output: &Path, overwrite: Overwrite) -> Result<()> {
    let readers = shards.iter().map(|path| Reader::open_resting(path)).collect::<Result<Vec<_>>>()?;
    let Some(first) = readers.first() else {
        return Err(Error::request("shards to merge", "at least one file", "none"));
    };
    for other in &readers[1..] {
        agree(first, other)?;
        other.rest();
    }
    if first.header().kind == FileKind::Sweep {
        let path = first.path().display().to_string();
        return Err(Error::request(path, "scores or attack: files with a row per sample", "a sweep"));
    }
    let rows = order(&readers)?;
    ensure_whole(first.header(), &rows)?;
    let (per_sample, whole): (Vec<_>, Vec<_>) =
        first.datasets().iter().partition(|d| sample_axis(first.header().kind, &d.path).is_some());
    let fixed = whole.iter().map(|d| first.read(&d.path)).collect::<Result<Vec<_>>>()?;
    let samples = Samples::Listed(rows.iter().map(|r| r.index).collect());
    // Merging is quick and starts again each time, under its own name, because the partial name may hold an unfinished run's rows.
    let target = Target::called(output, overwrite, ".merging")?;
    let mut writer = Writer::begin(target, &header(&readers), samples, &fixed, Partial::Discard)?;
    let together = rows_together(per_sample.iter().map(|d| (d.dtype, &d.shape[..])), first.samples());
    for piece in rows.chunks(together) {
        writer.put(&block(&readers, &per_sample, piece)?)?;
    }
    writer.finish()
}

/// The place of a sample.
struct Row {
    index: u64,
    shard: usize,
    row: usize,
}

/// Every sample, by index.
fn order(readers: &[Reader]) -> Result<Vec<Row>> {
    let mut rows: Vec<Row> = readers
        .iter()
        .enumerate()
        .flat_map(|(shard, r)| r.index().iter().enumerate().map(move |(row, i)| Row { index: *i, shard, row }))
        .collect();
    rows.sort_unstable_by_key(|r| (r.index, r.shard));
    match rows.windows(2).find(|pair| pair[0].index == pair[1].index) {
        Some(pair) => Err(Error::request(
            format!("sample {}", pair[0].index),
            "in one shard only",
            format!("in {} and {}", readers[pair[0].shard].path().display(), readers[pair[1].shard].path().display()),
        )),
        None => Ok(rows),
    }
}

/// Checks that no sample of the run is missing; if the shards do not say how many it has, no sample up to the last.
fn ensure_whole(header: &Header, rows: &[Row]) -> Result<()> {
    let total = match header.samples {
        0 => rows.last().map_or(0, |r| r.index + 1),
        samples => samples,
    };
    if rows.len() as u64 == total {
        return Ok(());
    }
    let wrong = |found: String| {
        Err(Error::request("shards to merge", format!("every sample of the run, {total} in all"), found))
    };
    // A draw can have its samples anywhere in the data set: nobody knows which are missing.
    if header.is_draw() || rows.last().is_some_and(|last| last.index >= total) {
        return wrong(match total.checked_sub(rows.len() as u64) {
            Some(missing) => format!("{missing} missing"),
            None => format!("{} in all", rows.len()),
        });
    }
    let mut gaps: Vec<Range<u64>> = Vec::new();
    let mut next = 0;
    for end in rows.iter().map(|r| r.index).chain([total]) {
        if end > next {
            gaps.push(next..end);
        }
        next = end + 1;
    }
    let missing: u64 = gaps.iter().map(|gap| gap.end - gap.start).sum();
    let shown = |gap: &Range<u64>| match gap.end - gap.start {
        1 => gap.start.to_string(),
        _ => format!("{} to {}", gap.start, gap.end - 1),
    };
    wrong(format!("{missing} missing: {}", gaps.iter().take(5).map(shown).collect::<Vec<_>>().join(", ")))
}

/// Checks that two shards belong to one run.
fn agree(first: &Reader, other: &Reader) -> Result<()> {
    let (a, b) = (first.header(), other.header());
    let differ = |name: &str, a: &str, b: &str| {
        let subject = format!("{}: {name}", other.path().display());
        Err(Error::request(subject, format!("{a} as in {}", first.path().display()), b))
    };
    if let Some(Difference { name, ours, theirs }) = a.difference(b) {
        return differ(&name, &ours, &theirs);
    }
    let shown = |d: Option<&DatasetInfo>| match d {
        Some(DatasetInfo { dtype: Some(dtype), shape, .. }) => format!("{dtype} {shape:?}"),
        Some(DatasetInfo { shape, .. }) => format!("another type {shape:?}"),
        None => "no such data set".to_owned(),
    };
    // Shapes agree except for the number of samples.
    let bare = |d: &DatasetInfo| {
        let mut shape = d.shape.clone();
        if let Some(axis) = sample_axis(a.kind, &d.path) {
            shape.drain(axis..=axis);
        }
        (d.path.clone(), d.dtype, shape)
    };
    for info in first.datasets().iter().chain(other.datasets()) {
        let (ours, theirs) = (first.info(&info.path), other.info(&info.path));
        if ours.map(bare) != theirs.map(bare) {
            return differ(&info.path, &shown(ours), &shown(theirs));
        }
        if sample_axis(a.kind, &info.path).is_none() {
            let (ours, theirs) = (first.read(&info.path)?, other.read(&info.path)?);
            if !ours.values.agree(&info.path, &theirs.values) {
                return differ(&info.path, "the values", "others");
            }
        }
    }
    Ok(())
}

/// The merged file's header: the first shard's, with all devices and libtorch versions.
fn header(readers: &[Reader]) -> Header {
    let all = |of: fn(&Header) -> &str| {
        let mut names: Vec<&str> = readers.iter().map(|r| of(r.header())).collect();
        names.sort_unstable();
        names.dedup();
        names.join(", ")
    };
    let first = readers.first().map(|r| r.header().clone()).unwrap_or_default();
    Header { device: all(|h| &h.device), libtorch: all(|h| &h.libtorch), config: of_all_shards(&first.config), ..first }
}

/// The samples of `piece` as one block.
fn block(readers: &[Reader], per_sample: &[&DatasetInfo], piece: &[Row]) -> Result<Block> {
    // Ordered by shard and row, so that neighbours in a shard are read together; the writer puts each row in its place.
    let mut piece: Vec<&Row> = piece.iter().collect();
    piece.sort_unstable_by_key(|r| (r.shard, r.row));
    let runs: Vec<(usize, Range<usize>)> = piece
        .chunk_by(|a, b| a.shard == b.shard && a.row + 1 == b.row)
        .filter_map(|run| Some((run.first()?.shard, run.first()?.row..run.last()?.row + 1)))
        .collect();
    let mut block = Block { index: piece.iter().map(|r| r.index).collect(), labels: None, columns: vec![] };
    let read: Vec<&DatasetInfo> =
        per_sample.iter().copied().filter(|d| d.path != INDEX && d.path != checksum::ROWS).collect();
    let mut parts: Vec<Vec<Column>> = vec![vec![]; read.len()];
    // One shard after the other, so that no more than one is open.
    for own in runs.chunk_by(|a, b| a.0 == b.0) {
        for (shard, rows) in own {
            for (info, parts) in read.iter().zip(&mut parts) {
                parts.push(readers[*shard].read_rows(&info.path, rows.clone())?);
            }
        }
        if let [(shard, _), ..] = own {
            readers[*shard].rest();
        }
    }
    for (info, parts) in read.into_iter().zip(parts) {
        let Some(column) = Column::join(&parts) else {
            return Err(Error::request(format!("column {}", info.path), "one type in all shards", "several"));
        };
        match column.values {
            Values::I64(labels) if info.path == LABEL => block.labels = Some(labels),
            _ => block.columns.push(column),
        }
    }
    Ok(block)
}
