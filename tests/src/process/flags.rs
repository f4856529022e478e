//! Command lines and what comes of them, signals, and directories that are not ours.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::server::{Binary, STOP_MAX, Server, Site};

use super::{Failure, Verdict, ensure};

/// A command line that must not start a server.
struct Refusal {
    args: &'static [&'static str],
    env: &'static [(&'static str, &'static str)],
    code: i32,
    /// Part of a line of the output.
    says: &'static str,
}

const fn refusal(args: &'static [&'static str], code: i32, says: &'static str) -> Refusal {
    Refusal { args, env: &[], code, says }
}

/// flags.md sections 1 to 3.
const REFUSALS: &[Refusal] = &[
    refusal(&["--version"], 0, "etcd Version: 3.6."),
    refusal(&["--help"], 0, "--unsafe-no-fsync"),
    refusal(&["-h"], 0, "--data-dir"),
    refusal(&["--nope"], 2, "flag provided but not defined: -nope"),
    refusal(&["--enable-v2"], 2, "flag provided but not defined: -enable-v2"),
    refusal(&["--feature-gates=Foo=true"], 2, "unrecognized feature gate: Foo"),
    refusal(&["--initial-cluster-state=foo"], 2, "invalid value \"foo\" for flag -initial-cluster-state"),
    refusal(&["--election-timeout=x"], 2, "invalid value \"x\" for flag -election-timeout"),
    refusal(&["--pre-vote=maybe"], 2, "invalid boolean value \"maybe\" for -pre-vote"),
    refusal(&["--log-level=nope"], 2, "unrecognized level"),
    refusal(&["stray"], 1, "\\\"stray\\\" is not a valid flag"),
    refusal(
        &["--listen-client-urls=http://127.0.0.1:1"],
        1,
        "--advertise-client-urls is required when --listen-client-urls is set explicitly",
    ),
    refusal(
        &["--heartbeat-interval=500"],
        1,
        "--election-timeout[1000ms] should be at least as 5 times as --heartbeat-interval[500ms]",
    ),
    refusal(&["--election-timeout=60000"], 1, "is too long, and should be set less than 50000ms"),
    refusal(&["--heartbeat-interval=0"], 1, "--heartbeat-interval must be >0 (set to 0ms)"),
    refusal(&["--auto-compaction-mode=x"], 1, "unknown auto-compaction-mode \\\"x\\\""),
    refusal(&["--listen-peer-urls=http://name:1"], 1, "expected IP in URL for binding (http://name:1)"),
    Refusal {
        args: &["--name=a"],
        env: &[("ETCD_NAME", "b")],
        code: 1,
        says: "conflicting environment variable is shadowed by corresponding command-line flag",
    },
];

const RUN_MAX: Duration = Duration::from_secs(10);

/// Runs all; `etcd` leaves out what we do differently on purpose.
pub fn run(binary: &Binary, etcd: bool) -> Verdict {
    let mut wrong = Vec::new();
    let mut count = 0;
    let mut note = |name: &str, result: Result<(), Failure>| {
        count += 1;
        if let Err(failure) = result {
            wrong.push(format!("{name}: {failure}"));
        }
    };
    for refusal in REFUSALS {
        note(&format!("{:?}", refusal.args), refuse(binary, refusal));
    }
    note("SIGTERM", terminate(binary));
    note("second server on the same port", same_port(binary));
    note("environment", environment(binary));
    if !etcd {
        note("second server on the same data", same_data(binary));
        note("etcd's data directory", foreign(binary, "member/snap/db"));
        note("a directory of unknown files", foreign(binary, "precious.txt"));
    }
    if wrong.is_empty() { Ok(format!("{count} checks")) } else { Err(Failure::Wrong(wrong.join("\n"))) }
}

