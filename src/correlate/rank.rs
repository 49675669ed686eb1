//! Spearman's rho and Kendall's tau-b of pairs and of resamples of them.
//!
//! Source: Spearman 1904; Kendall 1945 (tau-b); Knight 1966, "A computer method for calculating Kendall's tau with
//! ungrouped data", JASA 61.
//! Differs: the pairs are sorted once. A resample is given by how often each pair was drawn, and is already in order, so
//! that a bootstrap of Spearman's rho costs O(n) a resample, without a sort.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// The kind of rank correlation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Coefficient {
    /// Spearman's rho: Pearson's correlation of the ranks.
    #[default]
    Spearman,
    /// Kendall's tau-b: concordant minus discordant pairs, corrected for ties.
    Kendall,
}

/// Pairs in the order of x, then y, with their tied groups.
#[derive(Clone, Debug)]
pub struct Ranked {
    /// The new position of pair i of the caller.
    position: Vec<u32>,
    /// Ends of the runs of equal x.
    x_ends: Vec<u32>,
    /// Ends of the runs of equal (x, y).
    pair_ends: Vec<u32>,
    /// Positions in the order of y.
    y_order: Vec<u32>,
    /// Ends of the runs of equal y, in `y_order`.
    y_ends: Vec<u32>,
    /// The run of equal y that a position belongs to; the number is larger for larger y.
    y_group: Vec<u32>,
}

/// Memory that [`Ranked::resampled`] uses again.
#[derive(Clone, Debug)]
pub struct Workspace {
    counts: Vec<u32>,
    rank: Vec<f64>,
    sequence: Vec<u32>,
    merged: Vec<u32>,
}

/// Ends of the runs in 0..n in which `same(k - 1, k)` holds.
fn ends(n: usize, same: impl Fn(usize, usize) -> bool) -> Vec<u32> {
    (1..=n).filter(|&k| k == n || !same(k - 1, k)).map(|k| k as u32).collect()
}

/// The number of pairs of `m` things, m (m - 1) / 2.
fn choose2(m: u64) -> u64 {
    m * m.saturating_sub(1) / 2
}

impl Ranked {
    /// Sorts the pairs, which must not hold a NaN; infinities are ordered, and 0 equals -0.
    pub(super) fn new(pairs: &[(f64, f64)]) -> Result<Self> {
        let n = pairs.len();
        if u32::try_from(n).is_err() {
            return Err(Error::request("columns to correlate", "fewer than 2^32 pairs", n.to_string()));
        }
        // -0 + 0 is +0, so that the total order agrees with ==.
        let at = |i: u32| (pairs[i as usize].0 + 0.0, pairs[i as usize].1 + 0.0);
        let mut order: Vec<u32> = (0..n as u32).collect();
        order.sort_unstable_by(|&a, &b| at(a).0.total_cmp(&at(b).0).then(at(a).1.total_cmp(&at(b).1)).then(a.cmp(&b)));
        let mut position = vec![0u32; n];
        order.iter().enumerate().for_each(|(k, &i)| position[i as usize] = k as u32);
        let x = |k: usize| at(order[k]).0;
        let y = |k: usize| at(order[k]).1;

        let mut y_order: Vec<u32> = (0..n as u32).collect();
        y_order.sort_unstable_by(|&a, &b| y(a as usize).total_cmp(&y(b as usize)).then(a.cmp(&b)));
        let y_ends = ends(n, |a, b| y(y_order[a] as usize) == y(y_order[b] as usize));
        let mut y_group = vec![0u32; n];
        let mut start = 0;
        for (group, &end) in y_ends.iter().enumerate() {
            y_order[start..end as usize].iter().for_each(|&k| y_group[k as usize] = group as u32);
            start = end as usize;
        }
        Ok(Self {
            x_ends: ends(n, |a, b| x(a) == x(b)),
            pair_ends: ends(n, |a, b| x(a) == x(b) && y(a) == y(b)),
            position,
            y_order,
            y_ends,
            y_group,
        })
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.position.len()
    }

    /// True if there is no pair.
    pub fn is_empty(&self) -> bool {
        self.position.is_empty()
    }

    /// Memory for [`Self::resampled`].
    pub fn workspace(&self) -> Workspace {
        let n = self.len();
        Workspace {
            counts: vec![0; n],
            rank: vec![0.0; n],
            sequence: Vec::with_capacity(n),
            merged: Vec::with_capacity(n),
        }
    }

    /// The coefficient of the pairs; NaN with fewer than 3 of them, or where a column is constant.
    pub fn coefficient(&self, which: Coefficient) -> f64 {
        self.resampled(which, &vec![1; self.len()], &mut self.workspace())
    }

