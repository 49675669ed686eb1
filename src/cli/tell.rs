//! Lines on stderr. If nobody reads them any more, the work continues; `eprintln!` would panic.
//!
//! Colour is for a terminal, and yields to NO_COLOR, CLICOLOR, CLICOLOR_FORCE and TERM=dumb (anstream).

use anstream::AutoStream;
use clap::builder::styling::{AnsiColor, Style};
use std::io::Write;

/// One line.
pub fn tell(line: &str) {
    let _ = writeln!(AutoStream::auto(std::io::stderr()), "{line}");
}

/// The line of an error, `pullback: ...`.
pub fn tell_error(line: &str) {
    tell(&format!("{} {line}", marked("pullback:", AnsiColor::Red.on_default().bold())));
}

/// `word` in `style`, which [`tell`] takes away where there is no colour.
pub fn marked(word: &str, style: Style) -> String {
    format!("{style}{word}{style:#}")
}

/// A warning's line.
pub fn warning(line: &str) -> String {
    format!("{} {line}", marked("warning:", AnsiColor::Yellow.on_default().bold()))
}
