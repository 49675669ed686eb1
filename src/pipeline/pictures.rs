//! Attacked images as files: 8-bit PNG, one for each sample, in a folder for each attack and epsilon.

use super::job::Job;
use crate::error::{Error, Result};
use crate::store::{self, Overwrite};
use image::{ExtendedColorType, ImageFormat};
use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use tch::{Device, Kind, Tensor};

/// The folder for attacked images.
pub(super) struct Pictures {
    folder: PathBuf,
    color: ExtendedColorType,
    size: (u32, u32),
    /// The run's samples, if it replaces what an earlier run left.
    replacing: Option<HashSet<u64>>,
    /// Folders from which other samples were removed.
    cleared: Mutex<HashSet<PathBuf>>,
}

impl Pictures {
    /// Checks the folder before any work. The result file goes on with its finished samples only where their pictures at all of `eps` are
    /// in the folder; without them it is begun anew, if it may be replaced.
    ///
    /// # Errors
    /// A wrong request if samples are not pictures, the folder holds files that must not be replaced, or pictures of an earlier run are gone.
    pub fn open(folder: &Path, eps: &[f64], job: &Job) -> Result<Self> {
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
        let partial = PathBuf::from(partial);
        let begun = std::fs::metadata(&partial).is_ok_and(|found| found.len() > 0);
        let goes_on = begun || subject.overwrite == Overwrite::Yes;
        let shown = || format!("--save-png {}", folder.display());
        if folder.exists() && !folder.is_dir() {
            return Err(Error::request(shown(), "a folder", "a file"));
        }
        let holds = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
        if holds && !goes_on {
            let expected = "a folder that is empty or not there (--force replaces files)";
            return Err(Error::request(shown(), expected, "files"));
        }
        if let Some(missing) = missing(folder, &subject.output, eps) {
            if subject.overwrite == Overwrite::No {
                let partial = partial.display();
                let expected = format!("the pictures of the samples in {partial} (--force computes them again)");
                return Err(Error::request(shown(), expected, format!("no {}", missing.display())));
            }
            store::discard_unfinished(&subject.output)?;
        }
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        let replacing = (subject.overwrite == Overwrite::Yes).then(|| job.positions().iter().copied().collect());
        let size = (shape.width as u32, shape.height as u32);
        Ok(Self { folder: folder.to_owned(), color, size, replacing, cleared: Mutex::default() })
    }

    /// Writes `images` [n, C, H, W], multiples of 1/255 in [0, 1], of the samples `index`: FOLDER/ATTACK/eps-E/INDEX.png.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, attack: &str, epsilon: f64, index: &[u64], images: &Tensor) -> Result<()> {
        let folder = self.folder.join(place(attack, epsilon));
        std::fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, e))?;
        self.clear(&folder)?;
        let bytes = images.f_permute([0, 2, 3, 1])?.f_mul_scalar(255.0)?.f_round()?.f_clamp(0.0, 255.0)?;
        let bytes = bytes.f_to_kind(Kind::Uint8)?.f_to_device(Device::Cpu)?.f_contiguous()?.f_view([-1])?;
        let bytes: Vec<u8> = Vec::try_from(&bytes)?;
        let (width, height) = self.size;
        for (pixels, index) in bytes.chunks(bytes.len() / index.len().max(1)).zip(index) {
            let path = folder.join(name_of(*index));
            // In memory first: an encoder on a file leaves its last bytes to a buffer, whose errors nobody hears of.
            let mut file = Cursor::new(Vec::new());
            image::write_buffer_with_format(&mut file, pixels, width, height, self.color, ImageFormat::Png)
                .map_err(|e| Error::io(&path, std::io::Error::other(e)))?;
            std::fs::write(&path, file.into_inner()).map_err(|e| Error::io(&path, e))?;
        }
        Ok(())
    }

    /// Removes the pictures of samples that are not of this run from `folder`, so that old and new ones do not lie side by side. Nothing
    /// else: this run writes its own anew, and other processes of it write there as well.
    fn clear(&self, folder: &Path) -> Result<()> {
        let Some(samples) = &self.replacing else { return Ok(()) };
        if !self.cleared.lock().unwrap_or_else(PoisonError::into_inner).insert(folder.to_owned()) {
            return Ok(());
        }
        for entry in std::fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
            let path = entry.map_err(|e| Error::io(folder, e))?.path();
            if path.is_file() && sample_of(&path).is_some_and(|index| !samples.contains(&index)) {
                std::fs::remove_file(&path).map_err(|e| Error::io(&path, e))?;
            }
        }
        Ok(())
    }
}

