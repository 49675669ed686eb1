//! The number of CPU threads by default.

use crate::files::program;
use std::process::Command;

/// The number that `--version` tells, of the program started by `through`.
fn told(through: &[&str], variables: &[(&str, &str)]) -> usize {
    let mut command = Command::new(through[0]);
    command.args(&through[1..]).arg(program().get_program()).arg("--version");
    command.env_remove("OMP_NUM_THREADS").env_remove("MKL_NUM_THREADS").env("CUDA_VISIBLE_DEVICES", "");
    let done = command.envs(variables.iter().copied()).output().unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("CPU threads: "));
    line.unwrap_or_else(|| panic!("{text}")).parse().unwrap()
}

#[test]
fn there_are_as_many_as_the_process_may_use() {
    let all = told(&["env"], &[]);
    assert!((1..=std::thread::available_parallelism().unwrap().get()).contains(&all), "{all}");
    // Bound to one processor of those that this process has.
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim();
    let first = list.split([',', '-']).next().unwrap();
    assert_eq!(told(&["taskset", "-c", first], &[]), 1);
    // A number that the user names is libtorch's affair.
    assert_eq!(told(&["env"], &[("OMP_NUM_THREADS", "1")]), 1);
}
