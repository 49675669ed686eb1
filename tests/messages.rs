//! What a user reads where a request is wrong, word for word: a change of these lines is seen here, and meant.
//!
//! After a change that is meant, `cargo insta review` (or the new line itself) goes in.

use crate::child::within;
use crate::files::{program, root};
use insta::assert_snapshot;
use std::fs;
use std::time::Duration;
use tempfile::TempDir;

/// A folder of what people give wrongly.
fn given() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for model in ["flat.pt", "state_dict.pt", "no_decode.pt", "others/pickled.pt"] {
        let from = root().join("tests/models").join(model);
        fs::copy(&from, at(from.file_name().unwrap().to_str().unwrap())).unwrap();
    }
    fs::create_dir(at("empty")).unwrap();
    fs::create_dir(at("run")).unwrap();
    let yaml = |train: &str, latent: &str| {
        let model = format!("model: {{kind: mlp, hidden: [4], latent: {latent}}}");
        format!("data: {{source: strokes, limit: 8}}\n{model}\ntrain: {{{train}}}\n")
    };
    let texts = [
        ("good.yaml", yaml("epochs: 1", "2")),
        ("key.yaml", yaml("epochz: 1", "2")),
        ("type.yaml", yaml("epochs: 1", "two")),
        ("broken.yaml", "a: [1\nb: 2".to_owned()),
        ("x.csv", "1,2,3\n4,5,6\n".to_owned()),
        ("there.h5", String::new()),
        ("run/history.csv", "epoch,loss\n1,2\n3\n".to_owned()),
    ];
    for (name, text) in texts {
        fs::write(at(name), text).unwrap();
    }
    folder
}

/// What the program says to these arguments, without the places of this machine; `FOLDER/` stands for the given folder.
fn said(folder: &TempDir, arguments: &str) -> String {
    let place = folder.path().display().to_string();
    let arguments = arguments.replace("FOLDER", &place);
    let mut command = program();
    command.args(arguments.split_whitespace()).current_dir(folder.path());
    let done = within(Duration::from_secs(120), &mut command).expect("within two minutes");
    assert_eq!((done.status.code(), done.stdout.len()), (Some(2), 0), "{arguments}");
    let text = String::from_utf8(done.stderr).unwrap();
    text.trim_end().replace(&place, "FOLDER").replace(&root().display().to_string(), "ROOT")
}

