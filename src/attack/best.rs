//! The most harmful image found so far, for each sample.

use crate::error::Result;
use tch::Tensor;

/// Images and their damage; empty at first.
#[derive(Default)]
pub(super) struct Best {
    images: Option<Tensor>,
    damage: Option<Tensor>,
}

impl Best {
    /// Takes `images` [B, C, H, W] where their `damage` `[B]` is larger, or is a number where the old damage is NaN.
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

    /// The damage of what was kept, `[B]`; `None` if nothing was offered.
    pub(super) fn damage(&self) -> Option<&Tensor> {
        self.damage.as_ref()
    }

    /// What is kept so far, [B, C, H, W]; `None` if nothing was offered.
    pub(super) fn images(&self) -> Option<&Tensor> {
        self.images.as_ref()
    }

    /// What was kept, [B, C, H, W]; `None` if nothing was offered.
    pub(super) fn into_images(self) -> Option<Tensor> {
        self.images
    }
}

/// From several images of each sample, [B, C, H, W] each, takes the `count` with the most damage, `[B]` each, the worst first. NaN counts
/// as the least damage.
pub(super) fn survivors(images: &[Tensor], damages: &[Tensor], count: usize) -> Result<Vec<Tensor>> {
    let damage = Tensor::f_stack(damages, 0)?;
    let lost = damage.f_isnan()?;
    let damage = damage.f_masked_fill(&lost, f64::NEG_INFINITY)?;
    let count = count.min(images.len()) as i64;
    let (_, places) = damage.f_topk(count, 0, true, true)?;
    let images = Tensor::f_stack(images, 0)?;
    let mut size = images.size();
    size[0] = count;
    let places = places.f_view([count, -1, 1, 1, 1])?.f_expand(size.as_slice(), false)?;
    Ok(images.f_gather(0, &places, false)?.f_unbind(0)?)
}

/// `[B]` bool: `a` > `b`, or `a` is a number and `b` is not.
pub(super) fn exceeds(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let rescues = b.f_isnan()?.f_logical_and(&a.f_isnan()?.f_logical_not()?)?;
    Ok(a.f_gt_tensor(b)?.f_logical_or(&rescues)?)
}
