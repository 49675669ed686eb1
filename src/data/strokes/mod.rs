//! Digits drawn by the program: MNIST-shaped data that needs no download.
//!
//! Digit i of a split is drawn from its index alone, so that the picture is the same for any order, limit or thread.

// One line for each stroke, not for each point.
#[rustfmt::skip]
mod forms; // how ten digits are written
mod pen; //   from a form to pixels

use crate::data::rows;
use crate::data::{Batch, ImageShape, Source, Split};
use crate::error::{Error, Result};
use crate::seed::{Stage, generator};
use rayon::prelude::*;

/// The seed of the whole data set. It is part of the data, so a run's seed must not change it.
const SEED: u64 = 0x7374_726f_6b65_7331;

/// One split of the generated digits; classes follow each other: `index % 10`.
#[derive(Debug)]
pub struct Strokes {
    name: String,
    split: Split,
    len: usize,
    size: usize,
}

/// The text after the colon of `strokes:n=100000,size=32`, empty for plain `strokes`; `None` for any other name.
pub fn options(spec: &str) -> Option<&str> {
    match spec.strip_prefix("strokes")? {
        "" => Some(""),
        rest => rest.strip_prefix(':'),
    }
}

impl Strokes {
    /// `options`, both optional: `n=` images in the split (60000 in training, 10000 in test), `size=` pixels on each side (28).
    pub fn new(options: &str, split: Split) -> Result<Self> {
        let default = match split {
            Split::Train => 60_000,
            Split::Test | Split::Val => 10_000,
        };
        let (mut len, mut size) = (default, 28);
        for option in options.split(',').filter(|o| !o.is_empty()) {
            match option.split_once('=') {
                Some(("n", value)) => len = number("n", value, 1, 1_000_000_000)?,
                Some(("size", value)) => size = number("size", value, 8, 1024)?,
                _ => return Err(Error::request("strokes", "n=COUNT or size=PIXELS", option)),
            }
        }
        let name = if options.is_empty() { "strokes".to_owned() } else { format!("strokes:{options}") };
        Ok(Self { name, split, len, size })
    }
}

fn number(key: &str, text: &str, least: usize, most: usize) -> Result<usize> {
    let fits = text.parse().ok().filter(|n| (least..=most).contains(n));
    fits.ok_or_else(|| Error::request(format!("strokes: {key}"), format!("{least} to {most}"), text))
}

impl Source for Strokes {
    fn name(&self) -> &str {
        &self.name
    }
    fn format(&self) -> &'static str {
        "generated digits"
    }
    fn len(&self) -> usize {
        self.len
    }
    fn shape(&self) -> ImageShape {
        ImageShape { channels: 1, height: self.size as i64, width: self.size as i64 }
    }
    fn has_labels(&self) -> bool {
        true
    }
    fn read(&self, index: &[u64]) -> Result<Batch> {
        let stream = match self.split {
            Split::Train => 0,
            Split::Test => 1,
            Split::Val => 2,
        };
        let mut pixels = vec![0f32; index.len() * self.size * self.size];
        pixels.par_chunks_mut(self.size * self.size).zip(index.par_iter()).for_each(|(image, &i)| {
            let mut rng = generator(SEED, Stage::Strokes, i, stream);
            pen::draw(&mut rng, forms::DIGITS[(i % 10) as usize], self.size, image);
        });
        let labels: Vec<i64> = index.iter().map(|i| (i % 10) as i64).collect();
        rows::batch(rows::from_floats(&pixels, self.shape())?, Some(&labels), index)
    }
}
