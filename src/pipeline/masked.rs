//! Masked gradients: the metric is 0 although what it measures depends on the image (rounding, argmax, a detached input).

use crate::error::Result;
use crate::event::{Event, Observer};
use crate::metric::MetricKind;
use crate::model::{Posterior, Vae};
use crate::seed::{self, Stage};
use tch::{Device, Kind, Tensor};

/// Standard deviation of the added noise, in pixel units: several levels of an 8-bit image.
const NOISE: f64 = 0.05;
/// A separate stream of [`Stage::Probe`].
const STREAM: u64 = 7;

/// Counts samples whose metric is 0 although what it measures moves.
#[derive(Debug)]
pub(super) struct Masked {
    metric: MetricKind,
    found: usize,
}

impl Masked {
    /// Nothing is counted yet.
    pub fn of_metric(metric: MetricKind) -> Self {
        Self { metric, found: 0 }
    }

    /// 1 for each sample of `x` [B, C, H, W], at the positions `index`, whose first of `eigenvalues` [B, R] is 0 although noise on its
    /// pixels changes what the metric measures; otherwise 0. [B] bytes. The model is called only for samples whose eigenvalue is 0.
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
                self.moves(vae, &a, &b)
            })?;
            if moved {
                self.found += 1;
                let _ = flags.f_narrow(0, row, 1)?.f_fill_(1i64)?;
            }
        }
        Ok(flags)
    }

    /// Whether what the metric measures differs between two posteriors.
    fn moves(&self, vae: &dyn Vae, a: &Posterior, b: &Posterior) -> Result<bool> {
        let mean = || -> Result<bool> { Ok(!a.mean.f_equal(&b.mean)?) };
        // In double, where a width that the metric knows is not 0.
        let width =
            |q: &Posterior| -> Result<Tensor> { Ok(q.log_var.f_to_kind(Kind::Double)?.f_mul_scalar(0.5)?.f_exp()?) };
        let widths = || -> Result<bool> { Ok(!width(a)?.f_equal(&width(b)?)?) };
        let output = |a: &Tensor, b: &Tensor| -> Result<bool> { Ok(!vae.decode(a)?.f_equal(&vae.decode(b)?)?) };
        Ok(match self.metric {
            MetricKind::Mean => mean()?,
            MetricKind::Stochastic => mean()? || widths()?,
            MetricKind::Fisher => mean()? || !a.log_var.f_equal(&b.log_var)?,
            MetricKind::Output => output(&a.mean, &b.mean)?,
            MetricKind::OutputStochastic => {
                // The same draw of both codes.
                let draw = a.mean.f_ones_like()?;
                output(&a.mean, &b.mean)? || output(&a.sample(&draw)?, &b.sample(&draw)?)?
            }
            // It has no part of the image in it.
            MetricKind::Decoder => false,
        })
    }

    /// Reports their number.
    pub fn tell(&self, observer: &dyn Observer) {
        if self.found > 0 {
            let what = match self.metric {
                MetricKind::Output | MetricKind::OutputStochastic => "reconstruction",
                _ => "code",
            };
            let line = format!(
                "scoring: {} samples have a metric of 0 although their {what} moves with noise: the gradient is masked (rounding, argmax, \
                 detach?), and their scores say nothing; /flags/masked names them",
                self.found
            );
            observer.on(Event::Warning(&line));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A model of which some parts depend on the image.
    struct Partly {
        mean: bool,
        width: bool,
        output: bool,
    }

    impl Vae for Partly {
        fn encode(&self, x: &Tensor) -> Result<Posterior> {
            let code = x.f_flatten(1, -1)?;
            let part =
                |moves: bool| Ok::<_, crate::error::Error>(if moves { code.f_square()? } else { code.f_zeros_like()? });
            Ok(Posterior { mean: part(self.mean)?, log_var: part(self.width)? })
        }
        fn decode(&self, z: &Tensor) -> Result<Tensor> {
            let image = z.f_view([-1, 1, 1, 2])?;
            Ok(if self.output { image } else { image.f_zeros_like()? })
        }
    }

    /// Every metric that is 0 is one of a part that does not move, or it is masked.
    #[test]
    fn only_what_the_metric_measures_is_asked() {
        let x = Tensor::from_slice(&[0.2f32, 0.4]).view([1, 1, 1, 2]);
        let none = Tensor::zeros([1, 2], (Kind::Double, Device::Cpu));
        let flag = |metric, (mean, width, output)| {
            let found = Masked::of_metric(metric).of(&Partly { mean, width, output }, &x, &[3], &none).unwrap();
            found.int64_value(&[0]) == 1
        };
        use MetricKind::{Decoder, Fisher, Mean, Output, OutputStochastic, Stochastic};
        for (moving, masked) in [
            ((true, true, true), &[Mean, Stochastic, Fisher, Output, OutputStochastic][..]),
            ((true, true, false), &[Mean, Stochastic, Fisher]),
            ((false, true, true), &[Stochastic, Fisher, OutputStochastic]),
            ((true, false, true), &[Mean, Stochastic, Fisher, Output, OutputStochastic]),
            ((false, false, true), &[]),
        ] {
            for metric in [Mean, Stochastic, Fisher, Output, OutputStochastic, Decoder] {
                assert_eq!(flag(metric, moving), masked.contains(&metric), "{metric} {moving:?}");
            }
        }
    }
}
