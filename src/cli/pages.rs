//! What other programs read of the command line: completions of shells, man pages.

use super::args::Args;
use crate::error::{Error, Result};
use crate::store::Overwrite;
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use std::path::Path;

/// The script that completes `pullback` in a shell.
pub fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "pullback", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Writes `pullback.1` and a page for each command, such as `pullback-score.1`, into `folder`.
///
/// # Errors
/// A wrong request if one of the pages exists and may not be overwritten; if it cannot be written.
pub fn man(folder: &Path, overwrite: Overwrite) -> Result<()> {
    let mut command = Args::command().disable_help_subcommand(true);
    command.build();
    let commands = command.get_subcommands().filter(|c| !c.is_hide_set()).cloned();
    let pages: Vec<(String, Vec<u8>)> = commands.map(page).chain([page(command.clone())]).collect::<Result<_>>()?;
    std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
    let taken = pages.iter().map(|(name, _)| folder.join(name)).find(|path| path.exists());
    if let (Some(path), Overwrite::No) = (taken, overwrite) {
        return Err(Error::request(path.display().to_string(), "no such file yet (--force replaces it)", "a file"));
    }
    for (name, page) in pages {
        let path = folder.join(name);
        std::fs::write(&path, page).map_err(|e| Error::io(&path, e))?;
    }
    Ok(())
}

/// (file name, page).
fn page(command: Command) -> Result<(String, Vec<u8>)> {
    // `build` has named a command of ours `pullback-score` for this.
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let mut page = Vec::new();
    let man = Man::new(command).title(name.clone()).source(concat!("pullback ", env!("CARGO_PKG_VERSION")));
    man.render(&mut page).map_err(|e| Error::io(&name, e))?;
    Ok((format!("{name}.1"), page))
}