#[test]
fn words_that_are_no_command_or_flag() {
    let given = given();
    assert_snapshot!(said(&given, ""), @"pullback: command: expected one of demo, train, score, attack, sweep, report, bench, merge, inspect, leaderboard, completions, found none (see --help)");
    assert_snapshot!(said(&given, "score --metrics mean"), @r#"pullback: expected a known flag such as --metric, found "--metrics" (see --help)"#);
    assert_snapshot!(said(&given, "bench --threads 0"), @r#"pullback: --threads: expected a whole number >= 1, found "0""#);
    assert_snapshot!(said(&given, "score -m flat.pt -d strokes -o x.h5 --limit 0"), @r#"pullback: --limit: expected a whole number >= 1, found "0""#);
    assert_snapshot!(said(&given, "score -m flat.pt -d strokes -o x.h5 --shard 3/2"), @"pullback: --shard: expected I/N with 1 <= I <= N, any/N, rank or none, found 3/2");
    assert_snapshot!(said(&given, "attack -m flat.pt -d strokes -o x.h5 --eps 0.1,-1"), @r#"pullback: --eps: expected a number > 0, found "-1""#);
    assert_snapshot!(said(&given, "attack -m flat.pt -d strokes -o x.h5 --input-range 1,1"), @"pullback: --input-range: expected two different numbers LOW,HIGH, such as -1,1, found 1,1");
    assert_snapshot!(said(&given, "score -m flat.pt -d strokes -o x.h5 --device cuda:9"), @"pullback: device cuda:9: expected a CUDA device that libtorch sees, found none");
}

#[test]
fn models_that_are_none() {
    let given = given();
    assert_snapshot!(said(&given, "score -m FOLDER/none.pt -d strokes -o x.h5"), @"pullback: FOLDER/none.pt: expected a file or folder that exists, found nothing there");
    assert_snapshot!(said(&given, "score -m FOLDER/state_dict.pt -d strokes -o x.h5"), @"pullback: FOLDER/state_dict.pt: expected a TorchScript file (torch.jit.save) or a run folder, found a zip archive without code: a state dict of torch.save, weights alone (in Python: torch.jit.script(model.eval()).save('vae.pt'), as docs/models.md shows)");
    assert_snapshot!(said(&given, "score -m pickled.pt -d strokes -o x.h5"), @"pullback: pickled.pt: expected a TorchScript file (torch.jit.save) or a run folder, found a pickled module, make.Base, which only its own Python code can load (in Python: torch.jit.script(model.eval()).save('vae.pt'), as docs/models.md shows)");
    assert_snapshot!(said(&given, "score -m no_decode.pt -d strokes -o x.h5"), @"pullback: no_decode.pt: expected a TorchScript module with a method decode(z) -> x_hat, found no method decode (mark it @torch.jit.export, or torch.jit.trace_module(vae, {'encode': x, 'decode': z}))");
}

#[test]
fn data_that_are_none() {
    let given = given();
    assert_snapshot!(said(&given, "score -m flat.pt -d FOLDER/nowhere -o x.h5"), @r#"pullback: data "FOLDER/nowhere": expected `strokes`, an HDF5 or NumPy file, or a folder, found no such file or folder"#);
    assert_snapshot!(said(&given, "score -m flat.pt -d FOLDER/empty -o x.h5"), @"pullback: FOLDER/empty: expected IDX files, CIFAR-10 data_batch_*.bin, train.h5 and test.h5, or pictures, found an empty folder");
    assert_snapshot!(said(&given, "inspect FOLDER/x.csv"), @"pullback: FOLDER/x.csv: expected an HDF5 or NumPy file, or the folder that holds the data, found text (in Python: numpy.savez('FILE.npz', images=..., labels=...) of what it tells)");
    assert_snapshot!(said(&given, "score -m flat.pt -d strokes:pixels=9 -o x.h5"), @"pullback: strokes: expected n=COUNT or size=PIXELS, found pixels=9");
}

#[test]
fn configurations_that_are_wrong() {
    let given = given();
    assert_snapshot!(said(&given, "train -c FOLDER/none.yaml -o new"), @"pullback: FOLDER/none.yaml: expected a YAML file, found no such file");
    assert_snapshot!(said(&given, "train -c broken.yaml -o new"), @"pullback: broken.yaml: expected YAML, found did not find expected ',' or ']' at line 2 column 2, while parsing a flow sequence at line 1 column 4");
    assert_snapshot!(said(&given, "train -c key.yaml -o new"), @r#"pullback: key.yaml: train.epochz: expected one of epochs, batch, lr, lr_min, schedule, beta, kl_warmup, weight_decay, grad_clip, beta1, beta2, mixup, tf32, hold_mib, found unknown key "epochz""#);
    assert_snapshot!(said(&given, "train -c type.yaml -o new"), @r#"pullback: type.yaml: model.latent: expected a whole number, found "two""#);
    assert_snapshot!(said(&given, "train -c good.yaml -o new --set train.epochs"), @r#"pullback: --set: expected key.path=value, found "train.epochs""#);
    assert_snapshot!(said(&given, "train -c good.yaml -o new --set train.epochs=0"), @"pullback: --set train.epochs: expected 1 to 1000000, found 0");
}

#[test]
fn places_and_results_that_do_not_do() {
    let given = given();
    assert_snapshot!(said(&given, "score -m flat.pt -d strokes -o FOLDER/there.h5"), @"pullback: FOLDER/there.h5: expected no such file yet (--force replaces it), found a file");
    assert_snapshot!(said(&given, "score -m flat.pt -d strokes -o no/x.h5"), @"pullback: no/x.h5: expected an existing folder no, found nothing there");
    assert_snapshot!(said(&given, "train -c good.yaml -o FOLDER/there.h5"), @"pullback: FOLDER/there.h5: expected a folder, found a file");
    assert_snapshot!(said(&given, "report empty -o page.html"), @"pullback: empty: expected a result file (.h5), or a folder that holds some, found a folder without any");
    assert_snapshot!(said(&given, "report FOLDER/run -o page.html"), @"pullback: FOLDER/run/history.csv line 3: expected 2 columns, found 1");
    assert_snapshot!(said(&given, "merge x.csv -o whole.h5"), @"pullback: x.csv: expected a result file (HDF5), found a file of another kind");
}
