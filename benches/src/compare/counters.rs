//! What the kernel counts while a scenario runs: the server's CPU time, flushes of all disks, stolen time.

use std::fs;
use std::io;

/// Counters at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Counters {
    /// CPU time of the server, user and system, in clock ticks.
    cpu_ticks: u64,
    flushes: u64,
    steal_ticks: u64,
    all_ticks: u64,
}

/// What happened between two moments.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// CPU time of the server, in microseconds.
    pub cpu_us: f64,
    /// Flushes that disks completed.
    pub flushes: u64,
    /// Share of all CPU time that the hypervisor gave to others.
    pub steal: f64,
}

/// USER_HZ, which /proc counts in; 100 on every Linux that runs here.
const TICKS_PER_SECOND: f64 = 100.0;

impl Counters {
    /// Reads them for the process `id`.
    pub fn read(id: u32) -> io::Result<Counters> {
        let (steal_ticks, all_ticks) = steal(&fs::read_to_string("/proc/stat")?);
        let cpu_ticks = cpu_ticks(&fs::read_to_string(format!("/proc/{id}/stat"))?);
        Ok(Counters { cpu_ticks, flushes: flushes()?, steal_ticks, all_ticks })
    }

    /// What was spent since `earlier`.
    pub fn since(&self, earlier: &Counters) -> Spent {
        let all = self.all_ticks.saturating_sub(earlier.all_ticks).max(1);
        Spent {
            cpu_us: (self.cpu_ticks - earlier.cpu_ticks) as f64 / TICKS_PER_SECOND * 1e6,
            flushes: self.flushes - earlier.flushes,
            steal: self.steal_ticks.saturating_sub(earlier.steal_ticks) as f64 / all as f64,
        }
    }
}

/// Fields utime and stime; the name before them may hold spaces, so count from its closing parenthesis.
fn cpu_ticks(stat: &str) -> u64 {
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

/// Stolen and total ticks of the line of all CPUs.
fn steal(stat: &str) -> (u64, u64) {
    let line = stat.lines().next().unwrap_or_default();
    let ticks = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect::<Vec<u64>>();
    (ticks.get(7).copied().unwrap_or(0), ticks.iter().take(8).sum())
}

/// Field 16 of each block device: flush requests completed. Devices without the field count as 0.
fn flushes() -> io::Result<u64> {
    let mut sum = 0;
    for device in fs::read_dir("/sys/block")? {
        let stat = fs::read_to_string(device?.path().join("stat")).unwrap_or_default();
        sum += stat.split_whitespace().nth(15).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc_are_read() {
        assert_eq!(cpu_ticks("7 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 30 12 0 0 20"), 42);
        assert_eq!(steal("cpu  1 2 3 4 5 6 7 8 0 0\ncpu0 1"), (8, 36));
        let id = std::process::id();
        let before = Counters::read(id).unwrap();
        assert!(Counters::read(id).unwrap().since(&before).cpu_us >= 0.0);
    }
}
