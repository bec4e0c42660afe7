//! How much memory this process may still take, as Linux says it: what the machine has, what the control groups leave that the
//! process is in (containers, services, batch systems), what its own limits leave.

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes; `None` where the system says nothing.
pub fn free() -> Option<u64> {
    free_in(Path::new("/"))
}

/// As [`free`], of files under `root`.
fn free_in(root: &Path) -> Option<u64> {
    let read = |path: &Path| fs::read_to_string(root.join(path.strip_prefix("/").unwrap_or(path))).ok();
    let proc = |name: &str| read(&Path::new("/proc").join(name)).unwrap_or_default();
    let machine = field(&proc("meminfo"), "MemAvailable:").map(|kib| kib << 10);
    let (limits, status) = (proc("self/limits"), proc("self/status"));
    let own = [("Max address space", "VmSize:"), ("Max data size", "VmData:")];
    let own = own.map(|(limit, used)| limit_left(&limits, limit, &status, used));
    let groups = folders(&proc("self/cgroup"), &proc("self/mountinfo"));
    let groups = groups.iter().filter_map(|(version, folder)| {
        let file = |name: &str| read(&folder.join(name));
        let [limit, usage, stat] = version.files().map(file);
        group_left(*version, &limit?, &usage?, &stat.unwrap_or_default())
    });
    [machine].into_iter().chain(own).flatten().chain(groups).min()
}

/// The number behind `name`, at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// What a limit of `/proc/self/limits` leaves beside what `/proc/self/status` says is used, in KiB.
fn limit_left(limits: &str, limit: &str, status: &str, used: &str) -> Option<u64> {
    // "unlimited" is no number.
    let limit = field(limits, limit)?;
    Some(limit.saturating_sub(field(status, used)? << 10))
}

/// The two kinds of control groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Version {
    /// The files of a group's limit, of what it uses, of what that consists of.
    fn files(self) -> [&'static str; 3] {
        match self {
            Version::One => ["memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat"],
            Version::Two => ["memory.max", "memory.current", "memory.stat"],
        }
    }
}

/// What a group may still take. Files' pages that are not in use are given up for it: they count as free.
fn group_left(version: Version, limit: &str, usage: &str, stat: &str) -> Option<u64> {
    // "max" is no number.
    let limit: u64 = limit.trim().parse().ok()?;
    let usage: u64 = usage.trim().parse().ok()?;
    let cached = match version {
        Version::One => field(stat, "total_inactive_file "),
        Version::Two => field(stat, "inactive_file "),
    };
    Some(limit.saturating_sub(usage.saturating_sub(cached.unwrap_or(0))))
}

