//! HDF5 files with `/images` and, if known, `/labels`; only the requested rows are read.

use crate::data::array::{Axes, Numbers, class, is_one_each};
use crate::data::listing::Entry;
use crate::data::names;
use crate::data::rows::{self, first_line, no_split, wrong};
use crate::data::stored::{CHUNK_CACHE, ensure_readable, ensure_stored, is_matlab, opened, reversed, unreadable};
use crate::data::{Batch, ImageShape, Reading, Source, Split};
use crate::error::{Error, Result};
use hdf5::types::{FloatSize, IntSize, TypeDescriptor as Kind};
use hdf5::{Dataset, File, Group, H5Type, Hyperslab, LocationType, Selection, SliceOrIndex};
use ndarray::IxDyn;
use std::ops::Range;
use std::path::{Path, PathBuf};
use tch::Tensor;

/// A larger chunk is cached whole too, up to this size; otherwise it would be unpacked again for every few rows.
const LARGEST_CHUNK: usize = 2 << 30;

/// One split of an HDF5 file.
pub struct Hdf5 {
    path: PathBuf,
    name: String,
    images: Dataset,
    labels: Option<Dataset>,
    axes: Axes,
    numbers: Numbers,
    /// The stored value that means 1.
    scale: f64,
    reading: Reading,
    notes: Vec<String>,
}

/// The file of `split` in a folder with `train.h5` or `test.h5` (or `.hdf5`); `None` if there is neither.
pub fn of_split(folder: &Path, entries: &[Entry], split: Split) -> Result<Option<PathBuf>> {
    let find = |split: Split| {
        let is_file = |e: &Entry, name: &str| e.name.strip_prefix(name).is_some_and(|x| x == ".h5" || x == ".hdf5");
        let named = |e: &&Entry| split.names().iter().any(|name| is_file(e, name));
        entries.iter().find(named).map(|e| e.path.clone())
    };
    match (find(split), find(Split::Train).or(find(Split::Test))) {
        (None, Some(other)) => {
            let found = format!("only {:?}", other.file_name().unwrap_or_default());
            Err(no_split(folder, split, format!("{}.h5", split.name()), found))
        }
        (found, _) => Ok(found),
    }
}

impl Hdf5 {
    /// Opens `/images` and `/labels`, or those of the group `/train` or `/test` if the file has such groups; or the data set `named` and
    /// the labels beside it.
    pub fn open(path: &Path, split: Split, named: Option<&str>, reading: &Reading) -> Result<Self> {
        let mut cache = CHUNK_CACHE;
        let named = named.map(|name| Some(name.trim_end_matches('/')).filter(|n| !n.is_empty()).unwrap_or(name));
        let (group, images) = loop {
            let file = opened(path, cache)?;
            let (group, place) = match named {
                Some(name) => (file.group("/").map_err(|e| unreadable(path, &e))?, name.to_owned()),
                None => {
                    let (group, prefix) = group_of(&file, path, split)?;
                    (group, format!("{prefix}/images"))
                }
            };
            let images = file.dataset(&place).map_err(|e| absent(&file, path, &place, &e))?;
            let wanted = chunk_bytes(&images);
            if wanted <= cache || wanted > LARGEST_CHUNK {
                break (group, images);
            }
            // The cache belongs to the file: the file is closed completely and opened again.
            cache = wanted;
        };
        let place = format!("{}: {}", path.display(), images.name());
        ensure_readable(&images, &place)?;
        let axes = Axes::of(&place, &images.shape(), reading)?;
        let (numbers, stored) = numbers_of(&images);
        let Some(numbers) = numbers else {
            return Err(Error::request(place, "integers, bool or floating point", stored));
        };
        let scale = numbers.full_scale(&place, &stored, reading)?;
        let mut notes: Vec<String> = axes.note(reading).into_iter().map(|note| format!("{place}: {note}")).collect();
        ensure_stored(&images, path, &place, &mut notes)?;
        let labels = match named {
            None => group.link_exists("labels").then(|| ("labels".to_owned(), true)),
            Some(name) => beside(&group, name),
        };
        let labels = match labels {
            Some((name, twin)) => labels_of(&group, path, &name, axes.count, twin, &mut notes)?,
            None => None,
        };
        let name = path.display().to_string();
        Ok(Self { path: path.to_owned(), name, images, labels, axes, numbers, scale, reading: *reading, notes })
    }

