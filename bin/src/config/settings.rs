//! The settings themselves: what a checked configuration consists of.

use std::path::PathBuf;
use std::time::Duration;

use tuning::profile::Driver;

use super::RUNNING;
use crate::flags::{Failure, Gate, Note};
use crate::logging::{self, Logger};
use crate::url::Url;

/// A checked configuration; only [`load`](super::load) makes one.
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
    pub feature_gates: Vec<(Gate, bool)>,
    /// Whether nothing is ever synced to disk.
    pub unsafe_no_fsync: bool,
    /// The driver that must carry sockets and files; without one the host decides.
    pub driver: Option<Driver>,
    /// How log writes become durable.
    pub log_mode: LogMode,
    /// Applied entries after which a checkpoint is due.
    pub checkpoint_entries: u64,
    /// Where to note all disk operations; for tests.
    pub record_disk: Option<PathBuf>,
    /// How long every cold read waits; for tests.
    pub stall_reads: Duration,
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
    pub(super) fn from_names(names: Vec<String>) -> Allowed {
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

impl Config {
    /// The logger this configuration asks for. On failure, what to log to the default one before ending with
    /// status 1.
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
