//! Attacked images as files: 8-bit PNG, one for each sample, in a folder for each attack and epsilon.

use super::job::Job;
use crate::attack::AttackSpec;
use crate::error::{Error, Result};
use crate::store::{self, Overwrite};
use image::{ExtendedColorType, ImageFormat};
use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::{Cursor, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use tch::{Device, Kind, Tensor};

/// The folder for attacked images.
pub(super) struct Pictures {
    folder: PathBuf,
    color: ExtendedColorType,
    size: (u32, u32),
    /// What this run has, if it replaces what an earlier run left.
    replacing: Option<Own>,
    /// Folders from which other samples were removed; none before the first picture.
    cleared: Mutex<HashSet<PathBuf>>,
}

/// The pictures of a run.
struct Own {
    samples: HashSet<u64>,
    /// [`place`] of every attack and epsilon.
    places: HashSet<PathBuf>,
}

impl Pictures {
    /// Checks the folder before any work. The result file goes on with its finished samples only where their pictures at all of `eps` are
    /// in the folder; without them it is begun anew, if it may be replaced.
    ///
    /// # Errors
    /// A wrong request if samples are not pictures, the folder holds files that must not be replaced, or pictures of an earlier run are gone.
    pub fn open(folder: &Path, attacks: &[AttackSpec], eps: &[f64], job: &Job) -> Result<Self> {
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
        let replacing = (subject.overwrite == Overwrite::Yes).then(|| {
            let names: Vec<String> = attacks.iter().flat_map(AttackSpec::results).collect();
            let places =
                names.iter().flat_map(|attack| eps.iter().map(move |epsilon| place(attack, *epsilon))).collect();
            Own { samples: job.positions().iter().copied().collect(), places }
        });
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

    /// Removes the pictures of samples that are not of this run from `folder`, and before the first picture those of other attacks and
    /// epsilons, so that old and new ones do not lie side by side. Nothing else: this run writes its own anew, and other processes of it
    /// write there as well.
    fn clear(&self, folder: &Path) -> Result<()> {
        let Some(own) = &self.replacing else { return Ok(()) };
        {
            let mut cleared = self.cleared.lock().unwrap_or_else(PoisonError::into_inner);
            if cleared.is_empty() {
                for attack in folders(&self.folder)? {
                    let stale = folders(&attack).unwrap_or_default().into_iter().filter(|place| {
                        is_place(place) && place.strip_prefix(&self.folder).is_ok_and(|p| !own.places.contains(p))
                    });
                    for stale in stale {
                        remove_pictures(&stale, |_| true)?;
                        // What else is in there is the user's, and so are the folders then.
                        let _ = std::fs::remove_dir(&stale).and_then(|()| std::fs::remove_dir(&attack));
                    }
                }
            }
            if !cleared.insert(folder.to_owned()) {
                return Ok(());
            }
        }
        remove_pictures(folder, |index| !own.samples.contains(&index))
    }
}

/// The folders in a folder.
fn folders(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(|e| Error::io(folder, e))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<Vec<_>>>();
    Ok(paths
        .map_err(|e| Error::io(folder, e))?
        .into_iter()
        .filter(|path| path.is_dir() && !path.is_symlink())
        .collect())
}

/// True if a folder is named as [`place`] names those of an epsilon.
fn is_place(folder: &Path) -> bool {
    let name = folder.file_name().and_then(|name| name.to_str());
    let epsilon = name.and_then(|name| name.strip_prefix("eps-")?.parse::<f64>().ok());
    epsilon.is_some_and(|epsilon| place("", epsilon).as_os_str().to_str() == name)
}

/// Removes the pictures of the samples that are `stale`; what another process of this run has removed is no error.
fn remove_pictures(folder: &Path, stale: impl Fn(u64) -> bool) -> Result<()> {
    let unless_gone = |path: &Path, done: std::io::Result<()>| match done {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io(path, e)),
        _ => Ok(()),
    };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) => return unless_gone(folder, Err(e)),
    };
    for entry in entries {
        let path = entry.map_err(|e| Error::io(folder, e))?.path();
        if path.is_file() && sample_of(&path).is_some_and(&stale) {
            unless_gone(&path, std::fs::remove_file(&path))?;
        }
    }
    Ok(())
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
        let pictures = |replacing: Option<Own>| Pictures {
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
        for stale in ["race/eps-1", "pgd/eps-0.5", "pgd/eps-one", "kept/eps-2"] {
            std::fs::create_dir_all(folder.path().join(stale)).unwrap();
            std::fs::write(folder.path().join(stale).join("000000.png"), "old").unwrap();
        }
        std::fs::write(folder.path().join("kept/eps-2/notes.txt"), "mine").unwrap();
        let own = Own { samples: [0, 1].into(), places: [super::place("race", 0.5), super::place("race", 2.0)].into() };
        let replacing = pictures(Some(own));
        replacing.write("race", 0.5, &[0], &images).unwrap();
        // Sample 1 may be one that a stopped run has done.
        assert!(there("000000.png") && there("000001.png") && !there("000007.png") && !there("1000007.png"));
        assert!(others.iter().all(|name| there(name)));
        // Of other attacks and epsilons nothing is left but what is somebody else's.
        let left = |path: &str| folder.path().join(path).exists();
        assert!(!left("race/eps-1") && !left("pgd/eps-0.5") && left("pgd/eps-one/000000.png"));
        assert!(!left("kept/eps-2/000000.png") && left("kept/eps-2/notes.txt"));
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
