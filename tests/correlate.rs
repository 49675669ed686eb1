//! Rank correlations and bootstrap intervals, against SciPy, closed forms and simulated truth.

use crate::roundoff::apart;
use pullback::correlate::{Bootstrap, Coefficient, Correlation, Method, Missing, coefficient, correlate, interval};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use serde_json::Value;
use tch::Kind;

/// Made by tests/golden/correlate.py.
fn golden() -> Value {
    serde_json::from_str(include_str!("golden/correlate.json")).unwrap()
}

fn number(v: &Value) -> f64 {
    v.as_f64().unwrap_or_else(|| v.as_str().unwrap().parse().unwrap())
}

fn column(case: &Value, name: &str) -> Vec<f64> {
    case[name].as_array().unwrap().iter().map(number).collect()
}

fn close(found: f64, expected: f64, tolerance: f64) -> bool {
    (found.is_nan() && expected.is_nan()) || (found - expected).abs() <= tolerance
}

/// Sums of ranks and counts are whole numbers, or halves, and exact: what is left is a product, a root and a quotient.
fn last_digits() -> f64 {
    apart(Kind::Double, &[1])
}

fn both(x: &[f64], y: &[f64]) -> (f64, f64) {
    let of = |which| coefficient(x, y, which, Missing::Refuse).unwrap().0;
    (of(Coefficient::Spearman), of(Coefficient::Kendall))
}

/// Pairs of a bivariate normal distribution with Pearson's correlation `rho`.
fn simulated(n: usize, rho: f64, seed: u64) -> (Vec<f64>, Vec<f64>) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut draw = || rng.sample::<f64, _>(StandardNormal);
    let x: Vec<f64> = (0..n).map(|_| draw()).collect();
    let y = x.iter().map(|x| rho * x + (1.0 - rho * rho).sqrt() * draw()).collect();
    (x, y)
}

fn estimate(x: &[f64], y: &[f64], which: Coefficient, bootstrap: Bootstrap, seed: u64) -> Correlation {
    correlate(x, y, which, Missing::Refuse, &bootstrap, seed).unwrap()
}

#[test]
fn agrees_with_scipy() {
    for case in golden()["cases"].as_array().unwrap() {
        let (x, y) = (column(case, "x"), column(case, "y"));
        let (spearman, kendall) = both(&x, &y);
        // SciPy's are quotients of sums over the rows, of ranks less their mean.
        let allowed = apart(Kind::Double, &[x.len() as i64, x.len() as i64]);
        assert!(close(spearman, number(&case["spearman"]), allowed), "{}: rho {spearman}", case["name"]);
        assert!(close(kendall, number(&case["kendall"]), allowed), "{}: tau {kendall}", case["name"]);
    }
}

#[test]
fn closed_forms() {
    let x: Vec<f64> = (0..17).map(f64::from).collect();
    let cubed: Vec<f64> = x.iter().map(|v| v.powi(3)).collect();
    assert_eq!(both(&x, &cubed), (1.0, 1.0));
    let down: Vec<f64> = x.iter().map(|v| -v.exp()).collect();
    assert_eq!(both(&x, &down), (-1.0, -1.0));
    // One swap of neighbours among n: rho = 1 - 6 * 2 / (n (n^2 - 1)), tau = 1 - 4 / (n (n - 1)).
    let mut swapped = x.clone();
    swapped.swap(7, 8);
    let n = 17.0;
    let (rho, tau) = both(&x, &swapped);
    assert!(
        close(rho, 1.0 - 12.0 / (n * (n * n - 1.0)), last_digits())
            && close(tau, 1.0 - 4.0 / (n * (n - 1.0)), last_digits())
    );
    // A zero-one column against another: both are the phi coefficient, (ad - bc) / sqrt(margins).
    let (a, b, c, d) = (5, 2, 3, 9);
    let rows: Vec<(f64, f64)> = [((0.0, 0.0), a), ((0.0, 1.0), b), ((1.0, 0.0), c), ((1.0, 1.0), d)]
        .into_iter()
        .flat_map(|(row, times)| std::iter::repeat_n(row, times))
        .collect();
    let (x, y): (Vec<f64>, Vec<f64>) = rows.into_iter().unzip();
    let phi = (5.0 * 9.0 - 2.0 * 3.0) / (7.0f64 * 12.0 * 8.0 * 11.0).sqrt();
    let (rho, tau) = both(&x, &y);
    assert!(close(rho, phi, last_digits()) && close(tau, phi, last_digits()));
}

