//! The device's half of the kernels on the host, launchers included, under AddressSanitizer: launch.cpp says what that shows.

use super::sanitized::{Sanitized, outcome, said};

#[test]
fn what_the_device_runs_is_what_the_host_runs_and_stays_in_its_memory() {
    let Some(compiler) = Sanitized::by("address,undefined") else { return };
    let shim = crate::files::root().join("tests/kernels/device");
    let common =
        ["-O1", "-ffp-contract=off", "-fno-trapping-math", "-fno-sanitize-recover=all", "-I", shim.to_str().unwrap()];
    let on_device = [&common[..], &["-include", "cuda_runtime.h", "-x", "c++"]].concat();
    let mut objects = vec![compiler.object("tests/kernels/launch.cpp", &common)];
    for name in ["eigh", "gram", "scores", "step"] {
        objects.push(compiler.object(&format!("kernels/{name}.cu"), &on_device));
        objects.push(compiler.object(&format!("kernels/{name}.cpp"), &common));
    }
    let program = compiler.program(&objects);
    let sound = outcome(&program, &[]);
    assert!(sound.status.success() && said(&sound).contains("device and host agree"), "{}", said(&sound));
    let broken = outcome(&program, &["broken"]);
    assert!(!broken.status.success() && said(&broken).contains("device and host differ"), "{}", said(&broken));
}
