//! Lost samples: their Jacobian or damage is not finite. They have NaN in their columns, and are counted and named; other samples continue,
//! unless most are lost.

use crate::error::{Result, ResultsError};
use crate::event::{Event, Observer};
use crate::store::{Block, Sink, Values};

/// Passes blocks on and looks for NaN in the columns that `tells` accepts.
pub(super) struct Watched<S> {
    sink: S,
    /// Accepts the columns, by path, in which NaN or a flag means a lost sample.
    tells: fn(&str) -> bool,
    lost: Vec<u64>,
    /// Samples that came here. What an earlier process stored is not among them, nor are those that it lost.
    seen: usize,
    /// Samples that the sink had before.
    done: usize,
    total: usize,
}

/// Fewer samples than this do not stop a run, except if all samples are lost.
const ENOUGH: usize = 64;
/// The most samples that are named.
const NAMED: usize = 10;

impl<S: Sink> Watched<S> {
    /// Watches the samples that go to `sink`, which has `done` of them already; the whole run, of which they may be a part, has `total`.
    pub fn new(sink: S, done: usize, total: usize, tells: fn(&str) -> bool) -> Self {
        Self { sink, tells, lost: vec![], seen: 0, done, total }
    }

    /// Reports which samples were lost; returns the sink.
    pub fn told(self, task: &str, observer: &dyn Observer) -> S {
        if !self.lost.is_empty() {
            let (count, seen) = (self.lost.len(), self.seen);
            let are = if count == 1 { "is" } else { "are" };
            let samples = if self.done == 0 { "samples" } else { "new samples" };
            let line =
                format!("{task}: {count} of {seen} {samples} {are} not finite and NaN in the file: {}", self.names());
            observer.on(Event::Warning(&line));
        }
        self.sink
    }

    fn names(&self) -> String {
        let names: Vec<String> = self.lost.iter().take(NAMED).map(u64::to_string).collect();
        let rest = if self.lost.len() > NAMED { ", ..." } else { "" };
        let noun = if self.lost.len() == 1 { "sample" } else { "samples" };
        format!("{noun} {}{rest}", names.join(", "))
    }
}

impl<S: Sink> Sink for Watched<S> {
    fn put(&mut self, block: &Block) -> Result<(), ResultsError> {
        let mut lost = vec![false; block.index.len()];
        for column in block.columns.iter().filter(|c| (self.tells)(&c.path)) {
            let inner: usize = column.shape[column.sample_axis + 1..].iter().product();
            let mut look = |place: usize, is_lost: bool| lost[place / inner.max(1) % block.index.len()] |= is_lost;
            match &column.values {
                Values::F64(values) => values.iter().enumerate().for_each(|(place, v)| look(place, v.is_nan())),
                Values::U8(flags) => flags.iter().enumerate().for_each(|(place, flag)| look(place, *flag != 0)),
                _ => {}
            }
        }
        self.lost.extend(block.index.iter().zip(&lost).filter(|(_, lost)| **lost).map(|(index, _)| *index));
        self.seen += block.index.len();
        if 2 * self.lost.len() > self.seen && (self.seen >= ENOUGH || self.seen >= self.total) {
            let from = if self.done == 0 { "first" } else { "next" };
            return Err(ResultsError::request(
                format!("the model at {} of the {from} {} samples ({})", self.lost.len(), self.seen, self.names()),
                "finite numbers in its Jacobian and codes",
                "NaN or infinity (weights that are not finite? pixels in another range?)",
            ));
        }
        self.sink.put(block)
    }

    fn finish(self: Box<Self>) -> Result<(), ResultsError> {
        Box::new(self.sink).finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::store::Column;
    use std::sync::Mutex;

    struct Count(usize);

    impl Sink for Count {
        fn put(&mut self, block: &Block) -> Result<(), ResultsError> {
            self.0 += block.index.len();
            Ok(())
        }
        fn finish(self: Box<Self>) -> Result<(), ResultsError> {
            Ok(())
        }
    }

    #[derive(Default)]
    struct Lines(Mutex<Vec<String>>);

    impl Observer for Lines {
        fn on(&self, event: Event<'_>) {
            if let Event::Warning(line) = event {
                self.0.lock().unwrap().push(line.to_owned());
            }
        }
    }

    /// Two sizes of an attack on samples of which these are lost at the second size.
    fn block(index: std::ops::Range<u64>, lost: &[u64]) -> Block {
        let n = (index.end - index.start) as usize;
        let second = index.clone().map(|i| if lost.contains(&i) { f64::NAN } else { 1.0 });
        let values = vec![0.5; n].into_iter().chain(second).collect();
        let column = Column { path: "/told".into(), shape: vec![2, n], sample_axis: 1, values: Values::F64(values) };
        let other =
            Column { path: "/other".into(), shape: vec![n], sample_axis: 0, values: Values::F64(vec![f64::NAN; n]) };
        Block { index: index.collect(), labels: None, columns: vec![column, other] }
    }

    #[test]
    fn lost_samples_are_named_and_stop_nobody() {
        let mut watched = Watched::new(Count(0), 0, 100, |path| path == "/told");
        watched.put(&block(0..40, &[7])).unwrap();
        watched.put(&block(40..100, &[77, 78])).unwrap();
        let lines = Lines::default();
        assert_eq!(watched.told("attacking", &lines).0, 100);
        let expected = "attacking: 3 of 100 samples are not finite and NaN in the file: samples 7, 77, 78";
        assert_eq!(*lines.0.lock().unwrap(), [expected]);
    }

    #[test]
    fn most_are_the_models_fault() {
        let all: Vec<u64> = (0..200).collect();
        let mut watched = Watched::new(Count(0), 0, 200, |path| path == "/told");
        // Too few to say so.
        watched.put(&block(0..40, &all)).unwrap();
        let error = watched.put(&block(40..80, &all)).unwrap_err();
        assert!(
            error.exit_code() == 2 && error.to_string().contains("80 of the first 80 samples (samples 0, 1"),
            "{error}"
        );
        // All that there are.
        let mut few = Watched::new(Count(0), 0, 3, |path| path == "/told");
        assert!(few.put(&block(0..3, &[0, 2])).is_err());
        assert!(Watched::new(Count(0), 0, 3, |path| path == "/told").put(&block(0..3, &[2])).is_ok());
        // A part of a run, and the rest of one that was stopped, are no reason to stop.
        assert!(Watched::new(Count(0), 0, 100, |path| path == "/told").put(&block(0..1, &[0])).is_ok());
        assert!(Watched::new(Count(0), 99, 100, |path| path == "/told").put(&block(99..100, &[99])).is_ok());
        // What was stored before says nothing of the samples since.
        let mut resumed = Watched::new(Count(0), 1000, 1200, |path| path == "/told");
        let error = resumed.put(&block(1000..1100, &(1000..1060).collect::<Vec<_>>())).unwrap_err();
        assert!(error.to_string().contains("60 of the next 100 samples"), "{error}");
    }

    #[test]
    fn a_flag_tells_of_lost_samples_as_well() {
        let flag = Column { path: "/told".into(), shape: vec![3], sample_axis: 0, values: Values::U8(vec![0, 1, 0]) };
        let mut watched = Watched::new(Count(0), 5, 8, |path| path == "/told");
        watched.put(&Block { index: vec![5, 6, 7], labels: None, columns: vec![flag] }).unwrap();
        let lines = Lines::default();
        watched.told("attacking", &lines);
        let expected = "attacking: 1 of 3 new samples is not finite and NaN in the file: sample 6";
        assert_eq!(*lines.0.lock().unwrap(), [expected]);
    }
}
