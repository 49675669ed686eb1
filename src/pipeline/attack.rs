//! `attack`: images to attacked images and the damage done.

use super::block::Block;
use super::finder::Finder;
use super::flow::{Asked, doubles, joined, singles};
use super::job::{Job, Subject};
use super::others;
use super::pictures::Pictures;
use super::provided::Provided;
use super::{aim, flags};
use crate::attack::{self, AttackSpec, Attacked, Budget, Crew, Doubts, Loops, Norm, Others, Passes, Victim};
use crate::config::{AttackConfig, PixelBox, SaveImages, Target};
use crate::error::{Error, Result};
use crate::event::{Event, Observer, Silent};
use crate::jacobian::{BatchSize, Reach};
use crate::metric::{MetricKind, ensure_independent};
use crate::model::{Vae, shift};
use crate::spectrum::{Spectrum, SpectrumSpec};
use crate::store::{Column, FileKind, Values};
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};
use tch::Tensor;

/// The request of `attack`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttackRequest {
    /// The model, the data and the result file.
    #[serde(flatten)]
    pub subject: Subject,
    /// The attacks, each once.
    pub attacks: Vec<AttackSpec>,
    /// The norm of epsilon.
    pub norm: Norm,
    /// Sizes of the perturbation.
    pub eps: Vec<f64>,
    /// What the attacks lead towards, if they do not lead away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// The metric whose directions the spectral attack takes.
    pub metric: MetricKind,
    /// How they are found.
    #[serde(default, skip_serializing_if = "SpectrumSpec::is_default")]
    pub spectrum: SpectrumSpec,
    /// Clip to [0, 1] or not.
    #[serde(rename = "box")]
    pub pixels: PixelBox,
    /// Store images or not.
    pub images: SaveImages,
    /// Pixels of attacked images are multiples of 1/255.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rounded: bool,
    /// A folder for 8-bit pictures of the attacked images.
    #[serde(skip)]
    pub pictures: Option<PathBuf>,
}

impl AttackRequest {
    /// The request that the `attack` key makes for a subject.
    pub fn of(subject: Subject, spec: &AttackConfig) -> Self {
        Self {
            subject,
            attacks: spec.attacks.clone(),
            norm: spec.norm,
            eps: spec.eps(),
            target: spec.target.clone(),
            metric: spec.metric,
            spectrum: spec.spectrum.clone(),
            pixels: spec.pixels,
            images: spec.images,
            rounded: spec.rounded,
            pictures: None,
        }
    }
}

/// Samples that an attack handles at once, if the user did not say.
const AUTO_BATCH: (usize, usize) = (256, 2048);

/// A model of images with at most this many values counts as quick.
const SMALL: i64 = 4096;

/// Attacks every sample with every attack at every epsilon and stores the file: `/eps`, `/clean`, `/attack` (docs/formats.md).
///
/// # Errors
/// A wrong request if model, data, settings or output are wrong; other errors as they occur.
pub fn attack(request: &AttackRequest, observer: &dyn Observer) -> Result<()> {
    attack_with(request, &Provided::default(), observer)
}

