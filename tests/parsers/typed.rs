//! What is typed: flags that hold more than a word, keys of the YAML.

use super::{cases, is_readable};
use clap::Parser;
use proptest::prelude::*;
use pullback::AttackSpec;
use pullback::DeviceChoice;
use pullback::cli::args::{Args, Command};
use pullback::config::{RunConfig, SweepSpec, Together, Tree, Workers};
use pullback::data::{self, FullScale, Split};
use pullback::jacobian::BatchSize;
use pullback::model::{InputRange, Outputs};
use pullback::pipeline::Shard;
use std::str::FromStr;

/// Anything, and what is nearly right.
fn text() -> impl Strategy<Value = String> {
    let near = "(auto|off|none|cpu|cuda|cuda:|pgd)?[-+.,/:=eE0-9 ]{0,24}";
    prop_oneof![any::<String>(), near.prop_map(String::from), "[0-9]{1,40}", "-?[0-9]{1,3}[,/]-?[0-9]{1,3}"]
}

fn answers<T: FromStr<Err = pullback::Error>>(text: &str) -> bool {
    is_readable(&text.replace(['\n', '\r'], " ").parse::<T>())
}

/// An error that is the request's; what was typed may hold several lines, which the program shows as one.
fn is_told<T>(answer: &pullback::Result<T>) -> bool {
    answer.as_ref().err().is_none_or(|error| error.exit_code() == 2 && !error.to_string().trim().is_empty())
}

/// `--eps` as the command line takes it.
fn eps(text: &str) -> Option<Vec<f64>> {
    let typed = ["pullback", "attack", "-m", "a", "-d", "b", "-o", "c", "--eps", text];
    match Args::try_parse_from(typed).ok()?.command {
        Command::Attack(attack) => attack.eps,
        _ => None,
    }
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn words_and_numbers_are_taken_or_refused(text in text()) {
        prop_assert!(answers::<Shard>(&text) && answers::<InputRange>(&text) && answers::<Outputs>(&text));
        prop_assert!(answers::<Workers>(&text) && answers::<Together>(&text) && answers::<BatchSize>(&text));
        prop_assert!(answers::<FullScale>(&text) && answers::<DeviceChoice>(&text) && answers::<AttackSpec>(&text));
        let _ = eps(&text);
    }

    #[test]
    fn devices_and_batches_are_shown_as_they_are_typed(n in any::<usize>()) {
        let device: DeviceChoice = format!("cuda:{n}").parse().unwrap();
        prop_assert_eq!(device.to_string().parse::<DeviceChoice>().unwrap(), device);
        let batch: BatchSize = n.max(1).to_string().parse().unwrap();
        prop_assert_eq!(batch.to_string().parse::<BatchSize>().unwrap(), batch);
        prop_assert_eq!(batch, BatchSize::Fixed(n.max(1)));
    }

    #[test]
    fn shards_are_parts_of_a_whole(part in 0usize..9, of in 0usize..9) {
        let shard = format!("{part}/{of}").parse::<Shard>();
        prop_assert_eq!(shard.is_ok(), 1 <= part && part <= of);
        let whole = Shard { part, of };
        prop_assert!(shard.is_err() || shard.is_ok_and(|found| found == whole));
    }

    #[test]
    fn lists_of_numbers_come_back(numbers in prop::collection::vec(1e-9f64..1e9, 1..6)) {
        let text = numbers.iter().map(f64::to_string).collect::<Vec<_>>().join(",");
        prop_assert_eq!(eps(&text), Some(numbers));
    }

    #[test]
    fn what_is_no_size_is_no_epsilon(numbers in prop::collection::vec(-1e9f64..=0.0, 1..4)) {
        prop_assert_eq!(eps(&numbers.iter().map(f64::to_string).collect::<Vec<_>>().join(",")), None);
    }

    #[test]
    fn options_of_generated_digits_are_taken_or_refused(options in prop_oneof!["[a-z0-9=,.-]{0,16}", "(n|size)=[0-9]{0,30}"]) {
        // Nothing is drawn before it is read.
        let answer = data::open(&format!("strokes:{options}"), Split::Test, Some(1));
        prop_assert!(is_readable(&answer), "{:?}", answer.err());
    }

    #[test]
    fn documents_are_taken_or_refused(yaml in prop_oneof![any::<String>(), "[a-z]{1,6}: [\\[{0-9a-z:, }\\]-]{0,20}\n[- a-z]{0,4}: &?\\*?[a-z]?"]) {
        if let Ok(tree) = Tree::text("a.yaml", &yaml) {
            let (run, sweep) = (RunConfig::parse(&tree), SweepSpec::parse(&tree));
            prop_assert!(is_told(&run), "{:?}", run);
            prop_assert!(is_told(&sweep), "{:?}", sweep);
        }
    }

    #[test]
    fn assignments_are_taken_or_refused(key in "(train|data|model|x)?[.a-z]{0,10}", value in text()) {
        let tree = || Tree::text("a.yaml", "data: {source: strokes}\nmodel: {kind: mlp, hidden: [4], latent: 2}\n").unwrap();
        let mut wild = tree();
        if wild.set(&format!("{key}={value}")).is_ok() {
            let run = RunConfig::parse(&wild);
            prop_assert!(is_told(&run), "{:?}", run);
        }
        // What was set is what is there.
        let mut tree = tree();
        // What was set is what is there.
        tree.set("train.epochs=7").unwrap();
        prop_assert_eq!(tree.get("train.epochs").and_then(serde_yaml::Value::as_u64), Some(7));
    }
}
