//! What scoring and attacking share: a model, data that fit it, a device, and the samples of this run.

use super::provided::Provided;
use super::train::half_way;
use crate::config::{HandOut, Precision, Shard};
use crate::data::{self, ImageShape, Reading, Source, Split};
use crate::device::DeviceChoice;
use crate::error::{Error, Result};
use crate::event::{Event, Observer};
use crate::jacobian::BatchSize;
use crate::metric::MetricKind;
use crate::model::{self, Defence, Defended, Interface, Model, Posterior, Vae};
use crate::seed::{self, Stage};
use crate::store::Overwrite;
use serde::{Deserialize, Serialize};
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// The model and the data: the part of a request that scores and attacks share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subject {
    /// A run folder or a TorchScript file.
    pub model: PathBuf,
    /// The data set, as the user writes it.
    pub data: String,
    /// The part of the data.
    pub split: Split,
    /// The number of samples, from the first.
    pub limit: Option<usize>,
    /// The number of samples in a random draw, in place of the first ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<usize>,
    /// How the data are read.
    #[serde(default, skip_serializing_if = "Reading::is_default")]
    pub reading: Reading,
    /// How the model is read.
    #[serde(default, skip_serializing_if = "Interface::is_default")]
    pub interface: Interface,
    /// One part of the samples.
    pub shard: Option<Shard>,
    /// Precision of the model's passes.
    pub precision: Precision,
    /// The run's seed.
    pub seed: u64,
    /// Where to compute. This field and the next say how to compute, so they are not part of a result's identity.
    #[serde(skip)]
    pub device: DeviceChoice,
    /// Samples in a pass.
    #[serde(skip)]
    pub batch: BatchSize,
    /// The result file.
    #[serde(skip)]
    pub output: PathBuf,
    /// Whether an existing result may be replaced.
    #[serde(skip)]
    pub overwrite: Overwrite,
    /// How samples are handed out to the processes of the run.
    #[serde(skip)]
    pub hand_out: HandOut,
}

/// Positions of a run's samples among `total`, ascending: all, or a random draw.
fn drawn(subject: &Subject, total: usize) -> Vec<u64> {
    match subject.sample.filter(|n| *n < total) {
        None => (0..total as u64).collect(),
        Some(wanted) => {
            let mut rng = seed::generator(subject.seed, Stage::Draw, 0, 0);
            let mut drawn: Vec<u64> =
                rand::seq::index::sample(&mut rng, total, wanted).into_iter().map(|i| i as u64).collect();
            drawn.sort_unstable();
            drawn
        }
    }
}

/// An opened subject: the request has been checked completely.
pub(super) struct Job<'a> {
    subject: &'a Subject,
    pub model: Model,
    pub source: Arc<dyn Source>,
    /// The samples of the whole run.
    positions: Vec<u64>,
    pub shape: ImageShape,
    /// A sample's axes in the data.
    axes: Vec<i64>,
    /// False for vectors, series, volumes and values of any size.
    pictures: bool,
    pub device: Device,
    pub kind: Kind,
    /// The result file is gone with the process.
    pub passing: bool,
    /// The first sample, after its first use.
    first: OnceCell<Tensor>,
}

impl<'a> Job<'a> {
    pub fn open(subject: &'a Subject, provided: &Provided, observer: &dyn Observer) -> Result<Self> {
        Self::open_prepared(subject, provided, &|vae, _, _| Ok(vae), observer)
    }

    /// [`Job::open`] of a model that `prepare` changes, before its first pass, on its device and of its kind.
    pub fn open_prepared(
        subject: &'a Subject,
        provided: &Provided,
        prepare: &dyn Fn(Box<dyn Vae>, Device, Kind) -> Result<Box<dyn Vae>>,
        observer: &dyn Observer,
    ) -> Result<Self> {
        let device = subject.device.resolve_told(observer)?;
        let kind = subject.precision.kind();
        let source = match provided.data {
            Some(data) => data.clone(),
            None => data::open_as(&subject.data, subject.split, subject.limit, &subject.reading)?,
        };
        for note in source.notes() {
            observer.on(Event::Warning(&note));
        }
        if let (None, Some((done, asked))) = (provided.model, half_way(&subject.model)) {
            let line =
                format!("{}: trained for {done} of {asked} epochs: training was stopped", subject.model.display());
            observer.on(Event::Warning(&line));
        }
        let positions = drawn(subject, source.len());
        let (shape, axes) = (source.shape(), source.sample());
        // Three axes are an image. Others are given to the model unchanged, where it takes them, and two may be a grey image.
        let own = Some((axes.clone(), shape));
        let views = if axes.len() == 3 { vec![None] } else { vec![own, None] };
        let both = axes.len() == 2;
        let (mut fitting, mut refused) = (Vec::new(), None);
        for view in views {
            let image = view.is_none() && matches!(axes.len(), 2 | 3);
            let model = match provided.model {
                Some(open) => open(device, kind, view)?,
                None => model::open_as(&subject.model, device, kind, &subject.interface, view)?,
            };
            let model = Model { vae: prepare(model.vae, device, kind)?, ..model };
            let pictures = image && !subject.reading.is_free();
            let (source, positions, own) = (source.clone(), positions.clone(), axes.clone());
            let axes = if image { vec![shape.channels, shape.height, shape.width] } else { own };
            let (passing, first) = (provided.passing, OnceCell::new());
            let job = Self { subject, model, source, positions, shape, axes, pictures, device, kind, passing, first };
            match job.ensure_fit() {
                Ok(()) => fitting.push(job),
                // Of two axes the image's reason is told, of others the first one.
                Err(error) => refused = refused.filter(|_| !both).or(Some(error)),
            }
            if !both && !fitting.is_empty() {
                break;
            }
        }
        let mut fitting = fitting.into_iter();
        let job = match (fitting.next(), fitting.next()) {
            (Some(own), Some(image)) if !own.is_meant_beside(&image)? => image,
            (Some(job), _) => job,
            (None, _) => return Err(refused.unwrap_or(Error::Interrupted)),
        };
        if !job.pictures {
            observer.on(Event::Note(
                "the samples are no pictures in [0, 1]: no box, no psnr, ssim and ms_ssim, no galleries",
            ));
        }
        Ok(job)
    }

