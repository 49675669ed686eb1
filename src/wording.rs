//! The messages of libtorch that this crate reacts to; they are recognised only here.
//!
//! libtorch has no error codes, only texts. Check them here for a new version of libtorch.

/// Texts by which a message is recognised; any one of them is enough.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wording(&'static [&'static str]);

impl Wording {
    /// Whether a message, in any of its lines, contains one of the texts.
    pub fn is_in(self, message: &str) -> bool {
        self.0.iter().any(|words| message.contains(words))
    }
}

/// Memory ran out, on the CPU or on CUDA, for libtorch or one of its libraries.
pub(crate) const OUT_OF_MEMORY: Wording = Wording(&[
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "bad_alloc",
    "could not create a memory",
    // cuDNN, if no algorithm's workspace fits; cuBLAS, cuSOLVER and cuDNN, for handles and workspaces.
    "unable to find an engine",
    "ALLOC_FAILED",
]);

/// An operation has no second derivative.
pub(crate) const ONCE_DIFFERENTIABLE: Wording =
    Wording(&["is not implemented", "not differentiable", "once_differentiable", "not supported"]);

/// Our own rules for folded passes (`kernels/folded.cpp`) do not know an operation of the model.
pub(crate) const NOT_FOLDED: Wording = Wording(&["folded: "]);

/// A module's code asks for a GPU that this libtorch does not have.
pub(crate) const ASKS_FOR_CUDA: Wording =
    Wording(&["NVIDIA driver", "CUDA", "cuda:", "not linked with support for cuda"]);

/// A module's code names another device than that of its input.
pub(crate) const OTHER_DEVICE: Wording = Wording(&["Expected all tensors to be on the same device", "is on cpu"]);

/// A module's code contains a fixed number of images.
pub(crate) const FIXED_BATCH: Wording = Wording(&["is invalid for input of size"]);

/// A module was exported in half precision.
pub(crate) const HALF_PRECISION: Wording = Wording(&["Half", "BFloat16"]);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};
    use tch::{Device, Kind, Tensor};

    #[test]
    fn libtorch_speaks_as_is_expected() {
        // More than any machine has: libtorch itself says so.
        let error = Error::from(Tensor::f_zeros([1 << 46], (Kind::Double, Device::Cpu)).unwrap_err());
        assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
        assert!(!error.is_of_the_way());
        let words = Tensor::zeros([2, 3], (Kind::Float, Device::Cpu)).f_view([4, 4]).unwrap_err().to_string();
        assert!(FIXED_BATCH.is_in(&words) && !OUT_OF_MEMORY.is_in(&words), "{words}");
        assert_eq!(Error::from(tch::TchError::Torch(words)).kind(), ErrorKind::Libtorch);
    }

    #[test]
    fn every_cause_has_a_kind_of_its_own() {
        let native = |message: &str| Error::Native { routine: "vjp", message: message.to_owned() };
        let numeric = Error::numeric("eigensolver", "no convergence");
        let internal = Error::internal("pipeline", "no thread");
        let io = Error::Io { path: "a".into(), source: std::io::ErrorKind::StorageFull.into() };
        let kinds = [
            (Error::request("eps", "one", "none"), ErrorKind::Request, false, 2),
            (io, ErrorKind::Io, false, 1),
            (native("CUDA out of memory."), ErrorKind::OutOfMemory, false, 1),
            (native("folded: no rule"), ErrorKind::Native, true, 1),
            (numeric, ErrorKind::Numeric, true, 1),
            (internal, ErrorKind::Internal, false, 1),
            (Error::Interrupted, ErrorKind::Interrupted, false, 1),
        ];
        for (error, kind, of_the_way, code) in kinds {
            assert_eq!((error.kind(), error.is_of_the_way(), error.exit_code()), (kind, of_the_way, code), "{error}");
        }
        assert!(NOT_FOLDED.is_in(&native("folded: no rule").to_string()));
        assert!(native("derivative is not implemented").is_once_differentiable());
        assert!(!Error::numeric("a", "is not implemented").is_once_differentiable());
        let placed = Error::numeric("training", "no number").at("model b1 (1 of 2 failed)");
        assert_eq!(placed.to_string(), "training: model b1 (1 of 2 failed): no number");
    }
}
