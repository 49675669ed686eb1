//! The generated digits: reproducible, legible, and like MNIST in what a model notices first.

use super::{all, labels, open, pixels, shared, text};
use crate::roundoff::apart;
use pullback::data::{Source, Split, batches};
use tch::{Kind, Tensor};

#[test]
fn a_digit_depends_on_its_split_and_index_alone() {
    let source = open("strokes", Split::Test, None).unwrap();
    assert_eq!((source.len(), source.format()), (10_000, "generated digits"));
    assert_eq!(open("strokes", Split::Train, None).unwrap().len(), 60_000);
    let three = source.read(&[9_999, 3, 42]).unwrap();
    assert_eq!(three.images.size(), [3, 1, 28, 28]);
    assert_eq!(labels(&three), [9, 3, 2]);
    let other = open("strokes:n=50", Split::Test, Some(43)).unwrap();
    assert_eq!(pixels(&other.read(&[42]).unwrap()), pixels(&three)[2 * 784..]);
    let train = open("strokes", Split::Train, None).unwrap();
    assert_ne!(pixels(&train.read(&[42]).unwrap()), pixels(&three)[2 * 784..]);
    assert_ne!(pixels(&source.read(&[52]).unwrap()), pixels(&three)[2 * 784..]);
}

#[test]
fn another_size_is_the_same_drawing() {
    let small = all(&*open("strokes:n=20", Split::Test, None).unwrap());
    let large = all(&*open("strokes:n=20,size=84", Split::Test, None).unwrap());
    assert_eq!(large.images.size(), [20, 1, 84, 84]);
    // The centre of every third pixel of the large image is the centre of a pixel of the small one.
    let centres = large.images.slice(2, 1, 84, 3).slice(3, 1, 84, 3);
    let worst = (&centres - &small.images).abs().max().double_value(&[]);
    // Places of up to 84 pixels in single precision, and ink that changes by one from one pixel to the next.
    assert!(worst < 84.0 * apart(Kind::Float, &[1]), "{worst}");
    let control = (centres.roll([1], [3]) - &small.images).abs().max().double_value(&[]);
    assert!(control > 0.5, "{control}");
}

#[test]
fn pixels_resemble_mnist() {
    let source = open("strokes", Split::Train, Some(5_000)).unwrap();
    let images = all(&*source).images;
    let (low, high) = (images.min().double_value(&[]), images.max().double_value(&[]));
    assert!(low == 0.0 && high == 1.0, "{low} {high}");
    // MNIST's training images: mean 0.1307, standard deviation 0.3081 (as every tutorial normalises them).
    let (mean, std) = (images.mean(Kind::Double).double_value(&[]), images.std(false).double_value(&[]));
    println!("mean {mean:.4}, standard deviation {std:.4}");
    assert!((mean - 0.1307).abs() < 0.01 && (std - 0.3081).abs() < 0.015, "{mean} {std}");
    // Nothing is cut off: the paper's edge is blank.
    let rim = images.abs().sum(Kind::Double).double_value(&[])
        - images.slice(2, 1, 27, 1).slice(3, 1, 27, 1).sum(Kind::Double).double_value(&[]);
    let total = images.sum(Kind::Double).double_value(&[]);
    assert!(rim.abs() < apart(Kind::Double, &[5_000 * 784]) * total, "{rim}");
}

/// Classes of `queries` [Q, D] by their nearest neighbour among `known` [N, D].
fn nearest(queries: &Tensor, known: &Tensor, classes: &Tensor) -> Tensor {
    let square = known.square().sum_dim_intlist(1i64, false, Kind::Float);
    let distance: Tensor = square - 2.0 * queries.matmul(&known.tr());
    classes.index_select(0, &distance.argmin(1, false))
}

fn share_right(found: &Tensor, expected: &Tensor) -> f64 {
    found.eq_tensor(expected).to_kind(Kind::Double).mean(Kind::Double).double_value(&[])
}

fn flat(source: &dyn Source) -> (Tensor, Tensor) {
    let batch = all(source);
    (batch.images.flatten(1, -1), batch.labels.unwrap())
}

#[test]
fn digits_are_legible() {
    let (known, classes) = flat(&*open("strokes", Split::Train, Some(10_000)).unwrap());
    let (images, expected) = flat(&*open("strokes", Split::Test, Some(1_000)).unwrap());
    let right = share_right(&nearest(&images, &known, &classes), &expected);
    println!("nearest neighbour among generated digits: {:.1} % right", 100.0 * right);
    assert!(right > 0.9, "{right}");
    // A control: with classes moved by one the same measure must fail.
    let moved = share_right(&nearest(&images, &known, &((&classes + 1).remainder(10))), &expected);
    assert!(moved < 0.1, "{moved}");
    // Readers of real handwriting read them, and they teach to read real handwriting.
    let Some(mnist) = shared("mnist") else { return };
    let (real, real_classes) = flat(&*open(text(&mnist), Split::Train, Some(10_000)).unwrap());
    let read = share_right(&nearest(&images, &real, &real_classes), &expected);
    let (test, test_classes) = flat(&*open(text(&mnist), Split::Test, Some(2_000)).unwrap());
    let taught = share_right(&nearest(&test, &known, &classes), &test_classes);
    println!("MNIST reads them: {:.1} % right; they read MNIST: {:.1} % right", 100.0 * read, 100.0 * taught);
    assert!(read > 0.8 && taught > 0.7, "{read} {taught}");
}

/// Writes a contact sheet to look at: `cargo test strokes_sheet -- --ignored`.
#[test]
#[ignore = "draws a picture for people"]
fn strokes_sheet() {
    let name = std::env::var("SHEET_DATA").unwrap_or_else(|_| "strokes".to_owned());
    let source = open(&name, Split::Train, Some(300)).unwrap();
    let mut batch = all(&*source);
    if name != "strokes" {
        // Sorted by class, so that columns hold one digit each as the generated ones do.
        let order = batch.labels.as_ref().unwrap().argsort(0, false);
        batch.images = batch.images.index_select(0, &order).reshape([10, 30, 1, 28, 28]).transpose(0, 1).flatten(0, 1);
    }
    let sheet = batch.images.reshape([15, 20, 28, 28]).permute([0, 2, 1, 3]).flatten(0, -1);
    let bytes: Vec<u8> = Vec::<f32>::try_from(sheet).unwrap().iter().map(|p| (p * 255.0) as u8).collect();
    let path = std::env::temp_dir().join("strokes.png");
    image::save_buffer(&path, &bytes, 20 * 28, 15 * 28, image::ColorType::L8).unwrap();
    println!("{}", path.display());
}

/// How fast digits are drawn: `cargo test --release strokes_speed -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn strokes_speed() {
    let source = open("strokes", Split::Train, None).unwrap();
    source.read(&(0..1000).collect::<Vec<_>>()).unwrap();
    let start = std::time::Instant::now();
    let count: usize = batches(source, (0..60_000).collect(), 256).map(|b| b.unwrap().index.len()).sum();
    let seconds = start.elapsed().as_secs_f64();
    println!("{count} digits in {seconds:.2} s: {:.0} a second", count as f64 / seconds);
}
