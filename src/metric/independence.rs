//! The precondition of every batched Jacobian: a sample's code depends on that sample alone.

use crate::error::{Error, Result};
use crate::jacobian::Reach;
use crate::model::Vae;
use tch::Tensor;

/// Agreement asked of two encodings of the same sample, relative to their size; rounding stays far below.
const TOLERANCE: f64 = 1e-4;

/// Encodes (and, where the metric reaches through the decoder, decodes) the first image of `x` [B, C, H, W] beside two
/// different companions and refuses the model where its code changes: batch normalisation in training mode, dropout.
pub fn ensure_independent(vae: &dyn Vae, x: &Tensor, reach: Reach) -> Result<()> {
    tch::no_grad(|| {
        let first = x.f_narrow(0, 0, 1)?;
        let companion = |scale: f64, shift: f64| -> Result<Tensor> {
            let other = first.f_flip([-1])?.f_mul_scalar(scale)?.f_add_scalar(shift)?;
            Ok(Tensor::f_cat(&[&first, &other], 0)?)
        };
        let a = vae.encode(&companion(0.5, 0.0)?)?;
        let b = vae.encode(&companion(-0.25, 0.75)?)?;
        agree("encoder", &a.mean, &b.mean)?;
        agree("encoder", &a.log_var, &b.log_var)?;
        if reach == Reach::EncoderAndDecoder {
            let code = a.mean.f_narrow(0, 0, 1)?;
            let pair =
                |shift: f64| -> Result<Tensor> { vae.decode(&Tensor::f_cat(&[&code, &code.f_add_scalar(shift)?], 0)?) };
            agree("decoder", &pair(1.0)?, &pair(-0.5)?)?;
        }
        Ok(())
    })
}

/// NaN counts as agreement here: it is reported, with its sample, where it comes from.
fn agree(part: &str, a: &Tensor, b: &Tensor) -> Result<()> {
    let (a, b) = (a.f_narrow(0, 0, 1)?, b.f_narrow(0, 0, 1)?);
    let scale = a.f_abs()?.f_max()?.f_double_value(&[])?;
    let gap = (&a - &b).f_abs()?.f_max()?.f_double_value(&[])?;
    if gap > TOLERANCE * scale.max(1e-30) && gap > f64::from(f32::MIN_POSITIVE) {
        return Err(Error::request(
            format!("the model's {part}"),
            "samples that do not depend on each other (export the model after .eval())",
            format!(
                "a sample whose result moves by {gap:.1e} with its neighbours (training-mode batch norm or dropout?)"
            ),
        ));
    }
    Ok(())
}
