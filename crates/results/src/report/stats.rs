//! Summaries of a column of numbers: quartiles, mean, and the number of undefined values.

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
