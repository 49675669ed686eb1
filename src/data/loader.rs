//! Batches that a thread reads ahead, so that decoding and the model's work overlap.

use crate::data::{Batch, Source};
use crate::error::{Error, Result};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// How many finished batches wait for the consumer: enough to hide a slow read, few enough to bound memory.
const AHEAD: usize = 2;

/// Iterates over batches; the last may be short, none is dropped, and nothing follows an error.
#[derive(Debug)]
pub struct Batches<T = Batch> {
    receiver: Option<Receiver<(usize, Result<T>)>>,
    thread: Option<JoinHandle<()>>,
    /// Samples that have not come yet.
    left: usize,
    refused: Option<Error>,
}

/// Reads the samples of `source` in the given `order` (positions, each < `source.len()`), `batch` at a time, on a thread that reads ahead
/// and ends with the iterator.
pub fn batches(source: Arc<dyn Source>, order: Vec<u64>, batch: usize) -> Batches {
    ahead(order, move || batch, move |index| source.read(index))
}

/// What `read` makes of some positions of the `order` at a time, computed ahead like [`batches`]; before each, `size` is asked how many
/// positions to take.
pub fn ahead<T: Send + 'static>(
    order: Vec<u64>,
    mut size: impl FnMut() -> usize + Send + 'static,
    mut read: impl FnMut(&[u64]) -> Result<T> + Send + 'static,
) -> Batches<T> {
    let mut all = Batches { receiver: None, thread: None, left: 0, refused: None };
    if size() == 0 {
        all.refused = Some(Error::request("batch", "at least 1", "0"));
        return all;
    }
    let (sender, receiver) = sync_channel(AHEAD);
    all.left = order.len();
    let work = move || read_all(&mut read, &order, &mut size, &sender);
    match std::thread::Builder::new().name("pullback-data".to_owned()).spawn(work) {
        Ok(thread) => {
            all.thread = Some(thread);
            all.receiver = Some(receiver);
        }
        Err(e) => {
            let message = format!("no thread to read data with: {e}");
            all.refused = Some(Error::internal("data::batches", message));
        }
    }
    all
}

fn read_all<T>(
    read: &mut impl FnMut(&[u64]) -> Result<T>,
    mut order: &[u64],
    size: &mut impl FnMut() -> usize,
    sender: &SyncSender<(usize, Result<T>)>,
) {
    while !order.is_empty() {
        let (index, rest) = order.split_at(size().clamp(1, order.len()));
        let one = read(index);
        let stop = one.is_err();
        // A send fails if the consumer has gone: then the rest is not needed.
        if sender.send((index.len(), one)).is_err() || stop {
            return;
        }
        order = rest;
    }
}

impl<T> Iterator for Batches<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.refused.take() {
            self.left = 0;
            return Some(Err(error));
        }
        if self.left == 0 {
            return None;
        }
        // If a channel closes early, the thread has died; an end of the data would hide the loss.
        let (count, item) = self.receiver.as_ref().and_then(|r| r.recv().ok()).unwrap_or_else(|| {
            let message = "the reading thread ended early".to_owned();
            (0, Err(Error::Internal { part: "data::batches", message }))
        });
        self.left = if item.is_ok() { self.left.saturating_sub(count) } else { 0 };
        Some(item)
    }
}

impl<T> Drop for Batches<T> {
    fn drop(&mut self) {
        // The receiver is dropped first: a sender that waits for room then stops, and the join is short.
        self.receiver = None;
        if let Some(thread) = self.thread.take() {
            // A panic has already been reported as an early end.
            let _ = thread.join();
        }
    }
}