/// [`attack()`] of a model or on data that are there already.
///
/// # Errors
/// As [`attack()`].
pub fn attack_with(request: &AttackRequest, provided: &Provided, observer: &dyn Observer) -> Result<()> {
    let budgets = budgets(request)?;
    let subject = &request.subject;
    let job = Job::open(subject, provided, observer)?;
    if job.is_idle(observer) {
        return Ok(());
    }
    ensure_scales(request, &job)?;
    job.examine(Reach::EncoderAndDecoder, observer)?;
    request.metric.ensure_of_images("metric of an attack's directions")?;
    let mut finder = Finder::new(&job, &request.attacks, request.metric, &request.spectrum)?;
    let eps = Column {
        path: "/eps".to_owned(),
        shape: vec![request.eps.len()],
        sample_axis: 0,
        values: Values::F64(request.eps.clone()),
    };
    let others = request.attacks.iter().any(AttackSpec::needs_others).then(|| job.others()).transpose()?;
    let aimed = request.target.as_ref().map(|target| job.aimed(target)).transpose()?;
    if request.rounded && request.pixels == PixelBox::Off {
        return Err(Error::request("images of 8 bits (--save-png)", "--box on: files hold pixels in [0, 1]", "off"));
    }
    let files = request.pictures.as_deref().map(|folder| Pictures::open(folder, &job)).transpose()?;
    let fixed: Vec<Column> = std::iter::once(eps).chain(others.as_ref().map(others::column)).collect();
    let metric = Some(request.metric.to_string());
    // Checked before anything is written: every attack's damage is measured through encoder and decoder.
    let vae = job.model.vae.as_ref();
    ensure_independent(vae, &job.sample()?, Reach::EncoderAndDecoder)?;
    let mut attributes = finder.attributes();
    attributes.extend(attack::told(request.norm, &request.attacks));
    if let Some(suite) = request.attacks.iter().find(|a| matches!(a, AttackSpec::Suite(_))) {
        attributes.insert(suite.name().to_owned(), attack::SUITE.to_owned());
    }
    let writer = job.writer(FileKind::Attack, request, metric, attributes, &fixed, observer)?;
    let block = match subject.batch {
        BatchSize::Fixed(n) => Block { unit: n, first: n, most: n },
        BatchSize::Auto if job.device.is_cuda() => Block { unit: 1, first: 512, most: AUTO_BATCH.1 },
        // Small images mean quick models, whose steps gain from large blocks; other models begin with small blocks.
        BatchSize::Auto if job.shape.dim() <= SMALL => Block { unit: 1, first: AUTO_BATCH.0, most: AUTO_BATCH.0 },
        BatchSize::Auto => Block { unit: 1, first: 64, most: AUTO_BATCH.0 },
    };
    let loops = Rc::new(Loops::on(vae));
    let crew = Crew::of(vae, job.device);
    let search = Search::new(request, &budgets, &job, files, observer);
    let first = Cell::new(true);
    job.run(writer, "attacking", block, has_damage, observer, |x, index| {
        let (spectrum, cost) = finder.spectrum(vae, x, index)?;
        let targets = aimed.as_ref().map(|aimed| job.target_images(aimed, index)).transpose()?;
        // The attacks of all blocks behave alike, so this is reported once.
        let listener: &dyn Observer = if first.replace(false) { observer } else { &Silent };
        let part = |range: Range<usize>| -> Result<Given> {
            let (start, count) = (range.start as i64, range.len() as i64);
            let spectrum = spectrum.as_ref().map(|whole| whole.narrow(start, count)).transpose()?;
            let images = x.f_narrow(0, start, count)?;
            let target = match &targets {
                None => Wish::Away,
                Some(None) => Wish::Zero,
                Some(Some(images)) => Wish::Images(images.f_narrow(0, start, count)?),
            };
            Ok(Given {
                images,
                target,
                cost,
                index: index[range].to_vec(),
                spectrum,
                others: others.as_ref().map(others::shared),
            })
        };
        let divided =
            crew.divide(index.len(), part, |vae, given| search.block(Rc::new(Loops::on(vae)), &given, &Silent))?;
        match divided {
            Some(parts) => joined(parts),
            None => search.block(loops.clone(), &part(0..index.len())?, listener),
        }
    })?;
    for line in search.doubts() {
        observer.on(Event::Warning(&line));
    }
    Ok(())
}

/// The targets for the attacks on some samples.
enum Wish {
    Away,
    Zero,
    Images(Tensor),
}

/// Samples and what belongs to them.
struct Given {
    images: Tensor,
    target: Wish,
    index: Vec<u64>,
    spectrum: Option<Spectrum>,
    /// Passes that the spectrum took for each sample.
    cost: Passes,
    others: Option<Others>,
}

/// What is done to every block, on any thread.
struct Search<'a> {
    request: &'a AttackRequest,
    budgets: &'a [Budget],
    /// The samples' own axes.
    axes: &'a [i64],
    pictures: bool,
    files: Option<Pictures>,
    has_scale: bool,
    observer: &'a dyn Observer,
    doubts: Mutex<Doubts>,
}

impl<'a> Search<'a> {
    fn new(
        request: &'a AttackRequest,
        budgets: &'a [Budget],
        job: &'a Job,
        files: Option<Pictures>,
        observer: &'a dyn Observer,
    ) -> Self {
        let (axes, pictures) = (job.axes(), job.is_of_pictures());
        let has_scale = job.model.vae.has_scale();
        Self { request, budgets, axes, pictures, files, has_scale, observer, doubts: Mutex::default() }
    }

