//! Tests of `report`: the page is parsed, its numbers are compared and its pixels are looked at by others than us.

mod browser; // as Chromium shows it
mod compare; // models beside each other
mod worst; //   the worst case, and the classes

use crate::files::root;
use crate::roundoff::apart;
use pullback::config::{SweepSpec, Tree};
use pullback::event::Silent;
use pullback::pipeline::sweep;
use pullback::report::figure::{self, Axis, AxisScale, Curve, Figure, Ink, Mark, Marker, Plot, Point, Stroke, Table};
use pullback::report::{self, markup, stats};
use pullback::store::Overwrite;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use tch::Kind;

fn python(script: &str, arguments: &[&str]) -> Output {
    Command::new(crate::files::interpreter())
        .arg(root().join("tests").join(script))
        .args(arguments)
        .output()
        .expect("python runs")
}

/// The fixture's folder, made once.
fn fixture() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let made = python("report_fixture.py", &[folder.path().to_str().unwrap()]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        folder
    });
    folder.path()
}

/// A small sweep as `sweep` writes it: all that paper-small.yaml asks for, of models that take no time.
const REAL: &str = "
beta: [0.1, 1, 8]
mixup: [0, 1]
also: [{beta: [1], mixup: [0, 1], seeds: [5]}]
device: cpu
workers: 1
data: {source: strokes, limit: 96, valid: 0}
model: {kind: mlp, hidden: [12], latent: 3}
train: {epochs: 2, batch: 32}
samples: 24
score: {metrics: [mean, stochastic, output]}
attack: {attacks: [{kind: spectral, top: 3, scale: singular}], metric: mean, box: off,
         eps: {logspace: {start: -1, stop: 1, num: 5}}}
further: {unit: {attacks: [{kind: spectral, top: 1, scale: unit}, {kind: random}, {kind: pgd, steps: 3}], metric: mean}}
correlate: {resamples: 100}
";

/// The folder of the sweep, made once.
fn real() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let spec = SweepSpec::parse(&Tree::text("sweep.yaml", REAL).unwrap()).unwrap();
        let output = folder.path().join("real");
        sweep::run(&sweep::SweepRequest { spec, output, overwrite: Overwrite::No, share: None }, &Silent).unwrap();
        folder
    });
    folder.path()
}

/// Where the results called `name` lie.
fn place(name: &str) -> PathBuf {
    if name == "real" { real() } else { fixture() }.join(name)
}

/// The page of the results called `name`.
fn page(name: &str) -> String {
    report::render(&[place(name)]).unwrap()
}

fn saved(html: &str) -> tempfile::TempPath {
    let file = tempfile::Builder::new().suffix(".html").tempfile().unwrap();
    std::fs::write(file.path(), html).unwrap();
    file.into_temp_path()
}

/// What the checker says of `html`: nothing where all is well.
fn faults(html: &str) -> String {
    let path = saved(html);
    let checked = python("report_check.py", &["page", path.to_str().unwrap()]);
    assert!(checked.stderr.is_empty(), "{}", String::from_utf8_lossy(&checked.stderr));
    String::from_utf8(checked.stdout).unwrap()
}

fn results(name: &str) -> Vec<PathBuf> {
    let run = ["plain", "mixup"].iter().flat_map(|m| ["scores.h5", "attack.h5"].map(|f| format!("run/{m}/{f}")));
    match name {
        "run" => run.map(|f| fixture().join(f)).collect(),
        "five" => std::fs::read_dir(place(name)).unwrap().map(|entry| entry.unwrap().path()).collect(),
        _ => vec![place(name).join("sweep.h5")],
    }
}

fn compared(html: &str, files: &[PathBuf]) -> Output {
    let path = saved(html);
    let mut arguments = vec!["numbers", path.to_str().unwrap()];
    arguments.extend(files.iter().map(|f| f.to_str().unwrap()));
    python("report_check.py", &arguments)
}

#[test]
fn pages_are_well_formed_self_contained_and_complete() {
    for (name, figures) in [
        ("run", 10),
        ("sweep", 18),
        ("sweep2", 18),
        ("real", 20),
        ("bare", 4),
        ("five", 12),
        ("paths", 9),
        ("twice", 6),
    ] {
        let html = page(name);
        assert_eq!(faults(&html), "", "{name}");
        let found = html.matches("<figure").count();
        assert!(found >= figures, "{name}: {found} figures");
    }
}

