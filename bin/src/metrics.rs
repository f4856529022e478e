//! Numbers for Prometheus, under etcd's names.
//!
//! Each core owns one [`Metrics`]: plain cells, counted without atomics. For a scrape every core gives a
//! [`Snapshot`] of its own, the snapshots are merged (equal series add up), and the sum is rendered in text
//! format 0.0.4. A gauge is set on the one core that owns the fact, so that the sum is the fact.
//!
//! **Absent rather than falsely zero**: a metric of etcd for which this server has no counterpart has no row
//! here (the bbolt, v2 store and proxy ones), a gauge appears when it is first set, and a labelled metric
//! when a row is used.

mod grpc;
mod process;
mod render;
mod value;

pub use grpc::{GRPC_CODES, Grpc};
pub use process::process;
pub use render::{CONTENT_TYPE, Family, Snapshot};
pub use value::{Buckets, Counter, Gauge, Histogram, Labelled};

use std::time::Duration;

use engine::lease::lessor::Lessor;
use engine::request::AlarmKind;
use net::api::route::Method;
use net::grpc::Code;

use crate::config::{Config, MetricsDetail};
use crate::version;
use render::Kind;

/// Latencies of the disk: 1 ms to 8 s, as in etcd.
const DISK: Buckets = Buckets { start: 0.001, factor: 2.0, count: 14 };
/// Times of a HashKV: 10 ms to 164 s, as in etcd.
const HASH: Buckets = Buckets { start: 0.01, factor: 2.0, count: 15 };
/// Times of a snapshot: 10 ms to 11 min, as in etcd.
const SNAPSHOT: Buckets = Buckets { start: 0.01, factor: 2.0, count: 17 };
/// Times of a defragmentation: 0.1 s to 7 min, as in etcd.
const DEFRAGMENTATION: Buckets = Buckets { start: 0.1, factor: 2.0, count: 13 };
/// Milliseconds of a compaction: 0.1 s to 14 min, as in etcd.
const COMPACTION: Buckets = Buckets { start: 100.0, factor: 2.0, count: 14 };
/// Seconds a lease lives, as in etcd.
const LEASE_TTL: Buckets = Buckets { start: 1.0, factor: 2.0, count: 24 };

