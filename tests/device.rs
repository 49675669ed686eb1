//! Where the tests of kernels run.

use pullback::ffi::kernels;
use std::cell::Cell;
use tch::{Cuda, Device};

thread_local! {
    static HERE: Cell<Device> = const { Cell::new(Device::Cpu) };
}

/// Where this thread's test runs: the CPU but within [`on_each_device`].
pub fn here() -> Device {
    HERE.get()
}

/// Runs a test's body on the CPU and on CUDA where there is one; tensors that it makes lie [`here`].
pub fn on_each_device(body: impl Fn()) {
    for device in std::iter::once(Device::Cpu).chain(cuda().then_some(Device::Cuda(0))) {
        HERE.set(device);
        body();
    }
    HERE.set(Device::Cpu);
}

/// The host, and CUDA where there is one that the kernels run on. With PULLBACK_REQUIRE_CUDA=1 its absence is a failure.
pub fn devices() -> Vec<Device> {
    let device = Device::Cuda(0);
    if cuda() {
        if kernels::run_on(device) {
            return vec![Device::Cpu, device];
        }
        assert!(!required(), "PULLBACK_REQUIRE_CUDA=1, but the kernels do not run on this CUDA device");
        println!("CUDA: skipped, the kernels do not run on it");
    }
    vec![Device::Cpu]
}

/// Whether there is a CUDA device. With PULLBACK_REQUIRE_CUDA=1 its absence is a failure.
pub fn cuda() -> bool {
    let there = Cuda::is_available();
    assert!(there || !required(), "PULLBACK_REQUIRE_CUDA=1, but there is no CUDA device");
    if !there {
        println!("CUDA: skipped");
    }
    there
}

fn required() -> bool {
    std::env::var("PULLBACK_REQUIRE_CUDA").is_ok_and(|v| v == "1")
}
