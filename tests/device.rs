//! Where the tests of kernels run.

use pullback::ffi::kernels;
use tch::{Cuda, Device};

/// The host, and CUDA where there is one that the kernels run on. With PULLBACK_REQUIRE_CUDA=1 its absence is a failure.
pub fn devices() -> Vec<Device> {
    let cuda = Device::Cuda(0);
    if Cuda::is_available() && kernels::run_on(cuda) {
        return vec![Device::Cpu, cuda];
    }
    let required = std::env::var("PULLBACK_REQUIRE_CUDA").is_ok_and(|v| v == "1");
    assert!(!required, "PULLBACK_REQUIRE_CUDA=1, but there is no CUDA device that the kernels run on");
    println!("CUDA: skipped");
    vec![Device::Cpu]
}