    /// The results of every attack at every budget on some samples, as columns.
    fn block<'v>(&self, loops: Rc<Loops<'v>>, given: &'v Given, listener: &'v dyn Observer) -> Result<Vec<Asked>> {
        let Given { images, target, index, spectrum, cost, others } = given;
        let seed = self.request.subject.seed;
        let mut victim = Victim::among(loops, images, index, seed, spectrum.as_ref())?
            .with_observer(listener)
            .for_passes(*cost)
            .rounded(self.request.rounded);
        let vae = victim.vae();
        let target = match target {
            Wish::Away => None,
            Wish::Zero => Some(aim::reading(vae, images, None)?),
            Wish::Images(target) => Some(aim::reading(vae, images, Some(target))?),
        };
        if let Some(target) = target {
            victim = victim.towards(target)?;
        }
        if let Some(others) = others {
            victim = victim.beside(others)?;
        }
        let mut columns = self.clean_columns(&victim)?;
        // The smaller budgets come first: their results are starts for the larger ones.
        let mut order: Vec<usize> = (0..self.budgets.len()).collect();
        order.sort_by(|a, b| self.budgets[*a].epsilon.total_cmp(&self.budgets[*b].epsilon));
        let mut ascending = Vec::with_capacity(order.len());
        for place in &order {
            self.observer.check()?;
            let budget = self.budgets[*place];
            let mut at_budget = Vec::new();
            for spec in &self.request.attacks {
                at_budget.extend(attack::run(spec, &victim, &budget)?);
            }
            ascending.push((budget, at_budget));
        }
        let flagged = flags::of(&victim, &ascending, self.request.metric)?;
        columns.extend(flags::columns(&flagged)?);
        let flagged: Vec<_> = flagged.into_iter().collect();
        self.doubts.lock().unwrap_or_else(PoisonError::into_inner).count(&flagged)?;
        let mut results: BTreeMap<String, BTreeMap<usize, Attacked>> = BTreeMap::new();
        for (place, (_, at_budget)) in order.into_iter().zip(ascending) {
            for attacked in at_budget {
                results.entry(attacked.name.clone()).or_default().insert(place, attacked);
            }
        }
        for (name, by_eps) in results {
            let by_eps: Vec<Attacked> = by_eps.into_values().collect();
            if let Some(files) = &self.files {
                for (attacked, budget) in by_eps.iter().zip(self.budgets) {
                    files.write(&name, budget.epsilon, index, &attacked.images)?;
                }
            }
            columns.extend(self.attack_columns(&name, &by_eps)?);
        }
        Ok(columns)
    }

    fn doubts(&self) -> Vec<String> {
        self.doubts.lock().unwrap_or_else(PoisonError::into_inner).lines()
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

    fn clean_columns(&self, victim: &Victim) -> Result<Vec<Asked>> {
        let mut columns = Vec::new();
        for (measure, values) in shift::clean(victim.clean())? {
            columns.push(doubles(format!("/clean/{measure}"), &values, 0)?);
        }
        if let Some(target) = victim.target() {
            for (measure, values) in shift::towards(target, victim.clean())? {
                columns.push(doubles(format!("/clean/{measure}"), &values, 0)?);
            }
        }
        if self.request.images == SaveImages::Yes {
            columns.push(singles("/clean/images", &self.own(victim.images())?, 0)?);
            columns.push(singles("/clean/recon", &self.own(&victim.clean().reconstruction)?, 0)?);
        }
        Ok(columns)
    }

    /// `/attack/<name>/<measure>` [E, n], and the images [E, n, C, H, W] if they are stored.
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
        let smallest: Vec<&Tensor> = by_eps.iter().filter_map(|a| a.smallest.as_ref()).collect();
        if !smallest.is_empty() {
            columns.push(doubles(format!("/smallest/{name}"), &Tensor::f_stack(&smallest, 0)?, 1)?);
        }
        let damage: Vec<&Tensor> = by_eps.iter().map(|a| &a.damage).collect();
        columns.push(doubles(format!("/damage/{name}"), &Tensor::f_stack(&damage, 0)?, 1)?);
        for (what, of) in [("forward", (|p| p.forward) as fn(Passes) -> f64), ("backward", |p| p.backward)] {
            let each = by_eps.iter().map(|a| Ok(a.damage.f_full_like(of(a.passes()))?));
            let values = Tensor::f_stack(&each.collect::<Result<Vec<_>>>()?, 0)?;
            columns.push(doubles(format!("/passes/{name}/{what}"), &values, 1)?);
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

/// Columns that are NaN if an attack's damage to a sample is not known.
fn has_damage(path: &str) -> bool {
    path.starts_with("/attack/") && (path.ends_with("/latent_l2") || path.ends_with("/recon_mse"))
}

/// One budget for each epsilon; refuses settings that are out of range before any work.
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

/// Refuses goals and metrics that need a variance if the encoder gives none.
fn ensure_scales(request: &AttackRequest, job: &Job) -> Result<()> {
    for spec in &request.attacks {
        let goal = spec.goal();
        if goal.needs_scale() {
            job.ensure_scale(&format!("goal {goal}"), "latent, recon or recon-mse (--goal latent)")?;
        }
        if spec.wishes() > 0 {
            job.ensure_metric(request.metric)?;
        }
    }
    Ok(())
}
