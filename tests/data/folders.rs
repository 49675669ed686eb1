//! Folders of pictures as people keep them, against Pillow and torchvision's order of files.

use super::{all, labels, pixels, text};
use pullback::data::{Background, FullScale, Reading, Source, Split, open, open_as};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

/// Runs Python in `folder`; what it says comes back, none where there is no Python with Pillow.
fn python(folder: &Path, code: &str) -> Option<String> {
    let interpreter = crate::files::interpreter();
    if !interpreter.exists() {
        println!("skipped: no {}", interpreter.display());
        return None;
    }
    let done = Command::new(interpreter).args(["-c", code]).current_dir(folder).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Some(String::from_utf8(done.stdout).unwrap())
}

fn numbers(text: &str) -> Vec<f32> {
    text.split_whitespace().map(|v| v.parse().unwrap()).collect()
}

/// Makes pictures `x` [5, 4, 3] and its grey [5, 4].
const PICTURES: &str = "
import numpy, sys, os
from PIL import Image
x = numpy.random.default_rng(3).integers(0, 256, (5, 4, 3), dtype='uint8')
g = x[..., 0]
";

#[test]
fn every_kind_of_picture_is_as_pillow_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let Some(told) = python(
        folder.path(),
        &format!(
            "{PICTURES}
kinds = dict(bmp={{}}, ppm={{}}, tif={{}}, tiff=dict(compression='tiff_lzw'), webp=dict(lossless=True), png={{}}, gif={{}})
for kind, options in kinds.items():
    os.makedirs('c/' + kind)
    Image.fromarray(x).save(f'c/{{kind}}/a.{{kind}}', **options)
    if kind not in ('webp', 'ppm'):
        os.makedirs('g/' + kind)
        Image.fromarray(g).save(f'g/{{kind}}/a.{{kind}}', **options)
os.makedirs('g/pgm'); Image.fromarray(g).save('g/pgm/a.pgm')
os.makedirs('g/palette'); Image.fromarray(g).convert('P').save('g/palette/a.png')
for top, mode in (('c', 'RGB'), ('g', 'L')):
    for kind in sorted(os.listdir(top)):
        name = os.listdir(f'{{top}}/{{kind}}')[0]
        seen = numpy.asarray(Image.open(f'{{top}}/{{kind}}/{{name}}').convert(mode))
        planes = seen.transpose(2, 0, 1) if mode == 'RGB' else seen
        print(f'{{top}}/{{kind}}', *(planes.astype('f4') / 255).ravel())
"
        ),
    ) else {
        return;
    };
    assert!(told.lines().count() >= 13, "{told}");
    for line in told.lines() {
        let (place, values) = line.split_once(' ').unwrap();
        let source = open(text(&folder.path().join(place)), Split::Test, None).unwrap();
        let channels = if place.starts_with('c') { 3 } else { 1 };
        assert_eq!((source.shape().channels, source.notes()), (channels, vec![]), "{place}");
        assert_eq!(pixels(&all(&*source)), numbers(values), "{place}");
    }
}

#[test]
fn transparent_pixels_lie_on_what_was_said() {
    let folder = tempfile::tempdir().unwrap();
    let code = format!(
        "{PICTURES}
a = numpy.full((5, 4), 255, 'uint8'); a[1, 2] = 0; a[3, 3] = 102
os.mkdir('colour'); os.mkdir('palette')
Image.fromarray(numpy.dstack([x, a])).save('colour/a.png')
p = Image.fromarray(g % 4, 'P'); p.putpalette([0, 0, 0, 9, 9, 9, 90, 90, 90, 255, 255, 255]); p.save('palette/a.png', transparency=2)
for back in (0, 255):
    w = a[..., None] / 255
    print(*((w * x + (1 - w) * back) / 255).transpose(2, 0, 1).astype('f4').ravel())
"
    );
    let Some(told) = python(folder.path(), &code) else { return };
    for place in ["colour", "palette"] {
        let error = open(text(&folder.path().join(place)), Split::Test, None).err().unwrap();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("--background black|white"), "{error}");
    }
    for (line, background) in told.lines().zip([Background::Black, Background::White]) {
        let reading = Reading { background: Some(background), ..Reading::default() };
        let found = pixels(&all(&*open_as(text(&folder.path().join("colour")), Split::Test, None, &reading).unwrap()));
        for (a, b) in found.iter().zip(numbers(line)) {
            assert!((a - b).abs() <= 4.0 * f32::EPSILON, "{a}, expected {b}");
        }
    }
}

/// The pixels of a folder of pictures over a background.
fn over(folder: &Path, background: Background, full_scale: Option<f64>) -> Vec<f32> {
    let full_scale = full_scale.map(FullScale::Value);
    let reading = Reading { background: Some(background), full_scale, ..Reading::default() };
    pixels(&all(&*open_as(text(folder), Split::Test, None, &reading).unwrap()))
}

