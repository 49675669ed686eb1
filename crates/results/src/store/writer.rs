//! Writes blocks: a result file that grows by rows, stays usable after a kill, and is resumed by the same run.
//!
//! An unfinished file is called `<name>.partial`. It is safe to kill the process at any moment, because:
//! - The structure (all data sets, their whole space) is written before the first row and never changes afterwards, so
//!   later blocks touch no HDF5 metadata, and a file that opened once opens again.
//! - `/index` is the journal (see `journal`). A row counts as done once all of its values are written; half-written
//!   rows are computed again.
//! - A partial file without a finished row is begun again: its structure may be incomplete, and nothing is lost.
//! - `pullback_format` is 0 until the file is complete, so that no reader takes it for a result.

use super::checksum::{self, ROWS};
use super::columns::{self, fault};
use super::header::{self, Header};
use super::journal::{self, Journal};
use super::partial::{Found, Partial, Rows, resume};
use super::schema::{self, INDEX, LABEL, sample_axis};
use super::target::{Overwrite, Target};
use super::whole::check_whole;
use super::{Block, Column, Sink, Values};
use crate::error::{Error, Result};
use hdf5::{Dataset, File};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::Path;

/// The samples of a run, in the order of the file's rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Samples {
    /// The first N samples of the data set.
    First(usize),
    /// These samples, by position in the data set.
    Listed(Vec<u64>),
}

impl From<usize> for Samples {
    fn from(n: usize) -> Self {
        Self::First(n)
    }
}

impl From<Vec<u64>> for Samples {
    fn from(index: Vec<u64>) -> Self {
        Self::Listed(index)
    }
}

/// How a [`Writer`] began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resumption {
    /// There was no partial file.
    New,
    /// A partial file of the same run is continued.
    Resumed {
        /// How many samples it contained.
        done: usize,
        /// How many more it contained whose values are not as written: they are computed again.
        damaged: usize,
    },
    /// A useless partial file was replaced, or renamed.
    Replaced {
        /// The reason, and its new path if its contents may be useful.
        why: String,
    },
}

/// Writes one result file, block by block. If it is dropped unfinished, the partial file is kept for a later run.
#[derive(Debug)]
pub struct Writer {
    target: Target,
    kind: super::FileKind,
    file: File,
    start: Resumption,
    /// Sample index of each row.
    index: Vec<u64>,
    /// Row of each sample.
    row: HashMap<u64, usize>,
    stored: Vec<bool>,
    done: Vec<u64>,
    journal: Journal,
    /// The data sets with one row for each sample, by path; empty before the first block.
    columns: BTreeMap<String, Dataset>,
}

impl Writer {
    /// Begins or resumes the result file `path`.
    ///
    /// `fixed` are data sets without a row for each sample, such as `/eps`; they are written at once. A partial file of the same run (same
    /// request, `fixed` and samples) is resumed, one without a finished row is replaced, one that cannot be read is renamed;
    /// [`Writer::start`] says which.
    ///
    /// # Errors
    /// A wrong request if `path` exists and may not be overwritten, cannot be written, or is being written by another process; also if
    /// finished rows of another run lie under its partial name, unless they may be overwritten.
    pub fn create(
        path: &Path,
        header: &Header,
        samples: impl Into<Samples>,
        fixed: &[Column],
        overwrite: Overwrite,
    ) -> Result<Self> {
        Self::begin(Target::new(path, overwrite)?, header, samples.into(), fixed, Partial::Resume)
    }

    /// [`Writer::create`] that goes on with no earlier attempt: for what is made quickly, in place of an older file.
    ///
    /// # Errors
    /// As [`Writer::create`], except for files that are there.
    pub fn anew(path: &Path, header: &Header, samples: impl Into<Samples>, fixed: &[Column]) -> Result<Self> {
        Self::begin(Target::new(path, Overwrite::Yes)?, header, samples.into(), fixed, Partial::Discard)
    }

    /// Never waits for the disk: for a file that is gone with the process that asked for it. Its rows survive the end of the process, but not
    /// that of the machine.
    #[must_use]
    pub fn passing(mut self) -> Self {
        self.target.lasting = false;
        self
    }

