//! Masked gradients: the metric is 0 although the code depends on the image (rounding, argmax, a detached input).

use crate::error::Result;
use crate::event::{Event, Observer};
use crate::model::Vae;
use crate::seed::{self, Stage};
use tch::{Device, Kind, Tensor};

/// Standard deviation of the added noise, in pixel units: several levels of an 8-bit image.
const NOISE: f64 = 0.05;
/// A separate stream of [`Stage::Probe`].
const STREAM: u64 = 7;

/// Counts samples whose metric is 0 although their code moves.
#[derive(Debug, Default)]
pub(super) struct Masked {
    found: usize,
}

impl Masked {
    /// 1 for each sample of `x` [B, C, H, W], at the positions `index`, whose first of `eigenvalues` [B, R] is 0 although noise on its
    /// pixels changes its code; otherwise 0. [B] bytes. The model is called only for samples whose eigenvalue is 0.
    pub fn of(&mut self, vae: &dyn Vae, x: &Tensor, index: &[u64], eigenvalues: &Tensor) -> Result<Tensor> {
        let rows = eigenvalues.size()[0];
        let flags = Tensor::f_zeros([rows], (Kind::Uint8, Device::Cpu))?;
        let flat = Vec::<bool>::try_from(&eigenvalues.f_select(1, 0)?.f_eq(0.0)?.f_to_device(Device::Cpu)?)?;
        let dim = x.size()[1..].iter().product::<i64>() as usize;
        for (row, _) in (0i64..).zip(flat).filter(|(_, flat)| *flat) {
            let own = x.f_narrow(0, row, 1)?;
            let noise = seed::normal_stream(0, Stage::Probe, STREAM, &index[row as usize..=row as usize], dim)?;
            let noise = noise.f_to_device(x.device())?.f_to_kind(x.kind())?.f_reshape(own.size())?;
            let moved = tch::no_grad(|| -> Result<bool> {
                let (a, b) = (vae.encode(&own)?, vae.encode(&own.f_add(&noise.f_mul_scalar(NOISE)?)?)?);
                Ok(!(a.mean.f_equal(&b.mean)? && a.log_var.f_equal(&b.log_var)?))
            })?;
            if moved {
                self.found += 1;
                let _ = flags.f_narrow(0, row, 1)?.f_fill_(1i64)?;
            }
        }
        Ok(flags)
    }

    /// Reports their number.
    pub fn tell(&self, observer: &dyn Observer) {
        if self.found > 0 {
            let line = format!(
                "scoring: {} samples have a metric of 0 although their code moves with noise: the gradient is masked (rounding, argmax, \
                 detach?), and their scores say nothing; /flags/masked names them",
                self.found
            );
            observer.on(Event::Warning(&line));
        }
    }
}
