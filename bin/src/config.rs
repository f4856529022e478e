//! From raw values to a configuration that is valid as a whole.
//!
//! The second of two steps (the first is [`flags`]). A [`Config`] cannot be had but from [`load`], so
//! whoever holds one need not doubt it: intervals fit each other, URLs can be bound, nothing was asked for that would
//! be silently less safe here. The conditions, their order and their sentences are those of etcd's
//! `embed/config.go` (`Validate`) and `etcdmain/config.go`; ours come after them.
//!
//! Nothing here touches the process: what it needs of the host comes in with [`Host`].

mod check;
mod support;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::flags::{self, Answer, Failure, Given, Note, Outcome, Start};
use crate::logging::{self, Level, Logger};
use crate::url::Url;

/// Quota when `--quota-backend-bytes` is 0, as in etcd.
const QUOTA_BYTES_DEFAULT: u64 = 2 * 1024 * 1024 * 1024;

/// Interval of progress notifications when the flag is 0, and the least one; both etcd's.
const PROGRESS_INTERVAL_DEFAULT: Duration = Duration::from_secs(600);
const PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// etcd's line with its arguments.
const RUNNING: &str = "Running: ";

/// Revisions a step of a compaction drops when the flag is 0, as in etcd.
const COMPACTION_BATCH_DEFAULT: u64 = 1000;

/// A checked configuration; only [`load`] makes one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Name of this member.
    pub name: String,
    /// Data directory, as given or `<name>.etcd`.
    pub data_dir: PathBuf,
    /// Directory of the log when it lies elsewhere.
    pub wal_dir: Option<PathBuf>,
    /// Where clients connect. Never empty, none secure.
    pub listen_client_urls: Vec<Url>,
    /// Where HTTP clients connect, if not there.
    pub listen_client_http_urls: Vec<Url>,
    /// Where metrics and health are served besides.
    pub listen_metrics_urls: Vec<Url>,
    /// Where other members connect. Never empty, none secure.
    pub listen_peer_urls: Vec<Url>,
    /// What clients are told to connect to.
    pub advertise_client_urls: Vec<Url>,
    /// What other members are told to connect to; member ids are hashed from these.
    pub initial_advertise_peer_urls: Vec<Url>,
    /// `--initial-cluster`, to be read by [`bootstrap`](crate::bootstrap) when the data directory is fresh.
    pub initial_cluster: String,
    /// Whether `--initial-cluster` was left to its default; only a hint in an error depends on it.
    pub initial_cluster_is_default: bool,
    /// Whether a fresh member starts a cluster or joins one.
    pub initial_cluster_state: ClusterState,
    /// Keeps clusters with equal URLs apart.
    pub initial_cluster_token: String,
    /// Heartbeat interval; at least 1 ms.
    pub heartbeat: Duration,
    /// Election timeout; 5 heartbeats to 50 s.
    pub election: Duration,
    /// Entries between snapshots in etcd; here a hint only.
    pub snapshot_count: u64,
    /// Entries kept for followers that lag.
    pub snapshot_catchup_entries: u64,
    /// Bytes after which writes raise an alarm; `None` is no quota.
    pub quota_backend_bytes: Option<u64>,
    /// Operations of one transaction, at most.
    pub max_txn_ops: u64,
    /// Bytes of one request, at most.
    pub max_request_bytes: u64,
    /// Streams of one connection, at most; `None` unless the flag was set.
    pub max_concurrent_streams: Option<u32>,
    /// gRPC keepalive.
    pub keepalive: Keepalive,
    /// Options of listening sockets.
    pub socket: SocketOptions,
    /// Origins browsers may call from.
    pub cors: Allowed,
    /// Host names plain HTTP requests may name.
    pub host_whitelist: Allowed,
    /// Whether JSON is served under `/v3`.
    pub enable_grpc_gateway: bool,
    /// Whether profiles are served.
    pub enable_pprof: bool,
    /// Detail of the metrics.
    pub metrics: MetricsDetail,
    /// Automatic compaction.
    pub auto_compaction: AutoCompaction,
    /// Revisions one step of a compaction drops.
    pub compaction_batch_limit: u64,
    /// Time between progress notifications of an idle watch; at least 100 ms.
    pub watch_progress_notify_interval: Duration,
    /// Applies that take longer are warned of.
    pub warning_apply_duration: Duration,
    /// Unary requests that take longer are warned of.
    pub warning_unary_request_duration: Duration,
    /// Learners in the cluster, at most.
    pub max_learners: i64,
    /// Cost of hashing passwords.
    pub bcrypt_cost: u64,
    /// Life of an unused auth token.
    pub auth_token_ttl: Duration,
    /// Feature gates by name, all of them.
    pub feature_gates: Vec<(flags::Gate, bool)>,
    /// Whether nothing is ever synced to disk.
    pub unsafe_no_fsync: bool,
    /// How log writes become durable.
    pub log_mode: LogMode,
    /// The server's own log lines.
    pub log: logging::Options,
    /// What there is to log about all this, in order.
    pub notes: Vec<Note>,
}