#[test]
fn the_checker_sees_faults() {
    let good = page("run");
    // A figure whose marks are gone, as if nothing could be drawn.
    let start = good.find("<g class=\"m ").unwrap();
    let svg_end = start + good[start..].find("<g class=\"el\"").unwrap();
    let blank = format!("{}{}", &good[..start], &good[svg_end..]);
    assert!(faults(&blank).contains("is blank"));
    assert!(faults(&good.replacen("</figure>", "</div>", 1)).contains("not well-formed"));
    let fetched = good.replacen("<main>", "<main><img alt=\"x\" src=\"https://example.org/x.png\"/>", 1);
    assert!(faults(&fetched).contains("external"));
    let mute = good.replacen(" aria-label=\"plain", " data-label=\"plain", 1);
    assert!(faults(&mute).contains("without role or label"));
    let alike = good.replacen("--s1: #c95500", "--s1: #8f6a00", 1).replacen("--s3: #7b3f6e", "--s3: #c95500", 1);
    assert!(faults(&alike).contains("s1 and s3 are alike in protanopia"));
}

#[test]
fn tables_equal_the_data() {
    for (name, rows) in [("run", 150), ("five", 660), ("sweep", 250), ("sweep2", 250), ("real", 800)] {
        let made = compared(&page(name), &results(name));
        let words = String::from_utf8_lossy(&made.stdout).into_owned();
        assert!(made.status.success(), "{name}: {words}{}", String::from_utf8_lossy(&made.stderr));
        let count: usize = words.split_whitespace().next().unwrap().parse().unwrap();
        assert!(count >= rows, "{name}: {words}");
    }
    // Negative control: one model's numbers under the other's name.
    let html = page("run").replace("plain,", "swap,").replace("mixup,", "plain,").replace("swap,", "mixup,");
    assert!(!compared(&html, &results("run")).status.success());
    // And of the real sweep: a point's numbers under the other arm's name, a relation with another sign.
    let html = page("real");
    let (name, minus) = ("all/beta/scores/trace,spearman,", "all/beta/scores/trace,spearman,-");
    let trace = if html.contains(minus) { (minus, name) } else { (name, minus) };
    for wrong in [
        html.replace("no%20mixup,", "swap,").replace("mixup,", "no%20mixup,").replace("swap,", "mixup,"),
        html.replacen(trace.0, trace.1, 1),
    ] {
        assert_ne!(wrong, html);
        assert!(!compared(&wrong, &results("real")).status.success());
    }
}

