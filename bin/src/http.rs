//! What HTTP checks ask of the state core.

use std::rc::Rc;

use engine::error::ApiError;
use engine::request::AlarmKind;
use net::http::endpoints::{Probe, Versions};
use net::http::serve;

use crate::metrics::{self, Snapshot};
use crate::node::Node;
use crate::version;

/// The node as health checks and metrics see it.
pub struct Checks {
    /// The node.
    pub node: Rc<Node>,
}

impl Probe for Checks {
    fn alarms(&self) -> Vec<AlarmKind> {
        self.node.cores.borrow().replica.store().alarms().map(|(_, kind)| kind).collect()
    }

    fn has_leader(&self) -> bool {
        self.node.cores.borrow().replica.raft().leader().is_some()
    }

    fn is_learner(&self) -> bool {
        false
    }

    fn serializable_read(&self) -> Result<(), ApiError> {
        // Reads are served by the executor that runs this.
        Ok(())
    }

    fn versions(&self) -> Versions {
        Versions {
            server: version::ETCD.into(),
            cluster: Some(version::CLUSTER.into()),
            storage: Some(version::CLUSTER.into()),
        }
    }

    fn metrics(&self) -> String {
        self.node.update_gauges();
        // This one.
        self.node.metrics.scrapes_in_flight.set(1.0);
        let mut page: Snapshot = self.node.metrics.snapshot();
        page.merge(metrics::process());
        page.render()
    }

    fn on_checked(&self, kind: &'static str, name: &'static str, passed: bool) {
        let metrics = &self.node.metrics;
        metrics.healthcheck.row(&[name, kind]).set(f64::from(u8::from(passed)));
        let status = if passed { "success" } else { "error" };
        metrics.healthchecks.row(&[name, status, kind]).inc();
    }

    fn debug_vars(&self) -> String {
        let arguments: Vec<String> = std::env::args().collect();
        serde_json::json!({ "cmdline": arguments }).to_string()
    }
}

impl serve::Node for Checks {
    async fn linearizable_read(&self) -> Result<(), ApiError> {
        self.node.read_outside().await
    }

    fn on_answered(&self, path: &str, status: u16) {
        let metrics = &self.node.metrics;
        match (path, status) {
            ("/health", 200) => metrics.health_success.inc(),
            ("/health", 503) => metrics.health_failures.inc(),
            ("/metrics", status) => metrics.scrapes.row(&[&status.to_string()]).inc(),
            _ => {}
        }
    }
}
