//! Examines the model's outputs for the first samples before any work, for signs that the model is read in a wrong way.

use super::job::Job;
use crate::error::Result;
use crate::event::{Event, Observer};
use crate::jacobian::Reach;
use crate::model::PosteriorScale;

/// Number of samples that are examined, one by one.
const LOOKED_AT: u64 = 8;
/// How far outside [0, 1] a reconstruction must lie to count.
const MARGIN: f64 = 0.1;

impl Job<'_> {
    /// Warns of reconstructions that are not pixels in [0, 1], and of invalid variances.
    pub(super) fn examine(&self, reach: Reach, observer: &dyn Observer) -> Result<()> {
        let interface = &self.subject().interface;
        let vae = self.model.vae.as_ref();
        let mut wide = vec![];
        let (mut outside, mut seen) = (0, 0);
        for index in self.positions().iter().take(LOOKED_AT as usize) {
            let x = self.read(*index)?;
            let (lowest, range) = tch::no_grad(|| -> Result<_> {
                let q = vae.encode(&x)?;
                let lowest = q.log_var.f_min()?.f_double_value(&[])?;
                let image = match vae.decode(&q.mean) {
                    // A decoder that is not used may fail; its pixels are still examined.
                    Err(_) if reach == Reach::Encoder => return Ok((lowest, None)),
                    image => image?,
                };
                Ok((lowest, Some((image.f_min()?.f_double_value(&[])?, image.f_max()?.f_double_value(&[])?))))
            })?;
            wide.push(lowest > 0.0);
            if let Some((low, high)) = range {
                outside += usize::from(low < -MARGIN || high > 1.0 + MARGIN);
            }
            seen += 1;
        }
        if vae.has_scale() && interface.posterior == PosteriorScale::Logvar && wide.iter().all(|w| *w) {
            let text = "logvar is above 0 for every latent of the first samples: is the encoder's second output sigma, its logarithm or \
                        sigma squared? (--posterior std, logstd or var)";
            observer.on(Event::Warning(text));
        }
        if outside * 2 > seen && !self.is_free() {
            let text = "reconstructions of most of the first samples lie well outside [0, 1]: does the model see pixels in another range \
                        (--input-range -1,1), or does its decoder give logits (export it with a sigmoid)?";
            observer.on(Event::Warning(text));
        }
        Ok(())
    }
}