#[test]
fn a_sweep_of_format_1_reads_as_it_did() {
    // The same grid, written in both formats: every title and caption, and every drawing.
    let told = |name: &str| -> Vec<String> {
        let html = page(name);
        let marked = ["<h3>", "<figcaption>", " aria-label=\""].iter().flat_map(|mark| html.split(mark).skip(1));
        marked.map(|rest| rest.split(['<', '"']).next().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(told("sweep"), told("sweep2"));
}

#[test]
fn estimated_scores_tell_their_standard_error() {
    let html = page("run");
    let told = "Estimated from a part of each spectrum, with a standard error, in the median, of trace 0.250 (mixup).";
    assert!(html.contains(told), "{:?}", html.split("standard error").nth(1).map(|t| &t[..60.min(t.len())]));
    assert!(!page("sweep").contains("standard error"));
}

#[test]
fn a_sweep_pools_seeds_and_keeps_its_sets_apart() {
    for (name, models, samples) in
        [("sweep", 12, ["60", "60", "120", "60", "60"].as_slice()), ("real", 8, &["24", "48", "24"])]
    {
        let html = page(name);
        assert!(html.contains(&format!("How robust are {models} autoencoders")));
        // As many images a beta, twice as many where there are two seeds.
        let rows: Vec<&str> = html.split("spectral_radius,no%20mixup,").skip(1).take(samples.len()).collect();
        let found: Vec<&str> = rows.iter().map(|r| r.split(',').nth(1).unwrap()).collect();
        assert_eq!(found, samples);
        for id in [
            "sweep-damage-step-recon_mse",
            "sweep-unit-damage-step-recon_mse",
            "sweep-trade-off",
            "sweep-unit-trade-off",
        ] {
            assert!(html.contains(&format!("id=\"{id}\"")), "{name}: {id}");
        }
        assert!(html.contains("size s (steps along uᵢ are s √λᵢ long)"));
        assert!(html.contains("size of the perturbation, ε (ℓ₂)"));
        assert!(html.contains("reconstruction error by u₁ (unit)"), "names of relations are read");
        assert!(html.contains("without mixup</th>"), "correlations of each arm");
    }
    let html = page("real");
    // Names of the kinds `singular.*`, `<metric>.<score>`, and what lies beside the models.
    for words in [
        "Entropy, max-normalised, of singular values",
        "Spectral radius λ₁, output metric",
        "id=\"sweep-within\"",
        "id=\"sweep-effects\"",
        "id=\"sweep-training\"",
        "id=\"sweep-gallery\"",
        "id=\"sweep-directions\"",
        "id=\"sweep-agreement\"",
        "id=\"sweep-unit-agreement\"",
        "<dd>0, 5</dd>",
    ] {
        assert!(html.contains(words), "{words}");
    }
}

#[test]
fn undefined_scores_are_counted_and_named() {
    let html = page("run");
    assert!(html.contains("4 of 60 images have no anisotropy under plain"), "named in the histograms");
    assert!(html.contains("title=\"4 of 60 undefined\""), "counted in the summary");
}

#[test]
fn a_file_without_images_says_how_to_get_them() {
    let html = page("bare");
    assert!(html.contains("--save-images"));
    assert!(!html.contains("id=\"gallery-images\""));
    assert!(!page("run").contains("--save-images"));
}

#[test]
fn write_refuses_what_is_wrong_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("report.html");
    let run = fixture().join("run");
    let refused = |inputs: &[PathBuf], output: &Path, words: &str| {
        let error = report::write(inputs, output, Overwrite::No).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(!error.to_string().contains('\n'));
    };
    let empty = tempfile::tempdir().unwrap();
    refused(&[empty.path().to_owned()], &output, "a folder without any");
    refused(&[empty.path().join("nothing.h5")], &output, "nothing.h5");
    let text = empty.path().join("text.h5");
    std::fs::write(&text, "no result").unwrap();
    refused(std::slice::from_ref(&text), &output, "text.h5");
    refused(std::slice::from_ref(&run), &folder.path().join("no/report.html"), "an existing folder");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);

    report::write(std::slice::from_ref(&run), &output, Overwrite::No).unwrap();
    let first = std::fs::read(&output).unwrap();
    refused(std::slice::from_ref(&run), &output, "--force");
    report::write(&[run.clone(), run], &output, Overwrite::Yes).unwrap();
    assert!(std::fs::read(&output).unwrap() == first, "the same files named twice count once");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn broken_history_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.csv");
    std::fs::write(&path, "epoch,loss\n0,1.5\n1\n").unwrap();
    let error = report::render(&[folder.path().to_owned()]).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("history.csv line 3: expected 2 columns, found 1"), "{error}");
}

fn curve(points: &[(f64, f64)]) -> Mark {
    let point = |(x, y): &(f64, f64)| Point { x: *x, y: *y, ..Point::default() };
    Mark::Curve(Curve {
        ink: Ink::Series(0),
        stroke: Stroke::Solid,
        marker: Marker::Disc,
        label: "c".to_owned(),
        points: points.iter().map(point).collect(),
    })
}

#[test]
fn a_blank_figure_is_known() {
    let figure = |points: &[(f64, f64)]| {
        let x = Axis::fit("x", AxisScale::Linear, [0.0, 1.0]);
        let y = Axis::fit("y", AxisScale::Log, points.iter().map(|p| p.1));
        Figure {
            id: "f".to_owned(),
            title: "t".to_owned(),
            caption: "c".to_owned(),
            panels: vec![Plot::new("p", x, y, vec![curve(points)]).draw()],
            table: Table::new(&["x"]),
            ..Figure::default()
        }
    };
    assert!(!figure(&[(0.0, 1.0), (1.0, 2.0)]).is_blank());
    assert!(figure(&[]).is_blank());
    // What a logarithmic axis cannot show does not count as shown.
    assert!(figure(&[(0.0, 0.0), (1.0, -1.0), (0.5, f64::NAN)]).is_blank());
    assert!(!figure(&[(0.0, 0.0), (1.0, 5.0)]).is_blank());
}

