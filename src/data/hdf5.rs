//! HDF5 files with `/images` and, where known, `/labels`; only the rows asked for are read.

use crate::data::open::{Entry, image_shape};
use crate::data::rows::{self, first_line, wrong};
use crate::data::{Batch, ImageShape, Source, Split};
use crate::error::{Error, Result};
use hdf5::types::{FloatSize, IntSize, TypeDescriptor};
use hdf5::{Dataset, File, Group, H5Type, Hyperslab, Selection, SliceOrIndex};
use ndarray::IxDyn;
use rayon::prelude::*;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Unpacked chunks that HDF5 keeps: a chunk holds many rows, and neighbouring batches share it.
const CHUNK_CACHE: usize = 64 << 20;
const SIGNATURE: [u8; 8] = *b"\x89HDF\r\n\x1a\n";

/// One split of an HDF5 file.
pub struct Hdf5 {
    path: PathBuf,
    name: String,
    images: Dataset,
    labels: Option<Dataset>,
    pixels: Pixels,
    len: usize,
    shape: ImageShape,
}

/// How pixels are stored.
#[derive(Clone, Copy)]
enum Pixels {
    Bytes,
    /// Half precision too: HDF5 widens it exactly.
    Single,
    Double,
}

/// True where a file carries HDF5's signature: at byte 0, or after a user block of 512, 1024, 2048, ... bytes.
pub fn has_signature(path: &Path) -> Result<bool> {
    let file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
    let size = file.metadata().map_err(|e| Error::io(path, e))?.len();
    let mut offset = 0u64;
    while offset + 8 <= size && offset <= 1 << 30 {
        let mut bytes = [0u8; 8];
        file.read_exact_at(&mut bytes, offset).map_err(|e| Error::io(path, e))?;
        if bytes == SIGNATURE {
            return Ok(true);
        }
        offset = if offset == 0 { 512 } else { offset * 2 };
    }
    Ok(false)
}

/// The file of `split` in a folder with `train.h5` or `test.h5` (or `.hdf5`); `None` where there is neither.
pub fn of_split(folder: &Path, entries: &[Entry], split: Split) -> Result<Option<PathBuf>> {
    let find = |split: Split| {
        let named = |e: &&Entry| e.name.strip_prefix(split.name()).is_some_and(|x| x == ".h5" || x == ".hdf5");
        entries.iter().find(named).map(|e| e.path.clone())
    };
    match (find(split), find(Split::Train).or(find(Split::Test))) {
        (None, Some(other)) => {
            let expected = format!("{}.h5 for the {0} split", split.name());
            Err(wrong(folder, expected, format!("only {:?}", other.file_name().unwrap_or_default())))
        }
        (found, _) => Ok(found),
    }
}

impl Hdf5 {
    /// Opens `/images` and `/labels`, or those of the group `/train` or `/test` where the file has such groups.
    pub fn open(path: &Path, split: Split) -> Result<Self> {
        let file = File::with_options()
            .with_fapl(|plist| plist.chunk_cache(12_421, CHUNK_CACHE, 0.75))
            .open(path)
            .map_err(|e| unreadable(path, &e))?;
        let (group, prefix) = group_of(&file, path, split)?;
        let place = format!("{}: {prefix}/images", path.display());
        let images = dataset(&group, path, &prefix, "images")?;
        let (len, shape) = layout(&place, &images.shape())?;
        let pixels =
            pixels_of(&images).map_err(|found| Error::request(place, "uint8, float16, float32 or float64", found))?;
        let labels = match group.link_exists("labels") {
            true => Some(labels_of(&group, path, &prefix, len)?),
            false => None,
        };
        Ok(Self { path: path.to_owned(), name: path.display().to_string(), images, labels, pixels, len, shape })
    }

    /// Reads the rows at `index` of the images as `T`.
    fn rows<T: H5Type + Copy + Default>(&self, index: &[u64]) -> Result<Vec<T>> {
        rows::gather(index, self.shape.dim() as usize, |range, out| self.run(&self.images, range, out))
    }

    /// Fills `out` with a range of rows, converted by HDF5 where the stored type is another.
    fn run<T: H5Type + Copy>(&self, dataset: &Dataset, rows: Range<u64>, out: &mut [T]) -> Result<()> {
        let broken = |e: &hdf5::Error| {
            let subject = format!("{}: {}", self.path.display(), dataset.name());
            Error::request(subject, format!("readable rows {} to {}", rows.start, rows.end - 1), first_line(e))
        };
        let mut axes = vec![SliceOrIndex::from(rows.start as usize..rows.end as usize)];
        axes.extend(dataset.shape().iter().skip(1).map(|&n| SliceOrIndex::from(0..n)));
        let selection = Selection::from(Hyperslab::from(axes));
        let values = dataset.read_slice::<T, _, IxDyn>(selection).map_err(|e| broken(&e))?;
        match values.as_slice() {
            Some(values) if values.len() == out.len() => out.copy_from_slice(values),
            _ => return Err(broken(&hdf5::Error::Internal("rows of another size".to_owned()))),
        }
        Ok(())
    }

