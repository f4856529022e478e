//! How much memory may be locked, how many files opened?

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::Obstacle;

/// Below this the runtime refuses to start a ring.
pub const MEMLOCK_BYTES_MIN: u64 = 512 * 1024;

/// Descriptors kept for files of the server's own; etcd ends when the limit is not above it.
pub const FDS_RESERVED: u64 = 150;

/// With this capability the limit of locked memory does not hold.
const CAP_IPC_LOCK: u32 = 14;

/// Bytes of memory this process may lock; `None` is no limit.
pub fn memlock_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    match has_capability(&status, CAP_IPC_LOCK) {
        true => None,
        false => getrlimit(Resource::Memlock).current,
    }
}

/// Files this process may have open; `None` is no limit.
pub fn open_files() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Raises the limit of open files to what the system allows this process, as Go's runtime does for etcd: the lower one
/// is for programs that use `select`.
pub fn raise_open_files() {
    let limits = getrlimit(Resource::Nofile);
    // Refused only if somebody lowers it meanwhile; then the lower one stays.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limits.maximum, ..limits });
}

/// Whether `bytes` of lockable memory suffice for one ring.
pub fn check_memlock(bytes: Option<u64>) -> Result<(), Obstacle> {
    match bytes {
        Some(bytes) if bytes < MEMLOCK_BYTES_MIN => Err(Obstacle(format!(
            "only {} KiB of memory may be locked and io_uring needs {}: raise the limit (ulimit -l, LimitMEMLOCK=, or \
             the capability IPC_LOCK)",
            bytes / 1024,
            MEMLOCK_BYTES_MIN / 1024
        ))),
        _ => Ok(()),
    }
}

/// Whether `limit` open files leave any for clients.
pub fn check_open_files(limit: Option<u64>) -> Result<(), Obstacle> {
    match limit {
        Some(limit) if limit <= FDS_RESERVED => Err(Obstacle(format!(
            "file descriptor limit of etcd process is too low; please set higher: it is {limit} and must be above \
             {FDS_RESERVED} (ulimit -n, LimitNOFILE=)"
        ))),
        _ => Ok(()),
    }
}

/// Reads the effective capabilities of /proc/self/status.
fn has_capability(status: &str, bit: u32) -> bool {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_some_and(|set| set & (1 << bit) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_have_bounds_and_cures() {
        for (bytes, fine) in
            [(None, true), (Some(8 << 20), true), (Some(512 << 10), true), (Some(64 << 10), false)]
        {
            assert_eq!(check_memlock(bytes).is_ok(), fine, "{bytes:?}");
        }
        for (files, fine) in [(None, true), (Some(1024), true), (Some(151), true), (Some(150), false)] {
            assert_eq!(check_open_files(files).is_ok(), fine, "{files:?}");
        }
        let text = check_memlock(Some(64 << 10)).unwrap_err().to_string();
        assert!(text.contains("64 KiB") && text.contains("LimitMEMLOCK="), "{text}");
    }

    #[test]
    fn capabilities_are_bits() {
        for (status, has) in [
            ("Name:\tx\nCapEff:\t0000000000004000\n", true),
            ("CapEff:\t0000000000000000\n", false),
            ("CapEff:\t000001ffffffffff\n", true),
            ("CapEff:\tnonsense\n", false),
            ("", false),
        ] {
            assert_eq!(has_capability(status, CAP_IPC_LOCK), has, "{status}");
        }
    }
}