#[test]
fn axes_have_round_ticks_within_range() {
    for (low, high) in [(0.0, 1.0), (-3.7, 12.2), (1e-9, 3e-9), (0.0, 123_456.0), (5.0, 5.0)] {
        for scale in [AxisScale::Linear, AxisScale::Log] {
            let axis = Axis::fit("a", scale, [low, high]);
            let ticks = axis.ticks(5);
            assert!((1..=12).contains(&ticks.len()), "{low} {high} {scale:?}: {ticks:?}");
            for (value, words) in &ticks {
                assert!(*value >= axis.low * (1.0 - 1e-9 * axis.low.signum()) && *value <= axis.high);
                let mantissa = value.abs() / 10f64.powf(value.abs().log10().floor());
                assert!(*value == 0.0 || (mantissa * 10.0 - (mantissa * 10.0).round()).abs() < 1e-6, "{value}");
                assert!(!words.is_empty());
            }
        }
    }
    // A range that holds one multiple of the coarser step has several of the finer.
    let few = Axis::fit("a", AxisScale::Linear, [0.058, 0.137]).ticks(4);
    assert_eq!(few.iter().map(|t| t.1.as_str()).collect::<Vec<_>>(), ["0.06", "0.08", "0.10", "0.12", "0.14"]);
    let decades = Axis::fit("a", AxisScale::Log, [1e-6, 1e3]).ticks(5);
    assert!(decades.iter().any(|t| t.1 == "10⁻⁴"), "{decades:?}");
    assert_eq!(Axis::fit("a", AxisScale::Log, [1.0, 100.0]).place(0.0), None);
    assert_eq!(Axis::fit("a", AxisScale::Linear, [1.0, 100.0]).place(f64::NAN), None);
}

#[test]
fn numbers_read_well() {
    use figure::number::{count, plain, short};
    let cases = [
        (0.0, "0"),
        (1.0 / 3.0, "0.333"),
        (-2.0 / 3.0, "−0.667"),
        (1234.5, "1234"),
        (12_345.6, "12\u{202f}346"),
        (9.996e-7, "1.00×10⁻⁶"),
        (2.5e8, "2.50×10⁸"),
        (f64::NAN, "undefined"),
        (f64::INFINITY, "∞"),
    ];
    for (value, words) in cases {
        assert_eq!(short(value), words);
    }
    assert_eq!((plain(0.5).as_str(), plain(10.0).as_str(), plain(1e-5).as_str()), ("0.5", "10", "10⁻⁵"));
    assert_eq!(count(1_234_567), "1\u{202f}234\u{202f}567");
}

#[test]
fn histograms_hold_every_finite_value() {
    let values: Vec<f64> = (0..500).map(|i| (f64::from(i) * 0.37).sin() * 3.0 + 3.1).collect();
    for log in [false, true] {
        let edges = figure::bins(&values, log, 20);
        let total: f64 = figure::shares(&values, &edges).iter().sum();
        assert!((total - 1.0).abs() < apart(Kind::Double, &[20]), "{total}");
    }
    // Hand-made: 0 0 1 | 2 in bins of whole width, an empty one on either side; NaN does not count.
    let few = [0.0, 0.0, 1.0, 2.0, f64::NAN];
    assert_eq!(figure::shares(&few, &figure::bins(&few, false, 20)), [0.0, 0.5, 0.25, 0.25, 0.0]);
    assert!(figure::bins(&[f64::NAN], false, 20).is_empty());
}

#[test]
fn summaries_skip_what_is_undefined() {
    // numpy: quantile([1, 2, 3, 10], [.25, .5, .75]) = 1.75, 2.5, 4.75
    let s = stats::Quartiles::of(&[10.0, f64::NAN, 1.0, 3.0, f64::INFINITY, 2.0]);
    assert_eq!((s.count, s.undefined, s.mean), (6, 2, 4.0));
    assert_eq!((s.low, s.median, s.high), (1.75, 2.5, 4.75));
    assert!(stats::Quartiles::of(&[f64::NAN]).median.is_nan());
    // By hand: ranks 1 2.5 2.5 4 5 and 1 2 3.5 5 3.5 (ties share theirs), less 3: 7.25 / 9.5.
    let rho = stats::spearman(&[1.0, 2.0, 2.0, 4.0, 5.0], &[5.0, 6.0, 7.0, 8.0, 7.0]);
    assert!((rho - 7.25 / 9.5).abs() < apart(Kind::Double, &[5]), "{rho}");
}

#[test]
fn hostile_names_stay_text() {
    let name = "<script>alert(\"1\")</script> & \u{1}";
    let html = markup::element("p").with("title", name).text(name).render();
    assert_eq!(html.matches("<script").count(), 0);
    assert!(!html.contains('\u{1}'));
    let mut table = Table::new(&["a,b", "c"]);
    table.row(["say \"no\"".into(), 0.1.into()]);
    assert_eq!(table.csv(), "\"a,b\",c\n\"say \"\"no\"\"\",0.1\n");
}