    /// The coefficient of a sample that holds pair i `counts[i]` times; NaN with fewer than 3 pairs or more than
    /// 2^32 - 1, where a column is constant, or where there are not as many counts as pairs.
    pub fn resampled(&self, which: Coefficient, counts: &[u32], workspace: &mut Workspace) -> f64 {
        if counts.len() != self.len() {
            return f64::NAN;
        }
        workspace.counts.resize(self.len(), 0);
        workspace.rank.resize(self.len(), 0.0);
        for (&count, &k) in counts.iter().zip(&self.position) {
            workspace.counts[k as usize] = count;
        }
        let total: u64 = counts.iter().map(|&c| u64::from(c)).sum();
        if total < 3 || total > u64::from(u32::MAX) {
            return f64::NAN;
        }
        match which {
            Coefficient::Spearman => self.spearman(total, workspace),
            Coefficient::Kendall => self.kendall(total, workspace),
        }
    }

    /// rho = sum (r - m)(s - m) / sqrt(sum (r - m)^2 sum (s - m)^2), r and s the average ranks, m = (n + 1) / 2.
    fn spearman(&self, total: u64, workspace: &mut Workspace) -> f64 {
        let middle = (total + 1) as f64 / 2.0;
        let (counts, rank) = (&workspace.counts, &mut workspace.rank);
        let (mut before, mut start, mut xx) = (0.0, 0, 0.0);
        for &end in &self.x_ends {
            let run = start..end as usize;
            let size: f64 = counts[run.clone()].iter().map(|&c| f64::from(c)).sum();
            let centred = before + (size + 1.0) / 2.0 - middle;
            rank[run].fill(centred);
            xx += size * centred * centred;
            before += size;
            start = end as usize;
        }
        let (mut before, mut start, mut yy, mut xy) = (0.0, 0, 0.0, 0.0);
        for &end in &self.y_ends {
            let (mut size, mut sum) = (0.0, 0.0);
            for &k in &self.y_order[start..end as usize] {
                let count = f64::from(counts[k as usize]);
                size += count;
                sum += count * rank[k as usize];
            }
            let centred = before + (size + 1.0) / 2.0 - middle;
            yy += size * centred * centred;
            xy += sum * centred;
            before += size;
            start = end as usize;
        }
        ratio(xy, xx, yy)
    }

    /// tau_b = (P - Q) / sqrt((n0 - n1)(n0 - n2)): n0 all pairs of pairs, n1 those tied in x, n2 in y, n3 in both;
    /// P + Q = n0 - n1 - n2 + n3, and Q is the number of swaps that sort y once the pairs are in the order of x.
    fn kendall(&self, total: u64, workspace: &mut Workspace) -> f64 {
        let Workspace { counts, sequence, merged, .. } = workspace;
        let tied = |ends: &[u32], count: &dyn Fn(usize) -> u32| {
            let mut start = 0;
            let mut sum = 0;
            for &end in ends {
                sum += choose2((start..end as usize).map(|k| u64::from(count(k))).sum());
                start = end as usize;
            }
            sum
        };
        let n0 = choose2(total);
        let n1 = tied(&self.x_ends, &|k| counts[k]);
        let n2 = tied(&self.y_ends, &|k| counts[self.y_order[k] as usize]);
        let n3 = tied(&self.pair_ends, &|k| counts[k]);
        sequence.clear();
        for (&group, &count) in self.y_group.iter().zip(counts.iter()) {
            sequence.extend(std::iter::repeat_n(group, count as usize));
        }
        let discordant = swaps(sequence, merged);
        let difference = (n0 + n3) as f64 - (n1 + n2) as f64 - 2.0 * discordant as f64;
        ratio(difference, (n0 - n1) as f64, (n0 - n2) as f64)
    }
}

/// `a / sqrt(b c)` in [-1, 1], NaN where b or c is 0.
fn ratio(a: f64, b: f64, c: f64) -> f64 {
    if b > 0.0 && c > 0.0 { (a / (b * c).sqrt()).clamp(-1.0, 1.0) } else { f64::NAN }
}

/// Sorts `data` by merging and counts the pairs that were in the wrong order.
fn swaps(data: &mut Vec<u32>, merged: &mut Vec<u32>) -> u64 {
    let n = data.len();
    let mut total = 0u64;
    let mut width = 1;
    while width < n {
        merged.clear();
        for start in (0..n).step_by(2 * width) {
            let (middle, end) = ((start + width).min(n), (start + 2 * width).min(n));
            let (mut left, mut right) = (start, middle);
            while left < middle && right < end {
                if data[right] < data[left] {
                    // It passes every remaining entry of the left run.
                    total += (middle - left) as u64;
                    merged.push(data[right]);
                    right += 1;
                } else {
                    merged.push(data[left]);
                    left += 1;
                }
            }
            merged.extend_from_slice(&data[left..middle]);
            merged.extend_from_slice(&data[right..end]);
        }
        std::mem::swap(data, merged);
        width *= 2;
    }
    total
}
