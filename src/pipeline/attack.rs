//! `attack`: images to attacked images and the damage done.

use super::block::Block;
use super::flow::{Asked, doubles, joined, singles};
use super::job::{Job, Subject};
use super::score::spectrum_attribute;
use crate::attack::{self, AttackSpec, Attacked, Budget, Crew, Doubts, Goal, Loops, Norm, Victim};
use crate::config::{PixelBox, SaveImages};
use crate::error::{Error, Result};
use crate::event::{Event, Observer, Silent};
use crate::jacobian::{BatchSize, Reach};
use crate::metric::{MetricKind, ensure_independent};
use crate::model::{Vae, shift};
use crate::spectrum::{Spectra, Spectrum, SpectrumSpec, Wanted};
use crate::store::{Column, FileKind, Values};
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};
use tch::Tensor;

/// What `attack` is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttackRequest {
    /// Which model on which data, into which file.
    #[serde(flatten)]
    pub subject: Subject,
    /// The attacks, each once.
    pub attacks: Vec<AttackSpec>,
    /// In which norm epsilon counts.
    pub norm: Norm,
    /// Sizes of the perturbation.
    pub eps: Vec<f64>,
    /// Whose directions the spectral attack takes.
    pub metric: MetricKind,
    /// How they are found.
    #[serde(default, skip_serializing_if = "SpectrumSpec::is_default")]
    pub spectrum: SpectrumSpec,
    /// Clip to [0, 1] or not.
    #[serde(rename = "box")]
    pub pixels: PixelBox,
    /// Store images or not.
    pub images: SaveImages,
}

/// Samples an attack handles at once where the user did not say.
const AUTO_BATCH: (usize, usize) = (256, 2048);

/// Values of an image up to which a model is taken to be quick.
const SMALL: i64 = 4096;

/// Attacks every sample with every attack at every epsilon and stores the file (SPEC: `/eps`, `/clean`, `/attack`).
///
/// # Errors
/// A wrong request where model, data, settings or output are not what they should be; the rest as it comes.
pub fn attack(request: &AttackRequest, observer: &dyn Observer) -> Result<()> {
    let budgets = budgets(request)?;
    let subject = &request.subject;
    let job = Job::open(subject, observer)?;
    ensure_scales(request, &job)?;
    job.examine(Reach::EncoderAndDecoder, observer)?;
    let top = request.attacks.iter().map(AttackSpec::directions).max().unwrap_or(0);
    let mut finder = Finder::new(request, &job, top)?;
    let eps = Column {
        path: "/eps".to_owned(),
        shape: vec![request.eps.len()],
        sample_axis: 0,
        values: Values::F64(request.eps.clone()),
    };
    let metric = Some(request.metric.to_string());
    // Before anything is written: damage is measured through both halves, whatever the attack.
    let vae = job.model.vae.as_ref();
    ensure_independent(vae, &job.sample()?, Reach::EncoderAndDecoder)?;
    let writer = job.writer(FileKind::Attack, request, metric, finder.attributes(), &[eps], observer)?;
    let block = match subject.batch {
        BatchSize::Fixed(n) => Block { unit: n, first: n, most: n },
        BatchSize::Auto if job.device.is_cuda() => Block { unit: 1, first: 512, most: AUTO_BATCH.1 },
        // Small images mean quick models, whose steps gain from the whole of a block; others begin carefully.
        BatchSize::Auto if job.shape.dim() <= SMALL => Block { unit: 1, first: AUTO_BATCH.0, most: AUTO_BATCH.0 },
        BatchSize::Auto => Block { unit: 1, first: 64, most: AUTO_BATCH.0 },
    };
    let loops = Rc::new(Loops::on(vae));
    let crew = Crew::of(vae, job.device);
    let search = Search::new(request, &budgets, &job, observer);
    let first = Cell::new(true);
    job.run(writer, "attacking", block, has_damage, observer, |x, index| {
        let spectrum = finder.spectrum(vae, x, index)?;
        // What holds of one block's attacks holds of all: it is told once.
        let listener: &dyn Observer = if first.replace(false) { observer } else { &Silent };
        let part = |range: Range<usize>| -> Result<_> {
            let (start, count) = (range.start as i64, range.len() as i64);
            let spectrum = spectrum.as_ref().map(|whole| whole.narrow(start, count)).transpose()?;
            Ok((x.f_narrow(0, start, count)?, index[range].to_vec(), spectrum))
        };
        let divided = crew.divide(index.len(), part, |vae, (x, index, spectrum)| {
            search.block(Rc::new(Loops::on(vae)), &x, &index, spectrum.as_ref(), &Silent)
        })?;
        match divided {
            Some(parts) => joined(parts),
            None => search.block(loops.clone(), x, index, spectrum.as_ref(), listener),
        }
    })?;
    for line in search.doubts() {
        observer.on(Event::Warning(&line));
    }
    Ok(())
}