/// The folders of the groups that limit this process's memory: its own and those around it. From `/proc/self/cgroup`, which
/// names the groups, and `/proc/self/mountinfo`, which says where their folders are.
fn folders(cgroup: &str, mountinfo: &str) -> Vec<(Version, PathBuf)> {
    let groups: Vec<(&str, &str)> = cgroup
        .lines()
        .filter_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            Some((controllers, path))
        })
        .collect();
    let mut folders = Vec::new();
    for line in mountinfo.lines() {
        let Some((mount, system)) = line.split_once(" - ") else { continue };
        let mut mount = mount.split(' ').skip(3);
        let (Some(root), Some(place)) = (mount.next(), mount.next()) else { continue };
        let mut system = system.split(' ');
        let (kind, options) = (system.next().unwrap_or_default(), system.nth(1).unwrap_or_default());
        let has_memory = |list: &str| list.split(',').any(|name| name == "memory");
        let (version, group) = match kind {
            "cgroup2" => (Version::Two, groups.iter().find(|(controllers, _)| controllers.is_empty())),
            "cgroup" if has_memory(options) => {
                (Version::One, groups.iter().find(|(controllers, _)| has_memory(controllers)))
            }
            _ => continue,
        };
        let Some((_, path)) = group else { continue };
        // A container may see its own group at the mount's place, and be told a path from outside.
        let below = Path::new(path).strip_prefix(root).ok().filter(|path| !path.starts_with(".."));
        let folder = below.map_or_else(|| place.into(), |below| Path::new(place).join(below));
        let around = folder.ancestors().take_while(|folder| folder.starts_with(place));
        folders.extend(around.map(|folder| (version, folder.to_owned())));
    }
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: &str = "\
Limit                     Soft Limit           Hard Limit           Units     
Max cpu time              unlimited            unlimited            seconds   
Max data size             unlimited            unlimited            bytes     
Max stack size            8388608              unlimited            bytes     
Max address space         2147483648           4294967296           bytes     
";
    const STATUS: &str = "Name:\tlseg-fast\nVmPeak:\t  604812 kB\nVmSize:\t  604808 kB\nVmData:\t  101384 kB\n";
    const MEMINFO: &str = "\
MemTotal:       24684084 kB
MemFree:        11311068 kB
MemAvailable:   23449136 kB
Buffers:          301012 kB
";

    /// Groups, mounts, and the folders that count, the innermost first: as systems have them.
    #[test]
    fn the_groups_around_this_process_are_found() {
        use Version::{One, Two};
        // Fedora 41, a shell in a terminal.
        let desktop = "0::/user.slice/user-1000.slice/session-2.scope\n";
        let unified = "24 22 0:22 / /proc rw,nosuid shared:12 - proc proc rw\n\
                       30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        // Docker on version 2, a namespace of its own.
        let docker = "0::/\n";
        let docker_mounts = "1320 1319 0:30 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw,nsdelegate\n";
        // Docker on version 1: the host's path, and the group itself mounted.
        let old = "12:memory:/docker/8f3c\n5:cpu,cpuacct:/docker/8f3c\n1:name=systemd:/docker/8f3c\n0::/\n";
        let old_mounts = "1421 1410 0:32 /docker/8f3c /sys/fs/cgroup/memory ro,nosuid master:16 - cgroup cgroup rw,memory\n\
                          1422 1410 0:33 /docker/8f3c /sys/fs/cgroup/cpu,cpuacct ro master:17 - cgroup cgroup rw,cpu,cpuacct\n";
        // Both versions at once, as systemd's hybrid layout has them.
        let hybrid = "4:memory:/batch/job7\n0::/batch/job7\n";
        let hybrid_mounts = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
                             41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        // A group outside of the namespace.
        let outside = "0::/../other.scope\n";
        for (groups, mounts, expected) in [
            (
                desktop,
                unified,
                vec![
                    (Two, "/sys/fs/cgroup/user.slice/user-1000.slice/session-2.scope"),
                    (Two, "/sys/fs/cgroup/user.slice/user-1000.slice"),
                    (Two, "/sys/fs/cgroup/user.slice"),
                    (Two, "/sys/fs/cgroup"),
                ],
            ),
            (docker, docker_mounts, vec![(Two, "/sys/fs/cgroup")]),
            (old, old_mounts, vec![(One, "/sys/fs/cgroup/memory")]),
            (
                hybrid,
                hybrid_mounts,
                vec![
                    (One, "/sys/fs/cgroup/memory/batch/job7"),
                    (One, "/sys/fs/cgroup/memory/batch"),
                    (One, "/sys/fs/cgroup/memory"),
                    (Two, "/sys/fs/cgroup/unified/batch/job7"),
                    (Two, "/sys/fs/cgroup/unified/batch"),
                    (Two, "/sys/fs/cgroup/unified"),
                ],
            ),
            (outside, docker_mounts, vec![(Two, "/sys/fs/cgroup")]),
            ("", unified, vec![]),
            (desktop, "", vec![]),
            ("nonsense\n1:2", "nonsense - \n - cgroup2", vec![]),
        ] {
            let expected: Vec<_> = expected.into_iter().map(|(version, path)| (version, path.into())).collect();
            assert_eq!(folders(groups, mounts), expected, "{groups}{mounts}");
        }
    }

    #[test]
    fn what_a_group_leaves() {
        let stat = "anon 1000\ninactive_anon 7\nactive_file 5\ninactive_file 300\n";
        let old_stat = "cache 500\ninactive_file 1\ntotal_cache 500\ntotal_inactive_file 200\n";
        for (version, limit, usage, stat, left) in [
            (Version::Two, "max\n", "1500\n", stat, None),
            (Version::Two, "2000\n", "1500\n", stat, Some(800)),
            (Version::Two, "2000\n", "1500\n", "", Some(500)),
            (Version::Two, "1000\n", "1500\n", stat, Some(0)),
            (Version::One, "2000\n", "1500\n", old_stat, Some(700)),
            (Version::One, "9223372036854771712\n", "1500\n", old_stat, Some(9223372036854771712 - 1300)),
            (Version::One, "", "1500\n", old_stat, None),
        ] {
            assert_eq!(group_left(version, limit, usage, stat), left, "{version:?} {limit}");
        }
    }

    #[test]
    fn what_the_limits_of_a_process_leave() {
        let left = |limit, used| limit_left(LIMITS, limit, STATUS, used);
        assert_eq!(left("Max address space", "VmSize:"), Some(2_147_483_648 - (604_808 << 10)));
        assert_eq!(left("Max data size", "VmData:"), None);
        assert_eq!(limit_left("Max data size 1024 1024 bytes", "Max data size", STATUS, "VmData:"), Some(0));
        assert_eq!(limit_left("", "Max data size", "", "VmData:"), None);
    }

    /// The least counts, and what is not there does not.
    #[test]
    fn all_of_it_together() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(free_in(root.path()), None);
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("proc/meminfo", MEMINFO);
        assert_eq!(free_in(root.path()), Some(23_449_136 << 10));
        put("proc/self/cgroup", "0::/a/b\n");
        put("proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n");
        put("sys/fs/cgroup/a/b/memory.max", "max\n");
        put("sys/fs/cgroup/a/b/memory.current", "4096\n");
        put("sys/fs/cgroup/a/memory.max", "8000000000\n");
        put("sys/fs/cgroup/a/memory.current", "5000000000\n");
        put("sys/fs/cgroup/a/memory.stat", "inactive_file 1000000000\n");
        assert_eq!(free_in(root.path()), Some(4_000_000_000));
        put("proc/self/limits", LIMITS);
        put("proc/self/status", STATUS);
        assert_eq!(free_in(root.path()), Some(2_147_483_648 - (604_808 << 10)));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_has_some() {
        assert!(free().is_some_and(|bytes| bytes > 1 << 20));
    }
}