/// TIFF files whose colours are multiplied by their alpha: Pillow writes the others, of which one number is changed.
#[test]
fn alpha_that_is_multiplied_already_is_not_multiplied_again() {
    let folder = tempfile::tempdir().unwrap();
    let code = format!(
        "{PICTURES}
a = numpy.full((5, 4), 255, 'uint8'); a[1, 2] = 0; a[3, 3] = 102; a[2, :] = 51
m = (x * (a[..., None] / 255)).round().astype('uint8')
os.mkdir('pillow'); os.mkdir('bigendian')
Image.fromarray(numpy.dstack([m, a])).save('pillow/a.tif')
data = open('pillow/a.tif', 'rb').read()
entry = b'\\x52\\x01\\x03\\0\\x01\\0\\0\\0'
assert data.count(entry + b'\\2') == 1
open('pillow/a.tif', 'wb').write(data.replace(entry + b'\\2', entry + b'\\1'))
import struct
tags = dict([(256, 4), (257, 5), (258, 8), (259, 1), (262, 2), (273, 8 + 2 + 12 * 11 + 4 + 8), (277, 4), (278, 5), (279, 80), (284, 1), (338, 1)])
with open('bigendian/a.tif', 'wb') as f:
    f.write(b'MM' + struct.pack('>HIH', 42, 8, len(tags)))
    for tag, value in tags.items():
        f.write(struct.pack('>HHII', tag, 3, 4, 8 + 2 + 12 * 11 + 4) if tag == 258 else struct.pack('>HHIHH', tag, 3, 1, value, 0))
    f.write(bytes(4) + struct.pack('>4H', 8, 8, 8, 8) + numpy.dstack([m, a]).tobytes())
for name in ('pillow', 'bigendian'):
    assert Image.open(name + '/a.tif').tag_v2[338] == (1,)
for back in (0, 255):
    print(*((m + (1 - a[..., None] / 255) * back) / 255).transpose(2, 0, 1).astype('f4').ravel())
"
    );
    let Some(told) = python(folder.path(), &code) else { return };
    for name in ["pillow", "bigendian"] {
        for (line, background) in told.lines().zip([Background::Black, Background::White]) {
            for (a, b) in over(&folder.path().join(name), background, None).iter().zip(numbers(line)) {
                assert!((a - b).abs() <= 4.0 * f32::EPSILON, "{name}: {a}, expected {b}");
            }
        }
    }
}

#[test]
fn what_is_blended_is_not_rounded() {
    let folder = tempfile::tempdir().unwrap();
    let code = format!(
        "{PICTURES}
Image.fromarray(numpy.dstack([x, numpy.arange(20, dtype='uint8').reshape(5, 4) * 13])).save('a.png')"
    );
    let Some(_) = python(folder.path(), &code) else { return };
    let (own, said) =
        (over(folder.path(), Background::White, None), over(folder.path(), Background::White, Some(255.0)));
    let half = over(folder.path(), Background::White, Some(510.0));
    for ((a, b), c) in own.iter().zip(&said).zip(&half) {
        assert!((a - b).abs() <= f32::EPSILON && (a / 2.0 - c).abs() <= f32::EPSILON, "{a}, {b}, {c}");
    }
    assert!(own.iter().any(|p| (p * 255.0 - (p * 255.0).round()).abs() > 0.2));
}

/// Files of a folder: empty names make folders.
fn tree(files: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        if name.ends_with(".png") && !path.file_name().unwrap().to_string_lossy().starts_with("._") {
            std::fs::copy(super::golden("grey.png"), path).unwrap();
        } else if !name.ends_with('/') {
            std::fs::write(path, "no picture").unwrap();
        }
    }
    dir
}

fn opened(dir: &tempfile::TempDir, split: Split) -> Arc<dyn Source> {
    open(text(dir.path()), split, None).unwrap()
}

#[test]
fn pictures_lie_at_any_depth_below_a_class() {
    // Tiny ImageNet has train/n01/images/n01_0.JPEG, and its val flat in one folder.
    let dir = tree(&[
        "train/n02/images/a.png",
        "train/n01/images/b.png",
        "train/n01/images/a.png",
        "train/n01/z.png",
        "train/n01/boxes.txt",
        "val/images/a.png",
        "wnids.txt",
    ]);
    let train = opened(&dir, Split::Train);
    assert_eq!(labels(&all(&*train)), [0, 0, 0, 1]);
    assert_eq!(train.classes().unwrap(), ["n01", "n02"]);
    assert_eq!(opened(&dir, Split::Val).len(), 1);
    // A link is followed, and one to a folder above is not entered again.
    std::os::unix::fs::symlink(dir.path().join("train/n02"), dir.path().join("train/n01/images/loop")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("train/n01"), dir.path().join("train/n01/images/above")).unwrap();
    assert_eq!(labels(&all(&*opened(&dir, Split::Train))), [0, 0, 0, 0, 1]);
}

