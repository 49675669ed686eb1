//! What Python's libraries say of a file.

use std::path::Path;
use std::process::Command;

/// What python made of `script`, whose arguments are `sys.argv[1:]`: its output, or what it complained of.
pub fn python(script: &str, args: &[&Path]) -> Result<String, String> {
    let interpreter = crate::files::interpreter();
    let output = Command::new(&interpreter).arg("-c").arg(script).args(args).output();
    let output = output.unwrap_or_else(|e| panic!("{} (made by `make test`): {e}", interpreter.display()));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}
