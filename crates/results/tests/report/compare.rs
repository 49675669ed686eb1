//! Models are compared under an attack only where it was asked for alike.

use super::{attacked, header, of_model};
use pullback_results::report::render;
use pullback_results::store::{FileKind, Header};

#[test]
fn only_attacks_of_one_question_compare_models() {
    let compared = |ours: &str, theirs: &str| {
        let folder = tempfile::tempdir().unwrap();
        let of = |name: &str, config: &str| {
            attacked(folder.path(), name, "pgd", &of_model(name, header(FileKind::Attack, config)))
        };
        let html = render(&[of("a", ours), of("b", theirs)]).unwrap();
        assert_eq!(html.contains("Latent shift under the PGD attack"), html.contains("id=\"compare-table\""));
        html.contains("id=\"compare-table\"")
    };
    let plain = "attacks: [{kind: pgd, steps: 20, goal: latent}]\nbox: 'on'\n";
    for other in [
        "attacks: [{kind: random}, {kind: pgd, steps: 20, goal: latent}]\nbox: 'on'\nseed: 2\nlimit: 8\n",
        "attacks: [{kind: pgd, steps: 20, goal: latent}]\nbox: 'on'\ninterface: {input_range: [-1, 1]}\n",
    ] {
        assert!(compared(plain, other), "{other}");
    }
    for other in [
        plain.replace("20", "200"),
        plain.replace("latent", "recon"),
        plain.replace("'on'", "'off'"),
        format!("{plain}through: ['jpeg:75']\n"),
        format!("{plain}target: zero\n"),
        format!("{plain}eot: 16\n"),
    ] {
        assert!(!compared(plain, &other) && !compared(&other, plain), "{other}");
    }
}

#[test]
fn models_asked_about_other_images_are_not_ranked() {
    let page = |dataset: &str| {
        let folder = tempfile::tempdir().unwrap();
        let of = |name: &str, dataset: &str| {
            let header = of_model(name, header(FileKind::Attack, "attacks: [{kind: pgd}]\n"));
            attacked(folder.path(), name, "pgd", &Header { dataset: dataset.to_owned(), ..header })
        };
        render(&[of("a", "mnist"), of("b", dataset)]).unwrap()
    };
    let (same, other) = (page("mnist"), page("cifar"));
    assert!(same.contains("best first") && same.contains("is least for"));
    assert!(!other.contains("best first") && !other.contains("is least for") && !other.contains("class=\"tag best\""));
    assert!(other.contains("on images that are not the same"));
}
