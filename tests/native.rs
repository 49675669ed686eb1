//! The two descriptions of the native routines, kernels/pullback.h and the blocks `extern "C"` of src/ffi, are of the same ones:
//! nothing else compares them, and a call by the wrong one reads what is not there.

use crate::files::root;
use std::collections::BTreeMap;
use std::fs;

/// By name: the types of the parameters, and of the result.
type Routines = BTreeMap<String, (Vec<String>, String)>;

/// Text without comments, on one line.
fn bare(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join(" ")
}

/// The parts between commas that stand in no brackets.
fn parts(text: &str) -> Vec<&str> {
    let (mut found, mut depth, mut first) = (Vec::new(), 0, 0);
    for (i, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                found.push(text[first..i].trim());
                first = i + 1;
            }
            _ => {}
        }
    }
    found.push(text[first..].trim());
    found.retain(|part| !part.is_empty());
    found
}

/// What stands in the brackets that `text` begins with, and what follows.
fn bracketed(text: &str) -> (&str, &str) {
    let mut depth = 0;
    let end = text.char_indices().find(|(_, c)| {
        depth += i32::from(*c == '(') - i32::from(*c == ')');
        depth == 0
    });
    let end = end.expect("a closing bracket").0;
    (&text[1..end], &text[end + 1..])
}

/// A name and as many stars as there are pointers; of a function nothing but that it is one.
fn kind(name: &str, pointers: usize) -> String {
    let name = match name {
        "c_char" | "char" => "char",
        "c_int" | "i32" | "int" => "int",
        "i64" | "int64_t" => "int64",
        "f64" | "double" => "double",
        "f32" | "float" => "float",
        "c_void" | "void" | "" => "void",
        other => other,
    };
    format!("{name}{}", "*".repeat(pointers))
}

/// `const void* x`, `void** x`, `void (*f)(int)`.
fn of_c(text: &str) -> String {
    if text.contains("(*") {
        return "function".to_owned();
    }
    let words = text.replace('*', " ");
    let mut words = words.split_whitespace().filter(|word| *word != "const");
    kind(words.next().unwrap_or_default(), text.matches('*').count())
}

/// `*const *mut c_void`, `extern "C" fn(i64)`.
fn of_rust(text: &str) -> String {
    if text.contains("fn(") {
        return "function".to_owned();
    }
    let name = text.rsplit(' ').next().unwrap_or_default().rsplit("::").next().unwrap_or_default();
    kind(name, text.matches('*').count())
}

fn declared() -> Routines {
    let text = bare(&fs::read_to_string(root().join("kernels/pullback.h")).unwrap());
    let mut found = Routines::new();
    // What stands before a name is its result.
    let places =
        text.match_indices(" pb_").filter(|(at, _)| text[at + 1..].find('(') < text[at + 1..].find([';', ' ']));
    for (at, _) in places {
        let open = at + text[at..].find('(').unwrap();
        let result = text[..at].rsplit([';', '{', '}']).next().unwrap_or_default();
        let parameters = parts(bracketed(&text[open..]).0).into_iter().map(of_c).collect();
        let before = found.insert(text[at + 1..open].to_owned(), (parameters, of_c(result.trim())));
        assert!(before.is_none(), "{} is declared twice", &text[at + 1..open]);
    }
    found
}

fn imported() -> Routines {
    let mut found = Routines::new();
    for entry in fs::read_dir(root().join("src/ffi")).unwrap() {
        let text = bare(&fs::read_to_string(entry.unwrap().path()).unwrap());
        for block in text.split("unsafe extern \"C\" {").skip(1) {
            let block = block.split('}').next().unwrap_or_default();
            for routine in block.split(';').filter_map(|routine| routine.trim().split_once("fn pb_")) {
                let (name, rest) = routine.1.split_at(routine.1.find('(').unwrap());
                let (inside, after) = bracketed(rest);
                let parameters = parts(inside).into_iter().map(|p| of_rust(p.split_once(": ").unwrap().1)).collect();
                let result = of_rust(after.trim().trim_start_matches("->").trim());
                found.insert(format!("pb_{name}"), (parameters, result));
            }
        }
    }
    found
}

#[test]
fn the_header_and_its_users_agree() {
    let (declared, imported) = (declared(), imported());
    assert!(declared.len() > 40, "only {} routines seen in the header", declared.len());
    for (name, types) in &imported {
        assert_eq!(Some(types), declared.get(name), "{name}: as src/ffi has it, and the header");
    }
    let unused: Vec<&String> = declared.keys().filter(|name| !imported.contains_key(*name)).collect();
    assert_eq!(unused, Vec::<&String>::new(), "declared, and called by nobody");
}
