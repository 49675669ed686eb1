//! Which files of a folder belong on a page: none is left out that may be a result.

use super::{attacked, header, scored};
use pullback_results::report::render;
use pullback_results::store::{FileKind, Reader};
use std::path::Path;

/// A folder with one scores file.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    scored(folder.path(), &header(FileKind::Scores, "metric: mean\n"));
    folder
}

fn page(folder: &Path) -> Result<String, String> {
    render(&[folder.to_owned()]).map_err(|error| {
        let line = error.to_string();
        assert_eq!((error.exit_code(), line.lines().count()), (2, 1), "{line}");
        line
    })
}

#[test]
fn a_file_that_cannot_be_opened_is_named() {
    let bytes = {
        let folder = folder();
        std::fs::read(folder.path().join("scores.h5")).unwrap()
    };
    for (name, contents) in [
        ("cut.h5", &bytes[..bytes.len() / 2]),
        ("empty.h5", &[]),
        ("zeros.hdf5", &[0; 4096]),
        ("text.h5", b"no result"),
    ] {
        let folder = folder();
        std::fs::write(folder.path().join(name), contents).unwrap();
        let line = page(folder.path()).unwrap_err();
        assert!(line.contains(name), "{line}");
    }
    let folder = folder();
    std::os::unix::fs::symlink("gone.h5", folder.path().join("link.h5")).unwrap();
    assert!(page(folder.path()).unwrap_err().contains("link.h5"));
}

#[test]
fn other_files_of_hdf5_are_no_results() {
    let folder = folder();
    let data = hdf5::File::create(folder.path().join("data.h5")).unwrap();
    data.new_dataset::<u8>().shape([4, 8, 8]).create("images").unwrap();
    drop(data);
    let alone = page(folder.path()).unwrap();
    assert!(!alone.contains("data.h5"));
    // Under the other usual extension a result is one too.
    let path = attacked(folder.path(), "pgd", "pgd", &header(FileKind::Attack, "attacks: [{kind: pgd}]\n"));
    std::fs::rename(&path, path.with_extension("hdf5")).unwrap();
    assert!(page(folder.path()).unwrap().contains("pgd.hdf5"));
}

#[test]
fn a_pipe_keeps_nobody_waiting() {
    let folder = folder();
    let pipe = folder.path().join("pipe.h5");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (sender, receiver) = std::sync::mpsc::channel();
    let place = folder.path().to_owned();
    std::thread::spawn(move || {
        let refused = Reader::open(&pipe).map(drop).map_err(|error| error.to_string());
        sender.send((refused, page(&place).is_ok()))
    });
    let (refused, is_page) =
        receiver.recv_timeout(std::time::Duration::from_secs(60)).expect("an answer within a minute");
    let line = refused.unwrap_err();
    assert!(line.contains("pipe.h5: expected a result file, found neither a file nor a folder"), "{line}");
    assert!(is_page);
}
