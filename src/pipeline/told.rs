//! What a result file tells of attacked samples, as columns.

use super::flow::{Asked, doubles, singles};
use super::job::Job;
use crate::attack::{Attacked, Family, Passes, Victim};
use crate::config::SaveImages;
use crate::error::Result;
use crate::model::shift;
use tch::Tensor;

/// What is told of every sample of a job.
pub(super) struct Told<'a> {
    /// The samples' own axes.
    axes: &'a [i64],
    pictures: bool,
    has_scale: bool,
    images: SaveImages,
    curves: bool,
}

impl<'a> Told<'a> {
    /// What a job's file tells; `images` says whether images are stored, and `curves` whether the damage during a search is.
    pub fn of(job: &'a Job, images: SaveImages, curves: bool) -> Self {
        let has_scale = job.model.vae.has_scale();
        Self { axes: job.axes(), pictures: job.is_of_pictures(), has_scale, images, curves }
    }

    /// Whether a measure has a meaning for these samples and this model.
    fn is_told(&self, measure: &str) -> bool {
        match measure {
            "psnr" | "ssim" | "ms_ssim" => self.pictures,
            "latent_kl" | "latent_skl" | "latent_w2" => self.has_scale,
            _ => true,
        }
    }

    /// [..., C, H, W] with the samples' own axes.
    fn own(&self, images: &Tensor) -> Result<Tensor> {
        let size = images.size();
        Ok(images.f_reshape([&size[..size.len() - 3], self.axes].concat())?)
    }

    /// `/clean/<measure>` [n], and the images if they are stored.
    pub fn clean(&self, victim: &Victim) -> Result<Vec<Asked>> {
        let mut columns = Vec::new();
        for (measure, values) in shift::clean(victim.clean())? {
            columns.push(doubles(format!("/clean/{measure}"), &victim.known(&values)?, 0)?);
        }
        if let Some(target) = victim.target() {
            for (measure, values) in shift::towards(target, victim.clean())? {
                columns.push(doubles(format!("/clean/{measure}"), &victim.known(&values)?, 0)?);
            }
        }
        if self.images == SaveImages::Yes {
            columns.push(singles("/clean/images", &self.own(&victim.restored(victim.images())?)?, 0)?);
            columns.push(singles("/clean/recon", &self.own(&victim.clean().reconstruction)?, 0)?);
        }
        Ok(columns)
    }

    /// `/attack/<name>/<measure>` [E, n], and the images [E, n, C, H, W] if they are stored. Damage is NaN for the samples in `known` `[n]`.
    pub fn attack(&self, name: &str, by_eps: &[Attacked], known: Option<&Tensor>) -> Result<Vec<Asked>> {
        let mut columns = Vec::new();
        let judged = |values: Tensor| -> Result<Tensor> {
            Ok(match known {
                Some(known) => values.f_masked_fill(known, f64::NAN)?,
                None => values,
            })
        };
        let count = by_eps.first().map_or(0, |a| a.measures.len());
        for m in 0..count {
            if !self.is_told(by_eps[0].measures[m].0) {
                continue;
            }
            let rows: Vec<&Tensor> = by_eps.iter().map(|a| &a.measures[m].1).collect();
            let path = format!("/attack/{name}/{}", by_eps[0].measures[m].0);
            columns.push(doubles(path, &judged(Tensor::f_stack(&rows, 0)?)?, 1)?);
        }
        let curves = by_eps.iter().map(|a| a.curve.at_budgets(a.spectrum.larger()));
        // One step, or a search that stops early, has no such curve; a fit on other samples is not a sample's own.
        let is_search =
            self.curves && by_eps.iter().all(|a| !matches!(a.family, Family::Direction | Family::Universal));
        if let (true, Some(curves)) = (is_search, curves.collect::<Result<Option<Vec<_>>>>()?) {
            columns.push(doubles(format!("/curve/{name}"), &Tensor::f_stack(&curves, 0)?, 1)?);
        }
        let smallest: Vec<&Tensor> = by_eps.iter().filter_map(|a| a.smallest.as_ref()).collect();
        if !smallest.is_empty() {
            columns.push(doubles(format!("/smallest/{name}"), &Tensor::f_stack(&smallest, 0)?, 1)?);
        }
        let damage: Vec<&Tensor> = by_eps.iter().map(|a| &a.damage).collect();
        columns.push(doubles(format!("/damage/{name}"), &judged(Tensor::f_stack(&damage, 0)?)?, 1)?);
        for (what, of) in [("forward", (|p| p.forward) as fn(Passes) -> f64), ("backward", |p| p.backward)] {
            let each = by_eps.iter().map(|a| Ok(a.damage.f_full_like(of(a.passes()))?));
            let values = Tensor::f_stack(&each.collect::<Result<Vec<_>>>()?, 0)?;
            columns.push(doubles(format!("/passes/{name}/{what}"), &values, 1)?);
        }
        if self.images == SaveImages::Yes {
            let stacked = |images: fn(&Attacked) -> &Tensor| -> Result<Tensor> {
                let images: Vec<&Tensor> = by_eps.iter().map(images).collect();
                self.own(&Tensor::f_stack(&images, 0)?)
            };
            columns.push(singles(format!("/attack/{name}/images"), &stacked(|a| &a.images)?, 1)?);
            columns.push(singles(format!("/attack/{name}/recon"), &stacked(|a| &a.reconstruction)?, 1)?);
        }
        Ok(columns)
    }
}

/// Columns that say that an attack's damage to a sample is not known: they are NaN, or a flag. The universal attack's own are NaN for
/// samples that are well known, so that its flag says it, or the clean image's own column.
pub(super) fn has_damage(path: &str) -> bool {
    matches!(path, "/flags/universal.not-a-number" | "/clean/recon_mse")
        || (path.starts_with("/attack/")
            && !path.starts_with("/attack/universal/")
            && (path.ends_with("/latent_l2") || path.ends_with("/recon_mse")))
}

#[cfg(test)]
mod tests {
    use super::has_damage;

    #[test]
    fn every_attack_has_a_column_that_tells_of_lost_samples() {
        for path in
            ["/attack/pgd/latent_l2", "/attack/pgd/recon_mse", "/flags/universal.not-a-number", "/clean/recon_mse"]
        {
            assert!(has_damage(path), "{path}");
        }
        for path in ["/attack/universal/latent_l2", "/flags/universal.vanishing", "/clean/target_latent_l2"] {
            assert!(!has_damage(path), "{path}");
        }
    }
}
