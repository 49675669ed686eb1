//! A training run's log for TensorBoard: `RUN/tensorboard` holds its losses and settings for each epoch, and some of its images: inputs
//! above their reconstructions, and samples of the prior.

use crate::data::Source;
use crate::error::Result;
use crate::model::{Network, Vae};
use crate::seed::{self, Stage};
use crate::store::tensorboard::{EventWriter, Step};
use crate::train::{Epoch, Follow, History, TrainSpec};
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor};

/// The folder of the event files in a run folder.
const FOLDER: &str = "tensorboard";
/// Images in a row.
const COLUMNS: usize = 8;
/// Rows of samples.
const ROWS: usize = 4;
/// About how many times a run shows its images.
const SHOWN: u32 = 10;

/// Writes the event file of one run.
pub(super) struct TrainLog<'a> {
    folder: PathBuf,
    /// Opened when the progress of the run is known.
    writer: Option<EventWriter>,
    /// The last epoch in the file.
    told: u64,
    spec: &'a TrainSpec,
    /// The inputs that are shown, [M, C, H, W].
    inputs: Tensor,
    seed: u64,
}

impl<'a> TrainLog<'a> {
    /// The log of the run in `folder`, which shows the first images of `source`.
    pub fn new(folder: &Path, source: &dyn Source, spec: &'a TrainSpec, seed: u64) -> Result<Self> {
        let index: Vec<u64> = (0..source.len().min(COLUMNS) as u64).collect();
        let inputs = source.read(&index)?.images;
        Ok(Self { folder: folder.join(FOLDER), writer: None, told: 0, spec, inputs, seed })
    }

    /// Removes the log of the run in `folder`.
    pub fn clear(folder: &Path) -> Result<()> {
        Ok(EventWriter::clear(&folder.join(FOLDER))?)
    }

    /// Whether images are shown after this epoch: the first, the last, and some between.
    fn shows(&self, epoch: u32) -> bool {
        let every = (self.spec.epochs / SHOWN).max(1);
        epoch == 1 || epoch == self.spec.epochs || epoch.is_multiple_of(every)
    }

    fn pictures(&self, network: &Network, step: &mut Step) -> Result<()> {
        if self.inputs.size().contains(&0) {
            return Ok(());
        }
        let _no_grad = tch::no_grad_guard();
        let to_model = |t: &Tensor| t.f_to_device(network.device())?.f_to_kind(network.kind());
        let codes = network.encode(&to_model(&self.inputs)?)?.mean;
        let recon = network.decode(&codes)?;
        let pair = Tensor::f_cat(&[&self.inputs, &host(&recon)?], 0)?;
        show(step, "images/reconstructions", &pair, self.inputs.size()[0] as usize)?;
        // The codes are always the same, so that their images can be compared over the epochs.
        let places: Vec<u64> = (0..(ROWS * COLUMNS) as u64).collect();
        let latent = network.architecture().latent() as usize;
        let codes = seed::normal(self.seed, Stage::Show, &places, latent)?;
        show(step, "images/samples", &host(&network.decode(&to_model(&codes)?)?)?, COLUMNS)
    }
}

impl Follow for TrainLog<'_> {
    /// Adds the epochs that the file does not hold: the one that has just ended, or earlier ones that a killed run or a run without a log
    /// left out. Images are added only for epochs at which this run had the network.
    fn follow(&mut self, network: &Network, history: &History) -> Result<()> {
        if self.writer.is_none() {
            let (writer, last) = EventWriter::resume(&self.folder, history.epochs.len() as u64)?;
            (self.writer, self.told) = (Some(writer), last.unwrap_or(0));
        }
        for (place, epoch) in history.epochs.iter().enumerate().skip(self.told as usize) {
            let mut step = Step::new(u64::from(epoch.epoch));
            scalars(epoch, self.spec, &mut step);
            if place + 1 == history.epochs.len() && self.shows(epoch.epoch) {
                self.pictures(network, &mut step)?;
            }
            if let Some(writer) = &mut self.writer {
                writer.put(&step)?;
            }
        }
        self.told = history.epochs.len() as u64;
        if let Some(writer) = &mut self.writer {
            writer.flush()?;
        }
        Ok(())
    }
}

/// The curves' names and values, as in `history.csv`.
fn scalars(epoch: &Epoch, spec: &TrainSpec, step: &mut Step) {
    let mut told = vec![
        ("train/loss", epoch.loss),
        ("train/reconstruction", epoch.reconstruction),
        ("train/kl", epoch.kl),
        ("schedule/beta", epoch.beta),
        ("schedule/lr", epoch.lr),
        ("seconds", epoch.seconds),
    ];
    if spec.mixup.is_on() {
        told.push(("train/mixup", epoch.mixup));
    }
    if let Some(valid) = &epoch.valid {
        told.extend([
            ("valid/elbo", valid.elbo),
            ("valid/reconstruction", valid.reconstruction),
            ("valid/kl", valid.kl),
        ]);
    }
    told.into_iter().for_each(|(tag, value)| step.scalar(tag, value));
}

/// Images to the host, f32.
fn host(images: &Tensor) -> Result<Tensor> {
    Ok(images.f_to_device(tch::Device::Cpu)?.f_to_kind(Kind::Float)?)
}

/// Adds images [M, C, H, W] as one image, `columns` in a row, with a black line between them. TensorBoard shows one channel or three: of
/// other numbers of channels it gets the first.
fn show(step: &mut Step, tag: &str, images: &Tensor, columns: usize) -> Result<()> {
    let [m, c, h, w] = images.size()[..] else { return Ok(()) };
    let c = if c == 3 { 3 } else { 1 };
    let images = images.f_narrow(1, 0, c)?;
    let rows = (m as usize).div_ceil(columns.max(1)) as i64;
    // Adds one pixel to the right of each image and below it, then joins rows of images.
    let padded = images.f_clamp(0.0, 1.0)?.f_mul_scalar(255.0)?.f_round()?.f_constant_pad_nd([0, 1, 0, 1])?;
    let missing = rows * columns as i64 - m;
    let padded = Tensor::f_cat(
        &[&padded, &padded.f_new_zeros([missing, c, h + 1, w + 1], (Kind::Float, tch::Device::Cpu))?],
        0,
    )?;
    let sheet = padded
        .f_reshape([rows, columns as i64, c, h + 1, w + 1])?
        .f_permute([0, 3, 1, 4, 2])?
        .f_reshape([rows * (h + 1), columns as i64 * (w + 1), c])?
        .f_to_kind(Kind::Uint8)?
        .f_contiguous()?;
    let mut pixels = vec![0u8; sheet.numel()];
    sheet.f_copy_data(&mut pixels, sheet.numel())?;
    step.image(tag, &pixels, (columns as i64 * (w + 1)) as u32, (rows * (h + 1)) as u32, c as u32)?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn images_of_any_number_of_channels_are_shown() {
        let shown = |images: &Tensor| {
            let mut step = Step::new(1);
            show(&mut step, "images", images, 2).unwrap();
            format!("{step:?}")
        };
        let images = Tensor::rand([3, 5, 4, 6], (Kind::Float, tch::Device::Cpu));
        let first = shown(&images.narrow(1, 0, 1));
        for channels in [2, 4, 5] {
            assert_eq!(shown(&images.narrow(1, 0, channels)), first, "{channels} channels");
        }
        assert_ne!(shown(&images.narrow(1, 0, 3)), first);
    }
}
