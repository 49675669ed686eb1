//! Format 2: the kinds of files, the data sets that they may contain, and which of their axes counts samples.

use super::columns::Dtype;
use crate::error::{Error, Result};

/// The number of the file format, root attribute `pullback_format`. A file that is still being written holds 0.
pub const FORMAT: i64 = 2;
/// The oldest format that is read. Its sweeps have composed names in place of groups: `/attack/unit-u1`, `/correlation/all.beta.trace`.
pub const OLDEST: i64 = 1;

/// Positions in the data set, `[N]`.
pub(super) const INDEX: &str = "/index";
/// Classes, `[N]`.
pub(super) const LABEL: &str = "/label";
/// Positions of the images that are the samples' targets, `[N]`.
pub(super) const TARGET: &str = "/target";

/// The kind of a result file.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "lowercase")]
pub enum FileKind {
    /// Spectra and scores, one row for each sample.
    #[default]
    Scores,
    /// Attacks and their measures, one row for each sample and size.
    Attack,
    /// Several models of a grid, with correlations.
    Sweep,
}

impl FileKind {
    /// Its name in the attribute `kind`.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// One data set of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetInfo {
    /// Its path, `/scores/trace`.
    pub path: String,
    /// Its element type; `None` if it is not one of the format's.
    pub dtype: Option<Dtype>,
    /// Its shape.
    pub shape: Vec<usize>,
}

/// Which axis of the data set at `path` counts samples; `None` if none does (`/eps`, `/beta`).
///
/// A sweep puts its points first, so that `/scores/<name>` is `[S, N]` there.
pub fn sample_axis(kind: FileKind, path: &str) -> Option<usize> {
    let parts: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    let point = usize::from(kind == FileKind::Sweep);
    match parts.as_slice() {
        ["index" | "label" | "checksum" | "target"] => Some(0),
        ["scores" | "scores_se" | "spectrum" | "margin" | "clean" | "flags", _] => Some(point),
        // By epsilon: the measures, the goal's value, and the passes through the model.
        ["curve", "passes"] => None,
        ["attack" | "passes", _, _] | ["further", _, "attack", _, _] | ["damage" | "smallest" | "curve", _] => {
            Some(point + 1)
        }
        _ => None,
    }
}

/// Checks that `path` is absolute and made of plain names, so that every tool can address it.
pub(super) fn check_path(path: &str) -> Result<()> {
    let plain = |name: &str| {
        !name.is_empty()
            && name != "."
            && name != ".."
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.+=".contains(&b))
    };
    match path.strip_prefix('/') {
        Some(rest) if rest.split('/').all(plain) => Ok(()),
        _ => {
            Err(Error::request("path of a column", "/name/name of letters, digits and _ - . + =", format!("{path:?}")))
        }
    }
}
