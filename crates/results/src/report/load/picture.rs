//! Pictures in result files.

use crate::error::{Error, Result};
use crate::report::figure::Picture;
use crate::store::{Reader, Values};

/// Samples that galleries show.
pub(super) const ON_SHOW: usize = 8;

/// The pictures that row `row` of a data set holds: its last three axes are C, H, W.
pub(super) fn pictures(reader: &Reader, path: &str, row: usize) -> Result<Vec<Picture>> {
    let column = reader.read_rows(path, row..row + 1)?;
    let found = &column.shape;
    let [.., channels, height, width] = found[..] else {
        return Err(wrong_shape(reader, path, &[0, 1, 2], found));
    };
    let Values::F32(values) = column.values else {
        return Err(Error::request(format!("{}: {path}", reader.path().display()), "f32", "another type"));
    };
    let dim = channels * height * width;
    Ok(values.chunks_exact(dim.max(1)).map(|v| Picture { channels, height, width, values: v.to_vec() }).collect())
}

pub(super) fn wrong_shape(reader: &Reader, path: &str, expected: &[usize], found: &[usize]) -> Error {
    Error::request(
        format!("{}: shape of {path}", reader.path().display()),
        format!("{expected:?}"),
        format!("{found:?}"),
    )
}
