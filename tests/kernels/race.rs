//! The bodies of the kernels on real threads under ThreadSanitizer: race.cpp says what that shows.

use super::sanitized::{Sanitized, outcome, said};

#[test]
fn no_phase_races_and_a_missing_barrier_would_be_seen() {
    let Some(compiler) = Sanitized::by("thread") else { return };
    let program =
        compiler.program(&[compiler.object("tests/kernels/race.cpp", &["-O1", "-Wall", "-Wextra", "-Werror"])]);
    let sound = outcome(&program, &[]);
    assert!(sound.status.success() && said(&sound).trim() == "no race", "{}", said(&sound));
    let broken = outcome(&program, &["broken"]);
    assert!(!broken.status.success() && said(&broken).contains("data race"), "{}", said(&broken));
}
