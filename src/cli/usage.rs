//! Makes one line of clap's usage errors: the flag, what was expected and what was found.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// One line for a usage error of `command`.
pub fn one_line(error: &clap::Error) -> String {
    let arg = text(error, ContextKind::InvalidArg);
    let value = text(error, ContextKind::InvalidValue);
    let line = match error.kind() {
        ErrorKind::InvalidValue => arg.map(|arg| {
            let wanted = text(error, ContextKind::ValidValue).map_or("a value".to_owned(), |v| format!("one of {v}"));
            let found = value.filter(|v| !v.is_empty()).map_or("no value".to_owned(), |v| format!("{v:?}"));
            format!("{}: expected {wanted}, found {found}", flag(&arg))
        }),
        ErrorKind::ValueValidation => arg.zip(std::error::Error::source(error)).map(|(arg, source)| {
            let reason = source.to_string();
            // Our own parsers say `subject: expected X, found Y` or `expected X, found Y`.
            let at = reason.find("expected ").unwrap_or(0);
            format!("{}: {}", flag(&arg), &reason[at..])
        }),
        ErrorKind::UnknownArgument => arg.map(|arg| {
            let near = text(error, ContextKind::SuggestedArg).map_or(String::new(), |s| format!(" such as {s}"));
            let wanted = if arg.starts_with('-') { "a known flag" } else { "no further argument" };
            format!("expected {wanted}{near}, found {arg:?} (see --help)")
        }),
        ErrorKind::InvalidSubcommand => text(error, ContextKind::InvalidSubcommand)
            .map(|found| format!("command: expected one of {}, found {found:?}", commands())),
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            Some(format!("command: expected one of {}, found none (see --help)", commands()))
        }
        ErrorKind::MissingRequiredArgument => {
            arg.map(|args| format!("expected {args}, found no such argument (see --help)"))
        }
        ErrorKind::ArgumentConflict => arg.map(|arg| match text(error, ContextKind::PriorArg) {
            Some(prior) if prior != arg => {
                format!("{}: expected no {} beside it, found both", flag(&arg), flag(&prior))
            }
            _ => format!("{}: expected once, found more than once", flag(&arg)),
        }),
        _ => None,
    };
    line.unwrap_or_else(|| first_line(&error.to_string()))
}

fn text(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(s) => Some(s.clone()),
        ContextValue::Strings(list) if list.is_empty() => None,
        ContextValue::Strings(list) => Some(list.join(", ")),
        ContextValue::StyledStr(s) => Some(s.to_string()),
        ContextValue::StyledStrs(list) => list.first().map(ToString::to_string),
        ContextValue::Number(n) => Some(n.to_string()),
        ContextValue::Bool(b) => Some(b.to_string()),
        _ => None,
    }
}

/// `--eps <E1,E2,...>` names its value; errors name the flag alone.
fn flag(arg: &str) -> &str {
    if arg.starts_with('-') { arg.split([' ', '=']).next().unwrap_or(arg) } else { arg }
}

fn commands() -> String {
    let command = <super::args::Args as clap::CommandFactory>::command();
    command
        .get_subcommands()
        .filter(|c| !c.is_hide_set())
        .map(|c| c.get_name().to_owned())
        .collect::<Vec<_>>()
        .join(", ")
}

fn first_line(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).trim_end().to_owned()
}
