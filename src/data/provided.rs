//! Arrays that somebody else holds, such as a program in whose process this one runs.

use super::array::{Axes, Numbers};
use super::open::checked;
use super::rows;
use super::{Batch, ImageShape, Reading, Source};
use crate::error::{Error, Result, ensure_shape};
use std::sync::Arc;
use tch::{Kind, Tensor};

/// Rows of an array, by position.
pub trait Rows: Send + Sync {
    /// The array's axes, [N, ...].
    fn axes(&self) -> Vec<usize>;
    /// What its numbers are.
    fn numbers(&self) -> Numbers;
    /// The name of their type, for messages.
    fn type_name(&self) -> String;
    /// True where each row has a label.
    fn has_labels(&self) -> bool;
    /// The rows at `index`, [n, ...] on the CPU, and their labels `[n]`.
    ///
    /// # Errors
    /// Where they cannot be had.
    fn read(&self, index: &[u64]) -> Result<(Tensor, Option<Vec<i64>>)>;
}

/// The data set that `rows` are, read as `reading` says, under a name: its first `limit` samples.
///
/// # Errors
/// As of a file with such an array.
pub fn of_rows(name: &str, rows: Box<dyn Rows>, limit: Option<usize>, reading: &Reading) -> Result<Arc<dyn Source>> {
    let axes = Axes::of(name, &rows.axes(), reading)?;
    let scale = rows.numbers().full_scale(name, &rows.type_name(), reading)?;
    let notes = axes.note(reading).map(|note| format!("{name}: {note}")).into_iter().collect();
    let source = Provided { name: name.to_owned(), rows, axes, scale, reading: *reading, notes };
    checked(name, Box::new(source), limit, reading)
}

struct Provided {
    name: String,
    rows: Box<dyn Rows>,
    axes: Axes,
    scale: f64,
    reading: Reading,
    notes: Vec<String>,
}

impl Source for Provided {
    fn name(&self) -> &str {
        &self.name
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
        self.rows.has_labels()
    }

    fn read(&self, index: &[u64]) -> Result<Batch> {
        let (values, labels) = self.rows.read(index)?;
        let mut expected: Vec<i64> = self.rows.axes().iter().map(|n| *n as i64).collect();
        expected[0] = index.len() as i64;
        ensure_shape(&format!("the samples of {}", self.name), &values, &expected)?;
        if labels.as_ref().is_some_and(|labels| labels.len() != index.len()) {
            let expected = format!("{} labels", index.len());
            return Err(Error::request(&self.name, expected, labels.map_or(0, |l| l.len()).to_string()));
        }
        let numbers = self.rows.numbers();
        let flat = values.f_flatten(0, -1)?;
        let pixels = match numbers {
            Numbers::Bool | Numbers::Bytes => {
                let bytes = Vec::<u8>::try_from(flat.f_to_kind(Kind::Uint8)?)?;
                numbers.pixels(&self.name, index, &bytes, self.scale, &self.reading)?
            }
            Numbers::Float => {
                let singles = Vec::<f32>::try_from(flat.f_to_kind(Kind::Float)?)?;
                numbers.pixels(&self.name, index, &singles, self.scale, &self.reading)?
            }
            Numbers::Words | Numbers::Whole => {
                let doubles = Vec::<f64>::try_from(flat.f_to_kind(Kind::Double)?)?;
                numbers.pixels(&self.name, index, &doubles, self.scale, &self.reading)?
            }
        };
        rows::batch(self.axes.images(&pixels)?, labels.as_deref(), index)
    }
}