/// What a fresh member does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    /// It starts a cluster.
    New,
    /// It joins one.
    Existing,
}

/// gRPC keepalive of client connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Least time between a client's pings.
    pub min_time: Duration,
    /// Time between pings to a client; `None` is never.
    pub interval: Option<Duration>,
    /// Time a client has to answer; `None` is for ever.
    pub timeout: Option<Duration>,
}

/// Options of listening sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// `SO_REUSEPORT`.
    pub reuse_port: bool,
    /// `SO_REUSEADDR`.
    pub reuse_address: bool,
}

/// A white list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// `*`, or nothing said.
    Any,
    /// These, sorted.
    Only(Vec<String>),
}

impl Allowed {
    fn from_names(names: Vec<String>) -> Allowed {
        match names.is_empty() || names.iter().any(|name| name == "*") {
            true => Allowed::Any,
            false => Allowed::Only(names),
        }
    }

    /// Whether `name` is on it.
    pub fn allows(&self, name: &str) -> bool {
        match self {
            Allowed::Any => true,
            Allowed::Only(names) => names.iter().any(|allowed| allowed == name),
        }
    }
}

/// Detail of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsDetail {
    /// Without histograms of gRPC handling times.
    Basic,
    /// With them.
    Extensive,
}

/// Automatic compaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// None.
    Off,
    /// What is older than this goes.
    Periodic(Duration),
    /// All but so many revisions go.
    Revision(u64),
}

/// How log writes become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogMode {
    /// As the disk's measurement says.
    Auto,
    /// `O_DSYNC` writes, several at a time.
    Dsync,
    /// One write, then `fdatasync`.
    Fdatasync,
}

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

/// The order of the lines is etcd's: warnings of the check, deprecated flags, `Running: `, then what is wrong.
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
        warning_unary_request_duration: span("warning-unary-request-duration"),
        max_learners: given.int("max-learners"),
        bcrypt_cost: given.uint("bcrypt-cost"),
        auth_token_ttl: Duration::from_secs(given.uint("auth-token-ttl")),
        feature_gates: flags::GATES
            .iter()
            .map(|gate| (*gate, flags::gate_enabled(&gates, gate.name)))
            .collect(),
        unsafe_no_fsync: given.bool("unsafe-no-fsync"),
        log_mode: match given.text("kontiki-log-mode") {
            "dsync" => LogMode::Dsync,
            "fdatasync" => LogMode::Fdatasync,
            _ => LogMode::Auto,
        },
        log: log.clone(),
        notes: Vec::new(),
        name,
    })
}

impl Config {
    /// The logger this configuration asks for. On failure, what to log to the default one before ending with status 1.
    pub fn open_log(&self) -> Result<Logger, Failure> {
        Logger::open(&self.log).map_err(|error| {
            let running = self.notes.iter().filter(|note| note.msg == RUNNING).cloned().collect();
            Failure::verify(running, error)
        })
    }

    /// How long a request may wait for the cluster: etcd's `ReqTimeout`.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election
    }

    /// Election timeout in heartbeats, at least 5.
    pub fn election_ticks(&self) -> u32 {
        u32::try_from(self.election.as_millis() / self.heartbeat.as_millis()).expect("both are at most 50000")
    }
}

#[cfg(test)]
mod tests;
