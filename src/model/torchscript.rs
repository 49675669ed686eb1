//! A model exported from PyTorch: TorchScript with `encode(x) -> (mu, logvar)` and `decode(z) -> x_hat`.

use super::judged::{named, raised};
use super::{Interface, Posterior, Vae, archive, foreign};
use crate::error::{Error, Result};
use crate::ffi;
use crate::ffi::module::{Module, Returned};
use crate::ffi::taps::{self, Found, Taps};
use std::cell::RefCell;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// A TorchScript VAE. Its floating-point tensors have the kind it was loaded with and need no gradient; it is not switched to evaluation
/// mode, because the model is measured as it was exported. If a decoder returns flat images [B, D], they are reshaped like the images last
/// encoded; before the first encoding they stay [B, D].
#[derive(Debug)]
pub struct TorchScript {
    module: Module,
    /// The file, for messages.
    subject: String,
    /// Which of the encoder's outputs are mean and scale, if the user said so.
    outputs: Option<Vec<usize>>,
    /// What was learned from the last call of `encode`.
    seen: RefCell<Seen>,
    /// Layers whose outputs are features.
    watched: Vec<String>,
}

/// What an encoder's last call showed.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// Shape of a sample, [C, H, W] of images, for decoders that return flat ones.
    sample: Option<Vec<i64>>,
    /// Shape of a code, for decoders of codes that are not vectors.
    code: Option<Vec<i64>>,
    /// There was only one output.
    lone: bool,
}

impl TorchScript {
    /// Loads a file and checks that it has both methods and finite numbers.
    pub fn load(path: &Path, device: Device, kind: Kind, interface: &Interface) -> Result<Self> {
        ffi::exact_math()?;
        let subject = path.display().to_string();
        // If the file cannot be read, this error says so more clearly than libtorch's.
        archive::ensure_whole(path, &subject)?;
        let module = Module::load(path, device, kind).map_err(|error| match &error {
            Error::Native { message, .. } if !error.is_out_of_memory() => Error::request(
                subject.clone(),
                "a TorchScript file (torch.jit.save) or a run folder",
                foreign::file(path, message),
            ),
            _ => error,
        })?;
        for (method, signature) in [("encode", "encode(x) -> (mu, logvar)"), ("decode", "decode(z) -> x_hat")] {
            if !module.has(method)? {
                return Err(Error::request(
                    subject,
                    format!("a TorchScript module with a method {signature}"),
                    format!(
                        "no method {method} (mark it @torch.jit.export, or torch.jit.trace_module(vae, {{'encode': x, 'decode': z}}))"
                    ),
                ));
            }
        }
        if let Some(name) = module.non_finite()? {
            return Err(Error::request(format!("{subject}: tensor {name}"), "finite numbers", "a NaN or an infinity"));
        }
        let outputs = interface.outputs.as_ref().map(|outputs| outputs.positions().to_vec());
        Ok(Self { module, subject, outputs, seen: RefCell::default(), watched: Vec::new() })
    }

    /// Calls a method; an error that the module raises is the file's fault, an error of the machine is not.
    fn call(&self, method: &str, input: &Tensor, expected: &str) -> Result<Vec<Tensor>> {
        let subject = || format!("{}: {method}", self.subject);
        let returned = self.module.call(method, input).map_err(|error| raised(error, subject(), input))?;
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
        const EXPECTED: &str = "mu and logvar, two tensors of one shape [B, L] or [B, c, h, w], or mu alone";
        let tensors = self.chosen(self.call("encode", x, EXPECTED)?)?;
        let (mean, log_var) = match tensors {
            (Some(mean), log_var) => (mean, log_var),
            (None, _) => return Err(self.unexpected("encode", EXPECTED, "no tensor")),
        };
        let batch = x.size().first().copied().unwrap_or(0);
        let size = mean.size();
        if size.first().is_some_and(|n| *n != batch) {
            return Err(self.of_another_batch("encode", batch, size[0]));
        }
        if size.len() < 2 || mean.numel() == 0 || log_var.as_ref().is_some_and(|v| v.size() != size) {
            let found = match &log_var {
                Some(log_var) => format!("mu {size:?}, logvar {:?}", log_var.size()),
                None => format!("mu {size:?}"),
            };
            let expected = format!("mu and logvar of one shape [{batch}, L] or [{batch}, c, h, w]");
            return Err(self.unexpected("encode", &expected, found));
        }
        for (name, tensor) in [("mu", Some(&mean)), ("logvar", log_var.as_ref())] {
            tensor.map_or(Ok(()), |tensor| self.check_kind("encode", name, tensor, x))?;
        }
        *self.seen.borrow_mut() = Seen {
            sample: Some(x.size()[1..].to_vec()),
            code: (size.len() > 2).then(|| size[1..].to_vec()),
            lone: log_var.is_none(),
        };
        let flat = |t: Tensor| if size.len() > 2 { t.f_flatten(1, -1) } else { Ok(t) };
        let mean = flat(mean)?;
        let log_var = log_var.map_or_else(|| mean.f_zeros_like(), flat)?;
        Ok(Posterior { mean, log_var })
    }

