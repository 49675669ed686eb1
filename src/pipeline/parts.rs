//! Which samples of a run this process does: all, one part, or parts that no other process has, one after another. Each part has a result
//! file of its own, whose lock is the claim to it: the system releases it when a process ends, in whatever way, so that another process goes
//! on with the part.

use super::block::Block;
use super::flow::{Asked, Flow};
use super::job::{Job, Subject};
use super::lost::Watched;
use crate::config::{HandOut, Shard};
use crate::data;
use crate::device;
use crate::error::{Error, Result};
use crate::event::{Event, Observer};
use crate::ffi;
use crate::store::{Column, FileKind, Header, Overwrite, Reader, Resumption, Writer};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use tch::Tensor;

/// What is done to every sample, and the file that it makes.
pub(super) struct Stage<'a> {
    pub kind: FileKind,
    /// Its name for whoever watches.
    pub task: &'a str,
    pub metric: Option<String>,
    /// Further attributes of the file.
    pub extra: BTreeMap<String, String>,
    /// Data sets without a row for each sample.
    pub fixed: &'a [Column],
    pub block: Block,
    /// Accepts the columns, by path, in which NaN means a lost sample.
    pub tells: fn(&str) -> bool,
}

/// Turns images and their positions into columns.
type Evaluate<'a> = dyn FnMut(&Tensor, &[u64]) -> Result<Vec<Asked>> + 'a;

