//! Images of a sweep. They lie beside the numbers, one row for each sample (`/clean/images` [S,N,C,H,W], `/clean/recon`,
//! `/attack/<attack>/images` [S,E,N,C,H,W], `/attack/<attack>/recon`, `/spectrum/directions` [S,N,K,C,H,W]), or, if only a few samples were
//! kept, under `/pictures` with the same paths: `/pictures/index` i64 [M] says which samples, `/pictures/clean/images` is [M,C,H,W] or
//! [S,M,C,H,W], and the rest has M in place of N.

use crate::error::{Error, Result};
use crate::report::figure::Picture;
use crate::report::study::{AttackedImages, Directions, Gallery, Sample, SweepPoint};
use crate::report::words;
use crate::store::{Reader, Values};

/// Where pictures lie in a file.
struct Place<'a> {
    reader: &'a Reader,
    prefix: &'static str,
    /// Rows to read, if they lie beside the numbers.
    rows: Option<&'a [usize]>,
}

/// Pictures of one data set: by sample, then in the order of the other axes.
type BySample = Vec<Vec<Picture>>;

/// D of the images in the file, if it has any.
pub(super) fn dim(reader: &Reader) -> Option<usize> {
    let paths = ["/clean/images", "/pictures/clean/images", "/spectrum/directions", "/pictures/spectrum/directions"];
    let info = paths.iter().find_map(|p| reader.info(p))?;
    let n = info.shape.len();
    (n > 3).then(|| info.shape[n - 3..].iter().product())
}

/// Adds galleries and directions to the points at `shown`, for the sizes at `sizes`. Of a point's models the one at `first` is shown; the
/// file has `models` models.
pub(super) fn add(
    reader: &Reader,
    points: &mut [SweepPoint],
    shown: &[usize],
    first: &[usize],
    models: usize,
    sizes: &[usize],
    rows: &[usize],
) -> Result<()> {
    let apart = reader.info("/pictures/index").is_some();
    let place = Place { reader, prefix: if apart { "/pictures" } else { "" }, rows: (!apart).then_some(rows) };
    let index: Vec<u64> = if apart {
        reader.read_i64("/pictures/index")?.1.into_iter().map(|i| i as u64).collect()
    } else {
        rows.iter().map(|r| reader.index().get(*r).copied().unwrap_or(*r as u64)).collect()
    };
    let labels = match reader.info("/label") {
        Some(_) => reader.read_i64("/label")?.1,
        None => vec![],
    };
    let samples: Vec<Sample> = index
        .iter()
        .map(|i| {
            let row = reader.index().iter().position(|j| j == i).unwrap_or(*i as usize);
            Sample { row, index: *i, label: labels.get(row).copied() }
        })
        .collect();
    let originals = place.read("/clean/images", 1)?;
    let recon = place.read("/clean/recon", 1)?;
    if let Some(originals) = &originals {
        for at in shown {
            points[*at].gallery = Some(Gallery {
                samples: samples.clone(),
                // The inputs may be stored once, or once for each model.
                originals: pick(originals, first[*at]).unwrap_or_else(|| pick(originals, 0).unwrap_or_default()),
                recon: recon.as_ref().and_then(|r| pick(r, first[*at])).unwrap_or_default(),
                attacks: vec![],
            });
        }
        let mut attacks = reader.attacks();
        attacks.sort_by_key(|n| words::attack_order(n));
        for attack in attacks {
            let images = place.read(&format!("/attack/{attack}/images"), 2)?;
            let recon = place.read(&format!("/attack/{attack}/recon"), 2)?;
            let Some(images) = images else { continue };
            let all_sizes = images.first().map_or(0, Vec::len) / models.max(1);
            for at in shown {
                let at_size = |set: &BySample| -> Vec<Vec<Picture>> {
                    sizes.iter().filter_map(|e| pick(set, first[*at] * all_sizes + e)).collect()
                };
                let entry = AttackedImages {
                    name: attack.clone(),
                    images: at_size(&images),
                    recon: recon.as_ref().map(at_size).unwrap_or_default(),
                };
                if let Some(gallery) = points[*at].gallery.as_mut() {
                    gallery.attacks.push(entry);
                }
            }
        }
    }
    if let Some(directions) = place.read("/spectrum/directions", 1)? {
        let ranks = directions.first().map_or(0, Vec::len) / models.max(1);
        for at in shown {
            points[*at].directions = index
                .iter()
                .zip(&directions)
                .map(|(index, all)| Directions {
                    index: *index,
                    vectors: all.iter().skip(first[*at] * ranks).take(ranks).cloned().collect(),
                })
                .collect();
        }
    }
    Ok(())
}

/// Picture `at` of each sample; `None` if some sample has no such picture.
fn pick(set: &BySample, at: usize) -> Option<Vec<Picture>> {
    set.iter().map(|pictures| pictures.get(at).cloned()).collect()
}

impl Place<'_> {
    /// Reads the pictures at `path`, whose axis `axis` counts samples (or the first, in a set of inputs stored once).
    fn read(&self, path: &str, axis: usize) -> Result<Option<BySample>> {
        let path = format!("{}{path}", self.prefix);
        if self.reader.info(&path).is_none() {
            return Ok(None);
        }
        if let Some(rows) = self.rows {
            return rows
                .iter()
                .map(|row| super::picture::pictures(self.reader, &path, *row))
                .collect::<Result<BySample>>()
                .map(Some);
        }
        let column = self.reader.read(&path)?;
        let wrong = || {
            Error::request(
                format!("{}: {path}", self.reader.path().display()),
                "f32 pictures, C, H and W on the last axes",
                format!("shape {:?}", column.shape),
            )
        };
        let [lead @ .., channels, height, width] = &column.shape[..] else { return Err(wrong()) };
        let Values::F32(values) = &column.values else { return Err(wrong()) };
        let axis = if lead.len() == 1 { 0 } else { axis };
        let Some(samples) = lead.get(axis) else { return Err(wrong()) };
        let inner: usize = lead[axis + 1..].iter().product();
        let mut found = vec![Vec::new(); *samples];
        let dim = (channels * height * width).max(1);
        for (i, chunk) in values.chunks_exact(dim).enumerate() {
            let picture = Picture { channels: *channels, height: *height, width: *width, values: chunk.to_vec() };
            found[i / inner.max(1) % samples].push(picture);
        }
        Ok(Some(found))
    }
}
