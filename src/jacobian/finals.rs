//! The last choice, among passes that were nearly alike when each was tried once or twice: on a machine that others use
//! too, so few measurements mislead by a fifth. They take turns, so that a busy spell falls on all, and the least counts.

use super::{Pass, Ways};

/// A pass that may be the best one.
#[derive(Clone, Copy, Debug)]
struct Finalist {
    pass: Pass,
    /// Least seconds a sample so far.
    seconds: f64,
    /// Turns taken in the final.
    turns: u32,
}

/// All passes that were measured; after [`Finals::open`], the few that still compete.
#[derive(Debug, Default)]
pub(super) struct Finals {
    entries: Vec<Finalist>,
}

/// A pass slower than the best by this factor does not take part.
const CLOSE: f64 = 1.55;
/// Passes that take part, and the turns of each.
const PLACES: usize = 2;
const TURNS: u32 = 3;
/// A larger pass must take less than this share of a smaller one's time a sample: it costs memory.
const WORTH: f64 = 0.97;

impl Finals {
    /// Notes what a pass took, in seconds a sample.
    pub fn note(&mut self, pass: Pass, seconds: f64) {
        match self.entries.iter_mut().find(|e| e.pass == pass) {
            Some(entry) => {
                entry.seconds = entry.seconds.min(seconds);
                entry.turns += 1;
            }
            None => self.entries.push(Finalist { pass, seconds, turns: 1 }),
        }
    }

    /// Forgets passes of more than `samples`.
    pub fn limit(&mut self, samples: usize) {
        self.entries.retain(|e| e.pass.samples <= samples);
    }

    /// Forgets passes by `ways`.
    pub fn forget(&mut self, ways: Ways) {
        self.entries.retain(|e| e.pass.ways != ways);
    }

    /// Leaves those that are close to the best and counts their turns from here.
    pub fn open(&mut self) {
        self.entries.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
        let limit = self.entries.first().map_or(0.0, |best| best.seconds * CLOSE);
        self.entries.retain(|e| e.seconds <= limit);
        self.entries.truncate(PLACES);
        for entry in &mut self.entries {
            entry.turns = 0;
        }
    }

    /// Whose turn it is; none where the choice is made, or was none.
    pub fn next(&self) -> Option<Pass> {
        let next = self.entries.iter().min_by_key(|e| e.turns)?;
        (self.entries.len() > 1 && next.turns < TURNS).then_some(next.pass)
    }

    /// The best pass and its seconds a sample.
    pub fn best(&self) -> Option<(Pass, f64)> {
        let mut ascending: Vec<&Finalist> = self.entries.iter().collect();
        ascending.sort_by_key(|e| e.pass.samples);
        let better = |best: &'_ Finalist, next: &'_ Finalist| {
            let share = if next.pass.samples > best.pass.samples { WORTH } else { 1.0 };
            next.seconds < best.seconds * share
        };
        let best = ascending.into_iter().reduce(|best, next| if better(best, next) { next } else { best });
        best.map(|e| (e.pass, e.seconds))
    }
}
