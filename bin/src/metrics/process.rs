//! The process as Prometheus' clients describe it, read from /proc when somebody asks.
//!
//! What cannot be read is absent.

use std::fs;

use super::render::{Kind, Snapshot};

/// CPU, memory, descriptors and network of this process, now.
pub fn process() -> Snapshot {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let open_fds = fs::read_dir("/proc/self/fd").map(|fds| fds.count() as f64).ok();
    let units = Units {
        ticks_per_second: rustix::param::clock_ticks_per_second() as f64,
        page_bytes: rustix::param::page_size() as f64,
    };
    let mut values = from_stat(&read("/proc/self/stat"), &read("/proc/stat"), units);
    values.extend(from_limits(&read("/proc/self/limits")));
    values.extend(from_netstat(&read("/proc/self/net/netstat")));
    for name in ["process_open_fds", "os_fd_used"] {
        values.extend(open_fds.map(|count| (name, count)));
    }
    let mut snapshot = Snapshot::default();
    for (name, value) in values {
        let (kind, help) = described(name);
        snapshot.family(name, kind, help).push("", String::new(), value);
    }
    snapshot
}

fn described(name: &str) -> (Kind, &'static str) {
    match name {
        "process_cpu_seconds_total" => (Kind::Counter, "Seconds of CPU used, user and system."),
        "process_resident_memory_bytes" => (Kind::Gauge, "Bytes of memory in RAM."),
        "process_virtual_memory_bytes" => (Kind::Gauge, "Bytes of address space."),
        "process_virtual_memory_max_bytes" => (Kind::Gauge, "Bytes of address space, at most."),
        "process_start_time_seconds" => (Kind::Gauge, "Unix time of the start."),
        "process_max_fds" | "os_fd_limit" => (Kind::Gauge, "File descriptors, at most."),
        "process_open_fds" | "os_fd_used" => (Kind::Gauge, "File descriptors in use."),
        "process_network_receive_bytes_total" => (Kind::Counter, "Bytes received by the network namespace."),
        _ => (Kind::Counter, "Bytes sent by the network namespace."),
    }
}

type Values = Vec<(&'static str, f64)>;

/// What the kernel counts in.
#[derive(Clone, Copy)]
struct Units {
    ticks_per_second: f64,
    page_bytes: f64,
}

/// /proc/self/stat, whose start time counts from the boot that /proc/stat tells.
fn from_stat(stat: &str, system: &str, units: Units) -> Values {
    // The name of the program, in parentheses, may hold anything.
    let Some((_, rest)) = stat.rsplit_once(')') else { return Vec::new() };
    let fields: Vec<f64> = rest.split_whitespace().map(|word| word.parse().unwrap_or(f64::NAN)).collect();
    // Numbered from 1 in proc(5), where the state, the first field here, is the third.
    let field = |number: usize| fields.get(number - 3).copied().filter(|value| !value.is_nan());
    let boot = system.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<f64>().ok());
    let seconds = |ticks: f64| ticks / units.ticks_per_second;
    let mut values = Values::new();
    let mut put = |name, value: Option<f64>| values.extend(value.map(|value| (name, value)));
    put("process_cpu_seconds_total", field(14).zip(field(15)).map(|(user, system)| seconds(user + system)));
    put("process_start_time_seconds", field(22).zip(boot).map(|(start, boot)| boot + seconds(start)));
    put("process_virtual_memory_bytes", field(23));
    put("process_resident_memory_bytes", field(24).map(|pages| pages * units.page_bytes));
    values
}

/// /proc/self/limits; unlimited is the greatest number, as Go's client has it.
fn from_limits(limits: &str) -> Values {
    let soft = |title: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(title))?;
        match line.split_whitespace().next()? {
            "unlimited" => Some(u64::MAX as f64),
            number => number.parse().ok(),
        }
    };
    let mut values = Values::new();
    for (name, title) in [
        ("process_max_fds", "Max open files"),
        ("os_fd_limit", "Max open files"),
        ("process_virtual_memory_max_bytes", "Max address space"),
    ] {
        values.extend(soft(title).map(|value| (name, value)));
    }
    values
}

/// /proc/self/net/netstat: a line of names, then a line of numbers.
fn from_netstat(netstat: &str) -> Values {
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("IpExt: "));
    let (Some(names), Some(numbers)) = (lines.next(), lines.next()) else { return Vec::new() };
    let mut values = Values::new();
    for (name, number) in names.split(' ').zip(numbers.split(' ')) {
        let metric = match name {
            "InOctets" => "process_network_receive_bytes_total",
            "OutOctets" => "process_network_transmit_bytes_total",
            _ => continue,
        };
        values.extend(number.parse().ok().map(|value| (metric, value)));
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNITS: Units = Units { ticks_per_second: 100.0, page_bytes: 4096.0 };

    #[test]
    fn stat() {
        let stat =
            "42 (a b) c) S 1 42 42 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 9 0 1000 8192 3 18446744073709551615";
        assert_eq!(
            from_stat(stat, "cpu 1 2\nbtime 1700000000\n", UNITS),
            [
                ("process_cpu_seconds_total", 3.0),
                ("process_start_time_seconds", 1700000010.0),
                ("process_virtual_memory_bytes", 8192.0),
                ("process_resident_memory_bytes", 12288.0),
            ]
        );
        assert_eq!(from_stat("", "", UNITS), []);
        assert_eq!(from_stat("1 (x) S", "", UNITS), []);
    }

    #[test]
    fn limits() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            20000                20000                files     \n\
                      Max address space         unlimited            unlimited            bytes     \n";
        assert_eq!(
            from_limits(limits),
            [
                ("process_max_fds", 20000.0),
                ("os_fd_limit", 20000.0),
                ("process_virtual_memory_max_bytes", u64::MAX as f64),
            ]
        );
        assert_eq!(from_limits(""), []);
    }

    #[test]
    fn netstat() {
        let netstat = "TcpExt: A B\nTcpExt: 1 2\nIpExt: InNoRoutes InOctets OutOctets\nIpExt: 0 11 22\n";
        assert_eq!(
            from_netstat(netstat),
            [("process_network_receive_bytes_total", 11.0), ("process_network_transmit_bytes_total", 22.0),]
        );
        assert_eq!(from_netstat("IpExt: A"), []);
    }

    #[test]
    fn this_process_has_memory_and_descriptors() {
        let text = process().render();
        for name in
            ["process_resident_memory_bytes ", "process_open_fds ", "process_max_fds ", "os_fd_limit "]
        {
            assert!(text.lines().any(|line| line.starts_with(name)), "{name} is missing");
        }
    }
}
