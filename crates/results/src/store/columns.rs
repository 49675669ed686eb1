//! Columns in memory (rows picked, joined) and as HDF5 data sets (created, written and read by rows).
//!
//! Data sets are contiguous and allocated when created: a data set whose place in the file never moves lets rows be
//! written without touching the file's metadata, so that a killed run leaves a file that opens. Compression needs
//! chunks, which move; on MNIST, gzip would take 7% off directions and 5% (36% with the pixel box) off attacked images.

use super::{Column, Values};
use crate::error::{Error, Result};
use hdf5::dataset::AllocTime;
use hdf5::file::OpenMode;
use hdf5::types::{FloatSize, IntSize, TypeDescriptor};
use hdf5::{Dataset, File, Group, H5Type, Hyperslab, Selection, SliceOrIndex};
use ndarray::{ArrayView, IxDyn};
use std::ops::Range;
use std::path::Path;

/// The attribute of each data set, and of the root, with its checksum.
pub(super) const CHECKSUM: &str = "checksum";

/// Element type of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "lowercase")]
pub enum Dtype {
    /// 64-bit floating point.
    F64,
    /// 32-bit floating point.
    F32,
    /// 64-bit signed integer.
    I64,
    /// 8-bit unsigned integer.
    U8,
}

impl Dtype {
    /// Bytes of one element.
    pub fn width(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 => 4,
            Self::U8 => 1,
        }
    }
}

/// Runs `$body` with `$v` bound to the vector inside, whatever its type, and wraps the vector that it returns.
macro_rules! map_values {
    ($values:expr, $v:ident => $body:expr) => {
        match $values {
            Values::F64($v) => Values::F64($body),
            Values::F32($v) => Values::F32($body),
            Values::I64($v) => Values::I64($body),
            Values::U8($v) => Values::U8($body),
        }
    };
}

/// Runs `$body` with `$v` bound to the vector inside, whatever its type.
macro_rules! with_values {
    ($values:expr, $v:ident => $body:expr) => {
        match $values {
            Values::F64($v) => $body,
            Values::F32($v) => $body,
            Values::I64($v) => $body,
            Values::U8($v) => $body,
        }
    };
}

impl Values {
    /// Number of values.
    pub fn len(&self) -> usize {
        with_values!(self, v => v.len())
    }

    /// True if there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Type of the values.
    pub fn dtype(&self) -> Dtype {
        match self {
            Self::F64(_) => Dtype::F64,
            Self::F32(_) => Dtype::F32,
            Self::I64(_) => Dtype::I64,
            Self::U8(_) => Dtype::U8,
        }
    }

    /// Appends the little-endian bytes of the values in `range`.
    pub(super) fn append_bytes(&self, range: Range<usize>, bytes: &mut Vec<u8>) {
        with_values!(self, v => v[range].iter().for_each(|x| bytes.extend_from_slice(&x.to_le_bytes())));
    }

    /// Equal bit for bit: NaN equals itself, unlike with `==`.
    pub(super) fn same_bits(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::F64(a), Self::F64(b)) => a.iter().map(|x| x.to_bits()).eq(b.iter().map(|x| x.to_bits())),
            (Self::F32(a), Self::F32(b)) => a.iter().map(|x| x.to_bits()).eq(b.iter().map(|x| x.to_bits())),
            _ => self == other,
        }
    }

    /// Whether two parts of a run say the same at `path`: bit for bit, but for a perturbation for all images, which each part fits anew: other
    /// processors and numbers of threads round its sums otherwise.
    pub(super) fn agree(&self, path: &str, other: &Self) -> bool {
        self.same_bits(other)
            || match (self, other) {
                (Self::F64(a), Self::F64(b)) if path.starts_with("/universal/") && a.len() == b.len() => {
                    let finite = a.iter().map(|x| x.abs()).filter(|x| x.is_finite());
                    let most = FITTED * finite.fold(0.0, f64::max);
                    a.iter().zip(b).all(|(a, b)| a == b || (a - b).abs() <= most || (a.is_nan() && b.is_nan()))
                }
                _ => false,
            }
    }
}

/// How far fits of one perturbation may lie apart, relative to the largest value: what rounding does.
const FITTED: f64 = 1e-4;

impl Column {
    /// Checks that shape and values agree and that the sample axis, if there is one, has `samples` entries.
    pub(super) fn check(&self, samples: Option<usize>) -> Result<()> {
        let subject = || format!("column {}", self.path);
        let size = size_of_shape(&self.shape)
            .ok_or_else(|| Error::request(subject(), "a shape that fits in memory", format!("{:?}", self.shape)))?;
        if size != self.values.len() {
            let expected = format!("{size} values for shape {:?}", self.shape);
            return Err(Error::request(subject(), expected, self.values.len().to_string()));
        }
        match samples {
            Some(n) if self.shape.get(self.sample_axis) != Some(&n) => Err(Error::request(
                subject(),
                format!("{n} samples on axis {}", self.sample_axis),
                format!("shape {:?}", self.shape),
            )),
            _ => Ok(()),
        }
    }

