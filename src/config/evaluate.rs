//! The `score` and `attack` keys: what is computed of which samples.

use super::Target;
use super::precision::Precision;
use super::samples::{at_least_one, one_part};
use crate::attack::{self, AttackSpec, Goal, Norm};
use crate::data::Split;
use crate::error::{Error, Result};
use crate::metric::MetricKind;
use crate::model::{Defence, JudgeReads};
use crate::spectrum::SpectrumSpec;
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::path::PathBuf;

/// Whether attacked images are clipped to [0, 1]. In YAML `true` and `false` are `on` and `off`, as they are in its older versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum PixelBox {
    /// They are clipped.
    #[default]
    On,
    /// They are not clipped, as in the authors' experiments.
    Off,
}

impl<'de> Deserialize<'de> for PixelBox {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OnOrOff;
        impl Visitor<'_> for OnOrOff {
            type Value = PixelBox;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("on or off")
            }

            fn visit_bool<E: serde::de::Error>(self, on: bool) -> Result<PixelBox, E> {
                Ok(if on { PixelBox::On } else { PixelBox::Off })
            }

            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<PixelBox, E> {
                match word {
                    "on" => Ok(PixelBox::On),
                    "off" => Ok(PixelBox::Off),
                    _ => Err(E::unknown_variant(word, &["on", "off"])),
                }
            }
        }
        deserializer.deserialize_any(OnOrOff)
    }
}

/// Whether clean and attacked images and their reconstructions are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SaveImages {
    /// They are stored.
    Yes,
    /// They are not stored.
    #[default]
    No,
}

/// The `score` key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScoreConfig {
    /// The pullback metric.
    pub metric: MetricKind,
    /// How many eigenvectors are kept as images.
    pub top: usize,
    /// How spectra are found: whole, or only the top eigenvalues by products with the Jacobian.
    pub spectrum: SpectrumSpec,
    /// How far a reconstruction may change, in L2, for the margin of robustness, with the metric `mean`; no margin if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
    /// Precision of the model's passes.
    pub precision: Precision,
    /// The part of the data.
    pub split: Split,
    /// The number of samples, from the first; all if absent.
    pub limit: Option<usize>,
    /// The number of samples in a random draw by the seed, in place of the first ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample: Option<usize>,
}

impl ScoreConfig {
    pub(super) fn validate(&self) -> Result<()> {
        one_part("score", self.limit, self.sample)?;
        if let Some(r) = self.margin.filter(|r| !(r.is_finite() && *r > 0.0)) {
            return Err(Error::request("score.margin (--margin)", "a finite number > 0", r.to_string()));
        }
        self.spectrum.check("score.spectrum")
    }
}

/// The `attack` key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AttackConfig {
    /// The attacks, each once: `[{kind: spectral, top: 5}, {kind: pgd, steps: 40}]`.
    pub attacks: Vec<AttackSpec>,
    /// The norm in which epsilon counts.
    pub norm: Norm,
    /// Sizes of the perturbation; if absent, 0.5, 1, 2 and 4 in L2, 0.05, 0.1 and 0.2 in Linf, 5, 10, 20 and 40 in L1.
    pub eps: Option<Vec<f64>>,
    /// What the attacks lead towards, if they do not lead away: `zero`, `shuffle`, a position, `code:FILE` or a data set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// Draws of the latent code over which goals of the reconstruction take the mean; if absent, the code is mu.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eot: Option<usize>,
    /// Defences in front of the model, which clean and attacked images go through: `[jpeg:75, resize:14]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub through: Vec<Defence>,
    /// A TorchScript file whose `forward` judges codes or reconstructions, for the goal `judge`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judge: Option<PathBuf>,
    /// Which of them the judge is given: `latent` or `reconstruction`.
    pub judge_reads: JudgeReads,
    /// Names of layers in the model (`encoder.0`) whose outputs the goals `layers` and `grill` change.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
    /// The metric whose eigenvectors the spectral attack takes.
    pub metric: MetricKind,
    /// How its eigenvectors are found.
    pub spectrum: SpectrumSpec,
    /// Clip to [0, 1] or not.
    #[serde(rename = "box")]
    pub pixels: PixelBox,
    /// Store images or not.
    pub images: SaveImages,
    /// Pixels of attacked images are multiples of 1/255, as an 8-bit file has them, and are judged as such.
    #[serde(skip_serializing_if = "is_off")]
    pub rounded: bool,
    /// Precision of the model's passes.
    pub precision: Precision,
    /// The part of the data.
    pub split: Split,
    /// The number of samples, from the first; all if absent.
    pub limit: Option<usize>,
    /// The number of samples in a random draw by the seed, in place of the first ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample: Option<usize>,
}

