//! Factorisations that share a batch among libtorch's threads: right, and never stuck, whatever the sizes.

use crate::child;
use pullback::linalg::{BATCHED_ROWS, eigh, gram, qr_triangle, spectra, triangle_by_levels};
use std::time::Duration;
use tch::{Device, Kind, Tensor};

/// What each process factors: tall, wide and square matrices around the sizes at which LAPACK begins to share one among threads.
const ROWS: [i64; 6] = [3, 40, 300, 784, 3072, 12288];
const COLUMNS: [i64; 6] = [1, 8, 16, 33, 64, 130];
const BATCHES: [i64; 4] = [1, 2, 5, 16];

fn matrices(batch: i64, rows: i64, columns: i64) -> Tensor {
    (Tensor::arange(batch * rows * columns, (Kind::Double, Device::Cpu)) * 0.37).sin().reshape([batch, rows, columns])
}

/// |a - b|, at most what a backward stable factorisation in double may be off: some n u |A|, with n the sum's length.
fn close(a: &Tensor, b: &Tensor, scale: f64, terms: i64) -> bool {
    let allowed = 8.0 * terms as f64 * f64::EPSILON * scale;
    // NaN fails.
    (a - b).abs().max().double_value(&[]) <= allowed
}

/// Not a test of its own: one routine on so many threads, in a process that may be killed.
#[test]
#[ignore = "run by the test beside it"]
fn child_factors() {
    let Ok(job) = std::env::var("PULLBACK_TEST_LINALG") else { return };
    let (routine, threads) = job.split_once(' ').unwrap();
    tch::set_num_threads(threads.parse().unwrap());
    for batch in BATCHES {
        for columns in COLUMNS {
            for rows in ROWS.into_iter().filter(|rows| batch * rows * columns < 4 << 20) {
                let a = matrices(batch, rows, columns);
                // Of |A|_2^2 at most |A|_F^2.
                let scale = a.square().sum(Kind::Double).double_value(&[]);
                if routine == "qr" {
                    let r = qr_triangle(&a).unwrap();
                    // Whatever its signs, R^T R = A^T A.
                    let (ours, theirs) = (r.transpose(1, 2).bmm(&r), a.transpose(1, 2).bmm(&a));
                    assert!(close(&ours, &theirs, scale, rows + columns), "qr {batch} {rows} {columns}");
                    continue;
                }
                if rows != ROWS[2] {
                    continue;
                }
                let gram = a.transpose(1, 2).bmm(&a);
                let theirs = gram.linalg_eigvalsh("L");
                let ours = if routine == "spectra" {
                    spectra(&gram, columns).unwrap().flip([-1])
                } else {
                    let (values, vectors) = eigh(&gram).unwrap();
                    assert!(close(&gram.bmm(&vectors), &(&vectors * values.unsqueeze(1)), scale, columns), "{columns}");
                    values
                };
                assert!(close(&ours, &theirs, scale, columns), "{routine} {batch} {columns}");
            }
        }
    }
    println!("\nall factored");
}

#[test]
fn shared_factorisations_end_on_any_number_of_threads() {
    for routine in ["qr", "spectra", "eigh"] {
        for threads in [1, 2, 3] {
            let job = format!("{routine} {threads}");
            let mut command = child::test("linalg::child_factors");
            let done = child::within(Duration::from_secs(600), command.env("PULLBACK_TEST_LINALG", &job));
            let done = done.unwrap_or_else(|| panic!("{job} threads: still running after ten minutes"));
            let said = String::from_utf8_lossy(&done.stdout).into_owned();
            assert!(said.contains("all factored"), "{job} threads: {said}\n{}", String::from_utf8_lossy(&done.stderr));
        }
    }
}

