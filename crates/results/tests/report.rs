//! Which files belong together on a page: to one model, to one experiment.

mod compare; //  models under one question
mod inputs; //   which files of a folder belong on it
mod output; //   where a page may be written
mod pictures; // images of several files
mod sizes; //    sizes in any order
mod towards; //  damage that is minus a distance
mod trust; //    flags, shares of the largest damage, the worst case as a table

use pullback_results::report::render;
use pullback_results::store::{Block, Column, FileKind, Header, Overwrite, Values, Writer};
use std::path::{Path, PathBuf};

const SAMPLES: usize = 8;

fn column(path: &str, shape: &[usize], value: f64) -> Column {
    let values = (0..shape.iter().product()).map(|i| value + i as f64).collect();
    Column { path: path.to_owned(), shape: shape.to_vec(), sample_axis: shape.len() - 1, values: Values::F64(values) }
}

fn header(kind: FileKind, config: &str) -> Header {
    Header {
        kind,
        config: config.to_owned(),
        model: "vae.pt".to_owned(),
        model_sha256: "5e".repeat(32),
        dataset: "digits".to_owned(),
        split: "test".to_owned(),
        device: "cpu".to_owned(),
        precision: "f32".to_owned(),
        metric: Some("mean".to_owned()),
        extra: [("norm".to_owned(), "l2".to_owned()), ("goal".to_owned(), "latent".to_owned())].into(),
        ..Header::default()
    }
}

fn write(path: PathBuf, header: &Header, fixed: &[Column], columns: Vec<Column>) -> PathBuf {
    write_from(0, path, header, fixed, columns)
}

/// A file of the samples from `first` on.
fn write_from(first: u64, path: PathBuf, header: &Header, fixed: &[Column], columns: Vec<Column>) -> PathBuf {
    let index: Vec<u64> = (first..first + SAMPLES as u64).collect();
    let mut writer = Writer::create(&path, header, index.clone(), fixed, Overwrite::No).unwrap();
    writer.put(&Block { index, labels: None, columns }).unwrap();
    writer.finish().unwrap();
    path
}

/// The same request of another model.
fn of_model(name: &str, header: Header) -> Header {
    Header { model: format!("{name}.pt"), model_sha256: name.repeat(64), ..header }
}

fn sizes_of(eps: &[f64]) -> Column {
    Column { path: "/eps".to_owned(), shape: vec![eps.len()], sample_axis: 0, values: Values::F64(eps.to_vec()) }
}

/// A measure: what `of` says of a size and a sample.
fn by_size(path: &str, eps: &[f64], of: impl Fn(f64, usize) -> f64) -> Column {
    let row = |e: &f64| (0..SAMPLES).map(|i| of(*e, i)).collect::<Vec<_>>();
    let values = Values::F64(eps.iter().flat_map(row).collect());
    Column { path: path.to_owned(), shape: vec![eps.len(), SAMPLES], sample_axis: 1, values }
}

/// Images, by size if there are `eps`, each as bright as its size.
fn shades(path: &str, eps: &[f64]) -> Column {
    let (lead, sizes) = if eps.is_empty() { (vec![], vec![0.5]) } else { (vec![eps.len()], eps.to_vec()) };
    let values = sizes.iter().flat_map(|e| vec![*e as f32 / 10.0; SAMPLES * 16]).collect();
    let axis = lead.len();
    let shape = [lead, vec![SAMPLES, 1, 4, 4]].concat();
    Column { path: path.to_owned(), shape, sample_axis: axis, values: Values::F32(values) }
}