    fn decode(&self, z: &Tensor) -> Result<Tensor> {
        let Seen { sample, code, .. } = self.seen.borrow().clone();
        let expected = match &sample {
            Some(sample) => {
                let shape: Vec<String> = sample.iter().map(ToString::to_string).collect();
                format!(
                    "one tensor x_hat of shape [B, {}] or [B, {}]",
                    shape.join(", "),
                    sample.iter().product::<i64>()
                )
            }
            None => "one tensor x_hat of shape [B, C, H, W] or [B, D]".to_owned(),
        };
        let expected = expected.as_str();
        let batch = z.size().first().copied().unwrap_or(0);
        let shaped = match code {
            Some(code) => z.f_reshape([&[batch], &code[..]].concat())?,
            None => z.shallow_clone(),
        };
        let tensors = self.call("decode", &shaped, expected)?;
        let [x_hat]: [Tensor; 1] = tensors.try_into().map_err(|tensors: Vec<Tensor>| {
            self.unexpected("decode", expected, format!("{} tensors", tensors.len()))
        })?;
        let size = x_hat.size();
        if size.first().is_some_and(|n| *n != batch) {
            return Err(self.of_another_batch("decode", batch, size[0]));
        }
        let fits = match (&size[..], &sample) {
            // Where samples are vectors, images are flattened.
            ([_, own @ ..], Some(sample)) if sample.len() == 1 => own.iter().product::<i64>() == sample[0],
            ([_, own @ ..], Some(sample)) => own == sample || *own == [sample.iter().product::<i64>()],
            (own, None) => own.len() >= 2,
            ([], _) => false,
        };
        if !fits {
            return Err(self.unexpected("decode", expected, format!("{size:?}")));
        }
        self.check_kind("decode", "x_hat", &x_hat, z)?;
        match sample {
            Some(sample) => Ok(x_hat.f_reshape([&[batch], &sample[..]].concat())?),
            None => Ok(x_hat),
        }
    }

    fn has_scale(&self) -> bool {
        !self.seen.borrow().lone
    }

    fn share(&self) -> Option<Box<dyn Vae>> {
        let Self { module, subject, outputs, seen, watched } = self;
        let (subject, outputs, seen, watched) = (subject.clone(), outputs.clone(), seen.clone(), watched.clone());
        Some(Box::new(Self { module: module.share().ok()?, subject, outputs, seen, watched }))
    }

    fn watch(&mut self, layers: &[String]) -> Result<()> {
        for name in layers {
            match taps::watch(&self.module, name)? {
                Found::Layer => self.watched.push(name.clone()),
                Found::Nothing => {
                    let names = taps::layers(&self.module)?;
                    return Err(Error::request(format!("{}: layers", self.subject), named(&names), name));
                }
                Found::Other => {
                    return Err(self.unexpected(name, LAYER, "one that they do not call, or of other outputs"));
                }
            }
        }
        Ok(())
    }

    fn features(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        if self.watched.is_empty() {
            return Ok(Vec::new());
        }
        let taps = Taps::open();
        let _ = self.decode(&self.encode(x)?.mean)?;
        let mut features = Vec::new();
        for name in &self.watched {
            let outputs = taps.of(&self.module, name)?;
            let batch = x.size().first().copied();
            if outputs.is_empty() || outputs.iter().any(|output| output.size().first().copied() != batch) {
                let found =
                    outputs.first().map_or("one that they do not call".to_owned(), |o| format!("{:?}", o.size()));
                return Err(self.unexpected(name, LAYER, found));
            }
            features.extend(outputs);
        }
        Ok(features)
    }
}

/// What a watched layer should be.
const LAYER: &str = "a layer that encode or decode calls and that returns one tensor [B, ...]";

impl TorchScript {
    /// Mean and scale among the outputs of `encode`.
    fn chosen(&self, tensors: Vec<Tensor>) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let count = tensors.len();
        let take = |position: usize| (position < count).then(|| tensors[position].shallow_clone());
        match &self.outputs {
            Some(positions) => {
                if let Some(beyond) = positions.iter().find(|p| **p >= count) {
                    let expected = format!("an output number {beyond} (from 0), as --outputs says");
                    return Err(self.unexpected("encode", &expected, format!("{count} of them")));
                }
                Ok((positions.first().and_then(|p| take(*p)), positions.get(1).and_then(|p| take(*p))))
            }
            None if count <= 2 => Ok((take(0), take(1))),
            None => {
                let expected = "one or two outputs, mu and logvar (or --outputs 0,1 to say which these are)";
                Err(self.unexpected("encode", expected, format!("{count} tensors")))
            }
        }
    }

    fn of_another_batch(&self, method: &str, batch: i64, found: i64) -> Error {
        let expected = format!("{batch} results for {batch} samples");
        let found = format!(
            "{found} (traced with that batch size built in? export it by torch.jit.script, or without view(N, ...))"
        );
        self.unexpected(method, &expected, found)
    }
}

impl TorchScript {
    fn check_kind(&self, method: &str, name: &str, tensor: &Tensor, input: &Tensor) -> Result<()> {
        if tensor.f_kind()? == input.f_kind()? {
            return Ok(());
        }
        let expected = format!("{name} of the input's kind {:?}", input.f_kind()?);
        let found = tensor.f_kind()?;
        let remedy = match found {
            Kind::Half | Kind::BFloat16 => " (exported in half precision? export model.float())",
            _ => "",
        };
        Err(self.unexpected(method, &expected, format!("{found:?}{remedy}")))
    }
}
