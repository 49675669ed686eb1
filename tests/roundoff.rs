//! Tolerances from arithmetic: how far two right computations of the same number may lie apart, on any processor, in any order
//! of summation, with fused products or without.
//!
//! A sum of n products, rounded with unit roundoff u, is off by at most n u of the sum of their magnitudes (Higham 2002, 3.1), and by
//! more than 8 sqrt(n) u of it with a probability below 1e-13 (Higham & Mary 2019, theorem 2.4 with lambda = 8, rounding errors
//! of mean 0). Errors of sums that follow each other add up, a function in between (tanh, exp) is off by at most 2 u. A computation is
//! compared with another, which may be off as much, hence the factor of 2. What is compared is relative to the largest number of
//! the result: sums of random sign fall short of their terms' magnitudes by a factor of some sqrt(n) in the single entry, but not in
//! the norm that counts here.

use tch::Kind;

/// u.
pub fn unit(kind: Kind) -> f64 {
    match kind {
        Kind::Float => 2f64.powi(-24),
        _ => 2f64.powi(-53),
    }
}

/// Allowed difference, as a share of the largest number, of results of sums of so many `terms`, one after another.
pub fn apart(kind: Kind, terms: &[i64]) -> f64 {
    const CERTAIN: f64 = 8.0;
    const FUNCTION: f64 = 2.0;
    2.0 * unit(kind) * terms.iter().map(|n| CERTAIN * (*n as f64).sqrt() + FUNCTION).sum::<f64>()
}

/// The same of eigenvalues of a Gram matrix A A^T, as a share of the largest: twice the error of A, summed over `dim`, and what a
/// backward stable eigensolver of order `rows` adds (LAPACK users' guide, 4.7: a modest multiple of u, of the order's size).
pub fn eigenvalues_apart(kind: Kind, terms: &[i64], dim: i64, rows: i64) -> f64 {
    2.0 * apart(kind, terms) + apart(Kind::Double, &[dim, rows, rows])
}

/// What a central difference with step `h` is off by, of a function whose values are at most `size`, computed by sums of `terms`,
/// and whose third derivative is at most `third`: h^2 / 6 of that, and the values' rounding over h.
pub fn difference_quotient(h: f64, size: f64, terms: &[i64], third: f64) -> f64 {
    h * h / 6.0 * third + apart(Kind::Double, terms) * size / h
}

/// The central difference of `phi` at 0 with step 1e-6, and how far the derivative may lie from it: [`difference_quotient`], the third
/// derivative being twice what values a hundredth apart say.
pub fn slope(phi: impl Fn(f64) -> f64, terms: &[i64]) -> (f64, f64) {
    let (h, far) = (1e-6, 1e-2);
    let (up, down) = (phi(h), phi(-h));
    let third = (phi(2.0 * far) - 2.0 * phi(far) + 2.0 * phi(-far) - phi(-2.0 * far)) / (2.0 * far.powi(3));
    ((up - down) / (2.0 * h), difference_quotient(h, up.abs().max(down.abs()), terms, 2.0 * third.abs()))
}

/// Largest magnitude of a tensor's numbers.
pub fn largest(t: &tch::Tensor) -> f64 {
    t.to_kind(Kind::Double).abs().max().double_value(&[])
}

#[test]
fn sums_in_another_order_stay_within() {
    for n in [10, 1000, 100_000] {
        let terms: Vec<f32> = (0..n).map(|i| ((i as f32) * 0.7).sin()).collect();
        let (forth, back): (f32, f32) = (terms.iter().sum(), terms.iter().rev().sum());
        let magnitude: f32 = terms.iter().map(|x| x.abs()).sum();
        let gap = f64::from((forth - back).abs());
        assert!(gap <= apart(Kind::Float, &[n]) * f64::from(magnitude));
        // And the bound is none that nothing reaches: half precision would fail it.
        let exact: f64 = terms.iter().map(|x| f64::from(*x)).sum();
        let rough: f64 = terms.iter().map(|x| f64::from((x * 1024.0).round() / 1024.0)).sum();
        assert!(n > 10 || (rough - exact).abs() > apart(Kind::Float, &[n]) * f64::from(magnitude));
    }
}