    /// Refuses pixels outside [0, 1], NaN among them, and makes them single precision.
    fn checked<T: Copy + Sync + std::fmt::Display + Into<f64>>(&self, index: &[u64], values: &[T]) -> Result<Vec<f32>> {
        let width = self.shape.dim() as usize;
        let is_wrong = |v: &T| !(0.0..=1.0).contains(&(*v).into());
        if let Some(position) = values.par_iter().position_first(is_wrong) {
            let subject =
                format!("{}: {}, sample {}", self.path.display(), self.images.name(), index[position / width]);
            return Err(Error::request(subject, "pixels in [0, 1]", values[position].to_string()));
        }
        Ok(values.par_iter().map(|&v| v.into() as f32).collect())
    }
}

/// A file that HDF5 cannot make sense of is the wrong file, wherever in it that shows.
fn unreadable(path: &Path, e: &hdf5::Error) -> Error {
    wrong(path, "a readable HDF5 file", first_line(e))
}

/// The group that holds the images of `split`, and its path without a trailing slash.
fn group_of(file: &File, path: &Path, split: Split) -> Result<(Group, String)> {
    let of = |split: Split| {
        let has = file.link_exists(split.name());
        if has { file.group(split.name()).ok().filter(|g| g.link_exists("images")) } else { None }
    };
    match (of(split), of(Split::Train).is_some() || of(Split::Test).is_some()) {
        (Some(group), _) => Ok((group, format!("/{}", split.name()))),
        (None, true) => Err(wrong(path, format!("/{}/images", split.name()), "only the other split's group")),
        (None, false) if file.link_exists("images") => {
            let root = file.group("/").map_err(|e| unreadable(path, &e))?;
            Ok((root, String::new()))
        }
        (None, false) => {
            let names = file.member_names().map_err(|e| unreadable(path, &e))?;
            let found = match names.as_slice() {
                [] => "an empty file".to_owned(),
                few if few.len() <= 6 => format!("/{}", few.join(", /")),
                many => format!("/{} and {} more", many[..5].join(", /"), many.len() - 5),
            };
            Err(wrong(path, "a dataset /images (or /train/images and /test/images)", found))
        }
    }
}

fn dataset(group: &Group, path: &Path, prefix: &str, name: &str) -> Result<Dataset> {
    group.dataset(name).map_err(|e| wrong(path, format!("a dataset {prefix}/{name}"), first_line(&e)))
}

/// N and the shape of one image, from [N, H, W] or [N, C, H, W].
fn layout(place: &str, axes: &[usize]) -> Result<(usize, ImageShape)> {
    let (n, channels, height, width) = match *axes {
        [n, height, width] => (n, 1, height, width),
        [n, channels @ (1 | 3), height, width] => (n, channels, height, width),
        _ => return Err(Error::request(place, "[N, H, W] or [N, C, H, W] with C 1 or 3", format!("{axes:?}"))),
    };
    if n == 0 {
        return Err(Error::request(place, "at least one image", format!("{axes:?}")));
    }
    Ok((n, image_shape(place, channels as u64, height as u64, width as u64)?))
}

/// How the pixels are stored, or else the name of a type that does not do.
fn pixels_of(images: &Dataset) -> std::result::Result<Pixels, String> {
    match images.dtype().and_then(|t| t.to_descriptor()) {
        Ok(TypeDescriptor::Unsigned(IntSize::U1)) => Ok(Pixels::Bytes),
        Ok(TypeDescriptor::Float(FloatSize::U2 | FloatSize::U4)) => Ok(Pixels::Single),
        Ok(TypeDescriptor::Float(FloatSize::U8)) => Ok(Pixels::Double),
        Ok(other) => Err(other.to_string()),
        Err(e) => Err(first_line(&e)),
    }
}

/// `/labels`: integers, one an image.
fn labels_of(group: &Group, path: &Path, prefix: &str, len: usize) -> Result<Dataset> {
    let labels = dataset(group, path, prefix, "labels")?;
    let place = || format!("{}: {prefix}/labels", path.display());
    if labels.shape() != [len] {
        return Err(Error::request(place(), format!("[{len}], one label an image"), format!("{:?}", labels.shape())));
    }
    match labels.dtype().and_then(|t| t.to_descriptor()) {
        Ok(TypeDescriptor::Unsigned(_) | TypeDescriptor::Integer(_)) => Ok(labels),
        Ok(other) => Err(Error::request(place(), "integers", other.to_string())),
        Err(e) => Err(Error::request(place(), "integers", first_line(&e))),
    }
}

impl Source for Hdf5 {
    fn name(&self) -> &str {
        &self.name
    }
    fn format(&self) -> &'static str {
        "HDF5"
    }
    fn len(&self) -> usize {
        self.len
    }
    fn shape(&self) -> ImageShape {
        self.shape
    }
    fn has_labels(&self) -> bool {
        self.labels.is_some()
    }
    fn read(&self, index: &[u64]) -> Result<Batch> {
        let images = match self.pixels {
            Pixels::Bytes => rows::from_bytes(&self.rows::<u8>(index)?, self.shape)?,
            Pixels::Single => rows::from_floats(&self.checked(index, &self.rows::<f32>(index)?)?, self.shape)?,
            Pixels::Double => rows::from_floats(&self.checked(index, &self.rows::<f64>(index)?)?, self.shape)?,
        };
        let read_labels = |labels| rows::gather(index, 1, |range, out: &mut [i64]| self.run(labels, range, out));
        let labels = self.labels.as_ref().map(read_labels).transpose()?;
        rows::batch(images, labels.as_deref(), index)
    }
}
