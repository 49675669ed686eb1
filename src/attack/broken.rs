//! Images with a pixel that is not finite. Nothing can be said of an attack on them: their results are NaN, and other samples go on.

use crate::error::Result;
use tch::Tensor;

/// `[B]` bool: the images [B, ...] all of whose pixels are finite.
///
/// # Errors
/// If memory runs out.
pub fn whole(images: &Tensor) -> Result<Tensor> {
    Ok(images.f_isfinite()?.f_flatten(1, -1)?.f_all_dim(1, false)?)
}

/// The images of a batch that are broken.
#[derive(Debug)]
pub(super) struct Broken {
    /// [B, C, H, W], as they were given.
    given: Tensor,
    /// `[B]` bool.
    mask: Tensor,
}

impl Broken {
    /// Looks for broken images in `x` [B, C, H, W]; returns what searches may see in their place as well: 0 for each such pixel.
    pub fn among(x: &Tensor) -> Result<(Self, Tensor)> {
        let mask = whole(x)?.f_logical_not()?;
        let stand_ins = x.f_masked_fill(&x.f_isfinite()?.f_logical_not()?, 0.0)?;
        Ok((Self { given: x.shallow_clone(), mask }, stand_ins))
    }

    /// `[B]` bool.
    pub fn mask(&self) -> &Tensor {
        &self.mask
    }

    /// `images` [B, C, H, W], the broken as they were given.
    pub fn restored(&self, images: &Tensor) -> Result<Tensor> {
        Ok(self.given.f_where_self(&self.mask.f_view([-1, 1, 1, 1])?, images)?)
    }
}
