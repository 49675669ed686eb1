//! What `attack` is asked for, as result files hold it.

use super::job::Subject;
use crate::attack::{AttackSpec, Norm};
use crate::config::{AttackConfig, PixelBox, SaveImages, Target};
use crate::metric::MetricKind;
use crate::model::{Defence, JudgeReads};
use crate::spectrum::SpectrumSpec;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The request of `attack`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttackRequest {
    /// The model, the data and the result file.
    #[serde(flatten)]
    pub subject: Subject,
    /// The attacks, each once.
    pub attacks: Vec<AttackSpec>,
    /// The norm of epsilon.
    pub norm: Norm,
    /// Sizes of the perturbation.
    pub eps: Vec<f64>,
    /// What the attacks lead towards, if they do not lead away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// Draws of the latent code over which goals of the reconstruction take the mean, if the code is not mu.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eot: Option<usize>,
    /// Defences in front of the model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub through: Vec<Defence>,
    /// The judge of the goal `judge`, and what it is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<PathBuf>,
    /// Which output of the model the judge is given.
    #[serde(default, skip_serializing_if = "JudgeReads::is_default")]
    pub judge_reads: JudgeReads,
    /// The layers of the goal `layers`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
    /// The metric whose directions the spectral attack takes.
    pub metric: MetricKind,
    /// How they are found.
    #[serde(default, skip_serializing_if = "SpectrumSpec::is_default")]
    pub spectrum: SpectrumSpec,
    /// Clip to [0, 1] or not.
    #[serde(rename = "box")]
    pub pixels: PixelBox,
    /// Store images or not.
    pub images: SaveImages,
    /// Pixels of attacked images are multiples of 1/255.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rounded: bool,
    /// A folder for 8-bit pictures of the attacked images.
    #[serde(skip)]
    pub pictures: Option<PathBuf>,
}

impl AttackRequest {
    /// The request that the `attack` key makes for a subject. Values of any size have no box.
    pub fn of(subject: Subject, spec: &AttackConfig) -> Self {
        let pixels = if subject.reading.is_free() { PixelBox::Off } else { spec.pixels };
        Self {
            subject,
            attacks: spec.attacks.clone(),
            norm: spec.norm,
            eps: spec.eps(),
            target: spec.target.clone(),
            eot: spec.eot,
            through: spec.through.clone(),
            judge: spec.judge.clone(),
            judge_reads: spec.judge_reads,
            layers: spec.layers.clone(),
            metric: spec.metric,
            spectrum: spec.spectrum.clone(),
            pixels,
            images: spec.images,
            rounded: spec.rounded,
            pictures: None,
        }
    }
}
