//! The server and real etcd by turns on one disk: the same scenarios, several rounds, medians of all.

mod counters;
mod host;
mod report;
mod scenario;

pub use report::{Results, write_report};
pub use scenario::{Options, SCENARIOS, Scenario, run_all};
