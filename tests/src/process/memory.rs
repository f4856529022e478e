//! How much memory a server has, and servers that may not have more than so much.
//!
//! A `MemoryGroup` is a control group of its own, of version 2 where its memory controller may be used, else of version
//! 1. A server is started inside by this program started once more (`enter_and_exec`). Whoever may not make groups is
//! told so, and goes without.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::server::Binary;

use super::Failure;

/// The first argument that makes this program enter a group.
pub const LAUNCHER: &str = "memory-group-launcher";

/// Where groups are usually found, by version.
const ROOT: &str = "/sys/fs/cgroup";
const ROOT_V1: &str = "/sys/fs/cgroup/memory";

/// Bytes of a process in RAM, those of mapped files included.
pub fn resident_bytes(process: u32) -> Result<u64, Failure> {
    status_bytes(process, "VmRSS:")
}

/// The most it had since [`forget_peak`].
pub fn peak_bytes(process: u32) -> Result<u64, Failure> {
    status_bytes(process, "VmHWM:")
}

/// Lets [`peak_bytes`] begin anew.
pub fn forget_peak(process: u32) -> io::Result<()> {
    fs::write(format!("/proc/{process}/clear_refs"), "5")
}

fn status_bytes(process: u32, title: &str) -> Result<u64, Failure> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(title));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.map(|kib| kib << 10).ok_or_else(|| Failure::Wrong(format!("/proc/{process}/status says {status}")))
}

/// A control group whose processes may have so much memory together, page cache included. Removed when dropped.
#[derive(Debug)]
pub struct MemoryGroup {
    dir: PathBuf,
    files: Files,
}

/// Names of a version's files.
#[derive(Debug)]
struct Files {
    limit: &'static str,
    swap_limit: &'static str,
    peak: &'static str,
    kills: &'static str,
}

const V2: Files =
    Files { limit: "memory.max", swap_limit: "memory.swap.max", peak: "memory.peak", kills: "memory.events" };
const V1: Files = Files {
    limit: "memory.limit_in_bytes",
    swap_limit: "memory.memsw.limit_in_bytes",
    peak: "memory.max_usage_in_bytes",
    kills: "memory.oom_control",
};

impl MemoryGroup {
    /// A group of `bytes`. Errors: a sentence why none can be made here.
    pub fn new(bytes: u64) -> Result<MemoryGroup, String> {
        let name = format!("kontiki-test-{}", std::process::id());
        let v2 = parent_v2().map(|parent| (parent, V2));
        let (parent, files) = match v2 {
            Some(found) => found,
            None if Path::new(ROOT_V1).join(V1.limit).exists() => (ROOT_V1.into(), V1),
            None => return Err(format!("no memory controller under {ROOT} may be used")),
        };
        let dir = parent.join(name);
        let told = |error: io::Error| format!("no control group {}: {error}", dir.display());
        fs::create_dir(&dir).map_err(told)?;
        let group = MemoryGroup { dir: dir.clone(), files };
        fs::write(dir.join(group.files.limit), bytes.to_string()).map_err(told)?;
        // Absent where the kernel does not count swap.
        let no_swap = if group.files.limit == V2.limit { 0 } else { bytes };
        let _ = fs::write(dir.join(group.files.swap_limit), no_swap.to_string());
        Ok(group)
    }

    /// `binary`, started inside.
    pub fn around(&self, binary: &Binary) -> io::Result<Binary> {
        let this = std::env::current_exe()?.display().to_string();
        let launcher = vec![this, LAUNCHER.to_owned(), self.dir.display().to_string()];
        Ok(Binary { launcher, ..binary.clone() })
    }

    /// The most its processes had; none where the kernel does not say.
    pub fn peak_bytes(&self) -> Option<u64> {
        fs::read_to_string(self.dir.join(self.files.peak)).ok()?.trim().parse().ok()
    }

    /// How many of its processes were killed for its limit; none where the kernel does not say.
    pub fn kills(&self) -> Option<u64> {
        let text = fs::read_to_string(self.dir.join(self.files.kills)).ok()?;
        text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // A group stays if its processes do, which their owner reports.
        let _ = fs::remove_dir(&self.dir);
    }
}

/// The group of version 2 whose children have a memory controller: the root, or the one this process is in.
fn parent_v2() -> Option<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default().to_owned();
    [PathBuf::from(ROOT), Path::new(ROOT).join(own)].into_iter().find(|dir| {
        let given = fs::read_to_string(dir.join("cgroup.subtree_control"));
        given.is_ok_and(|given| given.split_whitespace().any(|name| name == "memory"))
    })
}

/// What the launcher does: `arguments` are the group, the program and its arguments. Returns only to say why it could not.
pub fn enter_and_exec(arguments: &[String]) -> String {
    let [group, program, rest @ ..] = arguments else { return "the launcher wants a program".to_owned() };
    match fs::write(Path::new(group).join("cgroup.procs"), std::process::id().to_string()) {
        Ok(()) => Command::new(program).args(rest).exec().to_string(),
        Err(error) => format!("cannot enter {group}: {error}"),
    }
}
