//! Draws of the latent code: what a goal expects of a model that samples z ~ q(z|x), in place of what it is at the mean.
//!
//! Source: Athalye, Engstrom, Ilyas & Kwok 2018 (expectation over transformation), with the model's own noise for the transformation:
//! z = mu + sigma noise (Kingma & Welling 2014). The search has the same draws at every step; the judge has others.

use crate::error::Result;
use crate::seed::{self, Stage};
use tch::{Kind, Tensor};

/// The number of fresh draws by which an attack is judged.
pub(super) const FRESH: usize = 64;

/// Whose draws they are; each is a range of streams of [`Stage::Query`], of which the multiples of 2^33 belong to blind searches.
#[derive(Clone, Copy, Debug)]
pub(super) enum Of {
    Search,
    Judge,
}

/// The noise of draw `k` for each sample, [B, L], of the kind and device of `like` [B, L]; it depends on (seed, index, k) only.
pub(super) fn draw(seed: u64, index: &[u64], of: Of, k: usize, like: &Tensor) -> Result<Tensor> {
    let first = match of {
        Of::Search => 1u64,
        Of::Judge => 1 << 32,
    };
    let latents = like.size()[1].max(0) as usize;
    let noise = seed::normal_stream(seed, Stage::Query, first + k as u64, index, latents)?;
    Ok(noise.f_to_device(like.device())?.f_to_kind(like.kind())?)
}

/// The first `count` draws of a search, [N, B, L].
pub(super) fn search(seed: u64, index: &[u64], count: usize, like: &Tensor) -> Result<Tensor> {
    let draws = (0..count).map(|k| draw(seed, index, Of::Search, k, like));
    Ok(Tensor::f_stack(&draws.collect::<Result<Vec<_>>>()?, 0)?)
}

/// The mean of a goal's values `[B]` over draws.
pub(super) fn mean(
    draws: impl Iterator<Item = Result<Tensor>>,
    value: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<Option<Tensor>> {
    let (mut sum, mut count) = (None::<Tensor>, 0u32);
    for noise in draws {
        let value = value(&noise?)?.f_to_kind(Kind::Double)?;
        sum = Some(match sum {
            Some(sum) => sum.f_add(&value)?,
            None => value,
        });
        count += 1;
    }
    sum.map(|sum| Ok(sum.f_div_scalar(f64::from(count))?)).transpose()
}

/// `a` + `b`, where there is one.
pub(super) fn plus(a: Option<Tensor>, b: Option<Tensor>) -> Result<Option<Tensor>> {
    Ok(match (a, b) {
        (Some(a), Some(b)) => Some(a.f_add(&b)?),
        (a, b) => a.or(b),
    })
}
