//! Parse, run, print the error chain, exit code.
#![allow(clippy::print_stderr)]

use pullback::cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run(std::env::args_os()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pullback: {}", cli::one_line(&error));
            ExitCode::from(cli::exit_code(&error))
        }
    }
}
