//! Files that are not TorchScript, and modules tied to the place of their export: the error says what each is, and the remedy.

use crate::{wording, zipped};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// How to make a TorchScript file of a model in Python.
const EXPORT: &str = "in Python: torch.jit.script(model.eval()).save('vae.pt'), as docs/models.md shows";
/// Bytes of a pickle that are searched for the names of classes.
const PICKLE: u64 = 1 << 24;

/// Says what a file is that libtorch does not load, from libtorch's message, its members and its first bytes.
pub fn file(path: &Path, message: &str) -> String {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|f| f.take(64).read_to_end(&mut head));
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let export = |what: &str| format!("{what} ({EXPORT})");
    match head.as_slice() {
        _ if read.is_err() || head.is_empty() => "an empty file".to_owned(),
        bytes if bytes.starts_with(b"PK\x03\x04") => archive(path, message),
        [0x80, 2..=5, ..] => export("a pickle, a state dict or module in torch.save's old format"),
        bytes if bytes.starts_with(b"\x89HDF") => export("an HDF5 file, such as Keras's weights"),
        bytes if bytes.get(8) == Some(&b'{') && extension == "safetensors" => {
            export("safetensors, weights without the code that uses them")
        }
        _ if extension == "onnx" => export("an ONNX graph, which has no gradients"),
        _ => "something that is not a zip archive".to_owned(),
    }
}

/// Says what a zip archive is that libtorch does not load.
fn archive(path: &Path, message: &str) -> String {
    let Some(mut archive) = File::open(path).ok().and_then(|file| zipped::open(file).ok()) else {
        return "a damaged zip archive (truncated?)".to_owned();
    };
    let names: Vec<String> = archive.file_names().filter_map(|name| name.ok().map(|n| n.to_string())).collect();
    let named = |end: &str| names.iter().find(|name| name.rsplit('/').next() == Some(end));
    if named("archive_format").is_some() || named("serialized_exported_program.json").is_some() {
        return format!("an exported program, a .pt2 of torch.export, which has one method alone ({EXPORT})");
    }
    if let (Some(pickle), None) = (named("data.pkl"), named("constants.pkl")) {
        let mut bytes = Vec::new();
        let read = archive.by_name(pickle).ok().and_then(|f| f.take(PICKLE).read_to_end(&mut bytes).ok());
        return match read.and_then(|_| class_of(&bytes)) {
            Some(class) => format!("a pickled module, {class}, which only its own Python code can load ({EXPORT})"),
            None => format!("a zip archive without code: a state dict of torch.save, weights alone ({EXPORT})"),
        };
    }
    if message.contains("Unknown builtin op") {
        let operator = message.split("Unknown builtin op: ").nth(1).and_then(|rest| rest.split_whitespace().next());
        let operator = operator.unwrap_or("?").trim_end_matches('.');
        return format!(
            "code that calls the operator {operator}, which libtorch does not have (of an extension: export the model without it)"
        );
    }
    if message.contains("zip archive") || message.contains("central directory") {
        return "a damaged zip archive (truncated?)".to_owned();
    }
    useful_line(message)
}

/// The first class that a pickle names, apart from the classes that tensors consist of.
fn class_of(pickle: &[u8]) -> Option<String> {
    let is_name = |text: &[u8]| {
        !text.is_empty() && text.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'<' | b'>'))
    };
    // The opcode GLOBAL: c, module, newline, name, newline.
    let mut at = 0;
    while at < pickle.len() {
        at += 1;
        if pickle[at - 1] != b'c' {
            continue;
        }
        let mut lines = pickle[at..].splitn(3, |b| *b == b'\n');
        let (Some(module), Some(name), Some(_)) = (lines.next(), lines.next(), lines.next()) else { break };
        if !is_name(module) || !is_name(name) || name.len() > 200 || module.len() > 200 {
            continue;
        }
        at += module.len() + name.len() + 2;
        let (module, name) = (String::from_utf8_lossy(module), String::from_utf8_lossy(name));
        const OF_TENSORS: [&str; 6] =
            ["torch", "torch._utils", "torch.storage", "torch.nn.parameter", "collections", "numpy"];
        if !OF_TENSORS.contains(&&*module) && !module.starts_with("numpy.") {
            return Some(format!("{module}.{name}"));
        }
    }
    None
}

/// The line of a libtorch message that says what went wrong, with the remedy if the module contains a device or a number of images from its
/// export.
pub fn raised(message: &str, on_cpu: bool) -> String {
    let line = useful_line(message);
    let remedy = if on_cpu && wording::ASKS_FOR_CUDA.is_in(message) {
        "its code asks for a GPU, as when it was traced on one: export it on the CPU, or --device cuda"
    } else if wording::OTHER_DEVICE.is_in(message) {
        "its code names a device, as when it was traced on another: export it by torch.jit.script, or --device cpu"
    } else if wording::FIXED_BATCH.is_in(message) {
        "traced with its number of images built in? export it by torch.jit.script, or with view(x.shape[0], ...)"
    } else if wording::HALF_PRECISION.is_in(message) {
        "exported in half precision? export model.float()"
    } else {
        return line;
    };
    format!("{line} ({remedy})")
}

/// The line of a libtorch message that says what went wrong: the last `SomethingError: ...` of the interpreter's trace, otherwise the first
/// line.
fn useful_line(message: &str) -> String {
    let raised = |line: &&str| {
        line.split_once(": ").is_some_and(|(kind, _)| {
            (kind.ends_with("Error") || kind.ends_with("Exception"))
                && kind.chars().all(|c| c.is_alphanumeric() || "._".contains(c))
        })
    };
    let line = message.lines().rev().find(raised).or_else(|| message.lines().find(|l| !l.trim().is_empty()));
    line.unwrap_or("an error without a message").trim().to_owned()
}