    /// Reads the rows at `index` of the images as `T`.
    fn rows<T: H5Type + Copy + Default>(&self, index: &[u64]) -> Result<Vec<T>> {
        rows::gather(index, self.axes.shape.dim() as usize, |range, out| self.run(&self.images, range, out))
    }

    /// Fills `out` with a range of rows, which HDF5 converts if the stored type is another.
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

    /// The labels at `index`. HDF5 itself would cut the largest numbers without a word.
    fn classes(&self, labels: &Dataset, index: &[u64]) -> Result<Vec<i64>> {
        if !matches!(labels.dtype().and_then(|t| t.to_descriptor()), Ok(Kind::Unsigned(IntSize::U8))) {
            return rows::gather(index, 1, |range, out: &mut [i64]| self.run(labels, range, out));
        }
        let place = format!("{}: {}", self.path.display(), labels.name());
        let wide = rows::gather(index, 1, |range, out: &mut [u64]| self.run(labels, range, out))?;
        wide.into_iter().map(|label| class(&place, label)).collect()
    }

    /// The images at `index`, stored as `T`.
    fn images<T>(&self, index: &[u64]) -> Result<Tensor>
    where
        T: H5Type + Copy + Default + Sync + std::fmt::Display + Into<f64>,
    {
        let place = format!("{}: {}", self.path.display(), self.images.name());
        let values = self.rows::<T>(index)?;
        self.axes.images(&self.numbers.pixels(&place, index, &values, self.scale, &self.reading)?)
    }
}

/// Bytes of one unpacked chunk.
fn chunk_bytes(images: &Dataset) -> usize {
    let width = images.dtype().map_or(8, |t| t.size());
    images.chunk().map_or(0, |chunk| chunk.iter().fold(width, |n, d| n.saturating_mul(*d)))
}

/// The error for a missing data set, with the names of the existing ones.
fn absent(file: &File, path: &Path, name: &str, e: &hdf5::Error) -> Error {
    if file.link_exists(name) {
        return wrong(path, format!("a dataset {name}"), first_line(e));
    }
    wrong(path, format!("a dataset {name}"), members(file))
}

/// The labels beside the data set `name`, by the usual names, and whether they are named after it.
fn beside(root: &Group, name: &str) -> Option<(String, bool)> {
    let (folder, own) = name.rsplit_once('/').unwrap_or(("", name));
    let twins = names::of_labels(own).into_iter().map(|labels| (labels, true));
    let usual = names::of_any_labels(own).map(|labels| (labels.to_owned(), false));
    twins
        .chain(usual)
        .map(|(labels, twin)| (format!("{folder}/{labels}"), twin))
        .find(|(labels, _)| root.link_exists(labels))
}

/// The group that holds the images of `split`, and its path without a trailing slash.
fn group_of(file: &File, path: &Path, split: Split) -> Result<(Group, String)> {
    let of = |split: Split| {
        let name = split.names().iter().find(|name| file.link_exists(name))?;
        file.group(name).ok().filter(|g| g.link_exists("images")).map(|group| (group, format!("/{name}")))
    };
    match (of(split), of(Split::Train).is_some() || of(Split::Test).is_some()) {
        (Some(found), _) => Ok(found),
        (None, true) => Err(no_split(path, split, format!("/{}/images", split.name()), "only the other split's group")),
        (None, false) if file.link_exists("images") => {
            let root = file.group("/").map_err(|e| unreadable(path, &e))?;
            Ok((root, String::new()))
        }
        (None, false) if file.datasets().is_ok_and(|all| all.iter().any(is_matlab)) => {
            Err(reversed(path.display().to_string()))
        }
        (None, false) => {
            let expected = "a dataset /images (or /train/images and /test/images; another name by -d FILE.h5:/NAME)";
            Err(wrong(path, expected, members(file)))
        }
    }
}

