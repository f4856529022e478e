//! The line `starting an etcd server`: what a start was configured with, under etcd's names.
//!
//! Scripts look for single fields of it. Fields of things that do not exist here are left out.

use super::settings::{Allowed, AutoCompaction, ClusterState, Config};
use crate::logging::{Logger, Value};
use crate::version;

impl Config {
    /// Logs the line. `member_initialized` says whether the data directory held a member already.
    pub fn log_start(&self, log: &Logger, member_initialized: bool) {
        let (mode, retention) = match self.auto_compaction {
            AutoCompaction::Off => ("periodic", "0s".to_owned()),
            AutoCompaction::Periodic(span) => {
                ("periodic", crate::duration::GoDuration::from(span).to_string())
            }
            AutoCompaction::Revision(count) => ("revision", count.to_string()),
        };
        let state = match self.initial_cluster_state {
            ClusterState::New => "new",
            ClusterState::Existing => "existing",
        };
        let quota = self.quota_backend_bytes.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
        let wal_dir = self.wal_dir.clone().unwrap_or_default();
        let gates: Vec<String> =
            self.feature_gates.iter().map(|(gate, on)| format!("{}={on}", gate.name)).collect();
        let fields: &[(&str, &dyn Value)] = &[
            ("etcd-version", &version::ETCD),
            ("kontiki-version", &version::KONTIKI),
            ("member-initialized", &member_initialized),
            ("name", &self.name),
            ("data-dir", &self.data_dir),
            ("wal-dir", &wal_dir),
            ("heartbeat-interval", &self.heartbeat),
            ("election-timeout", &self.election),
            ("snapshot-count", &self.snapshot_count),
            ("snapshot-catchup-entries", &self.snapshot_catchup_entries),
            ("initial-advertise-peer-urls", &self.initial_advertise_peer_urls),
            ("listen-peer-urls", &self.listen_peer_urls),
            ("advertise-client-urls", &self.advertise_client_urls),
            ("listen-client-urls", &self.listen_client_urls),
            ("listen-metrics-urls", &self.listen_metrics_urls),
            ("cors", &self.cors.names()),
            ("host-whitelist", &self.host_whitelist.names()),
            ("initial-cluster", &self.initial_cluster),
            ("initial-cluster-state", &state),
            ("initial-cluster-token", &self.initial_cluster_token),
            ("quota-backend-bytes", &quota),
            ("max-request-bytes", &self.max_request_bytes),
            ("max-concurrent-streams", &self.max_concurrent_streams.unwrap_or(u32::MAX)),
            ("feature-gates", &gates.join(",")),
            ("auto-compaction-mode", &mode),
            ("auto-compaction-retention", &retention),
            ("max-learners", &self.max_learners),
            ("unsafe-no-fsync", &self.unsafe_no_fsync),
            ("v2-deprecation", &"write-only"),
        ];
        log.info("starting an etcd server", fields);
    }
}

impl Allowed {
    /// The list as it was given.
    fn names(&self) -> Vec<String> {
        match self {
            Allowed::Any => vec!["*".to_owned()],
            Allowed::Only(names) => names.clone(),
        }
    }
}
