//! Where an ascent begins. It never begins at x itself, where the gradient of a distance is 0.
//!
//! No family of starts suffices alone. On one published VAE eigenvectors alone find 70 % of the known damage, noise alone 97 %; on the
//! worst image of another VAE noise finds 27 %, while directions towards other images find 69 %.

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

impl Origin {
    /// The image where the ascent begins, [B, C, H, W], on the surface of the ball.
    pub(super) fn image(self, victim: &Victim, budget: &Budget, smaller: Option<&Tensor>) -> Result<Tensor> {
        let x = victim.images();
        let direction = match self {
            Self::Eigen(i, positive) => {
                let (v, _) = victim.direction(i)?;
                if positive { v } else { v.f_neg()? }
            }
            Self::Other(k) => victim.other(k)?.f_sub(x)?,
            Self::Noise(k) => noise(victim, k)?,
            Self::Smaller => match smaller {
                Some(image) => image.f_sub(x)?,
                None => noise(victim, 0)?,
            },
        };
        budget.surface(x, &direction)
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
