//! What CUDA has on this machine: how many devices, and why there are none.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::LazyLock;
use tch::Cuda;

/// What libtorch finds of CUDA.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// How many devices.
    pub devices: usize,
    /// Why there are none although a driver is installed.
    pub trouble: Option<String>,
}

/// What libtorch finds of CUDA here; asked once in a process.
pub fn found() -> &'static Found {
    static FOUND: LazyLock<Found> = LazyLock::new(|| {
        // Asked first, for it keeps libtorch's own warning back.
        let built = super::has_cuda_build();
        let devices = if built && Cuda::is_available() { Cuda::device_count().max(0) as usize } else { 0 };
        Found { devices, trouble: if cfg!(pullback_cuda) && devices == 0 { trouble() } else { None } }
    });
    &FOUND
}

/// `cudaErrorInsufficientDriver`, which the runtime also returns where no driver is installed.
const INSUFFICIENT_DRIVER: c_int = 35;
/// `cudaErrorNoDevice`.
const NO_DEVICE: c_int = 100;

/// Why libtorch's CUDA runtime finds no device; nothing if there is no driver or no device.
fn trouble() -> Option<String> {
    let (code, _) = asked(c"cudaGetDeviceCount")?;
    let (_, driver) = asked(c"cudaDriverGetVersion")?;
    let (_, runtime) = asked(c"cudaRuntimeGetVersion")?;
    told(code, driver, runtime, || text(code))
}

/// The reason for an answer of the runtime. Versions are 1000 major + 10 minor; the driver's is 0 where there is none.
fn told(code: c_int, driver: c_int, runtime: c_int, text: impl Fn() -> String) -> Option<String> {
    let version = |number: c_int| format!("CUDA {}.{}", number / 1000, number % 1000 / 10);
    match (code, driver) {
        (0 | NO_DEVICE, _) | (INSUFFICIENT_DRIVER, ..=0) => None,
        (INSUFFICIENT_DRIVER, _) => Some(format!(
            "the NVIDIA driver is too old: it is for {} and older, and this libtorch needs {}",
            version(driver),
            version(runtime)
        )),
        _ => Some(format!("CUDA finds no device: {} (error {code})", text())),
    }
}

/// A function of the CUDA runtime that libtorch brought into this process.
fn symbol(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: the name ends with NUL; the call only looks it up.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!found.is_null()).then_some(found)
}

/// The result of one of the runtime's functions that write one int, and that int.
fn asked(name: &CStr) -> Option<(c_int, c_int)> {
    let function = symbol(name)?;
    // SAFETY: the three functions named above have this type in every version of the runtime.
    let function: unsafe extern "C" fn(*mut c_int) -> c_int = unsafe { std::mem::transmute(function) };
    let mut value = 0;
    // SAFETY: `value` is writable.
    let code = unsafe { function(&mut value) };
    Some((code, value))
}

/// The runtime's own words for one of its errors.
fn text(code: c_int) -> String {
    let Some(function) = symbol(c"cudaGetErrorString") else { return "no reason given".to_owned() };
    // SAFETY: the function has this type in every version of the runtime.
    let function: unsafe extern "C" fn(c_int) -> *const c_char = unsafe { std::mem::transmute(function) };
    // SAFETY: it returns a NUL-terminated string that is never freed, for unknown numbers too.
    unsafe { CStr::from_ptr(function(code)) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_that_is_too_old_is_told_and_none_is_not() {
        let words = || "system not yet initialized".to_owned();
        let old = told(INSUFFICIENT_DRIVER, 12_040, 13_000, words).unwrap();
        assert_eq!(
            old,
            "the NVIDIA driver is too old: it is for CUDA 12.4 and older, and this libtorch needs CUDA 13.0"
        );
        let other = told(802, 13_000, 13_000, words).unwrap();
        assert_eq!(other, "CUDA finds no device: system not yet initialized (error 802)");
        for (code, driver) in [(0, 13_000), (INSUFFICIENT_DRIVER, 0), (NO_DEVICE, 13_000)] {
            assert_eq!(told(code, driver, 13_000, words), None, "{code}");
        }
    }
}
