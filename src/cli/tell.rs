//! Lines on stderr. Where nobody reads them any more, the work goes on: `eprintln!` would panic.

use std::io::Write;

/// One line.
pub fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