    pub(super) fn begin(
        mut target: Target,
        header: &Header,
        samples: Samples,
        fixed: &[Column],
        partial: Partial,
    ) -> Result<Self> {
        let index = match samples {
            Samples::First(n) => (0..n as u64).collect(),
            Samples::Listed(index) => index,
        };
        let row: HashMap<u64, usize> = index.iter().enumerate().map(|(row, i)| (*i, row)).collect();
        if index.is_empty() || row.len() != index.len() || index.iter().any(|i| *i > journal::MOST) {
            let expected = "at least one sample, none of them twice";
            return Err(Error::request("samples of a result file", expected, format!("{} samples", index.len())));
        }
        for column in fixed {
            check_whole(column)?;
            if sample_axis(header.kind, &column.path).is_some() {
                return Err(Error::request(
                    format!("column {}", column.path),
                    "one without a row per sample",
                    "one that comes with the blocks",
                ));
            }
        }
        let (found, start) = match resume(&target, header, &index, fixed, partial)? {
            Found::Nothing => (None, Resumption::New),
            Found::Useless(why) => (None, Resumption::Replaced { why }),
            Found::Damaged => {
                let (fresh, why) = target.put_aside()?;
                target = fresh;
                (None, Resumption::Replaced { why })
            }
            Found::Others(done, name) if target.overwrite == Overwrite::No => {
                let found = format!("{done} finished samples of another run ({name} differs)");
                let subject = target.partial.display().to_string();
                return Err(Error::request(subject, "the run that began it, or --force to begin anew", found));
            }
            Found::Others(_, name) => {
                (None, Resumption::Replaced { why: format!("it is of another run: {name} differs") })
            }
            Found::Rows(rows, damaged) => {
                let done = rows.stored.iter().filter(|s| **s).count();
                (Some(rows), Resumption::Resumed { done, damaged })
            }
        };
        let rows = match found {
            Some(rows) => rows,
            None => Rows::create(&target, header, &index, fixed).inspect_err(|_| target.discard())?,
        };
        let done = index.iter().zip(&rows.stored).filter(|(_, s)| **s).map(|(i, _)| *i).collect();
        Ok(Self {
            target,
            kind: header.kind,
            file: rows.file,
            start,
            index,
            row,
            stored: rows.stored,
            done,
            journal: rows.journal,
            columns: rows.columns,
        })
    }

    /// Whether the file is new, resumed, or replaces a useless partial file.
    pub fn start(&self) -> &Resumption {
        &self.start
    }

    /// The samples that are stored, by position in the data set.
    pub fn done(&self) -> &[u64] {
        &self.done
    }

    /// True if the sample at position `index` of the data set is stored.
    pub fn is_done(&self, index: u64) -> bool {
        self.row.get(&index).is_some_and(|row| self.stored[*row])
    }

    /// The samples that are not stored yet, in the order of their rows.
    pub fn remaining(&self) -> Vec<u64> {
        self.index.iter().zip(&self.stored).filter(|(_, s)| !**s).map(|(i, _)| *i).collect()
    }

    /// Stores one block. Each of its samples must be a sample of the run that is not stored yet, and all blocks have the same columns.
    /// After the call the rows survive the end of the process, in whatever way, and within two seconds also that of the machine.
    pub fn put(&mut self, block: &Block) -> Result<()> {
        let rows = self.rows_of(block)?;
        let labels = block.labels.as_ref().map(|labels| Column {
            path: LABEL.to_owned(),
            shape: vec![labels.len()],
            sample_axis: 0,
            values: Values::I64(labels.clone()),
        });
        let mut columns: Vec<&Column> = block.columns.iter().chain(&labels).collect();
        self.check_columns(block.index.len(), &columns)?;
        if rows.is_empty() {
            return Ok(());
        }
        let sums = Column {
            path: ROWS.to_owned(),
            shape: vec![block.index.len()],
            sample_axis: 0,
            values: Values::I64(checksum::of_rows(&block.index, &columns)),
        };
        columns.push(&sums);
        if self.columns.is_empty() {
            self.create_columns(&columns)?;
        }
        let partial = self.target.partial.clone();
        for column in columns {
            let dataset = &self.columns[&column.path];
            for run in runs(&rows) {
                let part;
                let whole = run.positions.len() == rows.len() && run.positions.iter().copied().eq(0..rows.len());
                let column = if whole {
                    column
                } else {
                    part = column.take(&run.positions);
                    &part
                };
                columns::write(dataset, column, Some(run.rows)).map_err(|e| fault(&partial, e))?;
            }
        }
        self.flush()?;
        let samples: Vec<(usize, u64)> = rows.iter().map(|(row, position)| (*row, block.index[*position])).collect();
        self.journal.note(&samples, &self.file, &self.target)?;
        for (row, index) in samples {
            self.stored[row] = true;
            self.done.push(index);
        }
        Ok(())
    }

    /// Checks that every row is stored, marks the file complete, and gives it its final name.
    pub fn finish(mut self) -> Result<()> {
        let (there, all) = (self.done.len(), self.index.len());
        if there != all {
            let message = format!("{there} of {all} samples are stored: the file is not complete");
            return Err(Error::io(&self.target.partial, io::Error::new(ErrorKind::UnexpectedEof, message)));
        }
        self.journal.settle(&self.file, &self.target)?;
        self.ensure_as_written()?;
        checksum::seal(&self.file, &self.target.partial)?;
        header::set_format(&self.file, &self.target.partial)?;
        self.flush()?;
        let Self { target, file, journal, columns, .. } = self;
        // The file closes only if nothing inside it is open.
        drop((journal, columns));
        file.close().map_err(|e| fault(&target.partial, e))?;
        target.publish()
    }

