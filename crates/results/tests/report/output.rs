//! Where a page may be written.

use pullback_results::report::publish;
use pullback_results::store::Overwrite;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;

#[test]
fn a_special_file_is_never_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let _socket = UnixListener::bind(&path).unwrap();
    let error = publish("page", &path, Overwrite::Yes).unwrap_err();
    assert_eq!(error.exit_code(), 2, "{error}");
    assert!(error.to_string().contains("a special file"), "{error}");
    assert!(std::fs::metadata(&path).unwrap().file_type().is_socket());

    // A file is replaced when asked, and nothing else is left beside it.
    let page = folder.path().join("page.html");
    publish("first", &page, Overwrite::No).unwrap();
    assert_eq!(publish("second", &page, Overwrite::No).unwrap_err().exit_code(), 2);
    publish("third", &page, Overwrite::Yes).unwrap();
    assert_eq!(std::fs::read_to_string(&page).unwrap(), "third");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}