#[test]
fn ignores_order_of_rows_and_monotone_maps() {
    let (x, y) = simulated(200, 0.4, 1);
    let y: Vec<f64> = y.iter().map(|v| (v * 4.0).round()).collect();
    let (rho, tau) = both(&x, &y);
    let mut rows: Vec<(f64, f64)> = x.iter().map(|v| v.exp()).zip(y.iter().map(|v| v * 3.0 - 7.0)).collect();
    rows.rotate_left(71);
    rows.reverse();
    let (a, b): (Vec<f64>, Vec<f64>) = rows.into_iter().unzip();
    assert!(both(&a, &b) == (rho, tau) && both(&b, &a) == (rho, tau));
    let (reversed, _) = both(&a, &b.iter().map(|v| -v).collect::<Vec<_>>());
    assert!(close(reversed, -rho, last_digits()));
}

#[test]
fn counted_kendall_is_the_quadratic_definition() {
    let (x, y) = simulated(300, -0.3, 2);
    let x: Vec<f64> = x.iter().map(|v| (v * 3.0).round()).collect();
    let y: Vec<f64> = y.iter().map(|v| (v * 5.0).round()).collect();
    let sign = |a: f64, b: f64| if a == b { 0.0 } else { (a - b).signum() };
    let (mut s, mut xx, mut yy) = (0.0, 0.0, 0.0);
    for i in 0..x.len() {
        for j in 0..i {
            s += sign(x[i], x[j]) * sign(y[i], y[j]);
            xx += sign(x[i], x[j]).abs();
            yy += sign(y[i], y[j]).abs();
        }
    }
    let (_, tau) = both(&x, &y);
    assert!(close(tau, s / (xx * yy).sqrt(), last_digits()));
}

#[test]
fn undefined_where_nothing_can_be_said() {
    let bootstrap = Bootstrap::default();
    for (x, y) in [
        (vec![], vec![]),
        (vec![1.0], vec![2.0]),
        (vec![1.0, 2.0], vec![3.0, 4.0]),
        (vec![5.0; 9], (0..9).map(f64::from).collect()),
    ] {
        for which in [Coefficient::Spearman, Coefficient::Kendall] {
            let found = estimate(&x, &y, which, bootstrap, 0);
            assert!(found.value.is_nan() && found.lower.is_nan() && found.upper.is_nan(), "{found:?}");
            assert_eq!(found.pairs, x.len());
        }
    }
}

#[test]
fn nan_is_refused_or_counted() {
    let x = [1.0, 2.0, f64::NAN, 4.0, 5.0, 6.0];
    let y = [2.0, f64::NAN, 1.0, 3.0, 9.0, 4.0];
    let refused = coefficient(&x, &y, Coefficient::Spearman, Missing::Refuse).unwrap_err();
    assert_eq!(refused.exit_code(), 2);
    assert!(refused.to_string().contains("2 NaN, the first in row 1"), "{refused}");
    let (rho, dropped) = coefficient(&x, &y, Coefficient::Spearman, Missing::Drop).unwrap();
    assert!(dropped == 2 && close(rho, 0.8, last_digits()), "{rho}");
    let short = coefficient(&x, &y[1..], Coefficient::Spearman, Missing::Drop).unwrap_err();
    assert!(short.to_string().contains("equal lengths"), "{short}");
}

#[test]
fn bootstrap_settings_are_checked() {
    let none = || ();
    for wrong in [
        Bootstrap { resamples: 99, ..Bootstrap::default() },
        Bootstrap { level: 1.0, ..Bootstrap::default() },
        Bootstrap { level: f64::NAN, ..Bootstrap::default() },
    ] {
        assert_eq!(interval(5, &wrong, 0, none, |(), _| 0.0).unwrap_err().exit_code(), 2);
    }
    assert!(serde_yaml::from_str::<Bootstrap>("resample: 5").is_err());
}

#[test]
fn interval_is_the_same_for_any_number_of_threads() {
    let (x, y) = simulated(80, 0.5, 3);
    let run = |threads, seed| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            estimate(&x, &y, Coefficient::Kendall, Bootstrap { resamples: 500, ..Bootstrap::default() }, seed)
        })
    };
    assert_eq!(run(1, 9), run(3, 9));
    assert_ne!(run(1, 9).lower, run(1, 10).lower, "the seed does nothing");
}

#[test]
fn interval_of_perfect_order_is_a_point() {
    let x: Vec<f64> = (0..14).map(f64::from).collect();
    for method in [Method::Percentile, Method::Bca] {
        let found = estimate(&x, &x, Coefficient::Spearman, Bootstrap { method, ..Bootstrap::default() }, 4);
        assert_eq!((found.value, found.lower, found.upper), (1.0, 1.0, 1.0));
    }
}