/// Rows of any number and length, and views of other layouts: products of single precision are exact in double, so that only their sum rounds.
#[test]
fn gram_matrices_are_those_of_a_product_in_double() {
    for rows in [1, 2, 3, 4, 5, 8, 20, 33] {
        for width in [1, 2, 7, 8, 9, 64, 100, 785] {
            for batch in [1, 3, 17] {
                let a = matrices(batch, rows, width).to_kind(Kind::Float);
                let wide = a.to_kind(Kind::Double);
                let expected = wide.bmm(&wide.transpose(1, 2));
                let scale = expected.abs().max().double_value(&[]);
                let turned = a.transpose(0, 1).contiguous().transpose(0, 1);
                let spread = a.transpose(1, 2).contiguous().transpose(1, 2);
                for (name, view) in [("contiguous", &a), ("rows first", &turned), ("columns first", &spread)] {
                    let found = gram(view).unwrap();
                    assert!(close(&found, &expected, scale, width), "{name} {batch} {rows} {width}");
                    assert!(found.equal(&found.transpose(1, 2)), "{name} {batch} {rows} {width}");
                }
                // A sample's matrix has the same bits in any batch.
                assert!(gram(&a).unwrap().narrow(0, batch - 1, 1).equal(&gram(&a.narrow(0, batch - 1, 1)).unwrap()));
            }
        }
    }
    assert_eq!(gram(&Tensor::zeros([2, 0, 5], (Kind::Float, Device::Cpu))).unwrap().size(), [2, 0, 0]);
    assert!(
        gram(&Tensor::zeros([2, 3, 0], (Kind::Float, Device::Cpu)))
            .unwrap()
            .equal(&Tensor::zeros([2, 3, 3], (Kind::Double, Device::Cpu)))
    );
    assert!(gram(&matrices(2, 3, 4)).is_err(), "rows in double");
}

/// LAPACK's values from the largest on; a matrix that is not finite loses its own values only.
#[test]
fn spectra_are_lapacks_values_in_descending_order() {
    for order in [1, 2, 10, 40, 130] {
        for batch in [1, 2, 5] {
            let a = matrices(batch, order, order / 2 + 1);
            let grams = a.bmm(&a.transpose(1, 2));
            let scale = grams.abs().max().double_value(&[]) * order as f64;
            let theirs = grams.linalg_eigvalsh("L").flip([-1]);
            for count in [1, order] {
                let ours = spectra(&grams, count).unwrap();
                assert!(close(&ours, &theirs.narrow(1, 0, count).clamp_min(0.0), scale, order), "{order} {batch}");
                assert!(ours.min().double_value(&[]) >= 0.0);
            }
            for lost in [f64::NAN, f64::INFINITY] {
                let broken = grams.copy();
                let _ = broken.narrow(0, batch - 1, 1).diagonal(0, 1, 2).fill_(lost);
                let found = spectra(&broken, order).unwrap();
                assert_eq!(found.narrow(0, batch - 1, 1).isnan().all().int64_value(&[]), 1);
                let whole = spectra(&grams, order).unwrap();
                assert!(found.narrow(0, 0, batch - 1).equal(&whole.narrow(0, 0, batch - 1)), "{order} {batch}");
            }
        }
    }
    assert!(spectra(&matrices(2, 3, 3), 4).is_err() && spectra(&matrices(2, 3, 4), 1).is_err());
}

/// Tall matrices by levels: R^T R = A^T A as exactly as by one factorisation, in a few calls whose matrices are all low.
#[test]
fn tall_matrices_are_factored_by_levels() {
    for (batch, rows, columns) in
        [(8, 784, 32), (9, 785, 31), (20, 3072, 64), (8, 12288, 16), (8, 257, 1), (8, 784, 128)]
    {
        let a = matrices(batch, rows, columns);
        let mut calls = Vec::new();
        let mut factor = |part: &Tensor| {
            calls.push(part.size());
            qr_triangle(part)
        };
        let r = triangle_by_levels(&a, BATCHED_ROWS, &mut factor).unwrap();
        assert_eq!(r.size(), [batch, columns, columns]);
        let scale = a.square().sum(Kind::Double).double_value(&[]);
        let (ours, theirs) = (r.transpose(1, 2).bmm(&r), a.transpose(1, 2).bmm(&a));
        assert!(close(&ours, &theirs, scale, rows), "{batch} x {rows} x {columns}");
        assert_eq!(r.tril(-1).abs().max().double_value(&[]), 0.0);
        // Where libtorch would take a call a matrix.
        assert!(calls.iter().all(|size| size[1] <= BATCHED_ROWS && size[0] % batch == 0), "{calls:?}");
        assert!((calls.len() as i64) < batch, "{calls:?}");
    }
    // What gains nothing is left as it is: low, wide, or few.
    for (batch, rows, columns) in [(8, 256, 32), (8, 784, 129), (7, 784, 32)] {
        let a = matrices(batch, rows, columns);
        let mut calls = 0;
        let mut factor = |part: &Tensor| {
            calls += 1;
            qr_triangle(part)
        };
        let r = triangle_by_levels(&a, BATCHED_ROWS, &mut factor).unwrap();
        assert!(r.equal(&qr_triangle(&a).unwrap()));
        assert_eq!(calls, 1);
    }
    let flat = Tensor::zeros([784, 32], (Kind::Double, Device::Cpu));
    assert_eq!(triangle_by_levels(&flat, 256, &mut |a| qr_triangle(a)).unwrap_err().exit_code(), 2);
}
