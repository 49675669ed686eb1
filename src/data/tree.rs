//! Which files in a folder are pictures, at any depth, in the order of torchvision's ImageFolder.

use crate::data::listing::{Entry, list};
use crate::error::{Error, Result};
use std::collections::{BTreeMap, HashSet};
use std::ops::AddAssign;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Extensions of pictures that are read.
const READ: [&str; 12] = ["png", "jpg", "jpeg", "bmp", "gif", "tif", "tiff", "webp", "ppm", "pgm", "pbm", "pnm"];
/// Extensions of pictures that are not read.
const UNREAD: [&str; 16] =
    ["heic", "heif", "avif", "jp2", "j2k", "jxl", "svg", "psd", "dcm", "nii", "exr", "hdr", "tga", "ico", "eps", "pdf"];

/// Pictures that are left out, counted by their extension.
#[derive(Debug, Default)]
pub struct Unread(BTreeMap<String, usize>);

impl Unread {
    /// A line that counts them; `None` if there are none.
    pub fn note(&self, root: &Path) -> Option<String> {
        let count: usize = self.0.values().sum();
        let kinds: Vec<&str> = self.0.keys().map(String::as_str).collect();
        let remedy = "convert them, to PNG for instance";
        (count > 0)
            .then(|| format!("{}: {count} files left out, not read: {} ({remedy})", root.display(), kinds.join(", ")))
    }

    fn count(&mut self, path: &Path) {
        let extension = extension(path);
        if UNREAD.contains(&extension.as_str()) {
            *self.0.entry(extension).or_default() += 1;
        }
    }
}

impl AddAssign<&Self> for Unread {
    fn add_assign(&mut self, other: &Self) {
        for (kind, count) in &other.0 {
            *self.0.entry(kind.clone()).or_default() += count;
        }
    }
}

/// The pictures below a folder.
#[derive(Debug, Default)]
pub struct Found {
    /// Pictures, folder by folder in the order of their paths, and by name in each folder.
    pub files: Vec<PathBuf>,
    /// Pictures that are not read.
    pub unread: Unread,
}

fn extension(path: &Path) -> String {
    path.extension().map(|x| x.to_string_lossy().to_ascii_lowercase()).unwrap_or_default()
}

/// Subfolders and pictures of a listing; other files are left out.
pub fn sort(entries: Vec<Entry>) -> (Vec<Entry>, Vec<Entry>) {
    let (folders, others): (Vec<_>, Vec<_>) = entries.into_iter().partition(|e| e.path.is_dir());
    (folders, others.into_iter().filter(|e| READ.contains(&extension(&e.path).as_str())).collect())
}

/// The unread pictures directly in a folder.
pub fn unread(folder: &Path) -> Result<Unread> {
    let mut unread = Unread::default();
    list(folder)?.iter().for_each(|e| unread.count(&e.path));
    Ok(unread)
}

/// The pictures at any depth below a folder. Links are followed; each folder is entered only once.
pub fn pictures(folder: &Path) -> Result<Found> {
    let (mut found, mut seen, mut folders) = (Found::default(), HashSet::new(), vec![folder.to_owned()]);
    let mut by_folder = Vec::new();
    while let Some(folder) = folders.pop() {
        let meta = std::fs::metadata(&folder).map_err(|e| Error::io(&folder, e))?;
        if !seen.insert((meta.dev(), meta.ino())) {
            continue;
        }
        let entries = list(&folder)?;
        entries.iter().filter(|e| !e.path.is_dir()).for_each(|e| found.unread.count(&e.path));
        let (below, files) = sort(entries);
        by_folder.push((folder, files));
        folders.extend(below.into_iter().map(|e| e.path));
    }
    // The order of os.walk's folders sorted by the characters of their paths: "a-b" comes before "a/c".
    by_folder.sort_by(|a, b| a.0.as_os_str().cmp(b.0.as_os_str()));
    found.files = by_folder.into_iter().flat_map(|(_, files)| files.into_iter().map(|e| e.path)).collect();
    Ok(found)
}
