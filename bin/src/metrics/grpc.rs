//! Calls by method and status: the metrics of Go's gRPC middleware, which every etcd dashboard reads.
//!
//! etcd lists all methods and all codes from the start, so that a rate over them is never undefined; so do
//! we. The two services it registers later, Lock and Election, appear with their first call.

use std::cell::Cell;

use net::grpc::tally::Counts;

use super::render::{Kind, Snapshot};
use super::value::{Counter, Histogram};

/// Names of the status codes, by number.
pub const GRPC_CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

const UNKNOWN: usize = 2;

const UNARY: &str = "unary";
const BIDI: &str = "bidi_stream";
const SERVER: &str = "server_stream";

/// Services with their methods, and the type of those that are not unary.
const SERVICES: &[(&str, &[&str])] = &[
    ("etcdserverpb.KV", &["Range", "Put", "DeleteRange", "Txn", "Compact"]),
    ("etcdserverpb.Watch", &["Watch"]),
    (
        "etcdserverpb.Lease",
        &["LeaseGrant", "LeaseRevoke", "LeaseKeepAlive", "LeaseTimeToLive", "LeaseLeases"],
    ),
    ("etcdserverpb.Cluster", &["MemberAdd", "MemberRemove", "MemberUpdate", "MemberList", "MemberPromote"]),
    (
        "etcdserverpb.Maintenance",
        &["Alarm", "Status", "Defragment", "Hash", "HashKV", "Snapshot", "MoveLeader", "Downgrade"],
    ),
    (
        "etcdserverpb.Auth",
        &[
            "AuthEnable",
            "AuthDisable",
            "AuthStatus",
            "Authenticate",
            "UserAdd",
            "UserGet",
            "UserList",
            "UserDelete",
            "UserChangePassword",
            "UserGrantRole",
            "UserRevokeRole",
            "RoleAdd",
            "RoleGet",
            "RoleList",
            "RoleDelete",
            "RoleGrantPermission",
            "RoleRevokePermission",
        ],
    ),
    ("grpc.health.v1.Health", &["Check", "List", "Watch"]),
    (LOCK, &["Lock", "Unlock"]),
    (ELECTION, &["Campaign", "Proclaim", "Leader", "Observe", "Resign"]),
];

const LOCK: &str = "v3lockpb.Lock";
const ELECTION: &str = "v3electionpb.Election";

/// Upper bounds of handling times: those that Prometheus' Go client has.
const HANDLING: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Not unary.
const STREAMS: &[(&str, &str, &str)] = &[
    ("etcdserverpb.Watch", "Watch", BIDI),
    ("etcdserverpb.Lease", "LeaseKeepAlive", BIDI),
    ("etcdserverpb.Maintenance", "Snapshot", SERVER),
    ("grpc.health.v1.Health", "Watch", SERVER),
    (ELECTION, "Observe", SERVER),
];

/// A method's counters.
#[derive(Debug, Default)]
pub struct Method {
    /// Calls begun.
    pub started: Counter,
    /// Messages received.
    pub received: Counter,
    /// Messages sent.
    pub sent: Counter,
    /// Seconds from a call's message to the end of its answer.
    pub handling: Option<Histogram>,
    handled: [Cell<u64>; GRPC_CODES.len()],
}

impl Method {
    /// Takes over what the gRPC layer has counted.
    pub fn set(&self, counts: &Counts) {
        self.started.set(counts.started);
        self.received.set(counts.received);
        self.sent.set(counts.sent);
        for (cell, count) in self.handled.iter().zip(counts.handled) {
            cell.set(count);
        }
    }

    /// Counts a call that ended with status `code`; codes gRPC does not have count as Unknown.
    pub fn handled(&self, code: u32) {
        let code = usize::try_from(code).ok().filter(|code| *code < GRPC_CODES.len()).unwrap_or(UNKNOWN);
        self.handled[code].set(self.handled[code].get() + 1);
    }
}

/// All methods of one core.
#[derive(Debug)]
pub struct Grpc {
    methods: Vec<(String, Method)>,
}

impl Default for Grpc {
    fn default() -> Grpc {
        let paths = names().map(|(service, method)| (format!("/{service}/{method}"), Method::default()));
        Grpc { methods: paths.collect() }
    }
}

fn names() -> impl Iterator<Item = (&'static str, &'static str)> {
    SERVICES.iter().flat_map(|(service, methods)| methods.iter().map(|method| (*service, *method)))
}

