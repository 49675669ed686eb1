//! Images of several files: the worst of one experiment, and the same ones of one data set.

use super::{SAMPLES, by_size, csv, header, of_model, shades, sizes_of, write_from};
use pullback_results::report::render;
use pullback_results::store::{FileKind, Header};
use std::path::{Path, PathBuf};

/// An attack file with images, of the samples from `first` on.
fn attack(folder: &Path, name: &str, header: &Header, first: u64, attack: &str, damage: fn(usize) -> f64) -> PathBuf {
    let eps = [2.0, 1.0];
    let columns = vec![
        shades("/clean/images", &[]),
        shades("/clean/recon", &[]),
        by_size(&format!("/attack/{attack}/latent_l2"), &eps, |e, i| e * damage(i)),
        by_size(&format!("/damage/{attack}"), &eps, |e, i| e * damage(i)),
        shades(&format!("/attack/{attack}/images"), &eps),
        shades(&format!("/attack/{attack}/recon"), &eps),
    ];
    write_from(first, folder.join(format!("{name}.h5")), header, &[sizes_of(&eps)], columns)
}

#[test]
fn the_worst_images_are_those_of_all_files_of_an_experiment() {
    let folder = tempfile::tempdir().unwrap();
    let of = |name: &str, kind: &str, damage: fn(usize) -> f64| {
        attack(folder.path(), name, &header(FileKind::Attack, "box: 'on'\n"), 0, kind, damage)
    };
    // Each attack does more to one half of the samples.
    let files = [of("a", "race", |i| (1 + i) as f64), of("b", "apgd", |i| 8.5 - i as f64)];
    let rows = csv(&render(&files).unwrap(), "worst-images");
    let found: Vec<(usize, &str, f64)> =
        rows.iter().map(|row| (row[1].parse().unwrap(), row[3].as_str(), row[5].parse().unwrap())).collect();
    let mut expected: Vec<(usize, &str, f64)> = (0..SAMPLES)
        .map(|i| if i < 4 { (i, "apgd", 17.0 - 2.0 * i as f64) } else { (i, "race", 2.0 * (1 + i) as f64) })
        .collect();
    expected.sort_by(|a, b| b.2.total_cmp(&a.2));
    assert_eq!(found, expected);
}

#[test]
fn a_gallery_shows_the_same_images_only_of_the_same_data() {
    // Whether the page says that models share their images, and those of the second one.
    let shown = |dataset: &str, first: u64| {
        let folder = tempfile::tempdir().unwrap();
        let of = |name: &str, dataset: &str, first: u64| {
            let header = Header { dataset: dataset.to_owned(), ..of_model(name, header(FileKind::Attack, "{}\n")) };
            let damage: fn(usize) -> f64 =
                if name == "a" { |i: usize| i as f64 } else { |i: usize| (i * 3 % 8) as f64 };
            attack(folder.path(), name, &header, first, "pgd", damage)
        };
        let html = render(&[of("a", "digits", 0), of("b", dataset, first)]).unwrap();
        let rows = csv(&html, "gallery-images");
        // In the order of the page; a row for each of the two sizes.
        let theirs: Vec<u64> = rows.iter().filter(|r| r[0].starts_with('b')).map(|r| r[3].parse().unwrap()).collect();
        (html.contains("the same images under every model"), theirs[..theirs.len() / 2].to_vec())
    };
    let of_first: Vec<u64> = (0..8).collect();
    let own = |first: u64| -> Vec<u64> { [0, 3, 6, 1, 4, 7, 2, 5].map(|i| first + i).to_vec() };
    assert_eq!(shown("digits", 0), (true, of_first));
    assert_eq!(shown("letters", 0), (false, own(0)));
    assert_eq!(shown("digits", 100), (false, own(100)));
    assert_eq!(shown("digits", 4), (false, vec![4, 5, 6, 7]));
}
