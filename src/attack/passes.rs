//! How often samples go through the model: the cost of an attack that does not depend on the machine.

use std::cell::Cell;
use tch::Tensor;

/// Passes for each sample.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Passes {
    /// Through the model.
    pub forward: f64,
    /// Back through it.
    pub backward: f64,
}

impl Passes {
    /// The larger of the two: how many passes forward and backward the search could have been.
    pub fn larger(self) -> f64 {
        self.forward.max(self.backward)
    }

    /// Both, changed alike.
    pub(super) fn map(self, change: impl Fn(f64) -> f64) -> Self {
        Self { forward: change(self.forward), backward: change(self.backward) }
    }
}

impl std::ops::Add for Passes {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { forward: self.forward + other.forward, backward: self.backward + other.backward }
    }
}

/// Counts images that go through a model.
#[derive(Debug)]
pub(super) struct Counter {
    samples: usize,
    /// Images that went forward and backward through the model.
    forward: Cell<usize>,
    backward: Cell<usize>,
    /// Passes that were reported for each sample.
    more: Cell<Passes>,
}

impl Counter {
    /// A counter at zero for `samples` samples.
    pub(super) fn of(samples: usize) -> Self {
        Self { samples, forward: Cell::new(0), backward: Cell::new(0), more: Cell::default() }
    }

    /// Counts `forward` and `backward` passes of all of `images` [R, ...].
    pub(super) fn note(&self, images: &Tensor, forward: usize, backward: usize) {
        let rows = images.size().first().copied().unwrap_or(0).max(0) as usize;
        self.forward.set(self.forward.get() + rows * forward);
        self.backward.set(self.backward.get() + rows * backward);
    }

    /// Adds passes that each sample took.
    pub(super) fn add(&self, passes: Passes) {
        self.more.set(self.more.get() + passes);
    }

    /// Returns what was counted since the last call.
    pub(super) fn take(&self) -> Passes {
        let a_sample = |count: &Cell<usize>| count.replace(0) as f64 / self.samples.max(1) as f64;
        Passes { forward: a_sample(&self.forward), backward: a_sample(&self.backward) } + self.more.take()
    }
}
