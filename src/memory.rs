//! How much memory the host has left for this process: the least of the free memory, the rest of its control groups' limits, and the rest
//! of its own limits. The page cache counts as free where the kernel would give it back.

use std::fs;
use std::path::Path;

/// Bytes left for this process; `None` if the system does not say.
pub fn left() -> Option<u64> {
    left_by(Path::new("/proc"), Path::new("/sys/fs/cgroup"))
}

/// Bytes of memory that this process has; `None` if the system does not say.
pub fn resident() -> Option<u64> {
    kibibytes(Path::new("/proc/self/status"), "VmRSS:")
}

/// [`left`] from the files below `proc` and `cgroups`.
fn left_by(proc: &Path, cgroups: &Path) -> Option<u64> {
    let own = proc.join("self");
    let free = kibibytes(&proc.join("meminfo"), "MemAvailable:");
    let groups = text(&own.join("cgroup")).unwrap_or_default();
    let groups = groups.lines().filter_map(|line| group_left(line, cgroups));
    free.into_iter().chain(groups).chain(address_space_left(&own)).min()
}

/// What is left in the control group of one line of /proc/self/cgroup and in its parents; `None` if none has a limit.
fn group_left(line: &str, cgroups: &Path) -> Option<u64> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (controllers, path) = (fields.next()?, fields.next()?);
    // Version 2 has one hierarchy, without a name.
    let (root, files) = match controllers {
        "" if cgroups.join("unified").is_dir() => (cgroups.join("unified"), &V2),
        "" => (cgroups.to_owned(), &V2),
        _ if controllers.split(',').any(|c| c == "memory") => (cgroups.join("memory"), &V1),
        _ => return None,
    };
    // In a container the path may be the host's; what is mounted here is then the container's own group.
    let below = root.join(path.trim_start_matches('/'));
    let mut folder = if below.is_dir() { below } else { root.clone() };
    let mut least = None;
    while folder.starts_with(&root) {
        least = least.into_iter().chain(files.left(&folder)).min();
        if !folder.pop() {
            break;
        }
    }
    least
}

/// The files of one version of control groups.
struct Files {
    limit: &'static str,
    used: &'static str,
    /// Lines of memory.stat for memory that is used and would be given back.
    reclaimable: &'static [&'static str],
}

const V1: Files = Files {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    reclaimable: &["total_active_file", "total_inactive_file"],
};
const V2: Files = Files {
    limit: "memory.max",
    used: "memory.current",
    reclaimable: &["active_file", "inactive_file", "slab_reclaimable"],
};

impl Files {
    fn left(&self, folder: &Path) -> Option<u64> {
        // `max`, in version 2, means no limit.
        let limit: u64 = text(&folder.join(self.limit))?.trim().parse().ok()?;
        let used: u64 = text(&folder.join(self.used))?.trim().parse().ok()?;
        let stat = text(&folder.join("memory.stat")).unwrap_or_default();
        let named = stat.lines().filter_map(|line| line.split_once(' '));
        let counted = named.filter(|(name, _)| self.reclaimable.contains(name));
        let reclaimable: u64 = counted.filter_map(|(_, bytes)| bytes.trim().parse::<u64>().ok()).sum();
        Some(limit.saturating_sub(used.saturating_sub(reclaimable)))
    }
}

/// What is left of the process's own limits: for its address space and for its data.
fn address_space_left(own: &Path) -> Option<u64> {
    let limits = text(&own.join("limits"))?;
    let soft = |name: &str| -> Option<u64> {
        let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let status = own.join("status");
    let less = |limit: Option<u64>, held: &str| -> Option<u64> {
        Some(limit?.saturating_sub(kibibytes(&status, held).unwrap_or(0)))
    };
    let space = less(soft("Max address space"), "VmSize:");
    let data = less(soft("Max data size"), "VmData:");
    space.into_iter().chain(data).min()
}

/// The bytes in a line `NAME  N kB` of a file in /proc.
fn kibibytes(file: &Path, name: &str) -> Option<u64> {
    let text = text(file)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()?.saturating_mul(1024))
}

fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A machine as files: (path, text).
    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn of(files: &[(&str, &str)]) -> Option<u64> {
        let folder = machine(files);
        left_by(&folder.path().join("proc"), &folder.path().join("cgroup"))
    }

    const FREE: (&str, &str) = ("proc/meminfo", "MemTotal: 9000000 kB\nMemAvailable:    4096000 kB\n");

    #[test]
    fn what_is_free_where_nothing_limits() {
        assert_eq!(of(&[FREE]), Some(4000 * MIB));
        assert_eq!(of(&[]), None);
        let unlimited = "Max address space         unlimited            unlimited            bytes\n";
        assert_eq!(of(&[FREE, ("proc/self/limits", unlimited)]), Some(4000 * MIB));
    }

    #[test]
    fn the_own_groups_limit_counts_without_what_is_cached() {
        let own = ("proc/self/cgroup", "0::/user/job\n");
        let stat = format!("anon {}\nactive_file {}\ninactive_file {}\n", 300 * MIB, 100 * MIB, 500 * MIB);
        let (limit, used) = ((1000 * MIB).to_string(), (900 * MIB).to_string());
        let group = [
            FREE,
            own,
            ("cgroup/user/job/memory.max", &limit),
            ("cgroup/user/job/memory.current", &used),
            ("cgroup/user/job/memory.stat", &stat),
        ];
        assert_eq!(of(&group), Some(700 * MIB));
        // The group above is tighter; its cache is not ours to count twice.
        let (above, held) = ((600 * MIB).to_string(), (400 * MIB).to_string());
        let tighter = [("cgroup/user/memory.max", &*above), ("cgroup/user/memory.current", &*held)];
        assert_eq!(of(&[&group[..], &tighter].concat()), Some(200 * MIB));
        let none = [FREE, own, ("cgroup/user/job/memory.max", "max\n"), ("cgroup/user/job/memory.current", "5\n")];
        assert_eq!(of(&none), Some(4000 * MIB));
    }

    #[test]
    fn version_one_and_a_path_of_the_hosts() {
        let (limit, used) = ((500 * MIB).to_string(), (450 * MIB).to_string());
        let stat = format!("cache 1\ntotal_inactive_file {}\n", 250 * MIB);
        let files = [
            FREE,
            ("proc/self/cgroup", "9:name=systemd:/x\n4:memory:/docker/abc\n0::/\n"),
            ("cgroup/memory/memory.limit_in_bytes", &limit),
            ("cgroup/memory/memory.usage_in_bytes", &used),
            ("cgroup/memory/memory.stat", &stat),
            ("cgroup/unified/cgroup.procs", "1\n"),
        ];
        assert_eq!(of(&files), Some(300 * MIB));
    }

    #[test]
    fn the_processs_own_limits_count_less_what_it_holds() {
        let limits = format!("Max address space         {}           unlimited            bytes\n", 3000 * MIB);
        let status = "Name: x\nVmSize:\t 2048000 kB\nVmData:\t 100 kB\n";
        assert_eq!(of(&[FREE, ("proc/self/limits", &limits), ("proc/self/status", status)]), Some(1000 * MIB));
        let beyond = "Max address space         1000           1000            bytes\n";
        assert_eq!(of(&[FREE, ("proc/self/limits", beyond), ("proc/self/status", status)]), Some(0));
    }

    #[test]
    fn this_machine_tells() {
        assert!(left().is_some_and(|bytes| bytes > MIB));
    }
}
