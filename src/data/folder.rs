//! A folder of PNG and JPEG images: one subfolder a class, or flat.

use crate::data::open::{Entry, image_shape, list};
use crate::data::probe::{Colour, Header, format, jpeg_is_whole, probe};
use crate::data::rows::{self, first_line, wrong};
use crate::data::{Batch, ImageShape, Source, Split};
use crate::error::{Error, Result};
use image::ImageFormat;
use rayon::prelude::*;
use std::path::{Path, PathBuf};

/// The images of a folder, by class and name.
pub struct Folder {
    name: String,
    files: Vec<PathBuf>,
    /// Class of each file: its subfolder's position among the subfolders by name. `None` where the folder is flat.
    labels: Option<Vec<i64>>,
    shape: ImageShape,
}

impl Folder {
    /// Finds the images and checks every header; `None` where there is no image.
    ///
    /// Subfolders `train` and `test` are splits, any others classes.
    pub fn open(root: &Path, split: Split) -> Result<Option<Self>> {
        let (folders, images) = sort(list(root)?);
        let is_split = |e: &Entry| ["train", "test", "val", "valid", "validation"].contains(&e.name.as_str());
        let has = |split: Split| folders.iter().find(|e| e.name == split.name());
        let split_folders = has(Split::Train).is_some() || has(Split::Test).is_some();
        if images.is_empty() && split_folders && folders.iter().all(is_split) {
            let part = has(split).ok_or_else(|| {
                wrong(root, format!("a subfolder {:?} for that split", split.name()), "only the other split's")
            })?;
            let (folders, images) = sort(list(&part.path)?);
            return Self::of(&part.path, &folders, images);
        }
        Self::of(root, &folders, images)
    }

    fn of(root: &Path, folders: &[Entry], images: Vec<Entry>) -> Result<Option<Self>> {
        let mut files: Vec<PathBuf> = images.into_iter().map(|e| e.path).collect();
        let mut labels = None;
        let mut classes = Vec::new();
        for (class, folder) in (0i64..).zip(folders) {
            let (_, images) = sort(list(&folder.path)?);
            classes.extend(images.into_iter().map(|e| (e.path, class)));
        }
        if !classes.is_empty() {
            if let Some(flat) = files.first() {
                let found = format!("both, such as {:?} beside {:?}", base(flat), base(&folders[0].path));
                return Err(wrong(root, "images in it or in its subfolders", found));
            }
            let (paths, numbers): (Vec<_>, Vec<_>) = classes.into_iter().unzip();
            (files, labels) = (paths, Some(numbers));
        }
        let Some(shape) = common_shape(&files)? else { return Ok(None) };
        Ok(Some(Self { name: root.display().to_string(), files, labels, shape }))
    }
}

/// Subfolders and image files of a listing; anything else is passed over.
fn sort(entries: Vec<Entry>) -> (Vec<Entry>, Vec<Entry>) {
    let is_image = |e: &Entry| {
        let extension = e.path.extension().map(|x| x.to_string_lossy().to_ascii_lowercase());
        extension.is_some_and(|x| ["png", "jpg", "jpeg"].contains(&x.as_str()))
    };
    let (images, others): (Vec<_>, Vec<_>) = entries.into_iter().partition(is_image);
    (others.into_iter().filter(|e| e.path.is_dir()).collect(), images)
}

