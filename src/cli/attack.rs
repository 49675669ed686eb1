//! The flags of `pullback attack`: what is attacked how, and the settings of attacks.

use super::flags::{Evaluate, count, parsed, path, positive};
use crate::attack::{AttackSpec, Goal, Norm, Schedule, Start, StepScale};
use crate::config::{PixelBox, Target};
use crate::model::{Defence, JudgeReads};
use std::path::PathBuf;

/// What `--metric` says here: [`Evaluate`] has it for scores too.
const METRIC: &str = "The metric whose directions attacks take; decoder, whose directions are codes, is for scores only \
                      [default: stochastic]";

/// `pullback attack`.
#[derive(Debug, clap::Args)]
#[command(mut_arg("metric", |metric| metric.help(METRIC)))]
pub struct Attack {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub evaluate: Evaluate,
    /// The attacks, comma-separated [default: spectral,random,race]
    #[arg(long, value_name = "ATTACK,...", value_delimiter = ',', value_parser = parsed::<AttackSpec>)]
    pub attack: Option<Vec<AttackSpec>>,
    /// The norm that bounds a perturbation [default: l2]
    #[arg(long, value_name = "NORM")]
    pub norm: Option<Norm>,
    /// Sizes of the perturbation, comma-separated [default: 0.5,1,2,4 in l2, 0.05,0.1,0.2 in linf, 5,10,20,40 in l1]
    #[arg(long, value_name = "E1,E2,...", value_delimiter = ',', allow_negative_numbers = true, value_parser = positive)]
    pub eps: Option<Vec<f64>>,
    /// Eigenvectors that the spectral attack tries [default: 1]
    #[arg(long, value_name = "K", allow_negative_numbers = true, value_parser = count)]
    pub top: Option<usize>,
    /// Spectral attack: step epsilon, or epsilon times the eigenvalue or the singular value (l2 only) [default: unit]
    #[arg(long, value_name = "SCALE")]
    pub scale: Option<StepScale>,
    /// What counts as damage [default: latent]
    #[arg(long, value_name = "GOAL")]
    pub goal: Option<Goal>,
    /// Steps of the attacks pgd [default: 40], apgd and universal [default: 100], spectral-iterated and minimal [default: 10]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = count)]
    pub steps: Option<usize>,
    /// Length of the first step of pgd, in epsilon [default: 2.5 / steps if constant, 2 if linear]
    #[arg(long, value_name = "S", allow_negative_numbers = true, value_parser = positive)]
    pub step: Option<f64>,
    /// Searches of pgd, apgd, square, spectral-iterated [default: 1] and universal [default: 3], of which the worst counts
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = count)]
    pub restarts: Option<usize>,
    /// What an ascent of pgd and apgd begins along [default: random]
    #[arg(long, value_name = "START")]
    pub start: Option<Start>,
    /// What the ascents of race begin along, in turn, comma-separated [default: spectral,others,random]
    #[arg(long, value_name = "START,...", value_delimiter = ',')]
    pub starts: Option<Vec<Start>>,
    /// How the steps of pgd change on the way [default: constant]
    #[arg(long, value_name = "SCHEDULE")]
    pub schedule: Option<Schedule>,
    /// What the steps of pgd keep of the direction of those before, 0 to below 1 [default: 0]
    #[arg(long, value_name = "M", allow_negative_numbers = true)]
    pub momentum: Option<f64>,
    /// Forward and backward passes a sample, of the attacks race and minimal [default: 120] and transfer [default: 552]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = count)]
    pub budget: Option<usize>,
    /// Directions that random draws, both signs of each [default: 1]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = count)]
    pub draws: Option<usize>,
    /// Forward passes a sample, of each search of square [default: 500]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = count)]
    pub queries: Option<usize>,
    /// Damage, in units of the goal, that the attack minimal does with as small a perturbation as it can
    #[arg(long, value_name = "DAMAGE", allow_negative_numbers = true)]
    pub reach: Option<f64>,
    /// Samples that the attack universal is fitted on; the others judge it [default: half, at most 512]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = count)]
    pub universal_on: Option<usize>,
    /// Lead towards the code 0, another image for each, the image at a position, a file's codes, or the first of a data set
    #[arg(long, value_name = "zero|shuffle|N|code:FILE|DATA", value_parser = parsed::<Target>)]
    pub target: Option<Target>,
    /// Draws of the latent code over which goals of the reconstruction take the mean; unless given, the code is mu
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = count)]
    pub eot: Option<usize>,
    /// Defences in front of the model, which clean and attacked images go through
    #[arg(long, value_name = "jpeg[:Q],resize[:S]", value_delimiter = ',', value_parser = parsed::<Defence>)]
    pub through: Option<Vec<Defence>>,
    /// A TorchScript file whose forward judges codes or reconstructions; the goal is then what it says (goal judge)
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub judge: Option<PathBuf>,
    /// What the judge is given [default: reconstruction]
    #[arg(long, value_name = "OUTPUT", requires = "judge")]
    pub judge_reads: Option<JudgeReads>,
    /// Layers of the model, by name; the goal is then the change of their outputs (goal layers, unless it is grill)
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', conflicts_with = "judge")]
    pub layers: Option<Vec<String>>,
    /// Clip attacked images to [0, 1] [default: on]
    #[arg(long = "box", value_name = "on|off")]
    pub pixels: Option<PixelBox>,
    /// Keep the attacked images
    #[arg(long)]
    pub save_images: bool,
    /// Write the attacked images as 8-bit PNG files; they are judged as rounded
    #[arg(long, value_name = "DIR", value_parser = path())]
    pub save_png: Option<PathBuf>,
}
