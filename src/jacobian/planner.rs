//! How large a pass should be (samples in a batch, cotangents in a backward pass), chosen by measuring real work.
//!
//! No one choice is fastest: one vmapped pass wins on small batches and on GPUs, a loop of backward passes wins on a convolutional encoder
//! with a large batch on a CPU, and the best batch fits the caches. The planner therefore tries growing batches, with each way of pulling
//! cotangents back, on the first samples of the job itself (all results are used), lets the best few take turns, keeps the one with the
//! highest rate, and never tries a pass whose memory, extrapolated from measured peaks, exceeds the budget.

use super::finals::Finals;
use super::{BatchSize, CHUNK, Footprint, Mode, Pass, Reach, Ways};
use crate::error::{Error, Result};
use crate::wording;
use std::time::Duration;

/// One candidate at the size being explored.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    ways: Ways,
    /// Best seconds for each sample at the size being explored, and how often it was measured there.
    seconds: f64,
    tries: u32,
    /// Bytes for each sample: the most that it ever took or, before it was tried, the estimate.
    bytes: f64,
    tried: bool,
}

/// The state of the choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Larger and larger passes are tried.
    Growing,
    /// The best few take turns.
    Final,
    /// The choice is made.
    Settled,
}

/// Learns, pass by pass, which size and way is fastest within a memory budget.
#[derive(Debug)]
pub struct Planner {
    batch: BatchSize,
    reach: Reach,
    budget: f64,
    /// The candidates that are still worth trying.
    candidates: Vec<Candidate>,
    /// Candidates that were dropped as slower or too large; they are used if the others fail.
    spare: Vec<Candidate>,
    /// The size being explored.
    size: usize,
    /// The fastest pass so far, and its seconds for each sample.
    best: Option<(Pass, f64)>,
    phase: Phase,
    finals: Finals,
    /// How many sizes in a row gave no gain.
    idle: u32,
    /// Passes never exceed this; it is lowered if a pass runs out of memory nevertheless.
    ceiling: usize,
    /// The ceiling that is raised once if passes of this size are brief.
    usual: Option<usize>,
    /// Ways that this model does not support, each with the reason.
    refused: Vec<String>,
}

/// The first size that is measured: small enough to be quick, large enough to be informative.
const FIRST: usize = 16;
/// Growth from one explored size to the next.
const GROWTH: usize = 4;
/// Growth continues only if a larger pass takes less than this share of the smaller pass's time for each sample.
const WORTH: f64 = 0.97;
/// A way that is slower than the best by this factor is not tried at larger sizes.
const HOPELESS: f64 = 1.6;
/// How many sizes in a row may fail to gain before growth stops.
const PATIENCE: u32 = 2;
/// A loss by this factor ends growth at once.
const CLEAR: f64 = 1.25;
/// Passes shorter than this, in seconds, are measured twice.
const SHORT: f64 = 0.2;
/// Passes shorter than this, in seconds, are so short that starting their operations counts.
const BRIEF: f64 = 0.008;

impl Planner {
    /// A planner for passes that may take `budget` bytes.
    pub fn new(batch: BatchSize, budget: u64, reach: Reach) -> Self {
        let modes = [Mode::Vmapped(usize::MAX), Mode::Looped, Mode::Vmapped(CHUNK)];
        let mut ways: Vec<Ways> = modes.iter().map(|m| Ways { rows: *m, columns: *m }).collect();
        if reach == Reach::EncoderAndDecoder {
            ways.push(Ways { rows: Mode::Looped, columns: Mode::Vmapped(usize::MAX) });
            ways.push(Ways { rows: Mode::Vmapped(usize::MAX), columns: Mode::Looped });
        }
        Self {
            batch,
            reach,
            budget: budget as f64,
            candidates: ways.into_iter().map(Candidate::new).collect(),
            spare: vec![],
            size: match batch {
                BatchSize::Auto => FIRST,
                BatchSize::Fixed(n) => n,
            },
            best: None,
            phase: Phase::Growing,
            finals: Finals::default(),
            idle: 0,
            ceiling: usize::MAX,
            usual: None,
            refused: vec![],
        }
    }

