//! Where the tests of kernels run.

use pullback::ffi::kernels;
use std::cell::{Cell, RefCell};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tch::{Cuda, Device};

/// Held by the test that uses the device: tests run side by side, and each takes most of the memory that it finds free.
static DEVICE: Mutex<()> = Mutex::new(());

thread_local! {
    static HERE: Cell<Device> = const { Cell::new(Device::Cpu) };
    // A test that runs beside others has a thread of its own, and lets go with it.
    static HELD: RefCell<Option<MutexGuard<'static, ()>>> = const { RefCell::new(None) };
}

/// Waits until no other test uses the device, which from then on is this thread's.
fn hold() {
    HELD.with_borrow_mut(|held| {
        held.get_or_insert_with(|| DEVICE.lock().unwrap_or_else(PoisonError::into_inner));
    });
}

/// Where this thread's test runs: the CPU but within [`on_each_device`].
pub fn here() -> Device {
    HERE.get()
}

/// Runs a test's body on the CPU and on CUDA where there is one; tensors that it makes lie [`here`].
pub fn on_each_device(body: impl Fn()) {
    HERE.set(Device::Cpu);
    body();
    if cuda() {
        HERE.set(Device::Cuda(0));
        body();
        HERE.set(Device::Cpu);
    }
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

/// Whether there is a CUDA device, which is then held for the rest of the test. With PULLBACK_REQUIRE_CUDA=1 its absence is a failure.
pub fn cuda() -> bool {
    let there = Cuda::is_available();
    assert!(there || !required(), "PULLBACK_REQUIRE_CUDA=1, but there is no CUDA device");
    if there {
        hold();
    } else {
        println!("CUDA: skipped");
    }
    there
}

fn required() -> bool {
    std::env::var("PULLBACK_REQUIRE_CUDA").is_ok_and(|v| v == "1")
}

#[test]
fn one_test_at_a_time_has_the_device() {
    // Where there is a device, other tests hold it now and then.
    if Cuda::is_available() {
        return;
    }
    let (holds, held) = std::sync::mpsc::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let other = std::thread::spawn(move || {
        // Twice in one test is no wait for itself.
        hold();
        hold();
        holds.send(()).unwrap();
        ended.recv().unwrap();
    });
    held.recv().unwrap();
    assert!(DEVICE.try_lock().is_err());
    end.send(()).unwrap();
    other.join().unwrap();
    assert!(DEVICE.try_lock().is_ok());
}