    /// Reads every row once more, so that the published values are the computed ones.
    fn ensure_as_written(&self) -> Result<()> {
        let agree = checksum::agreeing(&self.columns, self.kind, &self.index, &self.stored);
        if agree.is_some_and(|agree| agree.iter().all(|a| *a)) {
            return Ok(());
        }
        let message = "values that are not as they were written (damaged?); the next run computes them again";
        Err(Error::io(&self.target.partial, io::Error::new(ErrorKind::InvalidData, message)))
    }

    fn flush(&self) -> Result<()> {
        self.file.flush().map_err(|e| fault(&self.target.partial, e))
    }

    /// (row in the file, position in the block) of each sample, by row.
    fn rows_of(&self, block: &Block) -> Result<Vec<(usize, usize)>> {
        let mut rows = Vec::with_capacity(block.index.len());
        let mut seen = HashSet::new();
        for (position, index) in block.index.iter().enumerate() {
            let wrong = |found: &str| {
                Err(Error::request(
                    format!("sample {index} of {}", self.target.path.display()),
                    "a sample of the run, once",
                    found,
                ))
            };
            match self.row.get(index) {
                None => return wrong("none of the run's"),
                Some(row) if self.stored[*row] || !seen.insert(*row) => {
                    return wrong("one that is stored already");
                }
                Some(row) => rows.push((*row, position)),
            }
        }
        rows.sort_unstable();
        Ok(rows)
    }

    /// Checks the block's columns against the format, the block's length, and the data sets that exist.
    fn check_columns(&self, samples: usize, columns: &[&Column]) -> Result<()> {
        let mut seen = HashSet::new();
        for column in columns {
            schema::check_path(&column.path)?;
            let subject = || format!("column {}", column.path);
            let axis = sample_axis(self.kind, &column.path);
            // The file has these itself; no block contains them.
            let own = [INDEX, ROWS].contains(&column.path.as_str());
            if axis != Some(column.sample_axis) || own {
                let expected = match axis {
                    Some(axis) if !own => format!("samples on axis {axis}"),
                    _ => "a data set with a row per sample".to_owned(),
                };
                return Err(Error::request(subject(), expected, format!("axis {}", column.sample_axis)));
            }
            column.check(Some(samples))?;
            if !seen.insert(column.path.as_str()) {
                return Err(Error::request(subject(), "once in a block", "twice"));
            }
            if self.columns.is_empty() {
                continue;
            }
            let Some(dataset) = self.columns.get(&column.path) else {
                return Err(Error::request(subject(), "a column of the earlier blocks", "a new one"));
            };
            let (dtype, shape) = (columns::dtype_of(dataset), dataset.shape());
            let expected = columns::with_axis(&column.shape, column.sample_axis, self.index.len());
            if dtype != Some(column.values.dtype()) || shape != expected {
                return Err(Error::request(
                    subject(),
                    format!("the earlier blocks' type and shape {shape:?}"),
                    format!("{} {expected:?}", column.values.dtype()),
                ));
            }
        }
        match self.columns.keys().find(|path| *path != ROWS && !seen.contains(path.as_str())) {
            Some(path) => Err(Error::request(format!("column {path}"), "in every block", "a block without it")),
            None => Ok(()),
        }
    }

    fn create_columns(&mut self, columns: &[&Column]) -> Result<()> {
        // In a fixed order, so that the same results make the same file.
        let mut columns = columns.to_vec();
        columns.sort_by(|a, b| a.path.cmp(&b.path));
        for column in columns {
            let shape = columns::with_axis(&column.shape, column.sample_axis, self.index.len());
            let dataset = columns::create(&self.file, &column.path, column.values.dtype(), &shape)
                .map_err(|e| fault(&self.target.partial, e))?;
            self.columns.insert(column.path.clone(), dataset);
        }
        // From now on the structure is on the disk and does not change.
        self.flush()?;
        self.target.sync()
    }
}

impl Sink for Writer {
    fn put(&mut self, block: &Block) -> Result<()> {
        Writer::put(self, block)
    }

    fn finish(self: Box<Self>) -> Result<()> {
        Writer::finish(*self)
    }
}

/// Neighbouring rows of the file, and their place in a block.
struct Run {
    rows: Range<usize>,
    positions: Vec<usize>,
}

/// Cuts sorted (row, position) pairs into runs of neighbouring rows.
fn runs(rows: &[(usize, usize)]) -> Vec<Run> {
    let neighbours = rows.chunk_by(|a, b| a.0 + 1 == b.0);
    neighbours
        .filter_map(|run| {
            let (first, last) = (run.first()?.0, run.last()?.0);
            Some(Run { rows: first..last + 1, positions: run.iter().map(|(_, p)| *p).collect() })
        })
        .collect()
}