/// A short description of a file's contents.
fn members(file: &File) -> String {
    match file.member_names().unwrap_or_default().as_slice() {
        [] => "an empty file".to_owned(),
        few if few.len() <= 6 => format!("/{}", few.join(", /")),
        many => format!("/{} and {} more", many[..5].join(", /"), many.len() - 5),
    }
}

/// How numbers are stored, and the type's name; `None` if they are not numbers.
fn numbers_of(images: &Dataset) -> (Option<Numbers>, String) {
    match images.dtype().and_then(|t| t.to_descriptor()) {
        Ok(found) => {
            let numbers = match &found {
                Kind::Boolean => Some(Numbers::Bool),
                Kind::Unsigned(IntSize::U1) => Some(Numbers::Bytes),
                Kind::Unsigned(IntSize::U2) => Some(Numbers::Words),
                Kind::Unsigned(_) | Kind::Integer(_) => Some(Numbers::Whole),
                Kind::Float(FloatSize::U2 | FloatSize::U4 | FloatSize::U8) => Some(Numbers::Float),
                _ => None,
            };
            (numbers, found.to_string())
        }
        Err(e) => (None, first_line(&e)),
    }
}

/// The data set of labels, if it has an integer for each image; otherwise a note about what it has. One that is no `twin` of the images may
/// belong to others.
fn labels_of(
    group: &Group,
    path: &Path,
    name: &str,
    len: usize,
    twin: bool,
    notes: &mut Vec<String>,
) -> Result<Option<Dataset>> {
    if group.loc_type_by_name(name).is_ok_and(|kind| kind != LocationType::Dataset) {
        notes.push(format!("{}: {name}: left out, a group is no class of each image", path.display()));
        return Ok(None);
    }
    let labels = group.dataset(name).map_err(|e| wrong(path, format!("a dataset {name}"), first_line(&e)))?;
    let place = format!("{}: {}", path.display(), labels.name());
    let shape = labels.shape();
    if shape.first() != Some(&len) {
        if !twin {
            notes.push(format!("{place}: left out, {shape:?} is no class of each image"));
            return Ok(None);
        }
        return Err(Error::request(place, format!("[{len}], one label an image"), format!("{shape:?}")));
    }
    match labels.dtype().and_then(|t| t.to_descriptor()) {
        // HDF5 reads enumerations, of which a boolean is one, as the numbers that they are.
        Ok(Kind::Unsigned(_) | Kind::Integer(_) | Kind::Boolean | Kind::Enum(_)) if is_one_each(&shape, len) => {
            ensure_readable(&labels, &place)?;
            ensure_stored(&labels, path, &place, notes)?;
            Ok(Some(labels))
        }
        Ok(other) => {
            notes.push(format!("{place}: left out, {shape:?} of {other} is no class of each image"));
            Ok(None)
        }
        Err(e) => Err(Error::request(place, "integers", first_line(&e))),
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
        self.axes.count
    }
    fn shape(&self) -> ImageShape {
        self.axes.shape
    }
    fn sample(&self) -> Vec<i64> {
        self.axes.sample.clone()
    }
    fn full_scale(&self) -> f64 {
        self.scale
    }
    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }
    fn has_labels(&self) -> bool {
        self.labels.is_some()
    }
    fn read(&self, index: &[u64]) -> Result<Batch> {
        let images = match self.numbers {
            Numbers::Bytes => self.images::<u8>(index)?,
            Numbers::Words => self.images::<u16>(index)?,
            // HDF5 stores a boolean as an enumeration.
            Numbers::Bool => {
                let values: Vec<u8> = self.rows::<bool>(index)?.into_iter().map(u8::from).collect();
                self.axes.images(&self.numbers.pixels("", index, &values, self.scale, &self.reading)?)?
            }
            Numbers::Float if self.images.dtype().is_ok_and(|t| t.size() <= 4) => self.images::<f32>(index)?,
            Numbers::Whole | Numbers::Float => self.images::<f64>(index)?,
        };
        let labels = self.labels.as_ref().map(|labels| self.classes(labels, index)).transpose()?;
        rows::batch(images, labels.as_deref(), index)
    }
}
