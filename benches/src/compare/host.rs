//! Where the numbers come from: a number without its host is a rumour.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Name and value of each fact about this host and the disk below `data`.
pub fn facts(data: &Path) -> Vec<(&'static str, String)> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let (device, kind) = mount_of(&read("/proc/mounts"), data);
    vec![
        ("host", name()),
        ("kernel", read("/proc/sys/kernel/osrelease")),
        ("CPU", format!("{} x {}", cpus(), field(&read("/proc/cpuinfo"), "model name"))),
        ("memory", field(&read("/proc/meminfo"), "MemTotal")),
        ("file system", format!("{kind} on {device}")),
        ("disks", disks()),
    ]
}

/// The host's name.
pub fn name() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

/// What `program --version` says of itself: the line of its own version where it stands in for another program.
pub fn version(program: &Path) -> String {
    let output = Command::new(program).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let own = text.lines().find(|line| line.starts_with("Kontiki Version"));
    own.or(text.lines().next()).unwrap_or("unknown").to_owned()
}

/// Today, as 2026-01-31.
pub fn date() -> String {
    let output = Command::new("date").arg("+%F").output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(0, usize::from)
}

fn field(text: &str, name: &str) -> String {
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_once(':').map_or_else(|| "unknown".into(), |(_, value)| value.trim().to_owned())
}

/// Device and type of the file system that holds `data`: the longest mount point that it starts with.
fn mount_of(mounts: &str, data: &Path) -> (String, String) {
    let lines = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let holding = lines.filter(|fields| fields.len() > 2 && data.starts_with(fields[1]));
    holding
        .max_by_key(|fields| fields[1].len())
        .map_or_else(|| ("unknown".into(), "unknown".into()), |fields| (fields[0].into(), fields[2].into()))
}

fn disks() -> String {
    let entries = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names =
        names.filter(|name| !name.starts_with("loop") && !name.starts_with("ram")).collect::<Vec<_>>();
    names.sort();
    let describe = |name: &String| {
        let read = |file: &str| fs::read_to_string(format!("/sys/block/{name}/{file}")).unwrap_or_default();
        format!("{name} ({}, write cache {})", read("device/model").trim(), read("queue/write_cache").trim())
    };
    names.iter().map(describe).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_mount_point_counts() {
        let mounts = "/dev/a / ext4 rw\n/dev/b /data xfs rw\n/dev/c /da tmpfs rw";
        assert_eq!(mount_of(mounts, Path::new("/data/x")), ("/dev/b".into(), "xfs".into()));
        assert_eq!(mount_of(mounts, Path::new("/database")), ("/dev/a".into(), "ext4".into()));
    }
}
