//! Which CPUs are there, and which one hears from the disk?
//!
//! A completion that arrives on the CPU that waits for it saves a wake-up of another: on a disk with one
//! queue, that is a fifth of a log write. The answer is pieced together from /sys and /proc/interrupts and
//! may well be "unknown".

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::thread::{CpuSet, sched_getaffinity};

/// CPUs this process may run on, ascending.
pub fn allowed() -> Vec<usize> {
    match sched_getaffinity(None) {
        Ok(set) => (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect(),
        Err(_) => (0..std::thread::available_parallelism().map_or(1, Into::into)).collect(),
    }
}

/// Where a disk's completions arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskInterrupt {
    /// The CPU that took most of them.
    pub cpu: usize,
    /// How many interrupts, and so queues, the disk has in use.
    pub queues: usize,
}

/// The interrupt of the disk below `dir`; `None` when it cannot be told.
pub fn disk_interrupt(dir: &Path) -> Option<DiskInterrupt> {
    let device = fs::metadata(dir).ok()?.dev();
    let names = device_names(Path::new("/sys/dev/block"), device)?;
    busiest(&fs::read_to_string("/proc/interrupts").ok()?, &names)
}

/// Names on the path of a block device in /sys: controller, disk, partition; for a stacked device those below
/// it.
fn device_names(sys: &Path, device: u64) -> Option<BTreeSet<String>> {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let path = sys.join(format!("{major}:{minor}")).canonicalize().ok()?;
    let mut names = components(&path);
    let slaves = fs::read_dir(path.join("slaves")).into_iter().flatten().flatten();
    names.extend(
        slaves.filter_map(|slave| slave.path().canonicalize().ok()).flat_map(|path| components(&path)),
    );
    Some(names)
}

fn components(path: &Path) -> BTreeSet<String> {
    path.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect()
}

/// The CPU with the most interrupts among the rows of /proc/interrupts that belong to one of `names`.
fn busiest(interrupts: &str, names: &BTreeSet<String>) -> Option<DiskInterrupt> {
    let mut lines = interrupts.lines();
    let cpus: Vec<usize> = lines
        .next()?
        .split_whitespace()
        .filter_map(|title| title.strip_prefix("CPU")?.parse().ok())
        .collect();
    let mut counts = vec![0u64; cpus.len()];
    let mut queues = 0;
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(label) = words.last().filter(|label| is_queue_of(label, names)) else { continue };
        let numbers: Vec<u64> = words.iter().skip(1).map_while(|word| word.parse().ok()).collect();
        if label.is_empty() || numbers.len() < cpus.len() || numbers[..cpus.len()].iter().all(|n| *n == 0) {
            continue;
        }
        queues += 1;
        counts.iter_mut().zip(&numbers).for_each(|(sum, number)| *sum += number);
    }
    let (at, most) = counts.iter().enumerate().max_by_key(|(at, count)| (**count, usize::MAX - at))?;
    (*most > 0).then(|| DiskInterrupt { cpu: cpus[at], queues })
}

/// `virtio1-req.0` is a queue of virtio1 and `nvme0q3` of nvme0; `nvme0q0` takes orders only.
fn is_queue_of(label: &str, names: &BTreeSet<String>) -> bool {
    names.iter().any(|name| match label.strip_prefix(name.as_str()) {
        Some("") => true,
        Some(rest) if rest.starts_with("-req") => true,
        Some(rest) => {
            rest.strip_prefix('q').is_some_and(|queue| queue.parse().is_ok_and(|number: u32| number > 0))
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIRTIO: &str = "           CPU0       CPU1       \n \
         24:          1          0  IO-APIC   5-edge      ACPI:Ged\n \
         35:          0          9  PCI-MSIX-0000:00:02.0   0-edge      virtio1-config\n \
         36:          7     202735 PCI-MSIX-0000:00:02.0   1-edge      virtio1-req.0\n \
         41:       3873          0 PCI-MSIX-0000:00:04.0   1-edge      virtio3-rx\n\
         NMI:          0          0   Non-maskable interrupts\n\
         ERR:          0\n";

    const NVME: &str = "            CPU0   CPU2   CPU5\n \
         30:  900  0  0  PCI-MSIX  nvme0q0\n \
         31:  5  0  0  PCI-MSIX  nvme0q1\n \
         32:  0  8  0  PCI-MSIX  nvme0q2\n \
         33:  0  0  7  PCI-MSIX  nvme0q3\n \
         34:  0  0  0  PCI-MSIX  nvme0q4\n \
         35:  0  0  99  PCI-MSIX  nvme1q1\n";

    #[test]
    fn the_busiest_cpu_of_the_disk() {
        for (table, names, found) in [
            (VIRTIO, &["virtio1", "vda"] as &[&str], Some((1, 1))),
            (VIRTIO, &["virtio2"], None),
            (NVME, &["nvme0", "nvme0n1"], Some((2, 3))),
            (NVME, &["nvme1"], Some((5, 1))),
            ("", &["nvme0"], None),
            ("CPU0\nnonsense nvme0q1\n", &["nvme0"], None),
        ] {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            let found = found.map(|(cpu, queues)| DiskInterrupt { cpu, queues });
            assert_eq!(busiest(table, &names), found, "{names:?}");
        }
    }

    #[test]
    fn stacked_devices_name_what_is_below() {
        let dir = tempfile::tempdir().unwrap();
        let sys = dir.path().canonicalize().unwrap();
        let disk = sys.join("devices/pci/nvme0/nvme0n1");
        let raid = sys.join("devices/virtual/block/md0");
        fs::create_dir_all(&disk).unwrap();
        fs::create_dir_all(raid.join("slaves")).unwrap();
        std::os::unix::fs::symlink(&disk, raid.join("slaves/nvme0n1")).unwrap();
        std::os::unix::fs::symlink(&raid, sys.join("9:0")).unwrap();
        let names = device_names(&sys, rustix::fs::makedev(9, 0)).unwrap();
        assert!(["md0", "nvme0", "nvme0n1"].iter().all(|name| names.contains(*name)), "{names:?}");
        assert_eq!(device_names(&sys, rustix::fs::makedev(9, 1)), None);
    }

    #[test]
    fn this_process_may_run_somewhere() {
        let cpus = allowed();
        assert!(!cpus.is_empty() && cpus.is_sorted());
    }
}
