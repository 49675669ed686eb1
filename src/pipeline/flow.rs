//! The way of samples through a job: they are read and uploaded ahead of the computation, and fetched and stored behind it.
//!
//! Three threads, with short queues between them: one reads, pins and uploads; the caller's thread computes; one waits for the results of a
//! block and stores it while the next is computed.

use super::block::Block;
use crate::data::{self, Source};
use crate::error::{Error, Result};
use crate::event::{Event, Observer};
use crate::ffi::Lane;
use crate::ffi::lane::{Download, Upload};
use crate::store::{self, Column, Sink, Values};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor};

/// Blocks that wait to be stored, besides the one that is being stored: none, because an attack's block with its images is large.
const BEHIND: usize = 0;

/// The samples of a flow, and their block sizes.
pub(super) struct Flow {
    pub source: Arc<dyn Source>,
    /// Their positions.
    pub order: Vec<u64>,
    /// The most samples at a time.
    pub block: Block,
    pub device: Device,
    pub kind: Kind,
}

/// Where the time of a flow went. The first three follow each other and add up to at most the whole time; the others ran in parallel.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    pub whole: Duration,
    /// The computation waited for images.
    pub starved: Duration,
    /// Evaluating blocks; on CUDA it ends with the last answer of the device that a block needs.
    pub compute: Duration,
    /// The computation waited until an earlier block was stored.
    pub blocked: Duration,
    pub read: Duration,
    /// Copying into pinned memory and queueing the copies to the device, which run beside its work.
    pub upload: Duration,
    /// Waiting for results (on CUDA also for the rest of a block's work) and for their copies to the host.
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

/// A column as computed: still on the device, in the kind in which it is stored.
pub(super) struct Asked {
    path: String,
    sample_axis: usize,
    values: Tensor,
}

impl Asked {
    /// The number of its samples.
    fn rows(&self) -> Option<usize> {
        self.values.size().get(self.sample_axis).map(|n| *n as usize)
    }
}

/// The columns of a block whose samples were computed in several parts, in order.
pub(super) fn joined(parts: Vec<Vec<Asked>>) -> Result<Vec<Asked>> {
    let mut parts = parts.into_iter();
    let mut columns: Vec<(Asked, Vec<Tensor>)> =
        parts.next().into_iter().flatten().map(|first| (first, vec![])).collect();
    for part in parts {
        if part.len() != columns.len() {
            return Err(failed("parts of a block have other columns".to_owned()));
        }
        for ((first, rest), next) in columns.iter_mut().zip(part) {
            if first.path != next.path {
                return Err(failed(format!("column {} beside {}", next.path, first.path)));
            }
            rest.push(next.values);
        }
    }
    let join = |(first, rest): (Asked, Vec<Tensor>)| -> Result<Asked> {
        if rest.is_empty() {
            return Ok(first);
        }
        let all: Vec<&Tensor> = std::iter::once(&first.values).chain(&rest).collect();
        Ok(Asked { values: Tensor::f_cat(&all, first.sample_axis as i64)?, ..first })
    };
    columns.into_iter().map(join).collect()
}

/// A tensor as a column of doubles.
pub(super) fn doubles(path: impl Into<String>, values: &Tensor, sample_axis: usize) -> Result<Asked> {
    Ok(Asked { path: path.into(), sample_axis, values: values.f_to_kind(Kind::Double)? })
}

/// Bytes [n] as a column.
pub(super) fn bytes(path: impl Into<String>, values: &Tensor) -> Result<Asked> {
    Ok(Asked { path: path.into(), sample_axis: 0, values: values.f_to_kind(Kind::Uint8)? })
}