fn base(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The shape that all files share, with three channels where any has colour; `None` of no file.
fn common_shape(files: &[PathBuf]) -> Result<Option<ImageShape>> {
    // Collected before any error is looked at, so that the first file in order is named, not the first in time.
    let headers: Vec<Result<Header>> = files.par_iter().map(|path| probe(path)).collect();
    let mut common: Option<Header> = None;
    for (header, path) in headers.into_iter().zip(files) {
        let header = header?;
        let first = common.get_or_insert(header);
        if (header.height, header.width) != (first.height, first.width) {
            let expected = format!("{} x {} pixels (W x H) like {:?}", first.width, first.height, base(&files[0]));
            return Err(wrong(path, expected, format!("{} x {}", header.width, header.height)));
        }
        if header.colour == Colour::Rgb {
            first.colour = Colour::Rgb;
        }
    }
    let Some((header, first)) = common.zip(files.first()) else { return Ok(None) };
    let channels = if header.colour == Colour::Rgb { 3 } else { 1 };
    let place = first.display().to_string();
    image_shape(&place, channels, header.height.into(), header.width.into()).map(Some)
}

/// Decodes the image at `path` into `out`, [C, H, W] in [0, 1]: 8-bit values / 255, 16-bit values / 65535.
fn decode(path: &Path, shape: ImageShape, out: &mut [f32]) -> Result<()> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    let format = format(&bytes).ok_or_else(|| wrong(path, "a PNG or JPEG image", "another kind of file"))?;
    if format == ImageFormat::Jpeg && !jpeg_is_whole(&bytes) {
        return Err(wrong(path, "a whole JPEG image", "a file that ends too early"));
    }
    let image = image::load_from_memory_with_format(&bytes, format)
        .map_err(|e| wrong(path, "a readable PNG or JPEG image", first_line(&e)))?;
    if (i64::from(image.height()), i64::from(image.width())) != (shape.height, shape.width) {
        let found = format!("{} x {}", image.width(), image.height());
        return Err(wrong(path, format!("{} x {} pixels", shape.width, shape.height), found));
    }
    let colour = shape.channels > 1;
    // 8-bit values are widened, not rescaled: v / 255 must come out exactly.
    let wide = |bytes: Vec<u8>| (bytes.into_iter().map(u16::from).collect::<Vec<u16>>(), 255.0);
    let is_deep = image.color().bits_per_pixel() / u16::from(image.color().channel_count()) > 8;
    let (values, top) = match (colour, is_deep) {
        (false, false) => wide(image.to_luma_alpha8().into_raw()),
        (true, false) => wide(image.to_rgba8().into_raw()),
        (false, true) => (image.to_luma_alpha16().into_raw(), 65535.0f32),
        (true, true) => (image.to_rgba16().into_raw(), 65535.0),
    };
    let channels = if colour { 3 } else { 1 };
    let plane = out.len() / channels;
    for (position, pixel) in values.chunks_exact(channels + 1).enumerate() {
        let alpha = f32::from(pixel[channels]);
        // What shows through a transparent pixel is not in the file; to guess it would change the data.
        if alpha < top {
            return Err(wrong(path, "opaque pixels", format!("alpha {} at pixel {position}", alpha / top)));
        }
        for (channel, &value) in pixel[..channels].iter().enumerate() {
            out[channel * plane + position] = f32::from(value) / top;
        }
    }
    Ok(())
}

impl Source for Folder {
    fn name(&self) -> &str {
        &self.name
    }
    fn format(&self) -> &'static str {
        "PNG/JPEG folder"
    }
    fn len(&self) -> usize {
        self.files.len()
    }
    fn shape(&self) -> ImageShape {
        self.shape
    }
    fn has_labels(&self) -> bool {
        self.labels.is_some()
    }
    fn read(&self, index: &[u64]) -> Result<Batch> {
        let width = self.shape.dim() as usize;
        let mut pixels = vec![0f32; index.len() * width];
        let outcomes: Vec<Result<()>> = pixels
            .par_chunks_mut(width)
            .zip(index.par_iter())
            .map(|(out, &i)| decode(&self.files[i as usize], self.shape, out))
            .collect();
        outcomes.into_iter().collect::<Result<()>>()?;
        let labels = self.labels.as_ref().map(|all| index.iter().map(|&i| all[i as usize]).collect::<Vec<_>>());
        rows::batch(rows::from_floats(&pixels, self.shape)?, labels.as_deref(), index)
    }
}
