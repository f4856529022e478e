//! A host that refuses io_uring: the server says so, says what helps, and serves all the same.
//!
//! The refusals are real ones: a seccomp filter as container runtimes install it, and no memory to lock. Both are
//! set up by this program started once more (`refuse_and_exec`), which then becomes the server.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

use crate::client::Client;
use crate::differential::build::get;
use crate::server::{Binary, Server, Site};

use super::{Failure, Verdict, ensure};

/// The first argument that makes this program a launcher.
pub const LAUNCHER: &str = "refused-launcher";

/// What is refused, and a part of what the server must say of it.
const REFUSALS: [(&str, &str); 2] =
    [("io_uring", "seccomp profile: allow io_uring_setup"), ("memlock", "(ulimit -l, LimitMEMLOCK=")];

/// How the warning begins, and whom it must name.
const WARNING: &str = "io_uring cannot be used; the portable driver takes its place";
const CURES: [&str; 3] = ["tuning/host/seccomp.json", "tuning/host/kontiki.service", "docs/drivers.md"];

/// A process that must refuse to start does so within this.
const RUN_MAX: Duration = Duration::from_secs(10);

/// Starts `binary` under each refusal, on data that it served without one, and then without one again.
pub fn run(binary: &Binary) -> Verdict {
    for (refusal, says) in REFUSALS {
        let refused = under(binary, refusal)?;
        let mut site = Site::new("refused")?;
        for (turn, binary) in [binary, &refused, binary].into_iter().enumerate() {
            let server = Server::start_at(binary, site, &[]).map_err(|(error, _)| error)?;
            if turn == 1 {
                check_warning(&server.log(), says)?;
            }
            check_keys(&server, turn)?;
            // The last one leaves nothing in order, so that the next one has to read the log of another driver.
            site = server.kill()?;
        }
        insist(&refused, says)?;
    }
    Ok(format!(
        "{} refusals: warned, served, and shared data with a server that was refused nothing",
        REFUSALS.len()
    ))
}

/// `binary`, with `refusal` in its way.
fn under(binary: &Binary, refusal: &str) -> Result<Binary, Failure> {
    let this = std::env::current_exe()?.display().to_string();
    let launcher = vec![this, LAUNCHER.to_owned(), refusal.to_owned()];
    Ok(Binary { launcher, ..binary.clone() })
}

fn check_warning(log: &[String], says: &str) -> Result<(), Failure> {
    let warning = log.iter().find(|line| line.contains(WARNING));
    let complete =
        warning.is_some_and(|line| line.contains(says) && CURES.iter().all(|cure| line.contains(cure)));
    ensure(complete, || format!("the warning is {warning:?}, should say {says:?} and name {CURES:?}"))
}

/// Reads what earlier turns put, and puts one key more.
fn check_keys(server: &Server, turn: usize) -> Result<(), Failure> {
    let mut client = Client::open(server.client())?;
    for earlier in 0..turn {
        let key = format!("turn{earlier}");
        let found =
            client.range(&get(key.as_str()))?.map_err(|status| Failure::Wrong(format!("{status:?}")))?;
        ensure(found.kvs.len() == 1, || format!("{key} is gone in turn {turn}"))?;
    }
    let key = format!("turn{turn}");
    client.put(key.as_bytes(), b"value")?.map_err(|status| Failure::Wrong(format!("{status:?}")))?;
    Ok(())
}

/// Who insists on io_uring is told why it cannot be.
fn insist(refused: &Binary, says: &str) -> Result<(), Failure> {
    let site = Site::new("insist")?;
    let mut flags = site.flags();
    flags.push("--kontiki-driver=io_uring".to_owned());
    let ended = refused.run(&flags.iter().map(String::as_str).collect::<Vec<_>>(), RUN_MAX)?;
    let said =
        ended.output.iter().any(|line| line.contains("--kontiki-driver=io_uring: ") && line.contains(says));
    let code = ended.status.code();
    ensure(code == Some(1) && said, || {
        format!("code {code:?}, should be 1, saying {says:?}: {:?}", ended.output)
    })
}

/// What the launcher does: `arguments` are the refusal, the program and its arguments. Returns only to say why it could
/// not.
pub fn refuse_and_exec(arguments: &[String]) -> String {
    let [refusal, program, rest @ ..] = arguments else { return "the launcher wants a program".to_owned() };
    let refused = match refusal.as_str() {
        "io_uring" => refuse_ring().map_err(|error| error.to_string()),
        "memlock" => refuse_memory().map_err(|error| error.to_string()),
        _ => Err(format!("nobody knows how to refuse {refusal}")),
    };
    match refused {
        Ok(()) => Command::new(program).args(rest).exec().to_string(),
        Err(error) => error,
    }
}

fn refuse_ring() -> Result<(), Box<dyn std::error::Error>> {
    let calls = [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];
    let rules: BTreeMap<_, _> = calls.into_iter().map(|call| (call, Vec::new())).collect();
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, std::env::consts::ARCH.try_into()?)?;
    Ok(apply_filter(&BpfProgram::try_from(filter)?)?)
}

fn refuse_memory() -> std::io::Result<()> {
    // The limit does not hold for who may lock what he likes; who may not, cannot lose the right either.
    let _ = remove_capability_from_bounding_set(CapabilitySet::IPC_LOCK);
    Ok(setrlimit(Resource::Memlock, Rlimit { current: Some(0), maximum: Some(0) })?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::scratch::workspace;

    /// The names that a profile of a container runtime allows without a condition, or with one.
    #[test]
    fn the_profile_allows_io_uring_and_names_nothing_twice() {
        let text = std::fs::read(workspace().join("tuning/host/seccomp.json")).unwrap();
        let profile: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
        let rules = profile["syscalls"].as_array().unwrap();
        let free = rules.iter().filter(|rule| rule["action"] == "SCMP_ACT_ALLOW" && rule["args"].is_null());
        let names: Vec<&str> = free
            .flat_map(|rule| rule["names"].as_array().unwrap())
            .map(|name| name.as_str().unwrap())
            .collect();
        let set: BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(set.len(), names.len());
        for name in
            ["io_uring_setup", "io_uring_enter", "io_uring_register", "epoll_wait", "fdatasync", "mlock"]
        {
            assert!(set.contains(name), "{name}");
        }
    }
}