    /// The rows at `positions` of the sample axis, in that order.
    pub(super) fn take(&self, positions: &[usize]) -> Column {
        let (outer, axis, inner) = split(&self.shape, self.sample_axis);
        let values = map_values!(&self.values, v => pick(v, outer, axis, inner, positions));
        Column { shape: with_axis(&self.shape, self.sample_axis, positions.len()), values, ..self.clone_head() }
    }

    /// Parts of one data set, joined along the sample axis. All must agree in path, type and the other axes.
    pub(super) fn join(parts: &[Column]) -> Option<Column> {
        let first = parts.first()?;
        let axis = first.sample_axis;
        let (outer, _, inner) = split(&first.shape, axis);
        let rows = parts.iter().map(|p| p.shape.get(axis).copied()).sum::<Option<usize>>()?;
        macro_rules! joined {
            ($variant:ident) => {{
                let mut all = Vec::with_capacity(outer * rows * inner);
                for o in 0..outer {
                    for part in parts {
                        let Values::$variant(v) = &part.values else {
                            return None;
                        };
                        let width = part.shape.get(axis)? * inner;
                        all.extend_from_slice(v.get(o * width..(o + 1) * width)?);
                    }
                }
                Values::$variant(all)
            }};
        }
        let values = match first.values.dtype() {
            Dtype::F64 => joined!(F64),
            Dtype::F32 => joined!(F32),
            Dtype::I64 => joined!(I64),
            Dtype::U8 => joined!(U8),
        };
        Some(Column { shape: with_axis(&first.shape, axis, rows), values, ..first.clone_head() })
    }

    /// The same column without its contents.
    fn clone_head(&self) -> Column {
        Column { path: self.path.clone(), shape: vec![], sample_axis: self.sample_axis, values: Values::U8(vec![]) }
    }
}

/// The number of elements; `None` if it overflows on this machine.
pub(super) fn size_of_shape(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d))
}

/// How many rows of data sets of these types and shapes are handled together: as many of their `samples` as 32 MiB hold, but at least one.
/// Other types count as the widest.
pub(super) fn rows_together<'a>(
    datasets: impl IntoIterator<Item = (Option<Dtype>, &'a [usize])>,
    samples: usize,
) -> usize {
    const MOST: usize = 32 << 20;
    let bytes = |(dtype, shape): (Option<Dtype>, &[usize])| {
        let values = size_of_shape(shape).unwrap_or(usize::MAX) / samples.max(1);
        values.saturating_mul(dtype.map_or(8, Dtype::width))
    };
    let row = datasets.into_iter().map(bytes).fold(0, usize::saturating_add);
    (MOST / row.max(1)).max(1)
}

/// `shape` with `length` on `axis`.
pub(super) fn with_axis(shape: &[usize], axis: usize, length: usize) -> Vec<usize> {
    let mut shape = shape.to_vec();
    if let Some(d) = shape.get_mut(axis) {
        *d = length;
    }
    shape
}

/// Elements before, on and after `axis`.
pub(super) fn split(shape: &[usize], axis: usize) -> (usize, usize, usize) {
    let axis = axis.min(shape.len());
    let on = shape.get(axis).copied().unwrap_or(1);
    let after = shape.get(axis + 1..).unwrap_or_default();
    (shape[..axis].iter().product(), on, after.iter().product())
}

fn pick<T: Copy>(v: &[T], outer: usize, axis: usize, inner: usize, positions: &[usize]) -> Vec<T> {
    let mut out = Vec::with_capacity(outer * positions.len() * inner);
    for o in 0..outer {
        for p in positions {
            let start = (o * axis + p) * inner;
            out.extend_from_slice(&v[start..start + inner]);
        }
    }
    out
}

/// An HDF5 failure on `path`. If the system gave the reason (no space left), the error is that reason.
pub(super) fn fault(path: &Path, error: hdf5::Error) -> Error {
    let system = error.stack().and_then(|frames| {
        frames.iter().find_map(|frame| {
            let rest = frame.desc().split("errno = ").nth(1)?;
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        })
    });
    match system {
        Some(number) => Error::io(path, std::io::Error::from_raw_os_error(number)),
        None => Error::hdf5(path, error),
    }
}

/// Opens an HDF5 file without HDF5's locks. A finished file never changes, so reading it needs no lock (and some file systems have none); a
/// `Target` guards a file that is being written.
///
/// A created file stores no times, so that the same results make the same bytes.
pub(super) fn open(path: &Path, mode: OpenMode) -> hdf5::Result<File> {
    let mut options = File::with_options();
    options.with_fapl(|access| access.file_locking(false));
    options.with_fcpl(|creation| creation.obj_track_times(false));
    options.open_as(path, mode)
}

