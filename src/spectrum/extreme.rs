//! Finds the samples that are lost only because a variance does not fit single precision.

use crate::error::Result;
use crate::metric::MetricKind;
use crate::model::Vae;
use tch::{Device, Kind, Tensor};

/// |logvar| beyond which sigma or 1/sigma may leave single precision.
const EXTREME: f64 = 60.0;

/// The rows of `images` [B, C, H, W] whose `values` [B, R] are NaN because a variance does not fit single precision: they are worth another
/// computation with their scales in double.
pub(super) fn rows(vae: &dyn Vae, images: &Tensor, values: &Tensor, metric: MetricKind) -> Result<Vec<i64>> {
    if images.kind() != Kind::Float || matches!(metric, MetricKind::Mean | MetricKind::Output | MetricKind::Decoder) {
        return Ok(vec![]);
    }
    let lost = Vec::<bool>::try_from(&values.f_select(1, 0)?.f_isnan()?.f_to_device(Device::Cpu)?)?;
    let mut rows = Vec::new();
    for (row, _) in (0i64..).zip(lost).filter(|(_, lost)| *lost) {
        let q = tch::no_grad(|| vae.encode(&images.f_narrow(0, row, 1)?))?;
        let extreme = q.log_var.f_abs()?.f_max()?.f_double_value(&[])?;
        if extreme > EXTREME && extreme.is_finite() && q.mean.f_isfinite()?.f_all()?.f_int64_value(&[])? == 1 {
            rows.push(row);
        }
    }
    Ok(rows)
}
