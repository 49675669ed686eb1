//! The normal distribution function and its inverse.
//!
//! Source: Marsaglia 2004, "Evaluating the normal distribution", J. Stat. Software 11(4).

/// Beyond this many standard deviations the tail is below 1e-15.
const FAR: f64 = 8.0;

/// Phi(x) = 1/2 + phi(x) (x + x^3/3 + x^5/(3 5) + ...), to about 1e-15.
pub fn cdf(x: f64) -> f64 {
    if x <= -FAR {
        return 0.0;
    }
    if x >= FAR {
        return 1.0;
    }
    let (mut sum, mut term, mut odd) = (x, x, 1.0);
    loop {
        odd += 2.0;
        term *= x * x / odd;
        let next = sum + term;
        // This is also true if both are NaN.
        if next == sum || next.is_nan() {
            break;
        }
        sum = next;
    }
    0.5 + sum * (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

/// The x with Phi(x) = p by bisection: -8 or 8 at the ends and beyond them, NaN for NaN.
pub fn quantile(p: f64) -> f64 {
    if p.is_nan() {
        return p;
    }
    let (mut low, mut high) = (-FAR, FAR);
    for _ in 0..64 {
        let middle = 0.5 * (low + high);
        if cdf(middle) < p { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}
