//! A model exported from PyTorch: TorchScript with `encode(x) -> (mu, logvar)` and `decode(z) -> x_hat`.

use super::{Posterior, Vae};
use crate::error::{Error, Result};
use crate::ffi::module::{Module, Returned};
use std::cell::Cell;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// A TorchScript VAE. Its floating-point tensors have the kind it was loaded with and need no gradient; nothing of it is
/// switched to evaluation mode, for what it was exported with is what is to be measured. A decoder that gives flat images
/// [B, D] has them reshaped as the images last encoded, and gives [B, D] before the first.
#[derive(Debug)]
pub struct TorchScript {
    module: Module,
    /// The file, for messages.
    subject: String,
    /// [C, H, W] of the images last encoded, for decoders that give flat images.
    image: Cell<Option<[i64; 3]>>,
}

impl TorchScript {
    /// Loads a file and checks that it has both methods and finite numbers.
    pub fn load(path: &Path, device: Device, kind: Kind) -> Result<Self> {
        let subject = path.display().to_string();
        // What cannot be read says so itself, better than libtorch does.
        std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
        let module = Module::load(path, device, kind).map_err(|error| match &error {
            Error::Native { message, .. } if !out_of_memory(message) => Error::request(
                subject.clone(),
                "a TorchScript file (torch.jit.save) or a run folder",
                what_was_loaded(path, message),
            ),
            _ => error,
        })?;
        for (method, signature) in [("encode", "encode(x) -> (mu, logvar)"), ("decode", "decode(z) -> x_hat")] {
            if !module.has(method)? {
                return Err(Error::request(
                    subject,
                    format!("a TorchScript module with a method {signature}"),
                    format!("no method {method}"),
                ));
            }
        }
        if let Some(name) = module.non_finite()? {
            return Err(Error::request(format!("{subject}: tensor {name}"), "finite numbers", "a NaN or an infinity"));
        }
        Ok(Self { module, subject, image: Cell::new(None) })
    }

    /// Calls a method; what the module itself raises is the file's fault, what the machine lacks is not.
    fn call(&self, method: &str, input: &Tensor, expected: &str) -> Result<Vec<Tensor>> {
        let returned = self.module.call(method, input).map_err(|error| match &error {
            Error::Native { message, .. } if !out_of_memory(message) => Error::request(
                format!("{}: {method}", self.subject),
                format!("to take {:?} {:?}", input.kind(), input.size()),
                useful_line(message),
            ),
            _ => error,
        })?;
        match returned {
            Returned::Tensors(tensors) => Ok(tensors),
            Returned::Other(kind) => Err(self.unexpected(method, expected, kind)),
        }
    }

    fn unexpected(&self, method: &str, expected: &str, found: impl Into<String>) -> Error {
        Error::request(format!("{}: {method}", self.subject), expected, found)
    }
}

impl Vae for TorchScript {
    fn encode(&self, x: &Tensor) -> Result<Posterior> {
        const EXPECTED: &str = "a tuple (mu, logvar) of two tensors [B, L]";
        let tensors = self.call("encode", x, EXPECTED)?;
        let [mean, log_var]: [Tensor; 2] = tensors.try_into().map_err(|tensors: Vec<Tensor>| {
            let found = match tensors.len() {
                1 => "one tensor".to_owned(),
                n => format!("{n} tensors"),
            };
            self.unexpected("encode", EXPECTED, found)
        })?;
        let batch = x.size().first().copied().unwrap_or(0);
        let (m, v) = (mean.size(), log_var.size());
        if m.len() != 2 || m != v || m[0] != batch || m[1] == 0 {
            return Err(self.unexpected(
                "encode",
                format!("mu and logvar of one shape [{batch}, L]").as_str(),
                format!("mu {m:?}, logvar {v:?}"),
            ));
        }
        for (name, tensor) in [("mu", &mean), ("logvar", &log_var)] {
            self.check_kind("encode", name, tensor, x)?;
        }
        if let [_, c, h, w] = x.size()[..] {
            self.image.set(Some([c, h, w]));
        }
        Ok(Posterior { mean, log_var })
    }

    fn decode(&self, z: &Tensor) -> Result<Tensor> {
        let expected = match self.image.get() {
            Some([c, h, w]) => format!("one tensor x_hat of shape [B, {c}, {h}, {w}] or [B, {}]", c * h * w),
            None => "one tensor x_hat of shape [B, C, H, W] or [B, D]".to_owned(),
        };
        let expected = expected.as_str();
        let tensors = self.call("decode", z, expected)?;
        let [x_hat]: [Tensor; 1] = tensors.try_into().map_err(|tensors: Vec<Tensor>| {
            self.unexpected("decode", expected, format!("{} tensors", tensors.len()))
        })?;
        let batch = z.size().first().copied().unwrap_or(0);
        let size = x_hat.size();
        let fits = match (&size[..], self.image.get()) {
            ([b, c, h, w], known) => *b == batch && known.is_none_or(|image| image == [*c, *h, *w]),
            ([b, d], known) => *b == batch && known.is_none_or(|image| image.iter().product::<i64>() == *d),
            _ => false,
        };
        if !fits {
            return Err(self.unexpected("decode", expected, format!("{size:?}")));
        }
        self.check_kind("decode", "x_hat", &x_hat, z)?;
        match self.image.get() {
            Some([c, h, w]) if size.len() == 2 => Ok(x_hat.f_reshape([batch, c, h, w])?),
            _ => Ok(x_hat),
        }
    }
}

impl TorchScript {
    fn check_kind(&self, method: &str, name: &str, tensor: &Tensor, input: &Tensor) -> Result<()> {
        if tensor.f_kind()? == input.f_kind()? {
            return Ok(());
        }
        let expected = format!("{name} of the input's kind {:?}", input.f_kind()?);
        Err(self.unexpected(method, &expected, format!("{:?}", tensor.f_kind()?)))
    }
}

fn out_of_memory(message: &str) -> bool {
    message.contains("out of memory") || message.contains("can't allocate memory")
}

/// What a file that libtorch does not load is, as far as its message and first bytes tell.
fn what_was_loaded(path: &Path, message: &str) -> String {
    use std::io::Read;
    let mut head = [0u8; 4];
    let read = std::fs::File::open(path).and_then(|mut f| f.read(&mut head)).unwrap_or(0);
    if &head[..read] != b"PK\x03\x04" {
        return if read == 0 { "an empty file".to_owned() } else { "something that is not a zip archive".to_owned() };
    }
    if message.contains("constants.pkl") {
        return "a zip archive without code (a state dict of torch.save?)".to_owned();
    }
    if message.contains("zip archive") || message.contains("central directory") {
        return "a damaged zip archive (truncated?)".to_owned();
    }
    useful_line(message)
}

/// The line of a libtorch message that says what went wrong: the last `SomethingError: ...` of the interpreter's trace,
/// else the first line.
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
