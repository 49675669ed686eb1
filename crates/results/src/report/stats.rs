//! Summaries of a column of numbers: quartiles, the mean and its interval, the number of undefined values, the area under a curve.

/// The summary of a column of numbers. NaN and infinite entries are counted, never averaged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quartiles {
    /// All entries.
    pub count: usize,
    /// Entries that are NaN or infinite.
    pub undefined: usize,
    /// Mean of the finite entries; it and the quartiles are NaN if there are none.
    pub mean: f64,
    /// Lower quartile.
    pub low: f64,
    /// Median.
    pub median: f64,
    /// Upper quartile.
    pub high: f64,
}

impl Quartiles {
    /// Summarises `values`.
    pub fn of(values: &[f64]) -> Self {
        let finite = sorted(values);
        let mean = finite.iter().sum::<f64>() / finite.len() as f64;
        Self {
            count: values.len(),
            undefined: values.len() - finite.len(),
            mean,
            low: quantile(&finite, 0.25),
            median: quantile(&finite, 0.5),
            high: quantile(&finite, 0.75),
        }
    }
}

/// Resamples of an interval.
const RESAMPLES: usize = 2000;

/// From so many values on the mean of a resample is normal to within what so few resamples tell, and is not drawn.
const MANY: usize = 2000;

/// A mean and the ends of its bootstrap interval of 95 %.
///
/// Source: Efron & Tibshirani 1993, "An introduction to the bootstrap", ch. 13 (percentile). Draws are the same for every column of the same
/// length, so a page made again has the same ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeanInterval {
    /// Mean of the finite entries; NaN if there are none, and with it the ends.
    pub mean: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl MeanInterval {
    /// Of the finite entries of `values`, in whatever order.
    pub fn of(values: &[f64]) -> Self {
        let finite = sorted(values);
        let count = finite.len() as f64;
        let mean = finite.iter().sum::<f64>() / count;
        if finite.is_empty() {
            return Self { mean, low: f64::NAN, high: f64::NAN };
        }
        if finite.len() > MANY {
            let variance = finite.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
            // 1.96: the normal quantile of 97.5 %.
            let half = 1.959_963_984_540_054 * (variance / count).sqrt();
            return Self { mean, low: mean - half, high: mean + half };
        }
        let mut state = 0;
        let mut means = Vec::with_capacity(RESAMPLES);
        for _ in 0..RESAMPLES {
            let sum: f64 = (0..finite.len()).map(|_| finite[draw(&mut state, finite.len())]).sum();
            means.push(sum / count);
        }
        means.sort_by(f64::total_cmp);
        Self { mean, low: quantile(&means, 0.025), high: quantile(&means, 0.975) }
    }
}

/// A number below `count`, by SplitMix64 (Steele, Lea & Flood 2014).
fn draw(state: &mut u64, count: usize) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    ((u128::from(mixed) * count as u128) >> 64) as usize
}

/// The area under the line through (0, 0) and `value(i)` at each of the ascending `sizes`, by trapezoids, divided by the largest size; NaN
/// without sizes.
pub fn area(sizes: &[f64], value: impl Fn(usize) -> f64) -> f64 {
    let (mut sum, mut at, mut height) = (0.0, 0.0, 0.0);
    for (i, size) in sizes.iter().enumerate() {
        let next = value(i);
        sum += 0.5 * (height + next) * (size - at);
        (at, height) = (*size, next);
    }
    if at > 0.0 { sum / at } else { f64::NAN }
}

/// The finite entries, ascending.
pub fn sorted(values: &[f64]) -> Vec<f64> {
    let mut finite: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    finite.sort_by(f64::total_cmp);
    finite
}

/// The quantile `q` in [0, 1] of ascending values, linear between neighbours (NumPy's default); NaN if there are none.
pub fn quantile(ascending: &[f64], q: f64) -> f64 {
    let Some(last) = ascending.len().checked_sub(1) else { return f64::NAN };
    let position = q.clamp(0.0, 1.0) * last as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(last);
    let weight = position - below as f64;
    ascending[below] + weight * (ascending[above] - ascending[below])
}

/// The median of the finite entries; NaN if there are none.
pub fn median(values: &[f64]) -> f64 {
    quantile(&sorted(values), 0.5)
}

/// Spearman's rank correlation over the pairs where both are finite, where ties share their mean rank; NaN if a side is constant or fewer
/// than three pairs are left.
pub fn spearman(a: &[f64], b: &[f64]) -> f64 {
    let (a, b): (Vec<f64>, Vec<f64>) = a.iter().zip(b).filter(|(x, y)| x.is_finite() && y.is_finite()).unzip();
    if a.len() < 3 {
        return f64::NAN;
    }
    let (a, b) = (ranks(&a), ranks(&b));
    let centre = (a.len() as f64 + 1.0) / 2.0;
    let dot = |u: &[f64], v: &[f64]| -> f64 { u.iter().zip(v).map(|(x, y)| (x - centre) * (y - centre)).sum() };
    dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt()
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|i, j| values[*i].total_cmp(&values[*j]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let tied = order[start..].iter().take_while(|i| values[**i] == values[order[start]]).count();
        for i in &order[start..start + tied] {
            ranks[*i] = start as f64 + (tied as f64 + 1.0) / 2.0;
        }
        start += tied;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_of_means_are_those_of_resamples() {
        // Of 0 and 1 alike the mean of n draws is binomial: its standard error is 1 / (2 sqrt(n)), for 100 values 0.05.
        let half = |n: usize| -> Vec<f64> { (0..n).map(|i| (i % 2) as f64).collect() };
        let found = MeanInterval::of(&half(100));
        assert_eq!(found.mean, 0.5);
        // The 2.5 % quantile of the binomial is 40 of 100, by its distribution; quantiles of 2000 resamples may miss by one.
        assert!((found.low - 0.40).abs() < 0.0101 && (found.high - 0.60).abs() < 0.0101, "{found:?}");
        // Many values: the normal law, which goes on from the resamples.
        let (few, many) = (MeanInterval::of(&half(MANY)), MeanInterval::of(&half(MANY + 2)));
        let width = |found: MeanInterval| found.high - found.low;
        assert!((width(few) / width(many) - 1.0).abs() < 0.1, "{few:?} {many:?}");
    }

    #[test]
    fn undefined_values_move_no_mean() {
        let found = MeanInterval::of(&[f64::NAN, 2.0, f64::INFINITY, 2.0]);
        assert_eq!((found.mean, found.low, found.high), (2.0, 2.0, 2.0));
        let none = MeanInterval::of(&[f64::NAN]);
        assert!(none.mean.is_nan() && none.low.is_nan() && none.high.is_nan());
        // Whatever order the rows of a file have.
        assert_eq!(MeanInterval::of(&[1.0, 5.0, 2.0]), MeanInterval::of(&[5.0, 2.0, 1.0]));
    }

    #[test]
    fn areas_are_those_of_lines() {
        let sizes = [0.5, 1.0, 2.0];
        // 3 times the size: half of 3 * 2.
        assert!((area(&sizes, |i| 3.0 * sizes[i]) - 3.0).abs() < 1e-12);
        assert!(area(&[], |_| 0.0).is_nan());
    }
}
