//! Bank conflicts of the Gram kernel, counted by banks.cpp from the kernel's own indices.

use super::sanitized::{Sanitized, outcome, said};

#[test]
fn a_panel_is_read_without_bank_conflicts_and_by_a_thread_a_patch() {
    let Some(compiler) = Sanitized::by("undefined") else { return };
    let program =
        compiler.program(&[compiler.object("tests/kernels/banks.cpp", &["-O1", "-Wall", "-Wextra", "-Werror"])]);
    let out = outcome(&program, &[]);
    let lines = said(&out);
    let rows: Vec<Vec<usize>> =
        lines.lines().map(|line| line.split(' ').map(|number| number.parse().unwrap()).collect()).collect();
    assert!(out.status.success() && rows.len() == 64, "{lines}");
    for row in &rows {
        let [n, wavefronts, least, patches, threads] = row[..] else { panic!("{lines}") };
        // Rows of a patch beside each other: 240 at 64. Patches of two rows and partners that wrap around leave some conflicts.
        assert!(wavefronts <= if n < 48 { 2 * least } else { least }, "{n}: {wavefronts} where {least} would do");
        assert!(n < 48 || patches <= threads, "{n}: {patches} patches on {threads} threads");
    }
    assert_eq!(rows[63][1], 72);
}
