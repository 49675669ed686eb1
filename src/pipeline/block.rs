//! How many samples are processed together.

use crate::jacobian::BatchSize;
use std::time::Duration;
use tch::Device;

/// How many samples are evaluated and stored at a time: as many as take about a second, so that a killed process loses no more work than
/// that, whether its model is slow or fast.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    /// Always a multiple of this.
    pub unit: usize,
    /// The first size, and the largest.
    pub first: usize,
    pub most: usize,
}

/// After a block that takes less time the next one is larger,
const BRISK: Duration = Duration::from_millis(700);
/// and after a block that takes more time it is smaller.
const SLOW: Duration = Duration::from_secs(4);

impl Block {
    /// A whole number of passes, so few that a block with `floats` values for each sample stays near 64 MiB and an interruption loses
    /// seconds.
    pub fn about(batch: BatchSize, device: Device, floats: usize) -> Self {
        let (first, most) = if device.is_cuda() { (2048, 8192) } else { (64, 1024) };
        let fits = ((16 << 20) / floats.max(1)).clamp(1, most);
        let unit = match batch {
            BatchSize::Auto => 1,
            BatchSize::Fixed(n) => n,
        };
        let whole = |n: usize| n.div_ceil(unit) * unit;
        Self { unit, first: whole(first.min(fits)), most: whole(fits) }
    }

    /// Always `n` samples.
    #[cfg(test)]
    pub fn of(n: usize) -> Self {
        Self { unit: n, first: n, most: n }
    }

    /// The size after a block of `samples` took `time`; `now` is the size of the blocks that are being read.
    pub fn next(self, now: usize, samples: usize, time: Duration) -> usize {
        let wanted = if time < BRISK && samples >= now {
            now.saturating_mul(2)
        } else if time > SLOW {
            now.min(samples) / 2
        } else {
            now
        };
        (wanted / self.unit * self.unit).clamp(self.unit, self.most.max(self.unit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_take_about_a_second() {
        let block = Block { unit: 8, first: 64, most: 1024 };
        let (brisk, fine, slow) = (Duration::from_millis(20), Duration::from_secs(2), Duration::from_secs(9));
        assert_eq!(block.next(64, 64, brisk), 128);
        // The time of a short last block is not that of a full one.
        assert_eq!(block.next(64, 5, brisk), 64);
        assert_eq!(block.next(1024, 1024, brisk), 1024);
        assert_eq!(block.next(64, 64, fine), 64);
        assert_eq!(block.next(64, 64, slow), 32);
        assert_eq!(block.next(8, 8, slow), 8);
        assert_eq!(Block::of(5).next(5, 5, brisk), 5);
    }
}
