//! The number of CPU threads by default.

use crate::files::program;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program, started by `through`, with no number of threads in its environment.
fn started(through: &[&str]) -> Command {
    let mut command = Command::new(through[0]);
    command.args(&through[1..]).arg(program().get_program());
    command.env_remove("OMP_NUM_THREADS").env_remove("MKL_NUM_THREADS").env("CUDA_VISIBLE_DEVICES", "");
    command
}

/// The number that `--version` tells, of the program started by `through`.
fn told(through: &[&str], variables: &[(&str, &str)]) -> usize {
    let done = started(through).arg("--version").envs(variables.iter().copied()).output().unwrap();
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

/// A control group whose quota is one processor; none where this user may make none.
struct Quota(PathBuf);

impl Quota {
    fn of_one() -> Option<Self> {
        // Version 1 of control groups, and version 2.
        for (root, file, quota) in
            [("/sys/fs/cgroup/cpu", "cpu.cfs_quota_us", "100000"), ("/sys/fs/cgroup", "cpu.max", "100000 100000")]
        {
            let at = Path::new(root).join(format!("pullback-test-{}", std::process::id()));
            if fs::create_dir(&at).is_ok() {
                let group = Self(at);
                let limits = group.0.join(file);
                if limits.is_file() && fs::write(limits, quota).is_ok() {
                    return Some(group);
                }
            }
        }
        None
    }

    /// What moves a shell into the group.
    fn enter(&self) -> String {
        format!("echo $$ > '{}'", self.0.join("cgroup.procs").display())
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn there_are_as_many_as_the_quota_of_the_control_group() {
    if told(&["env"], &[]) < 2 {
        println!("skipped: this process may use one processor only");
        return;
    }
    let group = Quota::of_one();
    let enters = |group: &Quota| Command::new("bash").args(["-c", &group.enter()]).output();
    let Some(group) = group.filter(|group| enters(group).is_ok_and(|done| done.status.success())) else {
        println!("skipped: this user may make no control group with a quota");
        return;
    };
    let shell = format!("{} && exec \"$0\" \"$@\"", group.enter());
    let through = ["bash", "-c", shell.as_str()];
    assert_eq!(told(&through, &[]), 1);
    // A command tells it too.
    let done = started(&through).args(["inspect", "/nowhere.h5", "-v"]).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    let words: Vec<&str> = said.split_whitespace().collect();
    assert!(words.windows(3).any(|three| three == ["1", "CPU", "threads"]), "{said}");
    // The user's own number stands above the quota.
    assert_eq!(told(&through, &[("OMP_NUM_THREADS", "2")]), 2);
}