/// One row a metric: field, what it is, its name and its help.
macro_rules! metrics {
    ($($field:ident: $kind:ident $(($($arg:expr),*))?, $name:literal, $help:literal;)*) => {
        /// What one core counts.
        #[derive(Debug)]
        pub struct Metrics {
            $(#[doc = concat!("`", $name, "`: ", $help)] pub $field: metrics!(@type $kind),)*
            /// Calls by method.
            pub grpc: Grpc,
            /// What does not change, on the one core that tells it.
            about: Snapshot,
        }

        impl Default for Metrics {
            fn default() -> Metrics {
                Metrics { $($field: metrics!(@new $kind $(($($arg),*))?),)* grpc: Grpc::default(), about: Snapshot::default() }
            }
        }

        /// Names of all rows.
        #[cfg(test)]
        const NAMES: &[&str] = &[$($name),*];

        impl Metrics {
            /// What this core has counted so far.
            pub fn snapshot(&self) -> Snapshot {
                let mut snapshot = self.about.clone();
                $(metrics!(@family $kind self.$field, snapshot, $name, $help);)*
                self.grpc.snapshot(&mut snapshot);
                snapshot
            }
        }
    };
    (@type Counter) => { Counter };
    (@type Gauge) => { Gauge };
    (@type Histogram) => { Histogram };
    (@type Counters) => { Labelled<Counter> };
    (@type Gauges) => { Labelled<Gauge> };
    (@new Counter) => { Counter::default() };
    (@new Gauge) => { Gauge::default() };
    (@new Histogram($buckets:expr)) => { Histogram::new($buckets) };
    (@new Counters($labels:expr)) => { Labelled::new($labels, Counter::default) };
    (@new Gauges($labels:expr)) => { Labelled::new($labels, Gauge::default) };
    (@family Counter $value:expr, $to:ident, $name:literal, $help:literal) => {
        $value.sample(&mut $to.family($name, Kind::Counter, $help), "")
    };
    (@family Gauge $value:expr, $to:ident, $name:literal, $help:literal) => {
        $value.sample(&mut $to.family($name, Kind::Gauge, $help), "")
    };
    (@family Histogram $value:expr, $to:ident, $name:literal, $help:literal) => {
        $value.sample(&mut $to.family($name, Kind::Histogram, $help), "")
    };
    (@family Counters $value:expr, $to:ident, $name:literal, $help:literal) => {
        $value.each(|labels, row| row.sample(&mut $to.family($name, Kind::Counter, $help), labels))
    };
    (@family Gauges $value:expr, $to:ident, $name:literal, $help:literal) => {
        $value.each(|labels, row| row.sample(&mut $to.family($name, Kind::Gauge, $help), labels))
    };
}

/// Statuses that Prometheus' Go client lists from the start.
const SCRAPE_CODES: [&str; 3] = ["200", "500", "503"];

impl Metrics {
    /// Nothing counted; `about` is what [`about`] gives, on one core.
    pub fn new(detail: MetricsDetail, about: Snapshot) -> Metrics {
        let metrics = Metrics {
            grpc: match detail {
                MetricsDetail::Basic => Grpc::default(),
                MetricsDetail::Extensive => Grpc::extensive(),
            },
            about,
            ..Metrics::default()
        };
        SCRAPE_CODES.iter().for_each(|code| drop(metrics.scrapes.row(&[code])));
        metrics
    }

    /// A call is over, and took so long from its message to the end of its answer. `row` is its row of [`Grpc`].
    pub fn on_ended(&self, row: usize, route: Method, code: Code, took: Duration) {
        if let Some(handling) = &self.grpc.at(row).handling {
            handling.observe_duration(took);
        }
        let whole = match route {
            Method::HashKV => &self.hash_rev_duration,
            Method::Defragment => &self.defragmentation,
            Method::Snapshot => &self.backend_snapshot,
            _ => return,
        };
        if code == Code::Ok {
            whole.observe_duration(took);
        }
    }

    /// Shows the alarms that are raised, and that the others are not.
    pub fn show_alarms(&self, raised: impl Iterator<Item = (u64, AlarmKind)>) {
        self.alarms.each(|_, row| row.set(0.0));
        for (member, kind) in raised {
            let kind = match kind {
                AlarmKind::NoSpace => "NOSPACE",
                AlarmKind::Corrupt => "CORRUPT",
                AlarmKind::None => continue,
            };
            self.alarms.row(&[kind, &format!("{member:x}")]).set(1.0);
        }
    }

    /// Takes over what the lessor has counted.
    pub fn count_leases(&self, lessor: &mut Lessor) {
        let stats = lessor.stats();
        let counts = [
            (&self.leases_granted, stats.granted),
            (&self.leases_revoked, stats.revoked),
            (&self.leases_renewed, stats.renewed),
            (&self.leases_expired, stats.expired),
        ];
        counts.into_iter().for_each(|(counter, count)| counter.add(count - counter.count()));
        lessor.take_ttls().into_iter().for_each(|ttl| self.lease_ttl.observe(ttl as f64));
    }
}

metrics! {
    // Consensus.
    has_leader: Gauge, "etcd_server_has_leader", "1 if this member knows a leader.";
    is_leader: Gauge, "etcd_server_is_leader", "1 if this member leads.";
    is_learner: Gauge, "etcd_server_is_learner", "1 if this member does not vote.";
    leader_changes: Counter, "etcd_server_leader_changes_seen_total", "Changes of the leader seen.";
    proposals_committed: Gauge, "etcd_server_proposals_committed_total",
        "Index of the newest committed entry.";
    proposals_applied: Gauge, "etcd_server_proposals_applied_total", "Index of the newest applied entry.";
    proposals_pending: Gauge, "etcd_server_proposals_pending", "Proposals that wait to be committed.";
    proposals_failed: Counter, "etcd_server_proposals_failed_total", "Proposals that failed.";
    slow_read_indexes: Counter, "etcd_server_slow_read_indexes_total", "Read indexes that took too long.";
    read_indexes_failed: Counter, "etcd_server_read_indexes_failed_total", "Read indexes that failed.";
    heartbeat_send_failures: Counter, "etcd_server_heartbeat_send_failures_total",
        "Heartbeats sent too late.";

    // Requests.
    client_requests: Counters(&["client_api_version", "type"]), "etcd_server_client_requests_total",
        "Requests by the client's API version and type.";
    client_received_bytes: Counter, "etcd_network_client_grpc_received_bytes_total",
        "Bytes received from clients.";
    client_sent_bytes: Counter, "etcd_network_client_grpc_sent_bytes_total", "Bytes sent to clients.";
    slow_apply: Counter, "etcd_server_slow_apply_total", "Requests that took too long to apply.";
    health_success: Counter, "etcd_server_health_success", "Health checks that succeeded.";
    health_failures: Counter, "etcd_server_health_failures", "Health checks that failed.";
    healthchecks: Counters(&["name", "status", "type"]), "etcd_server_healthchecks_total",
        "Live and ready checks.";
    healthcheck: Gauges(&["name", "type"]), "etcd_server_healthcheck",
        "1 if the newest such check succeeded.";

    // Disk.
    wal_fsync: Histogram(DISK), "etcd_disk_wal_fsync_duration_seconds",
        "Time of what makes a log block durable: its write, or the sync behind it.";
    wal_write: Histogram(DISK), "etcd_disk_wal_write_duration_seconds", "Time to write a log block.";
    wal_write_bytes: Gauge, "etcd_disk_wal_write_bytes_total", "Bytes written to the log.";
    backend_commit: Histogram(DISK), "etcd_disk_backend_commit_duration_seconds", "Time of a checkpoint.";
    backend_snapshot: Histogram(SNAPSHOT), "etcd_disk_backend_snapshot_duration_seconds",
        "Time to send a snapshot to a client.";
    defragmentation: Histogram(DEFRAGMENTATION), "etcd_disk_backend_defrag_duration_seconds",
        "Time of a Defragment call, which waits until reclaim has given everything back.";
    defragmentations: Gauge, "etcd_disk_defrag_inflight", "Defragment calls that wait for reclaim.";
    quota_backend_bytes: Gauge, "etcd_server_quota_backend_bytes",
        "Bytes of data after which writes are refused.";
    db_total_size: Gauge, "etcd_mvcc_db_total_size_in_bytes",
        "Bytes of data, compacted and not yet reclaimed ones included.";
    db_in_use_size: Gauge, "etcd_mvcc_db_total_size_in_use_in_bytes",
        "Bytes of data without what compaction freed.";

    // Data.
    ranges: Counter, "etcd_mvcc_range_total", "Ranges.";
    puts: Counter, "etcd_mvcc_put_total", "Puts.";
    deletes: Counter, "etcd_mvcc_delete_total", "Deletes.";
    txns: Counter, "etcd_mvcc_txn_total", "Transactions.";
    hash_rev_duration: Histogram(HASH), "etcd_mvcc_hash_rev_duration_seconds",
         "Time to hash the data at a revision.";
    keys: Gauge, "etcd_debugging_mvcc_keys_total", "Keys.";
    current_revision: Gauge, "etcd_debugging_mvcc_current_revision", "Newest revision.";
    compact_revision: Gauge, "etcd_debugging_mvcc_compact_revision",
        "Revision of the newest compaction, -1 before any.";
    put_bytes: Gauge, "etcd_debugging_mvcc_total_put_size_in_bytes", "Bytes of all keys and values put.";
    compacted_keys: Counter, "etcd_debugging_mvcc_db_compaction_keys_total", "Key versions compaction freed.";
    compaction_last: Gauge, "etcd_debugging_mvcc_db_compaction_last", "Unix time of the newest compaction.";
    compaction_duration: Histogram(COMPACTION), "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
        "Milliseconds from a compaction to the end of its reclaim.";

    // Watches.
    watch_streams: Gauge, "etcd_debugging_mvcc_watch_stream_total", "Watch streams.";
    watchers: Gauge, "etcd_debugging_mvcc_watcher_total", "Watchers.";
    slow_watchers: Gauge, "etcd_debugging_mvcc_slow_watcher_total", "Watchers that catch up from history.";
    events: Counter, "etcd_debugging_mvcc_events_total", "Events sent.";
    pending_events: Gauge, "etcd_debugging_mvcc_pending_events_total", "Events that wait to be sent.";

    // Leases, alarms.
    leases_granted: Counter, "etcd_debugging_lease_granted_total", "Leases granted.";
    leases_revoked: Counter, "etcd_debugging_lease_revoked_total", "Leases revoked.";
    leases_renewed: Counter, "etcd_debugging_lease_renewed_total", "Leases renewed.";
    leases_expired: Counter, "etcd_debugging_server_lease_expired_total", "Leases expired.";
    lease_ttl: Histogram(LEASE_TTL), "etcd_debugging_lease_ttl_total", "Seconds to live of granted leases.";
    alarms: Gauges(&["alarm_type", "server_id"]), "etcd_debugging_server_alarms",
        "1 while the alarm is raised.";

    // Scrapes.
    scrapes: Counters(&["code"]), "promhttp_metric_handler_requests_total", "Scrapes, by HTTP status.";
    scrapes_in_flight: Gauge, "promhttp_metric_handler_requests_in_flight", "Scrapes being served.";
}

/// What does not change while the process runs: who serves, in which version, with which features.
pub fn about(config: &Config, member_id: u64) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let mut one = |name, help, labels: String, value: f64| {
        snapshot.family(name, Kind::Gauge, help).push("", labels, value);
    };
    one("etcd_server_id", "1 for this member's id.", format!("server_id=\"{member_id:x}\""), 1.0);
    let help = "1 for the version of etcd this server stands in for.";
    one("etcd_server_version", help, format!("server_version=\"{}\"", version::ETCD), 1.0);
    let cluster = version::CLUSTER.rsplit_once('.').map_or(version::CLUSTER, |(minor, _)| minor);
    one(
        "etcd_cluster_version",
        "1 for the cluster's version.",
        format!("cluster_version=\"{cluster}\""),
        1.0,
    );
    one("kontiki_build_info", "1 for our own version.", format!("version=\"{}\"", version::KONTIKI), 1.0);
    for (gate, on) in &config.feature_gates {
        let labels = format!("name=\"{}\",stage=\"{}\"", gate.name, gate.stage.name());
        one("etcd_server_feature_enabled", "1 if the feature gate is on.", labels, f64::from(u8::from(*on)));
    }
    snapshot
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the official alerts and dashboard read must be there from the start.
    #[test]
    fn the_mixin_finds_its_metrics() {
        let metrics = Metrics::default();
        for gauge in [
            &metrics.has_leader,
            &metrics.proposals_committed,
            &metrics.proposals_applied,
            &metrics.proposals_pending,
            &metrics.db_total_size,
            &metrics.db_in_use_size,
            &metrics.quota_backend_bytes,
        ] {
            gauge.set(1.0);
        }
        let text = metrics.snapshot().render();
        for line in [
            "# TYPE etcd_server_has_leader gauge",
            "etcd_server_has_leader 1",
            "# TYPE etcd_server_leader_changes_seen_total counter",
            "etcd_server_leader_changes_seen_total 0",
            "etcd_server_proposals_failed_total 0",
            "# TYPE etcd_server_proposals_committed_total gauge",
            "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.001\"} 0",
            "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"8.192\"} 0",
            "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"+Inf\"} 0",
            "etcd_disk_wal_fsync_duration_seconds_count 0",
            "etcd_disk_backend_commit_duration_seconds_sum 0",
            "etcd_mvcc_db_total_size_in_bytes 1",
            "etcd_mvcc_db_total_size_in_use_in_bytes 1",
            "etcd_server_quota_backend_bytes 1",
            "etcd_network_client_grpc_sent_bytes_total 0",
            r#"grpc_server_started_total{grpc_method="Watch",grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream"} 0"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing");
        }
    }

    #[test]
    fn gauges_and_labels_appear_when_used() {
        let metrics = Metrics::default();
        let before = metrics.snapshot().render();
        assert!(!before.contains("etcd_server_is_leader") && !before.contains("etcd_server_client_requests"));
        metrics.is_leader.set(0.0);
        metrics.client_requests.row(&["3.6", "unary"]).inc();
        let after = metrics.snapshot().render();
        assert!(after.contains("\netcd_server_is_leader 0\n"));
        let row = r#"etcd_server_client_requests_total{client_api_version="3.6",type="unary"} 1"#;
        assert!(after.lines().any(|line| line == row), "{after}");
    }

    /// Name, type and upper bounds of every metric of etcd 3.6.16, but for those of the Go runtime.
    const ETCD: &str = include_str!("metrics/etcd_3_6_16.tsv");
    const DOCS: &str = include_str!("../../docs/metrics.md");

    /// The metrics of etcd that are here are what they are there; `docs/metrics.md` says why the others are not.
    #[test]
    fn what_etcd_has_is_here_or_its_absence_explained() {
        let (_, absent) = DOCS.split_once("\n## Absent\n").expect("docs/metrics.md has that section");
        let (absent, _) = absent.split_once("\n## ").expect("and others behind it");
        // Of each row the names; the reasons may name others.
        let absent: Vec<&str> =
            absent.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next()).collect();
        let metrics = Metrics::new(MetricsDetail::Extensive, Snapshot::default());
        let mut page = metrics.snapshot();
        page.merge(process());
        let text = page.render();
        for row in ETCD.lines() {
            let [name, kind, bounds] = *row.split('\t').collect::<Vec<_>>() else { panic!("{row}") };
            let name_of = format!("`{name}`");
            let explained = absent.iter().any(|names| names.contains(&name_of));
            let here = NAMES.contains(&name) || text.contains(&format!("# TYPE {name} "));
            let said = ABOUT.contains(&name);
            assert!((here || said) != explained, "{name}: here {}, explained {explained}", here || said);
            if let Some(shown) = text.lines().find_map(|line| line.strip_prefix(&format!("# TYPE {name} "))) {
                assert_eq!(shown, kind, "{name}");
            }
            if here && kind == "histogram" {
                let first = format!("{name}_sum");
                let of_one = text.lines().take_while(|line| !line.starts_with(&first));
                let buckets = of_one.filter_map(|line| line.strip_prefix(&format!("{name}_bucket{{")));
                let ours = buckets.filter_map(|line| line.split("le=\"").nth(1)?.split('"').next());
                assert_eq!(ours.collect::<Vec<_>>().join(" "), bounds, "{name}");
            }
        }
    }

    /// What [`about`] gives.
    const ABOUT: [&str; 4] =
        ["etcd_server_id", "etcd_server_version", "etcd_server_feature_enabled", "etcd_cluster_version"];

    #[test]
    fn calls_that_take_their_time_have_histograms_of_their_own() {
        let metrics = Metrics::new(MetricsDetail::Extensive, Snapshot::default());
        let second = Duration::from_secs(1);
        for (path, method, code) in [
            ("/etcdserverpb.Maintenance/HashKV", Method::HashKV, Code::Ok),
            ("/etcdserverpb.Maintenance/Defragment", Method::Defragment, Code::Ok),
            ("/etcdserverpb.Maintenance/Snapshot", Method::Snapshot, Code::Canceled),
        ] {
            metrics.on_ended(metrics.grpc.index_of(path).unwrap(), method, code, second);
        }
        metrics.show_alarms([(0x1f, AlarmKind::NoSpace)].into_iter());
        let text = metrics.snapshot().render();
        for line in [
            "etcd_mvcc_hash_rev_duration_seconds_sum 1",
            "etcd_disk_backend_defrag_duration_seconds_count 1",
            "etcd_disk_backend_snapshot_duration_seconds_count 0",
            "etcd_debugging_server_alarms{alarm_type=\"NOSPACE\",server_id=\"1f\"} 1",
            "grpc_server_handling_seconds_sum{grpc_method=\"Snapshot\",grpc_service=\"etcdserverpb.Maintenance\",grpc_type=\"server_stream\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing");
        }
        metrics.show_alarms([].into_iter());
        assert!(metrics.snapshot().render().contains("server_id=\"1f\"} 0\n"));
    }

    #[test]
    fn the_numbers_of_cores_add_up() {
        let [one, two] = [(); 2].map(|()| Metrics::default());
        one.puts.add(3);
        two.puts.inc();
        one.keys.set(7.0);
        one.wal_fsync.observe(0.5);
        two.wal_fsync.observe(0.5);
        let mut sum = one.snapshot();
        sum.merge(two.snapshot());
        let text = sum.render();
        for line in [
            "etcd_mvcc_put_total 4",
            "etcd_debugging_mvcc_keys_total 7",
            "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.256\"} 0",
            "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.512\"} 2",
            "etcd_disk_wal_fsync_duration_seconds_sum 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing");
        }
    }
}