/// What is done to every block, whatever thread does it.
struct Search<'a> {
    request: &'a AttackRequest,
    budgets: &'a [Budget],
    /// The samples' own axes.
    axes: &'a [i64],
    pictures: bool,
    has_scale: bool,
    observer: &'a dyn Observer,
    doubts: Mutex<Doubts>,
}

impl<'a> Search<'a> {
    fn new(request: &'a AttackRequest, budgets: &'a [Budget], job: &'a Job, observer: &'a dyn Observer) -> Self {
        let (axes, pictures) = (job.axes(), job.is_of_pictures());
        let has_scale = job.model.vae.has_scale();
        Self { request, budgets, axes, pictures, has_scale, observer, doubts: Mutex::default() }
    }

    /// Every attack at every budget on some samples, as columns.
    fn block<'v>(
        &self,
        loops: Rc<Loops<'v>>,
        x: &Tensor,
        index: &'v [u64],
        spectrum: Option<&'v Spectrum>,
        listener: &'v dyn Observer,
    ) -> Result<Vec<Asked>> {
        let victim = Victim::among(loops, x, index, self.request.subject.seed, spectrum)?.with_observer(listener);
        let mut columns = self.clean_columns(&victim)?;
        let mut results: BTreeMap<String, Vec<Attacked>> = BTreeMap::new();
        for budget in self.budgets {
            self.observer.check()?;
            let mut at_budget = Vec::new();
            for spec in &self.request.attacks {
                at_budget.extend(attack::run(spec, &victim, budget)?);
            }
            self.doubts.lock().unwrap_or_else(PoisonError::into_inner).note(&at_budget)?;
            for attacked in at_budget {
                results.entry(attacked.name.clone()).or_default().push(attacked);
            }
        }
        for (name, by_eps) in &results {
            columns.extend(self.attack_columns(name, by_eps)?);
        }
        Ok(columns)
    }

    fn doubts(&self) -> Vec<String> {
        self.doubts.lock().unwrap_or_else(PoisonError::into_inner).lines()
    }

    /// Whether a measure says something of these samples and this model.
    fn is_told(&self, measure: &str) -> bool {
        match measure {
            "psnr" | "ssim" | "ms_ssim" => self.pictures,
            "latent_kl" | "latent_skl" | "latent_w2" => self.has_scale,
            _ => true,
        }
    }

    /// [..., C, H, W] as the samples' own axes.
    fn own(&self, images: &Tensor) -> Result<Tensor> {
        let size = images.size();
        Ok(images.f_reshape([&size[..size.len() - 3], self.axes].concat())?)
    }

    fn clean_columns(&self, victim: &Victim) -> Result<Vec<Asked>> {
        let mut columns = Vec::new();
        for (measure, values) in shift::clean(victim.clean())? {
            columns.push(doubles(format!("/clean/{measure}"), &values, 0)?);
        }
        if self.request.images == SaveImages::Yes {
            columns.push(singles("/clean/images", &self.own(victim.images())?, 0)?);
            columns.push(singles("/clean/recon", &self.own(&victim.clean().reconstruction)?, 0)?);
        }
        Ok(columns)
    }

    /// `/attack/<name>/<measure>` [E, n], and the images [E, n, C, H, W] where they are wanted.
    fn attack_columns(&self, name: &str, by_eps: &[Attacked]) -> Result<Vec<Asked>> {
        let mut columns = Vec::new();
        let count = by_eps.first().map_or(0, |a| a.measures.len());
        for m in 0..count {
            if !self.is_told(by_eps[0].measures[m].0) {
                continue;
            }
            let rows: Vec<&Tensor> = by_eps.iter().map(|a| &a.measures[m].1).collect();
            let path = format!("/attack/{name}/{}", by_eps[0].measures[m].0);
            columns.push(doubles(path, &Tensor::f_stack(&rows, 0)?, 1)?);
        }
        if self.request.images == SaveImages::Yes {
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

/// Columns that are NaN where an attack's damage to a sample is not known.
fn has_damage(path: &str) -> bool {
    path.starts_with("/attack/") && (path.ends_with("/latent_l2") || path.ends_with("/recon_mse"))
}

/// Where the spectral directions of the victims come from; none where no attack takes one.
struct Finder(Option<Spectra>);

impl Finder {
    fn new(request: &AttackRequest, job: &Job, top: usize) -> Result<Self> {
        if top == 0 {
            return Ok(Self(None));
        }
        let AttackRequest { subject: Subject { seed, batch, .. }, spectrum: spec, .. } = request;
        // Directions are all that is asked for: no more pairs than they are.
        let wanted = Wanted { spec: spec.clone(), top, pairs: Some(top), seed: *seed, batch: *batch };
        Ok(Self(Some(Spectra::wanted(job.model.vae.as_ref(), &job.sample()?, request.metric, &wanted)?)))
    }

    fn attributes(&self) -> BTreeMap<String, String> {
        self.0.as_ref().map_or_else(BTreeMap::new, spectrum_attribute)
    }

    fn spectrum(&mut self, vae: &dyn Vae, x: &Tensor, index: &[u64]) -> Result<Option<Spectrum>> {
        let Some(spectra) = &mut self.0 else { return Ok(None) };
        let spectrum = spectra.find(vae, x, index)?.into_spectrum();
        // Those of some samples alone: the process was asked to stop.
        if spectrum.values.size()[0] < x.size()[0] { Err(Error::Interrupted) } else { Ok(Some(spectrum)) }
    }
}

/// One budget an epsilon; refuses settings that are out of range before any work.
fn budgets(request: &AttackRequest) -> Result<Vec<Budget>> {
    attack::distinct(&request.attacks)?;
    for spec in &request.attacks {
        spec.check(request.norm)?;
    }
    if request.eps.is_empty() {
        return Err(Error::request("eps", "at least one", "none"));
    }
    let pixels = match request.pixels {
        PixelBox::On if !request.subject.reading.is_free() => Some((0.0, 1.0)),
        PixelBox::On | PixelBox::Off => None,
    };
    request.eps.iter().map(|eps| Budget::new(request.norm, *eps, pixels)).collect()
}

/// Refuses goals and metrics that need a variance where the encoder gives none.
fn ensure_scales(request: &AttackRequest, job: &Job) -> Result<()> {
    for spec in &request.attacks {
        let goal = spec.goal();
        if !matches!(goal, Goal::Latent | Goal::Recon | Goal::ReconMse) {
            job.ensure_scale(&format!("goal {goal}"), "latent, recon or recon-mse (--goal latent)")?;
        }
        if spec.directions() > 0 {
            job.ensure_metric(request.metric)?;
        }
    }
    Ok(())
}