/// A setting that is off is not written.
fn is_off(value: &bool) -> bool {
    !*value
}

impl Default for AttackConfig {
    fn default() -> Self {
        Self {
            attacks: ["spectral", "random", "race"].iter().filter_map(|name| name.parse().ok()).collect(),
            norm: Norm::default(),
            eps: None,
            target: None,
            eot: None,
            through: vec![],
            judge: None,
            judge_reads: JudgeReads::default(),
            layers: Vec::new(),
            metric: MetricKind::default(),
            spectrum: SpectrumSpec::default(),
            pixels: PixelBox::default(),
            images: SaveImages::default(),
            rounded: false,
            precision: Precision::default(),
            split: Split::default(),
            limit: None,
            sample: None,
        }
    }
}

impl AttackConfig {
    /// Sizes of the perturbation: the requested ones, or the norm's defaults.
    pub fn eps(&self) -> Vec<f64> {
        self.eps.clone().unwrap_or_else(|| match self.norm {
            Norm::L2 => vec![0.5, 1.0, 2.0, 4.0],
            Norm::Linf => vec![0.05, 0.1, 0.2],
            Norm::L1 => vec![5.0, 10.0, 20.0, 40.0],
        })
    }

    pub(super) fn validate(&self) -> Result<()> {
        one_part("attack", self.limit, self.sample)?;
        self.spectrum.check("attack.spectrum")?;
        self.metric.ensure_of_images("attack.metric")?;
        let named = |e: Error| match e {
            Error::Request { subject, expected, found } => {
                Error::request(format!("attack: {subject}"), expected, found)
            }
            other => other,
        };
        attack::distinct(&self.attacks).map_err(named)?;
        if let Some(wrong) = self.attacks.iter().find(|a| self.target.is_some() && !a.goal().is_distance()) {
            let expected = "a goal that is a distance, such as latent";
            return Err(Error::request("attack.target", expected, format!("goal {}", wrong.goal())));
        }
        // A damage towards a target is minus a distance, which is never above 0.
        if self.target.is_some() && self.attacks.iter().any(|a| matches!(a, AttackSpec::Minimal(_))) {
            return Err(Error::request("attack.target", "attacks other than minimal", "minimal"));
        }
        at_least_one("attack.eot", self.eot)?;
        self.fits_goals()?;
        self.attacks.iter().try_for_each(|spec| spec.check(self.norm)).map_err(named)?;
        match self.eps().iter().find(|e| !(e.is_finite() && **e > 0.0)) {
            Some(wrong) => Err(Error::request("attack.eps", "numbers > 0", wrong.to_string())),
            None if self.eps().is_empty() => Err(Error::request("attack.eps", "at least one number", "none")),
            None => Ok(()),
        }
    }
    /// A judge and layers are given where a goal reads them, and only there.
    fn fits_goals(&self) -> Result<()> {
        let needs: [(&[Goal], _, _, _); 2] = [
            (&[Goal::Judge], self.judge.is_some(), "attack.judge (--judge)", "a TorchScript file"),
            (&[Goal::Layers, Goal::Grill], !self.layers.is_empty(), "attack.layers (--layers)", "names of layers"),
        ];
        for (goals, given, key, expected) in needs {
            let wanted = self.attacks.iter().map(AttackSpec::goal).find(|goal| goals.contains(goal));
            match (wanted, given) {
                (Some(goal), false) => {
                    return Err(Error::request(key, format!("{expected}, for the goal {goal}"), "none"));
                }
                (None, true) => {
                    let names: Vec<String> = goals.iter().map(Goal::to_string).collect();
                    let found: Vec<String> = self.attacks.iter().map(|attack| attack.goal().to_string()).collect();
                    let expected = format!("an attack with the goal {}", names.join(" or "));
                    return Err(Error::request(key, expected, found.join(", ")));
                }
                _ => {}
            }
        }
        let reads = self.attacks.iter().find(|attack| attack.goal().needs_features());
        match (reads, &self.target) {
            (Some(attack), Some(target @ (Target::Zero | Target::Code(_)))) => {
                let expected = format!("an image, because the goal {} has no value for a code alone", attack.goal());
                Err(Error::request("attack.target", expected, target.to_string()))
            }
            _ => Ok(()),
        }
    }
}
