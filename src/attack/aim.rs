//! What an attack leads away from, or leads towards.

use crate::error::Result;
use crate::model::shift::Reading;
use tch::Tensor;

/// What a goal compares a moved image with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Aim<'a> {
    /// What the model computes for the clean images, or for the target images.
    pub reference: &'a Reading,
    /// The goal's value is minus the distance.
    pub towards: bool,
    /// Noise of the draws over which goals of the reconstruction take the mean, [N, B, L]; `None`: the code is mu.
    pub draws: Option<&'a Tensor>,
}

impl Aim<'_> {
    /// The draws, one after another.
    pub(super) fn each_draw(&self) -> Result<Vec<Tensor>> {
        self.draws.map_or(Ok(vec![]), |draws| Ok(draws.f_unbind(0)?))
    }

    /// The goal's value for a distance.
    pub(super) fn signed(&self, distance: Tensor) -> Result<Tensor> {
        if self.towards { Ok(distance.f_neg()?) } else { Ok(distance) }
    }
}
