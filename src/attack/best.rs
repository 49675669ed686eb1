//! The most harmful images met so far, sample by sample.

use crate::error::Result;
use tch::Tensor;

/// Images and their damage; empty at first.
#[derive(Default)]
pub(super) struct Best {
    images: Option<Tensor>,
    damage: Option<Tensor>,
}

impl Best {
    /// Takes `images` [B, C, H, W] where their `damage` `[B]` is larger, or a number where none was before.
    pub(super) fn offer(&mut self, images: Tensor, damage: Tensor) -> Result<()> {
        (self.images, self.damage) = match (self.images.take(), self.damage.take()) {
            (Some(old_images), Some(old)) => {
                let better = exceeds(&damage, &old)?;
                let pixels = better.f_reshape([-1, 1, 1, 1])?;
                let images = images.f_where_self(&pixels, &old_images)?;
                (Some(images), Some(damage.f_where_self(&better, &old)?))
            }
            _ => (Some(images), Some(damage)),
        };
        Ok(())
    }

    /// What was kept, [B, C, H, W]; `None` where nothing was offered.
    pub(super) fn into_images(self) -> Option<Tensor> {
        self.images
    }
}

/// `[B]` bool: `a` > `b`, or `a` is a number where `b` is not.
pub(super) fn exceeds(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let rescues = b.f_isnan()?.f_logical_and(&a.f_isnan()?.f_logical_not()?)?;
    Ok(a.f_gt_tensor(b)?.f_logical_or(&rescues)?)
}
