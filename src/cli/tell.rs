//! Lines on stderr. If nobody reads them any more, the work continues; `eprintln!` would panic.

use std::io::Write;

/// One line.
pub fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
