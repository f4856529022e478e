//! A load generator: one thread, raw HTTP/2 frames from a template, about a microsecond of client work a request.
//! Closed loop (a fixed number of streams always under way) or open loop (a fixed rate, latency counted from the
//! moment a request was due, so that a stalled server cannot hide its stalls).
//!
//! It speaks just enough HTTP/2 for unary gRPC calls and trusts the server to frame correctly; it is no judge.

mod connection;
mod latencies;
mod run;
mod workload;

pub use latencies::Latencies;
pub use run::{Pace, Plan, Summary, run};
pub use workload::{Method, Workload, key_bytes};