    /// The same planner, which first tries to fold the encoder's cotangents into the batch: on a CPU this is by far the fastest way, if the
    /// model's operations are known.
    #[must_use]
    pub fn folding(mut self) -> Self {
        // If the decoder counts too, its columns can be computed in both ways.
        let columns: &[Mode] = match self.reach {
            Reach::Encoder => &[Mode::Folded],
            Reach::EncoderAndDecoder => &[Mode::Vmapped(usize::MAX), Mode::Looped],
        };
        let folded = columns.iter().map(|columns| Candidate::new(Ways { rows: Mode::Folded, columns: *columns }));
        self.candidates.splice(0..0, folded);
        self
    }

    /// The same planner, but its own choice of samples never exceeds `most`, or four times as many if a pass of `most` is brief: then the
    /// overhead of its operations still counts.
    #[must_use]
    pub fn at_most(mut self, most: usize) -> Self {
        if self.batch == BatchSize::Auto {
            self.ceiling = self.ceiling.min(most.max(1));
            self.usual = Some(self.ceiling);
        }
        self
    }

    /// Takes an estimate of a sample's memory: no pass begins that would not fit by this estimate.
    pub fn expect(&mut self, footprint: &Footprint) {
        for c in &mut self.candidates {
            c.bytes = footprint.bytes(c.ways);
        }
        self.bound();
    }

    /// Tries the ways that take least memory first: for passes so large that a short job runs only one of them.
    pub fn least_first(&mut self) {
        self.candidates.sort_by(|a, b| a.bytes.total_cmp(&b.bytes));
    }

    /// # Errors
    /// A wrong request if one sample exceeds the budget even in the way that takes least memory; `remedy` is what the user may try.
    pub fn ensure_affordable(&self, subject: &str, remedy: &str) -> Result<()> {
        let least = self.candidates.iter().map(|c| c.bytes).fold(f64::INFINITY, f64::min);
        if least <= self.budget {
            return Ok(());
        }
        let mebi = |bytes: f64| bytes as u64 >> 20;
        let expected = format!("a sample that fits the memory of a pass, {} MiB ({remedy})", mebi(self.budget));
        Err(Error::request(subject, expected, format!("some {} MiB", mebi(least))))
    }

    /// The next pass, of at most `remaining` samples (and at least one).
    pub fn next(&self, remaining: usize) -> Pass {
        if let Some(pass) = self.finalist().filter(|pass| pass.samples <= remaining) {
            return pass;
        }
        let untried = self.candidates.iter().min_by_key(|c| c.tries).map(|c| c.ways);
        let grows = self.phase == Phase::Growing && self.learns_from(remaining);
        let (samples, ways) = match (grows, self.best) {
            // Too few samples are left to try the next size, so the best known way takes them.
            (false, Some((best, _))) => (best.samples, best.ways),
            _ => (self.size, untried.unwrap_or(Ways { rows: Mode::Looped, columns: Mode::Looped })),
        };
        // A very small rest joins the last pass.
        let samples =
            if self.batch == BatchSize::Auto && remaining < samples + samples / 4 { remaining } else { samples };
        Pass { samples: samples.min(self.fitting(ways)).min(self.ceiling).min(remaining).max(1), ways }
    }

    /// True if a call with this many samples would still try something new.
    pub fn learns_from(&self, samples: usize) -> bool {
        match self.phase {
            Phase::Growing => samples >= self.size.min(self.ceiling),
            Phase::Final => self.finalist().is_some_and(|pass| pass.samples <= samples),
            Phase::Settled => false,
        }
    }

    /// True while passes are compared, because timings must then be exact (synchronised).
    pub fn is_exploring(&self) -> bool {
        self.phase != Phase::Settled
    }

    /// The pass whose turn it is in the final.
    fn finalist(&self) -> Option<Pass> {
        if self.phase == Phase::Final { self.finals.next() } else { None }
    }

