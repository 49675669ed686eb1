//! Single or double precision, as users choose it; the layers below use libtorch's `Kind`.

use serde::{Deserialize, Serialize};
use tch::Kind;

/// Floating-point precision of a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, strum::Display, strum::IntoStaticStr)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Precision {
    /// Jacobians in single precision, Gram matrix and eigenvalues in double.
    #[default]
    F32,
    /// The whole pass in double.
    F64,
}

impl Precision {
    /// The tensor kind of the model's pass.
    pub fn kind(self) -> Kind {
        match self {
            Self::F32 => Kind::Float,
            Self::F64 => Kind::Double,
        }
    }

    /// `f32` or `f64`.
    pub fn name(self) -> &'static str {
        self.into()
    }
}