    /// Whether samples of two axes are meant as they are, and not as grey images, by a model that takes both. Its decoder tells by the axes
    /// that it gives. Where it fits both, as a flat one does, both give the same codes as a rule, and samples are images; where codes differ,
    /// the model asks for the axes by number, as a maximum over a set does, and they are as the data have them.
    fn is_meant_beside(&self, image: &Self) -> Result<bool> {
        let look = |job: &Self| -> Result<(Posterior, bool)> {
            tch::no_grad(|| {
                let q = job.model.vae.encode(&job.sample()?)?;
                match job.model.vae.decode(&q.mean) {
                    Ok(_) => Ok((q, true)),
                    Err(error) if error.is_out_of_memory() || matches!(error, Error::Interrupted) => Err(error),
                    Err(_) => Ok((q, false)),
                }
            })
        };
        let ((own, own_closes), (other, other_closes)) = (look(self)?, look(image)?);
        if own_closes != other_closes {
            return Ok(own_closes);
        }
        let same = |a: &Tensor, b: &Tensor| Ok::<_, Error>(a.size() == b.size() && a.f_allclose(b, 1e-4, 1e-6, true)?);
        Ok(!(same(&own.mean, &other.mean)? && same(&own.log_var, &other.log_var)?))
    }

    /// The same job behind `defences`: what the model is asked goes through them.
    ///
    /// # Errors
    /// A wrong request if a defence does not fit the samples.
    pub fn behind(mut self, defences: &[Defence]) -> Result<Self> {
        if defences.is_empty() {
            return Ok(self);
        }
        if !self.pictures {
            return Err(Error::request("through", "samples that are pictures in [0, 1]", "others"));
        }
        self.model.vae = Box::new(Defended::new(self.model.vae, defences, self.shape, self.device)?);
        Ok(self)
    }

    /// The request's subject.
    pub fn subject(&self) -> &Subject {
        self.subject
    }

    /// Positions of the run's samples in the data set, ascending.
    pub fn positions(&self) -> &[u64] {
        &self.positions
    }

    /// A sample's axes in result files, [C, H, W] for an image.
    pub fn axes(&self) -> &[i64] {
        &self.axes
    }

    /// True if psnr, ssim and galleries have a meaning.
    pub fn is_of_pictures(&self) -> bool {
        self.pictures
    }

    /// True if values may have any size, so that there is no box.
    pub fn is_free(&self) -> bool {
        self.subject.reading.is_free()
    }

    /// Refuses a request that needs a variance if the encoder gives none: `wants` names what needs it.
    pub fn ensure_scale(&self, wants: &str, expected: &str) -> Result<()> {
        if self.model.vae.has_scale() {
            return Ok(());
        }
        let found = "a model whose encoder gives one tensor, a code without a variance";
        Err(Error::request(wants, expected, found))
    }

    /// [`Job::ensure_scale`] for a metric that is measured.
    pub fn ensure_metric(&self, metric: MetricKind) -> Result<()> {
        self.ensure_one_of(metric, "mean or output, or decoder (--metric mean)")
    }

    /// [`Job::ensure_scale`] for a metric whose directions are images, which those of `decoder` are not.
    pub fn ensure_directions(&self, metric: MetricKind) -> Result<()> {
        self.ensure_one_of(metric, "mean or output (--metric mean)")
    }

    fn ensure_one_of(&self, metric: MetricKind, without_scale: &str) -> Result<()> {
        match metric {
            MetricKind::Mean | MetricKind::Output | MetricKind::Decoder => Ok(()),
            _ => self.ensure_scale(&format!("metric {metric}"), without_scale),
        }
    }

