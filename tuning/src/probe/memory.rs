//! How much memory may this process have?

use std::fs;

/// Bytes of memory this process may have: what the machine has, or less where a control group says so. `None` if
/// nothing tells.
pub fn memory_bytes() -> Option<u64> {
    let read = |path: &str| fs::read_to_string(path).ok();
    least(&read("/proc/meminfo")?, &read("/proc/self/cgroup").unwrap_or_default(), read)
}

/// The least of /proc/meminfo's total and the limits of the groups that /proc/self/cgroup names. A group's ancestors limit
/// it as well; in a container its own path may not be there, and the root is what limits.
fn least(meminfo: &str, groups: &str, read: impl Fn(&str) -> Option<String>) -> Option<u64> {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let total = total.and_then(|text| text.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    let mut all: Vec<u64> = total.map(|kib| kib << 10).into_iter().collect();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            names if names.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let mut path = path.trim_end_matches('/');
        loop {
            // No limit is a word in version 2 and a very large number in version 1.
            all.extend(
                read(&format!("{root}{path}/{file}")).and_then(|text| text.trim().parse::<u64>().ok()),
            );
            match path.rsplit_once('/') {
                Some((parent, _)) => path = parent,
                None => break,
            }
        }
    }
    all.into_iter().min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_counts() {
        let meminfo = "MemTotal:       16777216 kB\nMemFree: 1 kB\n";
        let check = |groups: &str, files: &[(&str, &str)], expected: Option<u64>| {
            let read = |path: &str| {
                let found = files.iter().find(|(name, _)| path == *name);
                found.map(|(_, text)| (*text).to_owned())
            };
            assert_eq!(least(meminfo, groups, read), expected, "{groups} {files:?}");
        };
        check("", &[], Some(16 << 30));
        let v2 = "0::/kubepods/pod1/c1\n";
        check(v2, &[("/sys/fs/cgroup/kubepods/pod1/c1/memory.max", "max\n")], Some(16 << 30));
        let limits = [
            ("/sys/fs/cgroup/kubepods/pod1/c1/memory.max", "2147483648\n"),
            ("/sys/fs/cgroup/kubepods/pod1/memory.max", "1073741824\n"),
        ];
        check(v2, &limits, Some(1 << 30));
        check("0::/\n", &[("/sys/fs/cgroup/memory.max", "1048576\n")], Some(1 << 20));
        let v1 = "5:cpu,cpuacct:/x\n4:memory:/x/y\n";
        check(
            v1,
            &[("/sys/fs/cgroup/memory/x/y/memory.limit_in_bytes", "9223372036854771712\n")],
            Some(16 << 30),
        );
        check(v1, &[("/sys/fs/cgroup/memory/memory.limit_in_bytes", "4096\n")], Some(4096));
        assert_eq!(least("", "nonsense\n", |_| None), None);
    }
}
