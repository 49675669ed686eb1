//! Numbers from a fixed generator, and files as a bad disk leaves them.

/// Knuth's MMIX generator.
#[derive(Debug)]
pub struct Dice(pub u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0
    }

    /// At least 0, below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        ((self.next() >> 33) as usize) % n.max(1)
    }

    /// At least 0, below 1.
    pub fn roll(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A file with one to eight bytes changed, in a place or in several.
    pub fn mutant(&mut self, good: &[u8]) -> Vec<u8> {
        let mut bytes = good.to_vec();
        for _ in 0..[1, 1, 1, 3][self.below(4)] {
            let at = self.below(bytes.len());
            let end = (at + [1, 1, 2, 8][self.below(4)]).min(bytes.len());
            for byte in &mut bytes[at..end] {
                *byte = match self.below(4) {
                    0 => *byte ^ (1 << self.below(8)),
                    1 => 0,
                    2 => 0xff,
                    _ => self.below(256) as u8,
                };
            }
        }
        bytes
    }
}
