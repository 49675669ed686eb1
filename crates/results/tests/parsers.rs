//! What reads bytes and texts by hand: whatever comes, an answer or one line of an error, never a panic; what was written comes back.

use proptest::prelude::*;
use pullback_results::Result;
use pullback_results::history::{COLUMNS, Table};
use pullback_results::report::figure::{Axis, AxisScale, number};
use pullback_results::report::words;
use pullback_results::store::tensorboard::{EventWriter, Step};
use pullback_results::store::{Quantity, Relation};
use std::fs;

/// So many cases, times PULLBACK_CASES for a long search; none is remembered in files.
fn cases(cases: u32) -> ProptestConfig {
    let times = std::env::var("PULLBACK_CASES").ok().and_then(|times| times.parse().ok()).unwrap_or(1);
    ProptestConfig { cases: cases * times, failure_persistence: None, ..ProptestConfig::default() }
}

/// An error that a user can read: one line, and a code that says whose fault it is.
fn is_readable<T>(answer: &Result<T>) -> bool {
    answer.as_ref().err().is_none_or(|error| {
        let line = error.to_string();
        !line.trim().is_empty() && !line.contains('\n') && matches!(error.exit_code(), 1 | 2)
    })
}

/// Rows of a history: epochs, losses, and nothing where there is no validation.
fn rows() -> impl Strategy<Value = Vec<Vec<f64>>> {
    let number = prop_oneof![8 => -1e6f64..1e6, 1 => prop::num::f64::ANY.prop_filter("a number", |x| !x.is_nan())];
    let row = (prop::collection::vec(number, COLUMNS.len()), any::<bool>(), 0u32..1000, 0u32..10_000_000);
    let row = row.prop_map(|(mut row, validated, epoch, thousandths)| {
        row[0] = f64::from(epoch);
        if !validated {
            row[7..10].fill(f64::NAN);
        }
        row[10] = f64::from(thousandths) / 1000.0;
        row
    });
    prop::collection::vec(row, 0..6)
}

/// A log of so many steps, and its bytes.
fn log(steps: u64) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = EventWriter::create(folder.path()).unwrap();
    for number in 1..=steps {
        let mut step = Step::new(number);
        step.scalar("loss", number as f64);
        writer.put(&step).unwrap();
    }
    writer.flush().unwrap();
    let path = writer.path().to_owned();
    (folder, path)
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn a_history_comes_back(rows in rows()) {
        let table = Table { columns: COLUMNS.map(str::to_owned).to_vec(), rows };
        let read = Table::parse("history.csv", &table.to_csv()).unwrap();
        prop_assert_eq!(read.columns, table.columns);
        let bits = |rows: &[Vec<f64>]| -> Vec<u64> {
            rows.iter().flatten().map(|x| if x.is_nan() { 0 } else { x.to_bits() }).collect()
        };
        prop_assert_eq!(bits(&read.rows), bits(&table.rows));
    }

    #[test]
    fn any_text_is_a_table_or_refused(text in prop_oneof![any::<String>(), "([a-z]{0,3}[,\n ]){0,9}([0-9.e-]{0,4}[,\n]){0,20}"]) {
        let answer = Table::parse("history.csv", &text);
        prop_assert!(is_readable(&answer), "{:?}", answer);
        prop_assert!(answer.is_err() || answer.is_ok_and(|t| t.rows.iter().all(|row| row.len() == t.columns.len())));
    }

    #[test]
    fn numbers_and_names_of_any_kind_have_words(value in any::<f64>(), count in any::<usize>(), power in any::<i32>(), name in any::<String>()) {
        let shown = [number::short(value), number::plain(value), number::percent(value), number::count(count)];
        prop_assert!(shown.iter().all(|text| !text.is_empty()), "{:?}", shown);
        let _ = (number::significant(value, 3), number::superscript(power), number::subscript(count));
        let _ = (words::title(&name), words::axis(&name));
        let _ = (words::attack(&name), words::direction(&name), words::facet(&name), words::model(&name));
        for quantity in Quantity::at(&name).into_iter().chain([Quantity::Score(name.clone())]) {
            prop_assert!(!words::quantity(&quantity, |_, attack| words::attack(attack)).is_empty() || name.is_empty());
        }
    }

    #[test]
    fn a_relation_is_read_back_from_its_name(name in "([a-z0-9_.+=-]{1,3}/|scores/|attack/|further/|all/|beta/){0,5}[a-z]{1,3}") {
        if let Some(relation) = Relation::named(&name) {
            prop_assert_eq!(relation.name(), name);
        }
    }

    #[test]
    fn any_values_make_an_axis(values in prop::collection::vec(any::<f64>(), 0..6), log in any::<bool>(), wanted in 1usize..12) {
        let scale = if log { AxisScale::Log } else { AxisScale::Linear };
        let axis = Axis::fit("x", scale, values.iter().copied());
        prop_assert!(axis.ticks(wanted).len() < 200);
        prop_assert!(values.iter().filter_map(|v| axis.place(*v)).all(|place| place.is_finite()));
    }
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn a_log_goes_on_behind_whatever_it_holds(steps in 0u64..4, cut in any::<prop::sample::Index>(), byte in any::<u8>(), more in prop::collection::vec(any::<u8>(), 0..40)) {
        let (folder, path) = log(steps);
        let mut bytes = fs::read(&path).unwrap();
        let at = cut.index(bytes.len());
        bytes[at] = byte;
        bytes.extend_from_slice(&more);
        fs::write(&path, bytes).unwrap();
        let answer = EventWriter::resume(folder.path(), 3);
        prop_assert!(is_readable(&answer));
        prop_assert!(answer.is_ok_and(|(_, last)| last.is_none_or(|last| last <= steps)));
    }
}
