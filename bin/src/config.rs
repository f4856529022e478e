//! From raw values to a configuration that is valid as a whole.
//!
//! The second of two steps (the first is [`flags`]). A [`Config`] cannot be had but from [`load`], so whoever
//! holds one need not doubt it: intervals fit each other, URLs can be bound, nothing was asked for that would
//! be silently less safe here. The conditions, their order and their sentences are those of etcd's
//! `embed/config.go` (`Validate`) and `etcdmain/config.go`; ours come after them.
//!
//! Nothing here touches the process: what it needs of the host comes in with [`Host`].

// The settings, once they are known to be good.
mod settings;

// The conditions.
mod check;

// Flags that name what is not here.
mod support;

// The line that shows the settings.
mod banner;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use tuning::profile::Driver;

use crate::flags::{self, Answer, Failure, Given, Note, Outcome, Start};
use crate::logging::{self, Level};
pub use settings::{
    Allowed, AutoCompaction, ClusterState, Config, Keepalive, LogMode, MetricsDetail, SocketOptions,
};

/// Quota when `--quota-backend-bytes` is 0, as in etcd.
const QUOTA_BYTES_DEFAULT: u64 = 2 * 1024 * 1024 * 1024;

/// Interval of progress notifications when the flag is 0, and the least one; both etcd's.
const PROGRESS_INTERVAL_DEFAULT: Duration = Duration::from_secs(600);
const PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Unary requests that take longer are warned of even if the flag is 0, as in etcd.
const WARNING_UNARY_DEFAULT: Duration = Duration::from_millis(300);

/// etcd's line with its arguments.
const RUNNING: &str = "Running: ";

/// Revisions a step of a compaction drops when the flag is 0, as in etcd.
const COMPACTION_BATCH_DEFAULT: u64 = 1000;

/// What of the host goes into a configuration.
#[derive(Clone, Copy, Debug, Default)]
pub struct Host {
    /// Address of the default route, which etcd advertises for a peer listener on 0.0.0.0.
    pub default_address: Option<IpAddr>,
}

/// What the process shall do.
#[derive(Debug)]
pub enum Loaded {
    /// Serve.
    Serve(Box<Config>),
    /// Print and end.
    Answer(Answer),
    /// Log to these outputs, and end with status 1.
    Failed(Failure, logging::Options),
}

/// Reads and checks what the process was started with.
pub fn load(start: &Start<'_>, host: &Host) -> Loaded {
    let running =
        Note::new(Level::Info, RUNNING).with("args", [&[start.program.to_owned()], start.args].concat());
    let given = match flags::read(start) {
        Outcome::Serve(given) => given,
        Outcome::Answer(answer) => return Loaded::Answer(answer),
        Outcome::Failed(failure) => {
            return Loaded::Failed(with_running(failure, running), Default::default());
        }
    };
    let log = match check::logging(&given) {
        Ok(log) => log,
        Err(check::LoggingError::Level(level)) => return Loaded::Answer(unknown_level(&level)),
        Err(check::LoggingError::Other(error)) => {
            // A file that does not verify leaves etcd without a logger for the lines about it.
            let notes = if given.config_file.is_some() { Vec::new() } else { given.notes };
            let failure = with_running(Failure::verify(notes, error), running);
            return Loaded::Failed(failure, Default::default());
        }
    };
    match checked(given, &log, host, running) {
        Ok(config) => Loaded::Serve(Box::new(config)),
        Err(failure) => Loaded::Failed(failure, log),
    }
}

/// etcd's logger panics over a level it does not know; scripts see the text and status 2.
fn unknown_level(level: &str) -> Answer {
    Answer { stdout: String::new(), stderr: format!("panic: unrecognized level: {level:?}\n"), code: 2 }
}

fn with_running(mut failure: Failure, running: Note) -> Failure {
    // A shadowed variable ends etcd before it says so.
    if failure.last.level != Level::Fatal {
        failure.notes.push(running);
    }
    failure
}

/// The order of the lines is etcd's: warnings of the check, deprecated flags, `Running: `, then what is
/// wrong.
fn checked(mut given: Given, log: &logging::Options, host: &Host, running: Note) -> Result<Config, Failure> {
    let from_file = given.config_file.is_some();
    let mut loading = std::mem::take(&mut given.notes);
    let mut notes = if from_file { Vec::new() } else { std::mem::take(&mut loading) };
    let verified = check::verify(&given, &mut notes);
    // A file that does not verify leaves etcd without a logger for the lines about it.
    if !from_file || verified.is_ok() {
        notes.append(&mut loading);
        support::note_deprecated(&given, &mut notes);
    }
    notes.push(running);
    if let Err(error) = verified.and_then(|()| support::refuse(&given)) {
        let mut failure = Failure::verify(notes, error);
        if failure.error() == check::ADVERTISE_MISSING {
            let error = failure.error().to_owned();
            failure.notes.push(failure.last);
            failure.last = Note::new(Level::Warn, "advertise client URLs are not set").with("error", error);
        }
        return Err(failure);
    }
    support::note_ineffective(&given, &mut notes);
    match build(&given, log, host, &mut notes) {
        Ok(config) => Ok(Config { notes, ..config }),
        Err(error) => Err(Failure::start(notes, error)),
    }
}

