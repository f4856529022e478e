//! The server and real etcd by turns on one disk: the same scenarios, several rounds, medians of all.

mod clientv3;
mod counters;
mod host;
mod report;
mod restart;
mod scenario;

pub use report::{Results, write_report};
pub use restart::{RestartOptions, Restarts, run_restarts, write_restarts};
pub use scenario::{Options, SCENARIOS, Scenario, run_all};