/// SciPy's resamples are others, so the ends agree as closely as the quantiles of some 10^4 draws do.
#[test]
fn intervals_agree_with_scipy() {
    let golden = golden();
    let case = |name: &Value| golden["cases"].as_array().unwrap().iter().find(|c| c["name"] == *name).unwrap();
    for row in golden["intervals"].as_array().unwrap() {
        let (x, y) = (column(case(&row["name"]), "x"), column(case(&row["name"]), "y"));
        let method = serde_yaml::from_str(row["method"].as_str().unwrap()).unwrap();
        let which = serde_yaml::from_str(row["coefficient"].as_str().unwrap()).unwrap();
        let bootstrap = Bootstrap { resamples: 40_000, level: 0.95, method };
        let found = estimate(&x, &y, which, bootstrap, 5);
        let tolerance = 0.012;
        assert!(
            close(found.lower, number(&row["lower"]), tolerance)
                && close(found.upper, number(&row["upper"]), tolerance),
            "{row}: {found:?}"
        );
    }
}

/// The interval of a mean, whose BCa form is known: Efron & Tibshirani 1993, a = skewness / (6 sqrt n).
#[test]
fn interval_of_a_mean_and_grouped_acceleration() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let rows: Vec<f64> = (0..6000).map(|_| -rng.random_range(0.0f64..1.0).ln()).collect();
    let mean = |rows: &[f64], counts: &[u32]| {
        let total: u32 = counts.iter().sum();
        rows.iter().zip(counts).map(|(v, &c)| v * f64::from(c)).sum::<f64>() / f64::from(total)
    };
    // 6000 rows take the grouped jackknife, 1500 the plain one; an exponential variable has standard deviation 1.
    for n in [1500, 6000] {
        let rows = &rows[..n];
        let bootstrap = Bootstrap { resamples: 2000, ..Bootstrap::default() };
        let found = interval(n, &bootstrap, 6, || (), |(), counts| mean(rows, counts)).unwrap();
        let half = 1.96 / (n as f64).sqrt();
        assert!(found.lower < 1.0 && 1.0 < found.upper, "{found:?}");
        assert!(close((found.upper - found.lower) / 2.0, half, 0.1 * half), "{found:?}");
        assert!(found.upper - found.value > found.value - found.lower, "the long tail is on the right: {found:?}");
    }
}

/// 95 % intervals cover the truth in about 95 of 100 simulated data sets; of a wrong truth, far less often.
/// Truth: rho_s = 6/pi asin(rho / 2), tau = 2/pi asin(rho) (Kruskal 1958).
#[test]
fn intervals_cover_the_truth() {
    let (sets, n, rho) = (300, 50, 0.6f64);
    let truths = [
        (Coefficient::Spearman, 6.0 / std::f64::consts::PI * (rho / 2.0).asin()),
        (Coefficient::Kendall, 2.0 / std::f64::consts::PI * rho.asin()),
    ];
    for (which, truth) in truths {
        for method in [Method::Percentile, Method::Bca] {
            let bootstrap = Bootstrap { resamples: 400, level: 0.95, method };
            let (mut covered, mut wrong) = (0, 0);
            for set in 0..sets {
                let (x, y) = simulated(n, rho, 100 + set);
                let found = estimate(&x, &y, which, bootstrap, set);
                covered += i32::from(found.lower <= truth && truth <= found.upper);
                wrong += i32::from(found.lower <= truth - 0.5 && truth - 0.5 <= found.upper);
            }
            // 285 expected; the standard deviation of a count is 3.8, and n = 50 is small for a bootstrap.
            assert!((268..=297).contains(&covered), "{which:?} {method:?}: {covered} of {sets}");
            assert!(wrong < 30, "{which:?} {method:?}: {wrong} of {sets} cover what is not true");
        }
    }
}

/// Columns that have nothing to do with each other are called related about one time in twenty, no more.
#[test]
fn unrelated_columns_are_not_called_related() {
    let bootstrap = Bootstrap { resamples: 400, ..Bootstrap::default() };
    let called = (0..200u64)
        .filter(|&set| {
            let (x, y) = simulated(60, 0.0, 5000 + set);
            let found = estimate(&x, &y, Coefficient::Spearman, bootstrap, set);
            !(found.lower <= 0.0 && 0.0 <= found.upper)
        })
        .count();
    assert!((2..=22).contains(&called), "{called} of 200");
}

/// What a study needs: an interval of 3000 samples. That its cost grows about as their number does is for `cargo bench -- correlate` to show.
#[test]
fn three_thousand_rows_have_a_narrow_interval() {
    let bootstrap = Bootstrap { resamples: 400, ..Bootstrap::default() };
    let (x, y) = simulated(3000, 0.3, 7);
    for which in [Coefficient::Spearman, Coefficient::Kendall] {
        let found = estimate(&x, &y, which, bootstrap, 8);
        assert!(found.lower < found.value && found.value < found.upper, "{which:?}: {found:?}");
        assert!(found.upper - found.lower < 0.1, "{which:?}: {found:?}");
    }
}
