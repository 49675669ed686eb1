//! Attacked images as files: 8-bit PNG, one for each sample, in a folder for each attack and epsilon.

use super::job::Job;
use crate::error::{Error, Result};
use crate::store::Overwrite;
use image::{ExtendedColorType, ImageFormat};
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// The folder for attacked images.
pub(super) struct Pictures {
    folder: PathBuf,
    color: ExtendedColorType,
    size: (u32, u32),
}

impl Pictures {
    /// Checks the folder before any work.
    ///
    /// # Errors
    /// A wrong request if samples are not pictures, or the folder holds files that must not be replaced.
    pub fn open(folder: &Path, job: &Job) -> Result<Self> {
        let subject = job.subject();
        let shape = job.shape;
        let color = match (job.is_of_pictures(), shape.channels) {
            (true, 1) => ExtendedColorType::L8,
            (true, 3) => ExtendedColorType::Rgb8,
            (pictures, channels) => {
                let found = if pictures { format!("{channels} channels") } else { "no pictures".to_owned() };
                return Err(Error::request("--save-png", "pictures of one or three channels", found));
            }
        };
        // A resumed run finds its own files there.
        let mut partial = subject.output.clone().into_os_string();
        partial.push(".partial");
        let goes_on = Path::new(&partial).exists() || subject.overwrite == Overwrite::Yes;
        let holds = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
        if holds && !goes_on {
            let expected = "a folder that is empty or not there (--force replaces files)";
            return Err(Error::request(format!("--save-png {}", folder.display()), expected, "files"));
        }
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        Ok(Self { folder: folder.to_owned(), color, size: (shape.width as u32, shape.height as u32) })
    }

    /// Writes `images` [n, C, H, W], multiples of 1/255 in [0, 1], of the samples `index`: FOLDER/ATTACK/eps-E/INDEX.png.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, attack: &str, epsilon: f64, index: &[u64], images: &Tensor) -> Result<()> {
        let folder = self.folder.join(attack).join(format!("eps-{epsilon}"));
        std::fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, e))?;
        let bytes = images.f_permute([0, 2, 3, 1])?.f_mul_scalar(255.0)?.f_round()?.f_clamp(0.0, 255.0)?;
        let bytes = bytes.f_to_kind(Kind::Uint8)?.f_to_device(Device::Cpu)?.f_contiguous()?.f_view([-1])?;
        let bytes: Vec<u8> = Vec::try_from(&bytes)?;
        let (width, height) = self.size;
        for (pixels, index) in bytes.chunks(bytes.len() / index.len().max(1)).zip(index) {
            let path = folder.join(format!("{index:06}.png"));
            image::save_buffer_with_format(&path, pixels, width, height, self.color, ImageFormat::Png)
                .map_err(|e| Error::io(&path, std::io::Error::other(e)))?;
        }
        Ok(())
    }
}