    /// Checks that the model takes the data's images: a run folder states their shape, a TorchScript file is tried.
    fn ensure_fit(&self) -> Result<()> {
        let (path, ImageShape { channels: c, height: h, width: w }) = (self.subject.model.display(), self.shape);
        let found = |why: String| {
            let last = self.subject.reading.layout.is_none() && self.axes.len() == 3 && (c > 4 || w <= 4);
            let hint = if last { " (or are the channels last? --layout nhwc)" } else { "" };
            Error::request(format!("model {path}"), format!("one that takes the data's images, {c}x{h}x{w}{hint}"), why)
        };
        if let Some(image) = self.model.image {
            return if image == self.shape {
                Ok(())
            } else {
                Err(found(format!("one for {}x{}x{}", image.channels, image.height, image.width)))
            };
        }
        // Two equal images, so that the check that explains batch normalisation in training mode finds it.
        let pair = self.sample()?.f_repeat([2, 1, 1, 1])?;
        match tch::no_grad(|| self.model.vae.encode(&pair)) {
            Ok(q) if q.mean.size().first() == Some(&2) => Ok(()),
            Ok(q) => Err(found(format!("a posterior of shape {:?} for two images", q.mean.size()))),
            // Neither says anything of the model.
            Err(error) if error.is_out_of_memory() || matches!(error, Error::Interrupted) => Err(error),
            Err(error) => {
                let alone = tch::no_grad(|| self.model.vae.encode(&self.sample()?));
                let why = match alone {
                    Ok(_) => {
                        "it takes one image, but not two: traced with that number built in? export it by torch.jit.script".to_owned()
                    }
                    Err(_) => error.to_string(),
                };
                Err(found(why))
            }
        }
    }

    /// The n samples at some positions, [n, C, H, W], in the model's form.
    pub fn read(&self, positions: &[u64]) -> Result<Tensor> {
        if positions.len() == 1 && self.positions.first() == positions.first() {
            return self.sample();
        }
        Ok(self.source.read(positions)?.images.f_to_device(self.device)?.f_to_kind(self.kind)?)
    }

    /// The first sample, [1, C, H, W], in the model's form; it is read only once.
    pub fn sample(&self) -> Result<Tensor> {
        if let Some(first) = self.first.get() {
            return Ok(first.shallow_clone());
        }
        let first = self.source.read(&[self.positions.first().copied().unwrap_or(0)])?;
        let first = first.images.f_to_device(self.device)?.f_to_kind(self.kind)?;
        Ok(self.first.get_or_init(|| first).shallow_clone())
    }

    /// Further root attributes of a file: names of classes, samples that are not pictures, and what the weights of a run folder are the
    /// weights of. The same weights under another activation are another model, and rows of both must not be in one file.
    pub fn described(&self, mut extra: BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
        if !self.pictures {
            extra.insert("pictures".to_owned(), "no".to_owned());
        }
        // An attribute in HDF5 holds at most 64 KiB.
        let classes = self.source.classes().map(|names| names.join("\n")).filter(|names| names.len() < 60_000);
        extra.extend(classes.map(|names| ("classes".to_owned(), names)));
        if let Some(spec) = &self.model.spec {
            let text = serde_json::to_string(spec).map_err(|e| Error::internal("pipeline", e.to_string()))?;
            extra.insert("model_spec".to_owned(), text);
        }
        Ok(extra)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::event::Silent;
    use crate::model::{Posterior, View};

    /// A model without room for any image.
    struct Full;

    impl Vae for Full {
        fn encode(&self, _: &Tensor) -> Result<Posterior> {
            let message = "the interpreter failed\nRuntimeError: CUDA out of memory.".to_owned();
            Err(Error::Native { routine: "encode", message })
        }
        fn decode(&self, z: &Tensor) -> Result<Tensor> {
            Ok(z.shallow_clone())
        }
    }

    #[test]
    fn memory_that_runs_out_is_no_fault_of_the_request() {
        let subject = Subject {
            model: "full".into(),
            data: "strokes:size=8".to_owned(),
            split: Split::default(),
            limit: Some(2),
            sample: None,
            reading: Reading::default(),
            interface: Interface::default(),
            shard: None,
            precision: Precision::F32,
            seed: 0,
            device: DeviceChoice::Cpu,
            batch: BatchSize::default(),
            output: PathBuf::new(),
            overwrite: Overwrite::No,
            hand_out: HandOut::default(),
        };
        let open = |_: Device, _: Kind, _: Option<View>| -> Result<Model> {
            let (sha256, path) = (String::new(), PathBuf::from("full"));
            Ok(Model { vae: Box::new(Full), image: None, latent: None, spec: None, sha256, path })
        };
        let provided = Provided { model: Some(&open), ..Provided::default() };
        let error = Job::open(&subject, &provided, &Silent).map(drop).unwrap_err();
        assert_eq!((error.kind(), error.exit_code()), (ErrorKind::OutOfMemory, 1), "{error}");
    }
}