fn refuse(binary: &Binary, refusal: &Refusal) -> Result<(), Failure> {
    // Defaults would put its data into the current directory, should it start.
    let site = Site::new("flags")?;
    let dir = format!("--data-dir={}", site.data_dir().display());
    let mut args = refusal.args.to_vec();
    if refusal.code == 1 {
        args.insert(0, &dir);
    }
    let ended = binary.run_with(&args, refusal.env, RUN_MAX)?;
    let code = ended.status.code();
    let says = ended.output.iter().any(|line| line.contains(refusal.says));
    ensure(code == Some(refusal.code) && says, || {
        let last = &ended.output[ended.output.len().saturating_sub(3)..];
        format!("code {code:?}, should be {}, saying {:?}; last lines {last:#?}", refusal.code, refusal.says)
    })
}

fn terminate(binary: &Binary) -> Result<(), Failure> {
    let server = Server::start(binary, &[])?;
    let mut client = Client::open(server.client())?;
    client.put(b"key", b"value")?.map_err(|status| Failure::Wrong(format!("{status:?}")))?;
    drop(client);
    let start = Instant::now();
    let (status, _) = server.terminate()?;
    let seconds = start.elapsed().as_secs_f64();
    let signal = status.and_then(|status| status.signal());
    ensure(signal == Some(15), || {
        format!(
            "SIGTERM gave {status:?} after {seconds:.1} s, should be death by signal 15 within {STOP_MAX:?}"
        )
    })
}

fn same_port(binary: &Binary) -> Result<(), Failure> {
    let server = Server::start(binary, &[])?;
    let other = Site::new("same-port")?;
    let mut flags = other.flags();
    let client = format!("http://{}", server.client());
    flags.retain(|flag| !flag.starts_with("--listen-client-urls"));
    flags.push(format!("--listen-client-urls={client}"));
    second(binary, &flags, "address already in use")
}

fn same_data(binary: &Binary) -> Result<(), Failure> {
    let server = Server::start(binary, &[])?;
    let other = Site::new("same-data")?;
    let mut flags = other.flags();
    flags.retain(|flag| !flag.starts_with("--data-dir"));
    flags.push(format!("--data-dir={}", server.site().data_dir().display()));
    second(binary, &flags, "")?;
    let mut client = Client::open(server.client())?;
    let answer = client.put(b"still", b"here")?;
    ensure(answer.is_ok(), || format!("the first server suffered: {answer:?}"))
}

/// A second server must end with 1 and say why.
fn second(binary: &Binary, flags: &[String], says: &str) -> Result<(), Failure> {
    let flags = flags.iter().map(String::as_str).collect::<Vec<_>>();
    // The lock of a data directory is waited for up to 10 s.
    let ended = binary.run(&flags, RUN_MAX * 2)?;
    let code = ended.status.code();
    let said = ended.output.iter().any(|line| line.contains(says));
    ensure(code == Some(1) && said, || format!("code {code:?}, should be 1, saying {says:?}"))
}

fn environment(binary: &Binary) -> Result<(), Failure> {
    let site = Site::new("environment")?;
    let flags = site.flags();
    let flags = flags.iter().map(String::as_str).collect::<Vec<_>>();
    let ended = binary.run_with(&flags, &[("ETCD_HEARTBEAT_INTERVAL", "500")], RUN_MAX)?;
    let said = ended.output.iter().any(|line| line.contains("--heartbeat-interval[500ms]"));
    let code = ended.status.code();
    ensure(code == Some(1) && said, || format!("ETCD_HEARTBEAT_INTERVAL was not heard: code {code:?}"))
}

/// A data directory with somebody else's files: refused, and left as it is.
fn foreign(binary: &Binary, file: &str) -> Result<(), Failure> {
    let site = Site::new("foreign")?;
    let path = site.data_dir().join(file);
    fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    fs::write(&path, b"not ours")?;
    let flags = site.flags();
    let flags = flags.iter().map(String::as_str).collect::<Vec<_>>();
    let ended = binary.run(&flags, RUN_MAX)?;
    let code = ended.status.code();
    ensure(code == Some(1), || format!("code {code:?}, should be 1"))?;
    let kept = fs::read(&path).is_ok_and(|bytes| bytes == b"not ours");
    let entries = fs::read_dir(site.data_dir())?.count();
    ensure(kept && entries == 1, || format!("{file} kept: {kept}, entries in the directory: {entries}"))
}