impl Grpc {
    /// The same with a histogram of handling times for each method.
    pub fn extensive() -> Grpc {
        let mut grpc = Grpc::default();
        for (_, method) in &mut grpc.methods {
            method.handling = Some(Histogram::of(HANDLING.into_iter()));
        }
        grpc
    }

    /// Number of the method at `path`, such as `/etcdserverpb.KV/Put`: for a route table, once.
    pub fn index_of(&self, path: &str) -> Option<usize> {
        self.methods.iter().position(|(known, _)| known == path)
    }

    /// The counters of method `index`.
    pub fn at(&self, index: usize) -> &Method {
        &self.methods[index].1
    }

    pub(super) fn snapshot(&self, to: &mut Snapshot) {
        for ((service, name), (_, method)) in names().zip(&self.methods) {
            let is_late = service == LOCK || service == ELECTION;
            if is_late && method.started.count() == 0 {
                continue;
            }
            let stream = STREAMS.iter().find(|(s, m, _)| (*s, *m) == (service, name));
            let kind = stream.map_or(UNARY, |(_, _, kind)| kind);
            let labels = format!("grpc_method=\"{name}\",grpc_service=\"{service}\",grpc_type=\"{kind}\"");
            sample(to, &labels, method);
        }
    }
}

fn sample(to: &mut Snapshot, labels: &str, method: &Method) {
    for (name, help, counter) in [
        ("grpc_server_started_total", "Calls begun.", &method.started),
        ("grpc_server_msg_received_total", "Messages received.", &method.received),
        ("grpc_server_msg_sent_total", "Messages sent.", &method.sent),
    ] {
        counter.sample(to.family(name, Kind::Counter, help), labels);
    }
    if let Some(handling) = &method.handling {
        let help = "Seconds from a call's message to the end of its answer.";
        handling.sample(to.family("grpc_server_handling_seconds", Kind::Histogram, help), labels);
    }
    let handled = to.family("grpc_server_handled_total", Kind::Counter, "Calls ended, by status.");
    for (code, count) in GRPC_CODES.iter().zip(&method.handled) {
        handled.push("", format!("grpc_code=\"{code}\",{labels}"), count.get() as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(grpc: &Grpc) -> String {
        let mut snapshot = Snapshot::default();
        grpc.snapshot(&mut snapshot);
        snapshot.render()
    }

    #[test]
    fn all_rows_are_there_from_the_start() {
        let text = text(&Grpc::default());
        // Seen in etcd 3.6.16: 44 methods, 17 codes each.
        assert_eq!(text.lines().filter(|l| l.starts_with("grpc_server_started_total{")).count(), 44);
        assert_eq!(text.lines().filter(|l| l.starts_with("grpc_server_handled_total{")).count(), 44 * 17);
        assert!(!text.contains("v3lockpb"));
    }

    #[test]
    fn handling_times_are_there_if_wanted() {
        assert!(!text(&Grpc::default()).contains("handling"));
        let grpc = Grpc::extensive();
        grpc.at(grpc.index_of("/etcdserverpb.KV/Put").unwrap()).handling.as_ref().unwrap().observe(0.07);
        let text = text(&grpc);
        let buckets = text.lines().filter(|line| line.starts_with("grpc_server_handling_seconds_bucket{"));
        assert_eq!(buckets.count(), 44 * 12);
        let put = r#"grpc_server_handling_seconds_bucket{grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary""#;
        for (bound, count) in [("0.05", 0), ("0.1", 1), ("+Inf", 1)] {
            let line = format!("{put},le=\"{bound}\"}} {count}");
            assert!(text.lines().any(|l| l == line), "{line} is missing");
        }
    }

    #[test]
    fn calls_are_counted_by_method_and_code() {
        let grpc = Grpc::default();
        let put = grpc.at(grpc.index_of("/etcdserverpb.KV/Put").unwrap());
        put.started.inc();
        put.handled(0);
        put.handled(99);
        let lock = grpc.at(grpc.index_of("/v3lockpb.Lock/Lock").unwrap());
        lock.started.inc();
        let text = text(&grpc);
        let put = r#"grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1"#;
        for line in [
            format!("grpc_server_started_total{{{put}"),
            format!("grpc_server_handled_total{{grpc_code=\"OK\",{put}"),
            format!("grpc_server_handled_total{{grpc_code=\"Unknown\",{put}"),
            "grpc_server_started_total{grpc_method=\"Lock\",grpc_service=\"v3lockpb.Lock\",grpc_type=\"unary\"} 1"
                .to_owned(),
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing");
        }
        assert_eq!(grpc.index_of("/etcdserverpb.KV/Nope"), None);
    }
}
