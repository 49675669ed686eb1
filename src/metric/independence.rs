//! The precondition of every batched Jacobian: a sample's code depends on that sample only.

use crate::error::{Error, Result};
use crate::jacobian::Reach;
use crate::model::Vae;
use tch::Tensor;

/// The largest difference between two encodings of the same sample, relative to their size; rounding is far smaller.
const TOLERANCE: f64 = 1e-4;

/// Encodes (and, if asked, decodes) the first image of `x` [B, C, H, W] twice, and together with a different image after it, and before it.
/// Refuses the model if the result changes, and names the cause: noise drawn inside, batch normalisation in training mode, dropout, a
/// recurrence along the batch.
///
/// # Errors
/// A wrong request, as described.
pub fn ensure_independent(vae: &dyn Vae, x: &Tensor, reach: Reach) -> Result<()> {
    tch::no_grad(|| {
        let first = x.f_narrow(0, 0, 1)?;
        let companion = |scale: f64, shift: f64| first.f_flip([-1])?.f_mul_scalar(scale)?.f_add_scalar(shift);
        let (near, far) = (companion(0.5, 0.0)?, companion(-0.25, 0.75)?);
        // A state that runs along the batch shows in what comes later.
        let (one, other) = (Tensor::f_cat(&[&first, &near], 0)?, Tensor::f_cat(&[&far, &first], 0)?);
        let (a, again, b) = (vae.encode(&one)?, vae.encode(&one)?, vae.encode(&other)?);
        for (a, again, b) in [(&a.mean, &again.mean, &b.mean), (&a.log_var, &again.log_var, &b.log_var)] {
            deterministic("encoder", a, again)?;
            independent("encoder", a, b, LAST)?;
        }
        // A judge and watched layers; nothing for other models.
        let (a_few, again, others) = (vae.features(&one)?, vae.features(&one)?, vae.features(&other)?);
        for ((a, again), b) in a_few.iter().zip(&again).zip(&others) {
            deterministic(FEATURES, a, again)?;
            independent(FEATURES, a, b, LAST)?;
        }
        if reach == Reach::EncoderAndDecoder {
            let code = a.mean.f_narrow(0, 0, 1)?;
            let (near, far) = (code.f_add_scalar(1.0)?, code.f_add_scalar(-0.5)?);
            let pair = || -> Result<Tensor> { vae.decode(&Tensor::f_cat(&[&code, &near], 0)?) };
            let a = pair()?;
            deterministic("decoder", &a, &pair()?)?;
            independent("decoder", &a, &vae.decode(&Tensor::f_cat(&[&far, &code], 0)?)?, LAST)?;
        }
        Ok(())
    })
}

/// Where the sample stands that came first before.
const LAST: i64 = 1;

/// What goals read beside codes and reconstructions.
const FEATURES: &str = "judge or layers";

fn deterministic(part: &str, a: &Tensor, again: &Tensor) -> Result<()> {
    let found = |gap| format!("one that moves by {gap:.1e} when it is asked again (dropout, or noise drawn inside?)");
    agree(part, a, (again, 0), "the same result for the same samples (export the model after .eval())", found)
}

/// The first of `a` and the sample number `place` of `b`.
fn independent(part: &str, a: &Tensor, b: &Tensor, place: i64) -> Result<()> {
    let found = |gap| {
        format!(
            "a sample whose result moves by {gap:.1e} with its neighbours (batch norm in training mode, or a recurrence along the batch?)"
        )
    };
    agree(part, a, (b, place), "samples that do not depend on each other (export the model after .eval())", found)
}

/// NaN counts as agreement here; it is reported later, with its sample.
fn agree(
    part: &str,
    a: &Tensor,
    (b, place): (&Tensor, i64),
    expected: &str,
    found: impl Fn(f64) -> String,
) -> Result<()> {
    let (a, b) = (a.f_narrow(0, 0, 1)?, b.f_narrow(0, place, 1)?);
    crate::error::ensure_shape(&format!("the model's {part} when it is asked again"), &b, &a.size())?;
    let scale = a.f_abs()?.f_max()?.f_double_value(&[])?;
    let gap = a.f_sub(&b)?.f_abs()?.f_max()?.f_double_value(&[])?;
    if gap > TOLERANCE * scale.max(1e-30) && gap > f64::from(f32::MIN_POSITIVE) {
        return Err(Error::request(format!("the model's {part}"), expected, found(gap)));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::Posterior;
    use std::cell::Cell;
    use tch::{Device, Kind};

    /// Its code is longer each time.
    struct Growing(Cell<i64>);

    impl Vae for Growing {
        fn encode(&self, x: &Tensor) -> Result<Posterior> {
            self.0.set(self.0.get() + 1);
            let code = Tensor::f_zeros([x.size()[0], self.0.get()], (x.kind(), x.device()))?;
            Ok(Posterior { mean: code.shallow_clone(), log_var: code })
        }
        fn decode(&self, z: &Tensor) -> Result<Tensor> {
            Ok(z.shallow_clone())
        }
    }

    #[test]
    fn a_code_of_another_shape_is_refused() {
        let x = Tensor::zeros([1, 1, 2, 2], (Kind::Float, Device::Cpu));
        let error = ensure_independent(&Growing(Cell::new(1)), &x, Reach::Encoder).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("the model's encoder when it is asked again"), "{error}");
    }
}