/// The element type of a data set, if it is one of the format's.
pub(super) fn dtype_of(dataset: &Dataset) -> Option<Dtype> {
    match dataset.dtype().and_then(|d| d.to_descriptor()).ok()? {
        TypeDescriptor::Float(FloatSize::U8) => Some(Dtype::F64),
        TypeDescriptor::Float(FloatSize::U4) => Some(Dtype::F32),
        TypeDescriptor::Integer(IntSize::U8) => Some(Dtype::I64),
        TypeDescriptor::Unsigned(IntSize::U1) => Some(Dtype::U8),
        _ => None,
    }
}

/// Creates the data set `path` below `root`, with its space allocated and nothing written.
pub(super) fn create(root: &Group, path: &str, dtype: Dtype, shape: &[usize]) -> hdf5::Result<Dataset> {
    fn typed<T: H5Type>(root: &Group, path: &str, shape: &[usize]) -> hdf5::Result<Dataset> {
        let empty = shape.contains(&0);
        let builder = root.new_dataset_builder().empty::<T>().no_chunk();
        // HDF5 has no space to allocate for a data set without elements.
        let builder = if empty { builder } else { builder.alloc_time(Some(AllocTime::Early)) };
        builder.shape(shape.to_vec()).create(path)
    }
    let dataset = match dtype {
        Dtype::F64 => typed::<f64>(root, path, shape),
        Dtype::F32 => typed::<f32>(root, path, shape),
        Dtype::I64 => typed::<i64>(root, path, shape),
        Dtype::U8 => typed::<u8>(root, path, shape),
    }?;
    // The attribute is created now, so that the checksums of a complete file do not change its structure.
    dataset.new_attr::<i64>().create(CHECKSUM)?.write_scalar(&0i64)?;
    Ok(dataset)
}

/// Writes `column` over the rows `rows` of its sample axis; with `None`, over the whole data set.
pub(super) fn write(dataset: &Dataset, column: &Column, rows: Option<Range<usize>>) -> hdf5::Result<()> {
    if column.values.is_empty() {
        return Ok(());
    }
    let selection = match rows {
        Some(rows) => along(&column.shape, column.sample_axis, rows),
        None => Selection::All,
    };
    with_values!(&column.values, v => {
        dataset.write_slice(ArrayView::from_shape(IxDyn(&column.shape), v)?, selection)
    })
}

/// Reads the data set, or the rows `rows` of its axis `sample_axis`.
pub(super) fn read(
    dataset: &Dataset,
    path: &str,
    dtype: Dtype,
    sample_axis: usize,
    rows: Option<Range<usize>>,
) -> hdf5::Result<Column> {
    let shape = dataset.shape();
    let (shape, selection) = match rows {
        Some(rows) => (with_axis(&shape, sample_axis, rows.len()), along(&shape, sample_axis, rows)),
        None => (shape, Selection::All),
    };
    fn typed<T: H5Type>(dataset: &Dataset, selection: Selection) -> hdf5::Result<Vec<T>> {
        let array = dataset.read_slice::<T, _, IxDyn>(selection)?;
        Ok(array.into_raw_vec_and_offset().0)
    }
    let values = match dtype {
        Dtype::F64 => Values::F64(typed(dataset, selection)?),
        Dtype::F32 => Values::F32(typed(dataset, selection)?),
        Dtype::I64 => Values::I64(typed(dataset, selection)?),
        Dtype::U8 => Values::U8(typed(dataset, selection)?),
    };
    Ok(Column { path: path.to_owned(), shape, sample_axis, values })
}

/// `rows` on `axis`, and everything on the other axes.
fn along(shape: &[usize], axis: usize, rows: Range<usize>) -> Selection {
    let slices: Vec<SliceOrIndex> =
        shape.iter().enumerate().map(|(i, d)| if i == axis { rows.clone().into() } else { (0..*d).into() }).collect();
    Hyperslab::from(slices).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fits_of_one_perturbation_agree_to_rounding_and_nothing_else_does() {
        let fit = Values::F64(vec![0.1, -0.4, f64::NAN]);
        let rounded = Values::F64(vec![0.100_01, -0.400_01, f64::NAN]);
        assert!(fit.agree("/universal/perturbation", &rounded) && !fit.agree("/eps", &rounded));
        for other in [vec![0.1, -0.399_9, f64::NAN], vec![0.1, -0.4, 0.0], vec![0.1, -0.4]] {
            assert!(!fit.agree("/universal/perturbation", &Values::F64(other.clone())), "{other:?}");
        }
        // What is not finite is itself, and no measure of the others.
        let endless = Values::F64(vec![1.0, f64::INFINITY]);
        assert!(endless.agree("/universal/damage", &Values::F64(vec![1.000_01, f64::INFINITY])));
        for other in [vec![2.0, f64::INFINITY], vec![1.0, 1.0], vec![1.0, f64::NEG_INFINITY]] {
            assert!(!endless.agree("/universal/damage", &Values::F64(other.clone())), "{other:?}");
        }
        let drawn = [Values::I64(vec![3, 5]), Values::I64(vec![3, 6])];
        assert!(!drawn[0].agree("/universal/fitted", &drawn[1]) && drawn[0].agree("/universal/fitted", &drawn[0]));
    }
}
