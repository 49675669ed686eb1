//! What the parts of a virtual data set show. The HDF5 crate reads their selections, and refuses those of a single block.

use hdf5::plist::DatasetCreate;
use hdf5::sync::sync;
use hdf5_sys::h5i::hid_t;
use hdf5_sys::h5p::{H5Pget_virtual_count, H5Pget_virtual_dsetname, H5Pget_virtual_filename};
use hdf5_sys::h5p::{H5Pget_virtual_srcspace, H5Pget_virtual_vspace};
use hdf5_sys::h5s::{H5Sclose, H5Sget_select_npoints, H5Sget_simple_extent_dims, H5Sget_simple_extent_ndims};

/// A part of a virtual data set, which shows values of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualPart {
    /// The other's file, `.` for the same; HDF5 writes numbers in place of `%b`.
    pub file: String,
    /// The other's path in that file.
    pub name: String,
    /// The least shape of the other, in which what is shown lies; no axes if all of it is shown; `None` if it may grow.
    pub shape: Option<Vec<usize>>,
    /// How many values are shown; `None` if they may grow.
    pub values: Option<usize>,
}

/// The parts of the virtual data set that `plist` created.
///
/// # Errors
/// Where HDF5 cannot tell them.
pub fn virtual_parts(plist: &DatasetCreate) -> Result<Vec<VirtualPart>, hdf5::Error> {
    sync(|| {
        let (id, mut count) = (plist.id(), 0);
        // SAFETY: the list is open as long as `plist` lives, and `count` outlives the call, which writes one number there.
        told(unsafe { H5Pget_virtual_count(id, &mut count) })?;
        (0..count).map(|index| part(id, index)).collect()
    })
}

fn part(list: hid_t, index: usize) -> Result<VirtualPart, hdf5::Error> {
    // SAFETY: the list is open; both calls write at most so many bytes as they are told, with the zero at the end.
    let file = text(|bytes, room| unsafe { H5Pget_virtual_filename(list, index, bytes, room) })?;
    // SAFETY: as above.
    let name = text(|bytes, room| unsafe { H5Pget_virtual_dsetname(list, index, bytes, room) })?;
    // SAFETY: the list is open and has a part of this index; the space is closed by its owner.
    let shown = Space::of(unsafe { H5Pget_virtual_srcspace(list, index) })?;
    // SAFETY: as above.
    let here = Space::of(unsafe { H5Pget_virtual_vspace(list, index) })?;
    let shape = shown.values().map(|_| shown.shape()).transpose()?;
    Ok(VirtualPart { file, name, shape, values: here.values() })
}

/// A space of HDF5's, closed at its end.
struct Space(hid_t);

impl Space {
    fn of(id: hid_t) -> Result<Self, hdf5::Error> {
        if id < 0 { Err(untold()) } else { Ok(Self(id)) }
    }

    /// How many values are chosen in it; `None` if there is no limit.
    fn values(&self) -> Option<usize> {
        // SAFETY: the space is open. The number without a limit is negative here.
        usize::try_from(unsafe { H5Sget_select_npoints(self.0) }).ok()
    }

    fn shape(&self) -> Result<Vec<usize>, hdf5::Error> {
        // SAFETY: the space is open.
        let axes = usize::try_from(unsafe { H5Sget_simple_extent_ndims(self.0) }).map_err(|_| untold())?;
        let mut shape = vec![0; axes];
        // SAFETY: the space is open, and has as many axes as there are numbers to write; none are asked for of the largest sizes.
        told(unsafe { H5Sget_simple_extent_dims(self.0, shape.as_mut_ptr(), std::ptr::null_mut()) })?;
        Ok(shape.into_iter().map(|n| usize::try_from(n).unwrap_or(usize::MAX)).collect())
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        // SAFETY: the space is open, and nothing else closes it.
        unsafe { H5Sclose(self.0) };
    }
}

/// A text that HDF5 writes where it is told to, after it has told how long it is.
fn text(write: impl Fn(*mut libc::c_char, usize) -> isize) -> Result<String, hdf5::Error> {
    let length = usize::try_from(write(std::ptr::null_mut(), 0)).map_err(|_| untold())?;
    let mut bytes = vec![0u8; length + 1];
    usize::try_from(write(bytes.as_mut_ptr().cast(), bytes.len())).map_err(|_| untold())?;
    bytes.truncate(length);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn told(outcome: impl Into<i64>) -> Result<(), hdf5::Error> {
    if outcome.into() < 0 { Err(untold()) } else { Ok(()) }
}

fn untold() -> hdf5::Error {
    hdf5::Error::query().unwrap_or_else(|_| hdf5::Error::Internal("parts that HDF5 cannot tell".to_owned()))
}
