//! Samples through the machine: read and sent to the device ahead of the computation, fetched and stored behind it.
//!
//! Three threads, with short queues between them: one reads, pins and uploads; the caller's computes; one waits for the
//! results of a block and stores it while the next is computed.

use crate::data::{self, Source};
use crate::error::{Error, Result};
use crate::event::{Event, Observer};
use crate::ffi::Lane;
use crate::ffi::lane::{Download, Upload};
use crate::store::{Block, Column, Sink, Values};
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor};

/// Blocks that wait to be stored, beside the one that is being stored: none, for an attack's block with its images is large.
const BEHIND: usize = 0;

/// Which samples go through, and where.
pub(super) struct Flow {
    pub source: Arc<dyn Source>,
    /// Their positions.
    pub order: Vec<u64>,
    /// How many at a time.
    pub block: usize,
    pub device: Device,
    pub kind: Kind,
}

/// Where the time of a flow went. The first three follow each other and are at most the whole; the rest went by meanwhile.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    pub whole: Duration,
    /// The computation waited for images.
    pub starved: Duration,
    /// Evaluating blocks. On CUDA until the device's last answer that a block needs, not beyond.
    pub compute: Duration,
    /// The computation waited for a block before it to be stored.
    pub blocked: Duration,
    pub read: Duration,
    /// Copying into pinned memory and queueing the rest, which the device does beside its work.
    pub upload: Duration,
    /// Waiting for results, on CUDA the rest of a block's work included, and for their way to the host.
    pub fetch: Duration,
    pub store: Duration,
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [whole, starved, compute, blocked, read, upload, fetch, store] =
            [self.whole, self.starved, self.compute, self.blocked, self.read, self.upload, self.fetch, self.store]
                .map(|time| format!("{:.2} s", time.as_secs_f64()));
        write!(
            f,
            "{whole}: computing {compute}, waiting for images {starved}, waiting for storage {blocked}; \
             meanwhile reading {read}, uploading {upload}, fetching {fetch}, storing {store}"
        )
    }
}

/// A column as it was computed: still on the device, of the kind in which it is stored.
pub(super) struct Asked {
    path: String,
    sample_axis: usize,
    values: Tensor,
}

/// A tensor as a column of doubles.
pub(super) fn doubles(path: impl Into<String>, values: &Tensor, sample_axis: usize) -> Result<Asked> {
    Ok(Asked { path: path.into(), sample_axis, values: values.f_to_kind(Kind::Double)? })
}

/// A tensor as a column of singles (images).
pub(super) fn singles(path: impl Into<String>, values: &Tensor, sample_axis: usize) -> Result<Asked> {
    Ok(Asked { path: path.into(), sample_axis, values: values.f_to_kind(Kind::Float)? })
}

/// A block on its way to the device.
struct Coming {
    index: Vec<u64>,
    labels: Option<Tensor>,
    images: Upload,
    read: Duration,
    upload: Duration,
}

/// A block on its way to the file.
struct Going {
    index: Vec<u64>,
    labels: Option<Tensor>,
    columns: Vec<(String, usize, Download)>,
}

impl Flow {
    /// Evaluates and stores every sample in order. What was evaluated before an error, or before the observer said stop, is
    /// stored.
    pub fn run(
        self,
        sink: &mut (impl Sink + Send),
        observer: &dyn Observer,
        mut evaluate: impl FnMut(&Tensor, &[u64]) -> Result<Vec<Asked>>,
    ) -> Result<Times> {
        let Self { source, order, block, device, kind } = self;
        let start = Instant::now();
        let (up, down) = (Lane::new(device)?, Lane::new(device)?);
        let read = move |index: &[u64]| -> Result<Coming> {
            let (batch, read) = timed(|| source.read(index))?;
            let (images, upload) = timed(|| up.upload(&batch.images, kind))?;
            Ok(Coming { index: batch.index, labels: batch.labels, images, read, upload })
        };
        let mut times = Times::default();
        std::thread::scope(|scope| {
            let (sender, receiver) = sync_channel(BEHIND);
            let storing = std::thread::Builder::new()
                .name("pullback-store".to_owned())
                .spawn_scoped(scope, move || store(sink, &receiver, observer))
                .map_err(|e| failed(format!("no thread: {e}")))?;
            let mut ahead = data::ahead(order, block, read);
            let mut compute = || -> Result<()> {
                loop {
                    let (coming, starved) = timed(|| ahead.next().transpose())?;
                    let Some(coming) = coming else { return Ok(()) };
                    observer.check()?;
                    times.read += coming.read;
                    times.upload += coming.upload;
                    times.starved += starved;
                    let index = coming.index;
                    let (columns, compute) = timed(|| {
                        let images = coming.images.receive()?;
                        let asked = evaluate(&images, &index)?;
                        asked.into_iter().map(|a| Ok((a.path, a.sample_axis, down.download(&a.values)?))).collect()
                    })?;
                    times.compute += compute;
                    let going = Going { index, labels: coming.labels, columns };
                    let (sent, blocked) = timed(|| Ok(sender.send(going)))?;
                    times.blocked += blocked;
                    // Nobody receives any more: the other thread has an error to tell.
                    if sent.is_err() {
                        return Ok(());
                    }
                }
            };
            let computed = compute();
            let ((), blocked) = timed(|| {
                drop(sender);
                match storing.join() {
                    Ok(stored) => (times.fetch, times.store) = stored?,
                    Err(_) => return Err(failed("the storing thread ended early".to_owned())),
                }
                Ok(())
            })?;
            times.blocked += blocked;
            computed
        })?;
        times.whole = start.elapsed();
        Ok(times)
    }
}

/// Stores blocks as they come; gives the time that went into waiting for their values and into storing them.
fn store(sink: &mut impl Sink, receiver: &Receiver<Going>, observer: &dyn Observer) -> Result<(Duration, Duration)> {
    let mut times = (Duration::ZERO, Duration::ZERO);
    for going in receiver {
        let (block, fetch) = timed(|| going.block())?;
        let ((), store) = timed(|| sink.put(&block))?;
        times = (times.0 + fetch, times.1 + store);
        observer.on(Event::Advance(block.index.len() as u64));
    }
    Ok(times)
}

impl Going {
    fn block(self) -> Result<Block> {
        let labels = self.labels.as_ref().map(Vec::<i64>::try_from).transpose()?;
        let columns = self.columns.into_iter().map(|(path, sample_axis, values)| {
            let values = values.wait()?;
            let shape = values.size().iter().map(|n| *n as usize).collect();
            let flat = values.f_flatten(0, -1)?;
            let values = match flat.kind() {
                Kind::Float => Values::F32(Vec::try_from(flat)?),
                _ => Values::F64(Vec::try_from(flat)?),
            };
            Ok(Column { path, shape, sample_axis, values })
        });
        let columns = columns.collect::<Result<_>>()?;
        Ok(Block { index: self.index, labels, columns })
    }
}

fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let start = Instant::now();
    Ok((work()?, start.elapsed()))
}

fn failed(message: String) -> Error {
    Error::Native { routine: "pipeline", message }
}
