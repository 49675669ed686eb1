//! Examines the model's outputs for the first samples before any work, for signs that the model is read in a wrong way.

use super::job::Job;
use crate::error::Result;
use crate::event::{Event, Observer};
use crate::jacobian::{BatchSize, Reach};
use crate::model::PosteriorScale;

/// Number of samples that are examined: together where memory allows.
const LOOKED_AT: usize = 8;
/// How far outside [0, 1] a reconstruction must lie to count.
const MARGIN: f64 = 0.1;

impl Job<'_> {
    /// Warns of reconstructions that are not pixels in [0, 1], and of invalid variances.
    pub(super) fn examine(&self, reach: Reach, observer: &dyn Observer) -> Result<()> {
        let interface = &self.subject().interface;
        let vae = self.model.vae.as_ref();
        let positions = &self.positions()[..self.positions().len().min(LOOKED_AT)];
        let together = match self.subject().batch {
            BatchSize::Fixed(n) => n.clamp(1, LOOKED_AT),
            BatchSize::Auto => LOOKED_AT,
        };
        let looked =
            |together| positions.chunks(together).map(|part| self.look(part, reach)).collect::<Result<Vec<_>>>();
        let looks = match looked(together) {
            Err(error) if error.is_out_of_memory() => looked(1)?,
            looks => looks?,
        }
        .concat();
        let seen = looks.len();
        let outside = looks.iter().filter(|look| look.outside).count();
        if vae.has_scale() && interface.posterior == PosteriorScale::Logvar && looks.iter().all(|look| look.wide) {
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

    /// What the model makes of some samples, in one pass.
    fn look(&self, positions: &[u64], reach: Reach) -> Result<Vec<Look>> {
        let vae = self.model.vae.as_ref();
        let x = self.read(positions)?;
        tch::no_grad(|| {
            let q = vae.encode(&x)?;
            let wide = Vec::<bool>::try_from(
                q.log_var.f_reshape([x.size()[0], -1])?.f_amin([1i64].as_slice(), false)?.f_gt(0.0)?,
            )?;
            let outside = match vae.decode(&q.mean) {
                // A decoder that is not used may fail, also by itself in one sample; then nothing of it is looked at.
                Err(error) if reach == Reach::Encoder && (x.size()[0] == 1 || !error.is_out_of_memory()) => {
                    vec![false; wide.len()]
                }
                // What has no row for each sample is refused later, by its shape.
                image => match image?.f_reshape([x.size()[0], -1]) {
                    Err(_) => vec![false; wide.len()],
                    Ok(pixels) => {
                        let low = pixels.f_amin([1i64].as_slice(), false)?.f_lt(-MARGIN)?;
                        let high = pixels.f_amax([1i64].as_slice(), false)?.f_gt(1.0 + MARGIN)?;
                        Vec::<bool>::try_from(low.f_logical_or(&high)?)?
                    }
                },
            };
            Ok(wide.into_iter().zip(outside).map(|(wide, outside)| Look { wide, outside }).collect())
        })
    }
}

/// What is seen of one sample.
#[derive(Clone, Copy, Debug)]
struct Look {
    /// Every variance is above 1.
    wide: bool,
    /// The reconstruction has pixels outside [0, 1].
    outside: bool,
}
