//! The same results by naive loops in double, written otherwise than the kernels.

/// Eigenvalues, descending, of a dense symmetric matrix: one rotation at a time, the largest entry first, by angles.
pub fn eigenvalues(mut a: Vec<Vec<f64>>) -> Vec<f64> {
    let n = a.len();
    let scale = a.iter().flatten().fold(0.0f64, |m, x| m.max(x.abs()));
    for _ in 0..40 * n * n {
        let (mut p, mut q, mut most) = (0, 0, 0.0);
        for (i, row) in a.iter().enumerate() {
            for (j, x) in row.iter().enumerate().take(i) {
                if x.abs() > most {
                    (p, q, most) = (i, j, x.abs());
                }
            }
        }
        if most <= 1e-17 * scale {
            break;
        }
        let angle = 0.5 * (2.0 * a[p][q]).atan2(a[q][q] - a[p][p]);
        let (s, c) = angle.sin_cos();
        for row in &mut a {
            let (x, y) = (row[p], row[q]);
            row[p] = c * x - s * y;
            row[q] = s * x + c * y;
        }
        let (x, y) = (a[p].clone(), a[q].clone());
        a[p] = x.iter().zip(&y).map(|(x, y)| c * x - s * y).collect();
        a[q] = x.iter().zip(&y).map(|(x, y)| s * x + c * y).collect();
        (a[p][q], a[q][p]) = (0.0, 0.0);
    }
    let mut values: Vec<f64> = (0..n).map(|i| a[i][i]).collect();
    values.sort_by(|x, y| y.total_cmp(x));
    values
}

/// sum_c rows[i][c] rows[j][c].
pub fn gram(rows: &[Vec<f64>]) -> Vec<f64> {
    rows.iter().flat_map(|x| rows.iter().map(|y| x.iter().zip(y).map(|(a, b)| a * b).sum())).collect()
}

/// The ten scores of SPEC section 1.
pub fn scores(values: &[f64]) -> [f64; 10] {
    let (top, trace) = (values[0], values.iter().sum::<f64>());
    if top == 0.0 {
        let nan = f64::NAN;
        return [0.0, 0.0, 0.0, nan, 0.0, 0.0, 1.0, nan, nan, nan];
    }
    let mut entropy = 0.0;
    let mut maxnorm = 0.0;
    let mut counted = Vec::new();
    for value in values {
        if *value > 0.0 {
            entropy -= value / trace * (value / trace).ln();
        }
        maxnorm -= value / top * (value / top + 1e-10).ln();
        if *value > 1e-10 * top {
            counted.push(*value);
        }
    }
    let log_det = counted.iter().map(|v| v.ln()).sum();
    let condition = top / counted[counted.len() - 1];
    let rank = counted.len() as f64;
    [top, trace, entropy, maxnorm, rank, log_det, entropy.exp(), top / trace, trace / top, condition]
}

/// The point of the L1 ball of this radius next to `v`, by sorting.
///
/// Source: Duchi et al. 2008, figure 1.
pub fn l1_projection(v: &[f64], radius: f64) -> Vec<f64> {
    if v.iter().map(|x| x.abs()).sum::<f64>() <= radius {
        return v.to_vec();
    }
    let mut sorted: Vec<f64> = v.iter().map(|x| x.abs()).collect();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let (mut sum, mut threshold) = (0.0, 0.0);
    for (i, x) in sorted.iter().enumerate() {
        sum += x;
        let candidate = (sum - radius) / (i + 1) as f64;
        if *x > candidate {
            threshold = candidate;
        }
    }
    v.iter().map(|x| x.signum() * (x.abs() - threshold).max(0.0)).collect()
}
