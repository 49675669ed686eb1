//! Where an ascent begins. It never begins at x itself, where the gradient of a distance is 0.
//!
//! No family of starts suffices alone. On one published VAE eigenvectors alone find 70 % of the known damage, noise alone 97 %; on the
//! worst image of another VAE noise finds 27 %, while directions towards other images find 69 %.

use super::step::vanishes;
use super::{Budget, Victim};
use crate::error::Result;
use crate::seed::{self, Stage};
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// The direction in which an ascent begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// Noise: on the sphere in L2 and L1, uniform in the cube in Linf (`pgd`) or at a corner of it (`race`).
    #[default]
    Random,
    /// Eigenvectors +v_1, -v_1, +v_2, -v_2, ...; in `pgd`, restart i takes the worse sign of v_i.
    Spectral,
    /// The direction towards another image of the data set.
    Others,
}

/// One direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// +v_i or -v_i, i from 1.
    Eigen(usize, bool),
    /// Towards the k-th of the other images that are drawn for a sample.
    Other(usize),
    /// The k-th draw.
    Noise(usize),
    /// The image found at the largest smaller epsilon, moved outwards.
    Smaller,
}

/// `count` origins: the families take turns while they have more, and each leaves out its first `skipped`. Noise never runs out.
pub(super) fn origins(victim: &Victim, families: &[Start], count: usize, skipped: usize, smaller: bool) -> Vec<Origin> {
    // The image found at a smaller epsilon takes the place of one of them.
    let mut all = Vec::with_capacity(count);
    if smaller && count > 1 {
        all.push(Origin::Smaller);
    }
    let (directions, others) = (victim.held_directions(), victim.others().map_or(0, |o| o.index.len()));
    let mut taken = [skipped; 3];
    while all.len() < count {
        let before = all.len();
        for family in families {
            if all.len() == count {
                break;
            }
            let k = taken[*family as usize];
            let origin = match family {
                Start::Spectral if k / 2 < directions => Origin::Eigen(k / 2 + 1, k % 2 == 0),
                Start::Others if k + 1 < others => Origin::Other(k),
                Start::Random => Origin::Noise(k),
                Start::Spectral | Start::Others => continue,
            };
            taken[*family as usize] += 1;
            all.push(origin);
        }
        if all.len() == before {
            all.push(Origin::Noise(taken[Start::Random as usize]));
            taken[Start::Random as usize] += 1;
        }
    }
    all
}

/// Streams of the noise that replaces directions; the streams below belong to [`Origin::Noise`].
const REPLACED: usize = 1 << 16;

impl Origin {
    /// The image where the ascent begins, [B, C, H, W], on the surface of the ball.
    pub(super) fn image(self, victim: &Victim, budget: &Budget, smaller: Option<&Tensor>) -> Result<Tensor> {
        budget.surface(victim.images(), &self.direction(victim, smaller)?)
    }

    /// Where it lies, [B, C, H, W]. Noise of its own where that is nowhere: eigenvectors beyond the rank are 0, and so is the way to an
    /// image that occurs twice.
    pub(super) fn direction(self, victim: &Victim, smaller: Option<&Tensor>) -> Result<Tensor> {
        let x = victim.images();
        let (direction, stream) = match self {
            Self::Eigen(i, positive) => {
                let (v, _) = victim.direction(i)?;
                if positive { (v, 4 * i) } else { (v.f_neg()?, 4 * i + 1) }
            }
            Self::Other(k) => (victim.other(k)?.f_sub(x)?, 4 * k + 2),
            Self::Noise(k) => return noise(victim, k),
            Self::Smaller => match smaller {
                Some(image) => (image.f_sub(x)?, 3),
                None => return noise(victim, 0),
            },
        };
        let nowhere = vanishes(&direction)?;
        // Noise is drawn on the host, so it is drawn only where it is needed.
        if nowhere.f_any()?.f_int64_value(&[])? == 0 {
            return Ok(direction);
        }
        let instead = noise(victim, REPLACED + stream)?;
        Ok(instead.f_where_self(&nowhere.f_view([-1, 1, 1, 1])?, &direction)?)
    }
}

/// What an attack with restarts found at the next smaller epsilon, for its last restart: it begins there, and the image itself competes.
/// `None` for the others, for a lone ascent, and at the smallest epsilon.
pub(super) fn carried(victim: &Victim, budget: &Budget, name: &str, trial: usize, restarts: usize) -> Option<Tensor> {
    if restarts > 1 && trial + 1 == restarts { victim.smaller(name, budget) } else { None }
}

/// The k-th normal direction of each sample, in the images' shape.
pub(super) fn noise(victim: &Victim, k: usize) -> Result<Tensor> {
    let normal = seed::normal_stream(victim.seed(), Stage::AttackStart, k as u64, victim.index(), victim.dim())?;
    victim.shaped(&normal)
}