/// The configuration of values that passed every check; what fails here fails etcd as it starts.
fn build(
    given: &Given,
    log: &logging::Options,
    host: &Host,
    notes: &mut Vec<Note>,
) -> Result<Config, String> {
    let current = |name: &'static str| support::current(given, name);
    let span = |name: &'static str| given.span(current(name)).to_std();
    let optional = |span: Duration| (!span.is_zero()).then_some(span);
    let name = given.text("name").to_owned();
    let data_dir = match given.text("data-dir") {
        "" => {
            let dir = format!("{name}.etcd");
            let note = Note::new(Level::Warn, "'data-dir' was empty; using default");
            notes.push(note.with("data-dir", dir.as_str()));
            dir
        }
        dir => dir.to_owned(),
    };
    let listen_peer_urls = check::urls_or_default(given, "listen-peer-urls");
    let advertise_peer = check::advertise_peer_urls(given, &listen_peer_urls, host, notes);
    let gates = support::gates(given);
    check::plain_listeners(given)?;
    Ok(Config {
        data_dir: data_dir.into(),
        wal_dir: Some(given.text("wal-dir")).filter(|dir| !dir.is_empty()).map(PathBuf::from),
        listen_client_urls: check::urls_or_default(given, "listen-client-urls"),
        listen_client_http_urls: given.urls("listen-client-http-urls"),
        listen_metrics_urls: given.urls("listen-metrics-urls"),
        advertise_client_urls: check::advertise_client_urls(given),
        initial_cluster: check::initial_cluster(given, &advertise_peer),
        initial_cluster_is_default: !given.is_set("initial-cluster"),
        initial_cluster_state: match given.text("initial-cluster-state") {
            "existing" => ClusterState::Existing,
            _ => ClusterState::New,
        },
        initial_cluster_token: given.text("initial-cluster-token").to_owned(),
        initial_advertise_peer_urls: advertise_peer,
        listen_peer_urls,
        heartbeat: Duration::from_millis(given.uint("heartbeat-interval")),
        election: Duration::from_millis(given.uint("election-timeout")),
        snapshot_count: given.uint("snapshot-count"),
        snapshot_catchup_entries: given.uint(current("snapshot-catchup-entries")),
        quota_backend_bytes: match given.int("quota-backend-bytes") {
            0 => Some(QUOTA_BYTES_DEFAULT),
            bytes => u64::try_from(bytes).ok(),
        },
        max_txn_ops: given.uint("max-txn-ops"),
        max_request_bytes: given.uint("max-request-bytes"),
        max_concurrent_streams: given
            .is_set("max-concurrent-streams")
            .then(|| u32::try_from(given.uint("max-concurrent-streams")).expect("checked when set")),
        keepalive: Keepalive {
            min_time: span("grpc-keepalive-min-time"),
            interval: optional(span("grpc-keepalive-interval")),
            timeout: optional(span("grpc-keepalive-timeout")),
        },
        socket: SocketOptions {
            reuse_port: given.bool("socket-reuse-port"),
            reuse_address: given.bool("socket-reuse-address"),
        },
        cors: Allowed::from_names(given.names("cors")),
        host_whitelist: Allowed::from_names(given.names("host-whitelist")),
        enable_grpc_gateway: given.bool("enable-grpc-gateway"),
        enable_pprof: given.bool("enable-pprof"),
        metrics: match given.text("metrics") {
            "extensive" => MetricsDetail::Extensive,
            _ => MetricsDetail::Basic,
        },
        auto_compaction: check::auto_compaction(given)?,
        compaction_batch_limit: match given.int(current("compaction-batch-limit")) {
            limit @ 1.. => limit.unsigned_abs(),
            _ => COMPACTION_BATCH_DEFAULT,
        },
        watch_progress_notify_interval: optional(span("watch-progress-notify-interval"))
            .map_or(PROGRESS_INTERVAL_DEFAULT, |interval| interval.max(PROGRESS_INTERVAL_MIN)),
        warning_apply_duration: span("warning-apply-duration"),
        warning_unary_request_duration: optional(span("warning-unary-request-duration"))
            .unwrap_or(WARNING_UNARY_DEFAULT),
        max_learners: given.int("max-learners"),
        bcrypt_cost: given.uint("bcrypt-cost"),
        auth_token_ttl: Duration::from_secs(given.uint("auth-token-ttl")),
        feature_gates: flags::GATES
            .iter()
            .map(|gate| (*gate, flags::gate_enabled(&gates, gate.name)))
            .collect(),
        unsafe_no_fsync: given.bool("unsafe-no-fsync"),
        driver: match given.text("kontiki-driver") {
            "io_uring" => Some(Driver::Ring),
            "portable" => Some(Driver::Portable),
            _ => None,
        },
        log_mode: match given.text("kontiki-log-mode") {
            "dsync" => LogMode::Dsync,
            "fdatasync" => LogMode::Fdatasync,
            _ => LogMode::Auto,
        },
        checkpoint_entries: given.uint("kontiki-checkpoint-entries"),
        record_disk: Some(given.text("kontiki-record-disk"))
            .filter(|file| !file.is_empty())
            .map(PathBuf::from),
        stall_reads: span("kontiki-stall-reads"),
        log: log.clone(),
        notes: Vec::new(),
        name,
    })
}

#[cfg(test)]
mod tests;
