//! The final choice among passes that were nearly equal when each was tried once or twice. On a machine with other users, so few
//! measurements can be wrong by a fifth. The passes take turns, so that a busy moment slows all of them, and the shortest time counts.

use super::{Pass, Ways};

/// A pass that may be the best one.
#[derive(Clone, Copy, Debug)]
struct Finalist {
    pass: Pass,
    /// The least seconds for each sample so far.
    seconds: f64,
    /// Turns in the final.
    turns: u32,
}

/// All passes that were measured; after [`Finals::open`], the few that still compete.
#[derive(Debug, Default)]
pub(super) struct Finals {
    entries: Vec<Finalist>,
}

/// A pass slower than the best by this factor does not take part.
const CLOSE: f64 = 1.55;
/// Number of passes that take part, and number of turns for each.
const PLACES: usize = 2;
const TURNS: u32 = 3;
/// A larger pass must take less than this share of a smaller pass's time for each sample, because it costs more memory.
const WORTH: f64 = 0.97;

impl Finals {
    /// Notes the time of a pass, in seconds for each sample.
    pub fn note(&mut self, pass: Pass, seconds: f64) {
        match self.entries.iter_mut().find(|e| e.pass == pass) {
            Some(entry) => {
                entry.seconds = entry.seconds.min(seconds);
                entry.turns += 1;
            }
            None => self.entries.push(Finalist { pass, seconds, turns: 1 }),
        }
    }

    /// Removes passes of more than `samples`.
    pub fn limit(&mut self, samples: usize) {
        self.entries.retain(|e| e.pass.samples <= samples);
    }

    /// Removes passes by `ways`.
    pub fn forget(&mut self, ways: Ways) {
        self.entries.retain(|e| e.pass.ways != ways);
    }

    /// Keeps the passes that are close to the best and starts to count their turns.
    pub fn open(&mut self) {
        self.entries.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
        let limit = self.entries.first().map_or(0.0, |best| best.seconds * CLOSE);
        self.entries.retain(|e| e.seconds <= limit);
        self.entries.truncate(PLACES);
        for entry in &mut self.entries {
            entry.turns = 0;
        }
    }

    /// The pass whose turn it is; `None` if the choice is made, or there was none to make.
    pub fn next(&self) -> Option<Pass> {
        let next = self.entries.iter().min_by_key(|e| e.turns)?;
        (self.entries.len() > 1 && next.turns < TURNS).then_some(next.pass)
    }

    /// The best pass and its seconds for each sample.
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
