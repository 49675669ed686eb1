//! Parses, runs, prints the error chain, returns the exit code.

use pullback::cli;
use pullback::ffi::process::{exit_now, keep_memory, load_no_plugins};

fn main() {
    keep_memory();
    load_no_plugins();
    let code = match cli::run(std::env::args_os()) {
        Ok(()) => 0,
        Err(error) => {
            cli::tell_error(&cli::one_line(&error));
            cli::exit_code(&error)
        }
    };
    exit_now(code)
}