/// Positions as a column.
pub(super) fn positions(path: impl Into<String>, index: &[u64]) -> Result<Asked> {
    let values: Vec<i64> = index.iter().map(|i| *i as i64).collect();
    Ok(Asked { path: path.into(), sample_axis: 0, values: Tensor::f_from_slice(&values)? })
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
    /// Evaluates and stores every sample in order. Results that were computed before an error or a stop are stored: once the process was
    /// asked to stop, `evaluate` may return rows for only the first of its samples.
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
            let size = Arc::new(AtomicUsize::new(block.first));
            let asked = size.clone();
            let mut ahead = data::ahead(order, move || asked.load(Ordering::Relaxed), read);
            let mut compute = || -> Result<()> {
                loop {
                    let (coming, starved) = timed(|| ahead.next().transpose())?;
                    let Some(coming) = coming else { return Ok(()) };
                    observer.check()?;
                    times.read += coming.read;
                    times.upload += coming.upload;
                    times.starved += starved;
                    let Coming { mut index, mut labels, images, .. } = coming;
                    let (columns, compute) = timed(|| {
                        let images = images.receive()?;
                        let asked = evaluate(&images, &index)?;
                        if let Some(rows) = asked.first().and_then(Asked::rows).filter(|rows| *rows < index.len()) {
                            index.truncate(rows);
                            labels = labels.take().map(|l| l.f_narrow(0, 0, rows as i64)).transpose()?;
                        }
                        asked.into_iter().map(|a| Ok((a.path, a.sample_axis, down.download(&a.values)?))).collect()
                    })?;
                    times.compute += compute;
                    let now = size.load(Ordering::Relaxed);
                    size.store(block.next(now, index.len(), compute), Ordering::Relaxed);
                    let going = Going { index, labels, columns };
                    let (sent, blocked) = timed(|| Ok(sender.send(going)))?;
                    times.blocked += blocked;
                    // The receiver has gone: the other thread will report an error.
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

/// Stores blocks as they arrive; returns the times of waiting for their values and of storing them.
fn store(sink: &mut impl Sink, receiver: &Receiver<Going>, observer: &dyn Observer) -> Result<(Duration, Duration)> {
    let mut times = (Duration::ZERO, Duration::ZERO);
    for going in receiver {
        let (block, fetch) = timed(|| going.block())?;
        let ((), store) = timed(|| Ok(sink.put(&block)?))?;
        times = (times.0 + fetch, times.1 + store);
        observer.on(Event::Advance(block.index.len() as u64));
    }
    Ok(times)
}

impl Going {
    fn block(self) -> Result<store::Block> {
        let labels = self.labels.as_ref().map(Vec::<i64>::try_from).transpose()?;
        let columns = self.columns.into_iter().map(|(path, sample_axis, values)| {
            let values = values.wait()?;
            let shape = values.size().iter().map(|n| *n as usize).collect();
            let flat = values.f_flatten(0, -1)?;
            let values = match flat.kind() {
                Kind::Float => Values::F32(Vec::try_from(flat)?),
                Kind::Uint8 => Values::U8(Vec::try_from(flat)?),
                Kind::Int64 => Values::I64(Vec::try_from(flat)?),
                _ => Values::F64(Vec::try_from(flat)?),
            };
            Ok(Column { path, shape, sample_axis, values })
        });
        let columns = columns.collect::<Result<_>>()?;
        Ok(store::Block { index: self.index, labels, columns })
    }
}

fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let start = Instant::now();
    Ok((work()?, start.elapsed()))
}

fn failed(message: String) -> Error {
    Error::internal("pipeline", message)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::data::{Batch, ImageShape};
    use crate::error::ResultsError;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::sync::mpsc::Sender;

    /// Sample i is one pixel, i, of class -i.
    struct Count(usize);

    impl Source for Count {
        fn name(&self) -> &str {
            "count"
        }
        fn len(&self) -> usize {
            self.0
        }
        fn shape(&self) -> ImageShape {
            ImageShape { channels: 1, height: 1, width: 1 }
        }
        fn has_labels(&self) -> bool {
            true
        }
        fn read(&self, index: &[u64]) -> Result<Batch> {
            let pixels: Vec<f32> = index.iter().map(|i| *i as f32).collect();
            let labels: Vec<i64> = index.iter().map(|i| -(*i as i64)).collect();
            let images = Tensor::from_slice(&pixels).reshape([-1, 1, 1, 1]);
            Ok(Batch { images, labels: Some(Tensor::from_slice(&labels)), index: index.to_vec() })
        }
    }

    fn full(message: &str) -> ResultsError {
        ResultsError::Internal { part: "disk", message: message.to_owned() }
    }

    type Hook = Box<dyn FnMut(&store::Block) -> Result<(), ResultsError> + Send>;

    /// Keeps what it is given, if the hook lets it.
    struct Memory(Vec<store::Block>, Hook);

    impl Sink for Memory {
        fn put(&mut self, block: &store::Block) -> Result<(), ResultsError> {
            (self.1)(block)?;
            self.0.push(block.clone());
            Ok(())
        }
        fn finish(self: Box<Self>) -> Result<(), ResultsError> {
            Ok(())
        }
    }

    impl Memory {
        fn new(hook: impl FnMut(&store::Block) -> Result<(), ResultsError> + Send + 'static) -> Self {
            Self(vec![], Box::new(hook))
        }

        fn index(&self) -> Vec<u64> {
            self.0.iter().flat_map(|b| b.index.clone()).collect()
        }
    }

    /// Counts samples; stops once told to.
    #[derive(Default)]
    struct Watch(AtomicU64, AtomicBool);

    impl Observer for Watch {
        fn on(&self, event: Event<'_>) {
            if let Event::Advance(n) = event {
                self.0.fetch_add(n, Ordering::SeqCst);
            }
        }
        fn interrupted(&self) -> bool {
            self.1.load(Ordering::SeqCst)
        }
    }

    fn flow(order: &[u64], block: usize, device: Device, kind: Kind) -> Flow {
        Flow { source: Arc::new(Count(100)), order: order.to_vec(), block: Block::of(block), device, kind }
    }

    fn squares(images: &Tensor) -> Result<Vec<Asked>> {
        Ok(vec![doubles("/square", &images.f_square()?.f_flatten(0, -1)?, 0)?, singles("/image", images, 0)?])
    }

    #[test]
    fn every_sample_is_stored_once_and_in_order() {
        let cuda = tch::Cuda::is_available().then_some(Device::Cuda(0));
        let required = std::env::var("PULLBACK_REQUIRE_CUDA").is_ok_and(|v| v == "1");
        assert!(cuda.is_some() || !required, "PULLBACK_REQUIRE_CUDA=1, but there is no CUDA device");
        for device in cuda.into_iter().chain([Device::Cpu]) {
            for kind in [Kind::Float, Kind::Double] {
                let order: Vec<u64> = (0..50).rev().chain(60..63).collect();
                let (mut sink, watch) = (Memory::new(|_| Ok(())), Watch::default());
                let evaluate = |images: &Tensor, index: &[u64]| {
                    assert_eq!((images.device(), images.kind()), (device, kind));
                    assert_eq!(images.size()[0] as usize, index.len());
                    squares(images)
                };
                flow(&order, 4, device, kind).run(&mut sink, &watch, evaluate).unwrap();
                assert_eq!((sink.index(), watch.0.load(Ordering::SeqCst)), (order, 53));
                assert_eq!(sink.0.iter().map(|b| b.index.len()).max(), Some(4));
                for block in &sink.0 {
                    let index = || block.index.iter();
                    assert_eq!(block.labels, Some(index().map(|i| -(*i as i64)).collect()));
                    assert_eq!(block.columns[0].values, Values::F64(index().map(|i| (i * i) as f64).collect()));
                    assert_eq!(block.columns[1].values, Values::F32(index().map(|i| *i as f32).collect()));
                    assert_eq!(block.columns[1].shape, [block.index.len(), 1, 1, 1]);
                }
            }
        }
    }

    #[test]
    fn a_block_is_stored_while_the_next_is_computed() {
        let (told, heard): (Sender<()>, Receiver<()>) = std::sync::mpsc::channel();
        let heard = Mutex::new(heard);
        // The first block is stored only once the second is being computed.
        let mut sink = Memory::new(move |block| match block.index[0] {
            0 => heard.lock().unwrap().recv_timeout(Duration::from_secs(60)).map_err(|_| full("alone")),
            _ => Ok(()),
        });
        let evaluate = |images: &Tensor, index: &[u64]| {
            if index[0] == 2 {
                told.send(()).unwrap();
            }
            squares(images)
        };
        flow(&[0, 1, 2, 3], 2, Device::Cpu, Kind::Float).run(&mut sink, &Watch::default(), evaluate).unwrap();
        assert_eq!(sink.index(), [0, 1, 2, 3]);
    }

    #[test]
    fn what_was_computed_is_stored_when_the_work_stops() {
        let order: Vec<u64> = (0..20).collect();
        // The user says stop during the third block.
        let (mut sink, watch) = (Memory::new(|_| Ok(())), Watch::default());
        let evaluate = |images: &Tensor, index: &[u64]| {
            watch.1.store(index[0] == 4, Ordering::SeqCst);
            squares(images)
        };
        let stopped = flow(&order, 2, Device::Cpu, Kind::Float).run(&mut sink, &watch, evaluate);
        assert!(matches!(stopped, Err(Error::Interrupted)));
        assert_eq!((sink.index(), watch.0.load(Ordering::SeqCst)), ((0..6).collect(), 6));

        // The third block cannot be computed.
        let mut sink = Memory::new(|_| Ok(()));
        let evaluate = |images: &Tensor, index: &[u64]| match index[0] {
            4 => Err(failed("no third".to_owned())),
            _ => squares(images),
        };
        let failed_run = flow(&order, 2, Device::Cpu, Kind::Float).run(&mut sink, &Watch::default(), evaluate);
        assert!(failed_run.unwrap_err().to_string().contains("no third"));
        assert_eq!(sink.index(), [0, 1, 2, 3]);
    }

    #[test]
    fn rows_that_were_done_before_a_stop_are_stored() {
        let order: Vec<u64> = (0..20).collect();
        let (mut sink, watch) = (Memory::new(|_| Ok(())), Watch::default());
        // The user says stop during the second block, two of whose four samples are done by then.
        let evaluate = |images: &Tensor, index: &[u64]| {
            watch.1.store(index[0] == 4, Ordering::SeqCst);
            squares(&images.f_narrow(0, 0, if index[0] == 4 { 2 } else { 4 })?)
        };
        let stopped = flow(&order, 4, Device::Cpu, Kind::Float).run(&mut sink, &watch, evaluate);
        assert!(matches!(stopped, Err(Error::Interrupted)));
        assert_eq!(sink.index(), (0..6).collect::<Vec<u64>>());
        assert_eq!(sink.0[1].labels, Some(vec![-4, -5]));
    }

    #[test]
    fn a_store_that_fails_or_panics_ends_the_work() {
        let order: Vec<u64> = (0..40).collect();
        for (panics, said) in [(false, "disk full"), (true, "ended early")] {
            let mut sink = Memory::new(move |block| {
                assert!(!(panics && block.index[0] == 2), "a panic that the test wants");
                if block.index[0] == 2 { Err(full("disk full")) } else { Ok(()) }
            });
            let mut computed = 0;
            let evaluate = |images: &Tensor, _: &[u64]| {
                computed += 1;
                squares(images)
            };
            let run = flow(&order, 2, Device::Cpu, Kind::Float).run(&mut sink, &Watch::default(), evaluate);
            assert!(run.unwrap_err().to_string().contains(said));
            // One more may have been computed beside the one that failed, of twenty.
            assert!(computed <= 4, "{computed}");
            assert_eq!(sink.index(), [0, 1]);
        }
    }

    #[test]
    fn times_go_where_the_work_was() {
        let nap = |ms| std::thread::sleep(Duration::from_millis(ms));
        let mut sink = Memory::new(move |_| {
            nap(10);
            Ok(())
        });
        let evaluate = |images: &Tensor, _: &[u64]| {
            nap(30);
            squares(images)
        };
        let times =
            flow(&[0, 1, 2, 3], 1, Device::Cpu, Kind::Float).run(&mut sink, &Watch::default(), evaluate).unwrap();
        let ms = Duration::from_millis;
        assert!(times.compute >= ms(120) && times.store >= ms(40), "{times:?}");
        // The last block at least is waited for.
        assert!(times.blocked >= ms(10), "{times:?}");
        assert!(times.starved + times.compute + times.blocked <= times.whole, "{times:?}");
        assert!(times.fetch + times.store <= times.whole && times.read + times.upload <= times.whole, "{times:?}");
    }
}