    /// Records the result of a pass. `peak` is the most bytes that were live in it.
    pub fn record(&mut self, pass: Pass, time: Duration, peak: u64) {
        let seconds = time.as_secs_f64() / pass.samples.max(1) as f64;
        if self.finalist() == Some(pass) {
            self.finals.note(pass, seconds);
            self.settle();
            return;
        }
        let size = self.size;
        let Some(candidate) = self.candidates.iter_mut().find(|c| c.ways == pass.ways) else {
            return;
        };
        let bytes = peak as f64 / pass.samples.max(1) as f64;
        candidate.bytes = if candidate.tried { candidate.bytes.max(bytes) } else { bytes };
        candidate.tried = true;
        if pass.ways.rows == Mode::Folded {
            // If the model's operations are known, autograd's passes compute the same products with fewer in each, so they are dropped.
            self.leave(|c| c.ways.rows == Mode::Folded);
        }
        if self.phase == Phase::Growing && self.fitting(pass.ways) < size {
            self.bound();
            return;
        }
        let Some(candidate) = self.candidates.iter_mut().find(|c| c.ways == pass.ways) else {
            return;
        };
        // The rate of a small rest gives no information about the size that is being explored.
        if self.phase != Phase::Growing || pass.samples < size.min(self.ceiling) {
            return;
        }
        self.finals.note(pass, seconds);
        candidate.seconds = candidate.seconds.min(seconds);
        candidate.tries += 1;
        if self.best.is_none_or(|(_, s)| seconds < s) {
            self.best = Some((pass, seconds));
        }
        if self.candidates.iter().all(|c| c.enough(size)) {
            self.judge();
        }
    }

    /// Records that a pass ran out of memory; false if nothing smaller is left to try.
    pub fn out_of_memory(&mut self, pass: Pass) -> bool {
        if let Some(c) = self.candidates.iter_mut().find(|c| c.ways == pass.ways) {
            c.bytes = c.bytes.max(self.budget / pass.samples.max(1) as f64 * 2.0);
        }
        if pass.samples == 1 {
            return self.fail(pass.ways);
        }
        self.ceiling = pass.samples / 2;
        self.size = self.size.min(self.ceiling);
        self.finals.limit(self.ceiling);
        if self.best.is_some_and(|(best, _)| best.samples > self.ceiling) {
            self.best = None;
            self.phase = Phase::Growing;
        } else if self.phase == Phase::Final {
            self.settle();
        }
        true
    }

    /// After a pass that failed the job continues: with smaller passes if memory ran out, in another way if libtorch does not support this
    /// one (no batching rule, no second derivative, or another reason).
    ///
    /// # Errors
    /// If nothing is left to try, and if no other pass would help.
    pub fn survive(&mut self, pass: Pass, error: Error) -> Result<()> {
        let goes_on = if error.is_out_of_memory() {
            self.out_of_memory(pass)
        } else if error.is_of_the_way() {
            self.refused.push(format!("{} was left for another way: {error}", pass.ways));
            if pass.ways.rows == Mode::Folded && wording::NOT_FOLDED.is_in(&error.to_string()) {
                // The way fails with other columns, too.
                let others: Vec<Ways> = self.candidates.iter().map(|c| c.ways).collect();
                others.into_iter().filter(|w| w.rows == Mode::Folded && *w != pass.ways).for_each(|ways| {
                    self.fail(ways);
                });
            }
            self.fail(pass.ways)
        } else {
            false
        };
        if goes_on { Ok(()) } else { Err(error) }
    }

    /// The ways that were dropped because this model does not support them, with libtorch's reasons.
    pub fn refused(&self) -> &[String] {
        &self.refused
    }

    /// Records that a way does not work with this model; false if no way is left.
    fn fail(&mut self, ways: Ways) -> bool {
        self.candidates.retain(|c| c.ways != ways);
        self.spare.retain(|c| c.ways != ways);
        self.finals.forget(ways);
        if self.candidates.is_empty() {
            self.candidates = std::mem::take(&mut self.spare);
            for c in &mut self.candidates {
                (c.seconds, c.tries) = (f64::INFINITY, 0);
            }
            self.best = None;
        }
        if self.best.is_none_or(|(best, _)| best.ways == ways) {
            (self.best, self.phase) = (None, Phase::Growing);
            self.bound();
        } else if self.phase == Phase::Final {
            self.settle();
        } else if self.phase == Phase::Growing && self.candidates.iter().all(|c| c.enough(self.size)) {
            self.judge();
        }
        !self.candidates.is_empty()
    }