/// A picture in `folder` that the unfinished result `output` counts as there and that is not; a file that cannot be read counts none, and
/// is begun anew by whoever writes it.
fn missing(folder: &Path, output: &Path, eps: &[f64]) -> Option<PathBuf> {
    let (samples, paths) = store::begun(output).ok()?;
    let attacks: BTreeSet<&str> =
        paths.iter().filter_map(|path| path.strip_prefix("/attack/")?.split('/').next()).collect();
    let of_attack = |attack| eps.iter().map(move |epsilon| place(attack, *epsilon));
    let places: Vec<PathBuf> = attacks.into_iter().flat_map(of_attack).collect();
    let all = places.iter().flat_map(|place| samples.iter().map(|index| place.join(name_of(*index))));
    all.into_iter().find(|picture| !is_whole(&folder.join(picture)))
}

/// True if a picture is there up to its end, which a machine that stopped may have left out.
fn is_whole(path: &Path) -> bool {
    const END: &[u8; 8] = b"IEND\xaeB`\x82";
    let end = || -> std::io::Result<[u8; 8]> {
        let (mut file, mut end) = (File::open(path)?, [0; 8]);
        file.seek(SeekFrom::End(-8))?;
        file.read_exact(&mut end)?;
        Ok(end)
    };
    end().is_ok_and(|end| end == *END)
}

/// The folder of an attack's pictures at an epsilon.
fn place(attack: &str, epsilon: f64) -> PathBuf {
    Path::new(attack).join(format!("eps-{epsilon}"))
}

/// The name of a sample's picture.
fn name_of(index: u64) -> String {
    format!("{index:06}.png")
}

/// The sample whose picture has this name; `None` for any other file.
fn sample_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    let index = name.strip_suffix(".png")?.parse::<u64>().ok()?;
    (name_of(index) == name).then_some(index)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn pictures_of_other_samples_give_way_and_other_files_stay() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("race/eps-0.5");
        std::fs::create_dir_all(&place).unwrap();
        let others = ["7.png", "notes.txt", "000007.png.bak", "0000007.png", "x00007.png"];
        for name in others.into_iter().chain(["000001.png", "000007.png", "1000007.png"]) {
            std::fs::write(place.join(name), "old").unwrap();
        }
        let pictures = |replacing: Option<HashSet<u64>>| Pictures {
            folder: folder.path().to_owned(),
            color: ExtendedColorType::L8,
            size: (2, 3),
            replacing,
            cleared: Mutex::default(),
        };
        let images = Tensor::zeros([1, 1, 3, 2], (Kind::Float, Device::Cpu));
        let there = |name: &str| place.join(name).exists();
        pictures(None).write("race", 0.5, &[0], &images).unwrap();
        image::open(place.join("000000.png")).unwrap();
        assert!(there("000007.png") && there("1000007.png"));
        let replacing = pictures(Some([0, 1].into()));
        replacing.write("race", 0.5, &[0], &images).unwrap();
        // Sample 1 may be one that a stopped run has done.
        assert!(there("000000.png") && there("000001.png") && !there("000007.png") && !there("1000007.png"));
        assert!(others.iter().all(|name| there(name)));
        // Once for each folder, and not below another attack.
        std::fs::write(place.join("000008.png"), "another process").unwrap();
        replacing.write("race", 0.5, &[1], &images).unwrap();
        assert!(there("000008.png"));
    }

    #[test]
    fn a_picture_that_a_full_disk_does_not_take_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("pgd/eps-1");
        std::fs::create_dir_all(&place).unwrap();
        std::os::unix::fs::symlink("/dev/full", place.join("000000.png")).unwrap();
        let (color, size) = (ExtendedColorType::L8, (2, 3));
        let pictures =
            Pictures { folder: folder.path().to_owned(), color, size, replacing: None, cleared: Mutex::default() };
        let images = Tensor::zeros([1, 1, 3, 2], (Kind::Float, Device::Cpu));
        let error = pictures.write("pgd", 1.0, &[0], &images).unwrap_err();
        assert!(error.exit_code() == 1 && error.to_string().contains("000000.png"), "{error}");
    }
}
