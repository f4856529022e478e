//! Every flag, one row each.
//!
//! A row says what the flag is called, what values it takes, what it is when nothing sets it, how far this
//! server supports it, and its help. The environment variable follows from the name. Names, defaults and
//! meaning are those of etcd 3.6; the rows of the last section are our own.
//!
//! The rule for [`Support`]: a flag whose absence here would leave data or doors less safe than its user
//! asked for is refused; every other one is taken, and says in the log that nothing comes of it.

use super::kind::Kind;

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Name without dashes.
    pub name: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// Value when nothing sets it.
    pub default: &'static str,
    /// How far it is supported.
    pub support: Support,
    /// Help, one or more lines.
    pub help: &'static str,
}

/// What this server makes of a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// It does what it does in etcd.
    Works,
    /// The thing it tunes does not exist here, so any value is as good as another: one info line with the
    /// reason.
    Inert(&'static str),
    /// Safe to go without for now: one warning with what is missing.
    NotBuilt(&'static str),
    /// Going on without it would be unsafe: any value but the default ends the start with this reason.
    Refused(&'static str),
    /// An older spelling of that flag.
    SpelledNow(&'static str),
    /// An older spelling of a feature gate.
    GateNow(&'static str),
    /// Of a long gone etcd; not in the help.
    Historic,
    /// Makes the server show itself to a test, or hinders it; not in the help, and said in the log.
    TestAid,
}

use Kind::{AnyOf, Bool, Gates, Ignored, Int, List, Names, OneOf, Origins, Span, Text, Uint, Uint32, Urls};
use Support::{GateNow, Historic, Inert, NotBuilt, Refused, SpelledNow, TestAid, Works};

/// The variable that sets flag `name`.
pub fn variable(name: &str) -> String {
    format!("ETCD_{}", name.to_ascii_uppercase().replace('-', "_"))
}

/// The row of flag `name`.
pub fn find(name: &str) -> Option<&'static Flag> {
    rows().find(|flag| flag.name == name)
}

/// All rows, in help order.
pub fn rows() -> impl Iterator<Item = &'static Flag> {
    SECTIONS.iter().flat_map(|(_, flags)| flags.iter())
}

const fn row(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    support: Support,
    help: &'static str,
) -> Flag {
    Flag { name, kind, default, support, help }
}

/// An older spelling: the type and default of the flag or gate it stands for are repeated by its caller.
const fn old(name: &'static str, kind: Kind, default: &'static str, support: Support) -> Flag {
    row(name, kind, default, support, "Deprecated spelling.")
}

const fn historic(name: &'static str) -> Flag {
    row(name, Ignored, "", Historic, "")
}

const NO_BBOLT: Support = Inert("there is no bbolt backend here; batches follow the disk");
const NO_TLS: Support = Refused("TLS is not built yet, and the port would be open in plain text");
const NO_TLS_DETAIL: Support = Inert("it details TLS, which is not built yet");
const NO_DISCOVERY: Support =
    Refused("discovery is not built yet, and the member would start a cluster of its own");
const NO_DISCOVERY_DETAIL: Support = Inert("it details discovery, which is not built yet");
const NO_TRACING: Support = NotBuilt("no spans are exported");
const NO_AUTH: Support = NotBuilt("authentication cannot be enabled");
const ONE_MEMBER: Support = Inert("a cluster of one member has no peer it could concern");
const SIZE_PACED: Support = Inert("checkpoints and log retention follow sizes, not entry counts");
const SELF_PACED: Support = Inert("reclaim of compacted data paces itself");

/// The sections of the help, and their flags.
#[rustfmt::skip]
pub const SECTIONS: &[(&str, &[Flag])] = &[
    ("Member", &[
        row("name", Text, "default", Works, "Name of this member, for people."),
        row("data-dir", Text, "", Works, "Data directory; NAME.etcd when not given."),
        row("wal-dir", Text, "", Works,
            "Directory of the log, when it shall lie outside the data directory."),
        row("snapshot-count", Uint, "10000", SIZE_PACED, "Committed entries between snapshots."),
        row("heartbeat-interval", Uint, "100", Works, "Heartbeat interval in milliseconds."),
        row("election-timeout", Uint, "1000", Works,
            "Election timeout in milliseconds, at least five heartbeats."),
        row("initial-election-tick-advance", Bool, "true", ONE_MEMBER,
            "Shorten the first election after a start."),
        row("listen-peer-urls", Urls, "http://localhost:2380", Works, "URLs to listen on for other members."),
        row("listen-client-urls", Urls, "http://localhost:2379", Works,
            "URLs to listen on for clients: gRPC, and HTTP unless --listen-client-http-urls is given."),
        row("listen-client-http-urls", Urls, "", NotBuilt("HTTP stays on the client URLs"),
            "URLs to listen on for HTTP clients only; the client URLs then serve gRPC only."),
        row("max-snapshots", Uint, "5", Inert("no snapshot files are kept"),
            "Snapshot files to keep. Deprecated."),
        row("max-wals", Uint, "5", Inert("log files are recycled, none is kept for long"),
            "Log files to keep."),
        row("memory-mlock", Bool, "false", NotBuilt("memory is not locked"),
            "Keep all memory from being swapped."),
        row("quota-backend-bytes", Int, "0", Works,
            "Bytes of data after which writes are refused with an alarm; 0 is 2 GiB, negative is no quota."),
        row("backend-bbolt-freelist-type", Text, "map", NO_BBOLT, "Free list of bbolt: map or array."),
        row("backend-batch-interval", Span, "0s", NO_BBOLT, "Time after which bbolt commits."),
        row("backend-batch-limit", Int, "0", NO_BBOLT, "Operations after which bbolt commits."),
        row("max-txn-ops", Uint, "128", Works, "Operations in one transaction, at most."),
        row("max-request-bytes", Uint, "1572864", Works, "Bytes of one client request, at most."),
        row("max-concurrent-streams", Uint32, "4294967295", Works,
            "Streams of one client connection, at most."),
        row("grpc-keepalive-min-time", Span, "5s", Works, "Least time between pings of a client."),
        row("grpc-keepalive-interval", Span, "2h0m0s", Works, "Time between pings to a client; 0 is never."),
        row("grpc-keepalive-timeout", Span, "20s", Works,
            "Time a client has to answer a ping; 0 is for ever."),
        row("socket-reuse-port", Bool, "false", Works, "Set SO_REUSEPORT on listeners."),
        row("socket-reuse-address", Bool, "false", Works, "Set SO_REUSEADDR on listeners."),
        row("enable-grpc-gateway", Bool, "true", NotBuilt("the JSON gateway does not exist"),
            "Serve JSON under /v3."),
        row("raft-read-timeout", Span, "5s", ONE_MEMBER, "Read timeout between members, at least 5s."),
        row("raft-write-timeout", Span, "5s", ONE_MEMBER, "Write timeout between members, at least 5s."),
        row("feature-gates", Gates, "", Works, "Features to switch, as Name=true,Other=false."),
    ]),
    ("Clustering", &[
        row("initial-advertise-peer-urls", Urls, "http://localhost:2380", Works,
            "URLs at which other members reach this one."),
        row("initial-cluster", Text, "default=http://localhost:2380", Works,
            "Members of a new cluster, as NAME=URL,..."),
        row("initial-cluster-state", OneOf(&["new", "existing"]), "new", Works,
            "Start a new cluster, or join an existing one. Only the first start reads it."),
        row("initial-cluster-token", Text, "etcd-cluster", Works,
            "Keeps clusters with equal URLs apart: it goes into the ids of a new cluster."),
        row("advertise-client-urls", Urls, "http://localhost:2379", Works,
            "URLs at which clients reach this member."),
        row("discovery", Text, "", NO_DISCOVERY, "URL of a v2 discovery service."),
        row("discovery-token", Text, "", NO_DISCOVERY, "Token of the cluster at a v3 discovery service."),
        row("discovery-endpoints", Names, "", NO_DISCOVERY, "Endpoints of a v3 discovery service."),
        row("discovery-dial-timeout", Span, "2s", NO_DISCOVERY_DETAIL, "Discovery: timeout of a dial."),
        row("discovery-request-timeout", Span, "5s", NO_DISCOVERY_DETAIL, "Discovery: timeout of a request."),
        row("discovery-keepalive-time", Span, "2s", NO_DISCOVERY_DETAIL, "Discovery: time between pings."),
        row("discovery-keepalive-timeout", Span, "6s", NO_DISCOVERY_DETAIL, "Discovery: timeout of a ping."),
        row("discovery-insecure-transport", Bool, "true", NO_DISCOVERY_DETAIL, "Discovery: go without TLS."),
        row("discovery-insecure-skip-tls-verify", Bool, "false", NO_DISCOVERY_DETAIL,
            "Discovery: take any server certificate."),
        row("discovery-cert", Text, "", NO_DISCOVERY, "Discovery: client certificate."),
        row("discovery-key", Text, "", NO_DISCOVERY, "Discovery: key of the client certificate."),
        row("discovery-cacert", Text, "", NO_DISCOVERY, "Discovery: CA of the server certificate."),
        row("discovery-user", Text, "", NO_DISCOVERY, "Discovery: NAME[:PASSWORD]."),
        row("discovery-password", Text, "", NO_DISCOVERY, "Discovery: password."),
        row("discovery-fallback", OneOf(&["exit", "proxy"]), "exit", Works,
            "What to do when discovery fails: exit."),
        row("discovery-proxy", Text, "", NO_DISCOVERY, "HTTP proxy on the way to a v2 discovery service."),
        row("discovery-srv", Text, "", NO_DISCOVERY, "DNS domain whose SRV records name the members."),
        row("discovery-srv-name", Text, "", NO_DISCOVERY, "Suffix of the SRV service name."),
        row("strict-reconfig-check", Bool, "true", ONE_MEMBER,
            "Refuse member changes that would cost the quorum."),
        row("pre-vote", Bool, "true", ONE_MEMBER, "Ask before an election whether it could be won."),
        row("auto-compaction-retention", Text, "0", Works,
            "What automatic compaction keeps: hours or a duration, or revisions; 0 switches it off."),
        row("auto-compaction-mode", Text, "periodic", Works,
            "How to read the retention: periodic or revision."),
        row("v2-deprecation", AnyOf(&["write-only", "write-only-skip-check", "write-only-drop-data", "gone"]),
            "",
            Inert("there is no v2 store"), "Stage of the v2 store's removal. Deprecated."),
    ]),
    ("Security", &[
        row("cert-file", Text, "", NO_TLS, "Certificate for clients."),
        row("key-file", Text, "", NO_TLS, "Key of that certificate."),
        row("client-cert-auth", Bool, "false", NO_TLS, "Demand a certificate of clients."),
        row("client-cert-file", Text, "", NO_TLS, "Certificate to show when acting as a client."),
        row("client-key-file", Text, "", NO_TLS, "Key of that certificate."),
        row("client-crl-file", Text, "", NO_TLS, "Revoked client certificates."),
        row("client-cert-allowed-hostname", List, "", NO_TLS, "Host names a client certificate may carry."),
        row("trusted-ca-file", Text, "", NO_TLS, "CA of client certificates."),
        row("auto-tls", Bool, "false", NO_TLS, "Serve clients with a certificate made at the start."),
        row("peer-cert-file", Text, "", NO_TLS, "Certificate for other members."),
        row("peer-key-file", Text, "", NO_TLS, "Key of that certificate."),
        row("peer-client-cert-auth", Bool, "false", NO_TLS, "Demand a certificate of other members."),
        row("peer-client-cert-file", Text, "", NO_TLS, "Certificate to show to other members."),
        row("peer-client-key-file", Text, "", NO_TLS, "Key of that certificate."),
        row("peer-trusted-ca-file", Text, "", NO_TLS, "CA of other members' certificates."),
        row("peer-crl-file", Text, "", NO_TLS, "Revoked certificates of members."),
        row("peer-cert-allowed-cn", List, "", NO_TLS, "Common names a member's certificate may carry."),
        row("peer-cert-allowed-hostname", List, "", NO_TLS, "Host names a member's certificate may carry."),
        row("peer-auto-tls", Bool, "false", NO_TLS,
            "Speak with members under a certificate made at the start."),
        row("peer-skip-client-san-verification", Bool, "false", NO_TLS_DETAIL,
            "Do not compare a member's address with its certificate."),
        row("self-signed-cert-validity", Uint, "1", NO_TLS_DETAIL,
            "Years a certificate made at the start is valid."),
        row("cipher-suites", List, "", NO_TLS_DETAIL, "TLS cipher suites to allow."),
        row("tls-min-version", Text, "TLS1.2", NO_TLS_DETAIL, "Least TLS version: TLS1.2 or TLS1.3."),
        row("tls-max-version", Text, "", NO_TLS_DETAIL, "Greatest TLS version: TLS1.2 or TLS1.3."),
        row("cors", Origins, "*", Works, "Origins that browsers may call from; * is all."),
        row("host-whitelist", Names, "*", Works,
            "Host names HTTP requests may name while TLS is off; * is all."),
    ]),
    ("Auth", &[
        row("auth-token", Text, "simple", Works, "Kind of auth token with its options: simple or jwt."),
        row("bcrypt-cost", Uint, "10", NO_AUTH, "Cost of hashing passwords, 4 to 31."),
        row("auth-token-ttl", Uint, "300", NO_AUTH, "Seconds an unused token lives."),
    ]),
    ("Profiling and Monitoring", &[
        row("enable-pprof", Bool, "false", NotBuilt("nothing is served under /debug/pprof"),
            "Serve profiles."),
        row("metrics", Text, "basic", Works,
            "Detail of the metrics: basic, or extensive for histograms of gRPC handling times."),
        row("listen-metrics-urls", Urls, "", Works,
            "URLs to listen on for metrics and health only."),
        row("warning-apply-duration", Span, "100ms", Works,
            "Warn of requests that take longer to apply."),
        row("warning-unary-request-duration", Span, "300ms", Works,
            "Warn of unary requests that take longer."),
        row("enable-distributed-tracing", Bool, "false", NO_TRACING, "Export spans to OpenTelemetry."),
        row("distributed-tracing-address", Text, "localhost:4317", NO_TRACING,
            "Tracing: address of the collector."),
        row("distributed-tracing-service-name", Text, "etcd", NO_TRACING, "Tracing: name of the service."),
        row("distributed-tracing-instance-id", Text, "", NO_TRACING, "Tracing: id of this instance."),
        row("distributed-tracing-sampling-rate", Int, "0", NO_TRACING, "Tracing: samples per million spans."),
    ]),
    ("Logging", &[
        row("logger", Text, "zap", Works, "Kind of logger: zap."),
        row("log-outputs", Names, "default", Works,
            "Where logs go: default, stderr, stdout, systemd/journal or files; /dev/null discards them."),
        row("log-level", Text, "info", Works,
            "Least level to log: debug, info, warn, error, dpanic, panic or fatal."),
        row("log-format", Text, "json", Works, "Form of the lines: json or console."),
        row("enable-log-rotation", Bool, "false", NotBuilt("log files are not rotated"),
            "Rotate the log file."),
        row("log-rotation-config-json", Text,
            r#"{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}"#,
            NotBuilt("log files are not rotated"), "How to rotate the log file."),
    ]),
    ("Features", &[
        row("corrupt-check-time", Span, "0s", Refused("members are not compared for corruption yet"),
            "Time between comparisons of all members; 0 is never."),
        row("compact-hash-check-time", Span, "1m0s", ONE_MEMBER,
            "Time between comparisons of compaction hashes."),
        row("compaction-batch-limit", Int, "0", SELF_PACED,
            "Revisions one step of a compaction drops; 0 is 1000."),
        row("compaction-sleep-interval", Span, "0s", SELF_PACED,
            "Pause between steps of a compaction; 0 is 10ms."),
        row("watch-progress-notify-interval", Span, "0s", Works,
            "Time between progress notifications of an idle watch; 0 is 10m."),
        row("bootstrap-defrag-threshold-megabytes", Uint, "0", Inert("no defragmentation is ever needed"),
            "Defragment at the start when it frees so much."),
        row("max-learners", Int, "1", ONE_MEMBER, "Learners in the cluster, at most."),
        row("downgrade-check-time", Span, "5s", ONE_MEMBER, "Time between looks at a running downgrade."),
        row("snapshot-catchup-entries", Uint, "5000", SIZE_PACED, "Entries kept for followers that lag."),
    ]),
    ("Unsafe", &[
        row("force-new-cluster", Bool, "false", Refused("the rewriting of membership is not built yet"),
            "Make this member a cluster of one, keeping its data."),
        row("unsafe-no-fsync", Bool, "false", Works,
            "Never sync to disk. A crash may lose acknowledged writes."),
    ]),
    ("Kontiki", &[
        row("kontiki-driver", OneOf(&["auto", "io_uring", "portable"]), "auto", Works,
            "What carries sockets and the log: io_uring, or the slower epoll and a log thread; auto is io_uring where it works."),
        row("kontiki-log-mode", OneOf(&["auto", "dsync", "fdatasync"]), "auto", Works,
            "How log writes are made durable; auto measures the disk at the start."),
        row("kontiki-checkpoint-entries", Uint, "300000", TestAid,
            "Applied entries after which the index is written to disk, at the latest."),
        row("kontiki-record-disk", Text, "", TestAid,
            "New file to note all disk operations in, see engine/src/disk/record.rs; outside the data directory."),
        row("kontiki-stall-reads", Span, "0s", TestAid,
            "Time every read of cold data waits before it goes to the disk."),
    ]),
    ("Other", &[
        row("config-file", Text, "", Works,
            "YAML or JSON file to read; all other flags and variables are then ignored."),
        row("version", Bool, "false", Works, "Print the version and exit."),
    ]),
    ("Deprecated", &[
        old("experimental-compact-hash-check-time", Span, "1m0s", SpelledNow("compact-hash-check-time")),
        old("experimental-corrupt-check-time", Span, "0s", SpelledNow("corrupt-check-time")),
        old("experimental-compaction-batch-limit", Int, "0", SpelledNow("compaction-batch-limit")),
        old("experimental-watch-progress-notify-interval", Span, "0s",
            SpelledNow("watch-progress-notify-interval")),
        old("experimental-warning-apply-duration", Span, "0s", SpelledNow("warning-apply-duration")),
        old("experimental-bootstrap-defrag-threshold-megabytes", Uint, "0",
            SpelledNow("bootstrap-defrag-threshold-megabytes")),
        old("experimental-memory-mlock", Bool, "false", SpelledNow("memory-mlock")),
        old("experimental-snapshot-catchup-entries", Uint, "5000", SpelledNow("snapshot-catchup-entries")),
        old("experimental-compaction-sleep-interval", Span, "0s", SpelledNow("compaction-sleep-interval")),
        old("experimental-downgrade-check-time", Span, "5s", SpelledNow("downgrade-check-time")),
        old("experimental-peer-skip-client-san-verification", Bool, "false",
            SpelledNow("peer-skip-client-san-verification")),
        old("experimental-enable-distributed-tracing", Bool, "false",
            SpelledNow("enable-distributed-tracing")),
        old("experimental-distributed-tracing-address", Text, "localhost:4317",
            SpelledNow("distributed-tracing-address")),
        old("experimental-distributed-tracing-service-name", Text, "etcd",
            SpelledNow("distributed-tracing-service-name")),
        old("experimental-distributed-tracing-instance-id", Text, "",
            SpelledNow("distributed-tracing-instance-id")),
        old("experimental-distributed-tracing-sampling-rate", Int, "0",
            SpelledNow("distributed-tracing-sampling-rate")),
        old("experimental-warning-unary-request-duration", Span, "0s",
            SpelledNow("warning-unary-request-duration")),
        old("experimental-stop-grpc-service-on-defrag", Bool, "false", GateNow("StopGRPCServiceOnDefrag")),
        old("experimental-initial-corrupt-check", Bool, "false", GateNow("InitialCorruptCheck")),
        old("experimental-compact-hash-check-enabled", Bool, "false", GateNow("CompactHashCheck")),
        old("experimental-txn-mode-write-with-shared-buffer", Bool, "true",
            GateNow("TxnModeWriteWithSharedBuffer")),
        old("experimental-enable-lease-checkpoint", Bool, "false", GateNow("LeaseCheckpoint")),
        old("experimental-enable-lease-checkpoint-persist", Bool, "false", GateNow("LeaseCheckpointPersist")),
    ]),
    ("Historic", &[
        historic("cluster-active-size"), historic("cluster-remove-delay"), historic("cluster-sync-interval"),
        historic("config"), historic("force"), historic("max-result-buffer"), historic("max-retry-attempts"),
        historic("peer-heartbeat-interval"), historic("peer-election-timeout"), historic("retry-interval"),
        historic("snapshot"), historic("v"), historic("vv"), historic("test.coverprofile"),
        historic("test.outputdir"),
    ]),
];
