//! May this process use io_uring?
//!
//! Ask before the runtime does: it panics over a blocked ring with a text that points elsewhere. Containers
//! forbid io_uring by default (the seccomp profile RuntimeDefault), and so do some distributions by sysctl.

use std::fs;

use rustix::io::Errno;

use super::ring_driver;
use crate::Obstacle;

/// 0 allows io_uring, 1 allows it to one group, 2 forbids it.
const SYSCTL: &str = "/proc/sys/kernel/io_uring_disabled";

/// The runtime uses operations of this kernel.
const KERNEL_MIN: (u32, u32) = (5, 8);

/// Sets a small ring up and takes it down; an obstacle says what forbade it.
pub fn allowed() -> Result<(), Obstacle> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let sysctl = fs::read_to_string(SYSCTL).ok().and_then(|text| text.trim().parse().ok());
    explain(ring_driver::set_up().map(drop), &release, sysctl)
}

fn explain(result: Result<(), Errno>, release: &str, sysctl: Option<u32>) -> Result<(), Obstacle> {
    let is_old = kernel_version(release).is_some_and(|version| version < KERNEL_MIN);
    let text = match (result, sysctl) {
        (Ok(()), _) if !is_old => return Ok(()),
        (Ok(()) | Err(Errno::NOSYS), _) if is_old => {
            let (major, minor) = KERNEL_MIN;
            format!("the kernel {release} is too old for io_uring: run {major}.{minor} or newer")
        }
        (Err(Errno::NOSYS), _) => {
            "io_uring is hidden from this process, usually by a seccomp profile: allow io_uring_setup, \
             io_uring_enter and io_uring_register in it"
                .to_owned()
        }
        (Err(Errno::PERM | Errno::ACCESS), Some(2)) => {
            "io_uring is switched off on this host: set the sysctl kernel.io_uring_disabled to 0".to_owned()
        }
        (Err(Errno::PERM | Errno::ACCESS), Some(1)) => {
            "io_uring is kept to one group on this host: set the sysctl kernel.io_uring_disabled to 0, or add this \
             user to the group of kernel.io_uring_group"
                .to_owned()
        }
        (Err(Errno::PERM | Errno::ACCESS), _) => {
            "io_uring is forbidden to this process, usually by the container's seccomp profile: allow \
             io_uring_setup, io_uring_enter and io_uring_register in it"
                .to_owned()
        }
        (Err(Errno::NOMEM), _) => {
            "io_uring got no memory: raise the limit of locked memory (ulimit -l, LimitMEMLOCK=) or the container's \
             memory"
                .to_owned()
        }
        (Err(Errno::MFILE | Errno::NFILE), _) => {
            "io_uring got no file descriptor: raise the limit of open files (ulimit -n, LimitNOFILE=)".to_owned()
        }
        (Err(error), _) => format!("io_uring does not work here ({error}): see the kernel's log for the reason"),
        (Ok(()), _) => unreachable!("a ring on a new kernel is no obstacle"),
    };
    Err(Obstacle(text))
}

/// `6.18.44-something` is (6, 18).
fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_cure() {
        for (result, release, sysctl, cure) in [
            (Err(Errno::PERM), "6.1.0", Some(2), "set the sysctl kernel.io_uring_disabled to 0"),
            (Err(Errno::PERM), "6.6.0", Some(1), "kernel.io_uring_group"),
            (Err(Errno::PERM), "6.6.0", Some(0), "seccomp profile: allow io_uring_setup"),
            (Err(Errno::PERM), "5.15.0", None, "seccomp profile: allow io_uring_setup"),
            (Err(Errno::NOSYS), "6.6.0", Some(0), "seccomp profile: allow io_uring_setup"),
            (Err(Errno::NOSYS), "4.19.0-rc1", None, "run 5.8 or newer"),
            (Ok(()), "5.4.0", None, "run 5.8 or newer"),
            (Err(Errno::NOMEM), "6.6.0", Some(0), "LimitMEMLOCK="),
            (Err(Errno::MFILE), "6.6.0", Some(0), "LimitNOFILE="),
            (Err(Errno::INVAL), "6.6.0", Some(0), "see the kernel's log"),
        ] {
            let text = explain(result, release, sysctl).unwrap_err().to_string();
            assert!(text.contains(cure), "{text}");
        }
        for release in ["5.8.0", "6.18.44-fc-v595", "nonsense"] {
            assert_eq!(explain(Ok(()), release, Some(0)), Ok(()));
        }
    }

    #[test]
    fn the_question_can_be_asked() {
        // Allowed or not, it comes back with an answer.
        let _ = allowed();
    }
}