    /// Reduces the explored size to what some way can take, and drops the ways that cannot take it.
    fn bound(&mut self) {
        let most = self.candidates.iter().map(|c| self.fits(c)).max().unwrap_or(usize::MAX);
        let (size, budget) = (self.size.min(most.max(1)).min(self.ceiling), self.budget);
        self.size = size;
        if most > 0 {
            self.leave(|c| fits(budget, c) >= size);
        } else {
            // Not even one sample fits.
            self.least_first();
        }
    }

    /// All ways were measured at this size: drop the hopeless ones, then grow or settle.
    fn judge(&mut self) {
        let fastest = self.candidates.iter().map(|c| c.seconds).fold(f64::INFINITY, f64::min);
        self.leave(|c| c.seconds <= fastest * HOPELESS);
        let next = self.size * GROWTH;
        let gained = self.best.is_some_and(|(best, s)| best.samples >= self.size && s <= fastest);
        // A slight loss may come from a busy moment; a clear loss is a property of the machine.
        let clear = self.best.is_some_and(|(_, s)| fastest > s * CLEAR);
        self.idle = if gained {
            0
        } else if clear {
            PATIENCE
        } else {
            self.idle + 1
        };
        if self.usual == Some(self.ceiling) && self.size == self.ceiling && fastest * (self.size as f64) < BRIEF {
            self.ceiling = next;
        }
        let can_grow = next <= self.ceiling && self.candidates.iter().any(|c| next <= self.fitting(c.ways));
        if matches!(self.batch, BatchSize::Fixed(_)) || self.idle >= PATIENCE || !can_grow {
            self.phase = Phase::Final;
            self.finals.open();
            self.settle();
            return;
        }
        self.size = next;
        let budget = self.budget;
        self.leave(|c| next <= fits(budget, c));
        for c in &mut self.candidates {
            (c.seconds, c.tries) = (f64::INFINITY, 0);
        }
        // From now on only a gain that is worth its memory counts.
        if gained {
            self.best = self.best.map(|(pass, s)| (pass, s * WORTH));
        }
    }

    /// Continues with the candidates that are worth it.
    fn leave(&mut self, worth: impl Fn(&Candidate) -> bool) {
        let (kept, left): (Vec<_>, Vec<_>) = std::mem::take(&mut self.candidates).into_iter().partition(worth);
        self.candidates = kept;
        self.spare.extend(left);
    }

    /// Ends the final when all finalists had their turns.
    fn settle(&mut self) {
        if self.finals.next().is_none() {
            self.best = self.finals.best().or(self.best);
            self.phase = Phase::Settled;
        }
    }

    /// The most samples whose memory, extrapolated from the measured memory of these ways, fits the budget.
    fn fitting(&self, ways: Ways) -> usize {
        self.candidates.iter().find(|c| c.ways == ways).map_or(usize::MAX, |c| self.fits(c))
    }

    fn fits(&self, candidate: &Candidate) -> usize {
        fits(self.budget, candidate)
    }
}

/// The number of samples that fit into `budget` bytes in a pass by this candidate.
fn fits(budget: f64, candidate: &Candidate) -> usize {
    if candidate.bytes > 0.0 { (budget / candidate.bytes) as usize } else { usize::MAX }
}

impl Candidate {
    fn new(ways: Ways) -> Self {
        Self { ways, seconds: f64::INFINITY, tries: 0, bytes: 0.0, tried: false }
    }

    /// Whether it was measured often enough at `size`. A short pass is measured twice: the first run includes warming up, and either run
    /// can meet a busy moment.
    fn enough(&self, size: usize) -> bool {
        self.tries >= if self.seconds * (size as f64) < SHORT { 2 } else { 1 }
    }
}

impl std::fmt::Display for Planner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.best {
            Some((best, _)) => write!(f, "{} samples, {}", best.samples, best.ways.rows),
            None => f.write_str("nothing measured yet"),
        }
    }
}
