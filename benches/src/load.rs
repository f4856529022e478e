//! A load generator: one thread, raw HTTP/2 frames from a template, about a microsecond of client work a request.
//! Closed loop (a fixed number of streams always under way) or open loop (a fixed rate, latency counted from the
//! moment a request was due, so that a stalled server cannot hide its stalls).
//!
//! Watchers, renewals of leases and reads of many keys are closed loops of their own over streams.
//!
//! It speaks just enough HTTP/2 for gRPC calls and trusts the server to frame correctly; it is no judge.

mod link;

// Unary calls from a template.
mod connection;
mod latencies;
mod run;
mod workload;

// Streams, and calls whose answers matter.
mod calls;
mod fields;
mod reads;
mod renewals;
mod watch;

pub use latencies::Latencies;
pub use reads::{ReadPlan, Reads, read};
pub use renewals::{RenewalPlan, Renewals};
pub use run::{Pace, Plan, Summary, run};
pub use watch::{Audience, WatchPlan, Watchers};
pub use workload::{Method, Workload, key_bytes};
