//! A user's own judge of a model's output, as a goal of attacks.

use super::{Posterior, Vae, archive, foreign};
use crate::error::{Error, Result};
use crate::ffi::module::{Module, Returned};
use serde::{Deserialize, Serialize};
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// Which output of a model a judge is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum JudgeReads {
    /// mu(x), [B, L].
    Latent,
    /// r(x) = g(mu(x)), [B, C, H, W] in [0, 1].
    #[default]
    Reconstruction,
}

impl JudgeReads {
    /// True for the default.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A differentiable function of codes or reconstructions: a classifier, a detector, a metric that somebody trusts.
pub trait Judge: Send {
    /// Its answer to codes [B, L] or images [B, C, H, W]: one value for each sample, \[B\] or [B, 1], or several, [B, K].
    ///
    /// # Errors
    /// If it does not take them.
    fn of(&self, output: &Tensor) -> Result<Tensor>;
    /// The same judge for use on another thread; `None` if this is not possible.
    fn share(&self) -> Option<Box<dyn Judge>> {
        None
    }
}

/// A model with a judge, whose answer is the model's only feature ([`Vae::features`]).
pub struct Judged<V> {
    vae: V,
    judge: Box<dyn Judge>,
    reads: JudgeReads,
}

impl<V: Vae> Judged<V> {
    /// `vae` as `judge` sees it.
    pub fn new(vae: V, judge: Box<dyn Judge>, reads: JudgeReads) -> Self {
        Self { vae, judge, reads }
    }
}

impl<V: Vae> Vae for Judged<V> {
    fn encode(&self, x: &Tensor) -> Result<Posterior> {
        self.vae.encode(x)
    }

    fn decode(&self, z: &Tensor) -> Result<Tensor> {
        self.vae.decode(z)
    }

    fn has_scale(&self) -> bool {
        self.vae.has_scale()
    }

    fn share(&self) -> Option<Box<dyn Vae>> {
        Some(Box::new(Judged { vae: self.vae.share()?, judge: self.judge.share()?, reads: self.reads }))
    }

    fn features(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        let mean = self.vae.encode(x)?.mean;
        let answer = self.judge.of(&match self.reads {
            JudgeReads::Latent => mean,
            JudgeReads::Reconstruction => self.vae.decode(&mean)?,
        })?;
        let (size, batch) = (answer.size(), x.size().first().copied().unwrap_or(0));
        if size.first() != Some(&batch) || answer.numel() == 0 {
            let expected = format!("a value [{batch}] or values [{batch}, K] for {batch} samples");
            return Err(Error::request("judge", expected, format!("{size:?}")));
        }
        if !answer.is_floating_point() {
            return Err(Error::request(
                "judge",
                "floating-point values, which have a gradient",
                format!("{:?}", answer.kind()),
            ));
        }
        Ok(vec![answer])
    }
}

/// A judge from a TorchScript file, whose `forward` is asked. It is not switched to evaluation mode.
struct TorchScriptJudge {
    module: Module,
    subject: String,
}

/// Opens a judge from a TorchScript file.
///
/// # Errors
/// A wrong request if it is no such file, or has no `forward`.
pub fn open_judge(path: &Path, device: Device, kind: Kind) -> Result<Box<dyn Judge>> {
    let subject = format!("judge {}", path.display());
    archive::ensure_whole(path, &subject)?;
    let module = Module::load(path, device, kind).map_err(|error| match &error {
        Error::Native { message, .. } if !error.is_out_of_memory() => {
            Error::request(subject.clone(), "a TorchScript file (torch.jit.save)", foreign::file(path, message))
        }
        _ => error,
    })?;
    if !module.has("forward")? {
        return Err(Error::request(subject, "a TorchScript module with a method forward", "no method forward"));
    }
    Ok(Box::new(TorchScriptJudge { module, subject }))
}

impl Judge for TorchScriptJudge {
    fn of(&self, output: &Tensor) -> Result<Tensor> {
        let returned = self.module.call("forward", output).map_err(|e| raised(e, self.subject.clone(), output))?;
        let unexpected = |found: String| Error::request(self.subject.clone(), "one tensor from forward", found);
        match returned {
            Returned::Tensors(tensors) => {
                let [answer]: [Tensor; 1] = tensors
                    .try_into()
                    .map_err(|tensors: Vec<Tensor>| unexpected(format!("{} tensors", tensors.len())))?;
                Ok(answer)
            }
            Returned::Other(kind) => Err(unexpected(kind)),
        }
    }

    fn share(&self) -> Option<Box<dyn Judge>> {
        Some(Box::new(Self { module: self.module.share().ok()?, subject: self.subject.clone() }))
    }
}

/// The error of a module's method on `input`: what the module raises is the file's fault, memory that it does not get is not.
pub(super) fn raised(error: Error, subject: String, input: &Tensor) -> Error {
    let full = error.is_out_of_memory();
    match error {
        Error::Native { routine, message } => {
            let line = foreign::raised(&message, input.device() == Device::Cpu);
            if full {
                // The line that is shown is the first, and the interpreter's own says only that something failed.
                return Error::Native { routine, message: format!("{line}\n{message}") };
            }
            Error::request(subject, format!("to take {:?} {:?}", input.kind(), input.size()), line)
        }
        other => other,
    }
}

/// The names of a model's layers, for messages: the first ones, if there are many.
pub(super) fn named(names: &[String]) -> String {
    const SHOWN: usize = 20;
    match names.len() {
        0 => "a model with layers".to_owned(),
        n if n > SHOWN => format!("{} or one of {} more", names[..SHOWN].join(", "), n - SHOWN),
        n => [&names[..n - 1].join(", "), &names[n - 1]]
            .into_iter()
            .filter(|part| !part.is_empty())
            .cloned()
            .collect::<Vec<_>>()
            .join(" or "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn memory_that_runs_out_within_a_module_is_not_its_fault() {
        let input = Tensor::zeros([2, 3], (Kind::Float, Device::Cpu));
        let said = |last: &str| {
            let trace = "The following operation failed in the TorchScript interpreter.\nTraceback of TorchScript:";
            let message = format!("{trace}\n  File \"m.py\", line 3, in encode\nRuntimeError: {last}");
            raised(Error::Native { routine: "module", message }, "m.pt: encode".to_owned(), &input)
        };
        let full = said("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.");
        assert_eq!((full.kind(), full.exit_code()), (ErrorKind::OutOfMemory, 1));
        assert!(full.to_string().starts_with("module: RuntimeError: DefaultCPUAllocator: can't allocate"), "{full}");
        let wrong = said("mat1 and mat2 shapes cannot be multiplied");
        let text = "m.pt: encode: expected to take Float [2, 3], found RuntimeError: mat1 and mat2";
        assert!(wrong.exit_code() == 2 && wrong.to_string().starts_with(text), "{wrong}");
    }
}
