//! Sizes in whatever order they were asked for, and those by which models are compared.

use super::{SAMPLES, by_size, column, csv, header, of_model, scored, shades, sizes_of, write};
use pullback_results::report::render;
use pullback_results::store::{Column, FileKind, Header, Overwrite, Values, write_whole};
use std::path::{Path, PathBuf};

/// An attack file with all that lies in it by size; the spectral step goes `eps` times as far as the random one.
fn attack(folder: &Path, name: &str, header: &Header, eps: &[f64]) -> PathBuf {
    let passes = Column {
        path: "/curve/passes".to_owned(),
        shape: vec![2],
        sample_axis: 0,
        values: Values::F64(vec![1.0, 2.0]),
    };
    let mut columns = vec![shades("/clean/images", &[])];
    for (attack, power) in [("spectral", 2), ("random", 1)] {
        let shift = |e: f64, i: usize| e.powi(power) * (1 + i) as f64;
        columns.push(by_size(&format!("/attack/{attack}/latent_l2"), eps, shift));
        columns.push(by_size(&format!("/damage/{attack}"), eps, shift));
        columns.push(by_size(&format!("/passes/{attack}/forward"), eps, |_, _| 4.0));
        columns.push(shades(&format!("/attack/{attack}/images"), eps));
        columns.push(shades(&format!("/attack/{attack}/recon"), eps));
        let found = eps
            .iter()
            .flat_map(|e| (0..2 * SAMPLES).map(|at| shift(*e, at / 2) / (3 - at % 2) as f64).collect::<Vec<_>>());
        let values = Values::F64(found.collect());
        columns.push(Column {
            path: format!("/curve/{attack}"),
            shape: vec![eps.len(), SAMPLES, 2],
            sample_axis: 1,
            values,
        });
    }
    write(folder.join(format!("{name}.h5")), header, &[sizes_of(eps), passes], columns)
}

/// A sweep of two models with images, attacked along the first direction.
fn sweep(folder: &Path, norm: &str, eps: &[f64]) -> PathBuf {
    let models = 2;
    let whole = |path: &str, shape: &[usize], values: Vec<f64>| Column {
        path: path.to_owned(),
        shape: shape.to_vec(),
        sample_axis: 0,
        values: Values::F64(values),
    };
    let of_models = |path: &str| {
        let values =
            (0..models).flat_map(|_| eps).flat_map(|e| (0..SAMPLES).map(move |i| e * (1 + i) as f64)).collect();
        whole(path, &[models, eps.len(), SAMPLES], values)
    };
    let images = |path: &str, shape: &[usize], shades: &[f64]| Column {
        path: path.to_owned(),
        shape: [shape, &[1, 4, 4]].concat(),
        sample_axis: 0,
        values: Values::F32(shades.iter().flat_map(|e| vec![*e as f32 / 10.0; 16]).collect()),
    };
    let of_sizes: Vec<f64> = (0..models).flat_map(|_| eps.iter().copied()).collect();
    let index =
        Column { path: "/pictures/index".to_owned(), shape: vec![1], sample_axis: 0, values: Values::I64(vec![3]) };
    let columns = [
        whole("/beta", &[models], vec![0.5, 2.0]),
        sizes_of(eps),
        column("/scores/spectral_radius", &[models, SAMPLES], 2.0),
        column("/clean/recon_mse", &[models, SAMPLES], 0.5),
        of_models("/attack/u1/latent_l2"),
        of_models("/attack/u1/recon_mse"),
        index,
        images("/pictures/clean/images", &[1], &[5.0]),
        images("/pictures/attack/u1/images", &[models, eps.len(), 1], &of_sizes),
    ];
    let extra = [("norm".to_owned(), norm.to_owned())].into();
    let path = folder.join("sweep.h5");
    write_whole(&path, &Header { extra, ..header(FileKind::Sweep, "{}\n") }, &columns, Overwrite::No).unwrap();
    path
}

#[test]
fn the_order_of_sizes_makes_no_difference() {
    let attacks = |folder: &Path, eps: &[f64]| {
        let attacks = attack(folder, "attack", &header(FileKind::Attack, "box: 'off'\n"), eps);
        vec![attacks, scored(folder, &header(FileKind::Scores, "{}\n"))]
    };
    let models = |folder: &Path, eps: &[f64]| vec![sweep(folder, "l2", eps)];
    type Files<'a> = &'a dyn Fn(&Path, &[f64]) -> Vec<PathBuf>;
    let pages: [Files<'_>; 2] = [&attacks, &models];
    for (page, figure) in pages.into_iter().zip(["prediction-latent_l2", "sweep-agreement"]) {
        let page = |eps: &[f64]| {
            let folder = tempfile::tempdir().unwrap();
            render(&page(folder.path(), eps)).unwrap().replace(&folder.path().display().to_string(), "")
        };
        let ordered = page(&[1.0, 2.0, 4.0]);
        assert!(ordered.contains(&format!("id=\"{figure}\"")), "{figure}");
        assert!(page(&[4.0, 1.0, 2.0]) == ordered, "{figure}");
        assert!(page(&[1.0, 2.0, 8.0]) != ordered, "{figure}: a page says its sizes");
    }
}

#[test]
fn a_law_of_euclidean_lengths_foretells_no_other_norm() {
    let foretells = |norm: &str| {
        let folder = tempfile::tempdir().unwrap();
        render(&[sweep(folder.path(), norm, &[0.5, 1.0])]).unwrap().contains("id=\"sweep-agreement\"")
    };
    assert!(foretells("l2") && !foretells("linf"));
}

#[test]
fn models_are_compared_at_a_size_that_both_have() {
    let title = |ours: &[f64], theirs: &[f64]| {
        let folder = tempfile::tempdir().unwrap();
        let of = |name: &str, eps: &[f64]| {
            attack(folder.path(), name, &of_model(name, header(FileKind::Attack, "box: 'off'\n")), eps)
        };
        let html = render(&[of("a", ours), of("b", theirs)]).unwrap();
        assert_eq!(csv(&html, "damage-latent_l2").len(), 2 * (ours.len() + theirs.len()));
        let start = "A spectral step moves the code ";
        html.split(start).nth(1).and_then(|t| t.split('<').next()).unwrap_or_default().replace('\u{a0}', " ")
    };
    let same = "times as far as a random one of the same size";
    assert_eq!(title(&[1.0, 2.0], &[2.0, 4.0, 8.0]), format!("2 {same} (ε = 2)"));
    assert_eq!(title(&[2.0], &[8.0]), format!("2 to 8 {same} (ε = 2 for a and 8 for b)"));
}
