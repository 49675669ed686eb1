//! Copies between host and device that run beside the computation: with pinned memory, and on CUDA with a separate stream.

use super::check;
use crate::error::{Error, Result};
use std::ffi::{c_char, c_int, c_void};
use std::ptr::{self, NonNull};
use tch::{Device, Kind, Tensor};

unsafe extern "C" {
    fn pb_lane_new(result: *mut *mut c_void, device: i64) -> *const c_char;
    fn pb_lane_free(lane: *mut c_void);
    fn pb_lane_upload(
        result: *mut *mut c_void,
        done: *mut *mut c_void,
        lane: *const c_void,
        host: *const c_void,
        use_double: c_int,
    ) -> *const c_char;
    fn pb_lane_receive(uploaded: *const c_void, done: *const c_void) -> *const c_char;
    fn pb_lane_download(
        result: *mut *mut c_void,
        done: *mut *mut c_void,
        lane: *const c_void,
        device_tensor: *const c_void,
    ) -> *const c_char;
    fn pb_event_wait(done: *const c_void) -> *const c_char;
    fn pb_event_free(done: *mut c_void);
}

/// The routine's name in errors.
const ROUTINE: &str = "copies";

/// A path between the host and one device. On a CPU no copies are needed, and tensors pass unchanged.
///
/// Use one lane for each direction: its copies run in order, and a copy that waits for a result would delay the images behind it.
#[derive(Debug)]
pub struct Lane {
    raw: Option<NonNull<c_void>>,
}

// SAFETY: the stream that the value names belongs to libtorch's pool and is tied to no thread.
unsafe impl Send for Lane {}

impl Lane {
    /// A lane to and from `device`.
    pub fn new(device: Device) -> Result<Self> {
        let Device::Cuda(n) = device else {
            return Ok(Self { raw: None });
        };
        let mut raw = ptr::null_mut();
        // SAFETY: `raw` is writable and receives an owned pointer on success.
        check(ROUTINE, unsafe { pb_lane_new(&mut raw, n as i64) })?;
        Ok(Self { raw: Some(non_null(raw)?) })
    }

    /// Sends `host`, which lies on the CPU, and makes it `kind`, f32 or f64. On CUDA this copies into pinned memory, queues
    /// the rest and does not wait for it.
    pub fn upload(&self, host: &Tensor, kind: Kind) -> Result<Upload> {
        if host.device() != Device::Cpu || !matches!(kind, Kind::Float | Kind::Double) {
            let found = format!("{kind:?} from {:?}", host.device());
            return Err(Error::request("upload", "f32 or f64 from the CPU", found));
        }
        let Some(lane) = self.raw else {
            return Ok(Upload { tensor: host.f_to_kind(kind)?, done: None });
        };
        let (mut result, mut done) = (ptr::null_mut(), ptr::null_mut());
        let wide = c_int::from(kind == Kind::Double);
        let said =
            // SAFETY: lane and `host` are alive, `host` lies on the CPU; on success both results are owned by us.
            unsafe { pb_lane_upload(&mut result, &mut done, lane.as_ptr(), host.as_ptr().cast(), wide) };
        check(ROUTINE, said)?;
        let done = Mark(non_null(done)?);
        // SAFETY: the call succeeded, so `result` is an at::Tensor on the heap that nobody else owns.
        Ok(Upload { tensor: unsafe { Tensor::from_ptr(result.cast()) }, done: Some(done) })
    }

    /// Fetches `values` after the work that is queued so far. On CUDA this queues a copy into pinned memory and does not wait for it;
    /// nothing may be written into `values` afterwards.
    pub fn download(&self, values: &Tensor) -> Result<Download> {
        let values = values.f_detach()?.f_contiguous()?;
        let (Some(lane), true) = (self.raw, values.device().is_cuda()) else {
            return Ok(Download { host: values.f_to_device(Device::Cpu)?, done: None });
        };
        let (mut result, mut done) = (ptr::null_mut(), ptr::null_mut());
        let said =
            // SAFETY: lane and `values` are alive, `values` is contiguous on CUDA; on success both results are owned by us.
            unsafe { pb_lane_download(&mut result, &mut done, lane.as_ptr(), values.as_ptr().cast()) };
        check(ROUTINE, said)?;
        let done = Mark(non_null(done)?);
        // SAFETY: the call succeeded, so `result` is an at::Tensor on the heap that nobody else owns.
        Ok(Download { host: unsafe { Tensor::from_ptr(result.cast()) }, done: Some(done) })
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if let Some(raw) = self.raw {
            // SAFETY: `raw` came from pb_lane_new and is freed once; copies under way do not need it.
            unsafe { pb_lane_free(raw.as_ptr()) }
        }
    }
}

/// A tensor on its way to the device.
#[derive(Debug)]
pub struct Upload {
    tensor: Tensor,
    done: Option<Mark>,
}

impl Upload {
    /// The tensor, for use on this thread's current stream; the stream waits for it, the host does not.
    pub fn receive(self) -> Result<Tensor> {
        if let Some(done) = &self.done {
            // SAFETY: both are alive; the tensor lies on the device that the event was recorded on.
            check(ROUTINE, unsafe { pb_lane_receive(self.tensor.as_ptr().cast(), done.0.as_ptr()) })?;
        }
        Ok(self.tensor)
    }
}

/// A tensor on its way to the host.
#[derive(Debug)]
pub struct Download {
    host: Tensor,
    done: Option<Mark>,
}

impl Download {
    /// The tensor on the host; waits for it.
    pub fn wait(self) -> Result<Tensor> {
        if let Some(done) = &self.done {
            // SAFETY: the event is alive and was recorded.
            check(ROUTINE, unsafe { pb_event_wait(done.0.as_ptr()) })?;
        }
        Ok(self.host)
    }
}

/// An event of the device, recorded behind a copy.
#[derive(Debug)]
struct Mark(NonNull<c_void>);

// SAFETY: events are tied to no thread; this value alone owns it.
unsafe impl Send for Mark {}

impl Drop for Mark {
    fn drop(&mut self) {
        // SAFETY: the event came from a copy and is freed once; device work that waits for it continues to wait.
        unsafe { pb_event_free(self.0.as_ptr()) }
    }
}

fn non_null(raw: *mut c_void) -> Result<NonNull<c_void>> {
    NonNull::new(raw).ok_or_else(|| Error::Native { routine: ROUTINE, message: "no result".to_owned() })
}