impl Job<'_> {
    /// Does the samples of this process: `evaluate` turns images [n, C, H, W], on the job's device and of its kind, and their positions into
    /// columns. `request` is the request for a subject, as files hold it. Stored results are kept if the observer says stop.
    ///
    /// # Errors
    /// A wrong request if an output may not be written; other errors as they occur.
    pub fn carry_out<R: Serialize>(
        &self,
        stage: Stage<'_>,
        request: impl Fn(Subject) -> R,
        observer: &dyn Observer,
        mut evaluate: impl FnMut(&Tensor, &[u64]) -> Result<Vec<Asked>>,
    ) -> Result<()> {
        let subject = self.subject();
        let header = self.header(&stage)?;
        let of = |subject: &Subject| -> Result<Header> {
            let config = serde_yaml::to_string(&request(subject.clone())).map_err(Error::yaml)?;
            Ok(Header { config, ..header.clone() })
        };
        if !matches!(subject.hand_out, HandOut::InTurn { .. }) {
            let samples = self.part(subject.shard)?;
            let writer = Writer::create(&subject.output, &of(subject)?, samples, stage.fixed, subject.overwrite)?;
            return self.store(writer, &subject.output, &stage, observer, &mut evaluate);
        }
        if subject.overwrite == Overwrite::Yes {
            let expected = "one process (--shard none), or a part for each (--shard I/N)";
            return Err(Error::request("--force", expected, "parts in turn: it would clear what other processes do"));
        }
        let mut left = subject.hand_out.order(self.positions().len(), begun(&subject.output));
        let (all, mut mine) = (left.len(), 0);
        // Parts that others have are asked for again after each round, because a process that ends early leaves its part to others.
        loop {
            let (before, mut busy) = (mine, Vec::new());
            for shard in left {
                let one = Subject { shard: Some(shard), output: shard.file(&subject.output), ..subject.clone() };
                let header = of(&one)?;
                if is_done(&one.output, &header)? {
                    continue;
                }
                match Writer::create(&one.output, &header, self.part(one.shard)?, stage.fixed, Overwrite::No) {
                    Ok(writer) => {
                        self.store(writer, &one.output, &stage, observer, &mut evaluate)?;
                        mine += 1;
                    }
                    Err(error) if error.is_in_use() => busy.push(shard),
                    // Another process has done it meanwhile.
                    Err(_) if one.output.exists() => {}
                    Err(error) => return Err(error.into()),
                }
            }
            left = busy;
            if left.is_empty() || mine == before {
                break;
            }
        }
        let rest = match left.len() {
            0 => "all are done; `merge` joins them".to_owned(),
            1 => "another process has the last one".to_owned(),
            n => format!("other processes have the last {n}"),
        };
        observer.on(Event::Note(&format!("{}: {mine} of {all} parts done here, {rest}", stage.task)));
        Ok(())
    }

    /// True, and told, where a launcher started more processes than there are samples, and this one has none.
    pub fn is_idle(&self, observer: &dyn Observer) -> bool {
        let (subject, total) = (self.subject(), self.positions().len());
        let launched = subject.hand_out == HandOut::Launched;
        let idle = launched && subject.shard.is_some_and(|shard| shard.range(total).is_empty());
        if idle {
            observer.on(Event::Note(&format!("nothing to do for this part: {total} samples in all")));
        }
        idle
    }

    /// Positions of the samples of a part of the run.
    fn part(&self, shard: Option<Shard>) -> Result<Vec<u64>> {
        let (positions, total) = (self.positions(), self.positions().len());
        let Some(shard) = shard else { return Ok(positions.to_vec()) };
        match &positions[shard.range(total)] {
            [] => Err(Error::request(format!("shard {shard}"), "at least one sample", format!("{total} in all"))),
            part => Ok(part.to_vec()),
        }
    }

    /// The attributes of the stage's files, without the request.
    fn header(&self, stage: &Stage<'_>) -> Result<Header> {
        let (subject, source) = (self.subject(), &self.source);
        Ok(Header {
            kind: stage.kind,
            config: String::new(),
            model: subject.model.display().to_string(),
            model_sha256: self.model.sha256.clone(),
            dataset: source.name().to_owned(),
            data_sha256: data::fingerprint(source.as_ref())?,
            samples: self.positions().len() as u64,
            split: subject.split.name().to_owned(),
            device: device::name(self.device),
            precision: subject.precision.name().to_owned(),
            seed: subject.seed,
            libtorch: ffi::LIBTORCH.to_owned(),
            metric: stage.metric.clone(),
            extra: self.described(stage.extra.clone())?,
        })
    }

    /// Stores block after block until every sample of `writer` is done.
    fn store(
        &self,
        writer: Writer,
        output: &Path,
        stage: &Stage<'_>,
        observer: &dyn Observer,
        evaluate: &mut Evaluate<'_>,
    ) -> Result<()> {
        let writer = if self.passing { writer.passing() } else { writer };
        tell_start(&writer, output, observer);
        let order = writer.remaining();
        let done = writer.done().len() as u64;
        observer.on(Event::Begin { task: stage.task, unit: "images", total: order.len() as u64 + done, done });
        let mut writer = Watched::new(writer, done as usize, self.positions().len(), stage.tells);
        let source = self.source.clone();
        let flow = Flow { source, order, block: stage.block, device: self.device, kind: self.kind };
        let run = flow.run(&mut writer, observer, evaluate);
        let writer = writer.told(stage.task, observer);
        let times = run?;
        observer.on(Event::End);
        observer.on(Event::Detail(&format!("{}, {times}", stage.task)));
        Ok(writer.finish()?)
    }
}

/// The number of parts of those whose files, finished or not, are beside `output`; the largest if there are several.
fn begun(output: &Path) -> Option<usize> {
    let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| Shard::of_file(output, &entry.path())).max()
}

/// Tells where a resumed file continues, and what is begun anew.
fn tell_start(writer: &Writer, output: &Path, observer: &dyn Observer) {
    let shown = output.display();
    match writer.start() {
        Resumption::New => {}
        Resumption::Resumed { done, damaged } => {
            observer.on(Event::Note(&format!("{shown}: goes on after {done} samples")));
            if *damaged > 0 {
                let again = format!("{damaged} more were damaged and are computed again");
                observer.on(Event::Warning(&format!("{shown}.partial: {again}")));
            }
        }
        Resumption::Replaced { why } => observer.on(Event::Note(&format!("{shown}: begun anew ({why})"))),
    }
}

/// True if a part's file is there and of this run.
///
/// # Errors
/// A wrong request if it is of another, or damaged.
fn is_done(file: &Path, header: &Header) -> Result<bool> {
    if !file.exists() {
        return Ok(false);
    }
    match header.differs_from(Reader::open(file)?.header()) {
        None => Ok(true),
        Some(name) => {
            let found = format!("a part of another ({name} differs)");
            Err(Error::request(file.display().to_string(), "a part of this run, or no such file", found))
        }
    }
}
