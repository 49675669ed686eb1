//! Batches read ahead on a thread, so that decoding and the model's work overlap.

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
    receiver: Option<Receiver<Result<T>>>,
    thread: Option<JoinHandle<()>>,
    left: usize,
    refused: Option<Error>,
}

/// Reads the samples of `source` in the given `order` (positions, each < `source.len()`), `batch` at a time, ahead of
/// the consumer on a thread that ends with the iterator.
pub fn batches(source: Arc<dyn Source>, order: Vec<u64>, batch: usize) -> Batches {
    ahead(order, batch, move |index| source.read(index))
}

/// What `read` makes of `batch` positions of the `order` at a time, made ahead of the consumer like [`batches`].
pub fn ahead<T: Send + 'static>(
    order: Vec<u64>,
    batch: usize,
    mut read: impl FnMut(&[u64]) -> Result<T> + Send + 'static,
) -> Batches<T> {
    let mut all = Batches { receiver: None, thread: None, left: 0, refused: None };
    if batch == 0 {
        all.refused = Some(Error::request("batch", "at least 1", "0"));
        return all;
    }
    let (sender, receiver) = sync_channel(AHEAD);
    all.left = order.len().div_ceil(batch);
    let work = move || read_all(&mut read, &order, batch, &sender);
    match std::thread::Builder::new().name("pullback-data".to_owned()).spawn(work) {
        Ok(thread) => {
            all.thread = Some(thread);
            all.receiver = Some(receiver);
        }
        Err(e) => {
            let message = format!("no thread to read data with: {e}");
            all.refused = Some(Error::Native { routine: "data::batches", message });
        }
    }
    all
}

fn read_all<T>(
    read: &mut impl FnMut(&[u64]) -> Result<T>,
    order: &[u64],
    batch: usize,
    sender: &SyncSender<Result<T>>,
) {
    for index in order.chunks(batch) {
        let one = read(index);
        let stop = one.is_err();
        // A send fails where the consumer has gone: nobody wants the rest.
        if sender.send(one).is_err() || stop {
            return;
        }
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
        // A channel that closes early means that the thread died: an end of data would hide the loss.
        let item = self.receiver.as_ref().and_then(|r| r.recv().ok()).unwrap_or_else(|| {
            let message = "the reading thread ended early".to_owned();
            Err(Error::Native { routine: "data::batches", message })
        });
        self.left = if item.is_ok() { self.left - 1 } else { 0 };
        Some(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.left.max(usize::from(self.refused.is_some()))))
    }
}

impl<T> Drop for Batches<T> {
    fn drop(&mut self) {
        // The receiver first: a sender that waits for room then gives up, and the join is short.
        self.receiver = None;
        if let Some(thread) = self.thread.take() {
            // A panic was already reported as an early end.
            let _ = thread.join();
        }
    }
}