/// What a figure's CSV file holds, row by row.
fn csv(html: &str, name: &str) -> Vec<Vec<String>> {
    let start = format!("download=\"{name}.csv\" href=\"data:text/csv;charset=utf-8,");
    let text = html.split(&start).nth(1).and_then(|t| t.split('"').next()).unwrap_or_default();
    let text = text.replace("%20", " ").replace("%0A", "\n");
    text.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

/// A file of one attack at one size.
fn attacked(folder: &Path, name: &str, attack: &str, header: &Header) -> PathBuf {
    let paths = [format!("/attack/{attack}/latent_l2"), format!("/damage/{attack}")];
    let columns = paths.iter().map(|path| column(path, &[1, SAMPLES], 1.0)).collect();
    write(folder.join(format!("{name}.h5")), header, &[sizes_of(&[0.5])], columns)
}

fn scored(folder: &Path, header: &Header) -> PathBuf {
    let header = Header { extra: Default::default(), ..header.clone() };
    write(folder.join("scores.h5"), &header, &[], vec![column("/scores/spectral_radius", &[SAMPLES], 2.0)])
}

/// What the page calls the trials of each attack: pairs of attack and words, in order.
fn sets(html: &str) -> Vec<(String, String)> {
    let start = "download=\"summary.csv\" href=\"data:text/csv;charset=utf-8,";
    let text = html.split(start).nth(1).and_then(|t| t.split('"').next()).unwrap();
    let text = text.replace("%20", " ").replace("%0A", "\n").replace("%22", "\"").replace("%3A", ":");
    let mut found: Vec<(String, String)> = Vec::new();
    for line in text.lines().skip(1).filter(|line| line.contains(",attack,")) {
        // model,part,metric,name,attack,norm,set,eps,... of which only the set may have commas, in quotes.
        let rest: Vec<&str> = line.splitn(7, ',').collect();
        let set = match rest[6].strip_prefix('"') {
            Some(quoted) => quoted.split('"').next().unwrap(),
            None => rest[6].split(',').next().unwrap(),
        };
        found.push((rest[4].to_owned(), set.to_owned()));
    }
    found.sort();
    found
}

#[test]
fn attacks_of_one_request_are_one_trial_and_others_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let plain = "attacks: [{kind: pgd}]\nbox: 'on'\nseed: 1\n";
    let of = |name: &str, attack: &str, config: &str| {
        attacked(folder.path(), name, attack, &header(FileKind::Attack, config))
    };
    // Other attacks, seeds, paths, shards and images kept: the same experiment.
    let same = "attacks: [{kind: random}]\nbox: 'on'\nseed: 2\nmodel: other/vae.pt\nshard: 1/2\nimages: 'off'\n";
    let files = vec![of("a", "pgd", plain), of("b", "random", same)];
    let pair = |attack: &str, set: &str| (attack.to_owned(), set.to_owned());
    assert_eq!(sets(&render(&files).unwrap()), [pair("pgd", ""), pair("random", "")]);

    for (name, config, ours, theirs) in [
        ("through", format!("{plain}through: ['jpeg:75', resize]\n"), "undefended", "through jpeg:75, resize"),
        ("file", format!("{plain}target: data/aim.png\n"), "away from the image", "towards aim.png"),
        ("index", format!("{plain}target: '12'\n"), "away from the image", "towards image 12"),
        ("eot", format!("{plain}eot: 16\n"), "at the mean code", "over 16 draws of the code"),
        ("box", plain.replace("'on'", "'off'"), "box on", "box off"),
        ("judge", format!("{plain}judge: nets/ink.pt\n"), "", "judged by ink"),
        ("layers", format!("{plain}layers: [down.0, up]\n"), "", "layers down.0, up"),
        ("interface", format!("{plain}interface: {{input_range: [-1, 1]}}\n"), "default interface", "input range -1,1"),
    ] {
        let other = of(name, "apgd", &config);
        let html = render(&[&files[..], &[other]].concat()).unwrap();
        let found = sets(&html);
        assert_eq!(found.iter().map(|(attack, _)| attack.as_str()).collect::<Vec<_>>(), ["apgd", "pgd", "random"]);
        assert_eq!((found[1].1.as_str(), found[2].1.as_str()), (ours, ours), "{name}");
        assert_eq!(found[0].1, theirs, "{name}");
    }
    // Each seed draws its own targets. What no words tell is numbered.
    let drawn = |name: &str, attack: &str, seed: u64| of(name, attack, &format!("target: shuffle\nseed: {seed}\n"));
    let found = sets(&render(&[drawn("s", "pgd", 1), drawn("t", "random", 2)]).unwrap());
    assert!(found.iter().any(|(_, set)| set == "2"), "{found:?}");
}

#[test]
fn a_target_is_what_its_file_holds() {
    let folder = tempfile::tempdir().unwrap();
    let of = |name: &str, attack: &str, place: &str, hash: &str| {
        let mut header = header(FileKind::Attack, &format!("target: {place}\n"));
        header.extra.insert("target_sha256".to_owned(), hash.to_owned());
        attacked(folder.path(), name, attack, &header)
    };
    let files = [of("a", "pgd", "a/aim.png", "11"), of("b", "random", "b/aim.png", "11")];
    assert!(sets(&render(&files).unwrap()).iter().all(|(_, set)| set.is_empty()), "moved, not changed");
    let files = [of("c", "pgd", "aim.png", "11"), of("d", "random", "aim.png", "22")];
    assert!(sets(&render(&files).unwrap()).iter().any(|(_, set)| !set.is_empty()), "changed in its place");
}

#[test]
fn a_name_does_not_make_two_data_sets_one() {
    /// The models as the page names them, of a scores and an attack file with these hashes and limits.
    fn models(hashes: [&str; 2], limits: [&str; 2]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let of = |kind, i: usize| Header {
            data_sha256: hashes[i].to_owned(),
            ..header(kind, &format!("limit: {}\n", limits[i]))
        };
        let files = [
            scored(folder.path(), &of(FileKind::Scores, 0)),
            attacked(folder.path(), "attack", "spectral", &of(FileKind::Attack, 1)),
        ];
        let html = render(&files).unwrap();
        html.split("<dt>models</dt><dd>").nth(1).and_then(|t| t.split("</dd>").next()).unwrap_or_default().to_owned()
    }
    let (one, two) = ("1".repeat(64), "2".repeat(64));
    assert_eq!(models([&one, &one], ["null", "null"]), "vae");
    assert_eq!(models([&two, &one], ["null", "null"]), "vae (2222222), vae (1111111)");
    assert_eq!(models([&two, &one], ["8", "8"]), "vae (2222222), vae (1111111)");
    // The hash is of the samples within the limit, so that other limits have other hashes; old files have none.
    assert_eq!(models([&two, &one], ["100", "8"]), "vae");
    assert_eq!(models(["", &one], ["null", "null"]), "vae");
}
