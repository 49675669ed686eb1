//! A folder of pictures: one subfolder for each class, as in torchvision's ImageFolder, or a flat folder.

use crate::data::array::image_shape;
use crate::data::listing::{Entry, list};
use crate::data::picture::{self, Look};
use crate::data::probe::Colour;
use crate::data::rows::{self, no_split, wrong};
use crate::data::tree::{self, Found};
use crate::data::{Background, Batch, ImageShape, Reading, Source, Split};
use crate::error::Result;
use rayon::prelude::*;
use std::path::{Path, PathBuf};

/// The images of a folder, by class and name.
pub struct Folder {
    name: String,
    files: Vec<PathBuf>,
    /// Class of each file: its subfolder's position among the subfolders with pictures, by name. `None` if the folder is flat.
    labels: Option<Vec<i64>>,
    /// The names of these subfolders.
    classes: Vec<String>,
    shape: ImageShape,
    /// 65535 if all pictures have 16 bits a value.
    scale: f64,
    background: Option<Background>,
    notes: Vec<String>,
}

impl Folder {
    /// Finds the images and checks every header; `None` if there is no image.
    ///
    /// Subfolders that are named like splits (`train`, `Training`, `test`, `val`, ...) are splits; all others are classes. Pictures may be at
    /// any depth below a class.
    pub fn open(root: &Path, split: Split, reading: &Reading) -> Result<Option<Self>> {
        let mut notes = Vec::new();
        let (folders, images) = tree::sort(list(root)?);
        let called = |name: &str, split: Split| split.names().iter().any(|n| n.eq_ignore_ascii_case(name));
        let usual = |split: Split| split.names().iter().find_map(|name| folders.iter().find(|e| e.name == *name));
        let named = |split| usual(split).or_else(|| folders.iter().find(|e| called(&e.name, split)));
        let splits: Vec<&str> = Split::ALL.into_iter().filter_map(named).map(|e| e.name.as_str()).collect();
        if !images.is_empty() || splits.is_empty() {
            return Self::of(root, folders, images, reading, notes);
        }
        let mut others = Vec::new();
        for entry in folders.iter().filter(|e| !splits.contains(&e.name.as_str())) {
            if !tree::pictures(&entry.path)?.files.is_empty() {
                others.push(entry.name.as_str());
            }
        }
        match (splits.as_slice(), others.as_slice()) {
            (_, []) => {}
            ([only], [other, ..]) => {
                // A class may have such a name, too.
                let expected = "splits (train, test, val), or classes of which none is called so";
                let remedy = format!("give {}/{only} for that split alone, or rename the folder", root.display());
                return Err(wrong(root, expected, format!("{only:?} beside {other:?} ({remedy})")));
            }
            (splits, others) => {
                let line = format!("{}: {} left out, beside {}", root.display(), others.join(", "), splits.join(", "));
                notes.push(line);
            }
        }
        let Some(part) = named(split) else {
            return Err(no_split(root, split, format!("a subfolder {:?}", split.name()), splits.join(", ")));
        };
        let (folders, images) = tree::sort(list(&part.path)?);
        Self::of(&part.path, folders, images, reading, notes)
    }

    fn of(
        root: &Path,
        folders: Vec<Entry>,
        images: Vec<Entry>,
        reading: &Reading,
        mut notes: Vec<String>,
    ) -> Result<Option<Self>> {
        let mut files: Vec<PathBuf> = images.into_iter().map(|e| e.path).collect();
        let (mut numbers, mut classes, mut below, mut unread) =
            (Vec::new(), Vec::new(), Vec::new(), tree::unread(root)?);
        for folder in folders {
            let Found { files, unread: others } = tree::pictures(&folder.path)?;
            unread += &others;
            if !files.is_empty() {
                numbers.extend(vec![classes.len() as i64; files.len()]);
                classes.push(folder.name);
                below.extend(files);
            }
        }
        let mut labels = None;
        if let Some(class) = classes.first() {
            if let Some(flat) = files.first() {
                let found = format!("both, such as {:?} beside {class:?}", base(flat));
                return Err(wrong(root, "images in it or in its subfolders", found));
            }
            (files, labels) = (below, Some(numbers));
        }
        notes.extend(unread.note(root));
        let Some((shape, scale)) = common(&files, reading)? else { return Ok(None) };
        let background = reading.background;
        Ok(Some(Self { name: root.display().to_string(), files, labels, classes, shape, scale, background, notes }))
    }
}

fn base(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The shape that all files share, with three channels if any file has colour, and the value that is read as 1; `None` if there is no file.
fn common(files: &[PathBuf], reading: &Reading) -> Result<Option<(ImageShape, f64)>> {
    // All results are collected before an error is returned, so that the error names the first file in order, not in time.
    let looks: Vec<Result<Look>> = files.par_iter().map(|path| picture::look(path, reading.background)).collect();
    let (mut common, mut wide): (Option<Look>, bool) = (None, true);
    for (look, path) in looks.into_iter().zip(files) {
        let look = look?;
        let first = common.get_or_insert(look);
        if (look.height, look.width) != (first.height, first.width) {
            let expected = format!("{} x {} pixels (W x H) like {:?}", first.width, first.height, base(&files[0]));
            let remedy = "one size (in Python: PIL.Image.resize, or torchvision.transforms.Resize and CenterCrop)";
            return Err(wrong(path, expected, format!("{} x {}; bring all to {remedy}", look.width, look.height)));
        }
        if look.wide != first.wide && reading.full_scale.is_some() {
            let bits = |wide| if wide { "16 bits a value" } else { "8 bits a value" };
            let expected = format!("{} like {:?}, because --full-scale is for all", bits(first.wide), base(&files[0]));
            return Err(wrong(path, expected, bits(look.wide)));
        }
        wide &= look.wide;
        if look.colour == Colour::Rgb {
            first.colour = Colour::Rgb;
        }
    }
    let Some((look, first)) = common.zip(files.first()) else { return Ok(None) };
    let channels = if look.colour == Colour::Rgb { 3 } else { 1 };
    let place = first.display().to_string();
    let shape = image_shape(&place, channels, look.height.into(), look.width.into())?;
    Ok(Some((shape, if wide { 65535.0 } else { 255.0 })))
}

impl Source for Folder {
    fn name(&self) -> &str {
        &self.name
    }
    fn format(&self) -> &'static str {
        "folder of pictures"
    }
    fn len(&self) -> usize {
        self.files.len()
    }
    fn shape(&self) -> ImageShape {
        self.shape
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
    fn classes(&self) -> Option<&[String]> {
        self.labels.as_ref().map(|_| self.classes.as_slice())
    }
    fn read(&self, index: &[u64]) -> Result<Batch> {
        let width = self.shape.dim() as usize;
        let mut pixels = vec![0f32; index.len() * width];
        let outcomes: Vec<Result<()>> = pixels
            .par_chunks_mut(width)
            .zip(index.par_iter())
            .map(|(out, &i)| picture::decode(&self.files[i as usize], self.shape, self.background, out))
            .collect();
        outcomes.into_iter().collect::<Result<()>>()?;
        let labels = self.labels.as_ref().map(|all| index.iter().map(|&i| all[i as usize]).collect::<Vec<_>>());
        rows::batch(rows::from_floats(&pixels, self.shape)?, labels.as_deref(), index)
    }
}