#[test]
fn splits_are_no_classes_and_litter_is_nothing() {
    for val in ["val", "valid", "validation"] {
        let dir = tree(&["train/a/1.png", "train/b/1.png", &format!("{val}/a/1.png")]);
        assert_eq!((opened(&dir, Split::Val).len(), opened(&dir, Split::Train).len()), (1, 2), "{val}");
    }
    for (train, test) in [("Train", "Test"), ("TRAIN", "test"), ("training", "testing"), ("Training", "Test")] {
        let dir = tree(&[&format!("{train}/a/1.png"), &format!("{train}/b/1.png"), &format!("{test}/a/1.png")]);
        assert_eq!((opened(&dir, Split::Test).len(), opened(&dir, Split::Train).len()), (1, 2), "{train}, {test}");
        assert_eq!(opened(&dir, Split::Train).classes().unwrap(), ["a", "b"]);
    }
    // Of two names for one split the usual one counts.
    let dir = tree(&["train/a/1.png", "valid/a/1.png", "val/a/1.png", "val/a/2.png"]);
    let val = opened(&dir, Split::Val);
    assert!(val.len() == 2 && val.notes().iter().any(|n| n.contains("valid left out")), "{:?}", val.notes());
    let dir = tree(&[
        "train/a/1.png",
        "train/b/1.png",
        "test/a/1.png",
        "masks/1.png",
        "__MACOSX/train/a/._1.png",
        "train/empty/.DS_Store",
        "train/c/Thumbs.db",
        "train/d/._1.png",
        "train/__MACOSX/1.png",
        "notes/readme.txt",
    ]);
    let train = opened(&dir, Split::Train);
    assert_eq!(train.classes().unwrap(), ["a", "b"]);
    assert!(train.notes().iter().any(|n| n.contains("masks left out, beside train, test")), "{:?}", train.notes());
    // Folders of nothing but litter are no classes, whatever their number.
    let flat = tree(&["1.png", "2.png", "x/.DS_Store", "y/Thumbs.db"]);
    assert_eq!((opened(&flat, Split::Test).len(), opened(&flat, Split::Test).has_labels()), (2, false));
    // What is a picture but not read is counted.
    let some = tree(&["a/1.png", "a/2.heic", "b/1.png", "b/2.heic", "b/3.avif"]);
    let notes = opened(&some, Split::Test).notes();
    assert!(notes.iter().any(|n| n.contains("3 files left out, not read: avif, heic")), "{notes:?}");
}

#[test]
fn pictures_of_16_bits_keep_them() {
    let dir = tempfile::tempdir().unwrap();
    // 12 bits in 16, of PNG by its header and of TIFF by its pixels.
    let value = |x: u32, y: u32| (4095 - 97 * (5 * y + x)) as u16;
    for name in ["a.png", "b.tiff"] {
        let picture = image::ImageBuffer::from_fn(5, 4, |x, y| image::Luma([value(x, y)]));
        picture.save(dir.path().join(name)).unwrap();
    }
    let expected = |scale: f32| -> Vec<f32> {
        let one: Vec<f32> = (0..20).map(|i| f32::from(value(i % 5, i / 5)) / scale).collect();
        [one.clone(), one].concat()
    };
    let reading = |full_scale| Reading { full_scale, ..Reading::default() };
    let opened = |full_scale| open_as(text(dir.path()), Split::Test, None, &reading(full_scale));
    for (full_scale, scale) in [(None, 65535.0), (Some(FullScale::Value(4095.0)), 4095.0), (Some(FullScale::None), 1.0)]
    {
        let source = opened(full_scale).unwrap();
        assert_eq!((source.full_scale(), pixels(&all(&*source))), (65535.0, expected(scale)), "{full_scale:?}");
        let warned = source.notes().iter().any(|n| n.contains("--full-scale 4095, if they have 12 bits"));
        assert_eq!(warned, full_scale.is_none(), "{:?}", source.notes());
    }
    // One scale for both depths would be wrong for one of them.
    image::GrayImage::from_fn(5, 4, |x, y| image::Luma([(12 * (5 * y + x)) as u8]))
        .save(dir.path().join("c.png"))
        .unwrap();
    let error = opened(Some(FullScale::Value(4095.0))).err().unwrap();
    let line = error.to_string();
    assert_eq!((error.exit_code(), line.lines().count()), (2, 1), "{line}");
    assert!(
        line.contains("c.png: expected 16 bits a value like \"a.png\"") && line.ends_with("8 bits a value"),
        "{line}"
    );
    let mixed = pixels(&all(&*opened(None).unwrap()));
    assert_eq!((&mixed[..40], mixed[59]), (&expected(65535.0)[..], 228.0 / 255.0));
}
